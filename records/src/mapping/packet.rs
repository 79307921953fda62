//! Our spelling on the network: several mappings in a datagram, numbered, so that each lost one is
//! counted and a hole is known. `docs/design/wire.md` has the layout.
//!
//! ```text
//! body   = *record
//! record = length flags kind facts *OCTET     ; length: u16, of what follows; flags: u32
//! ```
//!
//! A fact is there if its flag is set, in the order of the flags. What follows the facts we know is
//! skipped, so later writers can add to a record; flags in the highest byte have to be known.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::number::{le_i64, le_u16, le_u32, le_u64, u8};
use nom::bytes::complete::take;
use nom::multi::length_data;
use nom::{IResult, Parser};

use super::{Mapping, MappingKind, OpaqueTls, RequestText};
use crate::addr::{ClientAddr, LONGEST_PATH, ServerAddr};
use crate::request::{Cut, LONG};
use crate::shipment::{
    DatagramParts, DatagramType, HEADER, SenderOrigin, WireError, WireErrorKind, extension,
    write_header,
};
use crate::time::{Resolution, Timestamp};

/// Bytes of a packet's header and fixed part.
const FIXED: usize = HEADER + 44;

/// Flags of facts that have one; in this order the facts follow.
mod flag {
    pub(super) const CLIENT_V6: u32 = 1;
    pub(super) const CLIENT_UNIX: u32 = 1 << 1;
    pub(super) const CLIENT_PORT: u32 = 1 << 2;
    pub(super) const SERVER_V6: u32 = 1 << 3;
    pub(super) const SERVER_UNIX: u32 = 1 << 4;
    pub(super) const SERVER_PORT: u32 = 1 << 5;
    pub(super) const BALANCER: u32 = 1 << 6;
    pub(super) const BALANCER_V6: u32 = 1 << 7;
    pub(super) const TIME: u32 = 1 << 8;
    pub(super) const CONNECTION: u32 = 1 << 9;
    pub(super) const NTH: u32 = 1 << 10;
    pub(super) const USER_AGENT: u32 = 1 << 11;
    pub(super) const REFERER: u32 = 1 << 12;
    pub(super) const HOST: u32 = 1 << 13;
    pub(super) const STATUS: u32 = 1 << 14;
    pub(super) const BODY_BYTES: u32 = 1 << 15;
    pub(super) const HEAD_BYTES: u32 = 1 << 16;
    pub(super) const FRAMED_BYTES: u32 = 1 << 17;
    pub(super) const TO_SERVER: u32 = 1 << 18;
    pub(super) const TO_CLIENT: u32 = 1 << 19;
    pub(super) const REQUEST: u32 = 1 << 20;
    pub(super) const WHOLE: u32 = 1 << 21;
    pub(super) const SEALED: u32 = 1 << 22;
    /// Flags that a reader has to know.
    pub(super) const MUST_KNOW: u32 = 0xFF00_0000;
}

/// A datagram of mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Who sends.
    pub origin: SenderOrigin,
    /// The number of its first record, from 0: counts all records of this origin, those included that it
    /// had to drop before they were sent.
    pub first: u64,
    /// When it was sent, by the sender's clock.
    pub sent: Timestamp,
    /// Records the sender has dropped so far, because its queue was full.
    pub dropped: u64,
    count: u32,
    body: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a packet. All of it is checked here: what is returned can be walked without faults.
    ///
    /// # Errors
    /// Says what is wrong at which byte. Any bytes are safe to pass.
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

    /// Its mappings. Records of a kind we do not know are left out.
    pub fn mappings(&self) -> impl Iterator<Item = Mapping<'a>> + use<'a> {
        PacketRecords(self.body).filter_map(|bytes| facts(bytes).ok()?.1)
    }

    /// How many records it has, whether we know their kinds or not.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }
}

/// Records as [`write_record`] makes them, one behind the other.
#[derive(Clone, Copy, Debug)]
pub struct PacketRecords<'a>(pub &'a [u8]);

impl<'a> Iterator for PacketRecords<'a> {
    type Item = &'a [u8];

    /// What follows a record's length.
    fn next(&mut self) -> Option<&'a [u8]> {
        let (rest, bytes) = record(self.0).ok()?;
        self.0 = rest;
        Some(bytes)
    }
}

