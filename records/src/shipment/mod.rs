//! What the shipper sends: lines, framed and numbered.
//!
//! A [`Shipment`] is one datagram: its sender, its number, the number of its first line, and the
//! lines. [`ShipmentWriter`] writes shipments. [`SenderTable`] receives them: it counts missing
//! shipments and lines, drops duplicates and reassembles lines that were sent in pieces. A
//! [`DiscoveryQuestion`] and its [`DiscoveryAnswer`] find out whether a collector listens. The layout
//! is in `docs/design/wire.md`.

mod ages;
mod discovery;
mod header;
mod reassembly;
mod sender_clock;
mod senders;
mod stream;
mod stream_table;
mod writer;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::number::{le_i64, le_u32, le_u64};
use nom::{IResult, Parser};

pub use ages::Ages;
pub use discovery::{DiscoveryAnswer, DiscoveryQuestion, ReceivedShipments};
pub(crate) use header::{DatagramParts, DatagramType, HEADER, extension, write_header};
pub use header::{MAGIC, VERSION, WireError, WireErrorKind};
pub use reassembly::Reassembly;
pub(crate) use sender_clock::SenderClock;
pub use senders::{SenderLimits, SenderTable, ShipmentArrival, ShipmentCounts, ShipmentOutcome};
pub use stream::{StreamId, StreamList, StreamPosition, StreamSpan};
pub use writer::{OutgoingLine, Push, SendStamp, ShipmentWriter};

use header::varint;
use stream::STREAM;

use crate::time::Timestamp;

/// How long a shipper gathers lines before it sends a datagram that is not full.
pub const GATHER: Duration = Duration::from_millis(5);

/// The longest line that is shipped, in bytes; the shipper cuts longer lines and counts them.
pub const LINE: usize = 1 << 20;

/// Flag: the body holds one piece of one line.
const PIECE: u8 = 1;

/// Kinds of extensions.
const SERVER: u8 = 1;
const PORT: u8 = 2;
const NAME: u8 = 3;

/// The identity of a sender: a shipper or a balancer, and one run of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SenderOrigin {
    /// Chosen at random when the sender starts.
    pub id: u64,
    /// When the sender started, by the sender's clock.
    pub start: Timestamp,
}

/// The server whose lines a shipper sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShipmentServer<'a> {
    /// The server's address as the balancer knows it; `None` means the source address of the
    /// datagram.
    pub addr: Option<IpAddr>,
    /// The port on which the server listens.
    pub port: Option<u16>,
    /// The server's name for readers of reports.
    pub name: Option<&'a [u8]>,
}

/// A datagram of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shipment<'a> {
    /// The sender.
    pub origin: SenderOrigin,
    /// The number of this shipment, from 0.
    pub number: u64,
    /// The number of the first line, from 0: counts the lines that this sender has shipped.
    pub first_line: u64,
    /// When the shipment was sent, by the shipper's clock.
    pub sent: Timestamp,
    /// Lines that the shipper has dropped so far because its queue was full; dropped lines have no
    /// numbers.
    pub dropped: u64,
    /// Lines that the shipper has cut so far because they were longer than [`LINE`].
    pub cut: u32,
    /// The server that logged the lines.
    pub server: ShipmentServer<'a>,
    /// The place of the lines in a followed file; of the whole line, for a piece.
    pub stream: Option<StreamSpan>,
    ages: Ages<'a>,
    body: ShipmentBody<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShipmentBody<'a> {
    Lines { framed: &'a [u8], count: u32 },
    Piece(LinePiece<'a>),
}

/// A part of a line that is longer than a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinePiece<'a> {
    /// Length of the full line in bytes.
    pub total: u32,
    /// Offset of `bytes` in the line.
    pub offset: u32,
    /// The bytes of this part.
    pub bytes: &'a [u8],
}

