//! Properties that hold for any bytes, one function for each parser. `tests/robustness.rs` and the
//! targets in `fuzz/` call these functions; each panics where its property is violated.

use pen_records::access::{
    AccessLine, LineSpan, LoggedRequest, Parser, Spec, carried, write_with_text,
};
use pen_records::addr::ServerAddr;
use pen_records::attribution::{
    Attributor, BalancerHashes, FingerprintCuts, JoinSettings, LoggedLine, MappingEvent,
    ServerIndex, THIRD_PARTY_BASE,
};
use pen_records::datagram::Datagram;
use pen_records::frames::{FrameReader, LONGEST_FRAME, write_frame};
use pen_records::mapping::origins::Origins;
use pen_records::mapping::packet::{Packet, PacketRecords, write_record};
use pen_records::mapping::third_party_log::{ThirdPartyReader, ThirdPartyServer, ThirdPartySpec};
use pen_records::mapping::{Mapping, RequestText};
use pen_records::shipment::{
    DiscoveryAnswer, DiscoveryQuestion, Push, Reassembly, SendStamp, SenderLimits, SenderOrigin,
    SenderTable, Shipment, ShipmentWriter,
};
use pen_records::time::{Resolution, Timestamp};

/// The buffer size of the C collector.
const DATAGRAM: usize = 1024;

/// A stream is split into the same frames however it is cut, and as one that is looked at as a whole. The first bytes say
/// where it is cut.
pub(crate) fn frames(bytes: &[u8]) {
    let (cuts, stream) = bytes.split_at(bytes.len().min(4));
    let (frames, has_ended) = slow_frames(stream);
    for steps in
        [&[usize::MAX][..], &[1], &cuts.iter().map(|&cut| 1 + cut as usize).collect::<Vec<_>>()]
    {
        let (mut reader, mut rest, mut read) = (FrameReader::default(), stream, Vec::new());
        let mut error = None;
        for step in steps.iter().cycle() {
            if rest.is_empty() || error.is_some() {
                break;
            }
            let (now, later) = rest.split_at(rest.len().min(*step));
            rest = later;
            error = reader.feed(now, |frame| read.push(frame.to_vec())).err();
        }
        assert_eq!((&read, error.is_some()), (&frames, has_ended));
        let taken: usize = read.iter().map(|frame| 4 + frame.len()).sum();
        assert!(error.is_none_or(|error| error.at == taken as u64));
        assert!(error.is_some() || reader.is_within_frame() == (taken < stream.len()));
        let mut written = Vec::new();
        assert!(read.iter().all(|frame| write_frame(frame, &mut written)));
        assert!(stream.starts_with(&written));
    }
}

/// Returns the frames of a stream, and whether a wrong length ends it.
fn slow_frames(mut stream: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut frames = Vec::new();
    while stream.len() >= 4 {
        let len = stream[..4].iter().rev().fold(0, |len, byte| len * 256 + usize::from(*byte));
        if len == 0 || len > LONGEST_FRAME {
            return (frames, true);
        }
        if stream.len() < 4 + len {
            break;
        }
        frames.push(stream[4..4 + len].to_vec());
        stream = &stream[4 + len..];
    }
    (frames, false)
}

/// A parsed classic mapping datagram is written as it was read.
pub(crate) fn mapping_datagram(bytes: &[u8]) {
    let Ok(mapping) = Mapping::parse_datagram(bytes) else { return };
    let mut written = Vec::new();
    mapping.write_datagram(&mut written);
    assert!(written.len() <= DATAGRAM || bytes.len() > DATAGRAM);
    let again = Mapping::parse_datagram(&written).expect("what was written is understood");
    assert_eq!((again.client, again.server), (mapping.client, mapping.server));
    let end = memchr::memchr2(b'\r', b'\n', &written);
    assert_eq!(end, Some(written.len() - 1), "one record, whatever was asked");
    let asked = mapping.request.map_or(&b""[..], |request| request.bytes);
    if written.len() < DATAGRAM && memchr::memchr2(b'\r', b'\n', asked).is_none() {
        assert_eq!(again, mapping);
    }
    fingerprint(&mapping);
}

