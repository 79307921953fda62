//! Collectors and shippers, the C programs or ours: their command lines are the same.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Process, Until, line_count};
use crate::{During, Failure};

/// A running `penlogd`.
#[derive(Debug)]
pub struct Collector {
    process: Process,
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
    ) -> Result<Self, Failure> {
        let log = folder.join(format!("{name}.log"));
        let mut command = Command::new(program);
        command.args(["-f", "-b"]).args(args).arg("-l").arg(&log).arg(addr.port().to_string());
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
        let mut process =
            Process::start(name, &mut command, folder.join(format!("{name}.stderr")))?;
        process.wait_for(&format!("listen on {addr}"), || {
            std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, addr.port())).is_err()
        })?;
        Ok(Self { process, log })
    }

    /// The file it writes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until it has written so many lines, or none for two seconds.
    pub fn settle(&self, lines: usize) {
        let mut seen = line_count(&self.log);
        let mut until = Until::new(Duration::from_secs(2));
        while seen < lines && until.pause() {
            let now = line_count(&self.log);
            if now > seen {
                until = Until::new(Duration::from_secs(2));
            }
            seen = now;
        }
    }

    /// Ends it as `kill` does, and hands back how it ended and all it said.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(mut self) -> Result<(ExitStatus, String), Failure> {
        let status = self.process.stop(Signal::SIGTERM)?;
        Ok((status, self.process.complaints()))
    }

    /// The running program.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// A running `penlog` that reads a FIFO.
#[derive(Debug)]
pub struct Shipper {
    process: Process,
    /// Holds the FIFO open for writing until the web server does.
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
    ) -> Result<Self, Failure> {
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
    ) -> Result<Self, Failure> {
        nix::unistd::mkfifo(fifo, nix::sys::stat::Mode::from_bits_truncate(0o666))
            .during(format_args!("make the FIFO {}", fifo.display()))?;
        let open = |write| {
            File::options()
                .read(true)
                .write(write)
                .open(fifo)
                .during(format_args!("open {}", fifo.display()))
        };
        let keeper = open(true)?;
        let mut command = Command::new(program);
        command.arg(collector.ip().to_string()).arg(collector.port().to_string()).args(args);
        command.stdin(Stdio::from(open(false)?)).stdout(Stdio::null());
        let process = Process::start(name, &mut command, fifo.with_extension("stderr"))?;
        Ok(Self { process, keeper: Some(keeper) })
    }

    /// Says that the web server has opened the FIFO: when it closes it, the shipper sees the end.
    pub fn hand_over(&mut self) {
        self.keeper = None;
    }

    /// Waits until it has sent all and ended.
    ///
    /// # Errors
    /// When it does not end.
    pub fn finish(mut self) -> Result<(ExitStatus, String), Failure> {
        self.keeper = None;
        let status = self.process.wait_for_end()?;
        Ok((status, self.process.complaints()))
    }
}
