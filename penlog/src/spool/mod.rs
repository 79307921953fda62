//! The spool: input on disk first, and shipped from there. A kill of penlog loses no line.
//!
//! - `folder`: the folder of a run; later runs adopt the folders of ended runs.
//! - `writer`: moves the input into segments.
//! - `reader`: reads segments as a stream, and removes confirmed segments.
//! - `gate`: drops whole lines when there is no room.
//!
//! A single thread writes and reads, so lines are read as soon as written. The thread never waits for the collector.

mod folder;
mod gate;
mod reader;
mod writer;

use std::collections::VecDeque;
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Uid, chown};
use pen_daemon::error::{ActionError, Doing as _};

use self::folder::{InputName, SpoolFolder};
use self::gate::{LineGate, SpoolEnd};
use self::reader::{SpoolProgress, SpoolReader};
use self::writer::{Moved, SegmentWriter};
use crate::cli::SpoolSettings;
use crate::input::{InputSink, InputTaken, pause};
use crate::queue::SendQueue;
use crate::report::tell;
use crate::signals::StopSignals;

/// Pause between two looks for folders of ended runs, and between two writes of positions.
const SCAN: Duration = Duration::from_secs(5);
const SAVE: Duration = Duration::from_secs(1);
/// Pause while lines wait for the collector, and while lines wait for room in the queue.
const CONFIRM: Duration = Duration::from_millis(200);
const RETRY: Duration = Duration::from_millis(10);
/// How long to go on without progress once the input has ended.
const DRAIN: Duration = Duration::from_secs(10);
/// Reads before the input gets its turn.
const TURN: usize = 16;
/// Bytes of a read, for inputs other than pipes.
const READ: usize = 256 << 10;
/// Sizes of a segment.
const SMALLEST: u64 = 64 << 10;
const LARGEST: u64 = 64 << 20;

/// The spool of this run, and the spools left by earlier runs.
#[derive(Debug)]
pub(crate) struct Spool {
    settings: SpoolSettings,
    own: OwnSpool,
    gate: LineGate,
    /// Oldest first.
    left: VecDeque<SpoolReader>,
    buffer: Vec<u8>,
    /// Whether the kernel can move the input.
    can_move: bool,
    scan: Instant,
    save: Instant,
    /// Messages printed so far.
    said: Vec<String>,
}

#[derive(Debug)]
struct OwnSpool {
    reader: SpoolReader,
    writer: SegmentWriter,
    /// Why the last write failed.
    fault: Option<String>,
}

impl SpoolEnd for OwnSpool {
    fn write(&mut self, bytes: &[u8]) -> usize {
        let (written, result) = self.writer.write(bytes, &mut self.reader.folder);
        self.fault = result.err().map(|error| error.to_string());
        written
    }

    fn is_at_line_end(&mut self) -> bool {
        // A segment that cannot be read is no end of a line.
        self.writer.is_at_line_end(&self.reader.folder).unwrap_or(false)
    }
}

impl Spool {
    /// Creates the folder of this run, and adopts the folders of ended runs. A folder of the same pipe is continued.
    pub(crate) fn new(
        settings: SpoolSettings,
        input: &File,
        queue: &SendQueue,
    ) -> Result<Self, ActionError> {
        let (input, folder) = (InputName::of(input), settings.folder.clone());
        let doing = format!("use the spool {}", folder.display());
        make_folder(&folder).doing(&doing)?;
        let mut left = SpoolFolder::of_ended_runs(&folder).doing(&doing)?;
        let own = match left.iter().position(|folder| folder.is_of(&input)) {
            Some(index) => left.remove(index),
            None => SpoolFolder::create(&folder, &input).doing(&doing)?,
        };
        let reader = SpoolReader::new(own);
        let segment = (settings.bytes / 16).clamp(SMALLEST, LARGEST);
        let writer = SegmentWriter::new(reader.end(), segment);
        let now = Instant::now();
        let mut this = Self {
            settings,
            can_move: input.is_pipe(),
            own: OwnSpool { reader, writer, fault: None },
            gate: LineGate::default(),
            left: VecDeque::new(),
            buffer: Vec::new(),
            scan: now + SCAN,
            save: now + SAVE,
            said: Vec::new(),
        };
        if !this.own.reader.has_begun() {
            queue.positions.ask([this.own.reader.folder.stream()]);
        } else if !left.is_empty() {
            this.own.reader.wait();
        }
        this.adopt(left, queue);
        Ok(this)
    }