impl<'a> PacketRecords<'a> {
    /// The mappings they spell.
    pub fn mappings(self) -> impl Iterator<Item = Mapping<'a>> {
        self.filter_map(|bytes| facts(bytes).ok()?.1)
    }
}

/// Appends a packet to `out`: its head, and `records` as [`write_record`] made them.
pub fn write_packet(
    origin: SenderOrigin,
    first: u64,
    sent: Timestamp,
    dropped: u64,
    (count, records): (u32, &[u8]),
    out: &mut Vec<u8>,
) {
    let length = u16::try_from(FIXED).unwrap_or(u16::MAX);
    write_header(DatagramType::Packet, 0, length, out);
    out.extend_from_slice(&origin.id.to_le_bytes());
    out.extend_from_slice(&origin.start.as_micros().to_le_bytes());
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&sent.as_micros().to_le_bytes());
    out.extend_from_slice(&dropped.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(records);
}

/// Bytes that a packet has beside its records.
pub const OVERHEAD: usize = FIXED;

/// Appends a mapping as a record. A request is cut to [`LONG`] bytes, a path to 255.
pub fn write_record(mapping: &Mapping<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 6]);
    out.push(match mapping.kind {
        MappingKind::Opened => 1,
        MappingKind::Request => 2,
        MappingKind::Ended => 3,
        MappingKind::Closed => 4,
    });
    let mut flags = write_addresses(mapping, out);
    let mut fact = |flag, bytes: Option<&[u8]>| {
        if let Some(bytes) = bytes {
            flags |= flag;
            out.extend_from_slice(bytes);
        }
    };
    let time = mapping.time.map(|(time, _)| time.as_micros().to_le_bytes());
    fact(flag::TIME, time.as_ref().map(|bytes| &bytes[..]));
    let eight = |value: Option<u64>| value.map(u64::to_le_bytes);
    let four = |value: Option<u32>| value.map(u32::to_le_bytes);
    fact(flag::CONNECTION, eight(mapping.connection).as_ref().map(|bytes| &bytes[..]));
    for (flag, value) in [
        (flag::NTH, mapping.nth),
        (flag::USER_AGENT, mapping.user_agent),
        (flag::REFERER, mapping.referer),
        (flag::HOST, mapping.host),
    ] {
        fact(flag, four(value).as_ref().map(|bytes| &bytes[..]));
    }
    let status = mapping.status.map(u16::to_le_bytes);
    fact(flag::STATUS, status.as_ref().map(|bytes| &bytes[..]));
    for (flag, value) in [
        (flag::BODY_BYTES, mapping.body_bytes),
        (flag::HEAD_BYTES, mapping.head_bytes),
        (flag::FRAMED_BYTES, mapping.framed_bytes),
        (flag::TO_SERVER, mapping.to_server),
        (flag::TO_CLIENT, mapping.to_client),
    ] {
        fact(flag, eight(value).as_ref().map(|bytes| &bytes[..]));
    }
    if let Some(request) = mapping.request {
        let bytes = &request.bytes[..request.bytes.len().min(LONG)];
        fact(flag::REQUEST, Some(&u16::try_from(bytes.len()).unwrap_or(0).to_le_bytes()));
        fact(flag::REQUEST, Some(bytes));
    }
    fact(flag::WHOLE, eight(mapping.whole).as_ref().map(|bytes| &bytes[..]));
    if let Some(OpaqueTls { took, asked, answered, requests }) = mapping.sealed {
        for number in [took, asked, answered, requests] {
            fact(flag::SEALED, four(Some(number)).as_ref().map(|bytes| &bytes[..]));
        }
    }
    let len = u16::try_from(out.len() - start - 2).unwrap_or(u16::MAX);
    out[start..start + 2].copy_from_slice(&len.to_le_bytes());
    out[start + 2..start + 6].copy_from_slice(&flags.to_le_bytes());
}

