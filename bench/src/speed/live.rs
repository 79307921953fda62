//! The collector under load: a sender on one core, a collector on the other.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cost::{children_cpu, middle};
use super::sender::{Load, TrafficEncoding, send};
use super::{SpeedArgs, ours, theirs, this_program};
use crate::stage::peak_memory;
use crate::{ActionError, Doing};
use pen_daemon::error::chain;

const COLLECTOR_CORE: usize = 0;
const SENDER_CORE: usize = 1;

/// A collector counts as finished when its output has not grown for this long.
const QUIET: Duration = Duration::from_millis(1_500);
const DEADLINE: Duration = Duration::from_secs(60);

/// Each line right behind its record.
pub(super) fn close(args: &SpeedArgs) -> Result<(), ActionError> {
    let load = Load {
        pairs: args.pairs,
        outstanding: 0,
        requests: None,
        rate: None,
        spelling: TrafficEncoding::Classic,
        ends: false,
    };
    heading("live: a record and its line, each request once", args);
    for rate in [Some(50_000), Some(100_000), Some(150_000), None] {
        compare(args, Load { rate, ..load })?;
    }
    Ok(())
}

/// Records long before their lines.
pub(super) fn outstanding(args: &SpeedArgs) -> Result<(), ActionError> {
    heading("live-outstanding: lines that come long after their records", args);
    for outstanding in [2_000, 100_000, 1_000_000] {
        let pairs = args.pairs.max(outstanding);
        compare(
            args,
            Load {
                pairs,
                outstanding,
                requests: None,
                rate: None,
                spelling: TrafficEncoding::Classic,
                ends: false,
            },
        )?;
    }
    heading("the same with records in packets, lines in shipments", args);
    for outstanding in [100_000, 1_000_000] {
        let pairs = args.pairs.max(outstanding);
        let spelling = TrafficEncoding::Ours { shipment: 32_768 };
        // What is asked here is whether they fit, not how fast they may come.
        let rate = Some(100_000);
        compare(args, Load { pairs, outstanding, requests: None, rate, spelling, ends: true })?;
    }
    Ok(())
}

/// As much as our balancer's records of it take.
const ROOM: [&str; 2] = ["--memory", "1024"];

/// Few requests, asked again and again, with 500 records outstanding.
pub(super) fn repeating(args: &SpeedArgs) -> Result<(), ActionError> {
    heading("live-repeating: 50 requests that repeat, lines in the order of their records", args);
    for rate in [Some(50_000), None] {
        let load = Load {
            pairs: args.pairs,
            outstanding: 500,
            requests: Some(50),
            rate,
            spelling: TrafficEncoding::Classic,
            ends: false,
        };
        compare(args, load)?;
    }
    heading("one request, of a thousand clients each second, and as fast as it goes", args);
    for (spelling, rate) in [
        (TrafficEncoding::Classic, Some(1_000)),
        (TrafficEncoding::Ours { shipment: 32_768 }, Some(1_000)),
        (TrafficEncoding::Ours { shipment: 32_768 }, None),
    ] {
        // Some seconds of it are enough where it is slow.
        let pairs = if rate.is_some() { args.pairs.min(10_000) } else { args.pairs };
        let ends = spelling != TrafficEncoding::Classic;
        compare(args, Load { pairs, outstanding: 1_000, requests: Some(1), rate, spelling, ends })?;
    }
    Ok(())
}

/// Records and lines as ours send them: in packets, and in shipments as large as loopback and a network
/// take them.
pub(super) fn shipments(args: &SpeedArgs) -> Result<(), ActionError> {
    for shipment in [32_768, 1_400] {
        let what = format!("shipments: records in packets, lines in shipments of {shipment} bytes");
        heading(&what, args);
        for rate in [Some(250_000), Some(500_000), Some(1_000_000), None] {
            let spelling = TrafficEncoding::Ours { shipment };
            compare(
                args,
                Load {
                    pairs: args.pairs,
                    outstanding: 0,
                    requests: None,
                    rate,
                    spelling,
                    ends: false,
                },
            )?;
        }
    }
    Ok(())
}

fn heading(what: &str, args: &SpeedArgs) {
    println!("\n{what}; {} pairs, medians of {}", args.pairs, args.rounds.clamp(1, 3));
    println!(
        "  {:<38} {:<12} {:>9} {:>8} {:>8} {:>8} {:>9} {:>9} {:>7} {:>8}",
        "", "", "pairs/s", "lost %", "right %", "wrong %", "drops", "us/pair", "x C", "MiB"
    );
}

