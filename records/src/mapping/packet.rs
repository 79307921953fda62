//! The encoding on the network: several mappings in a datagram, numbered, so that each lost record
//! is counted. `docs/design/wire.md` has the layout.
//!
//! ```text
//! body   = *record
//! record = length flags kind fields *OCTET    ; length: u16, of what follows; flags: u32
//! ```
//!
//! A field is present if its flag is set; fields follow in the order of the flags. Bytes behind the
//! known fields are skipped, so that later writers can add to a record. A reader refuses unknown
//! flags in the highest byte. The macro `record_fields` holds the one list of fields.

use std::net::{IpAddr, SocketAddr};

use crate::number::{le_i64, le_u16, le_u32, le_u64, u8};
use nom::multi::length_data;
use nom::{IResult, Parser};

use super::{BodyEnd, Mapping, MappingKind, OpaqueTls, RequestText};
use crate::addr::{ClientAddr, LONGEST_PATH, ServerAddr};
use crate::request::{Cut, LONG};
use crate::shipment::{
    DatagramParts, DatagramType, HEADER, SenderOrigin, WireError, WireErrorKind, extension,
    write_header,
};
use crate::time::{Resolution, Timestamp};

/// Bytes of the header and the fixed part.
const FIXED: usize = HEADER + 44;

/// A datagram of mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The sender.
    pub origin: SenderOrigin,
    /// The number of the first record, from 0: counts all records of this sender, including records
    /// dropped before sending.
    pub first: u64,
    /// When the packet was sent, by the sender's clock.
    pub sent: Timestamp,
    /// Records that the sender has dropped so far because its queue was full.
    pub dropped: u64,
    count: u32,
    body: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Parses a packet and checks every record, so that iterating over the result cannot fail.
    ///
    /// # Errors
    /// Names the fault and its byte offset. Any bytes are safe to pass.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, WireError> {
        Self::from_parts(&DatagramParts::parse(datagram)?)
    }

    pub(crate) fn from_parts(parts: &DatagramParts<'a>) -> Result<Self, WireError> {
        let fail = |kind, at| WireError { kind, at };
        if parts.kind != DatagramType::Packet {
            return Err(fail(WireErrorKind::Type, 4));
        }
        parts.check_flags(0)?;
        let (mut extensions, packet) =
            fixed(parts.head).map_err(|_| fail(WireErrorKind::Short, parts.body_at()))?;
        while !extensions.is_empty() {
            let at = parts.body_at() - extensions.len();
            (extensions, _) =
                extension(extensions).map_err(|_| fail(WireErrorKind::Extension, at))?;
        }
        let packet = Self { body: parts.body, ..packet };
        let (mut rest, mut count) = (packet.body, 0_u32);
        while !rest.is_empty() {
            let at = parts.body_at() + packet.body.len() - rest.len();
            let (after, bytes) = record(rest).map_err(|_| fail(WireErrorKind::Records, at))?;
            if !is_whole(bytes) {
                return Err(fail(WireErrorKind::Records, at));
            }
            (rest, count) = (after, count.saturating_add(1));
        }
        if count != packet.count || packet.first.checked_add(count.into()).is_none() {
            return Err(fail(WireErrorKind::Records, parts.body_at() + packet.body.len()));
        }
        Ok(packet)
    }

    /// The mappings. Records of an unknown kind are skipped.
    pub fn mappings(&self) -> impl Iterator<Item = Mapping<'a>> + use<'a> {
        PacketRecords(self.body).filter_map(|bytes| mapping(bytes).ok()?.1)
    }

    /// The number of records, of known and unknown kinds.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }
}

/// Consecutive records as written by [`write_record`].
#[derive(Clone, Copy, Debug)]
pub struct PacketRecords<'a>(pub &'a [u8]);

impl<'a> Iterator for PacketRecords<'a> {
    type Item = &'a [u8];

    /// Returns the bytes after the length of a record.
    fn next(&mut self) -> Option<&'a [u8]> {
        let (rest, bytes) = record(self.0).ok()?;
        self.0 = rest;
        Some(bytes)
    }
}

