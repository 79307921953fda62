//! Discovery: a shipper asks whether a collector of ours listens, and the collector answers.
//!
//! An answer says which shipments have come, so the shipper forgets these, sends others again, and
//! knows how fast to send. An answer is never longer than its question: a collector is no amplifier.
//!
//! ```text
//! question = header nonce(u64) id(u64) start(i64) shipments(u64) lines(u64) [streams]
//! answer   = header nonce(u64) window(u32) datagram(u32) [received] [positions]
//! received = %x01 %x10 from(u64) upto(u64)                                      ; an extension
//! ```
//!
//! The C collector takes a question for an access line. The sixth byte, the flags, is always zero
//! in a question and ends the C string, so the collector finds no quotes and drops the line.

use crate::number::{le_i64, le_u32, le_u64};
use nom::{IResult, Parser};

use super::SenderOrigin;
use super::header::{
    DatagramParts, DatagramType, HEADER, WireError, WireErrorKind, extension, write_header,
};
use super::stream::{StreamId, StreamList, StreamPosition};
use crate::time::Timestamp;

/// A shipper's question, with its progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiscoveryQuestion {
    /// Echoed in the answer; hard to guess, so that no third party can answer.
    pub nonce: u64,
    /// The sender of the question.
    pub origin: SenderOrigin,
    /// Shipments sent so far, which is the number of the next shipment. Reveals the loss of the
    /// last shipments.
    pub shipments: u64,
    /// Lines shipped so far, which is the number of the next line.
    pub lines: u64,
    /// Followed files, to be answered with the collector's positions.
    pub streams: StreamList<StreamId>,
}

impl DiscoveryQuestion {
    /// Length in bytes of a question without streams.
    pub const LEN: usize = HEADER + 40;

    /// Parses a question.
    ///
    /// # Errors
    /// Names the fault and its byte offset. Any bytes are safe to pass.
    pub fn parse(datagram: &[u8]) -> Result<Self, WireError> {
        Self::from_parts(&DatagramParts::parse(datagram)?)
    }

    pub(crate) fn from_parts(parts: &DatagramParts<'_>) -> Result<Self, WireError> {
        expect(parts, DatagramType::Question)?;
        let (extensions, mut question) = question(parts.head).map_err(|_| short(parts))?;
        question.streams = StreamList::<StreamId>::parse(extensions);
        Ok(question)
    }

    /// Appends the question.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_header(DatagramType::Question, 0, length(QUESTION, &self.streams), out);
        out.extend_from_slice(&self.nonce.to_le_bytes());
        out.extend_from_slice(&self.origin.id.to_le_bytes());
        out.extend_from_slice(&self.origin.start.as_micros().to_le_bytes());
        out.extend_from_slice(&self.shipments.to_le_bytes());
        out.extend_from_slice(&self.lines.to_le_bytes());
        self.streams.write(out);
    }
}

/// A collector's answer, with its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiscoveryAnswer {
    /// The nonce of the question.
    pub nonce: u64,
    /// Bytes of datagrams that the shipper may have in flight, not yet confirmed by an answer: the
    /// shipper's share of the collector's receive buffer, less the kernel's overhead for each
    /// datagram. Zero if the collector names no limit.
    pub window: u32,
    /// The longest datagram that the collector receives in full; zero if the collector names no
    /// limit.
    pub datagram: u32,
    /// The shipments received before the question. Without it, all of them.
    pub received: Option<ReceivedShipments>,
    /// The position of each stream of the question, in the same order; none of a collector that does not know streams.
    pub positions: StreamList<StreamPosition>,
}

/// The oldest unbroken run of shipments of one shipper that a collector has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedShipments {
    /// The first number received: nothing is known of earlier ones, as after a restart of the
    /// collector.
    pub from: u64,
    /// The first missing number after.
    pub upto: u64,
}

impl DiscoveryAnswer {
    /// Length in bytes of the longest answer without positions of streams.
    pub const LEN: usize = HEADER + 34;

    /// Parses an answer.
    ///
    /// # Errors
    /// Names the fault and its byte offset. Any bytes are safe to pass.
    pub fn parse(datagram: &[u8]) -> Result<Self, WireError> {
        Self::from_parts(&DatagramParts::parse(datagram)?)
    }

    pub(crate) fn from_parts(parts: &DatagramParts<'_>) -> Result<Self, WireError> {
        expect(parts, DatagramType::Answer)?;
        let (extensions, mut answer) = answer(parts.head).map_err(|_| short(parts))?;
        answer.received = received(extensions);
        answer.positions = StreamList::<StreamPosition>::parse(extensions);
        Ok(answer)
    }

    /// Appends the answer.
    pub fn write(&self, out: &mut Vec<u8>) {
        let extension = if self.received.is_some() { RECEIVED_LEN } else { 0 };
        write_header(DatagramType::Answer, 0, length(ANSWER + extension, &self.positions), out);
        out.extend_from_slice(&self.nonce.to_le_bytes());
        out.extend_from_slice(&self.window.to_le_bytes());
        out.extend_from_slice(&self.datagram.to_le_bytes());
        if let Some(ReceivedShipments { from, upto }) = self.received {
            out.extend_from_slice(&[RECEIVED, 16]);
            out.extend_from_slice(&from.to_le_bytes());
            out.extend_from_slice(&upto.to_le_bytes());
        }
        self.positions.write(out);
    }
}

