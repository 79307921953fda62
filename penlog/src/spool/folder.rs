//! The folder of one run: lock, name of the input, segments, and confirmed position.
//!
//! ```text
//! DIR/TIME-RANDOM/lock                    locked while the run lives
//! DIR/TIME-RANDOM/input                   the pipe read by the run
//! DIR/TIME-RANDOM/OFFSET.spool            a segment, by the first byte's offset
//! DIR/TIME-RANDOM/position                confirmed offset
//! ```

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};
use pen_records::shipment::StreamId;
use xxhash_rust::xxh3::xxh3_128;

/// The ending of segments.
const SEGMENT: &str = ".spool";

/// A folder locked by this process.
#[derive(Debug)]
pub(super) struct SpoolFolder {
    path: PathBuf,
    _lock: Flock<File>,
    stream: StreamId,
    /// Oldest first.
    pub(super) segments: VecDeque<SpoolSegment>,
}

/// A segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SpoolSegment {
    /// Offsets of the first byte and behind the last one.
    pub(super) start: u64,
    pub(super) end: u64,
}

/// The identity of a pipe, as text. An unfinished line goes on when the next run reads the same pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InputName(Option<String>);

impl InputName {
    /// Returns the name of a pipe; other inputs have none.
    pub(super) fn of(input: &File) -> Self {
        let name = || {
            let meta = input.metadata().ok().filter(|meta| meta.file_type().is_fifo())?;
            // Numbers of pipes begin anew when the system does.
            let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
            Some(format!("{} {} {}", meta.dev(), meta.ino(), boot.trim()))
        };
        Self(name())
    }

    pub(super) const fn is_pipe(&self) -> bool {
        self.0.is_some()
    }
}

impl SpoolFolder {
    /// Creates the folder of this run, visible once locked.
    pub(super) fn create(spool: &Path, input: &InputName) -> io::Result<Self> {
        let micros = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let name = format!("{:020}-{:032x}", micros.as_micros(), crate::follow::random());
        let (hidden, path) = (spool.join(format!(".{name}")), spool.join(&name));
        DirBuilder::new().mode(0o750).create(&hidden)?;
        let lock = lock_now(new_file(&hidden.join("lock"))?)?;
        if let InputName(Some(name)) = input {
            new_file(&hidden.join("input"))?.write_all(name.as_bytes())?;
        }
        fs::rename(hidden, &path)?;
        Ok(Self { path, _lock: lock, stream: stream(&name), segments: VecDeque::new() })
    }

    /// Returns the folders of ended runs, oldest first.
    pub(super) fn of_ended_runs(spool: &Path) -> io::Result<Vec<Self>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(spool)? {
            names.extend(entry?.file_name().into_string().ok().filter(|name| is_name(name)));
        }
        names.sort();
        Ok(names.iter().filter_map(|name| Self::lock(spool, name)).collect())
    }

    /// Locks the folder of a run; `None` if another process holds the lock.
    fn lock(spool: &Path, name: &str) -> Option<Self> {
        let path = spool.join(name);
        let lock = OpenOptions::new().write(true).open(path.join("lock")).ok()?;
        let lock = lock_now(lock).ok()?;
        let mut segments = Vec::new();
        for entry in fs::read_dir(&path).ok()? {
            let entry = entry.ok()?;
            let len = entry.metadata().ok()?.len();
            let start = entry.file_name().to_str().and_then(segment_start);
            let segment = |start: u64| Some(SpoolSegment { start, end: start.checked_add(len)? });
            segments.extend(start.and_then(segment));
        }
        segments.sort_by_key(|segment| segment.start);
        Some(Self { path, _lock: lock, stream: stream(name), segments: segments.into() })
    }

    pub(super) fn stream(&self) -> StreamId {
        self.stream
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of all segments.
    pub(super) fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end - segment.start).sum()
    }

    /// Whether the run read this input.
    pub(super) fn is_of(&self, input: &InputName) -> bool {
        let text = fs::read_to_string(self.path.join("input")).ok();
        input.0.is_some() && text == input.0
    }

    /// Creates a segment, for reading and writing.
    pub(super) fn add_segment(&mut self, start: u64) -> io::Result<File> {
        let file = new_file(&self.segment(start))?;
        self.segments.push_back(SpoolSegment { start, end: start });
        Ok(file)
    }

    pub(super) fn open_segment(&self, start: u64) -> io::Result<File> {
        File::open(self.segment(start))
    }

    /// Removes the oldest segment.
    pub(super) fn remove_segment(&mut self) -> io::Result<()> {
        match self.segments.pop_front() {
            Some(segment) => fs::remove_file(self.segment(segment.start)),
            None => Ok(()),
        }
    }

    /// Removes the folder and all files in the folder.
    pub(super) fn remove(self) -> io::Result<()> {
        fs::remove_dir_all(&self.path)
    }

    /// Returns the saved position.
    pub(super) fn position(&self) -> u64 {
        let text = fs::read_to_string(self.path.join("position")).unwrap_or_default();
        let first = self.segments.front().map_or(0, |segment| segment.start);
        text.trim().parse().unwrap_or(first).max(first)
    }

    pub(super) fn save_position(&self, offset: u64) -> io::Result<()> {
        let new = self.path.join("position.new");
        fs::write(&new, format!("{offset}\n"))?;
        fs::rename(new, self.path.join("position"))
    }

    fn segment(&self, start: u64) -> PathBuf {
        self.path.join(format!("{start:020}{SEGMENT}"))
    }
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o640).open(path)
}

fn lock_now(file: File) -> io::Result<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error.into())
}

fn is_name(name: &str) -> bool {
    let is = |part: &str, len| part.len() == len && part.bytes().all(|it| it.is_ascii_hexdigit());
    name.split_once('-').is_some_and(|(time, random)| is(time, 20) && is(random, 32))
}

fn segment_start(name: &str) -> Option<u64> {
    name.strip_suffix(SEGMENT)?.parse().ok()
}

fn stream(name: &str) -> StreamId {
    StreamId(xxh3_128(name.as_bytes()).to_le_bytes())
}
