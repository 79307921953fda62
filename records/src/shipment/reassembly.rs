//! Reassembles long lines from pieces that come in any order, or not at all.

use std::collections::VecDeque;

use super::{LinePiece, SenderOrigin};

/// Incomplete lines. Beyond the bounds the oldest line is abandoned.
#[derive(Debug)]
pub struct Reassembly {
    /// Oldest first.
    lines: VecDeque<PartialLine>,
    max_lines: usize,
    max_bytes: usize,
    /// Bytes of all incomplete lines.
    bytes: usize,
    abandoned: u64,
}

#[derive(Debug)]
struct PartialLine {
    origin: SenderOrigin,
    number: u64,
    total: u32,
    bytes: Vec<u8>,
    /// The received ranges, sorted; no two touch.
    have: Vec<(u32, u32)>,
}

/// The most ranges of a line: no shipper of ours cuts a line into smaller pieces.
const MOST_RANGES: usize = 4096;

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
                let (bytes, have) = (Vec::new(), Vec::new());
                self.lines.push_back(PartialLine {
                    origin,
                    number,
                    total: piece.total,
                    bytes,
                    have,
                });
                self.lines.len() - 1
            }
        };
        let half = &mut self.lines[index];
        let before = half.bytes.len();
        half.take(piece);
        self.bytes += half.bytes.len() - before;
        if half.is_whole() {
            let line = self.lines.remove(index)?.bytes;
            self.bytes -= line.len();
            return Some(line);
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
            self.bytes -= half.bytes.len();
            self.abandoned += 1;
        }
    }
}

impl PartialLine {
    fn take(&mut self, piece: &LinePiece<'_>) {
        let len = u32::try_from(piece.bytes.len()).unwrap_or(u32::MAX);
        let (start, end) = (piece.offset, piece.offset.saturating_add(len));
        if end > self.total || self.have.len() >= MOST_RANGES {
            return;
        }
        let (from, to) = (start as usize, end as usize);
        if self.bytes.len() < to {
            self.bytes.resize(to, 0);
        }
        self.bytes[from..to].copy_from_slice(piece.bytes);
        self.cover(start, end);
    }

    /// Adds a range and merges it with ranges that it touches.
    fn cover(&mut self, mut start: u32, mut end: u32) {
        let first = self.have.partition_point(|range| range.1 < start);
        let last = self.have.partition_point(|range| range.0 <= end);
        if let Some(touched) = self.have.get(first..last)
            && let (Some(low), Some(high)) = (touched.first(), touched.last())
        {
            start = start.min(low.0);
            end = end.max(high.1);
        }
        self.have.splice(first..last, [(start, end)]);
    }

    fn is_whole(&self) -> bool {
        self.have == [(0, self.total)]
    }
}

#[cfg(test)]
mod tests {
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
            let mut lines = Reassembly::new(4, 100);
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
        let mut lines = Reassembly::new(4, 100);
        let other = SenderOrigin { id: 2, ..ORIGIN };
        assert_eq!(lines.add(ORIGIN, 7, &piece(4, 0, b"ab")), None);
        assert_eq!(lines.add(other, 7, &piece(4, 2, b"XY")), None);
        assert_eq!(lines.add(ORIGIN, 8, &piece(4, 2, b"XY")), None);
        assert_eq!(lines.add(ORIGIN, 7, &piece(4, 2, b"cd")), Some(b"abcd".to_vec()));
    }

    #[test]
    fn beyond_its_bounds_the_oldest_is_given_up_and_counted() {
        let mut lines = Reassembly::new(2, 10);
        for number in 0..5 {
            assert_eq!(lines.add(ORIGIN, number, &piece(4, 0, b"ab")), None);
        }
        assert_eq!((lines.pending(), lines.abandoned()), (2, 3));
        assert_eq!(lines.add(ORIGIN, 9, &piece(100, 0, &[0; 50])), None);
        assert_eq!((lines.pending(), lines.bytes, lines.abandoned()), (0, 0, 6));
    }

    #[test]
    fn a_piece_outside_of_its_line_is_left_out() {
        let mut lines = Reassembly::new(2, 10);
        assert_eq!(lines.add(ORIGIN, 0, &piece(2, 1, b"abc")), None);
        assert_eq!(lines.bytes, 0);
    }
}