impl<'a> Shipment<'a> {
    /// Parses a shipment and checks every byte, so that iterating over the result cannot fail.
    ///
    /// # Errors
    /// Names the fault and its byte offset. Any bytes are safe to pass.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        Self::from_parts(&DatagramParts::parse(datagram)?)
    }

    pub(crate) fn from_parts(parts: &DatagramParts<'a>) -> Result<Self, WireError> {
        let fail = |kind, at| WireError { kind, at };
        if parts.kind != DatagramType::Shipment {
            return Err(fail(WireErrorKind::Type, 4));
        }
        parts.check_flags(PIECE)?;
        let (extensions, mut shipment) =
            fixed(parts.head).map_err(|_| fail(WireErrorKind::Short, parts.body_at()))?;
        (shipment.server, shipment.stream) = extensions_of(extensions)
            .map_err(|rest| fail(WireErrorKind::Extension, parts.body_at() - rest.len()))?;
        let announced = shipment.line_count();
        shipment.body = if parts.flags & PIECE == 0 {
            ShipmentBody::Lines { framed: parts.body, count: announced }
        } else {
            let piece =
                piece(parts.body).ok_or_else(|| fail(WireErrorKind::Piece, parts.body_at()))?;
            ShipmentBody::Piece(piece)
        };
        shipment.ages = Ages::new(extensions);
        shipment
            .ages
            .check(announced)
            .map_err(|rest| fail(WireErrorKind::Extension, parts.body_at() - rest.len()))?;
        let counted = shipment.count_lines();
        if counted != Ok(announced) || shipment.first_line.checked_add(announced.into()).is_none() {
            let at = parts.body_at() + counted.err().unwrap_or(parts.body.len());
            return Err(fail(WireErrorKind::Lines, at));
        }
        if !shipment.fits_stream() {
            return Err(fail(WireErrorKind::Stream, parts.body_at()));
        }
        Ok(shipment)
    }

    /// Whether the lines have as many bytes as their part of a stream: the last one may have no line feed there. A line in
    /// pieces may have been longer.
    fn fits_stream(&self) -> bool {
        let Some(StreamSpan { start, end, .. }) = self.stream else { return true };
        let bytes = end - start;
        match self.body {
            ShipmentBody::Piece(piece) => u64::from(piece.total) <= bytes,
            ShipmentBody::Lines { .. } => {
                let sum: u64 = self.lines().map(|line| line.len() as u64 + 1).sum();
                bytes == sum || Some(bytes) == sum.checked_sub(1)
            }
        }
    }

    /// The complete lines, without line ends; none if the shipment holds a [`LinePiece`].
    #[must_use]
    pub fn lines(&self) -> ShipmentLines<'a> {
        match self.body {
            ShipmentBody::Lines { framed, .. } => ShipmentLines { framed },
            ShipmentBody::Piece(_) => ShipmentLines { framed: b"" },
        }
    }

    /// For each line, or for the piece, the microseconds between the reading of the line and
    /// [`Self::sent`]; empty if the shipper sent no ages.
    #[must_use]
    pub const fn ages(&self) -> Ages<'a> {
        self.ages
    }

    /// The piece of a long line, if the shipment holds one.
    #[must_use]
    pub const fn piece(&self) -> Option<LinePiece<'a>> {
        match self.body {
            ShipmentBody::Piece(piece) => Some(piece),
            ShipmentBody::Lines { .. } => None,
        }
    }

    /// How many line numbers the shipment covers; a piece covers the number of its line.
    #[must_use]
    pub const fn line_count(&self) -> u32 {
        match self.body {
            ShipmentBody::Lines { count, .. } => count,
            ShipmentBody::Piece(_) => 1,
        }
    }

    /// Counts the lines of the body; on a malformed line, returns its offset.
    fn count_lines(&self) -> Result<u32, usize> {
        let ShipmentBody::Lines { framed, .. } = self.body else { return Ok(1) };
        let (mut rest, mut count) = (framed, 0_u32);
        while !rest.is_empty() {
            (rest, _) = framed_line(rest).ok_or(framed.len() - rest.len())?;
            count = count.saturating_add(1);
        }
        Ok(count)
    }
}

/// The lines of a shipment.
#[derive(Clone, Copy, Debug)]
pub struct ShipmentLines<'a> {
    framed: &'a [u8],
}

impl<'a> Iterator for ShipmentLines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (rest, line) = framed_line(self.framed)?;
        self.framed = rest;
        Some(line)
    }
}

/// `line = varint *OCTET`
fn framed_line(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, len) = varint(input).ok()?;
    let (line, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    Some((rest, line))
}

/// Parses the fixed part; the lines are filled in later.
fn fixed(input: &[u8]) -> IResult<&[u8], Shipment<'_>, ()> {
    let (input, origin) = discovery::origin(input)?;
    let (input, (number, first_line, sent)) = (le_u64, le_u64, le_i64).parse(input)?;
    let (input, (dropped, cut, count)) = (le_u64, le_u32, le_u32).parse(input)?;
    let sent = Timestamp::from_micros(sent);
    let body = ShipmentBody::Lines { framed: b"", count };
    let (server, stream, ages) = (ShipmentServer::default(), None, Ages::new(b""));
    let shipment =
        Shipment { origin, number, first_line, sent, dropped, cut, server, stream, ages, body };
    Ok((input, shipment))
}

/// Parses known extensions and skips others; on a malformed extension, returns the remaining bytes.
fn extensions_of(mut input: &[u8]) -> Result<(ShipmentServer<'_>, Option<StreamSpan>), &[u8]> {
    let (mut server, mut span) = (ShipmentServer::default(), None);
    while !input.is_empty() {
        let (rest, (kind, value)) = extension(input).map_err(|_| input)?;
        match kind {
            SERVER => server.addr = Some(address(value).ok_or(input)?),
            PORT => server.port = Some(u16::from_le_bytes(value.try_into().map_err(|_| input)?)),
            NAME => server.name = Some(value),
            STREAM => span = Some(StreamSpan::parse(value).ok_or(input)?),
            _ => {}
        }
        input = rest;
    }
    Ok((server, span))
}

/// Parses four or sixteen bytes, in network order.
fn address(value: &[u8]) -> Option<IpAddr> {
    let v4 = || Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into());
    let v6 = || Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into());
    v4().or_else(v6).map(|ip: IpAddr| ip.to_canonical())
}

/// `piece = total(varint) offset(varint) 1*OCTET`
fn piece(input: &[u8]) -> Option<LinePiece<'_>> {
    let (bytes, (total, offset)) = (varint, varint).parse(input).ok()?;
    let end = usize::try_from(offset).ok()?.checked_add(bytes.len())?;
    let total_len = usize::try_from(total).ok()?;
    (!bytes.is_empty() && end <= total_len && total_len <= LINE).then_some(LinePiece {
        total,
        offset,
        bytes,
    })
}

#[cfg(test)]
mod tests;
