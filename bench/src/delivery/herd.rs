//! Many senders with a backlog, when their collector comes back.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::Finding;
use super::count::{Numbers, files};
use super::stage::{out, start_collector_by, told};
use super::writer::{line, pause};
use crate::stage::{
    Program, TempFolder, bytes_of, free_port, installed, peak_memory, sibling, wait_while_growing,
};
use crate::{ActionError, Doing as _};

/// How long nothing comes when all has come that will.
const QUIET: Duration = Duration::from_secs(8);
/// What `--memory` says on a machine with 256 MiB.
const MEMORY: &str = "128";

#[derive(Clone, Copy, Debug)]
pub(super) struct HerdScene {
    pub(super) senders: u64,
    /// Lines that wait in the file of each.
    pub(super) backlog: u64,
    pub(super) has_journal: bool,
}

impl HerdScene {
    pub(super) fn play(self, folder: &TempFolder) -> Result<Finding, ActionError> {
        fs::create_dir_all(out(folder)).doing("make a folder")?;
        let addr = free_port(Ipv4Addr::LOCALHOST);
        let bytes = self.write_backlog(folder)?;
        let mut senders = (0..self.senders)
            .map(|sender| start_sender(folder, sender, addr))
            .collect::<Result<Vec<_>, _>>()?;
        // They have asked, and nobody was there.
        pause(Duration::from_secs(2));
        let started = Instant::now();
        let mut collector = self.start_collector(folder, addr)?;
        let merged = out(folder).join("merged.log");
        wait_while_growing(QUIET, bytes, || bytes_of(&merged));
        let took = started.elapsed();
        let peak = peak_memory(collector.id()) / 1_024;
        let mut messages = String::new();
        for sender in &mut senders {
            sender.stop(Signal::SIGTERM)?;
            messages += &(sender.messages() + "\n");
        }
        collector.stop(Signal::SIGTERM)?;
        messages += &collector.messages();
        let sent = Numbers::first(self.senders * self.backlog);
        let merged = Numbers::read(&files(&out(folder), "merged.log")?)?;
        let counts = sent.compared(&merged, told(&messages));
        let remark = format!(
            "peak memory of penlogd {peak} MiB with --memory {MEMORY}; all in {:.0} s",
            took.as_secs_f64()
        );
        Ok(Finding { counts, clients: None, remark: Some(remark), messages })
    }

    /// Returns how many bytes of lines there are.
    fn write_backlog(self, folder: &TempFolder) -> Result<u64, ActionError> {
        let mut bytes = 0;
        for sender in 0..self.senders {
            let file = File::create(folder.join(format!("s{sender}.log"))).doing("make a log")?;
            let mut file = BufWriter::new(file);
            for number in sender * self.backlog..(sender + 1) * self.backlog {
                let line = line(number);
                bytes += line.len() as u64;
                file.write_all(line.as_bytes()).doing("write a log")?;
            }
            file.flush().doing("write a log")?;
        }
        Ok(bytes)
    }

    /// As an ordinary user has it: its receive buffer is as large as the kernel allows, and no larger.
    fn start_collector(
        self,
        folder: &TempFolder,
        addr: SocketAddr,
    ) -> Result<Program, ActionError> {
        let penlogd = sibling("penlogd")?;
        let mut command = match installed("setpriv") {
            Some(setpriv) if nix::unistd::geteuid().is_root() => {
                let mut command = Command::new(setpriv);
                command.args(["--bounding-set", "-net_admin"]).arg(penlogd);
                command
            }
            _ => Command::new(penlogd),
        };
        command.args(["--memory", MEMORY]);
        start_collector_by(command, folder, addr, self.has_journal)
    }
}

fn start_sender(
    folder: &TempFolder,
    sender: u64,
    addr: SocketAddr,
) -> Result<Program, ActionError> {
    let mut command = Command::new(sibling("penlog")?);
    let from = Ipv4Addr::new(127, 0, 2, u8::try_from(sender % 250).unwrap_or(0) + 1);
    command.args([addr.ip().to_string(), addr.port().to_string(), from.to_string()]);
    command.args(["--from-start", "--state"]).arg(folder.join(format!("state{sender}")));
    command.arg("--follow").arg(folder.join(format!("s{sender}.log")));
    Program::start("penlog", command.stdin(Stdio::null()))
}