/// Returns the length in the header: that without streams, and the extension about streams.
fn length<T: Copy + Default>(without: u16, streams: &StreamList<T>) -> u16 {
    without + u16::try_from(streams.extension_len()).expect("at most 242 bytes")
}

/// The lengths in the headers.
const QUESTION: u16 = 48;
const ANSWER: u16 = 24;

/// The extension of an answer with the received shipments: its kind, and its length.
const RECEIVED: u8 = 1;
const RECEIVED_LEN: u16 = 18;

fn expect(parts: &DatagramParts<'_>, kind: DatagramType) -> Result<(), WireError> {
    if parts.kind != kind {
        return Err(WireError { kind: WireErrorKind::Type, at: 4 });
    }
    parts.check_flags(0)
}

fn short(parts: &DatagramParts<'_>) -> WireError {
    WireError { kind: WireErrorKind::Short, at: parts.body_at() }
}

fn question(input: &[u8]) -> IResult<&[u8], DiscoveryQuestion, ()> {
    let (input, nonce) = le_u64(input)?;
    let (input, origin) = origin(input)?;
    let (input, (shipments, lines)) = (le_u64, le_u64).parse(input)?;
    let streams = StreamList::default();
    Ok((input, DiscoveryQuestion { nonce, origin, shipments, lines, streams }))
}

fn answer(input: &[u8]) -> IResult<&[u8], DiscoveryAnswer, ()> {
    let (input, (nonce, window, datagram)) = (le_u64, le_u32, le_u32).parse(input)?;
    let (received, positions) = (None, StreamList::default());
    Ok((input, DiscoveryAnswer { nonce, window, datagram, received, positions }))
}

/// Finds the received shipments among the extensions; unknown ones are skipped.
fn received(mut input: &[u8]) -> Option<ReceivedShipments> {
    while !input.is_empty() {
        let (rest, (kind, value)) = extension(input).ok()?;
        if kind == RECEIVED {
            let numbers: IResult<_, _, ()> = (le_u64, le_u64).parse(value);
            return numbers.ok().map(|(_, (from, upto))| ReceivedShipments { from, upto });
        }
        input = rest;
    }
    None
}

/// `origin = id(u64) start(i64)`
pub(super) fn origin(input: &[u8]) -> IResult<&[u8], SenderOrigin, ()> {
    let (input, (id, start)) = (le_u64, le_i64).parse(input)?;
    Ok((input, SenderOrigin { id, start: Timestamp::from_micros(start) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(streams: &[StreamId]) -> DiscoveryQuestion {
        DiscoveryQuestion {
            nonce: 0x2222_0102_0304_0A22,
            origin: SenderOrigin { id: 77, start: Timestamp::from_seconds(1_795_379_143) },
            shipments: 3,
            lines: 12,
            streams: StreamList::of(streams.iter().copied()),
        }
    }

    #[test]
    fn questions_and_answers_read_as_they_were_written() {
        let (window, datagram) = (1 << 20, 65_507);
        for count in [0, 1, 15] {
            let asked = asked(&vec![StreamId([9; 16]); count]);
            let mut question = Vec::new();
            asked.write(&mut question);
            assert_eq!(DiscoveryQuestion::parse(&question), Ok(asked));
            assert!(count > 0 || question.len() == DiscoveryQuestion::LEN);
            for received in [None, Some(ReceivedShipments { from: 7, upto: u64::MAX })] {
                let position = StreamPosition { from: 3, upto: u64::MAX };
                let positions = StreamList::of(vec![position; count]);
                let nonce = asked.nonce;
                let answered = DiscoveryAnswer { nonce, window, datagram, received, positions };
                let mut answer = Vec::new();
                answered.write(&mut answer);
                assert_eq!(DiscoveryAnswer::parse(&answer), Ok(answered));
                assert!(count > 0 || answer.len() <= DiscoveryAnswer::LEN);
                assert!(answer.len() <= question.len(), "an answer must not amplify");
                assert!(DiscoveryQuestion::parse(&answer).is_err());
            }
            assert!(DiscoveryAnswer::parse(&question).is_err());
        }
    }

    #[test]
    fn a_c_collector_finds_no_quotes_before_the_first_nul_of_a_question() {
        let mut question = Vec::new();
        asked(&[StreamId([b'"'; 16])]).write(&mut question);
        let string = question.split(|&byte| byte == 0).next().unwrap();
        assert!(!string.contains(&b'"') && !string.starts_with(b"+"), "{string:?}");
    }

    #[test]
    fn what_a_later_version_adds_behind_the_fixed_part_is_skipped() {
        let mut question = Vec::new();
        asked(&[]).write(&mut question);
        question[6] += 3;
        question.extend_from_slice(&[200, 1, 0]);
        assert_eq!(DiscoveryQuestion::parse(&question), Ok(asked(&[])));
        question[5] = 1;
        let refused = DiscoveryQuestion::parse(&question).unwrap_err();
        assert_eq!((refused.kind, refused.at), (WireErrorKind::Flags, 5));
    }
}
