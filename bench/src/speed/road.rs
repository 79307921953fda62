//! What a line costs on its way from `penlog` to the merged log: by each road, with a journal and without.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::cost::{children_cpu, middle};
use super::{SpeedArgs, ours};
use crate::stage::{
    Program, TempFolder, bytes_of, free_port, keygen, start_penlogd, wait_while_growing,
};
use crate::{ActionError, Doing};

/// Lines a second of a server that is not idle.
const STEADY: u64 = 20_000;
/// How long such a server writes.
const SECONDS: u64 = 10;
/// Pause between two writes of a steady server.
const TICK: Duration = Duration::from_millis(10);
/// A log that has not grown for this long will not.
const QUIET: Duration = Duration::from_secs(10);

/// How lines get to the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
    Tls,
}

/// A road and what is written down on it.
#[derive(Clone, Copy, Debug)]
struct Road {
    transport: Transport,
    /// What `--durable` says; without a journal `None`.
    durable: Option<&'static str>,
    /// Whether `penlog` reads a pipe into a spool, in place of a file.
    has_spool: bool,
}

impl Road {
    /// The first is what the others are compared with.
    const ALL: [Self; 9] = [
        Self::new(Transport::Udp, None),
        Self::new(Transport::Tcp, None),
        Self::new(Transport::Tls, None),
        Self::new(Transport::Udp, Some("process")),
        Self::new(Transport::Udp, Some("disk")),
        Self::new(Transport::Tcp, Some("process")),
        Self::new(Transport::Tcp, Some("disk")),
        Self::new(Transport::Tls, Some("disk")),
        Self { has_spool: true, ..Self::new(Transport::Tcp, None) },
    ];

    const fn new(transport: Transport, durable: Option<&'static str>) -> Self {
        Self { transport, durable, has_spool: false }
    }
}

impl fmt::Display for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.transport {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS with keys",
        })?;
        if let Some(durable) = self.durable {
            write!(f, ", journal ({durable})")?;
        }
        f.write_str(if self.has_spool { ", pipe with spool" } else { "" })
    }
}

/// What a run took.
#[derive(Clone, Copy, Debug, Default)]
struct RoadCost {
    penlog: Duration,
    penlogd: Duration,
    wall: Duration,
}

/// Measures a backlog, which goes as fast as it can, and a steady server.
pub(super) fn run(args: &SpeedArgs) -> Result<(), ActionError> {
    compare(args, None)?;
    compare(args, Some(STEADY))
}

/// All roads in turn, as often as was asked for.
fn compare(args: &SpeedArgs, rate: Option<u64>) -> Result<(), ActionError> {
    let (rounds, lines) = (args.rounds.clamp(1, 9), rate.map_or(args.lines, |rate| rate * SECONDS));
    let mut runs = vec![Vec::new(); Road::ALL.len()];
    for _ in 0..rounds {
        for (road, runs) in Road::ALL.iter().zip(&mut runs) {
            runs.push(measure(*road, rate, lines)?);
        }
    }
    let what = rate.map_or_else(|| "a backlog".to_owned(), |rate| format!("{rate} lines/s"));
    println!("\nroad: {what}, {lines} lines; medians of {rounds}");
    println!(
        "  {:<28} {:>16} {:>16} {:>9} {:>9} {:>10}",
        "", "penlog us/line", "penlogd us/line", "more", "more", "lines/s"
    );
    let each = |runs: &[RoadCost], of: fn(&RoadCost) -> Duration| {
        middle(runs.iter().map(of)).as_secs_f64() * 1e6 / lines as f64
    };
    let costs: Vec<_> = (runs.iter())
        .map(|runs| (each(runs, |run| run.penlog), each(runs, |run| run.penlogd)))
        .collect();
    let first = costs.first().copied().unwrap_or_default();
    for ((road, runs), cost) in Road::ALL.iter().zip(&runs).zip(&costs) {
        let wall = middle(runs.iter().map(|run| run.wall)).as_secs_f64();
        println!(
            "  {:<28} {:>16.2} {:>16.2} {:>+9.2} {:>+9.2} {:>10.0}",
            road.to_string(),
            cost.0,
            cost.1,
            cost.0 - first.0,
            cost.1 - first.1,
            lines as f64 / wall
        );
    }
    Ok(())
}

