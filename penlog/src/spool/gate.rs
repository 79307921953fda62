//! Drops whole lines when the spool is full: a line is in the spool as a whole, or not at all.

use memchr::{memchr, memchr_iter};

use pen_records::shipment::LINE;

/// The end of the spool.
pub(super) trait SpoolEnd {
    /// Writes bytes; returns how many are written: fewer on a failure.
    fn write(&mut self, bytes: &[u8]) -> usize;
    /// Whether the last byte written is a line feed, or there is none.
    fn is_at_line_end(&mut self) -> bool;
}

/// Unfinished lines at the time when the room ended.
#[derive(Debug, Default)]
pub(super) struct LineGate {
    /// The rest of a line that begins in the spool: written before all else.
    rest: Vec<u8>,
    /// The end of `rest` has not come.
    is_rest_open: bool,
    /// The input is within a dropped line.
    is_dropping: bool,
}

impl LineGate {
    /// Whether bytes can go into the spool as they come.
    pub(super) fn is_open(&self) -> bool {
        self.rest.is_empty() && !self.is_rest_open && !self.is_dropping
    }

    /// Writes bytes of the input into the spool, or drops lines. Returns the number of dropped lines that ended here.
    pub(super) fn pass(
        &mut self,
        mut bytes: &[u8],
        has_room: bool,
        spool: &mut impl SpoolEnd,
    ) -> u64 {
        if self.is_rest_open {
            bytes = self.add_to_rest(bytes);
        }
        if !self.rest.is_empty() && !self.is_rest_open {
            let written = spool.write(&self.rest);
            self.rest.drain(..written);
        }
        if !has_room || !self.rest.is_empty() {
            return self.refuse(bytes, spool);
        }
        let mut dropped = 0;
        if self.is_dropping {
            let Some(end) = memchr(b'\n', bytes) else { return 0 };
            (self.is_dropping, dropped, bytes) = (false, 1, &bytes[end + 1..]);
        }
        let written = spool.write(bytes);
        dropped + if written < bytes.len() { self.refuse(&bytes[written..], spool) } else { 0 }
    }

    /// The input has ended. Returns 1 if it ended within a dropped line.
    pub(super) fn end(&mut self) -> u64 {
        u64::from(std::mem::take(&mut self.is_dropping))
    }

    /// Drops lines, except for the rest of a line that begins in the spool.
    fn refuse(&mut self, mut bytes: &[u8], spool: &mut impl SpoolEnd) -> u64 {
        if !bytes.is_empty() && self.is_open() && !spool.is_at_line_end() {
            self.is_rest_open = true;
            bytes = self.add_to_rest(bytes);
            if !self.is_rest_open {
                let written = spool.write(&self.rest);
                self.rest.drain(..written);
            }
        }
        if let Some(last) = bytes.last() {
            self.is_dropping = *last != b'\n';
        }
        memchr_iter(b'\n', bytes).count() as u64
    }

    /// Keeps bytes up to the end of the line; returns the bytes behind.
    fn add_to_rest<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = memchr(b'\n', bytes).map(|end| end + 1);
        self.is_rest_open = end.is_none();
        let (rest, behind) = bytes.split_at(end.unwrap_or(bytes.len()));
        let fits = LINE.saturating_sub(self.rest.len()).min(rest.len());
        self.rest.extend_from_slice(&rest[..fits]);
        if !self.is_rest_open && self.rest.last() != Some(&b'\n') {
            self.rest.push(b'\n');
        }
        behind
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A spool that takes so many bytes.
    #[derive(Default)]
    struct Bounded {
        bytes: Vec<u8>,
        room: usize,
    }

    impl SpoolEnd for Bounded {
        fn write(&mut self, bytes: &[u8]) -> usize {
            let len = bytes.len().min(self.room);
            self.bytes.extend_from_slice(&bytes[..len]);
            self.room -= len;
            len
        }

        fn is_at_line_end(&mut self) -> bool {
            self.bytes.last().is_none_or(|last| *last == b'\n')
        }
    }

    #[test]
    fn a_line_that_was_begun_is_finished_and_the_next_ones_are_dropped() {
        let (mut gate, mut spool) =
            (LineGate::default(), Bounded { room: 6, ..Bounded::default() });
        assert_eq!(gate.pass(b"one\ntwo\nthree\nfo", true, &mut spool), 1, "three");
        assert!(!gate.is_open());
        assert_eq!(gate.pass(b"ur\nfive\n", true, &mut spool), 2);
        spool.room = 100;
        assert_eq!(gate.pass(b"six\n", true, &mut spool), 0);
        assert!(gate.is_open());
        assert_eq!(spool.bytes, b"one\ntwo\nsix\n");
        assert_eq!(gate.pass(b"seven\n", false, &mut spool), 1, "the size is reached");
        assert_eq!(gate.pass(b"eig", false, &mut spool) + gate.end(), 1);
    }

    proptest! {
        #[test]
        fn each_line_is_in_the_spool_whole_or_counted(
            lens in proptest::collection::vec(0..12_usize, 1..40),
            turns in proptest::collection::vec((1..30_usize, 0..20_usize, any::<bool>()), 1..60),
        ) {
            let lines: Vec<Vec<u8>> = lens.iter().enumerate()
                .map(|(number, len)| format!("{number}{:x<len$}\n", "").into_bytes()).collect();
            let input = lines.concat();
            let (mut gate, mut spool) = (LineGate::default(), Bounded::default());
            let (mut at, mut dropped) = (0_usize, 0);
            for (len, room, has_room) in turns.into_iter().chain([(usize::MAX, 1_000, true); 2]) {
                let end = at.saturating_add(len).min(input.len());
                spool.room = room;
                dropped += gate.pass(&input[at..end], has_room, &mut spool);
                at = end;
            }
            dropped += gate.end();
            let mut left = lines.iter();
            let mut kept = 0;
            for line in spool.bytes.split_inclusive(|byte| *byte == b'\n') {
                prop_assert!(left.any(|it| it == line), "{}", String::from_utf8_lossy(line));
                kept += 1;
            }
            prop_assert_eq!(kept + dropped, lines.len() as u64);
        }
    }
}
