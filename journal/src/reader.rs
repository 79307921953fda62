//! Reads entries from a position on.

use std::io;

use crate::Position;
use crate::disk::{Disk, DiskFile};
use crate::entry::{ENTRY_HEAD, LONGEST, Parsed, SEGMENT_HEAD, claimed_length, parse_entry};
use crate::writer::{name, segments};

/// Bytes read at once.
const BLOCK: usize = 256 << 10;
/// Bytes summed up in the search for an entry behind damage: damaged bytes may claim to be long entries.
const SEARCHED: usize = 512 << 20;
/// Most bytes of damaged entries in a row that are passed over by their lengths.
const PASSED: usize = 2 * LONGEST;

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

    /// The damaged parts so far. The end of the last segment, torn by a crash, is none: no whole
    /// entry stands behind it.
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
        let next = self.segment.as_ref().and_then(|segment| segment.next);
        let from = self.at;
        let to = match (self.next_by_lengths()?, next) {
            (Some(to), _) => to,
            (None, Some(next)) => self.search_entry()?.unwrap_or(next),
            (None, None) => {
                self.segment = None;
                return Ok(false);
            }
        };
        self.at = to;
        (self.bytes, self.head) = (Vec::new(), 0);
        self.damaged.push(DamagedRange { from, to });
        Ok(true)
    }

    /// Finds the next whole entry, if the damaged ones still say how long they are. Bodies are not
    /// searched, since a sender may have put what looks like an entry there.
    fn next_by_lengths(&mut self) -> io::Result<Option<Position>> {
        let mut passed = 0;
        while passed <= PASSED {
            if self.is_entry_at(passed)? {
                return Ok(Some(Position(self.at.0 + passed as u64)));
            }
            let Some(claimed) = self.bytes.get(passed..).and_then(claimed_length) else { break };
            passed += ENTRY_HEAD + claimed;
        }
        Ok(None)
    }

    /// Whether a whole entry stands `passed` bytes behind `at`.
    fn is_entry_at(&mut self, passed: usize) -> io::Result<bool> {
        let mut needed = ENTRY_HEAD;
        while self.fill(passed + needed)? {
            match parse_entry(&self.bytes[passed..]) {
                Parsed::Entry(_) => return Ok(true),
                Parsed::Short(more) => needed = more,
                Parsed::Damaged => break,
            }
        }
        Ok(false)
    }

    /// Looks for a whole entry at each byte up to the end of the segment.
    fn search_entry(&mut self) -> io::Result<Option<Position>> {
        let mut left = SEARCHED;
        self.skip_bytes(1);
        loop {
            // Each look sees as much as the longest entry needs.
            let is_end = !self.fill(ENTRY_HEAD + LONGEST + BLOCK)?;
            let looked = if is_end { self.bytes.len() } else { BLOCK };
            for at in 0..looked {
                let bytes = &self.bytes[at..];
                left = left.saturating_sub(claimed_length(bytes).unwrap_or(0));
                if left > 0 && matches!(parse_entry(bytes), Parsed::Entry(_)) {
                    return Ok(Some(Position(self.at.0 + at as u64)));
                }
            }
            if is_end || left == 0 {
                return Ok(None);
            }
            self.skip_bytes(looked);
        }
    }

    fn skip_bytes(&mut self, count: usize) {
        let count = count.min(self.bytes.len() - self.head);
        self.pass(count);
    }
}