impl<'a> PacketRecords<'a> {
    /// The mappings in the records.
    pub fn mappings(self) -> impl Iterator<Item = Mapping<'a>> {
        self.filter_map(|bytes| mapping(bytes).ok()?.1)
    }
}

/// Appends a packet to `out`: its head, and `records` as written by [`write_record`].
pub fn write_packet(
    origin: SenderOrigin,
    first: u64,
    sent: Timestamp,
    dropped: u64,
    (count, records): (u32, &[u8]),
    out: &mut Vec<u8>,
) {
    let length = u16::try_from(FIXED).expect("52 bytes");
    write_header(DatagramType::Packet, 0, length, out);
    out.extend_from_slice(&origin.id.to_le_bytes());
    out.extend_from_slice(&origin.start.as_micros().to_le_bytes());
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&sent.as_micros().to_le_bytes());
    out.extend_from_slice(&dropped.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(records);
}

/// Returns where the time stands in a record, given the bytes after its length; `None` without a time.
pub(super) fn time_place(record: &[u8]) -> Option<usize> {
    const TIME: u32 = 1 << 8;
    let (flags, fields) = record.split_first_chunk()?;
    let (_kind, fields) = fields.split_first()?;
    let flags = u32::from_le_bytes(*flags);
    (flags & TIME != 0)
        .then(|| record.len() - fields.len() + fields_size(flags & (TIME - 1), fields))
}

/// Changes the time at which a packet is sent: it is sent again. Anything else is left alone.
pub fn restamp_packet(packet: &mut [u8], sent: Timestamp) {
    if let Some(bytes) = packet.get_mut(HEADER + 24..HEADER + 32) {
        bytes.copy_from_slice(&sent.as_micros().to_le_bytes());
    }
}

/// Bytes of a packet besides its records.
pub const OVERHEAD: usize = FIXED;

/// Appends a mapping as a record. A request is cut to [`LONG`] bytes, a path to 255.
pub fn write_record(mapping: &Mapping<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 6]);
    out.push(mapping.kind as u8);
    let flags = write_fields(mapping, out);
    let len = u16::try_from(out.len() - start - 2).expect("all fields together are below 2 KiB");
    out[start..start + 2].copy_from_slice(&len.to_le_bytes());
    out[start + 2..start + 6].copy_from_slice(&flags.to_le_bytes());
}

/// Parses the fixed part; the records are filled in later.
fn fixed(input: &[u8]) -> IResult<&[u8], Packet<'_>, ()> {
    let (input, (id, start)) = (le_u64, le_i64).parse(input)?;
    let (input, (first, sent, dropped, count)) = (le_u64, le_i64, le_u64, le_u32).parse(input)?;
    let origin = SenderOrigin { id, start: Timestamp::from_micros(start) };
    let sent = Timestamp::from_micros(sent);
    Ok((input, Packet { origin, first, sent, dropped, count, body: b"" }))
}

/// `record = length *OCTET`
fn record(input: &[u8]) -> IResult<&[u8], &[u8], ()> {
    length_data(le_u16).parse(input)
}

/// Whether [`mapping`] can parse a record, judged by the sizes of the fields alone.
fn is_whole(record: &[u8]) -> bool {
    let head: IResult<&[u8], (u32, u8), ()> = (le_u32, u8).parse(record);
    let Ok((fields, (flags, kind))) = head else { return false };
    flags & MUST_KNOW == 0
        && (kind_of(kind).is_none() || fields_size(flags, fields) <= fields.len())
}

/// Parses the bytes after the length of a record; `None` if the kind is unknown.
fn mapping(input: &[u8]) -> IResult<&[u8], Option<Mapping<'_>>, ()> {
    let (input, (flags, kind)) = (le_u32, u8).parse(input)?;
    if flags & MUST_KNOW != 0 {
        return Err(nom::Err::Error(()));
    }
    let Some(kind) = kind_of(kind) else { return Ok((input, None)) };
    let (input, mapping) = read_fields(kind, flags, input)?;
    Ok((input, Some(mapping)))
}

