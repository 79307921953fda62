//! Lines that are added to files, through every rotation.
//!
//! A file is known by device and inode, whatever it is called at the moment. Here nothing is
//! dropped: when the queue is full, the files wait.

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
use crate::queue::LineQueue;
use crate::report::tell;
use crate::signals::StopSignals;

use file::{FollowedFile, ReadProgress};
use id::FileId;
use state::FilePosition;

/// How often files are looked at for new lines, while there are none.
const LOOK: Duration = Duration::from_millis(100);
/// How often it is looked for new files, and for those that were renamed.
const SCAN: Duration = Duration::from_millis(500);
/// How often positions are written down.
const SAVE: Duration = Duration::from_secs(1);
/// A file that is no longer matched is let go when nothing was added for so long: web servers
/// go on writing to it until they are told to open the new one.
const LET_GO: Duration = Duration::from_secs(60);
/// Lines of one file at a time, so that a busy one does not starve the others.
const TURN: usize = 16;

/// The files that are followed, and where we are in them.
#[derive(Debug)]
pub(crate) struct FileFollower {
    files: FollowSettings,
    followed: Vec<FollowedFile>,
    /// Where an earlier run stopped; `None` if none has left word.
    resume: Option<Vec<FilePosition>>,
    saved: Vec<FilePosition>,
    /// What has been complained about.
    complaints: Vec<String>,
}

/// Reads until told to end; then what is there, once.
pub(crate) fn follow(
    files: FollowSettings,
    queue: &LineQueue,
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

    /// Goes on where an earlier run stopped, also in files that were renamed since, and begins
    /// with the others at their end, or at their start.
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

    /// Looks for new files, and lets go of those that are no longer there.
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

    /// Follows a file, unless it is followed already.
    fn open(&mut self, path: &Path, offset: Option<u64>, now: Instant) {
        if FileId::of(path).is_some_and(|id| self.followed.iter().any(|file| file.id == id)) {
            return;
        }
        match FollowedFile::open(path, offset.unwrap_or(0), now) {
            Ok(file) => self.followed.push(file),
            // It appears later, or was a name from a moment ago.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                complain(&mut self.complaints, format!("cannot read {}: {error}", path.display()));
            }
        }
    }

    /// Reads a turn of each file; says whether there was anything.
    fn read(&mut self, queue: &LineQueue, signals: &StopSignals, now: Instant) -> bool {
        let mut busy = false;
        for file in &mut self.followed {
            for _ in 0..TURN {
                match file.read(queue, now) {
                    Ok(ReadProgress::Read) => busy = true,
                    Ok(ReadProgress::End) => break,
                    // The sender is behind: try again when it has got on.
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

    fn save_or_complain(&mut self, queue: &LineQueue) {
        if let Err(error) = self.save(queue) {
            complain(&mut self.complaints, chain(&error));
        }
    }

    /// Writes down how far the lines that were read have reached the collector.
    pub(crate) fn save(&mut self, queue: &LineQueue) -> Result<(), ActionError> {
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

/// Once for each trouble.
fn complain(complaints: &mut Vec<String>, text: String) {
    if complaints.len() < 1000 && !complaints.contains(&text) {
        tell(&text);
        complaints.push(text);
    }
}
