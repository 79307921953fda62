//! The ages of lines in a shipment: how long before sending each line was read. Lines are gathered
//! for a while, but the join needs the time at which a line was logged.
//!
//! ```text
//! ages = 1*(count age)      ; varints: the next `count` lines were read `age` microseconds before
//! ```
//!
//! All extensions of this kind together have a count for each line.

use std::time::Duration;

use nom::Parser as _;

use super::header::{extension, varint, write_varint};

/// The kind of this extension.
const AGES: u8 = 6;
/// The most bytes of an extension.
const VALUE: usize = 255;
/// The most bytes of a pair: a count below 2^14 and any age.
const PAIR: usize = 7;
/// The most pairs in a shipment. Later lines share the last pair.
const PAIRS: usize = 160;

/// The most bytes of all extensions of this kind.
pub(super) const ROOM: usize = most_bytes(PAIRS);

/// The read times of the lines in a shipment that is being filled.
#[derive(Debug, Default)]
pub(super) struct ReadTimes {
    /// Runs of consecutive lines: their number, and the read time by a monotonic clock of the
    /// shipper.
    runs: Vec<(u32, Duration)>,
    /// The read time of some line is unknown: then the shipment carries no ages.
    unknown: bool,
}

impl ReadTimes {
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.unknown = false;
    }

    pub(super) fn add(&mut self, read: Option<Duration>) {
        let Some(read) = read else {
            self.unknown = true;
            return;
        };
        let full = self.runs.len() == PAIRS;
        match self.runs.last_mut() {
            Some((count, last)) if (full || *last == read) && *count < 0x3FFF => *count += 1,
            _ if full => self.unknown = true,
            _ => self.runs.push((1, read)),
        }
    }

    /// The most bytes that [`Self::write`] appends.
    pub(super) fn most_bytes(&self) -> usize {
        if self.unknown { 0 } else { most_bytes(self.runs.len()) }
    }

    /// The most bytes that [`Self::write`] appends after one more line.
    pub(super) fn most_bytes_with(&self, read: Option<Duration>) -> usize {
        let unknown = self.unknown || read.is_none();
        if unknown { 0 } else { most_bytes((self.runs.len() + 1).min(PAIRS)) }
    }

    /// Appends the extensions of a shipment that is sent at `now`.
    pub(super) fn write(&self, now: Duration, out: &mut Vec<u8>) {
        if self.unknown {
            return;
        }
        let mut size_at = None;
        for &(count, read) in &self.runs {
            let start = match size_at {
                Some(at) if out.len() - at + PAIR <= VALUE => at,
                _ => {
                    out.extend_from_slice(&[AGES, 0]);
                    out.len() - 1
                }
            };
            size_at = Some(start);
            let age = now.saturating_sub(read).as_micros();
            write_varint(count, out);
            write_varint(u32::try_from(age).unwrap_or(u32::MAX), out);
            out[start] = u8::try_from(out.len() - start - 1).expect("looked at before");
        }
    }
}

const fn most_bytes(pairs: usize) -> usize {
    let bytes = pairs * PAIR;
    // The writer begins a new extension when another pair might not fit.
    bytes + bytes.div_ceil(VALUE - PAIR) * 2
}

/// Iterates over the lines of a shipment: microseconds between reading and sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ages<'a> {
    /// Extensions of any kind that are not parsed yet.
    extensions: &'a [u8],
    /// The rest of the current extension.
    pairs: &'a [u8],
    /// Remaining lines with the current age.
    count: u32,
    age: u32,
}

impl<'a> Ages<'a> {
    /// Iterates over the extensions of a shipment, which must be well formed.
    pub(super) const fn new(extensions: &'a [u8]) -> Self {
        Self { extensions, pairs: b"", count: 0, age: 0 }
    }

    /// Checks that either no line or each of `lines` has an age; otherwise returns the bytes from
    /// the malformed extension on.
    pub(super) fn check(mut self, lines: u32) -> Result<(), &'a [u8]> {
        let mut sum = 0_u64;
        let mut last = self.extensions;
        let mut any = false;
        loop {
            let at = self.extensions;
            if self.next_pair().map_err(|()| last)?.is_none() {
                break;
            }
            if at.len() != self.extensions.len() {
                last = at;
            }
            any = true;
            sum += u64::from(self.count);
        }
        if any && sum != u64::from(lines) { Err(last) } else { Ok(()) }
    }

    /// Advances to the next pair with a count above zero.
    fn next_pair(&mut self) -> Result<Option<()>, ()> {
        while self.pairs.is_empty() {
            if self.extensions.is_empty() {
                return Ok(None);
            }
            let (rest, (kind, value)) = extension(self.extensions).map_err(drop)?;
            self.extensions = rest;
            if kind == AGES {
                self.pairs = value;
            }
        }
        let (rest, (count, age)) = (varint, varint).parse(self.pairs).map_err(drop)?;
        (self.pairs, self.count, self.age) = (rest, count, age);
        if count == 0 { Err(()) } else { Ok(Some(())) }
    }
}

impl Iterator for Ages<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.count == 0 {
            self.next_pair().ok()??;
        }
        self.count -= 1;
        Some(self.age)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(times in vec((1_usize..300, 0_u64..10_000_000_000), 1..PAIRS)) {
            let now = micros(10_000_000_000);
            let (mut reads, mut expected) = (ReadTimes::default(), Vec::new());
            for (lines, at) in times {
                let age = u32::try_from((now - micros(at)).as_micros()).unwrap_or(u32::MAX);
                for _ in 0..lines {
                    let most = reads.most_bytes_with(Some(micros(at)));
                    reads.add(Some(micros(at)));
                    prop_assert!(reads.most_bytes() <= most && most <= ROOM);
                }
                expected.extend(vec![age; lines]);
            }
            let mut out = vec![200, 1, 7];
            reads.write(now, &mut out);
            prop_assert!(out.len() - 3 <= reads.most_bytes());
            let ages: Vec<u32> = Ages::new(&out).collect();
            prop_assert_eq!(&ages, &expected);
            let count = u32::try_from(ages.len()).unwrap();
            prop_assert_eq!(Ages::new(&out).check(count), Ok(()));
            prop_assert!(Ages::new(&out).check(count + 1).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..60), lines in 0_u32..9) {
            let extensions = [&[AGES, u8::try_from(bytes.len()).unwrap()], &bytes[..]].concat();
            let ages = Ages::new(&extensions);
            if ages.check(lines).is_ok() && !bytes.is_empty() {
                prop_assert_eq!(ages.count(), lines as usize);
            }
        }
    }

    #[test]
    fn of_lines_beyond_the_last_pair_the_time_of_the_last_is_said() {
        let mut reads = ReadTimes::default();
        for at in 0..2 * PAIRS as u64 {
            reads.add(Some(micros(at)));
        }
        let mut out = Vec::new();
        reads.write(micros(1_000), &mut out);
        let ages: Vec<u32> = Ages::new(&out).collect();
        assert_eq!((ages.len(), ages[0], ages[PAIRS - 1]), (2 * PAIRS, 1_000, 841));
        assert!(ages[PAIRS..].iter().all(|&age| age == 841));
    }

    #[test]
    fn where_the_time_of_one_line_is_unknown_none_is_said() {
        let mut reads = ReadTimes::default();
        reads.add(Some(micros(1)));
        reads.add(None);
        let mut out = Vec::new();
        reads.write(micros(1_000), &mut out);
        assert_eq!(out, b"");
    }
}
