//! Puts packets on the disk that the collector does not confirm, and takes over those of earlier runs.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::CollectorRoad;
use super::run::{RecordRun, RunRules};
use super::spool::{self, DiskPackets, EarlierRun};

/// Pause between two looks at what can be removed from the disk.
const TIDY: Duration = Duration::from_secs(1);

/// A folder for packets that the collector has not confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolSettings {
    /// The folder.
    pub folder: PathBuf,
    /// Most bytes of packets.
    pub bytes: u64,
}

impl SpoolSettings {
    /// Makes the folder.
    pub(in crate::logs) fn check(&self) -> Result<(), String> {
        let made = spool::make_folder(&self.folder);
        made.map_err(|error| format!("log_spool {}: {error}", self.folder.display()))
    }

    /// Bytes of a segment: small enough that space becomes free soon.
    fn segment(&self) -> u64 {
        (self.bytes / 16).clamp(64 << 10, 16 << 20)
    }
}

impl CollectorRoad {
    /// Whether packets go to the disk.
    pub(super) fn may_store(&self) -> bool {
        self.spool.is_some() && self.spool_trouble.is_none()
    }

    /// Writes packets to the disk that have waited, all of them if `is_last`.
    pub(super) fn store(&mut self, is_last: bool, now: Instant) {
        let Some(spool) = &self.spool else { return };
        let is_waiting = self.spool_trouble.is_some() && self.tidy.is_some_and(|tidy| now < tidy);
        let due = self.own.store_due(now);
        if is_waiting && !is_last
            || !due.is_some_and(|due| is_last || due <= now || self.own.is_short_of_memory())
        {
            return;
        }
        let used: u64 = self.disks().map(DiskPackets::size).sum();
        let room = spool.bytes.saturating_sub(used);
        if self.own.disk.is_none() {
            let first = self.own.first_kept();
            match DiskPackets::create(&spool.folder, self.own.origin, first, spool.segment()) {
                Ok(disk) => self.own.disk = Some(disk),
                Err(error) => return self.cannot_store(&error),
            }
        }
        match self.own.store(is_last, room, now) {
            Ok(true) => self.spool_trouble = None,
            Ok(false) => {
                let (folder, mib) = (spool.folder.display(), spool.bytes >> 20);
                self.spool_trouble = Some(format!(
                    "the spool {folder} has reached {mib} MiB (log_spool_size): what does not fit into memory is lost \
                     until the collector takes some"
                ));
            }
            Err(error) => self.cannot_store(&error),
        }
    }

    fn cannot_store(&mut self, error: &io::Error) {
        let folder = self.spool.as_ref().map(|spool| spool.folder.display().to_string());
        self.spool_trouble = Some(format!(
            "cannot write to the spool {}: {error}; what does not fit into memory is lost",
            folder.unwrap_or_default()
        ));
    }

    fn disks(&self) -> impl Iterator<Item = &DiskPackets> {
        std::iter::once(&self.own).chain(&self.earlier).filter_map(|run| run.disk.as_ref())
    }

    /// Removes from the disk what is confirmed, and tries again to write to it.
    pub(super) fn tidy(&mut self, now: Instant) {
        if self.spool.is_none() || self.tidy.is_some_and(|tidy| now < tidy) {
            return;
        }
        let mut faults = Vec::new();
        for run in std::iter::once(&mut self.own).chain(&mut self.earlier) {
            faults.extend(run.disk.as_mut().and_then(|disk| disk.tidy().err()));
        }
        let is_needed = self.disks().next().is_some() || self.spool_trouble.is_some();
        self.tidy = is_needed.then(|| now + TIDY);
        if let Some(error) = faults.first() {
            self.spool_trouble = Some(format!("cannot tidy the spool: {error}"));
        }
    }
}

/// Takes over what earlier runs have left.
pub(super) fn earlier(spool: &SpoolSettings, rules: RunRules) -> io::Result<VecDeque<RecordRun>> {
    let fail = |error: io::Error| {
        io::Error::new(error.kind(), format!("log_spool {}: {error}", spool.folder.display()))
    };
    spool::make_folder(&spool.folder).map_err(fail)?;
    let found = DiskPackets::of_earlier_runs(&spool.folder, spool.segment()).map_err(fail)?;
    let runs = found.into_iter().map(|EarlierRun { origin, clock, packets }| {
        RecordRun::new(origin, clock, rules, 0, Some(packets))
    });
    Ok(runs.collect())
}
