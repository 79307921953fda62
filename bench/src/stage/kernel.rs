//! The kernel as a balancer: nftables sends connections to the servers in turn, under an address of its own, and
//! `conntrack` prints who they are from.
//!
//! All of it happens in a network of this process, so that the machine's own rules stay as they are.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};

use super::{Program, require_installed, run_to_end};
use crate::{ActionError, Doing as _};

/// Moves this thread, and all threads and programs that it starts from now on, into a network of its own with
/// nothing but loopback.
///
/// # Errors
/// Without the right to do so, or without `ip`, `nft` or `conntrack`.
pub fn enter_own_network() -> Result<(), ActionError> {
    for program in ["ip", "nft", "conntrack"] {
        require_installed(program)?;
    }
    unshare(CloneFlags::CLONE_NEWNET).doing("make a network of its own")?;
    run_to_end(Command::new(require_installed("ip")?).args(["link", "set", "lo", "up"]))?;
    Ok(())
}

/// Sets the rules and starts `conntrack`, which prints into the file `log`; waits until it does.
pub(super) fn start(
    folder: &Path,
    addr: SocketAddr,
    servers: &[SocketAddr],
    log: &Path,
) -> Result<Program, ActionError> {
    let path = folder.join("rules.nft");
    let mut file = File::create(&path).doing(format_args!("make {}", path.display()))?;
    file.write_all(rules(addr, servers).as_bytes())
        .doing(format_args!("write {}", path.display()))?;
    run_to_end(Command::new(require_installed("nft")?).arg("-f").arg(&path))?;
    let out = File::options().create(true).append(true).open(log);
    let out = out.doing(format_args!("open {}", log.display()))?;
    let mut command = Command::new(require_installed("conntrack")?);
    command.args(["-E", "-e", "NEW", "-o", "timestamp", "-p", "tcp", "-b", "8388608"]);
    let mut process = Program::start("conntrack", command.stdin(Stdio::null()).stdout(out))?;
    process.wait_for("print connections", || {
        // A connection for it to print.
        TcpStream::connect(addr).is_ok() && fs::metadata(log).is_ok_and(|log| log.len() > 0)
    })?;
    Ok(process)
}

/// Replaces the rules of a balancer before.
fn rules(addr: SocketAddr, servers: &[SocketAddr]) -> String {
    let mut map = String::new();
    for (number, server) in servers.iter().enumerate() {
        let comma = if number == 0 { "" } else { ", " };
        write!(map, "{comma}{number} : {} . {}", server.ip(), server.port())
            .expect("writing to a String does not fail");
    }
    format!(
        "table ip pen {{ }}
delete table ip pen
table ip pen {{
  chain in {{
    type nat hook output priority -100;
    ip daddr {} tcp dport {} dnat ip addr . port to numgen inc mod {} map {{ {map} }};
  }}
  chain out {{
    type nat hook postrouting priority 100;
    ip saddr 127.1.0.0/16 ip daddr 127.0.1.0/24 snat to {};
  }}
}}
",
        addr.ip(),
        addr.port(),
        servers.len(),
        addr.ip()
    )
}
