//! `pen`, Debian's or ours, and HAProxy.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use super::haproxy::{self, Manner};
use super::{Process, program, sibling};
use crate::{During, Failure};

/// Where its mapping records go.
#[derive(Clone, Debug)]
pub enum Mappings {
    /// Into a file, which it writes only in blocks of 4,096 bytes and when it stops.
    File(PathBuf),
    /// To a collector, by UDP.
    Collector(SocketAddr),
}

/// Which balancer.
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
    /// HAProxy, and what it does and logs.
    Haproxy(Manner),
}

/// A running balancer that takes turns over the servers.
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
        if let Make::Haproxy(manner) = make {
            return Self::start_haproxy(manner, folder, addr, servers, mappings);
        }
        let log = match mappings {
            Mappings::File(path) => path.display().to_string(),
            Mappings::Collector(addr) => addr.to_string(),
        };
        let mut command = Command::new(match make {
            Make::C => program("pen")?,
            _ => sibling("pen")?,
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

    fn start_haproxy(
        manner: Manner,
        folder: &Path,
        addr: SocketAddr,
        servers: &[SocketAddr],
        mappings: &Mappings,
    ) -> Result<Self, Failure> {
        let path = folder.join("haproxy.cfg");
        fs::write(&path, haproxy::configuration(manner, addr, servers, mappings))
            .during(format_args!("write {}", path.display()))?;
        let mut command = Command::new(program("haproxy")?);
        command.arg("-db").arg("-f").arg(&path).current_dir(folder).stdin(Stdio::null());
        command.stdout(match mappings {
            Mappings::File(log) => {
                fs::File::create(log).during(format_args!("make {}", log.display()))?.into()
            }
            Mappings::Collector(_) => Stdio::null(),
        });
        let stderr = folder.join("haproxy.stderr");
        let mut process = Process::start("haproxy", &mut command, stderr)?;
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
