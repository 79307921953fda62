//! Laws of the framing, and the vectors of `docs/design/wire.md`.

use std::net::IpAddr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::frames::write_frame;

const ORIGIN: SenderOrigin = SenderOrigin {
    id: 0x0123_4567_89AB_CDEF,
    start: Timestamp::from_micros(1_795_379_143_000_001),
};

const STAMP: SendStamp = SendStamp {
    sent: Timestamp::from_micros(1_795_379_145_250_000),
    now: Duration::from_micros(2_000_000),
    dropped: 9,
    cut: 2,
};

/// Ships the lines and gives back the datagrams.
fn ship(lines: &[Vec<u8>], server: ShipmentServer<'_>, limit: usize) -> Vec<Vec<u8>> {
    ship_read(lines, server, limit, |_| None)
}

/// The same with the times at which lines were read, by their numbers.
fn ship_read(
    lines: &[Vec<u8>],
    server: ShipmentServer<'_>,
    limit: usize,
    read: impl Fn(usize) -> Option<Duration>,
) -> Vec<Vec<u8>> {
    let mut writer = ShipmentWriter::new(ORIGIN, server, limit);
    let mut sent = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let read = read(number);
        let mut push = writer.push(line, read);
        if push != Push::Taken {
            sent.extend(writer.finish(STAMP, <[u8]>::to_vec));
        }
        if push == Push::Full {
            push = writer.push(line, read);
            assert_eq!(push, Push::Taken, "an empty shipment has room");
        }
        let mut next = (push == Push::Long).then_some(0);
        while let Some(offset) = next {
            let (rest, datagram) = writer.piece(
                &OutgoingLine { bytes: line, read, span: None },
                offset,
                STAMP,
                <[u8]>::to_vec,
            );
            sent.push(datagram);
            next = rest;
        }
    }
    sent.extend(writer.finish(STAMP, <[u8]>::to_vec));
    sent
}

fn received(senders: &mut SenderTable, datagrams: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    for datagram in datagrams {
        let shipment = Shipment::parse(datagram).expect("we wrote it");
        let _ =
            senders.receive(&shipment, Timestamp::default(), |line, _| lines.push(line.to_vec()));
    }
    lines
}

fn server(addr: &str) -> ShipmentServer<'_> {
    ShipmentServer { name: Some(b"web 1"), ..ShipmentServer::parse(addr).expect("an address") }
}

#[test]
fn a_shipment_says_who_ships_for_whom_and_how_much_is_missing() {
    for (addr, ip, port) in [
        ("127.0.0.2:8080", "127.0.0.2", Some(8080)),
        ("192.0.2.1", "192.0.2.1", None),
        ("[2001:db8::1]:443", "2001:db8::1", Some(443)),
        ("2001:db8::1", "2001:db8::1", None),
        ("::ffff:192.0.2.1", "192.0.2.1", None),
    ] {
        let sent = ship(&[b"a line".to_vec(), b"".to_vec()], server(addr), 1400);
        let shipment = Shipment::parse(&sent[0]).expect(addr);
        assert_eq!((shipment.origin, shipment.number, shipment.first_line), (ORIGIN, 0, 0));
        assert_eq!((shipment.sent, shipment.dropped, shipment.cut), (STAMP.sent, 9, 2));
        assert_eq!(shipment.server.addr, Some(ip.parse::<IpAddr>().unwrap()), "{addr}");
        assert_eq!((shipment.server.port, shipment.server.name), (port, Some(&b"web 1"[..])));
        assert!(shipment.lines().eq([&b"a line"[..], b""]), "{addr}");
    }
    let sent = ship(&[b"a line".to_vec()], ShipmentServer::default(), 1400);
    assert_eq!(Shipment::parse(&sent[0]).map(|s| s.server), Ok(ShipmentServer::default()));
}

#[test]
fn what_is_no_server_address_is_refused() {
    for text in ["", "web1", "1.2.3.4:", "1.2.3.4:70000", "1.2.3.4:80:90", "[::1", ":80"] {
        assert_eq!(ShipmentServer::parse(text), None, "{text}");
    }
}

#[test]
fn a_cut_datagram_and_one_with_bytes_added_are_refused() {
    let sent = ship(&[b"one".to_vec(), b"two".to_vec()], server("127.0.0.2"), 1400);
    for len in 0..sent[0].len() {
        assert!(Shipment::parse(&sent[0][..len]).is_err(), "cut to {len} bytes");
    }
    let longer = [&sent[0][..], b"\x00"].concat();
    assert_eq!(Shipment::parse(&longer).map_err(|e| e.kind), Err(WireErrorKind::Lines));
}

