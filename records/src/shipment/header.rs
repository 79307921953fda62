//! The common header of all binary datagrams, and their integers.
//!
//! ```text
//! datagram  = header fixed *extension body
//! header    = %xFE "pn" version type flags length     ; length: u16, offset of the body
//! extension = kind size *OCTET                        ; a byte each, size octets follow
//! ```
//!
//! `0xFE` begins no UTF-8 text, no access line, no `+ ` and no syslog `<`. A reader skips unknown
//! extensions, and refuses unknown flags in the low half. `docs/design/wire.md` has the layout.

use std::fmt;

use crate::number::{le_u16, u8};
use nom::bytes::complete::{tag, take};
use nom::multi::length_data;
use nom::{IResult, Parser};

/// The first bytes of every binary datagram.
pub const MAGIC: [u8; 3] = [0xFE, b'p', b'n'];

/// The version of the layout that this crate writes and reads.
pub const VERSION: u8 = 1;

/// Bytes before the fixed part.
pub(crate) const HEADER: usize = 8;

/// Flags that change the meaning of the rest: a reader refuses a datagram if it does not know them.
const MUST_KNOW: u8 = 0x0F;

/// The type of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DatagramType {
    Question,
    Answer,
    Shipment,
    /// Mappings from the balancer.
    Packet,
}

impl DatagramType {
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Question => 1,
            Self::Answer => 2,
            Self::Shipment => 3,
            Self::Packet => 4,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Question),
            2 => Some(Self::Answer),
            3 => Some(Self::Shipment),
            4 => Some(Self::Packet),
            _ => None,
        }
    }
}

/// Why bytes are no valid binary datagram, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireError {
    /// The fault.
    pub kind: WireErrorKind,
    /// Offset of the first invalid byte.
    pub at: usize,
}

/// The fault of an invalid binary datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireErrorKind {
    /// The datagram does not begin with the magic bytes.
    Magic,
    /// The version is unknown, from a later release.
    Version,
    /// The type is unknown or not the expected one.
    Type,
    /// An unknown flag that changes the meaning is set.
    Flags,
    /// The datagram ends too early.
    Short,
    /// The size of an extension does not fit its kind.
    Extension,
    /// The lines do not fill the body, or their number is not the announced one.
    Lines,
    /// The piece lies outside of its line, or the line is too long.
    Piece,
    /// The lines have another length than the part of the stream in the extension.
    Stream,
    /// The records do not fill the body, or their number is not the announced one.
    Records,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match self.kind {
            WireErrorKind::Magic => "no magic bytes",
            WireErrorKind::Version => "an unknown version",
            WireErrorKind::Type => "an unexpected type",
            WireErrorKind::Flags => "an unknown flag",
            WireErrorKind::Short => "the datagram ends too early",
            WireErrorKind::Extension => "an extension of the wrong size",
            WireErrorKind::Lines => "an unexpected number of lines",
            WireErrorKind::Piece => "a piece beyond the end of its line",
            WireErrorKind::Stream => "lines of another length than their part of the file",
            WireErrorKind::Records => "an unexpected number of records",
        };
        write!(f, "{fault} at byte {}", self.at)
    }
}

impl std::error::Error for WireError {}

/// The parts of a datagram, before the type gives them a meaning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DatagramParts<'a> {
    pub(crate) kind: DatagramType,
    pub(crate) flags: u8,
    /// The fixed part and the extensions.
    pub(crate) head: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl<'a> DatagramParts<'a> {
    pub(crate) fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        let fail = |kind, at| WireError { kind, at };
        let (rest, _) =
            tag::<_, _, ()>(&MAGIC[..])(datagram).map_err(|_| fail(WireErrorKind::Magic, 0))?;
        let (rest, (version, kind, flags)) =
            bytes(rest).map_err(|_| fail(WireErrorKind::Short, datagram.len()))?;
        if version != VERSION {
            return Err(fail(WireErrorKind::Version, 3));
        }
        let kind = DatagramType::from_byte(kind).ok_or_else(|| fail(WireErrorKind::Type, 4))?;
        let (_, length) = length(rest).map_err(|_| fail(WireErrorKind::Short, datagram.len()))?;
        let length = usize::from(length);
        match (datagram.get(HEADER..length), datagram.get(length..)) {
            (Some(head), Some(body)) => Ok(Self { kind, flags, head, body }),
            _ => Err(fail(WireErrorKind::Short, datagram.len())),
        }
    }

    /// Refuses unknown flags that change the meaning; `known` flags are accepted.
    pub(crate) fn check_flags(&self, known: u8) -> Result<(), WireError> {
        if self.flags & MUST_KNOW & !known == 0 {
            Ok(())
        } else {
            Err(WireError { kind: WireErrorKind::Flags, at: 5 })
        }
    }

    /// Offset of the body.
    pub(crate) fn body_at(&self) -> usize {
        HEADER + self.head.len()
    }
}

fn bytes(input: &[u8]) -> IResult<&[u8], (u8, u8, u8), ()> {
    (u8, u8, u8).parse(input)
}

fn length(input: &[u8]) -> IResult<&[u8], u16, ()> {
    le_u16(input)
}

/// `extension = kind size *OCTET`
pub(crate) fn extension(input: &[u8]) -> IResult<&[u8], (u8, &[u8]), ()> {
    (u8, length_data(u8)).parse(input)
}

/// Parses an unsigned integer of seven bits a byte, lowest bits first; the top bit of a byte
/// announces another byte. At most 32 bits, so at most five bytes.
pub(super) fn varint(input: &[u8]) -> IResult<&[u8], u32, ()> {
    // Values of one byte are the most common, then of two.
    if let [low @ 0..0x80, rest @ ..] = input {
        return Ok((rest, u32::from(*low)));
    }
    let mut value = 0_u64;
    for (index, byte) in input.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).map_err(|_| nom::Err::Error(()))?;
            let (rest, _) = take(index + 1)(input)?;
            return Ok((rest, value));
        }
    }
    Err(nom::Err::Error(()))
}

/// Appends an integer in the encoding of [`varint`].
pub(super) fn write_varint(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(low_seven(value) | 0x80);
        value >>= 7;
    }
    out.push(low_seven(value));
}

fn low_seven(value: u32) -> u8 {
    value.to_le_bytes()[0] & 0x7F
}

/// How many bytes [`write_varint`] appends.
pub(super) const fn varint_len(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        0x20_0000..0x1000_0000 => 4,
        _ => 5,
    }
}

/// Appends the first eight bytes of a datagram whose body begins at `length`.
pub(crate) fn write_header(kind: DatagramType, flags: u8, length: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, kind.byte(), flags]);
    out.extend_from_slice(&length.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_survive_and_take_as_many_bytes_as_said() {
        for value in [0, 1, 0x7F, 0x80, 0x3FFF, 0x4000, 0x1F_FFFF, 0x20_0000, u32::MAX] {
            let mut out = Vec::new();
            write_varint(value, &mut out);
            assert_eq!(varint(&out), Ok((&b""[..], value)), "{value}");
            assert_eq!(out.len(), varint_len(value), "{value}");
        }
    }

    #[test]
    fn integers_that_are_too_long_or_end_early_are_refused() {
        for bytes in [&b""[..], b"\x80", b"\xFF\xFF\xFF\xFF\x7F", b"\x80\x80\x80\x80\x80\x00"] {
            assert!(varint(bytes).is_err(), "{bytes:?}");
        }
    }
}
