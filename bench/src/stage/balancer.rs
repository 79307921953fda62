//! `pen`, Debian's or ours, HAProxy, nginx and the kernel.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use super::haproxy::{self, HaproxyLogMode};
use super::{Program, kernel, nginx, require_installed, sibling};
use crate::{ActionError, Doing};

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
    /// Ours, with a spool for its mapping records.
    OursSpooled,
    /// Ours, told by the PROXY protocol who its clients are.
    OursProxied,
    /// Ours, told to speak to the C programs.
    OursClassic,
    /// HAProxy, and what it does and logs.
    Haproxy(HaproxyLogMode),
    /// nginx, which reads requests.
    Nginx,
    /// nginx, which passes connections through.
    NginxStream,
    /// The kernel, once [`kernel::enter_own_network`] was called.
    Kernel,
}

/// A running balancer that takes turns over the servers.
#[derive(Debug)]
pub struct Balancer {
    process: Program,
    addr: SocketAddr,
}

impl Balancer {
    /// Starts the program and waits until it listens.
    ///
    /// # Errors
    /// If the program is not installed or does not start.
    pub fn start(
        make: Make,
        folder: &Path,
        addr: SocketAddr,
        servers: &[SocketAddr],
        mappings: &Mappings,
    ) -> Result<Self, ActionError> {
        if let Make::Haproxy(manner) = make {
            return Self::start_haproxy(manner, folder, addr, servers, mappings);
        }
        if let (Make::Kernel, Mappings::File(log)) = (make, mappings) {
            return Ok(Self { process: kernel::start(folder, addr, servers, log)?, addr });
        }
        if matches!(make, Make::Nginx | Make::NginxStream) {
            let mut command = Command::new(require_installed("nginx")?);
            let text = match make {
                Make::NginxStream => nginx::stream(folder, addr, servers, mappings),
                _ => nginx::http(folder, addr, servers, mappings),
            };
            let configuration = nginx::configure(folder, &text)?;
            command.arg("-c").arg(configuration).stdin(Stdio::null()).stdout(Stdio::null());
            return Self::started("nginx", &mut command, addr);
        }
        let log = match mappings {
            Mappings::File(path) => path.display().to_string(),
            Mappings::Collector(addr) => addr.to_string(),
        };
        let mut command = Command::new(match make {
            Make::C => require_installed("pen")?,
            _ => sibling("pen")?,
        });
        if make == Make::OursClassic {
            command.args(["-O", "log_format classic"]);
        }
        if make == Make::OursSpooled {
            let spool = folder.join("spool");
            command.arg("-O").arg(format!("log_spool {}", spool.display()));
        }
        if make == Make::OursProxied {
            command.args(["-O", "accept_proxy 127.0.0.1"]);
        }
        command.args(["-f", "-r", "-x", "500", "-t", "5", "-l", &log, &addr.to_string()]);
        command.args(servers.iter().map(ToString::to_string));
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
        Self::started("pen", &mut command, addr)
    }

    fn start_haproxy(
        manner: HaproxyLogMode,
        folder: &Path,
        addr: SocketAddr,
        servers: &[SocketAddr],
        mappings: &Mappings,
    ) -> Result<Self, ActionError> {
        let path = folder.join("haproxy.cfg");
        fs::write(&path, haproxy::configuration(manner, addr, servers, mappings))
            .doing(format_args!("write {}", path.display()))?;
        let mut command = Command::new(require_installed("haproxy")?);
        command.arg("-db").arg("-f").arg(&path).current_dir(folder).stdin(Stdio::null());
        command.stdout(match mappings {
            Mappings::File(log) => {
                fs::File::create(log).doing(format_args!("make {}", log.display()))?.into()
            }
            Mappings::Collector(_) => Stdio::null(),
        });
        Self::started("haproxy", &mut command, addr)
    }

    fn started(
        name: &'static str,
        command: &mut Command,
        addr: SocketAddr,
    ) -> Result<Self, ActionError> {
        let mut process = Program::start(name, command)?;
        process.wait_for_port(addr)?;
        Ok(Self { process, addr })
    }

    /// Where visitors connect to.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Makes the balancer reopen its log, and so write all buffered lines.
    ///
    /// # Errors
    /// If the program has ended.
    pub fn reopen(&self) -> Result<(), ActionError> {
        self.process.signal(Signal::SIGHUP)
    }

    /// Ends the balancer by SIGKILL.
    ///
    /// # Errors
    /// If the program does not end in time.
    pub fn kill(&mut self) -> Result<(), ActionError> {
        self.process.stop(Signal::SIGKILL).map(|_status| ())
    }

    /// What it said.
    #[must_use]
    pub fn messages(&self) -> String {
        self.process.messages()
    }

    /// Ends the balancer, which writes the rest of its log.
    ///
    /// # Errors
    /// If the program does not end in time.
    pub fn stop(&mut self) -> Result<(), ActionError> {
        self.process.stop(Signal::SIGTERM).map(|_status| ())
    }
}