#[test]
fn faults_are_named_with_their_place() {
    let sent = ship(&[b"one".to_vec()], server("127.0.0.2"), 1400);
    for (at, byte, kind) in [
        (0, b'+', WireErrorKind::Magic),
        (3, 2, WireErrorKind::Version),
        (4, 99, WireErrorKind::Type),
        (4, 1, WireErrorKind::Type),
        (5, 2, WireErrorKind::Flags),
        (65, 5, WireErrorKind::Extension),
    ] {
        let mut datagram = sent[0].clone();
        datagram[at] = byte;
        let error = Shipment::parse(&datagram).unwrap_err();
        assert_eq!(error.kind, kind, "byte {at} is {byte}");
        assert!(error.at.abs_diff(at) <= 1, "byte {at} is {byte}: {error}");
    }
    let mut unknown = sent[0].clone();
    unknown[5] = 0x80;
    unknown[64] = 200;
    assert!(Shipment::parse(&unknown).is_ok(), "other flags and extensions are skipped");
}

#[test]
fn a_line_of_64_kib_and_more_survives_in_pieces() {
    for (len, limit) in [(65_536, 1400), (LINE, 1400), (LINE, 65_507), (1400, 1400), (449, 512)] {
        let line: Vec<u8> = (0..=255).cycle().take(len).collect();
        let lines = [b"before".to_vec(), line, b"after".to_vec()];
        let sent = ship(&lines, ShipmentServer::default(), limit);
        assert!(sent.iter().all(|datagram| datagram.len() <= limit), "{len}");
        let mut senders = SenderTable::new(SenderLimits::default());
        assert_eq!(received(&mut senders, &sent), lines, "{len}");
        assert_eq!(senders.counts().lost_lines, 0);
    }
}

fn vector(name: &str) -> Vec<u8> {
    pen_testing::vector(&format!("wire/{name}"))
}

#[test]
fn the_vectors_are_what_we_write_and_read() {
    let lines = [b"GET".to_vec(), b"a\x00\"b\r".to_vec(), b"".to_vec()];
    let plain = ship(&lines, ShipmentServer::default(), 1400);
    assert_eq!(vector("shipment.hex"), plain[0]);
    let full = ship(&lines[..1], server("127.0.0.2:8080"), 1400);
    assert_eq!(vector("shipment-server.hex"), full[0]);
    let read = [1_999_500, 1_999_500, 1_999_990].map(Duration::from_micros);
    let timed = ship_read(&lines, ShipmentServer::default(), 1400, |number| Some(read[number]));
    assert_eq!(vector("shipment-ages.hex"), timed[0]);
    let mut writer = ShipmentWriter::new(ORIGIN, ShipmentServer::default(), 512);
    let long: Vec<u8> = (0..=255).cycle().take(450).collect();
    let long_line = OutgoingLine { bytes: &long, read: None, span: None };
    let (next, first) = writer.piece(&long_line, 0, STAMP, <[u8]>::to_vec);
    assert_eq!(vector("piece-first.hex"), first);
    let (none, last) = writer.piece(&long_line, next.expect("more"), STAMP, <[u8]>::to_vec);
    assert_eq!((vector("piece-last.hex"), none), (last, None));
    let mut question = Vec::new();
    let nonce = 0x1122_3344_5566_7788;
    let streams = StreamList::default();
    let asked = DiscoveryQuestion { nonce, origin: ORIGIN, shipments: 3, lines: 12, streams };
    asked.write(&mut question);
    assert_eq!(vector("question.hex"), question);
    let mut answer = Vec::new();
    let (received, positions) = (None, StreamList::default());
    let answered =
        DiscoveryAnswer { nonce, window: 1 << 20, datagram: 65_507, received, positions };
    answered.write(&mut answer);
    assert_eq!(vector("answer.hex"), answer);
    let mut frames = Vec::new();
    assert!([&answer[..], &MAGIC].iter().all(|datagram| write_frame(datagram, &mut frames)));
    assert_eq!(vector("frames.hex"), frames);
    let mut answer = Vec::new();
    let received = Some(ReceivedShipments { from: 3, upto: 9 });
    let answered = DiscoveryAnswer { received, ..answered };
    answered.write(&mut answer);
    assert_eq!(vector("answer-received.hex"), answer);
    let mut question = Vec::new();
    let streams = StreamList::of([STREAM, OTHER_STREAM]);
    DiscoveryQuestion { shipments: 0, lines: 0, streams, ..asked }.write(&mut question);
    assert_eq!(vector("question-streams.hex"), question);
    let mut answer = Vec::new();
    let position = StreamPosition { from: 4096, upto: 70_000 };
    let positions = StreamList::of([position, StreamPosition::default()]);
    DiscoveryAnswer { received: None, positions, ..answered }.write(&mut answer);
    assert_eq!(vector("answer-positions.hex"), answer);
    let mut writer = ShipmentWriter::new(ORIGIN, ShipmentServer::default(), 512);
    let span = Some(StreamSpan { stream: STREAM, start: 4096, end: 4100 });
    assert_eq!(writer.push_line(&OutgoingLine { bytes: b"GET", read: None, span }), Push::Taken);
    let shipment = writer.finish(STAMP, <[u8]>::to_vec).expect("a line");
    assert_eq!(vector("shipment-stream.hex"), shipment);
    assert_eq!(Shipment::parse(&shipment).map(|it| it.stream), Ok(span));
}