/// Both collectors in turn, under the same load.
fn compare(args: &SpeedArgs, load: Load) -> Result<(), ActionError> {
    let mut collectors = vec![CollectorContender::ours()];
    let others =
        args.beside.iter().map(|other| CollectorContender::collector("beside", other.clone()));
    collectors.extend(others);
    if load.spelling != TrafficEncoding::Classic && load.outstanding >= 1_000_000 {
        collectors.push(CollectorContender::roomy());
    }
    collectors.push(CollectorContender::receiver()?);
    // The C collector does not know shipments.
    if load.spelling == TrafficEncoding::Classic
        && let Some(c) = theirs("penlogd")
    {
        collectors.insert(0, CollectorContender::collector("C", c));
    }
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); collectors.len()];
    for _ in 0..args.rounds.clamp(1, 3) {
        for (contender, runs) in collectors.iter().zip(&mut runs) {
            match Run::of(contender, load) {
                Ok(run) => runs.push(run),
                Err(error) => println!("  {}: {}", contender.who, chain(&error)),
            }
        }
    }
    let rate = load.rate.map_or_else(|| "full speed".into(), |rate| format!("{rate} pairs/s"));
    let name = format!("{rate}, {} outstanding", load.outstanding.max(32));
    let c = collectors.iter().zip(&runs).find(|(contender, _)| contender.who == "C");
    let c = c.map(|(_, runs)| Run::median(runs).per_pair());
    for (contender, runs) in collectors.iter().zip(&runs).filter(|(_, runs)| !runs.is_empty()) {
        let (who, run) = (contender.who, Run::median(runs));
        let share = |part: u64| match contender.writes {
            true => format!("{:.3}", part as f64 * 100.0 / run.pairs as f64),
            false => "-".into(),
        };
        println!(
            "  {name:<38} {who:<12} {:>9.0} {:>8} {:>8} {:>8} {:>9} {:>9.2} {:>7.2} {:>8.1}",
            run.pairs as f64 / run.sending.as_secs_f64(),
            share(run.pairs.saturating_sub(run.written())),
            share(run.right),
            share(run.wrong),
            run.drops,
            run.per_pair(),
            c.map_or(f64::NAN, |c| run.per_pair() / c),
            run.memory as f64 / 1024.0,
        );
    }
    Ok(())
}

/// Somebody who listens.
struct CollectorContender {
    who: &'static str,
    program: PathBuf,
    arguments: Vec<OsString>,
    /// Whether a log and a port follow the arguments, and lines come out; otherwise a port alone.
    writes: bool,
}

impl CollectorContender {
    fn collector(who: &'static str, program: PathBuf) -> Self {
        Self { who, program, arguments: vec!["-f".into(), "-l".into()], writes: true }
    }

    fn ours() -> Self {
        Self::collector("ours", ours("penlogd"))
    }

    /// Ours, with memory for a million records that name their connection.
    fn roomy() -> Self {
        let mut roomy = Self { who: "ours, 1 GiB", ..Self::ours() };
        roomy.arguments.splice(0..0, ROOM.map(OsString::from));
        roomy
    }

    /// The price of the datagrams alone: receives them as our collector does, and drops them.
    fn receiver() -> Result<Self, ActionError> {
        let arguments = ["speed", "receive", "--"].map(OsString::from).to_vec();
        Ok(Self { who: "receive only", program: this_program()?, arguments, writes: false })
    }
}

/// What one collector made of a load.
#[derive(Clone, Copy, Debug)]
struct Run {
    pairs: u64,
    sending: Duration,
    cpu: Duration,
    /// The most memory that was resident, in KiB.
    memory: u64,
    right: u64,
    wrong: u64,
    unnamed: u64,
    /// Datagrams that the kernel dropped because the collector was behind.
    drops: u64,
}

impl Run {
    fn of(contender: &CollectorContender, load: Load) -> Result<Self, ActionError> {
        let mut collector = MeasuredCollector::start(contender)?;
        let port = collector.port;
        let sending = thread::spawn(move || send(load, port, SENDER_CORE))
            .join()
            .unwrap_or_else(|_| Err(ActionError::new("the sender panicked")))?;
        collector.settle();
        let drops = Socket::find(port).map_or(0, |socket| socket.drops);
        let memory = peak_memory(collector.child.id());
        let before = children_cpu()?;
        collector.stop()?;
        let cpu = children_cpu()? - before;
        let mut run =
            Self { pairs: load.pairs, sending, cpu, memory, right: 0, wrong: 0, unnamed: 0, drops };
        if contender.writes {
            run.judge(&collector.output)?;
        } else {
            run.unnamed = run.pairs.saturating_sub(drops / 2);
        }
        Ok(run)
    }

    fn written(&self) -> u64 {
        self.right + self.wrong + self.unnamed
    }

    /// Microseconds of processor time for each pair that came out.
    fn per_pair(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.written() as f64
    }