const fn kind_of(byte: u8) -> Option<MappingKind> {
    match byte {
        1 => Some(MappingKind::Opened),
        2 => Some(MappingKind::Request),
        3 => Some(MappingKind::Ended),
        4 => Some(MappingKind::Closed),
        _ => None,
    }
}

/// Flags that change the meaning of a record: a reader refuses the record if it does not know them.
const MUST_KNOW: u32 = 0xFF00_0000;

/// Generates the reader, the writer and the size of a record from one list of fields, in wire
/// order. The number before a field is its first flag bit; the type determines the number of bits
/// (see [`WireField`]).
macro_rules! record_fields {
    ($($bit:literal $field:ident: $type:ty,)*) => {
        fn read_fields(kind: MappingKind, flags: u32, input: &[u8]) -> IResult<&[u8], Mapping<'_>, ()> {
            $(let (input, $field) = <$type>::read(flags >> $bit, input)?;)*
            Ok((input, Mapping { kind, request_id: None, $($field),* }))
        }

        /// Appends the fields and returns their flags.
        fn write_fields(mapping: &Mapping<'_>, out: &mut Vec<u8>) -> u32 {
            let mut flags = 0;
            $(flags |= mapping.$field.write(out) << $bit;)*
            flags
        }

        /// Returns the size of the fields with these flags.
        fn fields_size(flags: u32, fields: &[u8]) -> usize {
            let mut at = 0;
            $(at += <$type>::size(flags >> $bit, fields, at);)*
            at
        }
    };
}

record_fields! {
    0 client: ClientAddr,
    2 client_port: Option<u16>,
    3 server: ServerAddr<'_>,
    5 server_port: Option<u16>,
    6 balancer: Option<SocketAddr>,
    8 time: Option<(Timestamp, Resolution)>,
    9 connection: Option<u64>,
    10 nth: Option<u32>,
    11 user_agent: Option<u32>,
    12 referer: Option<u32>,
    13 host: Option<u32>,
    14 status: Option<u16>,
    15 body_bytes: Option<u64>,
    16 head_bytes: Option<u64>,
    17 framed_bytes: Option<u64>,
    18 to_server: Option<u64>,
    19 to_client: Option<u64>,
    20 request: Option<RequestText<'_>>,
    21 whole: Option<u64>,
    22 opaque_tls: Option<OpaqueTls>,
    23 body_end: Option<BodyEnd>,
}

/// The type of a field. The lowest bits of `flags` belong to the field and select its form.
trait WireField<'a>: Sized {
    fn read(flags: u32, input: &'a [u8]) -> IResult<&'a [u8], Self, ()>;

    /// Appends the value and returns its flags.
    fn write(&self, out: &mut Vec<u8>) -> u32;

    /// Size of the value at `fields[at]`, which may lie behind the end.
    fn size(flags: u32, fields: &[u8], at: usize) -> usize;
}

/// One flag: present. The flags of the value follow.
impl<'a, T: WireField<'a>> WireField<'a> for Option<T> {
    #[inline]
    fn read(flags: u32, input: &'a [u8]) -> IResult<&'a [u8], Self, ()> {
        if flags & 1 == 0 {
            return Ok((input, None));
        }
        let (input, value) = T::read(flags >> 1, input)?;
        Ok((input, Some(value)))
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) -> u32 {
        self.as_ref().map_or(0, |value| 1 | value.write(out) << 1)
    }

    #[inline]
    fn size(flags: u32, fields: &[u8], at: usize) -> usize {
        if flags & 1 == 0 { 0 } else { T::size(flags >> 1, fields, at) }
    }
}

