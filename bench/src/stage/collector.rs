//! Collectors and shippers, the C programs or ours: their command lines are the same.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Deadline, Program, line_count, run_to_end};
use crate::{ActionError, Doing};

/// A running `penlogd`.
#[derive(Debug)]
pub struct Collector {
    process: Program,
    log: PathBuf,
}

impl Collector {
    /// Starts `program` on a port with further arguments, in the foreground, and waits until it listens.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(
        program: &Path,
        name: &str,
        folder: &Path,
        addr: SocketAddr,
        args: &[&str],
    ) -> Result<Self, ActionError> {
        let log = folder.join(format!("{name}.log"));
        let mut command = Command::new(program);
        command.args(["-f", "-b"]).args(args).arg("-l").arg(&log).arg(addr.port().to_string());
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = Program::start(name, &mut command)?;
        process.wait_for(&format!("listen on {addr}"), || {
            pen_testing::port::is_udp_port_used(addr.port())
        })?;
        Ok(Self { process, log })
    }

    /// The log of the collector.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until the log has `lines` lines, or has not grown for two seconds.
    pub fn settle(&self, lines: usize) {
        let written = || line_count(&self.log) as u64;
        wait_while_growing(Duration::from_secs(2), lines as u64, written);
    }

    /// Sends SIGTERM; returns the exit status and all messages.
    ///
    /// # Errors
    /// If the program does not end in time.
    pub fn stop(mut self) -> Result<(ExitStatus, String), ActionError> {
        let status = self.process.stop(Signal::SIGTERM)?;
        Ok((status, self.process.messages()))
    }

    /// The running program.
    pub fn process(&mut self) -> &mut Program {
        &mut self.process
    }
}

/// Waits until `size` has reached `most`, or has not grown for a while.
pub fn wait_while_growing(quiet: Duration, most: u64, size: impl Fn() -> u64) {
    let (mut seen, mut deadline) = (size(), Deadline::after(quiet));
    while seen < most && deadline.nap() {
        let now = size();
        if now > seen {
            (seen, deadline) = (now, Deadline::after(quiet));
        }
    }
}

/// The bytes of a file; 0 while it is not there.
#[must_use]
pub fn bytes_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |it| it.len())
}

/// The most memory of a process that was resident, in KiB; 0 if unknown.
#[must_use]
pub fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|peak| peak.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Starts our `penlogd` by a command with further arguments, and waits until it listens.
///
/// # Errors
/// When it does not start.
pub fn start_penlogd(
    mut command: Command,
    addr: SocketAddr,
    log: &Path,
    journal: Option<&Path>,
) -> Result<Program, ActionError> {
    command.args(["-f", "--report", "json", "--listen", &addr.to_string(), "-l"]).arg(log);
    if let Some(journal) = journal {
        command.arg("--journal").arg(journal);
    }
    let program = Program::start("penlogd", &mut command)?;
    program.wait_until_listening()?;
    Ok(program)
}

/// Makes a pair of keys by `penlog` or `penlogd`, and returns the public one.
///
/// # Errors
/// When the program fails.
pub fn keygen(program: &Path, file: &Path) -> Result<String, ActionError> {
    let out = run_to_end(Command::new(program).arg("keygen").arg(file))?;
    Ok(String::from_utf8_lossy(&out).trim().to_owned())
}

/// A running `penlog` that follows the log of a balancer.
#[derive(Debug)]
pub struct Follower(Program);

impl Follower {
    /// Starts `program` on a file that is empty yet, towards `collector`, which knows the lines by `name`.
    ///
    /// # Errors
    /// When either fails.
    pub fn start(
        program: &Path,
        name: &str,
        file: &Path,
        collector: SocketAddr,
    ) -> Result<Self, ActionError> {
        File::create(file).doing(format_args!("make {}", file.display()))?;
        let mut command = Command::new(program);
        command.arg(collector.ip().to_string()).arg(collector.port().to_string());
        command.args(["--name", name, "--from-start", "--follow"]).arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self(Program::start("penlog of the balancer", &mut command)?))
    }

    /// Ends it, when all of the file has been sent.
    ///
    /// # Errors
    /// If the program does not end in time.
    pub fn finish(mut self) -> Result<(), ActionError> {
        self.0.stop(Signal::SIGTERM).map(|_status| ())
    }
}

/// A running `penlog` that reads a FIFO.
#[derive(Debug)]
pub struct Shipper {
    process: Program,
    /// Holds the FIFO open for writing: Apache opens it, closes it and opens it again when it starts.
    keeper: Option<File>,
}

impl Shipper {
    /// Makes the FIFO and starts `program` on it, towards `collector`, from the address `from`.
    ///
    /// # Errors
    /// When either fails.
    pub fn start(
        program: &Path,
        name: &str,
        fifo: &Path,
        collector: SocketAddr,
        from: Ipv4Addr,
    ) -> Result<Self, ActionError> {
        Self::start_with(program, name, fifo, collector, &[&from.to_string()])
    }

    /// The same with other arguments behind the collector's address.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(
        program: &Path,
        name: &str,
        fifo: &Path,
        collector: SocketAddr,
        args: &[&str],
    ) -> Result<Self, ActionError> {
        nix::unistd::mkfifo(fifo, nix::sys::stat::Mode::from_bits_truncate(0o666))
            .doing(format_args!("make the FIFO {}", fifo.display()))?;
        let open = |write| {
            File::options()
                .read(true)
                .write(write)
                .open(fifo)
                .doing(format_args!("open {}", fifo.display()))
        };
        let keeper = open(true)?;
        let mut command = Command::new(program);
        command.arg(collector.ip().to_string()).arg(collector.port().to_string()).args(args);
        command.stdin(Stdio::from(open(false)?)).stdout(Stdio::null());
        let process = Program::start(name, &mut command)?;
        Ok(Self { process, keeper: Some(keeper) })
    }

    /// Lets the shipper see the end once the web server has ended, and waits until it has sent all lines and ended.
    ///
    /// # Errors
    /// If the program does not end in time.
    pub fn finish(mut self) -> Result<(ExitStatus, String), ActionError> {
        self.keeper = None;
        let status = self.process.wait_for_exit()?;
        Ok((status, self.process.messages()))
    }
}
