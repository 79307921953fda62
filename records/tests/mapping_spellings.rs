//! The encodings of mappings: written mappings are read back, any bytes are safe, and the vectors
//! of `docs/design/wire.md` hold.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use pen_records::addr::{ClientAddr, ServerAddr};
use pen_records::mapping::packet::{OVERHEAD, Packet, PacketRecords, write_packet, write_record};
use pen_records::mapping::{
    BodyEnd, Mapping, MappingErrorKind, MappingKind, OpaqueTls, RequestEncoding, RequestText,
};
use pen_records::request::{Cut, LONG};
use pen_records::shipment::{SenderOrigin, WireErrorKind};
use pen_records::time::{Resolution, Timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const ORIGIN: SenderOrigin = SenderOrigin {
    id: 0x0123_4567_89AB_CDEF,
    start: Timestamp::from_micros(1_795_379_000_000_001),
};
const SENT: Timestamp = Timestamp::from_micros(1_795_379_143_000_002);

/// A mapping that owns its text.
#[derive(Clone, Debug)]
struct OwnedMapping {
    facts: Mapping<'static>,
    path: Option<Vec<u8>>,
    request: Option<Vec<u8>>,
}

impl OwnedMapping {
    fn mapping(&self) -> Mapping<'_> {
        let server = self.path.as_deref().map_or(self.facts.server, ServerAddr::Unix);
        let request = self.request.as_deref().map(|bytes| RequestText::raw(bytes, Cut::Long));
        Mapping { server, request, ..self.facts }
    }
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(|octets| IpAddr::from(octets).to_canonical()),
    ]
}

fn client() -> impl Strategy<Value = ClientAddr> {
    prop_oneof![9 => ip().prop_map(ClientAddr::Ip), 1 => Just(ClientAddr::Unix)]
}

fn kind() -> impl Strategy<Value = MappingKind> {
    prop_oneof![
        Just(MappingKind::Opened),
        Just(MappingKind::Request),
        Just(MappingKind::Ended),
        Just(MappingKind::Closed)
    ]
}

fn mapping(request: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = OwnedMapping> {
    let port = || option::of(any::<u16>());
    let small = (kind(), client(), port(), ip(), port(), option::of((ip(), any::<u16>())));
    let numbers = (0_i64..1 << 52, any::<Option<u64>>(), any::<Option<u32>>(), port());
    let hashes = any::<[Option<u32>; 3]>();
    let counts = any::<[Option<u64>; 5]>();
    let opaque_tls = option::weighted(0.2, any::<[u32; 4]>());
    let body_end = option::weighted(
        0.3,
        prop_oneof![Just(BodyEnd::Pending), (0..u32::MAX).prop_map(BodyEnd::Ago)],
    );
    let path = option::weighted(0.2, "/[a-z0-9./_-]{1,80}");
    (small, numbers, hashes, counts, (opaque_tls, body_end), path, option::of(request)).prop_map(
        |(small, numbers, hashes, counts, (opaque_tls, body_end), path, request)| {
            let (kind, client, client_port, server, server_port, balancer) = small;
            let (time, connection, nth, status) = numbers;
            let facts = Mapping {
                kind,
                client_port,
                server_port,
                balancer: balancer.map(|(ip, port)| SocketAddr::new(ip, port)),
                time: Some((Timestamp::from_micros(time), Resolution::Microsecond)),
                connection,
                nth,
                user_agent: hashes[0],
                referer: hashes[1],
                host: hashes[2],
                whole: hashes[2].map(|hash| u64::from(hash) << 7),
                status,
                body_bytes: counts[0],
                head_bytes: counts[1],
                framed_bytes: counts[2],
                to_server: counts[3],
                to_client: counts[4],
                opaque_tls: opaque_tls.filter(|_| kind == MappingKind::Ended).map(
                    |[took, asked, answered, requests]| OpaqueTls {
                        took,
                        asked,
                        answered,
                        requests,
                    },
                ),
                ..Mapping::new(client, ServerAddr::Ip(server))
            };
            let has_body_end = kind == MappingKind::Ended && facts.opaque_tls.is_none();
            let facts = Mapping { body_end: body_end.filter(|_| has_body_end), ..facts };
            let is_without_request = facts.opaque_tls.is_some() || facts.body_end.is_some();
            let request = request.filter(|_| !is_without_request);
            OwnedMapping { facts, path: path.map(String::into_bytes), request }
        },
    )
}

fn raw() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..120)
}

fn packet(mappings: &[OwnedMapping], first: u64) -> Vec<u8> {
    let mut records = Vec::new();
    mappings.iter().for_each(|owned| write_record(&owned.mapping(), &mut records));
    let count = u32::try_from(mappings.len()).expect("few");
    let mut out = Vec::new();
    write_packet(ORIGIN, first, SENT, 7, (count, &records), &mut out);
    assert_eq!(out.len(), OVERHEAD + records.len());
    out
}

