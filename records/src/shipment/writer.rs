//! Writes lines into shipments.

use std::time::Duration;

use super::ages::{ROOM, ReadTimes};
use super::header::{
    DatagramParts, DatagramType, HEADER, extension, varint_len, write_header, write_varint,
};
use super::stream::{SPAN_LEN, STREAM, StreamSpan};
use super::{LINE, NAME, PIECE, PORT, SERVER, SenderOrigin, Shipment, ShipmentServer};
use crate::addr::parse_ip;
use crate::time::Timestamp;

/// Bytes of a shipment's header and fixed part.
const FIXED: usize = HEADER + 56;

/// Writes shipments, one after another into the same buffer, and numbers shipments and lines.
#[derive(Debug)]
pub struct ShipmentWriter {
    /// Header, fixed part, and the extensions that are equal in each shipment.
    head: Vec<u8>,
    /// Space for the head, the part of a stream and all ages, then the lines so far. A finished head is copied in front
    /// of the lines, which do not move.
    bytes: Vec<u8>,
    /// Offset of the lines in `bytes`.
    body: usize,
    /// The read times of the lines.
    reads: ReadTimes,
    /// The varying extensions: part of a stream, and ages.
    ages: Vec<u8>,
    /// The place of the lines in a stream.
    span: Option<StreamSpan>,
    /// The last line has no line feed in the stream, so the shipment takes no further line.
    closed: bool,
    /// The most bytes a datagram may have.
    limit: usize,
    /// Lines in `bytes`.
    count: u32,
    /// The number of the next shipment.
    number: u64,
    /// The number of the first line that is not in a finished shipment yet.
    first_line: u64,
}

/// The shipper's state when a shipment is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendStamp {
    /// The time by the shipper's clock.
    pub sent: Timestamp,
    /// The time by the monotonic clock that dates the reading of lines.
    pub now: Duration,
    /// Lines dropped so far.
    pub dropped: u64,
    /// Lines cut so far.
    pub cut: u32,
}

/// A line for a shipment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutgoingLine<'a> {
    /// Any bytes, without a line end.
    pub bytes: &'a [u8],
    /// The time at which the line was read, by a monotonic clock.
    pub read: Option<Duration>,
    /// The place of the line in a stream, line feed included.
    pub span: Option<StreamSpan>,
}

/// The result of adding a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Push {
    /// The line is in the shipment.
    Taken,
    /// The shipment has no space left: call [`ShipmentWriter::finish`], then add the line again.
    Full,
    /// The line is longer than a datagram: call [`ShipmentWriter::finish`], then
    /// [`ShipmentWriter::piece`].
    Long,
}

impl ShipmentWriter {
    /// The smallest limit: space for the head and a few bytes of lines.
    pub const SMALLEST: usize = 512;

    /// Creates a writer of shipments of at most `limit` bytes (at least [`Self::SMALLEST`]). The
    /// server's name is cut to 255 bytes.
    #[must_use]
    pub fn new(origin: SenderOrigin, server: ShipmentServer<'_>, limit: usize) -> Self {
        let mut extensions = Vec::new();
        if let Some(addr) = server.addr {
            match addr.to_canonical() {
                std::net::IpAddr::V4(ip) => extend(SERVER, &ip.octets(), &mut extensions),
                std::net::IpAddr::V6(ip) => extend(SERVER, &ip.octets(), &mut extensions),
            }
        }
        if let Some(port) = server.port {
            extend(PORT, &port.to_le_bytes(), &mut extensions);
        }
        if let Some(name) = server.name {
            extend(NAME, name, &mut extensions);
        }
        let mut head = Vec::with_capacity(FIXED + extensions.len());
        write_header(DatagramType::Shipment, 0, 0, &mut head);
        head.extend_from_slice(&origin.id.to_le_bytes());
        head.extend_from_slice(&origin.start.as_micros().to_le_bytes());
        head.resize(FIXED, 0);
        head.extend_from_slice(&extensions);
        let body = head.len() + SPAN_LEN + ROOM;
        let (reads, ages) = (ReadTimes::default(), Vec::new());
        let limit = limit.max(Self::SMALLEST);
        let bytes = vec![0; body];
        let (span, closed) = (None, false);
        let (count, number, first_line) = (0, 0, 0);
        Self { head, bytes, body, reads, ages, span, closed, limit, count, number, first_line }
    }

