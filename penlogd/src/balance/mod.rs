//! The balance: what came in, what went out, and what became of the rest. It must add up. `json` says it to
//! programs.

mod json;

use std::fmt;

use pen_daemon::logfile;
use pen_records::attribution;
use pen_records::histogram::Histogram;
use pen_records::mapping::origins;
use pen_records::rewrite::OutcomeCounts;
use pen_records::shipment;

use crate::clocks::ClockOffset;
use crate::sources::ServerKey;

/// What came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// All datagrams.
    pub datagrams: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Datagrams that were classic mappings.
    pub mapping_datagrams: u64,
    /// Datagrams of our balancers' records.
    pub packets: u64,
    /// Mappings, however they came.
    pub mappings: u64,
    /// Records of connections and responses beside them.
    pub moments: u64,
    /// Mappings without a request, or of one server too many.
    pub mappings_unused: u64,
    /// Datagrams of lines as they are.
    pub line_datagrams: u64,
    /// Datagrams of our shippers' lines.
    pub shipments: u64,
    /// Datagrams of shippers that ask for us.
    pub questions: u64,
    /// Datagrams with nothing in them.
    pub empty: u64,
    /// Datagrams that could not be read.
    pub junk: u64,
    /// Datagrams of senders that may not send them.
    pub refused: u64,
    /// Access lines, however they came.
    pub lines: u64,
    /// Lines among these that were not understood, and go out as they came.
    pub not_understood: u64,
}

/// How long lines waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    lines: u64,
    micros: u64,
    longest: u64,
    /// The same, spread.
    pub waits: Histogram,
    /// How long after its record a line came, and where it is known after its response had ended.
    pub delays: Histogram,
    /// Times that lines were decided early for want of memory.
    pub hurried: u64,
}

impl Queue {
    /// A line waited that long.
    pub fn add(&mut self, micros: i64) {
        self.waits.add(micros);
        let micros = u64::try_from(micros).unwrap_or(0);
        self.lines += 1;
        self.micros = self.micros.saturating_add(micros);
        self.longest = self.longest.max(micros);
    }

    /// Microseconds a line waited on average.
    #[must_use]
    pub const fn mean(&self) -> u64 {
        match self.micros.checked_div(self.lines) {
            Some(mean) => mean,
            None => 0,
        }
    }

    /// Microseconds that the most patient line waited.
    #[must_use]
    pub const fn longest(&self) -> u64 {
        self.longest
    }
}

/// Lines of one server that were decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerBalance {
    /// Which.
    pub key: ServerKey,
    /// The formats found.
    pub format: String,
    /// How sure their clients are.
    pub counts: OutcomeCounts,
    /// Microseconds from a record to its line mostly, where that is known.
    pub delay: Option<i64>,
    /// Its clock against the balancer's; against ours while no balancer of ours is heard.
    pub clock: Option<ClockOffset>,
}

impl fmt::Display for ServerBalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, format, counts, delay, clock } = self;
        let counts = counts.by_certainty().map(|(name, count)| format!("{count} {name}"));
        write!(f, "server {key}: {format}: {}", counts.join(", "))?;
        if let Some(delay) = delay {
            let (sign, us) = (if *delay < 0 { "-" } else { "" }, delay.unsigned_abs());
            write!(f, ", mostly {sign}{}.{:03} ms after their records", us / 1_000, us % 1_000)?;
        }
        clock.map_or(Ok(()), |clock| write!(f, "; {clock}"))
    }
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// What came in.
    pub received: Received,
    /// What the join did.
    pub join: attribution::JoinCounts,
    /// What the shippers' numbers say.
    pub shipments: shipment::ShipmentCounts,
    /// What the balancers' numbers say.
    pub packets: origins::PacketCounts,
    /// How long lines waited.
    pub queue: Queue,
    /// Bytes of the lines that wait.
    pub held_bytes: u64,
    /// Of each server that sent lines.
    pub servers: Vec<ServerBalance>,
    /// What became of the lines in the log; filled in by the loop.
    pub log: logfile::LogFileCounts,
    /// Datagrams that the kernel dropped because we were too slow; filled in by the loop.
    pub kernel_drops: u64,
}