proptest! {
    #[test]
    fn a_packet_gives_back_what_was_put_in(
        mappings in vec(mapping(raw()), 0..12),
        first in any::<u32>(),
    ) {
        let datagram = packet(&mappings, first.into());
        let packet = Packet::parse(&datagram).expect("it is one");
        prop_assert_eq!((packet.origin, packet.first), (ORIGIN, u64::from(first)));
        prop_assert_eq!((packet.sent, packet.dropped), (SENT, 7));
        prop_assert_eq!(packet.count() as usize, mappings.len());
        let read: Vec<_> = packet.mappings().collect();
        let written: Vec<_> = mappings.iter().map(OwnedMapping::mapping).collect();
        prop_assert_eq!(read, written);
    }

    #[test]
    fn a_line_gives_back_what_was_put_in(owned in mapping(raw())) {
        let mapping = owned.mapping();
        let mut line = Vec::new();
        mapping.write_extended_line(&mut line);
        prop_assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
        prop_assert!(line.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n')));
        let read = Mapping::parse_file_line(&line).expect("it is one");
        prop_assert_eq!(Mapping { request: None, ..read }, Mapping { request: None, ..mapping });
        let print = |mapping: Mapping<'_>| mapping.request.map(RequestText::fingerprint);
        prop_assert_eq!(print(read), print(mapping));
        if owned.request.as_ref().is_some_and(|request| {
            request.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'\\') && request != b"-"
        }) {
            prop_assert_eq!(read, mapping);
        }
    }

    #[test]
    fn changed_packets_never_panic(
        mappings in vec(mapping(raw()), 1..5),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut datagram = packet(&mappings, 0);
        for (index, byte) in changes {
            *index.get_mut(&mut datagram) = byte;
        }
        for bytes in [&datagram[..], &datagram[..cut.index(datagram.len())]] {
            if let Ok(packet) = Packet::parse(bytes) {
                prop_assert!(packet.mappings().count() <= packet.count() as usize);
            }
            prop_assert!(PacketRecords(bytes).mappings().count() <= bytes.len());
        }
    }

    #[test]
    fn changed_lines_never_panic(
        owned in mapping(raw()),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut line = Vec::new();
        owned.mapping().write_extended_line(&mut line);
        for (index, byte) in changes {
            *index.get_mut(&mut line) = byte;
        }
        if let Ok(mapping) = Mapping::parse_extended_line(&line) {
            let mut again = Vec::new();
            mapping.write_extended_line(&mut again);
            prop_assert!(Mapping::parse_extended_line(&again).is_ok());
        }
    }
}

#[test]
fn long_requests_are_cut_by_the_rule_that_fingerprints_know() {
    let request = "x".repeat(5_000);
    let mapping = Mapping {
        request: Some(RequestText::raw(request.as_bytes(), Cut::Long)),
        ..Mapping::new(ClientAddr::Unix, ServerAddr::Unix(b"/run/app"))
    };
    let (mut records, mut line) = (Vec::new(), Vec::new());
    write_record(&mapping, &mut records);
    mapping.write_extended_line(&mut line);
    let from_record = PacketRecords(&records).mappings().next().unwrap();
    let from_line = Mapping::parse_file_line(&line).unwrap();
    for read in [from_record, from_line] {
        let request = read.request.unwrap();
        assert_eq!(request.bytes.len(), LONG);
        assert_eq!(request.fingerprint(), mapping.request.unwrap().fingerprint());
    }
}

#[test]
fn a_text_that_begins_with_no_method_and_no_path_is_a_piece_of_a_body() {
    for request in ["GET / HTTP/1.1", "M-SEARCH * HTTP/1.1", "POST /a", "PURGE", "GET ", "/a"] {
        assert!(!RequestText::raw(request.as_bytes(), Cut::Long).is_body(), "{request}");
    }
    for body in [
        "field3=value+977&tex",
        "{\"a\":1}",
        "",
        " GET",
        "ABC=1",
        "A/b",
        "\x16\x03\x01",
        "get / HTTP/1.1",
    ] {
        assert!(RequestText::raw(body.as_bytes(), Cut::Long).is_body(), "{body}");
    }
}

#[test]
fn a_line_that_is_none_says_where() {
    let good = "pen1 1795379143.000002 request 203.0.113.7 4711 10.0.0.1 80 10.0.0.9 5555 12 1 \
                - - - - - - 0123abcd - - - GET /a HTTP/1.1";
    let mapping = Mapping::parse_file_line(good.as_bytes()).expect("it is one");
    let text = mapping.request.unwrap();
    assert_eq!((text.bytes, text.spelling), (&b"GET /a HTTP/1.1"[..], RequestEncoding::Raw));
    for (from, to, kind) in [
        ("pen1", "pen2", MappingErrorKind::Client),
        (".000002", ".00000", MappingErrorKind::Time),
        (".000002", "", MappingErrorKind::Time),
        ("request", "requests", MappingErrorKind::Column),
        ("203.0.113.7", "nobody", MappingErrorKind::Client),
        ("10.0.0.1", "-", MappingErrorKind::Server),
        ("4711", "70000", MappingErrorKind::Column),
        ("4711", "+4711", MappingErrorKind::Column),
        ("0123abcd", "0123abc", MappingErrorKind::Column),
        (" GET /a HTTP/1.1", "", MappingErrorKind::Column),
    ] {
        let line = good.replace(from, to);
        let error = Mapping::parse_file_line(line.as_bytes()).expect_err(&line);
        assert_eq!(error.kind, kind, "{line}");
    }
}