    /// Changes the limit; lines already in the buffer stay.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.max(Self::SMALLEST);
    }

    /// The most bytes of a datagram.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// Adds a line of no stream, which may hold any bytes and has no line end. `read` is the time at
    /// which the line was read, by a monotonic clock.
    pub fn push(&mut self, bytes: &[u8], read: Option<Duration>) -> Push {
        self.push_line(&OutgoingLine { bytes, read, span: None })
    }

    /// Adds a line. A shipment takes consecutive lines of a single stream.
    pub fn push_line(
        &mut self,
        &OutgoingLine { bytes: line, read, span }: &OutgoingLine<'_>,
    ) -> Push {
        let Ok(len) = u32::try_from(line.len()) else { return Push::Long };
        let framed = varint_len(len) + line.len();
        let head = self.head.len() + span_len(span);
        let ages = self.reads.most_bytes_with(read);
        if self.is_next(span) && head + ages + (self.bytes.len() - self.body) + framed <= self.limit
        {
            write_varint(len, &mut self.bytes);
            self.bytes.extend_from_slice(line);
            self.reads.add(read);
            self.count += 1;
            self.extend_span(span, line.len());
            return Push::Taken;
        }
        let ages = ReadTimes::default().most_bytes_with(read);
        if head + ages + framed <= self.limit { Push::Full } else { Push::Long }
    }

    /// Whether a line of this part of a stream can be in the current shipment.
    fn is_next(&self, span: Option<StreamSpan>) -> bool {
        let is_behind = match (self.span, span) {
            (None, None) => true,
            (Some(last), Some(next)) => (last.stream, last.end) == (next.stream, next.start),
            _ => false,
        };
        self.count == 0 || is_behind && !self.closed
    }

    fn extend_span(&mut self, span: Option<StreamSpan>, len: usize) {
        self.closed = span.is_some_and(|span| !span.is_filled_by(len));
        match (&mut self.span, span) {
            (Some(whole), Some(span)) => whole.end = span.end,
            (whole, span) => *whole = span,
        }
    }

    /// The most bytes that the current shipment has with its head; the encoded ages may turn out
    /// shorter.
    #[must_use]
    pub fn len(&self) -> usize {
        let head = self.head.len() + span_len(self.span);
        self.bytes.len() - self.body + head + self.reads.most_bytes()
    }

    /// Whether the current shipment has no line.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number of the next shipment, which is the number of shipments so far.
    #[must_use]
    pub const fn shipments(&self) -> u64 {
        self.number
    }

    /// The number of the next line to be finished, which is the number of lines so far.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.first_line
    }

    /// Calls `send` with the finished datagram and begins the next one; does nothing if there is no
    /// line.
    pub fn finish<R>(&mut self, stamp: SendStamp, send: impl FnOnce(&[u8]) -> R) -> Option<R> {
        if self.count == 0 {
            return None;
        }
        let lines = self.count;
        Some(self.complete(stamp, 0, lines, lines.into(), send))
    }

    /// Calls `send` with a datagram that holds as much of `line` from `offset` on as fits. Returns
    /// the offset of the next piece, `None` after the last, and the result of `send`. Lines are cut
    /// to [`LINE`] bytes. The current shipment must be empty.
    pub fn piece<R>(
        &mut self,
        &OutgoingLine { bytes: line, read, span }: &OutgoingLine<'_>,
        offset: usize,
        stamp: SendStamp,
        send: impl FnOnce(&[u8]) -> R,
    ) -> (Option<usize>, R) {
        debug_assert!(self.is_empty(), "lines come before pieces");
        self.reads.add(read);
        self.span = span;
        let line = &line[..line.len().min(LINE)];
        let total = u32::try_from(line.len()).expect("cut to a mebibyte");
        let start = u32::try_from(offset.min(line.len())).expect("not behind its end");
        write_varint(total, &mut self.bytes);
        write_varint(start, &mut self.bytes);
        let end = line.len().min(offset + self.limit.saturating_sub(self.len()).max(1));
        self.bytes.extend_from_slice(line.get(offset..end).unwrap_or_default());
        let next = (end < line.len()).then_some(end);
        let sent = self.complete(stamp, PIECE, 1, u64::from(next.is_none()), send);
        (next, sent)
    }

    /// Fills in the fixed part, sends the datagram and clears the buffer for the next one.
    fn complete<R>(
        &mut self,
        stamp: SendStamp,
        flags: u8,
        count: u32,
        done: u64,
        send: impl FnOnce(&[u8]) -> R,
    ) -> R {
        self.ages.clear();
        if let Some(span) = self.span.take() {
            extend(STREAM, &span.value(), &mut self.ages);
        }
        self.reads.write(stamp.now, &mut self.ages);
        let length = self.head.len() + self.ages.len();
        let start = self.body - length;
        let length = u16::try_from(length).expect("of our own extensions, 2 KiB at most");
        self.head[5] = flags;
        self.head[6..HEADER].copy_from_slice(&length.to_le_bytes());
        let fixed = &mut self.head[HEADER + 16..FIXED];
        fixed[..8].copy_from_slice(&self.number.to_le_bytes());
        fixed[8..16].copy_from_slice(&self.first_line.to_le_bytes());
        fixed[16..24].copy_from_slice(&stamp.sent.as_micros().to_le_bytes());
        fixed[24..32].copy_from_slice(&stamp.dropped.to_le_bytes());
        fixed[32..36].copy_from_slice(&stamp.cut.to_le_bytes());
        fixed[36..].copy_from_slice(&count.to_le_bytes());
        let ages = start + self.head.len();
        self.bytes[start..ages].copy_from_slice(&self.head);
        self.bytes[ages..self.body].copy_from_slice(&self.ages);
        let sent = send(&self.bytes[start..]);
        self.bytes.truncate(self.body);
        self.reads.clear();
        self.closed = false;
        self.count = 0;
        self.number += 1;
        self.first_line += done;
        sent
    }
}

