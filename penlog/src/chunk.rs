//! A run of whole lines in the queue, with read times and places in files.

use std::collections::VecDeque;
use std::time::Duration;

use pen_records::shipment::StreamSpan;

/// Memory of one entry of [`Chunk::reads`] and of [`Chunk::places`], in bytes.
pub(crate) const READ: usize = size_of::<(usize, Duration)>();
pub(crate) const PLACE: usize = size_of::<LinePlaces>();

/// Lines read within 200 µs share a read time.
const TOGETHER: Duration = Duration::from_micros(200);

/// Whole lines, line feeds included.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    pub(crate) bytes: Vec<u8>,
    /// End offset and read time of each run of lines that were read together; times count from the queue's creation.
    pub(crate) reads: VecDeque<(usize, Duration)>,
    /// The places of the lines in followed files; lines between two runs are of no file.
    places: VecDeque<LinePlaces>,
}

/// A run of consecutive lines of a file.
#[derive(Debug)]
struct LinePlaces {
    /// Offsets in the chunk.
    start: usize,
    end: usize,
    /// Offsets in the file. Different lengths mean a single line, cut or without a line feed.
    span: StreamSpan,
}

impl Chunk {
    /// Creates a chunk for so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Memory of the chunk in bytes.
    pub(crate) fn held(&self) -> usize {
        self.bytes.capacity() + self.reads.len() * READ + self.places.len() * PLACE
    }

    /// Returns how many bytes fit without growing.
    pub(crate) fn spare(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.reads.clear();
        self.places.clear();
    }

    /// Returns when the line that begins at `at` was read; call with ascending offsets.
    pub(crate) fn read(&mut self, at: usize) -> Option<Duration> {
        while self.reads.front().is_some_and(|&(end, _)| end <= at) {
            self.reads.pop_front();
        }
        self.reads.front().map(|&(_, read)| read)
    }

    /// Returns the place in a file of the line at `at`, of `len` bytes with the line feed; call with ascending offsets.
    pub(crate) fn place(&mut self, at: usize, len: usize) -> Option<StreamSpan> {
        while self.places.front().is_some_and(|run| run.end <= at) {
            self.places.pop_front();
        }
        let run = self.places.front().filter(|run| run.start <= at)?;
        let start = run.span.start + (at - run.start) as u64;
        let end = if at + len == run.end { run.span.end } else { start + len as u64 };
        Some(StreamSpan { start, end, ..run.span })
    }

    /// Appends lines. Without memory for another read time, they get the read time of the lines before.
    pub(crate) fn append(
        &mut self,
        lines: &[u8],
        read: Duration,
        span: Option<StreamSpan>,
        room: usize,
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(lines);
        let end = self.bytes.len();
        match self.reads.back_mut() {
            Some((last_end, last)) if room < READ || read.saturating_sub(*last) < TOGETHER => {
                *last_end = end;
            }
            _ => self.reads.push_back((end, read)),
        }
        let Some(span) = span else { return };
        let run = LinePlaces { start, end, span };
        match self.places.back_mut() {
            Some(last) if last.goes_on_in(&run) => {
                (last.end, last.span.end) = (run.end, run.span.end);
            }
            _ => self.places.push_back(run),
        }
    }

    /// Returns the chunk from `at` on, with lines of no file in front.
    pub(crate) fn behind(&mut self, mut lines: Vec<u8>, read: Duration, at: usize) -> Self {
        let (len, read) = (lines.len(), self.read(at).unwrap_or(read));
        lines.extend_from_slice(&self.bytes[at..]);
        let moved = |offset: usize| offset.saturating_sub(at) + len;
        let later = self.reads.iter().map(|&(end, read)| (moved(end), read));
        let reads = std::iter::once((len, read)).chain(later).collect();
        let places = self.places.iter().filter(|run| run.end > at).map(|run| {
            let sent = at.saturating_sub(run.start) as u64;
            let span = StreamSpan { start: run.span.start + sent, ..run.span };
            LinePlaces { start: moved(run.start), end: moved(run.end), span }
        });
        Self { bytes: lines, reads, places: places.collect() }
    }
}

