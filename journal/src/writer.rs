//! Appends entries, and makes them durable.

use std::io;

use crate::Position;
use crate::disk::{Disk, DiskFile};
use crate::entry::{segment_head, write_entry};
use crate::reader::JournalReader;

/// Sizes of a journal, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalLimits {
    /// Entries of a segment, about.
    pub segment: u64,
    /// Entries not durable yet, all of them in memory.
    pub tail: usize,
}

impl Default for JournalLimits {
    fn default() -> Self {
        Self { segment: 64 << 20, tail: 16 << 20 }
    }
}

/// A journal never gets so far: names with such positions are not its own.
const HIGHEST: u64 = 1 << 62;

/// No room for an entry until older ones are durable: nothing was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailFull;

/// Appends to a journal.
///
/// Entries stay in memory until durable, so a failed sync loses nothing: the tail is written again,
/// into a new segment.
#[derive(Debug)]
pub struct JournalWriter<D: Disk> {
    disk: D,
    limits: JournalLimits,
    /// Bases of all segments with entries, oldest first, the current one included.
    bases: Vec<Position>,
    current: Option<OpenSegment<D::File>>,
    /// Where the segment of the next entry begins: behind `current` if that is full. A segment is
    /// begun once everything before is durable, so only the last one can have a torn end.
    base: Position,
    /// Entries from `durable` on.
    tail: Vec<u8>,
    durable: Position,
    /// All bytes before are in files.
    written: Position,
}

#[derive(Debug)]
struct OpenSegment<F> {
    file: F,
    base: Position,
}

/// Work for another thread: makes entries durable.
#[derive(Debug)]
#[must_use]
pub struct SyncTask<D: Disk> {
    disk: D,
    file: D::File,
    upto: Position,
}

impl<D: Disk> SyncTask<D> {
    /// Waits for the disk. Returns the new durable position, for [`JournalWriter::synced`].
    ///
    /// # Errors
    /// The disk fails; see [`JournalWriter::sync_failed`].
    pub fn run(self) -> io::Result<Position> {
        self.file.sync()?;
        self.disk.sync_names()?;
        Ok(self.upto)
    }
}

