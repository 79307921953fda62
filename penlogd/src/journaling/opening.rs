//! The start: reads the journal and the end of the log.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};
use pen_daemon::error::{ActionError, Doing as _};
use pen_daemon::logfile::{LinesBehind, LogFile, lines_behind};
use pen_journal::Folder;
use pen_journal::writer::JournalLimits;
use pen_records::time::micros;
use tracing::warn;

use super::{JournalSettings, Journaling, KEPT};
use crate::journal::{Checkpoint, CollectorJournal, Retention, Survey};

/// A read journal, before the log is opened.
pub(crate) struct OpenedJournal {
    settings: JournalSettings,
    disk: Folder,
    lock: Flock<File>,
    survey: Survey,
    behind: LinesBehind,
    log_bytes: usize,
}

impl OpenedJournal {
    /// Reads the journal, and counts the lines of the log behind the last checkpoint.
    ///
    /// # Errors
    /// Another collector uses the folder, the disk fails, or the log is no plain file.
    pub(crate) fn read(
        settings: JournalSettings,
        log: Option<&Path>,
        log_bytes: usize,
    ) -> Result<Self, ActionError> {
        let folder = settings.folder.display();
        let doing = format!("use the journal {folder}");
        let Some(log) = log else {
            let text = "it needs a log file (-l): nobody can know what the reader of the standard output has got";
            return Err(ActionError::cannot(doing, io::Error::other(text)));
        };
        let disk = Folder::open(&settings.folder).doing(&doing)?;
        let lock = lock(&settings.folder).doing(&doing)?;
        let survey = Survey::of(disk.clone()).doing(&doing)?;
        let behind = match survey.checkpoint {
            Some(checkpoint) => lines_behind(log, checkpoint.place)
                .doing(format_args!("read the end of {}", log.display()))?,
            None => LinesBehind::Lines(0),
        };
        Ok(Self { settings, disk, lock, survey, behind, log_bytes })
    }

    /// Begins the work with the opened log.
    ///
    /// # Errors
    /// The disk fails, or the log is no plain file.
    pub(crate) fn begin(self, log: &LogFile) -> Result<Journaling, ActionError> {
        let Self { settings, disk, lock, mut survey, behind, log_bytes } = self;
        let name = settings.folder.display().to_string();
        let doing = format!("use the journal {name}");
        let place = log.place().ok_or_else(|| io::Error::other("the log has to be a plain file"));
        let place = place.doing(&doing)?;
        say(&survey, &name);
        let written = std::mem::take(&mut survey.decided).written(survey.checkpoint, &behind);
        if written.doubtful > 0 {
            warn!(
                "the log of the last run {}: {} lines that may have been in it are written again",
                if behind == LinesBehind::Gone { "is gone" } else { "was cut" },
                written.doubtful
            );
        }
        if written.foreign > 0 {
            warn!(
                "the log has at least {} lines that no run of this penlogd has written: as many of its own may be missing; \
                 nobody else should write there",
                written.foreign
            );
        }
        let least = settings.wait.saturating_add(KEPT);
        let retention = Retention {
            micros: micros(settings.window.max(least)),
            least: micros(least),
            bytes: settings.bytes,
        };
        let segment = (settings.bytes / 8).clamp(1 << 20, 64 << 20);
        let limits = JournalLimits { segment, ..JournalLimits::default() };
        let opened = (&survey, written.lines);
        let journal =
            CollectorJournal::open(disk.clone(), limits, settings.durability, retention, opened)
                .doing(&doing)?;
        let checked = Checkpoint { lines: written.lines, place };
        let (before, done, checked_at) = (written.lines, written.done, Instant::now());
        Ok(Journaling {
            name,
            disk,
            journal,
            _lock: lock,
            survey,
            done,
            before,
            log_bytes,
            durability: settings.durability,
            log_file: log.file().doing(&doing)?,
            since: None,
            syncing: None,
            retry: None,
            is_failing: false,
            is_full: false,
            checked,
            checked_at,
            checking: None,
        })
    }
}

/// Warns of unreadable parts of a journal.
fn say(survey: &Survey, name: &str) {
    for range in &survey.damaged {
        let bytes = range.to.0 - range.from.0;
        warn!(
            "the journal {name} is damaged: {bytes} bytes from {} on cannot be read",
            range.from.0
        );
    }
    if survey.unknown > 0 {
        warn!(
            "{} entries of the journal {name} are of a later release, and left out",
            survey.unknown
        );
    }
}

/// Locks the folder against further collectors, for as long as the result lives.
fn lock(folder: &Path) -> io::Result<Flock<File>> {
    let file = File::open(folder)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::errno::Errno::EWOULDBLOCK => io::Error::other("another penlogd uses it"),
        error => error.into(),
    })
}
