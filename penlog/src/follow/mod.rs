//! Follows log files through every rotation.
//!
//! A file is identified by device and inode, whatever its current name. Following drops no line: when the queue is full,
//! reading pauses. A file is also a stream of numbered bytes: the next run asks the collector for the position by name.

mod content;
mod copies;
mod file;
mod id;
mod pattern;
mod rotated;
mod start;
pub(crate) mod state;
mod stream;

use std::hash::{BuildHasher as _, RandomState};
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

use copies::NewFile;
use file::{FileStart, FollowedFile, ReadProgress};
use id::FileId;
use state::ShipperState;
use stream::HostKey;

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
/// How long to wait for room in the queue before looking at signals again.
const PATIENCE: Duration = Duration::from_millis(100);

/// The followed files and the position in each.
#[derive(Debug)]
pub(crate) struct FileFollower {
    files: FollowSettings,
    followed: Vec<FollowedFile>,
    /// The host's part of stream names.
    host: HostKey,
    /// Host and port of the collector.
    collector: String,
    /// Whether there is a state file of an earlier run.
    resumes: bool,
    /// Positions were taken from the collector, or given up.
    has_begun: bool,
    saved: ShipperState,
    /// A file or a name is new: the state file has to say so before lines are sent.
    is_unsaved: bool,
    /// Messages printed so far.
    complaints: Vec<String>,
}

