//! The balancers that are compared, each with one thread, on the same core.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::super::live::Socket;
use super::super::{ours, theirs};
use super::records::RecordTaker;
use crate::stage::{Program, TempFolder, free_port};
use crate::{ActionError, Doing};

/// Where balancers run.
const CORE: &str = "0";

/// Connections that each of them allows.
const MOST: usize = 5_000;

/// A balancer that can be started.
pub(super) struct BalancerContender {
    pub(super) name: &'static str,
    program: PathBuf,
    kind: BalancerKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BalancerKind {
    /// `pen` of this workspace.
    Ours {
        records: bool,
        /// Whether it has `log_spool`.
        spool: bool,
    },
    CPen,
    Nginx,
    HaProxy,
}

/// Returns our balancer and all other installed ones.
pub(super) fn all() -> Result<Vec<BalancerContender>, ActionError> {
    let pen = ours("pen");
    let mut all = vec![
        BalancerContender {
            name: "pen, records on",
            program: pen.clone(),
            kind: BalancerKind::Ours { records: true, spool: false },
        },
        BalancerContender {
            name: "pen, records, spool",
            program: pen.clone(),
            kind: BalancerKind::Ours { records: true, spool: true },
        },
        BalancerContender {
            name: "pen, records off",
            program: pen,
            kind: BalancerKind::Ours { records: false, spool: false },
        },
    ];
    for (name, program, kind) in [
        ("C pen", "pen", BalancerKind::CPen),
        ("nginx stream", "nginx", BalancerKind::Nginx),
        ("HAProxy", "haproxy", BalancerKind::HaProxy),
    ] {
        match theirs(program) {
            Some(program) if kind != BalancerKind::Nginx || Path::new(STREAM).exists() => {
                all.push(BalancerContender { name, program, kind });
            }
            _ => println!("{name} is not installed, and left out"),
        }
    }
    if theirs("wrk").is_none() {
        return Err(ActionError::new("wrk is not installed: `apt-get install wrk` brings it"));
    }
    Ok(all)
}

/// The protocol that is balanced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

/// Debian's package libnginx-mod-stream.
const STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// A balancer that listens.
pub(super) struct Running {
    pub(super) addr: SocketAddr,
    process: Program,
    _collector: Option<RecordTaker>,
}

impl BalancerContender {
    pub(super) fn is_c_pen(&self) -> bool {
        self.kind == BalancerKind::CPen
    }

    /// Whether it balances datagrams.
    pub(super) fn does_udp(&self) -> bool {
        self.kind != BalancerKind::HaProxy
    }

    /// Starts the balancer with one server and waits until it listens.
    pub(super) fn start(
        &self,
        folder: &TempFolder,
        to: SocketAddr,
        transport: Transport,
    ) -> Result<Running, ActionError> {
        let addr = free_port(Ipv4Addr::LOCALHOST);
        let mut collector = None;
        // taskset becomes the program it is given.
        let mut command = Command::new("taskset");
        command.args(["-c", CORE]).arg(&self.program).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let udp = (transport == Transport::Udp).then_some("-U");
        match self.kind {
            BalancerKind::Ours { records, spool } => {
                if records {
                    let (taker, addr) = RecordTaker::start(spool)?;
                    command.args(["-O", "log_format extended", "-l", &addr.to_string()]);
                    collector = Some(taker);
                }
                if spool {
                    let spool = folder.join("spool");
                    command.arg("-O").arg(format!("log_spool {}", spool.display()));
                }
                command.args(["-f", "-r", "-O", "workers 1", "-x", &MOST.to_string()]);
                command.args(udp);
                command.args([addr.to_string(), to.to_string()]);
            }
            BalancerKind::CPen => {
                command.args(["-f", "-r", "-x", &MOST.to_string(), "-S", "2"]);
                command.args(udp);
                command.args([addr.to_string(), to.to_string()]);
            }
            BalancerKind::Nginx => {
                let config = write(folder, "stream.conf", &nginx(folder, addr, to, transport))?;
                command.arg("-e").arg(folder.join("stream.log")).arg("-c").arg(config);
            }
            BalancerKind::HaProxy => {
                command.args(["-db", "-f"]).arg(write(folder, "haproxy.cfg", &haproxy(addr, to))?);
            }
        }
        let mut process = Program::start(self.name, &mut command)?;
        match transport {
            Transport::Tcp => process.wait_for_port(addr)?,
            Transport::Udp => {
                process.wait_for("listen", || Socket::find(addr.port()).is_some())?;
            }
        }
        Ok(Running { addr, process, _collector: collector })
    }
}

fn write(folder: &TempFolder, name: &str, text: &str) -> Result<PathBuf, ActionError> {
    let path = folder.join(name);
    fs::write(&path, text).doing(format_args!("write {}", path.display()))?;
    Ok(path)
}

fn nginx(folder: &TempFolder, addr: SocketAddr, to: SocketAddr, transport: Transport) -> String {
    let udp = if transport == Transport::Udp { " udp" } else { "" };
    let pid = folder.join("stream.pid");
    let mut text = format!("load_module {STREAM};\ndaemon off;\nmaster_process off;\n");
    let _ = write!(
        text,
        "pid {};\nworker_rlimit_nofile 20000;\nevents {{ worker_connections {}; }}\nstream {{\n  server {{ listen {addr}{udp}; proxy_pass {to}; }}\n}}\n",
        pid.display(),
        MOST * 2
    );
    text
}

fn haproxy(addr: SocketAddr, to: SocketAddr) -> String {
    format!(
        "global\n  nbthread 1\n  maxconn {MOST}\ndefaults\n  mode tcp\n  option splice-auto\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\nlisten all\n  bind {addr}\n  server web {to}\n"
    )
}

/// Processor time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cpu {
    pub(super) user: Duration,
    pub(super) system: Duration,
}

impl Running {
    /// What it has used so far, all threads together, to within a hundredth of a second.
    pub(super) fn cpu(&self) -> Result<Cpu, ActionError> {
        let path = format!("/proc/{}/stat", self.process.id());
        let text = fs::read_to_string(&path).doing(format_args!("read {path}"))?;
        // The name may hold blanks, and ends with the last parenthesis.
        let words = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
        let mut ticks = words.skip(11).map(|word| word.parse().unwrap_or(0));
        let mut next = || Duration::from_millis(ticks.next().unwrap_or(0) * 10);
        Ok(Cpu { user: next(), system: next() })
    }

    /// Resident memory in KiB.
    pub(super) fn memory(&self) -> Result<u64, ActionError> {
        let path = format!("/proc/{}/status", self.process.id());
        let text = fs::read_to_string(&path).doing(format_args!("read {path}"))?;
        let found = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = found.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok());
        number.ok_or_else(|| {
            ActionError::new(format!("{path} does not say how much memory there is"))
        })
    }
}
