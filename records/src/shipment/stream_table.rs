//! Which bytes of each stream have been received, over all runs of its shipper.

use indexmap::IndexMap;

use crate::clock_hand::{Active, ClockHand};
use crate::snapshot::{DamagedSnapshot, SnapshotReader, SnapshotWriter};

use super::{StreamId, StreamPosition, StreamSpan};

/// The most parts remembered of a stream, and of all streams together in excess of the number of streams.
const MOST_PARTS: usize = 1_024;
const MOST_PARTS_OF_ALL: usize = 1 << 16;

/// The received parts of many streams. Beyond the bound of streams, a quiet one is forgotten.
#[derive(Debug)]
pub(super) struct StreamTable {
    streams: IndexMap<StreamId, StreamState>,
    max: usize,
    hand: ClockHand,
    /// Parts of all streams.
    parts: usize,
}

#[derive(Debug, Default)]
struct StreamState {
    received: ByteRanges,
    /// Whether the stream was active since the clock hand last passed.
    active: bool,
}

/// Ranges of bytes in ascending order, with gaps between them: start and end.
#[derive(Debug, Default)]
struct ByteRanges(Vec<(u64, u64)>);

impl StreamTable {
    /// Creates an empty table for at most `max` streams.
    pub(super) fn new(max: usize) -> Self {
        Self { streams: IndexMap::new(), max: max.max(1), hand: ClockHand::default(), parts: 0 }
    }

    /// Whether a part of a stream can be recorded. If not, a gap of the stream has to be closed first.
    pub(super) fn has_room(&self, span: &StreamSpan) -> bool {
        self.streams.get(&span.stream).is_none_or(|state| {
            let has_room = state.received.0.len() < MOST_PARTS
                && self.parts < self.streams.len() + MOST_PARTS_OF_ALL;
            has_room || !state.received.touching(span.start, span.end).is_empty()
        })
    }

    /// Whether any byte of a part was received.
    pub(super) fn overlaps(&self, span: &StreamSpan) -> bool {
        self.streams.get(&span.stream).is_some_and(|state| state.received.overlaps(span))
    }

    /// Whether every byte of a part was received.
    pub(super) fn covers(&self, span: &StreamSpan) -> bool {
        self.streams.get(&span.stream).is_some_and(|state| state.received.covers(span))
    }

    /// Records the arrival of a part.
    pub(super) fn take(&mut self, span: &StreamSpan) {
        if !self.streams.contains_key(&span.stream) && self.streams.len() >= self.max {
            self.forget_one();
        }
        let state = self.streams.entry(span.stream).or_default();
        self.parts -= state.received.0.len();
        state.received.insert(span.start, span.end);
        state.active = true;
        self.parts += state.received.0.len();
    }

    /// Returns how far a stream has been received.
    pub(super) fn position(&self, stream: &StreamId) -> StreamPosition {
        let first = self.streams.get(stream).and_then(|state| state.received.0.first());
        first.map_or_else(StreamPosition::default, |&(from, upto)| StreamPosition { from, upto })
    }

    /// Appends all streams to a snapshot.
    pub(super) fn write(&self, out: &mut SnapshotWriter<'_>) {
        out.count(self.streams.len());
        for (stream, state) in &self.streams {
            let (halves, _) = stream.0.as_chunks();
            halves.iter().for_each(|half| out.number(u64::from_le_bytes(*half)));
            out.count(state.received.0.len());
            for &(start, end) in &state.received.0 {
                out.number(start);
                out.number(end);
            }
        }
    }

    /// Takes the streams of a snapshot.
    pub(super) fn read(&mut self, input: &mut SnapshotReader<'_>) -> Result<(), DamagedSnapshot> {
        for _ in 0..input.number()? {
            let halves = [input.number()?.to_le_bytes(), input.number()?.to_le_bytes()];
            let mut id = [0; 16];
            id.copy_from_slice(halves.as_flattened());
            for _ in 0..input.number()? {
                let (start, end) = (input.number()?, input.number()?);
                if start >= end {
                    return Err(DamagedSnapshot);
                }
                self.take(&StreamSpan { stream: StreamId(id), start, end });
            }
        }
        Ok(())
    }