fn write_addresses(mapping: &Mapping<'_>, out: &mut Vec<u8>) -> u32 {
    let mut flags = 0;
    match mapping.client {
        ClientAddr::Ip(ip) => flags |= write_ip(ip, flag::CLIENT_V6, out),
        ClientAddr::Unix => flags |= flag::CLIENT_UNIX,
    }
    if let Some(port) = mapping.client_port {
        flags |= flag::CLIENT_PORT;
        out.extend_from_slice(&port.to_le_bytes());
    }
    match mapping.server {
        ServerAddr::Ip(ip) => flags |= write_ip(ip, flag::SERVER_V6, out),
        ServerAddr::Unix(path) => {
            flags |= flag::SERVER_UNIX;
            let path = &path[..path.len().min(LONGEST_PATH)];
            out.push(u8::try_from(path.len()).unwrap_or(0));
            out.extend_from_slice(path);
        }
    }
    if let Some(port) = mapping.server_port {
        flags |= flag::SERVER_PORT;
        out.extend_from_slice(&port.to_le_bytes());
    }
    if let Some(balancer) = mapping.balancer {
        flags |= flag::BALANCER | write_ip(balancer.ip(), flag::BALANCER_V6, out);
        out.extend_from_slice(&balancer.port().to_le_bytes());
    }
    flags
}

/// Says with a flag if it is IPv6.
fn write_ip(ip: IpAddr, v6: u32, out: &mut Vec<u8>) -> u32 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            out.extend_from_slice(&ip.octets());
            0
        }
        IpAddr::V6(ip) => {
            out.extend_from_slice(&ip.octets());
            v6
        }
    }
}

/// The fixed part; its records are not yet there.
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

/// Whether [`facts`] can read what follows a record's length, found out by the sizes of its facts alone.
fn is_whole(record: &[u8]) -> bool {
    let head: IResult<&[u8], (u32, u8), ()> = (le_u32, u8).parse(record);
    let Ok((rest, (flags, kind))) = head else { return false };
    if flags & flag::MUST_KNOW != 0 {
        return false;
    }
    if !(1..=4).contains(&kind) {
        return true;
    }
    let has = |flag| flags & flag != 0;
    let of_size = |facts: u32, size: usize| (flags & facts).count_ones() as usize * size;
    let ip = |v6| if has(v6) { 16 } else { 4 };
    let client = if has(flag::CLIENT_UNIX) { 0 } else { ip(flag::CLIENT_V6) };
    let mut len = client + of_size(flag::CLIENT_PORT, 2);
    len += match has(flag::SERVER_UNIX) {
        true => rest.get(len).map_or(1, |&path| 1 + usize::from(path)),
        false => ip(flag::SERVER_V6),
    };
    if has(flag::BALANCER) {
        len += ip(flag::BALANCER_V6);
    }
    len += of_size(flag::SERVER_PORT | flag::BALANCER | flag::STATUS, 2);
    len += of_size(flag::NTH | flag::USER_AGENT | flag::REFERER | flag::HOST, 4);
    let numbers = flag::TIME | flag::CONNECTION | flag::BODY_BYTES | flag::HEAD_BYTES;
    let more = flag::FRAMED_BYTES | flag::TO_SERVER | flag::TO_CLIENT;
    len += of_size(numbers | more, 8);
    if has(flag::REQUEST) {
        let request = rest.get(len..).and_then(|rest| rest.first_chunk());
        len += 2 + request.map_or(0, |&length| usize::from(u16::from_le_bytes(length)));
    }
    len + of_size(flag::WHOLE, 8) + of_size(flag::SEALED, 16) <= rest.len()
}