/// A parsed line of a mapping file is written as it was read, except for bytes that a file cannot
/// hold; writing a second time gives the same bytes.
pub(crate) fn mapping_file_line(bytes: &[u8]) {
    let mut text = Vec::new();
    let within = carried(bytes, &mut text);
    assert!(within.is_none_or(|within| within.len() < bytes.len()));
    let Ok(mapping) = Mapping::parse_file_line(bytes) else { return };
    let is_extended = bytes.starts_with(pen_records::mapping::line::START);
    let write = |mapping: &Mapping<'_>| {
        let mut written = Vec::new();
        if is_extended {
            mapping.write_extended_line(&mut written);
        } else {
            mapping.write_file_line(&mut written);
        }
        written
    };
    let written = write(&mapping);
    let again = Mapping::parse_file_line(&written).expect("what was written is understood");
    assert_eq!((again.client, again.server), (mapping.client, mapping.server));
    assert_eq!(again.time, mapping.time);
    assert_eq!(written.escape_ascii().to_string(), write(&again).escape_ascii().to_string());
    fingerprint(&mapping);
}

fn fingerprint(mapping: &Mapping<'_>) {
    mapping.request.and_then(RequestText::fingerprint);
}

/// Lines in a detected format, with or without an envelope: a rewrite changes the client only.
pub(crate) fn access_line(bytes: &[u8]) {
    let mut parser = Parser::new(&Spec::auto());
    for line in bytes.split(|&b| b == b'\n') {
        access(&mut parser, line);
    }
    drop(parser.format());
}

/// Lines of logs that are looked for only where nothing more usual is found: tables, consoles, keys with values, other
/// stamps.
const SHAPED: &[&[u8]] = &[
    b"time,remote_addr,method,uri,protocol,status\n2026-11-22T20:23:21Z,10.0.0.9,GET,/a?b=1,HTTP/1.1,200",
    b"2026-11-22T20:23:21Z;10.0.0.9;\"GET /a?b=1 HTTP/1.1\";200;512;\"x; \"\"y\"\"\"",
    b"timestamp\tip\tcs-method\tcs-uri-stem\tcs-uri-query\tsc-status\n1795379001\t10.0.0.9\tGET\t/a\tb=1\t200",
    b"10.0.0.9, -, 11/22/26, 20:23:21, W3SVC1, WEB1, 10.0.1.5, 12, 65, 512, 200, 0, GET, /a, b=1,",
    b"#Fields: date time c-ip cs-method cs-uri-stem cs-uri-query sc-status\n2026-11-22 20:23:21 10.0.0.9 GET /a b=1 200",
    b"2026/11/22 20:23:21.123\tINFO\thttp.log.access\tx\t{\"request\": {\"remote_ip\": \"10.0.0.9\", \"method\": \"GET\", \"uri\": \"/a\"}}",
    b"time=2026-11-22T20:23:21Z level=info remote_addr=10.0.0.9 method=GET path=\"/a?b=1\" status=200",
    b"time:2026-11-22T20:23:21Z\thost:10.0.0.9\treq:GET /a?b=1 HTTP/1.1\tstatus:200",
    b"{'time': '2026-11-22T20:23:21Z', 'remote_addr': '10.0.0.9', 'method': 'GET', 'path': '/a?b=1', 'status': 200}",
    b"10.0.0.9 - - [22/Nov/2026:20:23:21 CET] \"GET /a?b=1 HTTP/1.1\" 200 512 \"-\" \"x\"",
    b"10.0.0.9 - - [Sun, 22 Nov 2026 20:23:21 GMT] \"GET /a?b=1 HTTP/1.1\" 200 512",
    b"10.0.0.9 - - 2026-11-22 20:23:21.123 \"GET /a?b=1 HTTP/1.1\" 200 512",
    b"[GIN] 2026/11/22 - 20:23:21 | 200 |     1.204834ms |        10.0.0.9 | GET      \"/a?b=1\"",
];

