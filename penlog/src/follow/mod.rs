//! Follows log files through every rotation.
//!
//! A file is identified by device and inode, whatever its current name. Following drops no line: when the queue is full,
//! reading pauses.

mod file;
mod id;
mod pattern;
mod state;

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};

use pen_daemon::error::{ActionError, Doing as _, chain};

use crate::cli::FollowSettings;
use crate::input::timeout;
use crate::queue::SendQueue;
use crate::report::tell;
use crate::signals::StopSignals;

use file::{FollowedFile, ReadProgress};
use id::FileId;
use state::FilePosition;

/// Pause between two looks for new lines in idle files.
const LOOK: Duration = Duration::from_millis(100);
/// Pause between two scans for new and renamed files.
const SCAN: Duration = Duration::from_millis(500);
/// Pause between two writes of the state file.
const SAVE: Duration = Duration::from_secs(1);
/// A file whose name no longer matches is closed after this long without new data: web servers write to the old
/// file until they are told to open the new one.
const LET_GO: Duration = Duration::from_secs(60);
/// Reads of one file before the next file gets its share.
const TURN: usize = 16;

/// The followed files and the position in each.
#[derive(Debug)]
pub(crate) struct FileFollower {
    files: FollowSettings,
    followed: Vec<FollowedFile>,
    /// Positions stored by an earlier run; `None` without a state file.
    resume: Option<Vec<FilePosition>>,
    saved: Vec<FilePosition>,
    /// Messages printed so far.
    complaints: Vec<String>,
}

/// Follows files until a stop signal, then reads what is there once more.
pub(crate) fn follow(
    files: FollowSettings,
    queue: &SendQueue,
    signals: &StopSignals,
) -> FileFollower {
    let mut follower = FileFollower::new(files);
    let start = Instant::now();
    let (mut scan, mut save) = (start, start + SAVE);
    loop {
        let now = Instant::now();
        if now >= scan {
            follower.scan(now);
            scan = now + SCAN;
        }
        let stop = signals.stop();
        let busy = follower.read(queue, signals, now);
        if now >= save {
            follower.save_or_complain(queue);
            save = now + SAVE;
        }
        if stop && (!busy || signals.hurry()) {
            return follower;
        }
        if !busy {
            let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, timeout(LOOK));
        }
    }
}

impl FileFollower {
    fn new(files: FollowSettings) -> Self {
        let mut complaints = Vec::new();
        let resume = files.state.as_deref().and_then(|path| {
            state::load(path).unwrap_or_else(|error| {
                complain(&mut complaints, format!("cannot read {}: {error}", path.display()));
                None
            })
        });
        let mut this = Self {
            files,
            followed: Vec::new(),
            resume: resume.clone(),
            saved: Vec::new(),
            complaints,
        };
        this.first_scan(resume.unwrap_or_default());
        this
    }

    /// Resumes where an earlier run stopped, also in renamed files, and starts new files at their end (or at their
    /// start, if asked for or if there was an earlier run).
    fn first_scan(&mut self, resume: Vec<FilePosition>) {
        let now = Instant::now();
        for position in resume {
            if let Some(path) = state::find(&position) {
                self.open(&path, Some(position.offset), now);
            }
        }
        let new_to_us = self.resume.is_some() || self.files.from_start;
        for path in self.matches() {
            let end = std::fs::metadata(&path).map_or(0, |meta| meta.len());
            self.open(&path, Some(if new_to_us { 0 } else { end }), now);
        }
    }

    fn matches(&self) -> Vec<std::path::PathBuf> {
        self.files.patterns.iter().flat_map(|path| pattern::matches(path)).collect()
    }

    /// Opens new files and closes files whose names are gone.
    fn scan(&mut self, now: Instant) {
        let paths = self.matches();
        let there: Vec<FileId> = paths.iter().filter_map(|path| FileId::of(path)).collect();
        for path in &paths {
            self.open(path, Some(0), now);
        }
        self.followed.retain(|file| {
            there.contains(&file.id) || now < file.active + LET_GO || !file.is_settled()
        });
    }

    /// Starts to follow a file, unless it is followed already.
    fn open(&mut self, path: &Path, offset: Option<u64>, now: Instant) {
        if FileId::of(path).is_some_and(|id| self.followed.iter().any(|file| file.id == id)) {
            return;
        }
        match FollowedFile::open(path, offset.unwrap_or(0), now) {
            Ok(file) => self.followed.push(file),
            // The file was just renamed or removed, or appears later.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                complain(&mut self.complaints, format!("cannot read {}: {error}", path.display()));
            }
        }
    }

    /// Reads from each file. Returns whether any file had data.
    fn read(&mut self, queue: &SendQueue, signals: &StopSignals, now: Instant) -> bool {
        let mut busy = false;
        for file in &mut self.followed {
            for _ in 0..TURN {
                match file.read(queue, now) {
                    Ok(ReadProgress::Read) => busy = true,
                    Ok(ReadProgress::End) => break,
                    // The sender lags behind: try again later.
                    Ok(ReadProgress::Full) if signals.hurry() => return false,
                    Ok(ReadProgress::Full) => return true,
                    Err(error) => {
                        let text = format!("cannot read {}: {error}", file.path.display());
                        complain(&mut self.complaints, text);
                        break;
                    }
                }
            }
        }
        busy
    }

    fn save_or_complain(&mut self, queue: &SendQueue) {
        if let Err(error) = self.save(queue) {
            complain(&mut self.complaints, chain(&error));
        }
    }

    /// Writes to the state file how far each file has reached the collector.
    pub(crate) fn save(&mut self, queue: &SendQueue) -> Result<(), ActionError> {
        let Some(path) = &self.files.state else { return Ok(()) };
        let done = queue.done();
        let positions: Vec<_> = self.followed.iter_mut().map(|file| file.position(done)).collect();
        if positions != self.saved {
            state::save(path, &positions).doing(format_args!("write {}", path.display()))?;
            self.saved = positions;
        }
        Ok(())
    }
}

/// Prints each message once.
fn complain(complaints: &mut Vec<String>, text: String) {
    if complaints.len() < 1000 && !complaints.contains(&text) {
        tell(&text);
        complaints.push(text);
    }
}