const STREAM: StreamId =
    StreamId([0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 8, 9, 10, 11, 12, 13, 14, 15]);
const OTHER_STREAM: StreamId = StreamId([0xEE; 16]);

#[test]
fn a_shipment_holds_lines_of_one_stream_each_behind_the_one_before() {
    let mut writer = ShipmentWriter::new(ORIGIN, ShipmentServer::default(), 512);
    let mut push = |bytes: &'static [u8], stream: Option<StreamId>, start, end| {
        let span = stream.map(|stream| StreamSpan { stream, start, end });
        let line = OutgoingLine { bytes, read: Some(STAMP.now), span };
        if writer.push_line(&line) == Push::Taken {
            return None;
        }
        let sent = writer.finish(STAMP, <[u8]>::to_vec).expect("a line before");
        assert_eq!(writer.push_line(&line), Push::Taken, "an empty shipment has room");
        Shipment::parse(&sent).expect("we wrote it").stream.map(|span| (span.start, span.end))
    };
    assert_eq!(push(b"one", Some(STREAM), 0, 4), None);
    assert_eq!(push(b"two", Some(STREAM), 4, 8), None);
    assert_eq!(push(b"four", Some(STREAM), 9, 14), Some((0, 8)), "there is a gap");
    assert_eq!(push(b"other", Some(OTHER_STREAM), 14, 20), Some((9, 14)), "another stream");
    assert_eq!(push(b"half", Some(OTHER_STREAM), 20, 24), None);
    assert_eq!(push(b"more", Some(OTHER_STREAM), 24, 29), Some((14, 24)), "without a line feed");
    assert_eq!(push(b"none", None, 0, 0), Some((24, 29)), "no stream");
    assert_eq!(push(b"one", Some(STREAM), 0, 4), None);
}

#[test]
fn a_part_of_a_stream_with_other_bytes_than_its_lines_is_refused() {
    let mut datagram = vector("shipment-stream.hex");
    for (at, byte, expected) in [
        (90, 5, Err(WireErrorKind::Stream)),
        (90, 3, Ok(())),
        (90, 2, Err(WireErrorKind::Stream)),
        (90, 0, Err(WireErrorKind::Extension)),
        (65, 31, Err(WireErrorKind::Extension)),
    ] {
        datagram[at] = byte;
        assert_eq!(Shipment::parse(&datagram).map(drop).map_err(|it| it.kind), expected, "{byte}");
    }
}

#[test]
fn lines_come_with_the_time_they_were_read() {
    let micros = Duration::from_micros;
    let lines = [b"one".to_vec(), vec![b'x'; 5_000], b"two".to_vec(), b"three".to_vec()];
    let read = [1_000_000, 1_990_000, 1_993_300, 1_999_300].map(micros);
    let mut sent = ship_read(&lines, ShipmentServer::default(), 1400, |number| Some(read[number]));
    let mut senders = SenderTable::new(SenderLimits::default());
    let now = Timestamp::from_micros(5_000_000);
    let mut times = Vec::new();
    for datagram in &sent {
        let shipment = Shipment::parse(datagram).unwrap();
        let _ = senders.receive(&shipment, now, |_, read| times.push(now.micros_since(read)));
    }
    // All are late by the 5 ms that lines are gathered, or by less where they came earlier.
    assert_eq!(times, [995_000, 5_000, 1_700, 0]);
    // A count too many in the only pair of the first shipment.
    assert_eq!(sent[0][64..67], [6, 4, 1]);
    sent[0][66] = 2;
    let error = Shipment::parse(&sent[0]).unwrap_err();
    assert_eq!(error, WireError { kind: WireErrorKind::Extension, at: 64 });
}