/// Lets `lines` lines go along a road. Fails if not all arrive.
fn measure(road: Road, rate: Option<u64>, lines: u64) -> Result<RoadCost, ActionError> {
    let folder = TempFolder::new();
    let addr = free_port(Ipv4Addr::LOCALHOST);
    let (log, merged) = (folder.join("access.log"), folder.join("merged.log"));
    let mut writer = BufWriter::new(File::create(&log).doing("make a log")?);
    if rate.is_none() && !road.has_spool {
        write_lines(&mut writer, 0..lines)?;
    }
    let mut collector = start_collector(road, &folder, addr, &merged)?;
    let begin = Instant::now();
    let mut shipper = start_shipper(road, &folder, addr, &log)?;
    match (rate, road.has_spool) {
        (rate, true) => {
            let mut pipe = BufWriter::with_capacity(1 << 16, shipper.take_stdin());
            write_all(&mut pipe, rate, lines)?;
        }
        (Some(rate), false) => {
            let file = OpenOptions::new().append(true).open(&log).doing("open a log")?;
            write_all(&mut BufWriter::new(file), Some(rate), lines)?;
        }
        (None, false) => {}
    }
    let most = bytes_of_lines(lines);
    wait_while_growing(QUIET, most, || bytes_of(&merged));
    let wall = begin.elapsed();
    let before = children_cpu()?;
    shipper.stop(Signal::SIGTERM)?;
    let between = children_cpu()?;
    collector.stop(Signal::SIGTERM)?;
    let cost = RoadCost { penlog: between - before, penlogd: children_cpu()? - between, wall };
    let written = bytes_of(&merged);
    if written != most {
        let said = shipper.messages() + &collector.messages();
        return Err(ActionError::new(format!("{road}: {written} bytes of {most}\n{said}")));
    }
    Ok(cost)
}

fn start_collector(
    road: Road,
    folder: &TempFolder,
    addr: SocketAddr,
    merged: &Path,
) -> Result<Program, ActionError> {
    let mut command = Command::new(ours("penlogd"));
    if road.transport == Transport::Tls {
        let key = keygen(&ours("penlog"), &folder.join("penlog.key"))?;
        folder.write("authorized", format!("{key} lines *\n"));
        let own = keygen(&ours("penlogd"), &folder.join("penlogd.key"))?;
        folder.write("penlogd.pub", own);
        command.arg("--key").arg(folder.join("penlogd.key"));
        command.arg("--authorized").arg(folder.join("authorized"));
    }
    if let Some(durable) = road.durable {
        command.args(["--durable", durable]);
    }
    let journal = road.durable.map(|_| folder.join("journal"));
    start_penlogd(command, addr, merged, journal.as_deref())
}

fn start_shipper(
    road: Road,
    folder: &TempFolder,
    to: SocketAddr,
    log: &Path,
) -> Result<Program, ActionError> {
    let mut command = Command::new(ours("penlog"));
    command.args([to.ip().to_string(), to.port().to_string()]).args(["--server", "10.0.0.5:80"]);
    match road.transport {
        Transport::Udp => drop(command.arg("--udp")),
        Transport::Tcp => drop(command.arg("--stream")),
        Transport::Tls => {
            let key = std::fs::read_to_string(folder.join("penlogd.pub")).doing("read a key")?;
            command.arg("--key").arg(folder.join("penlog.key")).args(["--collector-key", &key]);
        }
    }
    if road.has_spool {
        command.arg("--spool").arg(folder.join("spool")).stdin(Stdio::piped());
    } else {
        command.arg("--from-start").arg("--state").arg(folder.join("state"));
        command.arg("--follow").arg(log).stdin(Stdio::null());
    }
    Program::start("penlog", &mut command)
}

/// Writes lines at a rate; without one as fast as they are taken.
fn write_all(to: &mut impl Write, rate: Option<u64>, lines: u64) -> Result<(), ActionError> {
    let Some(rate) = rate else { return write_lines(to, 0..lines) };
    let (begin, mut written) = (Instant::now(), 0);
    while written < lines {
        let millis = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due = (millis.saturating_mul(rate) / 1_000).min(lines);
        write_lines(to, written..due)?;
        written = due;
        std::thread::park_timeout(TICK);
    }
    Ok(())
}

fn write_lines(to: &mut impl Write, numbers: std::ops::Range<u64>) -> Result<(), ActionError> {
    for number in numbers {
        writeln!(to, "{}", line(number)).doing("write a log")?;
    }
    to.flush().doing("write a log")
}

/// A line of the combined format, of some 150 bytes. All have the same length.
fn line(number: u64) -> String {
    format!(
        "10.0.0.9 - - [01/Dec/2026:12:00:00 +0000] \"GET /shop/item/{number:010} HTTP/1.1\" 200 5120 \
         \"https://shop.example/\" \"Mozilla/5.0 (X11; Linux) Firefox\""
    )
}

fn bytes_of_lines(lines: u64) -> u64 {
    lines * (line(0).len() as u64 + 1)
}