    /// Removes a quiet stream.
    fn forget_one(&mut self) {
        if let Some(state) = self.hand.remove_quiet(&mut self.streams) {
            self.parts -= state.received.0.len();
        }
    }
}

impl Active for StreamState {
    fn active(&mut self) -> &mut bool {
        &mut self.active
    }
}

impl ByteRanges {
    /// Returns the places of the ranges overlapping or touching `start..end`; an empty range of places if there are none.
    fn touching(&self, start: u64, end: u64) -> std::ops::Range<usize> {
        let first = self.0.partition_point(|range| range.1 < start);
        let behind = self.0.partition_point(|range| range.0 <= end);
        first..behind
    }

    fn overlaps(&self, span: &StreamSpan) -> bool {
        let first = self.0.partition_point(|range| range.1 <= span.start);
        self.0.get(first).is_some_and(|range| range.0 < span.end)
    }

    fn covers(&self, span: &StreamSpan) -> bool {
        let first = self.0.partition_point(|range| range.1 < span.end);
        self.0.get(first).is_some_and(|range| range.0 <= span.start)
    }

    fn insert(&mut self, start: u64, end: u64) {
        let places = self.touching(start, end);
        let old = &self.0[places.clone()];
        let start = old.first().map_or(start, |range| start.min(range.0));
        let end = old.last().map_or(end, |range| end.max(range.1));
        self.0.splice(places, [(start, end)]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(stream: u8, start: u64, end: u64) -> StreamSpan {
        StreamSpan { stream: StreamId([stream; 16]), start, end }
    }

    #[test]
    fn a_stream_reaches_up_to_its_first_gap() {
        let mut table = StreamTable::new(10);
        let position = |from, upto| StreamPosition { from, upto };
        assert_eq!(table.position(&StreamId([1; 16])), position(0, 0));
        for (start, end, from, upto) in
            [(10, 20, 10, 20), (30, 40, 10, 20), (5, 10, 5, 20), (20, 30, 5, 40), (0, 9, 0, 40)]
        {
            table.take(&span(1, start, end));
            assert_eq!(table.position(&StreamId([1; 16])), position(from, upto), "{start}");
        }
        assert_eq!(table.parts, 1);
        assert!(!table.position(&StreamId([2; 16])).is_known());
    }

    #[test]
    fn with_too_many_gaps_only_what_closes_one_is_noted() {
        let mut table = StreamTable::new(10);
        for number in 0..MOST_PARTS as u64 {
            assert!(table.has_room(&span(1, 10 * number, 10 * number + 5)));
            table.take(&span(1, 10 * number, 10 * number + 5));
        }
        assert!(!table.has_room(&span(1, 1 << 40, 1 << 41)));
        assert!(table.has_room(&span(1, 5, 10)) && table.has_room(&span(2, 1 << 40, 1 << 41)));
    }

    #[test]
    fn beyond_the_bound_a_quiet_stream_is_forgotten() {
        let mut table = StreamTable::new(3);
        for stream in 2..100 {
            table.take(&span(1, 0, u64::from(stream)));
            table.take(&span(stream, 0, 9));
            assert!(table.streams.len() <= 3 && table.parts == table.streams.len());
        }
        assert_eq!(table.position(&StreamId([1; 16])).upto, 99);
    }

    proptest! {
        #[test]
        fn ranges_are_as_a_set_of_bytes(
            taken in proptest::collection::vec((0..60_u64, 1..9_u64), 1..40),
            asked in (0..70_u64, 1..9_u64),
        ) {
            let mut table = StreamTable::new(1);
            let mut bytes = std::collections::BTreeSet::new();
            for (start, len) in taken {
                table.take(&span(1, start, start + len));
                bytes.extend(start..start + len);
            }
            let (start, len) = asked;
            let asked = span(1, start, start + len);
            let known = (start..start + len).filter(|byte| bytes.contains(byte)).count() as u64;
            prop_assert_eq!(table.covers(&asked), known == len);
            prop_assert_eq!(table.overlaps(&asked), known > 0);
            let StreamPosition { from, upto } = table.position(&asked.stream);
            prop_assert_eq!(Some(&from), bytes.first());
            prop_assert!((from..upto).all(|byte| bytes.contains(&byte)) && !bytes.contains(&upto));
        }
    }
}
