//! Reads entries from a position on.

use std::io;

use crate::Position;
use crate::disk::{Disk, DiskFile};
use crate::entry::{ENTRY_HEAD, Parsed, SEGMENT_HEAD, claimed_length, parse_entry};
use crate::writer::{name, segments};

/// Bytes read at once.
const BLOCK: usize = 256 << 10;
/// Bytes summed up in the search for an entry behind damage: damaged bytes may claim to be long entries.
const SEARCHED: usize = 512 << 20;

/// Reads a journal in order, also while entries are appended.
#[derive(Debug)]
pub struct JournalReader<D: Disk> {
    disk: D,
    at: Position,
    segment: Option<ReadSegment<D::File>>,
    /// Bytes from `at` on, as far as read: `bytes[head..]`.
    bytes: Vec<u8>,
    head: usize,
    damaged: Vec<DamagedRange>,
}

#[derive(Debug)]
struct ReadSegment<F> {
    file: F,
    base: Position,
    /// Where the next segment begins.
    next: Option<Position>,
}

/// A part of a journal without readable entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedRange {
    /// The first unreadable byte.
    pub from: Position,
    /// The next readable entry.
    pub to: Position,
}

impl<D: Disk> JournalReader<D> {
    /// Reads from `position` on, which has to be the position of an entry, or from the oldest entry
    /// if that one was removed.
    pub fn new(disk: D, position: Position) -> Self {
        let (bytes, damaged) = (Vec::new(), Vec::new());
        Self { disk, at: position, segment: None, bytes, head: 0, damaged }
    }

    /// The position of the next entry.
    pub fn position(&self) -> Position {
        self.at
    }

    /// The damaged parts so far. The end of the last segment, torn by a crash, is none.
    pub fn damaged(&self) -> &[DamagedRange] {
        &self.damaged
    }

    /// Returns the next entry's body; `None` at the end, where a later call may find more.
    ///
    /// # Errors
    /// The disk fails.
    pub fn read(&mut self) -> io::Result<Option<&[u8]>> {
        Ok(self.read_at()?.map(|(_, body)| body))
    }

    /// Returns the next entry's position and its body; `None` at the end, where a later call may
    /// find more.
    ///
    /// # Errors
    /// The disk fails.
    pub fn read_at(&mut self) -> io::Result<Option<(Position, &[u8])>> {
        let Some(len) = self.whole()? else { return Ok(None) };
        let (at, start) = (self.at, self.head + ENTRY_HEAD);
        self.pass(len);
        Ok(Some((at, &self.bytes[start..self.head])))
    }

    /// Passes over the next entry. Returns whether there was one.
    ///
    /// # Errors
    /// The disk fails.
    pub fn skip(&mut self) -> io::Result<bool> {
        let len = self.whole()?;
        self.pass(len.unwrap_or(0));
        Ok(len.is_some())
    }

    fn pass(&mut self, len: usize) {
        self.head += len;
        self.at.0 += len as u64;
    }

    /// Reads until a whole entry stands at `head`; returns its length.
    fn whole(&mut self) -> io::Result<Option<usize>> {
        loop {
            if self.segment.is_none() && !self.open_segment()? {
                return Ok(None);
            }
            let next = self.segment.as_ref().and_then(|segment| segment.next);
            if next.is_some_and(|next| next <= self.at) {
                self.segment = None;
                continue;
            }
            let needed = match parse_entry(&self.bytes[self.head..]) {
                Parsed::Entry(body) => return Ok(Some(ENTRY_HEAD + body.len())),
                Parsed::Short(needed) => Some(needed),
                Parsed::Damaged => None,
            };
            let is_filled = match needed {
                Some(needed) => self.fill(needed)?,
                None => false,
            };
            if !is_filled && !self.pass_damage()? {
                return Ok(None);
            }
        }
    }

    /// Opens the segment of `at`. Returns `false` if there is none yet.
    fn open_segment(&mut self) -> io::Result<bool> {
        let bases = segments(&self.disk)?;
        // Entries before the oldest segment were removed.
        let Some(&oldest) = bases.first() else { return Ok(false) };
        self.at = self.at.max(oldest);
        let index = bases.partition_point(|base| *base <= self.at) - 1;
        let base = bases[index];
        let next = bases.get(index + 1).copied();
        let file = self.disk.open(&name(base))?;
        self.segment = Some(ReadSegment { file, base, next });
        (self.bytes, self.head) = (Vec::new(), 0);
        Ok(true)
    }

    /// Reads on until `needed` bytes stand at `head`. Returns `false` if the segment has fewer.
    fn fill(&mut self, needed: usize) -> io::Result<bool> {
        let Some(segment) = &self.segment else { return Ok(false) };
        self.bytes.drain(..self.head);
        self.head = 0;
        loop {
            let have = self.bytes.len();
            if have >= needed {
                return Ok(true);
            }
            let offset = self.at.0 - segment.base.0 + (SEGMENT_HEAD + have) as u64;
            let end = segment.next.map_or(u64::MAX, |next| next.0 - self.at.0) - have as u64;
            let room =
                usize::try_from(end).unwrap_or(usize::MAX).min(needed.max(BLOCK) - have).min(BLOCK);
            self.bytes.resize(have + room, 0);
            let read = match segment.file.read_at(&mut self.bytes[have..], offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                read => read?,
            };
            self.bytes.truncate(have + read);
            if read == 0 {
                return Ok(false);
            }
        }
    }

    /// Goes on behind bytes that are no entry. At the end of the last segment there is nothing
    /// behind: a new segment may begin there, so the segment is opened again the next time.
    fn pass_damage(&mut self) -> io::Result<bool> {
        let Some(next) = self.segment.as_ref().and_then(|segment| segment.next) else {
            self.segment = None;
            return Ok(false);
        };
        let from = self.at;
        let rest = usize::try_from(next.0 - from.0).unwrap_or(usize::MAX);
        let _ = self.fill(rest)?; // the file may have been cut
        let mut left = SEARCHED;
        let is_entry = |&at: &usize| {
            let bytes = &self.bytes[at..];
            left = left.saturating_sub(claimed_length(bytes));
            left > 0 && matches!(parse_entry(bytes), Parsed::Entry(_))
        };
        let found = (1..self.bytes.len()).find(is_entry);
        self.at = found.map_or(next, |at| Position(from.0 + at as u64));
        (self.bytes, self.head) = (Vec::new(), 0);
        self.damaged.push(DamagedRange { from, to: self.at });
        Ok(true)
    }
}
