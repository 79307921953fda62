//! `pen`: Debian's or ours.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use super::{Process, program, sibling};
use crate::Failure;

/// Where its mapping records go.
#[derive(Clone, Debug)]
pub enum Mappings {
    /// Into a file, which it writes only in blocks of 4,096 bytes and when it stops.
    File(PathBuf),
    /// To a collector, by UDP.
    Collector(SocketAddr),
}

/// Which `pen`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Make {
    /// Debian's.
    #[default]
    C,
    /// Ours, as it comes.
    Ours,
    /// Ours, told by the PROXY protocol who its clients are.
    OursProxied,
    /// Ours, told to speak to the C programs.
    OursClassic,
}

/// A running `pen` that takes turns over the servers.
#[derive(Debug)]
pub struct Balancer {
    process: Process,
    addr: SocketAddr,
}

impl Balancer {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start(
        make: Make,
        folder: &Path,
        addr: SocketAddr,
        servers: &[SocketAddr],
        mappings: &Mappings,
    ) -> Result<Self, Failure> {
        let log = match mappings {
            Mappings::File(path) => path.display().to_string(),
            Mappings::Collector(addr) => addr.to_string(),
        };
        let mut command = Command::new(match make {
            Make::C => program("pen")?,
            Make::Ours | Make::OursProxied | Make::OursClassic => sibling("pen")?,
        });
        if make == Make::OursClassic {
            command.args(["-O", "log_format classic"]);
        }
        if make == Make::OursProxied {
            command.args(["-O", "accept_proxy 127.0.0.1"]);
        }
        command.args(["-f", "-r", "-x", "500", "-t", "5", "-l", &log, &addr.to_string()]);
        command.args(servers.iter().map(ToString::to_string));
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = Process::start("pen", &mut command, folder.join("pen.stderr"))?;
        process.wait_for_port(addr)?;
        Ok(Self { process, addr })
    }

    /// Where visitors connect to.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Makes it close and open its log again, and so write what it holds back.
    ///
    /// # Errors
    /// When it is gone.
    pub fn reopen(&self) -> Result<(), Failure> {
        self.process.signal(Signal::SIGHUP)
    }

    /// Ends it, so that its log is whole.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Result<(), Failure> {
        self.process.stop(Signal::SIGTERM).map(|_status| ())
    }
}