    /// Adopts folders of ended runs, and asks for the collector's positions.
    fn adopt(&mut self, folders: Vec<SpoolFolder>, queue: &SendQueue) {
        for folder in folders {
            queue.positions.ask([folder.stream()]);
            self.left.push_back(SpoolReader::new(folder));
            // The sender asks.
            queue.wake();
        }
    }

    fn size(&self) -> u64 {
        let left = self.left.iter().map(|reader| reader.folder.size());
        left.sum::<u64>() + self.own.reader.folder.size()
    }

    /// Reads from the segments into the queue. Returns the reason for unread lines; `None` if all are read.
    fn read(&mut self, queue: &SendQueue) -> Option<SpoolProgress> {
        let mut left = None;
        let ended = self.left.iter_mut().map(|reader| (reader, true));
        for (reader, has_ended) in ended.chain([(&mut self.own.reader, false)]) {
            for turn in 1..=TURN {
                match reader.read(queue) {
                    Ok(SpoolProgress::Read) if turn < TURN => {}
                    Ok(SpoolProgress::Read | SpoolProgress::Full) => {
                        return Some(SpoolProgress::Full);
                    }
                    Ok(SpoolProgress::Unknown) => {
                        left = Some(SpoolProgress::Unknown);
                        break;
                    }
                    Ok(SpoolProgress::End) => {
                        if has_ended {
                            reader.finish_line(queue);
                        }
                        break;
                    }
                    Err(error) => {
                        let path = reader.folder.path().display();
                        say(&mut self.said, format!("cannot read the spool {path}: {error}"));
                        break;
                    }
                }
            }
        }
        left
    }

    /// Reads, confirms, takes over.
    fn work(&mut self, queue: &SendQueue) -> Option<SpoolProgress> {
        let now = Instant::now();
        self.begin(queue);
        let left = self.read(queue);
        self.confirm(queue, now);
        self.scan(queue, now);
        left
    }

    /// Begins at the collector's positions, once answered.
    fn begin(&mut self, queue: &SendQueue) {
        if self.left.iter().chain([&self.own.reader]).all(SpoolReader::has_begun) {
            return;
        }
        let Some(positions) = queue.positions.answers() else { return };
        for reader in self.left.iter_mut().chain([&mut self.own.reader]) {
            if !reader.has_begun() {
                let position = positions.get(&reader.folder.stream()).copied();
                reader.begin(position.unwrap_or_default());
            }
        }
    }

    /// Removes confirmed segments.
    fn confirm(&mut self, queue: &SendQueue, now: Instant) {
        let (done, is_time) = (queue.done(), now >= self.save);
        let mut faults = Vec::new();
        for reader in self.left.iter_mut().chain([&mut self.own.reader]) {
            faults.extend(reader.confirm(done).err());
            if is_time {
                faults.extend(reader.save().err());
            }
        }
        let all = std::mem::take(&mut self.left).into_iter();
        let (finished, left): (VecDeque<_>, _) = all.partition(SpoolReader::is_done);
        self.left = left;
        for reader in finished {
            faults.extend(reader.folder.remove().err());
        }
        if is_time {
            self.save = now + SAVE;
        }
        if let Some(error) = faults.first() {
            let folder = self.settings.folder.display();
            say(&mut self.said, format!("cannot tidy the spool {folder}: {error}"));
        }
    }

    fn scan(&mut self, queue: &SendQueue, now: Instant) {
        if now >= self.scan {
            self.scan = now + SCAN;
            // The folder was readable at the start; if it is not now, nothing can be taken over.
            if let Ok(folders) = SpoolFolder::of_ended_runs(&self.settings.folder) {
                self.adopt(folders, queue);
            }
        }
    }

