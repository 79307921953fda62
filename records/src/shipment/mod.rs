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
mod writer;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::number::{le_i64, le_u32, le_u64};
use nom::{IResult, Parser};

pub use ages::Ages;
pub use discovery::{DiscoveryAnswer, DiscoveryQuestion};
pub(crate) use header::{DatagramParts, DatagramType, HEADER, extension, write_header};
pub use header::{MAGIC, VERSION, WireError, WireErrorKind};
pub use reassembly::Reassembly;
pub(crate) use sender_clock::SenderClock;
pub use senders::{SenderLimits, SenderTable, ShipmentArrival, ShipmentCounts, ShipmentOutcome};
pub use writer::{Push, SendStamp, ShipmentWriter};

use header::varint;

use crate::time::Timestamp;

/// How long a shipper gathers lines, if they do not fill a datagram before.
pub const GATHER: Duration = Duration::from_millis(5);

/// The longest line that is shipped; what is longer is cut and counted by the shipper.
pub const LINE: usize = 1 << 20;

/// The body holds one piece of one line.
const PIECE: u8 = 1;

/// Extensions.
const SERVER: u8 = 1;
const PORT: u8 = 2;
const NAME: u8 = 3;

/// A shipper, and which life of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SenderOrigin {
    /// Chosen at random at its start.
    pub id: u64,
    /// When it started, by its own clock.
    pub start: Timestamp,
}

/// The server a shipper speaks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShipmentServer<'a> {
    /// Its address as the balancer knows it; `None` is the datagram's source.
    pub addr: Option<IpAddr>,
    /// The port it serves on.
    pub port: Option<u16>,
    /// What people call it.
    pub name: Option<&'a [u8]>,
}

/// A datagram of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shipment<'a> {
    /// Who ships.
    pub origin: SenderOrigin,
    /// This shipment's number, from 0.
    pub number: u64,
    /// The number of its first line, from 0: counts the lines this origin has shipped.
    pub first_line: u64,
    /// When it was sent, by the shipper's clock.
    pub sent: Timestamp,
    /// Lines the shipper has dropped so far because its queue was full; they have no numbers.
    pub dropped: u64,
    /// Lines the shipper has cut so far because they were longer than [`LINE`].
    pub cut: u32,
    /// Whose lines these are.
    pub server: ShipmentServer<'a>,
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
    /// Bytes of the whole line.
    pub total: u32,
    /// Where in the line `bytes` belong.
    pub offset: u32,
    /// The part.
    pub bytes: &'a [u8],
}

impl<'a> Shipment<'a> {
    /// Reads a shipment. All of it is checked here: what is returned can be walked without faults.
    ///
    /// # Errors
    /// Says what is wrong at which byte. Any bytes are safe to pass.
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
        shipment.server = extensions_of(extensions)
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
        Ok(shipment)
    }

    /// The whole lines in it, without line ends; none if it holds a [`LinePiece`].
    #[must_use]
    pub fn lines(&self) -> ShipmentLines<'a> {
        match self.body {
            ShipmentBody::Lines { framed, .. } => ShipmentLines { framed },
            ShipmentBody::Piece(_) => ShipmentLines { framed: b"" },
        }
    }

    /// For each line, or for the piece, how many microseconds before [`Self::sent`] it was read;
    /// nothing if the shipper did not say.
    #[must_use]
    pub const fn ages(&self) -> Ages<'a> {
        self.ages
    }

    /// The part of a long line in it.
    #[must_use]
    pub const fn piece(&self) -> Option<LinePiece<'a>> {
        match self.body {
            ShipmentBody::Piece(piece) => Some(piece),
            ShipmentBody::Lines { .. } => None,
        }
    }

    /// How many line numbers it covers; a piece covers the one of its line.
    #[must_use]
    pub const fn line_count(&self) -> u32 {
        match self.body {
            ShipmentBody::Lines { count, .. } => count,
            ShipmentBody::Piece(_) => 1,
        }
    }

    /// Walks the body; if it breaks off, at which byte.
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

/// The fixed part; its lines are not yet there.
fn fixed(input: &[u8]) -> IResult<&[u8], Shipment<'_>, ()> {
    let (input, origin) = discovery::origin(input)?;
    let (input, (number, first_line, sent)) = (le_u64, le_u64, le_i64).parse(input)?;
    let (input, (dropped, cut, count)) = (le_u64, le_u32, le_u32).parse(input)?;
    let sent = Timestamp::from_micros(sent);
    let body = ShipmentBody::Lines { framed: b"", count };
    let (server, ages) = (ShipmentServer::default(), Ages::new(b""));
    Ok((input, Shipment { origin, number, first_line, sent, dropped, cut, server, ages, body }))
}

/// Reads the extensions we know and skips the others; on a bad one, gives back what was left.
fn extensions_of(mut input: &[u8]) -> Result<ShipmentServer<'_>, &[u8]> {
    let mut server = ShipmentServer::default();
    while !input.is_empty() {
        let (rest, (kind, value)) = extension(input).map_err(|_| input)?;
        match kind {
            SERVER => server.addr = Some(address(value).ok_or(input)?),
            PORT => server.port = Some(u16::from_le_bytes(value.try_into().map_err(|_| input)?)),
            NAME => server.name = Some(value),
            _ => {}
        }
        input = rest;
    }
    Ok(server)
}

/// Four bytes or sixteen, in network order.
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