#[test]
fn lines_of_shippers_that_say_no_times_were_read_when_they_came() {
    let sent = ship(&[b"one".to_vec()], ShipmentServer::default(), 1400);
    let mut senders = SenderTable::new(SenderLimits::default());
    for datagram in [&vector("shipment.hex"), &sent[0]] {
        let now = Timestamp::from_micros(77);
        let shipment = Shipment::parse(datagram).unwrap();
        let _ = senders.receive(&shipment, now, |_, read| assert_eq!(read, now));
    }
}

proptest! {
    #[test]
    fn lines_survive_whatever_bytes_they_hold(
        lines in vec(vec(any::<u8>(), 0..700), 0..40),
        limit in 512_usize..2000,
    ) {
        let read = |number| {
            // Some lines by themselves, some together, and of some shippers nothing is known.
            let number = u64::try_from(number / (1 + limit % 3)).unwrap();
            (limit % 4 > 0).then(|| Duration::from_micros(1_000 * number))
        };
        let sent = ship_read(&lines, server("127.0.0.2"), limit, read);
        prop_assert!(sent.iter().all(|datagram| datagram.len() <= limit));
        let mut senders = SenderTable::new(SenderLimits::default());
        prop_assert_eq!(received(&mut senders, &sent), lines);
        prop_assert_eq!(senders.counts().lost_lines, 0);
    }

    #[test]
    fn what_comes_and_what_is_lost_is_what_was_sent(
        lines in vec(vec(any::<u8>(), 0..700), 1..40),
        fate in vec((0_u8..4, any::<prop::sample::Index>()), 0..80),
    ) {
        let sent = ship(&lines, ShipmentServer::default(), 600);
        let total = lines.len() as u64;
        let mut senders = SenderTable::new(SenderLimits::default());
        // The first and the last come, so that the range is known; the rest is reordered,
        // duplicated and lost.
        let mut path = vec![sent[0].clone()];
        for (copies, index) in fate {
            let datagram = index.get(&sent);
            path.extend((0..copies).map(|_| datagram.clone()));
        }
        path.push(sent[sent.len() - 1].clone());
        let came = received(&mut senders, &path).len() as u64;
        prop_assert_eq!(came + senders.counts().lost_lines, total);
    }

    #[test]
    fn changed_bytes_never_panic(
        lines in vec(vec(any::<u8>(), 0..700), 1..6),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut senders = SenderTable::new(SenderLimits { senders: 2, lines: 2, bytes: 4096 });
        for mut datagram in ship(&lines, server("[::1]:80"), 600) {
            for (index, byte) in &changes {
                *index.get_mut(&mut datagram) = *byte;
            }
            for bytes in [&datagram[..], &datagram[..cut.index(datagram.len())]] {
                let _ = DiscoveryQuestion::parse(bytes);
                let _ = DiscoveryAnswer::parse(bytes);
                if let Ok(shipment) = Shipment::parse(bytes) {
                    let _ = senders.receive(&shipment, Timestamp::default(), |_, _| {});
                    let _ = senders.counts();
                }
            }
        }
    }

    #[test]
    fn any_bytes_behind_the_magic_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        for kind in 0..5 {
            let datagram = [&MAGIC[..], &[VERSION, kind], &bytes].concat();
            let _ = DiscoveryQuestion::parse(&datagram);
            let _ = DiscoveryAnswer::parse(&datagram);
            let _ = Shipment::parse(&datagram);
        }
    }
}

#[test]
fn a_shipment_without_its_lines_keeps_its_number_and_the_lines_are_lost() {
    let server =
        ShipmentServer { name: Some(b"shop"), ..ShipmentServer::parse("10.0.0.9:80").unwrap() };
    let mut writer = ShipmentWriter::new(ORIGIN, server, 512);
    let mut ship = |line: &[u8]| {
        let _ = writer.push(line, Some(Duration::ZERO));
        writer.finish(SendStamp::default(), <[u8]>::to_vec).expect("it has a line")
    };
    let sent = [ship(b"one"), ship(b"two"), ship(b"three")];
    let hollow = Shipment::without_lines(&sent[1]).expect("it is a shipment");
    let parsed = Shipment::parse(&hollow).expect("it is one, too");
    assert_eq!((parsed.number, parsed.line_count(), parsed.server), (1, 0, server));
    let mut senders = SenderTable::new(SenderLimits::default());
    for datagram in [&sent[0], &hollow, &sent[2]] {
        let shipment = Shipment::parse(datagram).expect("we wrote it");
        let arrival = senders.receive(&shipment, Timestamp::default(), |_, _| {});
        assert_eq!(arrival.outcome, ShipmentOutcome::New);
    }
    assert_eq!((senders.counts().lost_shipments, senders.counts().lost_lines), (0, 1));
    assert_eq!(Shipment::without_lines(b"junk"), None);
}