impl Shipment<'_> {
    /// Returns a shipment with the number and server of this one and no lines, to be sent in its
    /// place; `None` if it is no shipment. The lines count as lost, by their numbers.
    #[must_use]
    pub fn without_lines(shipment: &[u8]) -> Option<Vec<u8>> {
        let parts = DatagramParts::parse(shipment).ok()?;
        let (fixed, mut extensions) = parts.head.split_at_checked(FIXED - HEADER)?;
        let mut kept = Vec::new();
        while !extensions.is_empty() {
            let (rest, (kind, value)) = extension(extensions).ok()?;
            if matches!(kind, SERVER | PORT | NAME) {
                extend(kind, value, &mut kept);
            }
            extensions = rest;
        }
        let mut out = Vec::new();
        let length = u16::try_from(FIXED + kept.len()).ok()?;
        write_header(DatagramType::Shipment, 0, length, &mut out);
        out.extend_from_slice(fixed);
        out.truncate(FIXED - size_of::<u32>());
        out.extend_from_slice(&0_u32.to_le_bytes());
        out.extend_from_slice(&kept);
        Some(out)
    }
}

impl ShipmentServer<'_> {
    /// Parses `ADDR`, `ADDR:PORT` or `[ADDR]:PORT`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(addr) = parse_ip(text.as_bytes()) {
            return Some(Self { addr: Some(addr), ..Self::default() });
        }
        let (addr, port) = text.rsplit_once(':')?;
        let addr = parse_ip(addr.as_bytes())?;
        Some(Self { addr: Some(addr), port: Some(port.parse().ok()?), name: None })
    }
}

/// Bytes of the extension about a part of a stream.
const fn span_len(span: Option<StreamSpan>) -> usize {
    if span.is_some() { SPAN_LEN } else { 0 }
}

fn extend(kind: u8, value: &[u8], out: &mut Vec<u8>) {
    let value = &value[..value.len().min(255)];
    out.extend_from_slice(&[kind, u8::try_from(value.len()).unwrap_or(u8::MAX)]);
    out.extend_from_slice(value);
}