/// In a log of lines of one shape, which the first byte chooses, a line that begins as they do up to a place that the
/// second byte names, and as they end from a place that the third byte names.
pub(crate) fn shaped_line(bytes: &[u8]) {
    let [shape, begin, end, rest @ ..] = bytes else { return };
    let shape = SHAPED[usize::from(*shape) % SHAPED.len()];
    let lines: Vec<&[u8]> = shape.split(|&b| b == b'\n').collect();
    let [.., line] = lines[..] else { return };
    let mut parser = Parser::new(&Spec::auto());
    parser.learn(lines.iter().copied().chain(std::iter::repeat_n(line, 20)));
    lines.iter().for_each(|line| access(&mut parser, line));
    let place = |byte: u8| usize::from(byte) % (line.len() + 1);
    for piece in rest.split(|&b| b == b'\n') {
        access(&mut parser, &[&line[..place(*begin)], piece, &line[place(*end)..]].concat());
    }
    drop(parser.format());
}

/// JSON lines with the known keys.
pub(crate) fn json_line(bytes: &[u8]) {
    let mut parser = Parser::new(&Spec::parse("json").expect("a format we name"));
    for line in bytes.split(|&b| b == b'\n') {
        access(&mut parser, line);
    }
    drop(parser.format());
}

/// The first line is a format string, the rest are lines in that format.
pub(crate) fn format_and_lines(bytes: &[u8]) {
    let mut lines = bytes.split(|&b| b == b'\n');
    let format = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let spec = match Spec::parse(&format) {
        Ok(spec) => spec,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(error.at <= format.len(), "an error at byte {} of {format:?}", error.at);
            return;
        }
    };
    let mut parser = Parser::new(&spec);
    lines.for_each(|line| access(&mut parser, line));
    drop(parser.format());
}

fn access(parser: &mut Parser, line: &[u8]) {
    let parsed = match parser.parse(line) {
        Ok(parsed) => parsed,
        Err(error) => {
            assert!(error.at as usize <= line.len(), "{error}");
            assert!(!error.in_line(line).to_string().is_empty());
            let _ = parser.time_of_unread(line);
            return;
        }
    };
    for span in spans(&parsed) {
        assert!(span.start <= span.end && span.end as usize <= line.len(), "{span:?}");
    }
    assert!(parsed.client.start >= parsed.envelope, "the client is not in the envelope");
    let mut same = Vec::new();
    write_with_text(line, parsed.client, parsed.client.of(line), &mut same);
    assert_eq!(same, line, "a line with its own client is the line");
    let mut other = Vec::new();
    write_with_text(line, parsed.client, b"203.0.113.250", &mut other);
    let (start, end) = (parsed.client.start as usize, parsed.client.end as usize);
    let rest = other[start..].strip_prefix(b"203.0.113.250").expect("it is written in place");
    assert_eq!((&other[..start], rest), (&line[..start], &line[end..]));
    let server = ServerIndex(0);
    let _ = LoggedLine::new(
        line,
        &parsed,
        FingerprintCuts { short: true, long: true, target: true },
        server,
        (Timestamp::from_micros(0), Resolution::Second),
    );
}

fn spans(parsed: &AccessLine) -> Vec<LineSpan> {
    let mut spans = vec![parsed.client];
    let optional = [
        parsed.time_text,
        parsed.referer,
        parsed.user_agent,
        parsed.host,
        parsed.user,
        parsed.forwarded_for,
    ];
    spans.extend(optional.into_iter().flatten());
    match parsed.request {
        LoggedRequest::Absent => {}
        LoggedRequest::Line(span) => spans.push(span),
        LoggedRequest::Parts { method, target, query, protocol } => {
            spans.extend([method, target]);
            spans.extend(query.into_iter().chain(protocol));
        }
    }
    spans
}