    /// Reads bytes into memory, and from there into the spool as far as there is room.
    fn take_by_reading(&mut self, mut input: &File, queue: &SendQueue) -> io::Result<InputTaken> {
        self.buffer.resize(READ, 0);
        let len = input.read(&mut self.buffer)?;
        if len == 0 {
            return Ok(InputTaken::End);
        }
        let has_room = self.size() < self.settings.bytes;
        let dropped = self.gate.pass(&self.buffer[..len], has_room, &mut self.own);
        queue.add_dropped(dropped);
        if dropped > 0 || self.own.fault.is_some() {
            let folder = self.settings.folder.display();
            let text = match &self.own.fault {
                Some(fault) => {
                    format!("cannot write to the spool {folder}: {fault}; new lines are dropped")
                }
                None => format!(
                    "the spool {folder} has reached {} MiB (--spool-size): new lines are dropped until the \
                     collector takes some",
                    self.settings.bytes >> 20
                ),
            };
            say(&mut self.said, text);
        }
        Ok(InputTaken::Some)
    }

    /// After the end: saves confirmed positions, and removes the folder or reports the unconfirmed rest.
    pub(crate) fn settle(mut self, queue: &SendQueue) {
        self.save = Instant::now();
        self.confirm(queue, self.save);
        let left = self.left.iter().chain([&self.own.reader]).filter(|reader| !reader.is_done());
        let bytes: u64 = left.map(|reader| reader.folder.size()).sum();
        if bytes > 0 {
            tell(&format!(
                "about {bytes} bytes of lines wait in the spool {} for the next run",
                self.settings.folder.display()
            ));
        } else if self.own.reader.is_done() {
            // What cannot be removed is taken over, and found empty, by the next run.
            let _ = self.own.reader.folder.remove();
        }
    }
}

impl InputSink for Spool {
    fn take(&mut self, input: &File, queue: &SendQueue) -> io::Result<InputTaken> {
        if self.can_move && self.gate.is_open() && self.size() < self.settings.bytes {
            let OwnSpool { reader, writer, .. } = &mut self.own;
            match writer.move_from(input, &mut reader.folder) {
                Moved::Some => return Ok(InputTaken::Some),
                Moved::InputEnd => return Ok(InputTaken::End),
                // Whether the input or the disk is the cause shows now.
                Moved::Not => {}
            }
        }
        self.take_by_reading(input, queue)
    }

    fn turn(&mut self, queue: &SendQueue) -> Option<Duration> {
        let left = self.work(queue);
        let is_waiting = self.left.iter().chain([&self.own.reader]).any(SpoolReader::is_waiting);
        Some(match left {
            Some(SpoolProgress::Full) => RETRY,
            None if !is_waiting => SCAN,
            _ => CONFIRM,
        })
    }

    fn end(&mut self, end: InputTaken, queue: &SendQueue, signals: &StopSignals) {
        queue.add_dropped(self.gate.end());
        let (mut last, mut done) = (Instant::now(), queue.done());
        loop {
            if self.work(queue).is_none() {
                break;
            }
            if queue.done() != done {
                (last, done) = (Instant::now(), queue.done());
            }
            if last.elapsed() >= DRAIN || signals.hurry() {
                return;
            }
            pause(RETRY);
        }
        if end == InputTaken::End {
            self.own.reader.finish_line(queue);
        }
    }
}

/// Makes the folder of `--spool`, if it is missing, for a user; `None`: for the current one.
///
/// # Errors
/// The folder cannot be made.
pub(crate) fn make_folder_for(folder: &Path, ids: Option<(Uid, Gid)>) -> Result<(), ActionError> {
    let is_new = !folder.exists();
    let doing = format!("use the spool {}", folder.display());
    make_folder(folder).doing(&doing)?;
    match ids.filter(|_| is_new) {
        Some((uid, gid)) => chown(folder, Some(uid), Some(gid)).doing(&doing),
        None => Ok(()),
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(folder)
}

/// Prints each message once.
fn say(said: &mut Vec<String>, text: String) {
    if said.len() < 100 && !said.contains(&text) {
        tell(&text);
        said.push(text);
    }
}