/// Little-endian numbers, without flags.
macro_rules! number_fields {
    ($($type:ty: $read:ident),*) => {
        $(impl<'a> WireField<'a> for $type {
            #[inline]
            fn read(_: u32, input: &'a [u8]) -> IResult<&'a [u8], Self, ()> {
                $read(input)
            }

            #[inline]
            fn write(&self, out: &mut Vec<u8>) -> u32 {
                out.extend_from_slice(&self.to_le_bytes());
                0
            }

            #[inline]
            fn size(_: u32, _: &[u8], _: usize) -> usize {
                size_of::<Self>()
            }
        })*
    };
}

number_fields!(u16: le_u16, u32: le_u32, u64: le_u64, i64: le_i64);

/// One flag: IPv6. Octets in network order.
impl<'a> WireField<'a> for IpAddr {
    #[inline]
    fn read(flags: u32, input: &'a [u8]) -> IResult<&'a [u8], Self, ()> {
        let short = || nom::Err::Error(());
        if flags & 1 == 0 {
            let (octets, rest) = input.split_first_chunk::<4>().ok_or_else(short)?;
            return Ok((rest, Self::from(*octets)));
        }
        let (octets, rest) = input.split_first_chunk::<16>().ok_or_else(short)?;
        Ok((rest, Self::from(*octets).to_canonical()))
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) -> u32 {
        match self.to_canonical() {
            Self::V4(ip) => out.extend_from_slice(&ip.octets()),
            Self::V6(ip) => {
                out.extend_from_slice(&ip.octets());
                return 1;
            }
        }
        0
    }

    #[inline]
    fn size(flags: u32, _: &[u8], _: usize) -> usize {
        if flags & 1 == 0 { 4 } else { 16 }
    }
}

/// Address and port, with the flag of the address.
impl<'a> WireField<'a> for SocketAddr {
    #[inline]
    fn read(flags: u32, input: &'a [u8]) -> IResult<&'a [u8], Self, ()> {
        let (input, ip) = IpAddr::read(flags, input)?;
        let (input, port) = le_u16(input)?;
        Ok((input, Self::new(ip, port)))
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) -> u32 {
        let flags = self.ip().write(out);
        flags | self.port().write(out)
    }

    #[inline]
    fn size(flags: u32, fields: &[u8], at: usize) -> usize {
        IpAddr::size(flags, fields, at) + size_of::<u16>()
    }
}

/// The second flag of an address: a Unix-domain socket.
const UNIX: u32 = 1 << 1;

/// Two flags: IPv6 and [`UNIX`]. A client on a Unix-domain socket has no bytes.
impl<'a> WireField<'a> for ClientAddr {
    #[inline]
    fn read(flags: u32, input: &'a [u8]) -> IResult<&'a [u8], Self, ()> {
        if flags & UNIX != 0 {
            return Ok((input, Self::Unix));
        }
        let (input, ip) = IpAddr::read(flags, input)?;
        Ok((input, ip.into()))
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) -> u32 {
        self.ip().map_or(UNIX, |ip| ip.write(out))
    }

    #[inline]
    fn size(flags: u32, fields: &[u8], at: usize) -> usize {
        if flags & UNIX == 0 { IpAddr::size(flags, fields, at) } else { 0 }
    }
}

/// Two flags: IPv6 and [`UNIX`]. A path follows after its length, one byte.
impl<'a> WireField<'a> for ServerAddr<'a> {
    #[inline]
    fn read(flags: u32, input: &'a [u8]) -> IResult<&'a [u8], Self, ()> {
        if flags & UNIX != 0 {
            let (input, path) = length_data(u8).parse(input)?;
            return Ok((input, Self::Unix(path)));
        }
        let (input, ip) = IpAddr::read(flags, input)?;
        Ok((input, ip.into()))
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) -> u32 {
        match *self {
            Self::Ip(ip) => ip.write(out),
            Self::Unix(path) => {
                let path = &path[..path.len().min(LONGEST_PATH)];
                out.push(u8::try_from(path.len()).expect("at most 255 bytes"));
                out.extend_from_slice(path);
                UNIX
            }
        }
    }

    #[inline]
    fn size(flags: u32, fields: &[u8], at: usize) -> usize {
        if flags & UNIX == 0 {
            return IpAddr::size(flags, fields, at);
        }
        1 + fields.get(at).map_or(0, |&length| usize::from(length))
    }
}

/// Microseconds since the epoch.
impl<'a> WireField<'a> for (Timestamp, Resolution) {
    #[inline]
    fn read(flags: u32, input: &'a [u8]) -> IResult<&'a [u8], Self, ()> {
        let (input, micros) = i64::read(flags, input)?;
        Ok((input, (Timestamp::from_micros(micros), Resolution::Microsecond)))
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) -> u32 {
        self.0.as_micros().write(out)
    }

    #[inline]
    fn size(flags: u32, fields: &[u8], at: usize) -> usize {
        i64::size(flags, fields, at)
    }
}

/// At most [`LONG`] bytes after their number, a `u16`.
impl<'a> WireField<'a> for RequestText<'a> {
    #[inline]
    fn read(_: u32, input: &'a [u8]) -> IResult<&'a [u8], Self, ()> {
        let (input, bytes) = length_data(le_u16).parse(input)?;
        Ok((input, Self::raw(bytes, Cut::Long)))
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) -> u32 {
        let bytes = &self.bytes[..self.bytes.len().min(LONG)];
        u16::try_from(bytes.len()).expect("at most LONG bytes").write(out);
        out.extend_from_slice(bytes);
        0
    }

    #[inline]
    fn size(_: u32, fields: &[u8], at: usize) -> usize {
        let length = fields.get(at..).and_then(|rest| rest.first_chunk());
        2 + length.map_or(0, |&length| usize::from(u16::from_le_bytes(length)))
    }
}

/// A number of type `u32`.
impl<'a> WireField<'a> for BodyEnd {
    #[inline]
    fn read(flags: u32, input: &'a [u8]) -> IResult<&'a [u8], Self, ()> {
        let (input, number) = u32::read(flags, input)?;
        Ok((input, Self::from_number(number)))
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) -> u32 {
        self.number().write(out)
    }

    #[inline]
    fn size(flags: u32, fields: &[u8], at: usize) -> usize {
        u32::size(flags, fields, at)
    }
}

/// Four numbers of type `u32`.
impl<'a> WireField<'a> for OpaqueTls {
    #[inline]
    fn read(_: u32, input: &'a [u8]) -> IResult<&'a [u8], Self, ()> {
        let (input, (took, asked, answered, requests)) =
            (le_u32, le_u32, le_u32, le_u32).parse(input)?;
        Ok((input, Self { took, asked, answered, requests }))
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) -> u32 {
        let Self { took, asked, answered, requests } = *self;
        [took, asked, answered, requests]
            .into_iter()
            .fold(0, |flags, number| flags | number.write(out))
    }

    #[inline]
    fn size(_: u32, _: &[u8], _: usize) -> usize {
        4 * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_whole_by_its_sizes_is_what_can_be_read(
            flags in prop_oneof![0_u32..1 << 24, any::<u32>()],
            kind in 0_u8..6,
            fields in vec(prop_oneof![Just(0_u8), 0_u8..40, any::<u8>()], 0..260),
            cut in 0_usize..300,
        ) {
            let mut record = flags.to_le_bytes().to_vec();
            record.push(kind);
            record.extend_from_slice(&fields);
            record.truncate(cut);
            prop_assert_eq!(is_whole(&record), mapping(&record).is_ok());
        }

        #[test]
        fn a_record_is_whole_to_its_last_byte(
            path in vec(any::<u8>(), 0..20),
            text in vec(any::<u8>(), 0..60),
            whole in any::<Option<u64>>(),
        ) {
            let mapping = Mapping {
                request: Some(RequestText::raw(&text, Cut::Long)),
                whole,
                ..Mapping::new(ClientAddr::Unix, ServerAddr::Unix(&path))
            };
            let mut bytes = Vec::new();
            write_record(&mapping, &mut bytes);
            let record = &bytes[2..];
            prop_assert!(is_whole(record));
            for end in 0..record.len() {
                prop_assert!(!is_whole(&record[..end]), "{} of {}", end, record.len());
            }
        }
    }
}
