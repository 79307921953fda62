//! Streams: followed files, with bytes numbered by offset.
//!
//! A later run of the shipper reads the same file under the same name. So a collector knows the lines of earlier runs, and
//! answers with the position behind.
//!
//! ```text
//! of a shipment = %x07 %x20 id(16) start(u64) end(u64)    ; an extension
//! of a question = %x01 size *id(16)                       ; an extension: at most 15 streams
//! of an answer  = %x02 size *(from(u64) upto(u64))        ; an extension: for each stream of the question
//! ```

use nom::{IResult, Parser};

use super::header::extension;
use crate::number::le_u64;

/// The kinds of the extensions: of a shipment, a question and an answer.
pub(super) const STREAM: u8 = 7;
const ASKED: u8 = 1;
const POSITIONS: u8 = 2;

/// Bytes of the extension of a shipment.
pub(super) const SPAN_LEN: usize = 2 + 32;
/// Bytes of a stream in a question, and of its position in an answer.
const ENTRY: usize = 16;

/// The most streams in a question, by the size of an extension.
const MOST: usize = 15;

/// The name of a stream, the same in each run of the shipper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub [u8; 16]);

/// A part of a stream: the bytes `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamSpan {
    /// The stream.
    pub stream: StreamId,
    /// Offset of the first byte.
    pub start: u64,
    /// Offset behind the last byte.
    pub end: u64,
}

impl StreamSpan {
    /// Whether a line of `len` bytes and a line feed fill the part. If not, the line was cut, or is the last line of the file
    /// and has no line feed.
    #[must_use]
    pub fn is_filled_by(&self, len: usize) -> bool {
        u64::try_from(len).is_ok_and(|len| self.end - self.start == len + 1)
    }

    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let (id, offsets) = value.split_first_chunk()?;
        let (rest, (start, end)) = numbers(offsets).ok()?;
        (rest.is_empty() && start < end).then_some(Self { stream: StreamId(*id), start, end })
    }

    pub(super) fn value(&self) -> [u8; 32] {
        let mut value = [0; 32];
        value[..16].copy_from_slice(&self.stream.0);
        value[16..24].copy_from_slice(&self.start.to_le_bytes());
        value[24..].copy_from_slice(&self.end.to_le_bytes());
        value
    }
}

/// A collector's position in a stream: the first part without a gap. Empty for an unknown stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamPosition {
    /// Offset of the first byte received; nothing is known of earlier bytes.
    pub from: u64,
    /// Offset behind the last byte received before the first gap.
    pub upto: u64,
}

impl StreamPosition {
    /// Whether the collector knows the stream.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.from < self.upto
    }
}

/// A few streams, or positions in the same order, as many as fit into a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamList<T> {
    items: [T; MOST],
    len: usize,
}

impl<T: Copy + Default> StreamList<T> {
    /// Takes the first items, as many as fit.
    #[must_use]
    pub fn of(items: impl IntoIterator<Item = T>) -> Self {
        let mut list = Self::default();
        for (place, item) in list.items.iter_mut().zip(items) {
            *place = item;
            list.len += 1;
        }
        list
    }

    /// The items, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> + '_ {
        self.items[..self.len].iter().copied()
    }

    /// Whether there is no item.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the extension.
    pub(super) const fn extension_len(&self) -> usize {
        if self.len == 0 { 0 } else { 2 + ENTRY * self.len }
    }
}

impl<T: Copy + Default> Default for StreamList<T> {
    fn default() -> Self {
        Self { items: [T::default(); MOST], len: 0 }
    }
}

impl StreamList<StreamId> {
    /// Finds the streams of a question among its extensions; unknown extensions are skipped.
    pub(super) fn parse(extensions: &[u8]) -> Self {
        let ids = value_of(ASKED, extensions).chunks_exact(ENTRY);
        Self::of(ids.filter_map(|id| Some(StreamId(id.try_into().ok()?))))
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.begin(ASKED, out);
        self.iter().for_each(|StreamId(id)| out.extend_from_slice(&id));
    }
}

impl StreamList<StreamPosition> {
    /// Finds the positions of an answer among its extensions; unknown extensions are skipped.
    pub(super) fn parse(extensions: &[u8]) -> Self {
        let pairs = value_of(POSITIONS, extensions).chunks_exact(ENTRY);
        let position = |pair| {
            let (_, (from, upto)) = numbers(pair).ok()?;
            Some(StreamPosition { from, upto })
        };
        Self::of(pairs.filter_map(position))
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.begin(POSITIONS, out);
        for StreamPosition { from, upto } in self.iter() {
            out.extend_from_slice(&from.to_le_bytes());
            out.extend_from_slice(&upto.to_le_bytes());
        }
    }
}

impl<T> StreamList<T> {
    fn begin(&self, kind: u8, out: &mut Vec<u8>) {
        if self.len > 0 {
            let size = u8::try_from(ENTRY * self.len).expect("at most 15 of 16 bytes");
            out.extend_from_slice(&[kind, size]);
        }
    }
}

fn numbers(input: &[u8]) -> IResult<&[u8], (u64, u64), ()> {
    (le_u64, le_u64).parse(input)
}

/// Returns the value of the first extension of a kind; empty if there is none.
fn value_of(wanted: u8, mut extensions: &[u8]) -> &[u8] {
    while let Ok((rest, (kind, value))) = extension(extensions) {
        if kind == wanted {
            return value;
        }
        extensions = rest;
    }
    b""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_takes_as_many_as_fit_and_reads_as_it_was_written() {
        for count in [0, 1, 15, 40_u8] {
            let ids = StreamList::of((0..count).map(|number| StreamId([number; 16])));
            assert_eq!(ids.iter().len(), usize::from(count.min(15)));
            let mut out = vec![200, 1, 0];
            ids.write(&mut out);
            assert_eq!(out.len(), 3 + ids.extension_len());
            assert_eq!(StreamList::<StreamId>::parse(&out), ids);
            let position = |number| StreamPosition { from: u64::from(number), upto: u64::MAX - 1 };
            let positions = StreamList::of((0..count).map(position));
            positions.write(&mut out);
            assert_eq!(StreamList::<StreamPosition>::parse(&out), positions);
        }
    }

    #[test]
    fn a_span_without_bytes_or_of_another_size_is_refused() {
        let span = StreamSpan { stream: StreamId([7; 16]), start: 5, end: 9 };
        assert_eq!(StreamSpan::parse(&span.value()), Some(span));
        assert!(span.is_filled_by(3) && !span.is_filled_by(4));
        for (start, end) in [(5, 5), (6, 5), (u64::MAX, 0)] {
            assert_eq!(StreamSpan::parse(&StreamSpan { start, end, ..span }.value()), None);
        }
        assert_eq!(StreamSpan::parse(&span.value()[..31]), None);
        assert_eq!(StreamSpan::parse(&[&span.value()[..], &[0]].concat()), None);
    }
}
