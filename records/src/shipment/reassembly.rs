//! Reassembles long lines from pieces that come in any order, or not at all.

use std::collections::{BTreeMap, VecDeque};

use super::{LinePiece, SenderOrigin};

/// Incomplete lines. Beyond the bounds the oldest line is abandoned.
#[derive(Debug)]
pub struct Reassembly {
    /// Oldest first.
    lines: VecDeque<PartialLine>,
    max_lines: usize,
    max_bytes: usize,
    /// Bytes that all incomplete lines occupy.
    bytes: usize,
    abandoned: u64,
}

#[derive(Debug)]
struct PartialLine {
    origin: SenderOrigin,
    number: u64,
    total: u32,
    /// The received parts by offset, without overlaps. Nothing is reserved for the rest.
    parts: BTreeMap<u32, Vec<u8>>,
    /// Bytes of all parts.
    len: usize,
}

/// The most parts of a line: no shipper of ours cuts a line into smaller pieces.
const MOST_PARTS: usize = 4096;

/// What a part occupies besides its bytes, about.
const PART: usize = 64;

impl Reassembly {
    /// Holds at most `max_lines` incomplete lines, and `max_bytes` bytes of them.
    #[must_use]
    pub const fn new(max_lines: usize, max_bytes: usize) -> Self {
        Self { lines: VecDeque::new(), max_lines, max_bytes, bytes: 0, abandoned: 0 }
    }

    /// Adds a piece of line `number`; returns the line if it is now complete.
    pub fn add(
        &mut self,
        origin: SenderOrigin,
        number: u64,
        piece: &LinePiece<'_>,
    ) -> Option<Vec<u8>> {
        let known = |half: &PartialLine| {
            (half.number, half.origin, half.total) == (number, origin, piece.total)
        };
        // A piece most likely belongs to the newest line.
        let index = match self.lines.iter().rposition(known) {
            Some(index) => index,
            None => {
                let (total, parts) = (piece.total, BTreeMap::new());
                self.lines.push_back(PartialLine { origin, number, total, parts, len: 0 });
                self.lines.len() - 1
            }
        };
        let half = &mut self.lines[index];
        let before = half.occupied();
        half.take(piece);
        self.bytes += half.occupied() - before;
        if half.is_whole() {
            let half = self.lines.remove(index)?;
            self.bytes -= half.occupied();
            return Some(half.into_line());
        }
        while self.lines.len() > self.max_lines || self.bytes > self.max_bytes {
            self.give_up_oldest();
        }
        None
    }

    /// Lines abandoned so far for lack of space.
    #[must_use]
    pub const fn abandoned(&self) -> u64 {
        self.abandoned
    }

    /// The number of incomplete lines.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.lines.len()
    }

    fn give_up_oldest(&mut self) {
        if let Some(half) = self.lines.pop_front() {
            self.bytes -= half.occupied();
            self.abandoned += 1;
        }
    }
}

impl PartialLine {
    /// Takes the new bytes of a piece.
    fn take(&mut self, piece: &LinePiece<'_>) {
        let len = u32::try_from(piece.bytes.len()).unwrap_or(u32::MAX);
        let end = piece.offset.saturating_add(len);
        if end > self.total {
            return;
        }
        let mut from = piece.offset;
        while from < end && self.parts.len() < MOST_PARTS {
            let before = self.parts.range(..=from).next_back();
            let covered = before.map_or(0, |(at, part)| at + part_len(part));
            if covered > from {
                from = covered;
                continue;
            }
            let until = self.parts.range(from..end).next().map_or(end, |(&at, _)| at);
            let (start, stop) = (from - piece.offset, until - piece.offset);
            let bytes = piece.bytes[start as usize..stop as usize].to_vec();
            self.len += bytes.len();
            self.parts.insert(from, bytes);
            from = until;
        }
    }

    fn is_whole(&self) -> bool {
        self.len == self.total as usize
    }

    fn occupied(&self) -> usize {
        self.len + self.parts.len() * PART
    }

