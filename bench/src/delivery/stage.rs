//! The programs of a scene of numbered lines.

use std::fs;
use std::io::{self, PipeReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::count::{Numbers, files};
use super::isolated;
use super::log_file::{Copier, LogFile};
use super::scene::{Action, Disturbance, FileChange, FullDisk, LineInput, Scene};
use super::writer::{LineOutput, Writer, pause};
use super::{DeliveryCounts, Finding};
use crate::stage::{
    FaultyRelay, Program, TempFolder, bytes_of, free_port, sibling, start_penlogd,
    wait_while_growing,
};
use crate::{ActionError, Doing as _};

/// How long nothing comes when all has come that will.
const QUIET: Duration = Duration::from_secs(30);
/// The size of a disk that runs full, in MiB.
const DISK: u32 = 192;

/// The running programs.
pub(super) struct Stage<'a> {
    pub(super) folder: &'a TempFolder,
    pub(super) scene: &'a Scene,
    /// Of the collector.
    pub(super) addr: SocketAddr,
    pub(super) collector: Program,
    shipper: Program,
    /// What the shipper reads, if that outlives it.
    pipe: Option<PipeReader>,
    relay: Option<FaultyRelay>,
    pub(super) writer: Writer,
    pub(super) file: Option<Arc<Mutex<LogFile>>>,
    copier: Option<Copier>,
    /// How often the merged log was rotated.
    pub(super) rotations: u32,
    /// What programs said that have ended.
    pub(super) messages: String,
    pub(super) remark: Option<String>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(folder: &'a TempFolder, scene: &'a Scene) -> Result<Self, ActionError> {
        let (input, disturbance) = (scene.input, scene.disturbance);
        prepare(folder, disturbance)?;
        let addr = free_port(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let collector = start_collector(folder, addr, scene.has_journal)?;
        let relay = scene.faults.map(|faults| FaultyRelay::start(addr, faults));
        let relay = relay.transpose()?;
        if disturbance.is_first {
            isolated::cut_off(addr.port())?;
        }
        let (pipe, end) = io::pipe().doing("make a pipe")?;
        let pipe = (input == LineInput::Spool).then_some(pipe);
        let path = log_folder(folder).join("access.log");
        let file = LogFile::create(path.clone(), input).doing("make a log")?;
        let file = input.is_file().then(|| Arc::new(Mutex::new(file)));
        let to = relay.as_ref().map_or(addr, FaultyRelay::addr);
        let mut shipper = start_shipper(folder, scene, to, pipe.as_ref())?;
        let output = match (&file, input) {
            (Some(file), _) => LineOutput::File(Arc::clone(file)),
            (None, LineInput::Spool) => LineOutput::Pipe(Box::new(end)),
            (None, _) => LineOutput::Pipe(Box::new(shipper.take_stdin())),
        };
        let writer = Writer::start(output, scene.rate);
        let copier = (input == LineInput::Copied).then(|| Copier::start(path));
        let (messages, remark, rotations) = (String::new(), None, 0);
        Ok(Self {
            folder,
            scene,
            addr,
            collector,
            shipper,
            pipe,
            relay,
            writer,
            file,
            copier,
            rotations,
            messages,
            remark,
        })
    }

    /// Lets traffic go on.
    pub(super) fn go_on(&self, time: Duration) {
        pause(time);
    }

    pub(super) fn end_collector(&mut self, signal: Signal) -> Result<(), ActionError> {
        self.collector.stop(signal)?;
        self.messages += &(self.collector.messages() + "\n");
        Ok(())
    }

    pub(super) fn start_collector(&mut self) -> Result<(), ActionError> {
        self.collector = start_collector(self.folder, self.addr, self.scene.has_journal)?;
        Ok(())
    }

    pub(super) fn end_shipper(&mut self, signal: Signal) -> Result<(), ActionError> {
        self.shipper.stop(signal)?;
        self.messages += &(self.shipper.messages() + "\n");
        Ok(())
    }

    pub(super) fn start_shipper(&mut self) -> Result<(), ActionError> {
        let to = self.relay.as_ref().map_or(self.addr, FaultyRelay::addr);
        self.shipper = start_shipper(self.folder, self.scene, to, self.pipe.as_ref())?;
        Ok(())
    }

    /// Waits until the merged log has as many bytes as were written, or no more come.
    pub(super) fn settle(&self) {
        wait_while_growing(QUIET, self.writer.bytes(), || self.merged_bytes());
    }

    fn merged_bytes(&self) -> u64 {
        let files = files(&out(self.folder), "merged.log").unwrap_or_default();
        files.iter().map(|path| bytes_of(path)).sum()
    }

    /// Ends the writer and, when all lines have arrived or no more do, the programs. Counts what came of the lines.
    pub(super) fn end(mut self) -> Result<Finding, ActionError> {
        let sent = self.writer.finish()?;
        self.copier = None;
        self.settle();
        self.end_shipper(Signal::SIGTERM)?;
        self.end_collector(Signal::SIGTERM)?;
        let (sent, merged) =
            (Numbers::first(sent), Numbers::read(&files(&out(self.folder), "merged.log")?)?);
        let mut remarks: Vec<String> = self.remark.take().into_iter().collect();
        let mut told = told(&self.messages);
        if self.scene.input == LineInput::Copied {
            let logs = Numbers::read(&files(&log_folder(self.folder), "access.log")?)?;
            let cut = sent.missing_in(&logs);
            remarks
                .push(format!("{cut} were cut by the truncation, before anybody could read them"));
            told = told.max(cut);
        }
        let counts: DeliveryCounts = sent.compared(&merged, told);
        if told > 0 {
            remarks.push(format!("{told} told"));
        }
        if merged.torn > 0 {
            remarks.push(format!("{} torn lines", merged.torn));
        }
        let remark = (!remarks.is_empty()).then(|| remarks.join("; "));
        Ok(Finding { counts, clients: None, remark, messages: self.messages })
    }
}

/// Where the merged log is.
pub(super) fn out(folder: &TempFolder) -> PathBuf {
    folder.join("out")
}

/// Where the followed file is.
pub(super) fn log_folder(folder: &TempFolder) -> PathBuf {
    folder.join("log")
}

fn prepare(folder: &TempFolder, disturbance: Disturbance) -> Result<(), ActionError> {
    for own in [out(folder), log_folder(folder)] {
        fs::create_dir_all(&own).doing(format_args!("make {}", own.display()))?;
    }
    match disturbance.action {
        Action::DiskFull(FullDisk::Log, _) => isolated::mount_memory(&out(folder), DISK),
        Action::DiskFull(FullDisk::Journal, _) => {
            isolated::mount_memory(&folder.join("journal"), DISK)
        }
        Action::Changed(FileChange::DeviceChanged) => {
            isolated::mount_overlay(&log_folder(folder), folder.path())
        }
        _ => Ok(()),
    }
}

pub(super) fn start_collector(
    folder: &TempFolder,
    addr: SocketAddr,
    has_journal: bool,
) -> Result<Program, ActionError> {
    start_collector_by(Command::new(sibling("penlogd")?), folder, addr, has_journal)
}

pub(super) fn start_collector_by(
    command: Command,
    folder: &TempFolder,
    addr: SocketAddr,
    has_journal: bool,
) -> Result<Program, ActionError> {
    let journal = has_journal.then(|| folder.join("journal"));
    start_penlogd(command, addr, &out(folder).join("merged.log"), journal.as_deref())
}

fn start_shipper(
    folder: &TempFolder,
    scene: &Scene,
    to: SocketAddr,
    pipe: Option<&PipeReader>,
) -> Result<Program, ActionError> {
    let mut command = Command::new(sibling("penlog")?);
    command.args([to.ip().to_string(), to.port().to_string()]).args(scene.shipper_args);
    match scene.input {
        LineInput::Pipe => {}
        LineInput::Spool => {
            command.arg("--spool").arg(folder.join("spool"));
        }
        LineInput::File | LineInput::Renamed | LineInput::Removed | LineInput::Copied => {
            let has_others = matches!(scene.input, LineInput::Renamed | LineInput::Copied);
            let name = if has_others { "access.log*" } else { "access.log" };
            command.args(["--from-start", "--state"]).arg(folder.join("state"));
            command.arg("--follow").arg(log_folder(folder).join(name));
        }
    }
    let stdin = match pipe {
        Some(pipe) => pipe.try_clone().doing("share a pipe")?.into(),
        None => Stdio::piped(),
    };
    Program::start("penlog", command.stdin(stdin))
}

/// The lost lines that messages of the programs tell.
pub(super) fn told(messages: &str) -> u64 {
    let number = |value: &serde_json::Value, path: &str| {
        value.pointer(path).and_then(serde_json::Value::as_u64).unwrap_or(0)
    };
    let report = messages.lines().rev().find_map(|line| {
        let json = line.get(line.find("{\"adds_up\"")?..)?;
        serde_json::from_str::<serde_json::Value>(json).ok()
    });
    let report = report.unwrap_or_default();
    let by_penlog: u64 = messages.lines().filter_map(shipper_losses).sum();
    by_penlog.max(number(&report, "/lost/lines_by_shippers"))
        + number(&report, "/lost/lines_in_them")
        + number(&report, "/log/dropped")
}

/// `… shipped, 0 sent one by one; 7 dropped because there was no room, 0 truncated, 1 not sent`: 8.
fn shipper_losses(line: &str) -> Option<u64> {
    let (before, after) = line.split_once(" dropped because there was no room, ")?;
    // The counters at the end, not what was said meanwhile.
    let (_, dropped) = before.split_once(" sent one by one; ")?;
    let (_, lost) = after.split_once(" truncated, ")?;
    let lost = lost.split(' ').next()?;
    Some(dropped.parse::<u64>().ok()? + lost.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_read_from_the_messages_of_both_programs() {
        let messages = "penlog: 10 lines shipped, 0 sent one by one; 7 dropped because there was no room, 2 \
                        truncated, 1 not sent\n\
                        penlogd: {\"adds_up\":true,\"log\":{\"dropped\":5},\"lost\":{\"lines_by_shippers\":9,\
                        \"lines_in_them\":3}}\n";
        assert_eq!(told(messages), 9 + 3 + 5);
        assert_eq!(told(messages.lines().next().unwrap()), 8);
        assert_eq!(told("penlog: hello"), 0);
    }
}
