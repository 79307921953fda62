//! What disturbances do to the programs and files of a scene.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::isolated;
use super::log_file::LogFile;
use super::scene::{Action, FileChange, FullDisk, Target};
use super::stage::{Stage, log_folder, out};
use super::writer::pause;
use crate::{ActionError, Doing as _};

impl Stage<'_> {
    /// Disturbs for so long, then lets all run again.
    pub(super) fn disturb(&mut self, action: Action, away: Duration) -> Result<(), ActionError> {
        match action {
            Action::Nothing => pause(away),
            Action::End(Target::Collector, signal) => {
                self.end_collector(signal)?;
                pause(away);
                self.start_collector()?;
            }
            Action::End(Target::Shipper, signal) => {
                self.end_shipper(signal)?;
                pause(away);
                self.start_shipper()?;
            }
            Action::End(Target::Balancer, _) => {
                return Err(ActionError::new("this scene has no balancer"));
            }
            Action::Stopped => {
                self.collector.signal(Signal::SIGSTOP)?;
                pause(away);
                self.collector.signal(Signal::SIGCONT)?;
            }
            Action::LogRotated => {
                self.rotations += 1;
                let log = out(self.folder).join("merged.log");
                let old = log.with_extension(format!("log.{}", self.rotations));
                fs::rename(&log, old).doing("rotate the merged log")?;
                self.collector.signal(Signal::SIGHUP)?;
                pause(away);
            }
            Action::CutOff => {
                isolated::cut_off(self.addr.port())?;
                self.come_back(away)?;
            }
            Action::DiskFull(disk, signal) => self.fill_disk(disk, signal, away)?,
            Action::Changed(change) => self.change_file(change, away)?,
        }
        Ok(())
    }

    /// Lets packets pass again after so long.
    pub(super) fn come_back(&mut self, away: Duration) -> Result<(), ActionError> {
        pause(away);
        isolated::reconnect()
    }

    fn disk(&self, disk: FullDisk) -> PathBuf {
        match disk {
            FullDisk::Log => out(self.folder),
            FullDisk::Journal => self.folder.join("journal"),
        }
    }

    /// A service manager would start the collector again and again: it is tried while the disk is full, and afterwards.
    fn fill_disk(
        &mut self,
        disk: FullDisk,
        signal: Option<Signal>,
        away: Duration,
    ) -> Result<(), ActionError> {
        let folder = self.disk(disk);
        isolated::fill(&folder)?;
        pause(away / 2);
        let mut runs = true;
        if let Some(signal) = signal {
            self.end_collector(signal)?;
            if let Err(error) = self.start_collector() {
                runs = false;
                self.messages += &format!("while the disk was full: {}\n", super::chain(&error));
                self.remark = Some("did not start while the disk was full".to_owned());
            }
        }
        pause(away / 2);
        isolated::unfill(&folder)?;
        if runs { Ok(()) } else { self.start_collector() }
    }

    fn change_file(&mut self, change: FileChange, away: Duration) -> Result<(), ActionError> {
        let file = self.file.clone().ok_or_else(|| ActionError::new("no file is followed"))?;
        // Nothing is written meanwhile, so that all lines of the old file can have arrived.
        let mut file = file.lock().map_err(|_poison| ActionError::new("the writer panicked"))?;
        if change == FileChange::InodeReused {
            self.settle();
        }
        self.end_shipper(Signal::SIGKILL)?;
        self.change(change, &mut file)?;
        drop(file);
        pause(away);
        self.start_shipper()
    }

    fn change(&mut self, change: FileChange, file: &mut LogFile) -> Result<(), ActionError> {
        match change {
            FileChange::InodeReused => {
                if !file.reuse_inode().doing("make a log anew")? {
                    self.remark = Some("the file system gave no inode again".to_owned());
                }
                Ok(())
            }
            FileChange::Packed => file.pack(),
            FileChange::DeviceChanged => {
                let (log, beside) = (log_folder(self.folder), self.folder.path());
                file.while_closed(|| isolated::renumber_device(&log, beside))
            }
        }
    }
}