/// The first line is a format of a balancer's log, the rest are lines in that format: times and
/// requests are consistent, and the join accepts the mappings.
pub(crate) fn balancers_log(bytes: &[u8]) {
    let mut lines = bytes.split(|&b| b == b'\n');
    let format = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let spec = match ThirdPartySpec::parse(&format) {
        Ok(spec) => spec,
        Err(error) => {
            assert!(error.at <= format.len(), "an error at byte {} of {format:?}", error.at);
            return;
        }
    };
    let mut reader = ThirdPartyReader::new(&spec);
    let (mut engine, mut balancers) =
        (Attributor::<()>::new(JoinSettings::default()), BalancerHashes::default());
    for (line, number) in lines.zip(THIRD_PARTY_BASE..) {
        let _ = ThirdPartyReader::may_be_haproxys(line);
        let Ok(Some(passage)) = reader.read(line) else { continue };
        let now = Timestamp::from_micros(1 << 50);
        assert!(passage.span.asked_before(now) <= now);
        let logged = passage.span.logged(|_| 3_600);
        let times = logged.unwrap_or((now, now, Resolution::Second));
        assert!(times.0 <= times.1);
        let (server, port) = match passage.whom {
            ThirdPartyServer::At(server, port) => (server, port),
            ThirdPartyServer::Named { server, .. } => (ServerAddr::Unix(server), None),
            ThirdPartyServer::Nobody | ThirdPartyServer::Unnamed => continue,
        };
        let asked = passage.request();
        assert!(asked.is_empty() || asked.contains(&b' '));
        let id = engine.server(server);
        for mapping in passage.events((server, port), number, times) {
            fingerprint(&mapping);
            let time = mapping.time.expect("moments have times");
            let record = MappingEvent::with_exchange(&mapping, id, time, &mut balancers);
            engine.mapping(&record.expect("it names its connection"));
        }
    }
}