    fn into_line(self) -> Vec<u8> {
        self.parts.into_values().collect::<Vec<_>>().concat()
    }
}

fn part_len(part: &[u8]) -> u32 {
    u32::try_from(part.len()).expect("no longer than a line")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::Timestamp;

    const ORIGIN: SenderOrigin = SenderOrigin { id: 1, start: Timestamp::from_micros(2) };

    fn piece(total: u32, offset: u32, bytes: &[u8]) -> LinePiece<'_> {
        LinePiece { total, offset, bytes }
    }

    #[test]
    fn pieces_in_any_order_and_twice_make_one_line() {
        let parts = [(0, &b"abc"[..]), (3, b"de"), (5, b"fgh")];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]] {
            let mut lines = Reassembly::new(4, 1000);
            let mut whole = Vec::new();
            for index in order {
                let (offset, bytes) = parts[index];
                whole.extend(lines.add(ORIGIN, 7, &piece(8, offset, bytes)));
                whole.extend(if whole.is_empty() {
                    lines.add(ORIGIN, 7, &piece(8, offset, bytes))
                } else {
                    None
                });
            }
            assert_eq!(whole, [b"abcdefgh"], "{order:?}");
            assert_eq!((lines.pending(), lines.bytes), (0, 0));
        }
    }

    #[test]
    fn lines_of_different_senders_do_not_mix() {
        let mut lines = Reassembly::new(4, 1000);
        let other = SenderOrigin { id: 2, ..ORIGIN };
        assert_eq!(lines.add(ORIGIN, 7, &piece(4, 0, b"ab")), None);
        assert_eq!(lines.add(other, 7, &piece(4, 2, b"XY")), None);
        assert_eq!(lines.add(ORIGIN, 8, &piece(4, 2, b"XY")), None);
        assert_eq!(lines.add(ORIGIN, 7, &piece(4, 2, b"cd")), Some(b"abcd".to_vec()));
    }

    #[test]
    fn beyond_its_bounds_the_oldest_is_given_up_and_counted() {
        let mut lines = Reassembly::new(2, 300);
        for number in 0..5 {
            assert_eq!(lines.add(ORIGIN, number, &piece(4, 0, b"ab")), None);
        }
        assert_eq!((lines.pending(), lines.abandoned()), (2, 3));
        assert_eq!(lines.add(ORIGIN, 9, &piece(1000, 0, &[0; 500])), None);
        assert_eq!((lines.pending(), lines.bytes, lines.abandoned()), (0, 0, 6));
    }

    #[test]
    fn a_piece_outside_of_its_line_is_left_out() {
        let mut lines = Reassembly::new(2, 300);
        assert_eq!(lines.add(ORIGIN, 0, &piece(2, 1, b"abc")), None);
        assert_eq!(lines.bytes, 0);
    }

    #[test]
    fn a_small_piece_of_a_long_line_takes_no_room_for_the_rest() {
        let mut lines = Reassembly::new(1000, 16 << 20);
        let total = 1 << 20;
        for number in 0..1000 {
            assert_eq!(lines.add(ORIGIN, number, &piece(total, total - 1, b"x")), None);
        }
        assert_eq!((lines.pending(), lines.abandoned()), (1000, 0));
        assert!(lines.lines.iter().all(|half| half.occupied() < 100));
    }

    proptest! {
        #[test]
        fn pieces_that_overlap_make_the_line_once_every_byte_has_come(
            pieces in proptest::collection::vec((0..40_u32, 1..12_u32), 1..60),
        ) {
            let line: Vec<u8> = (0..40).collect();
            let (mut lines, mut have) = (Reassembly::new(4, 100_000), [false; 40]);
            for (offset, len) in pieces {
                let range = offset as usize..(offset + len).min(40) as usize;
                have[range.clone()].fill(true);
                let whole = lines.add(ORIGIN, 1, &piece(40, offset, &line[range]));
                prop_assert_eq!(whole.is_some(), have.iter().all(|&have| have));
                if let Some(whole) = whole {
                    prop_assert_eq!(&whole, &line);
                    have = [false; 40];
                }
            }
        }
    }
}
