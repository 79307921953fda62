//! Hours in minutes: all kinds of traffic at once through the balancer, good and bad, while it is asked, told
//! and reloaded; and its memory meanwhile, which must not grow.

mod load;
mod operator;
mod server;

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::stage::{Deadline, Program, TempFolder, free_port, sibling};
use crate::{ActionError, Doing, build};
use load::Counts;

/// How far apart looks are.
const STEP: Duration = Duration::from_secs(5);
/// What memory may grow by between the second and the last quarter of the time, in KiB and in a hundred:
/// caches of the allocator breathe.
const BREATH: (u64, u64) = (1_024, 5);

/// For how long, and how busily.
#[derive(clap::Args)]
pub struct SoakArgs {
    /// For how many minutes
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Clients that each do one thing after the other
    #[arg(long, default_value_t = 6)]
    clients: usize,
}

/// What is seen from outside.
#[derive(Clone, Copy)]
struct Look {
    /// Resident memory in KiB.
    memory: u64,
    descriptors: usize,
    threads: usize,
}

/// Runs it.
///
/// # Errors
/// When something cannot be started, memory grows, descriptors are left over, or an exchange fails that
/// nothing speaks against.
pub fn run(args: &SoakArgs) -> Result<(), ActionError> {
    build(&["pen"])?;
    let folder = TempFolder::new();
    let site = SoakSite::start(&folder)?;
    let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
    let at_rest = site.at_rest()?;
    println!(
        "{:>6} {:>10} {:>12} {:>8} {:>10} {:>8}",
        "s", "KiB", "descriptors", "threads", "done", "failed"
    );
    let mut threads = load::start(site.addr, args.clients, &stop, &counts)?;
    threads.extend(operator::start(&site.process, &site.control, site.status, &stop));
    let looks = site.watch(Duration::from_secs(args.minutes * 60), &counts);
    stop.store(true, Ordering::Relaxed);
    let looks = looks?;
    join(threads)?;
    site.wait_until_quiet(at_rest)?;
    judge(&looks, &counts)
}

fn join(threads: Vec<JoinHandle<()>>) -> Result<(), ActionError> {
    let panicked = threads.into_iter().filter_map(|thread| thread.join().err()).count();
    if panicked > 0 { Err(ActionError::new("a thread of the load panicked")) } else { Ok(()) }
}

fn judge(looks: &[Look], counts: &Counts) -> Result<(), ActionError> {
    let most = |looks: &[Look]| looks.iter().map(|look| look.memory).max().unwrap_or(0);
    let quarter = looks.len() / 4;
    let before = most(&looks[quarter..2 * quarter]);
    let after = most(&looks[looks.len() - quarter..]);
    let (kib, hundredths) = BREATH;
    println!("most memory in the second quarter {before} KiB, in the last {after} KiB");
    if after > before + kib + before * hundredths / 100 {
        return Err(ActionError::new("memory grows"));
    }
    let failed = counts.failed.load(Ordering::Relaxed);
    if failed > 0 {
        let first = counts.first.lock().map_or_else(|_| String::new(), |first| first.clone());
        return Err(ActionError::new(format!("{failed} exchanges failed, the first: {first}")));
    }
    Ok(())
}

/// The balancer and what it needs.
struct SoakSite {
    process: Program,
    addr: SocketAddr,
    control: PathBuf,
    status: SocketAddr,
    /// Takes no datagram out: a collector that has stopped.
    _collector: UdpSocket,
    /// A listener with a full queue: a new connection waits for the timeout.
    _silent: server::Silent,
}

impl SoakSite {
    fn start(folder: &TempFolder) -> Result<Self, ActionError> {
        let addr = free_port(Ipv4Addr::LOCALHOST);
        let status = free_port(Ipv4Addr::LOCALHOST);
        let collector = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).doing("bind a collector")?;
        let log = collector.local_addr().doing("find the collector")?;
        let silent = server::Silent::new()?;
        let nobody = free_port(Ipv4Addr::LOCALHOST);
        let mut text = format!(
            "listen {addr}\nlog {log}\nblacklist 1\ntimeout 500ms\nhalf_closed 5\nidle_timeout 20\n\
             tracking 2\nclients_max 500\nroundrobin\nweb_stats page.html\n"
        );
        for (number, server) in
            [server::start()?, server::start()?, nobody, silent.addr].iter().enumerate()
        {
            text += &format!("server {number} address {} port {}\n", server.ip(), server.port());
        }
        let config = folder.join("pen.cfg");
        fs::write(&config, text).doing(format_args!("write {}", config.display()))?;
        let control = folder.join("control");
        let mut command = Command::new(sibling("pen")?);
        command.current_dir(folder.path()).arg("-f").arg("-F").arg(&config);
        command.arg("-C").arg(&control).args(["--status", &status.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = Program::start("pen", &mut command)?;
        process.wait_for_port(addr)?;
        Ok(Self { process, addr, control, status, _collector: collector, _silent: silent })
    }

    fn look(&self) -> Result<Look, ActionError> {
        let proc = PathBuf::from(format!("/proc/{}", self.process.id()));
        let status =
            fs::read_to_string(proc.join("status")).doing("look at the balancer: it has ended")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        let descriptors = fs::read_dir(proc.join("fd")).doing("count descriptors")?.count();
        let threads = usize::try_from(field("Threads:")).unwrap_or(usize::MAX);
        Ok(Look { memory: field("VmRSS:"), descriptors, threads })
    }

    /// Before anybody comes, but when all threads are there.
    fn at_rest(&self) -> Result<Look, ActionError> {
        let mut moment = Deadline::after(Duration::from_secs(2));
        while moment.nap() {}
        self.look()
    }

    /// Looks again and again until the time is over.
    fn watch(&self, time: Duration, counts: &Counts) -> Result<Vec<Look>, ActionError> {
        let start = Instant::now();
        let mut looks = Vec::new();
        while start.elapsed() < time {
            let mut step = Deadline::after(STEP);
            while step.nap() {}
            let look = self.look()?;
            looks.push(look);
            let (done, failed) =
                (counts.done.load(Ordering::Relaxed), counts.failed.load(Ordering::Relaxed));
            let Look { memory, descriptors, threads } = look;
            let seconds = start.elapsed().as_secs();
            println!(
                "{seconds:>6} {memory:>10} {descriptors:>12} {threads:>8} {done:>10} {failed:>8}"
            );
            std::io::stdout().flush().unwrap_or_default();
        }
        Ok(looks)
    }

    /// When everybody has gone it has no more descriptors than before anybody came.
    fn wait_until_quiet(&self, before: Look) -> Result<(), ActionError> {
        let mut until = Deadline::after(Duration::from_secs(40));
        loop {
            let now = self.look()?;
            if now.descriptors <= before.descriptors {
                return Ok(());
            }
            if !until.nap() {
                let left = now.descriptors - before.descriptors;
                return Err(ActionError::new(format!("{left} descriptors are left over")));
            }
        }
    }
}

/// A thread that repeats its work until told to stop.
fn again(
    stop: &Arc<AtomicBool>,
    pause: Duration,
    mut work: impl FnMut(u64) + Send + 'static,
) -> JoinHandle<()> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        for turn in 0.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            work(turn);
            thread::park_timeout(pause);
        }
    })
}

fn listener() -> Result<TcpListener, ActionError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing("listen")
}