/// Datagrams from the network: no line is lost, and binary datagrams are written as they were read.
pub(crate) fn datagram(bytes: &[u8]) {
    match Datagram::parse(bytes) {
        Datagram::Mapping(_) => mapping_datagram(bytes),
        Datagram::Packet(packet) => packed(&packet),
        Datagram::Shipment(shipment) => shipped(&shipment),
        Datagram::Question(question) => {
            let mut written = Vec::new();
            question.write(&mut written);
            assert_eq!(DiscoveryQuestion::parse(&written), Ok(question));
        }
        Datagram::Answer(answer) => {
            let mut written = Vec::new();
            answer.write(&mut written);
            assert_eq!(DiscoveryAnswer::parse(&written), Ok(answer));
        }
        Datagram::Lines(lines) => {
            let kept: usize = lines.map(<[u8]>::len).sum();
            let ends = bytes.iter().filter(|b| matches!(b, b'\n' | b'\r')).count();
            assert!(kept > 0 && kept + ends >= bytes.len());
        }
        Datagram::Empty => assert!(bytes.iter().all(|b| matches!(b, b'\n' | b'\r'))),
        Datagram::Broken(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Packets are written as they were read, delivered once, and accepted by the join.
fn packed(packet: &Packet<'_>) {
    let (mut origins, mut balancers) = (Origins::new(256), BalancerHashes::default());
    let now = Timestamp::from_micros(1 << 50);
    let dating = origins.receive(packet, now).expect("it is the first");
    assert!(packet.count() == 0 || origins.receive(packet, now).is_none(), "given out once");
    let mut engine =
        Attributor::<()>::new(JoinSettings { max_mappings: 64, ..JoinSettings::default() });
    for mapping in packet.mappings() {
        let mut written = Vec::new();
        write_record(&mapping, &mut written);
        let again =
            PacketRecords(&written).mappings().next().expect("what was written is understood");
        assert_eq!((again.client, again.server), (mapping.client, mapping.server));
        let asked = mapping.request.map_or(0, |request| request.bytes.len());
        assert!(again == mapping || asked > pen_records::request::LONG);
        fingerprint(&mapping);
        let time = dating.of(&mapping);
        assert!(time <= now);
        let (server, stamp) = (engine.server(mapping.server), (time, Resolution::Microsecond));
        if let Some(record) = MappingEvent::with_exchange(&mapping, server, stamp, &mut balancers) {
            engine.mapping(&record);
        }
        engine.advance(time);
    }
    let counts = engine.counts();
    let kept = counts.used + counts.expired + counts.evicted + counts.outstanding;
    assert_eq!(counts.mappings, kept);
}

fn shipped(shipment: &Shipment<'_>) {
    let limits = SenderLimits { senders: 4, lines: 8, bytes: 1 << 16 };
    let mut senders = SenderTable::new(limits);
    let mut received = Vec::new();
    let _ = senders.receive(shipment, Timestamp::default(), |line, _| received.push(line.to_vec()));
    let mut again = 0;
    let _ = senders.receive(shipment, Timestamp::default(), |_, _| again += 1);
    assert!(shipment.piece().is_some() || again == 0, "what comes twice is delivered once");
    if let Some(piece) = shipment.piece() {
        let mut reassembly = Reassembly::new(8, 1 << 16);
        reassembly.add(shipment.origin, shipment.number, &piece);
        assert!(reassembly.pending() <= 1);
        return;
    }
    let lines: Vec<_> = shipment.lines().collect();
    assert_eq!(lines.len(), shipment.line_count() as usize);
    let origin = SenderOrigin { id: shipment.origin.id, start: shipment.origin.start };
    let mut writer = ShipmentWriter::new(origin, shipment.server, 1 << 20);
    for line in &lines {
        assert_eq!(writer.push(line, None), Push::Taken);
    }
    let Some(bytes) = writer.finish(SendStamp::default(), <[u8]>::to_vec) else { return };
    let read = Shipment::parse(&bytes).expect("what was written is understood");
    assert!(read.lines().eq(lines), "the lines are those that were written");
}

/// A stream of mappings and lines: each access line comes out of the join once.
pub(crate) fn join(bytes: &[u8]) {
    let mut engine = Attributor::new(JoinSettings {
        max_lines: 64,
        max_mappings: 64,
        ..JoinSettings::default()
    });
    let server = engine.server(ServerAddr::parse(b"127.0.0.1").expect("an address"));
    let mut parser = Parser::new(&Spec::auto());
    let mut balancers = BalancerHashes::default();
    let (mut put, mut out) = (Vec::new(), Vec::new());
    for (n, text) in bytes.split(|&b| b == b'\n').enumerate() {
        let now = Timestamp::from_micros(i64::try_from(n).unwrap_or(0) * 50_000);
        let stamp = (now, Resolution::Second);
        if let Ok(mapping) = Mapping::parse_datagram(text) {
            let server = engine.server(mapping.server);
            if let Some(record) = MappingEvent::new(&mapping, server, stamp) {
                engine.mapping(&record);
            }
        } else if let Ok(mapping) = Mapping::parse_file_line(text) {
            let server = engine.server(mapping.server);
            let stamp = mapping.time.unwrap_or(stamp);
            if let Some(record) =
                MappingEvent::with_exchange(&mapping, server, stamp, &mut balancers)
            {
                engine.mapping(&record);
            }
        } else if let Ok(parsed) = parser.parse(text) {
            let stamp = parsed.time.unwrap_or(stamp);
            engine.line(
                &LoggedLine::new(
                    text,
                    &parsed,
                    FingerprintCuts { short: true, long: true, target: true },
                    server,
                    stamp,
                ),
                n,
            );
            put.push(n);
            engine.advance(stamp.0);
        }
        while let Some(decided) = engine.next_decided() {
            out.push(decided.payload);
        }
    }
    engine.finish();
    while let Some(decided) = engine.next_decided() {
        out.push(decided.payload);
    }
    out.sort_unstable();
    assert_eq!(put, out, "each line comes out once");
    let counts = engine.counts();
    let decided = counts.exact + counts.certain + counts.likely + counts.unmatched;
    assert_eq!((counts.lines, counts.held), (decided, 0));
    let kept = counts.used + counts.expired + counts.evicted + counts.outstanding;
    assert_eq!(counts.mappings, kept);
}