impl Balance {
    /// The equations, each with what its two sides are.
    #[must_use]
    pub fn equations(&self) -> [Equation; 4] {
        let (received, join, log) = (&self.received, &self.join, &self.log);
        [
            Equation {
                name: "datagrams",
                left: ("received", received.datagrams),
                right: vec![
                    ("mappings", received.mapping_datagrams),
                    ("of lines", received.line_datagrams),
                    ("shipments", received.shipments),
                    ("packets", received.packets),
                    ("questions", received.questions),
                    ("empty", received.empty),
                    ("junk", received.junk),
                    ("refused", received.refused),
                ],
            },
            Equation {
                name: "mappings",
                left: ("received", received.mappings),
                right: vec![
                    ("used", join.used),
                    ("outstanding", join.outstanding),
                    ("expired", join.expired),
                    ("evicted", join.evicted),
                    ("without use", received.mappings_unused),
                ],
            },
            Equation {
                name: "lines",
                left: ("received", received.lines),
                right: vec![
                    ("exact", join.exact),
                    ("certain", join.certain),
                    ("likely", join.likely),
                    ("unmatched", join.unmatched),
                    ("held", join.held),
                ],
            },
            Equation {
                name: "log",
                left: ("lines received", received.lines),
                right: vec![
                    ("written", log.written),
                    ("waiting to be written", log.waiting),
                    ("dropped", log.dropped),
                    ("held", join.held),
                ],
            },
        ]
    }

    /// Whether all equations hold.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.equations().iter().all(Equation::holds)
    }
}

/// `left = right + right + …`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equation {
    /// What it is about.
    pub name: &'static str,
    /// The whole.
    pub left: (&'static str, u64),
    /// Its parts.
    pub right: Vec<(&'static str, u64)>,
}

impl Equation {
    /// Whether the parts make the whole.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.left.1 == self.right.iter().map(|(_, count)| count).sum::<u64>()
    }
}

impl fmt::Display for Equation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {} =", self.name, self.left.1, self.left.0)?;
        for (index, (name, count)) in self.right.iter().enumerate() {
            write!(f, "{} {count} {name}", if index == 0 { "" } else { " +" })?;
        }
        f.write_str(if self.holds() { "" } else { " (DOES NOT ADD UP)" })
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for equation in self.equations() {
            writeln!(f, "balance: {equation}")?;
        }
        let (shipments, received) = (&self.shipments, &self.received);
        writeln!(
            f,
            "balance: lost on the way: {} datagrams dropped by the kernel, {} shipments with {} lines \
             missing by their numbers, {} lines dropped and {} cut by shippers",
            self.kernel_drops,
            shipments.lost_shipments,
            shipments.lost_lines,
            shipments.dropped,
            shipments.cut,
        )?;
        let packets = &self.packets;
        if packets.origins > 0 {
            writeln!(
                f,
                "balance: records of {} balancers: {} came, {} of them of connections and responses; {} \
                 missing by their numbers, {} of these dropped by balancers and {} lost on the way; {} \
                 packets came twice, {} late",
                packets.origins,
                packets.records,
                received.moments,
                packets.lost,
                packets.dropped,
                packets.lost - packets.dropped,
                packets.duplicates,
                packets.late,
            )?;
        }
        writeln!(
            f,
            "balance: {} lines not understood and passed through, {} shipments came twice, {} too \
             late, {} lines decided early",
            received.not_understood,
            shipments.duplicates,
            shipments.late,
            self.join.decided_early + self.queue.hurried,
        )?;
        for server in &self.servers {
            writeln!(f, "balance: {server}")?;
        }
        writeln!(f, "balance: lines came after their records by: {}", self.queue.delays)?;
        writeln!(f, "balance: lines waited: {}", self.queue.waits)?;
        let (mean, longest) = (self.queue.mean(), self.queue.longest());
        write!(
            f,
            "balance: lines waited {}.{:03} ms on average, {}.{:03} ms at most; {} bytes wait now",
            mean / 1_000,
            mean % 1_000,
            longest / 1_000,
            longest % 1_000,
            self.held_bytes,
        )
    }
}