impl<D: Disk + Clone> JournalWriter<D> {
    /// Opens a journal, an empty one if the folder has no segments. Everything found is made durable.
    ///
    /// # Errors
    /// The disk fails. Damage is no error: a torn end is left out.
    pub fn open(disk: D, limits: JournalLimits) -> io::Result<Self> {
        let bases = segments(&disk)?;
        let end = match bases.last() {
            None => Position::default(),
            Some(&last) => {
                let mut reader = JournalReader::new(disk.clone(), last);
                while reader.skip()? {}
                disk.open(&name(last))?.sync()?;
                let end = reader.position();
                if end.0 >= HIGHEST / 2 {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!(
                            "no journal has so many bytes as {} says: remove that file",
                            name(last)
                        ),
                    ));
                }
                end
            }
        };
        disk.sync_names()?;
        Ok(Self {
            disk,
            limits,
            bases,
            current: None,
            base: end,
            tail: Vec::new(),
            durable: end,
            written: end,
        })
    }

    /// Appends an entry with a body in several parts. Returns the position behind the entry.
    ///
    /// # Errors
    /// The tail is full.
    pub fn append(&mut self, body: &[&[u8]]) -> Result<Position, TailFull> {
        let len: usize = body.iter().map(|part| part.len()).sum();
        if !self.tail.is_empty() && self.tail.len() + len > self.limits.tail {
            return Err(TailFull);
        }
        write_entry(body, &mut self.tail);
        let is_begun = self.current.as_ref().is_some_and(|current| current.base >= self.base);
        if is_begun && self.end().0 - self.base.0 >= self.limits.segment {
            self.base = self.end();
        }
        Ok(self.end())
    }

    /// The position behind the last entry.
    #[must_use]
    pub fn end(&self) -> Position {
        Position(self.durable.0 + self.tail.len() as u64)
    }

    /// Everything before this position is in files, and survives the death of the process.
    #[must_use]
    pub fn written(&self) -> Position {
        self.written
    }

    /// Everything before this position survives a power cut.
    #[must_use]
    pub fn durable(&self) -> Position {
        self.durable
    }

    /// The position of the oldest entry.
    #[must_use]
    pub fn start(&self) -> Position {
        self.bases.first().copied().unwrap_or(self.durable)
    }

    /// Whether the next entry is the first one of a segment.
    #[must_use]
    pub fn begins_segment(&self) -> bool {
        self.base == self.end()
    }

    /// Changes the size of segments from the next entry on.
    pub fn set_segment(&mut self, bytes: u64) {
        self.limits.segment = bytes;
    }

    /// Writes appended entries to files.
    ///
    /// # Errors
    /// The disk is full or fails; a later call continues.
    pub fn write(&mut self) -> io::Result<()> {
        loop {
            let is_over = self.current.as_ref().is_some_and(|current| current.base < self.base);
            if is_over && self.durable == self.base {
                self.current = None;
            }
            let upto = match &self.current {
                Some(current) if current.base < self.base => self.base,
                Some(_) => self.end(),
                None if self.written < self.end() => {
                    self.begin_segment()?;
                    continue;
                }
                None => return Ok(()),
            };
            let [from, upto] = [self.written, upto].map(|at| at.0 - self.durable.0);
            let [from, upto] = [from, upto].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
            let Some(current) = self.current.as_mut().filter(|_| from < upto) else {
                return Ok(());
            };
            match current.file.append(&self.tail[from..upto])? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                len => self.written.0 += len as u64,
            }
        }
    }

    /// Returns the work that makes all written entries durable; `None` if they are.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn sync_task(&self) -> io::Result<Option<SyncTask<D>>> {
        if self.written == self.durable {
            return Ok(None);
        }
        let Some(current) = &self.current else { return Ok(None) };
        let file = current.file.again()?;
        Ok(Some(SyncTask { disk: self.disk.clone(), file, upto: self.written }))
    }

    /// Takes the result of a [`SyncTask`].
    pub fn synced(&mut self, upto: Position) {
        let upto = upto.min(self.written);
        if let Some(len) = upto.0.checked_sub(self.durable.0) {
            self.tail.drain(..usize::try_from(len).unwrap_or(usize::MAX));
            self.durable = upto;
        }
    }

    /// Takes the failure of a [`SyncTask`]: nobody knows what is on the disk behind the durable
    /// position. It is written again, to a new segment.
    pub fn sync_failed(&mut self) {
        self.current = None;
        self.written = self.durable;
    }

    /// Makes all entries durable, in this thread.
    ///
    /// # Errors
    /// The disk is full or fails; a later call continues.
    pub fn flush(&mut self) -> io::Result<()> {
        loop {
            self.write()?;
            let Some(task) = self.sync_task()? else { return Ok(()) };
            match task.run() {
                Ok(upto) => self.synced(upto),
                Err(error) => {
                    self.sync_failed();
                    return Err(error);
                }
            }
        }
    }

    /// Removes all segments whose entries are before `position`.
    ///
    /// # Errors
    /// The disk fails; some may be left.
    pub fn remove_before(&mut self, position: Position) -> io::Result<()> {
        while let [oldest, next, ..] = self.bases[..]
            && next <= position.min(self.durable)
        {
            // One after the other, the name of the next one first: a power cut leaves no gap, and never no segment.
            self.disk.sync_names()?;
            match self.disk.remove(&name(oldest)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            self.bases.remove(0);
        }
        Ok(())
    }

    /// Begins the segment at `written`. One of that name has no whole entry, or none that is durable.
    fn begin_segment(&mut self) -> io::Result<()> {
        let (base, name) = (self.written, name(self.written));
        let mut file = if self.bases.last() == Some(&base) {
            self.disk.open(&name)?
        } else {
            let file = self.disk.create(&name)?;
            self.bases.push(base);
            file
        };
        // Never removed: the end of the segment before may look like entries.
        file.truncate(0)?;
        append_all(&mut file, &segment_head(base))?;
        self.current = Some(OpenSegment { file, base });
        Ok(())
    }
}

fn append_all(file: &mut impl DiskFile, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.append(bytes)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            len => bytes = &bytes[len..],
        }
    }
    Ok(())
}

/// Returns the name of the segment that begins at `base`.
pub(crate) fn name(base: Position) -> String {
    format!("{:020}.journal", base.0)
}

/// Returns the bases of all segments, oldest first.
pub(crate) fn segments(disk: &impl Disk) -> io::Result<Vec<Position>> {
    let base = |name: &String| {
        let number = name.strip_suffix(".journal").filter(|number| number.len() == 20)?;
        number.parse().ok().filter(|base| *base < HIGHEST).map(Position)
    };
    let mut bases: Vec<_> = disk.names()?.iter().filter_map(base).collect();
    bases.sort_unstable();
    Ok(bases)
}