#[test]
fn a_packet_with_a_fault_is_refused_and_says_where() {
    let sent = vector("packet.hex");
    for (at, byte, kind) in [
        (3, 9, WireErrorKind::Version),
        (4, 3, WireErrorKind::Type),
        (5, 1, WireErrorKind::Flags),
        (48, 3, WireErrorKind::Records),
        (OVERHEAD, 0xFF, WireErrorKind::Records),
        (OVERHEAD + 5, 0x01, WireErrorKind::Records),
    ] {
        let mut datagram = sent.clone();
        datagram[at] = byte;
        assert_eq!(Packet::parse(&datagram).expect_err("a fault").kind, kind, "byte {at}");
    }
    let mut unknown = sent.clone();
    unknown[OVERHEAD + 6] = 99;
    let packet = Packet::parse(&unknown).expect("kinds to come are counted and left out");
    assert_eq!((packet.count(), packet.mappings().count()), (8, 7));
}

fn vector(name: &str) -> Vec<u8> {
    pen_testing::vector(&format!("wire/{name}"))
}

/// A connection with one request over IPv4, the end of one over IPv6 to a Unix-domain socket, and a
/// request longer than its text.
fn story() -> [Mapping<'static>; 8] {
    let at = |micros| Some((Timestamp::from_micros(micros), Resolution::Microsecond));
    let opened = Mapping {
        kind: MappingKind::Opened,
        client_port: Some(4711),
        server_port: Some(80),
        balancer: Some("10.0.0.9:5555".parse().expect("an address")),
        time: at(1_795_379_142_900_000),
        connection: Some(12),
        ..Mapping::new(
            "203.0.113.7".parse::<IpAddr>().expect("an address").into(),
            "10.0.0.1".parse::<IpAddr>().expect("an address").into(),
        )
    };
    let request = Mapping {
        kind: MappingKind::Request,
        time: at(1_795_379_142_900_100),
        nth: Some(1),
        user_agent: Some(0x0123_ABCD),
        host: Some(0x89AB_CDEF),
        request: Some(RequestText::raw(b"GET /a HTTP/1.1", Cut::Long)),
        ..opened
    };
    let ended = Mapping {
        kind: MappingKind::Ended,
        time: at(1_795_379_142_950_000),
        request: None,
        user_agent: None,
        host: None,
        status: Some(200),
        body_bytes: Some(5),
        head_bytes: Some(90),
        framed_bytes: Some(15),
        ..request
    };
    let closed = Mapping {
        kind: MappingKind::Closed,
        client_port: Some(4712),
        time: at(1_795_379_142_960_000),
        connection: Some(13),
        to_server: Some(60),
        to_client: Some(105),
        ..Mapping::new(
            "2001:db8::7".parse::<IpAddr>().expect("an address").into(),
            ServerAddr::Unix(b"/run/app"),
        )
    };
    let long = Mapping {
        time: closed.time,
        connection: Some(14),
        request: Some(RequestText::raw(b"GET /a", Cut::Long)),
        whole: Some(0x0123_4567_89AB_CDEF),
        ..Mapping::new(opened.client, opened.server)
    };
    let opaque_tls = Mapping {
        status: None,
        body_bytes: None,
        head_bytes: None,
        framed_bytes: None,
        opaque_tls: Some(OpaqueTls { took: 1_500, asked: 300, answered: 1_234, requests: 1 }),
        ..ended
    };
    let early = Mapping { body_end: Some(BodyEnd::Pending), ..ended };
    let body = Mapping { body_end: Some(BodyEnd::Ago(250)), ..ended };
    [opened, request, ended, closed, long, opaque_tls, early, body]
}

#[test]
fn the_vectors_are_what_we_write_and_read() {
    let mut records = Vec::new();
    story().iter().for_each(|mapping| write_record(mapping, &mut records));
    let mut datagram = Vec::new();
    write_packet(ORIGIN, 100, SENT, 2, (8, &records), &mut datagram);
    assert_eq!(vector("packet.hex"), datagram, "{}", hex(&datagram));
    let packet = Packet::parse(&datagram).unwrap();
    assert!(packet.mappings().eq(story()));
    let mut heartbeat = Vec::new();
    write_packet(ORIGIN, 108, SENT, 2, (0, b""), &mut heartbeat);
    assert_eq!(vector("packet-empty.hex"), heartbeat);
    let mut lines = Vec::new();
    story().iter().for_each(|mapping| mapping.write_extended_line(&mut lines));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/wire/mappings.log");
    assert_eq!(std::fs::read_to_string(path).unwrap(), String::from_utf8(lines).unwrap());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x} ")).collect()
}