/// What follows a record's length; `None` if its kind is unknown.
fn facts(input: &[u8]) -> IResult<&[u8], Option<Mapping<'_>>, ()> {
    let (input, (flags, kind)) = (le_u32, u8).parse(input)?;
    if flags & flag::MUST_KNOW != 0 {
        return Err(nom::Err::Error(()));
    }
    let kind = match kind {
        1 => MappingKind::Opened,
        2 => MappingKind::Request,
        3 => MappingKind::Ended,
        4 => MappingKind::Closed,
        _ => return Ok((input, None)),
    };
    let has = |flag| flags & flag != 0;
    let (input, client) = client(input, flags)?;
    let (input, client_port) = fact(input, has(flag::CLIENT_PORT), le_u16)?;
    let (input, server) = server(input, flags)?;
    let (input, server_port) = fact(input, has(flag::SERVER_PORT), le_u16)?;
    let balancer = |input| {
        let (input, ip) = ip(input, has(flag::BALANCER_V6))?;
        let (input, port) = le_u16(input)?;
        Ok((input, SocketAddr::new(ip, port)))
    };
    let (input, balancer) = fact(input, has(flag::BALANCER), balancer)?;
    let (input, time) = fact(input, has(flag::TIME), le_i64)?;
    let (input, connection) = fact(input, has(flag::CONNECTION), le_u64)?;
    let (input, nth) = fact(input, has(flag::NTH), le_u32)?;
    let (input, user_agent) = fact(input, has(flag::USER_AGENT), le_u32)?;
    let (input, referer) = fact(input, has(flag::REFERER), le_u32)?;
    let (input, host) = fact(input, has(flag::HOST), le_u32)?;
    let (input, status) = fact(input, has(flag::STATUS), le_u16)?;
    let (input, body_bytes) = fact(input, has(flag::BODY_BYTES), le_u64)?;
    let (input, head_bytes) = fact(input, has(flag::HEAD_BYTES), le_u64)?;
    let (input, framed_bytes) = fact(input, has(flag::FRAMED_BYTES), le_u64)?;
    let (input, to_server) = fact(input, has(flag::TO_SERVER), le_u64)?;
    let (input, to_client) = fact(input, has(flag::TO_CLIENT), le_u64)?;
    let (input, request) = fact(input, has(flag::REQUEST), length_data(le_u16))?;
    let (input, whole) = fact(input, has(flag::WHOLE), le_u64)?;
    let sealed = |input| {
        let (input, (took, asked, answered, requests)) =
            (le_u32, le_u32, le_u32, le_u32).parse(input)?;
        Ok((input, OpaqueTls { took, asked, answered, requests }))
    };
    let (input, sealed) = fact(input, has(flag::SEALED), sealed)?;
    let time = time.map(|time| (Timestamp::from_micros(time), Resolution::Microsecond));
    let request = request.map(|bytes: &[u8]| RequestText::raw(bytes, Cut::Long));
    let mapping = Mapping {
        kind,
        client_port,
        server_port,
        balancer,
        time,
        connection,
        nth,
        request,
        whole,
        user_agent,
        referer,
        host,
        status,
        body_bytes,
        head_bytes,
        framed_bytes,
        to_server,
        to_client,
        sealed,
        ..Mapping::new(client, server)
    };
    Ok((input, Some(mapping)))
}

fn fact<'a, T>(
    input: &'a [u8],
    is_there: bool,
    mut parser: impl Parser<&'a [u8], Output = T, Error = ()>,
) -> IResult<&'a [u8], Option<T>, ()> {
    if !is_there {
        return Ok((input, None));
    }
    let (input, value) = parser.parse(input)?;
    Ok((input, Some(value)))
}

fn client(input: &[u8], flags: u32) -> IResult<&[u8], ClientAddr, ()> {
    if flags & flag::CLIENT_UNIX != 0 {
        return Ok((input, ClientAddr::Unix));
    }
    let (input, ip) = ip(input, flags & flag::CLIENT_V6 != 0)?;
    Ok((input, ip.into()))
}

fn server(input: &[u8], flags: u32) -> IResult<&[u8], ServerAddr<'_>, ()> {
    if flags & flag::SERVER_UNIX != 0 {
        let (input, path) = length_data(u8).parse(input)?;
        return Ok((input, ServerAddr::Unix(path)));
    }
    let (input, ip) = ip(input, flags & flag::SERVER_V6 != 0)?;
    Ok((input, ip.into()))
}

fn ip(input: &[u8], v6: bool) -> IResult<&[u8], IpAddr, ()> {
    if v6 {
        let (input, octets) = take(16_usize)(input)?;
        let octets: [u8; 16] = octets.try_into().map_err(|_| nom::Err::Error(()))?;
        Ok((input, IpAddr::from(Ipv6Addr::from(octets)).to_canonical()))
    } else {
        let (input, octets) = take(4_usize)(input)?;
        let octets: [u8; 4] = octets.try_into().map_err(|_| nom::Err::Error(()))?;
        Ok((input, Ipv4Addr::from(octets).into()))
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
            flags in prop_oneof![0_u32..1 << 23, any::<u32>()],
            kind in 0_u8..6,
            facts in vec(prop_oneof![Just(0_u8), 0_u8..40, any::<u8>()], 0..260),
            cut in 0_usize..300,
        ) {
            let mut record = flags.to_le_bytes().to_vec();
            record.push(kind);
            record.extend_from_slice(&facts);
            record.truncate(cut);
            prop_assert_eq!(is_whole(&record), super::facts(&record).is_ok());
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
