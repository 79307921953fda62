//! The report: what came in, what was written, and what became of the rest, as equations that must hold. `json` is the same for
//! programs.

mod json;

use std::fmt;

use pen_daemon::logfile;
use pen_records::attribution;
use pen_records::histogram::Histogram;
use pen_records::mapping::origins;
use pen_records::rewrite::OutcomeCounts;
use pen_records::server_alias::ServerKey;
use pen_records::shipment;

use crate::clocks::LiveClockOffset;
pub use crate::streams::StreamCounts;

/// Counters of received data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceivedCounts {
    /// All datagrams.
    pub datagrams: u64,
    /// Bytes of all datagrams.
    pub bytes: u64,
    /// Datagrams with classic mappings.
    pub mapping_datagrams: u64,
    /// Packets of pen.
    pub packets: u64,
    /// Mappings, in any encoding.
    pub mappings: u64,
    /// Records of connections and responses.
    pub events: u64,
    /// Mappings without a request, or for a server beyond the limit.
    pub mappings_unused: u64,
    /// Datagrams of plain lines.
    pub line_datagrams: u64,
    /// Shipments of penlog.
    pub shipments: u64,
    /// Questions of shippers for a collector.
    pub questions: u64,
    /// Empty datagrams.
    pub empty: u64,
    /// Malformed datagrams.
    pub junk: u64,
    /// Datagrams from senders outside of `--from`.
    pub refused: u64,
    /// Access lines, in any encoding.
    pub lines: u64,
    /// Access lines that do not parse, and are written unchanged.
    pub not_understood: u64,
    /// Access lines left out because a server logged the same request: lines of a balancer.
    pub repeated: u64,
    /// Access lines that were read again from the journal, and that an earlier run has written.
    pub written_before: u64,
}

/// Waiting times of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitTimes {
    lines: u64,
    micros: u64,
    longest: u64,
    /// Distribution of the waiting times, in microseconds.
    pub waits: Histogram,
    /// Distribution of the delays of lines after their record, or after the end of the response where that is known, in microseconds.
    pub delays: Histogram,
    /// Number of lines decided early because of the memory limit.
    pub decided_early: u64,
}

impl WaitTimes {
    /// Adds the waiting time of a line.
    pub fn add(&mut self, micros: i64) {
        self.waits.add(micros);
        let micros = u64::try_from(micros).unwrap_or(0);
        self.lines += 1;
        self.micros = self.micros.saturating_add(micros);
        self.longest = self.longest.max(micros);
    }

    /// Returns the average waiting time in microseconds.
    #[must_use]
    pub const fn mean(&self) -> u64 {
        match self.micros.checked_div(self.lines) {
            Some(mean) => mean,
            None => 0,
        }
    }

    /// Returns the longest waiting time in microseconds.
    #[must_use]
    pub const fn longest(&self) -> u64 {
        self.longest
    }
}

/// Report on one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerReport {
    /// The server.
    pub key: ServerKey,
    /// Names of the recognized formats.
    pub format: String,
    /// Number of decided lines by certainty.
    pub counts: OutcomeCounts,
    /// Usual delay of lines after their records, in microseconds; `None` if unknown.
    pub delay: Option<i64>,
    /// Offset of the server's clock against the balancer's, or against the collector's without a pen of this package.
    pub clock: Option<LiveClockOffset>,
}

impl fmt::Display for ServerReport {
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

/// The whole report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectorReport {
    /// Counters of received data.
    pub received: ReceivedCounts,
    /// Counters of the join.
    pub join: attribution::JoinCounts,
    /// Losses according to the numbers in shipments.
    pub shipments: shipment::ShipmentCounts,
    /// Losses according to the numbers in packets.
    pub packets: origins::PacketCounts,
    /// Waiting times of lines.
    pub queue: WaitTimes,
    /// Bytes of held lines.
    pub held_bytes: u64,
    /// Reports on the servers that sent lines.
    pub servers: Vec<ServerReport>,
    /// Counters of the log file, added by the loop.
    pub log: logfile::LogFileCounts,
    /// Datagrams dropped by the kernel because the receive buffer was full, added by the loop.
    pub kernel_drops: u64,
    /// Counters of connections, added by the loop.
    pub streams: StreamCounts,
    /// Datagrams taken without a key although there are keys, added by the loop.
    pub unauthenticated: u64,
}

impl CollectorReport {
    /// Returns the equations with the terms of both sides.
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
                    ("repeated by a balancer", received.repeated),
                    ("written by an earlier run", received.written_before),
                    ("held", join.held),
                ],
            },
        ]
    }

    /// Returns whether every equation holds.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.equations().iter().all(Equation::holds)
    }
}

/// An equation `left = right + right + …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equation {
    /// Name of the equation.
    pub name: &'static str,
    /// Name and value of the left side.
    pub left: (&'static str, u64),
    /// Names and values of the terms on the right side.
    pub right: Vec<(&'static str, u64)>,
}

impl Equation {
    /// Returns whether both sides are equal.
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

impl fmt::Display for CollectorReport {
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
                received.events,
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
             late, {} lines of followed files came from an earlier run of penlog already, {} lines \
             decided early",
            received.not_understood,
            shipments.duplicates,
            shipments.late,
            shipments.known_lines,
            self.join.decided_early + self.queue.decided_early,
        )?;
        let too_far = shipments.too_far + packets.too_far;
        if too_far > 0 {
            writeln!(
                f,
                "balance: {too_far} datagrams ignored: their numbers were more than a million ahead of all others \
                 of their sender, so they are damaged or forged"
            )?;
        }
        if self.streams.accepted > 0 {
            writeln!(f, "balance: {}", self.streams)?;
        }
        if self.unauthenticated > 0 {
            writeln!(
                f,
                "balance: {} datagrams taken without a key (--allow-unauthenticated): anyone there could have sent them, \
                 so {} lines with a client are at most likely",
                self.unauthenticated, self.join.unauthenticated
            )?;
        }
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