    fn median(runs: &[Self]) -> Self {
        let number = |of: fn(&Self) -> u64| middle(runs.iter().map(of));
        let time = |of: fn(&Self) -> Duration| middle(runs.iter().map(of));
        Self {
            pairs: number(|run| run.pairs),
            sending: time(|run| run.sending),
            cpu: time(|run| run.cpu),
            memory: number(|run| run.memory),
            right: number(|run| run.right),
            wrong: number(|run| run.wrong),
            unnamed: number(|run| run.unnamed),
            drops: number(|run| run.drops),
        }
    }

    /// A line is right if it begins with what stands where the user's name would.
    fn judge(&mut self, output: &Path) -> Result<(), ActionError> {
        let file = File::open(output).doing(format_args!("open {}", output.display()))?;
        let mut lines = BufReader::with_capacity(1 << 18, file);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).doing("read the output")? > 0 {
            let mut words = line.split(|&b| b == b' ');
            match (words.next(), words.next(), words.next()) {
                (Some(b"127.0.0.1"), Some(_), Some(_)) => self.unnamed += 1,
                (Some(client), Some(_), Some(truth)) if client == truth => self.right += 1,
                _ => self.wrong += 1,
            }
            line.clear();
        }
        Ok(())
    }
}

/// A collector that runs on its own core and writes to memory.
struct MeasuredCollector {
    child: Child,
    port: u16,
    output: PathBuf,
}

impl MeasuredCollector {
    fn start(contender: &CollectorContender) -> Result<Self, ActionError> {
        let port = free_port()?;
        let folder = Path::new("/dev/shm");
        let folder = if folder.is_dir() { folder.to_owned() } else { std::env::temp_dir() };
        let output = folder.join(format!("pen-bench-{}-{port}", std::process::id()));
        // taskset becomes the program it is given, so the child's id is the collector's.
        let child = Command::new("taskset")
            .args(["-c", &COLLECTOR_CORE.to_string()])
            .arg(&contender.program)
            .args(&contender.arguments)
            .args(contender.writes.then_some(&output))
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .doing("run taskset")?;
        let mut collector = Self { child, port, output };
        let begin = Instant::now();
        while Socket::find(port).is_none() {
            let ended = collector.child.try_wait().doing("look after the collector")?;
            if ended.is_some() || begin.elapsed() > Duration::from_secs(10) {
                let program = contender.program.display();
                return Err(ActionError::new(format!("{program} does not listen")));
            }
            pause();
        }
        Ok(collector)
    }

    /// Waits until everything that was sent is read, and what was read is written.
    fn settle(&self) {
        let begin = Instant::now();
        let mut size = 0;
        let mut grown = Instant::now();
        while grown.elapsed() < QUIET && begin.elapsed() < DEADLINE {
            let now = fs::metadata(&self.output).map_or(0, |metadata| metadata.len());
            let queued = Socket::find(self.port).is_some_and(|socket| socket.queued > 0);
            if now != size || queued {
                size = now;
                grown = Instant::now();
            }
            pause();
        }
    }

    fn stop(&mut self) -> Result<(), ActionError> {
        let id = i32::try_from(self.child.id()).doing("end the collector")?;
        kill(Pid::from_raw(id), Signal::SIGTERM).doing("end the collector")?;
        self.child.wait().doing("wait for the collector")?;
        Ok(())
    }
}

impl Drop for MeasuredCollector {
    fn drop(&mut self) {
        // Both have happened already where all went well.
        self.child.kill().ok();
        self.child.wait().ok();
        fs::remove_file(&self.output).ok();
    }
}

/// What the kernel says of a UDP socket.
pub(super) struct Socket {
    /// Bytes that wait to be read.
    queued: u64,
    drops: u64,
}

impl Socket {
    /// The socket that listens on `port`, whichever address it is bound to.
    pub(super) fn find(port: u16) -> Option<Self> {
        let suffix = format!(":{port:04X}");
        ["/proc/net/udp", "/proc/net/udp6"].iter().find_map(|table| {
            fs::read_to_string(table).ok()?.lines().find_map(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                let (local, queues, drops) = (words.get(1)?, words.get(4)?, words.last()?);
                let (_, queued) = queues.split_once(':')?;
                local.ends_with(&suffix).then_some(())?;
                let queued = u64::from_str_radix(queued, 16).ok()?;
                Some(Self { queued, drops: drops.parse().ok()? })
            })
        })
    }
}

fn free_port() -> Result<u16, ActionError> {
    let socket = UdpSocket::bind("127.0.0.1:0").doing("find a free port")?;
    socket.local_addr().map(|addr| addr.port()).doing("find a free port")
}

/// Waits 20 ms: a file or a socket of another process offers no event.
fn pause() {
    thread::park_timeout(Duration::from_millis(20));
}