/// Follows files until a stop signal, then reads what is there once more.
pub(crate) fn follow(
    mut follower: FileFollower,
    queue: &SendQueue,
    signals: &StopSignals,
) -> FileFollower {
    let start = Instant::now();
    let (mut scan, mut save) = (start, start + SAVE);
    loop {
        let now = Instant::now();
        if now >= scan {
            follower.scan(now, queue);
            scan = now + SCAN;
        }
        if std::mem::take(&mut follower.is_unsaved) {
            follower.save_or_complain(queue);
        }
        let stop = signals.stop();
        if stop {
            // Nobody waits for an answer any more.
            queue.positions.give_up();
        }
        let busy = follower.begin(queue) && follower.read(queue, signals, now);
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
    fn matches(&self) -> Vec<std::path::PathBuf> {
        self.files.patterns.iter().flat_map(|path| pattern::matches(path)).collect()
    }

    /// Opens new files and closes files whose names are gone. The last line of such a file may have no end: it is sent
    /// before.
    fn scan(&mut self, now: Instant, queue: &SendQueue) {
        let paths = self.matches();
        let there: Vec<FileId> = paths.iter().filter_map(|path| FileId::of(path)).collect();
        for path in &paths {
            self.open_new(path, FileStart::default(), now);
        }
        for file in &mut self.followed {
            if !there.contains(&file.id) && now >= file.active + LET_GO {
                file.end_line(queue, &self.host, now);
            }
        }
        self.followed.retain(|file| {
            there.contains(&file.id) || now < file.active + LET_GO || !file.is_settled()
        });
    }

    /// Starts to follow a file that appeared. A copy of a followed file has been read already.
    fn open_new(&mut self, path: &Path, start: FileStart, now: Instant) {
        if FileId::of(path).is_some_and(|id| self.followed.iter().any(|file| file.id == id)) {
            return;
        }
        let found = self.followed.iter().find_map(|file| {
            let new = file.compare(path).unwrap_or(NewFile::Log);
            (new != NewFile::Log).then_some((new, &file.path))
        });
        let Some((new, original)) = found else { return self.open(path, start, now) };
        let what = format!("{} is a copy of {}", path.display(), original.display());
        match new {
            NewFile::OldCopy(start) => {
                self.open(path, start, now);
                let text = format!(
                    "{what} from before it was truncated: reading only what comes behind byte {}; rotate by \
                     renaming, since copytruncate loses lines",
                    start.offset
                );
                complain(&mut self.complaints, text);
            }
            _ if std::fs::metadata(path).is_ok_and(|meta| meta.len() > 0) => {
                complain(&mut self.complaints, format!("{what}: its lines are not sent again"));
            }
            _ => {}
        }
    }

    /// Starts to follow a file, unless it is followed already.
    fn open(&mut self, path: &Path, start: FileStart, now: Instant) {
        if FileId::of(path).is_some_and(|id| self.followed.iter().any(|file| file.id == id)) {
            return;
        }
        match FollowedFile::open(path, start, &self.host, now) {
            Ok(file) => {
                self.followed.push(file);
                self.is_unsaved = true;
            }
            // The file was just renamed or removed, or appears later.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let hint = match error.kind() {
                    io::ErrorKind::PermissionDenied => {
                        ": run penlog in the group that may read it, such as adm"
                    }
                    _ => "",
                };
                let text = format!("cannot read {}: {error}{hint}", path.display());
                complain(&mut self.complaints, text);
            }
        }
    }

    /// Reads from each file. Returns whether any file had data.
    fn read(&mut self, queue: &SendQueue, signals: &StopSignals, now: Instant) -> bool {
        let mut busy = false;
        for file in &mut self.followed {
            for _ in 0..TURN {
                match file.read(queue, &self.host, PATIENCE, now) {
                    Ok(ReadProgress::Read) => busy = true,
                    Ok(ReadProgress::Truncated(read)) => {
                        busy = true;
                        complain(&mut self.complaints, truncated(file, read));
                    }
                    Ok(ReadProgress::Named) => {
                        (busy, self.is_unsaved) = (true, true);
                        break;
                    }
                    Ok(ReadProgress::End) => break,
                    // The sender lags behind: try again later.
                    Ok(ReadProgress::Full) => return !signals.hurry(),
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
        let positions = self.followed.iter_mut().map(|file| file.position(done)).collect();
        let collector = queue.is_ours().then(|| self.collector.clone());
        let host = Some(self.host.clone());
        let state = ShipperState { positions, collector, host };
        if state != self.saved {
            state::save(path, &state).doing(format_args!("write {}", path.display()))?;
            self.saved = state;
        }
        Ok(())
    }
}

fn truncated(file: &FollowedFile, read: u64) -> String {
    format!(
        "{} was truncated: lines behind byte {read} are lost unless a copy of it is followed; rotate by renaming",
        file.path.display()
    )
}

/// Prints each message once.
fn complain(complaints: &mut Vec<String>, text: String) {
    if complaints.len() < 1000 && !complaints.contains(&text) {
        tell(&text);
        complaints.push(text);
    }
}

/// Returns 128 random bits.
pub(crate) fn random() -> u128 {
    let half = |seed: u8| u128::from(RandomState::new().hash_one(seed));
    half(0) << 64 | half(1)
}

#[cfg(test)]
mod tests {
    use super::state::FilePosition;
    use super::*;

    #[test]
    fn what_is_not_there_is_said() {
        let folder = pen_testing::TempFolder::new();
        let log = folder.write("a.log", "one\n");
        let id = FileId::of(&log).expect("it is there");
        let there = FilePosition { id, offset: 100, path: log.clone(), stream: None };
        let other = FileId { inode: u64::MAX, ..id };
        let gone =
            FilePosition { id: other, offset: 7, path: folder.join("gone.log"), stream: None };
        let state = folder.join("state");
        let earlier = ShipperState { positions: vec![there, gone], ..ShipperState::default() };
        let patterns = vec![log, folder.join("b*.log"), folder.join("c.log")];
        let files = FollowSettings { patterns, from_start: false, state: Some(state) };
        let (queue, _waker) = SendQueue::new(1 << 20).expect("a queue");
        let said = FileFollower::new(files, (Some(earlier), String::new()), &queue).complaints;
        for part in [
            "a.log has 4 bytes, fewer than the 100",
            "gone.log that an earlier run read up to byte 7 is gone",
            "b*.log yet: waiting for one",
            "c.log yet: waiting for one",
        ] {
            assert!(said.iter().any(|text| text.contains(part)), "{part}: {said:?}");
        }
        assert_eq!(said.len(), 4, "{said:?}");
    }

    #[test]
    fn the_last_line_of_a_file_that_is_gone_is_sent_without_its_end() {
        let folder = pen_testing::TempFolder::new();
        let log = folder.write("a.log", "one\ntwo");
        let (queue, _waker) = SendQueue::new(1 << 20).expect("a queue");
        let files = FollowSettings { patterns: vec![log.clone()], from_start: true, state: None };
        let mut follower = FileFollower::new(files, (None, String::new()), &queue);
        let now = Instant::now();
        let host = follower.host.clone();
        let read = follower.followed[0].read(&queue, &host, PATIENCE, now);
        assert_eq!(read.ok(), Some(ReadProgress::Read));
        assert_eq!(queue.pushed(), 4);
        std::fs::remove_file(&log).expect("it can be removed");
        follower.scan(now + LET_GO, &queue);
        assert_eq!(queue.pushed(), 8, "one and two, each with a line feed");
    }
}