impl LinePlaces {
    /// Whether lines and places have the same lengths.
    fn is_plain(&self) -> bool {
        self.span.end - self.span.start == (self.end - self.start) as u64
    }

    fn goes_on_in(&self, next: &Self) -> bool {
        let is_behind = self.end == next.start
            && (self.span.stream, self.span.end) == (next.span.stream, next.span.start);
        is_behind && self.is_plain() && next.is_plain()
    }
}

#[cfg(test)]
mod tests {
    use pen_records::shipment::StreamId;

    use super::*;

    const fn span(stream: u8, start: u64, end: u64) -> Option<StreamSpan> {
        Some(StreamSpan { stream: StreamId([stream; 16]), start, end })
    }

    #[test]
    fn lines_keep_the_time_they_were_read() {
        let mut chunk = Chunk::default();
        let micros = Duration::from_micros;
        for (line, read) in [("one\n", 100), ("two\n", 150), ("three\n", 300), ("four\n", 499)] {
            chunk.append(line.as_bytes(), micros(read), None, READ);
        }
        let times = [0, 4, 8, 14].map(|at| chunk.read(at));
        assert_eq!(times, [100, 100, 300, 300].map(|at| Some(micros(at))));
        assert_eq!(chunk.read(19), None);
        chunk.append(b"without room\n", micros(900), None, READ - 1);
        assert_eq!(chunk.read(19), Some(micros(900)), "the first has room always");
        chunk.append(b"without room\n", micros(1_900), None, READ - 1);
        assert_eq!(chunk.read(32), Some(micros(900)));
    }

    /// A chunk of lines from files and of none, with the expected place of each line.
    fn lines() -> (Chunk, Vec<(usize, usize, Option<StreamSpan>)>) {
        let mut chunk = Chunk::default();
        let mut expected = Vec::new();
        for (lines, place, places) in [
            (&b"one\ntwo\n"[..], span(1, 10, 18), vec![span(1, 10, 14), span(1, 14, 18)]),
            (b"three\n", span(1, 18, 24), vec![span(1, 18, 24)]),
            (b"half\n", span(1, 24, 28), vec![span(1, 24, 28)]),
            (b"more\n", span(1, 28, 33), vec![span(1, 28, 33)]),
            (b"none\n", None, vec![None]),
            (b"cut\n", span(2, 0, 9_000), vec![span(2, 0, 9_000)]),
            (b"behind\n", span(2, 9_000, 9_007), vec![span(2, 9_000, 9_007)]),
        ] {
            let mut at = chunk.bytes.len();
            for (line, place) in lines.split_inclusive(|byte| *byte == b'\n').zip(places) {
                expected.push((at, line.len(), place));
                at += line.len();
            }
            chunk.append(lines, Duration::ZERO, place, usize::MAX);
        }
        (chunk, expected)
    }

    #[test]
    fn lines_keep_their_places_in_files() {
        let (mut chunk, expected) = lines();
        assert_eq!(chunk.places.len(), 5, "lines one behind the other share an entry");
        for (at, len, place) in expected {
            assert_eq!(chunk.place(at, len), place, "at {at}");
        }
    }

    #[test]
    fn lines_that_are_put_in_front_have_no_place_and_the_others_keep_theirs() {
        let (chunk, expected) = lines();
        for &(from, ..) in &expected {
            let (mut chunk_, _) = lines();
            let _ = chunk_.read(from);
            let mut behind = chunk_.behind(b"first\nsecond\n".to_vec(), Duration::ZERO, from);
            assert_eq!(behind.bytes[13..], chunk.bytes[from..]);
            assert_eq!((behind.place(0, 6), behind.place(6, 7)), (None, None));
            for &(at, len, place) in expected.iter().filter(|it| it.0 >= from) {
                assert_eq!(behind.place(at - from + 13, len), place, "at {at} from {from}");
            }
        }
    }
}
