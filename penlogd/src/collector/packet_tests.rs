//! Our own balancer's records: numbered, dated by their age, with the balancer's ports in them.

use pen_records::access::Spec;
use pen_records::mapping::RequestText;
use pen_records::mapping::packet::{write_packet, write_record};
use pen_records::request::Cut;
use pen_records::shipment::SenderOrigin;

use pen_records::mapping::MappingKind;
use pen_records::time::Resolution;

use super::*;
use crate::allow::Allow;

const BALANCER: &str = "127.0.0.1:4000";
const WEB: &str = "127.0.0.2:5000";
const ORIGIN: SenderOrigin = SenderOrigin { id: 7, start: Timestamp::from_micros(1) };
/// By the balancer's clock, which is an hour off.
const SENT: Timestamp = Timestamp::from_seconds(3_600);
const FORMAT: &str = r#"%h %l %u %t "%r" %>s %b %{remote}p"#;

struct Bench {
    collector: Collector,
    now: Timestamp,
    out: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        Self::with(CollectorSettings::default())
    }

    fn with(settings: CollectorSettings) -> Self {
        let known =
            SenderSettings { format: Spec::parse(FORMAT).unwrap(), ..SenderSettings::default() };
        let settings = CollectorSettings {
            held_bytes: 1 << 20,
            senders: 16,
            balancers: 16,
            known,
            ..settings
        };
        let now = Timestamp::from_seconds(0);
        Self { collector: Collector::new(settings), now, out: Vec::new() }
    }

    fn send(&mut self, from: &str, datagram: impl AsRef<[u8]>) {
        self.now = self.now.offset_by(1_000);
        self.collector.decide(self.now, &mut self.out, None);
        let answer =
            self.collector.receive(from.parse().unwrap(), datagram.as_ref(), self.now.into());
        assert!(answer.is_none());
    }

    fn line(&mut self, url: &str, port: u16) {
        let line =
            format!("127.0.0.1 - - [22/Nov/2026:20:23:20 +0000] \"GET {url} HTTP/1.1\" 200 5");
        self.send(WEB, format!("{line} {port}\n"));
    }

    /// The clients of the lines that were written, and the balance.
    fn finish(mut self) -> (Vec<String>, CollectorReport) {
        self.collector.finish(self.now, &mut self.out, None);
        let text = String::from_utf8(self.out).unwrap();
        let mut balance = self.collector.report();
        balance.log.written = text.lines().count() as u64;
        assert!(balance.adds_up(), "{balance}");
        let first = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        (text.lines().map(first).collect(), balance)
    }
}

fn mapping(client: u8, port: u16) -> Mapping<'static> {
    Mapping {
        kind: MappingKind::Opened,
        balancer: Some(([127, 0, 0, 1], port).into()),
        connection: Some(port.into()),
        time: Some((SENT.offset_by(-3_000), Resolution::Microsecond)),
        ..Mapping::new(
            IpAddr::from([203, 0, 113, client]).into(),
            IpAddr::from([127, 0, 0, 2]).into(),
        )
    }
}

fn request(client: u8, port: u16) -> Mapping<'static> {
    Mapping {
        kind: MappingKind::Request,
        nth: Some(1),
        request: Some(RequestText::raw(b"GET /a HTTP/1.1", Cut::Long)),
        ..mapping(client, port)
    }
}

fn packet(first: u64, dropped: u64, mappings: &[Mapping<'_>]) -> Vec<u8> {
    packet_of(ORIGIN, first, dropped, mappings)
}

fn packet_of(origin: SenderOrigin, first: u64, dropped: u64, mappings: &[Mapping<'_>]) -> Vec<u8> {
    let (mut records, mut out) = (Vec::new(), Vec::new());
    mappings.iter().for_each(|mapping| write_record(mapping, &mut records));
    let count = u32::try_from(mappings.len()).unwrap();
    write_packet(origin, first, SENT, dropped, (count, &records), &mut out);
    out
}

#[test]
fn the_port_in_a_line_names_its_client_exactly() {
    let mut bench = Bench::new();
    bench.send(BALANCER, packet(0, 0, &[request(7, 2_000), request(8, 2_001), mapping(9, 2_002)]));
    bench.line("/a", 2_001);
    bench.line("/a", 2_000);
    bench.line("/encrypted", 2_002);
    let (clients, balance) = bench.finish();
    assert_eq!(clients, ["203.0.113.8", "203.0.113.7", "203.0.113.9"]);
    assert_eq!((balance.join.exact, balance.join.used), (3, 2));
    assert_eq!((balance.received.packets, balance.received.mappings), (1, 2));
    assert_eq!(balance.received.events, 1);
}

#[test]
fn each_lost_record_is_counted_and_what_comes_twice_is_taken_once() {
    let mut bench = Bench::new();
    let first = packet(10, 0, &[request(7, 2_000)]);
    bench.send(BALANCER, &first);
    bench.send(BALANCER, &first);
    bench.send(BALANCER, packet(15, 1, &[mapping(9, 2_002)]));
    bench.send(BALANCER, packet(13, 0, &[mapping(9, 2_002), mapping(9, 2_002)]));
    bench.line("/a", 0);
    bench.line("/a", 0);
    let (clients, balance) = bench.finish();
    assert_eq!(clients, ["203.0.113.7", "127.0.0.1"]);
    let packets = balance.packets;
    assert_eq!((packets.records, packets.duplicates, packets.late), (4, 1, 1));
    assert_eq!((packets.lost, packets.dropped), (2, 1));
    let told = "records of 1 balancers: 4 came, 3 of them of connections and responses; 2 missing by \
                their numbers, 1 of these dropped by balancers and 1 lost on the way; 1 packets came \
                twice, 1 late";
    assert!(balance.to_string().contains(told), "{balance}");
}

#[test]
fn records_are_taken_from_balancers_only() {
    let mut allow = Allow::default();
    allow.add("mappings=127.0.0.1".parse().unwrap());
    let mut bench = Bench::with(CollectorSettings { allow, ..CollectorSettings::default() });
    bench.send("127.0.0.66:1", packet(0, 0, &[request(66, 2_000)]));
    bench.send(BALANCER, packet(0, 0, &[request(7, 2_000)]));
    bench.line("/a", 2_000);
    let (clients, balance) = bench.finish();
    assert_eq!(clients, ["203.0.113.7"]);
    assert_eq!((balance.received.refused, balance.packets.origins), (1, 1));
}

#[test]
fn a_packet_that_is_damaged_is_junk_and_hides_no_line() {
    let mut bench = Bench::new();
    let whole = packet(0, 0, &[request(7, 2_000)]);
    for cut in [8, 51, 53, whole.len() - 1] {
        bench.send(BALANCER, &whole[..cut]);
    }
    bench.line("/a", 2_000);
    let (clients, balance) = bench.finish();
    assert_eq!(clients, ["127.0.0.1"]);
    assert_eq!((balance.received.junk, balance.received.packets), (4, 0));
}

#[test]
fn while_records_are_lost_an_only_candidate_is_likely_and_certain_again_when_that_is_over() {
    let mut bench = Bench::new();
    let asked = |bench: &mut Bench, number: u64, numbered: u64| {
        let port = u16::try_from(1_000 + number).unwrap();
        bench.send(BALANCER, packet(numbered, 0, &[request(7, port)]));
        // By a port that nobody knows of.
        bench.line("/a", 1);
        bench.collector.decide(bench.now.offset_by(1_000_000), &mut bench.out, None);
        bench.now = bench.now.offset_by(1_000_000);
        bench.collector.report().join
    };
    let before = asked(&mut bench, 1, 1);
    assert_eq!((before.certain, before.likely), (1, 0), "nothing is known to be lost");
    let while_lost = asked(&mut bench, 2, 100);
    assert_eq!((while_lost.certain, while_lost.likely), (1, 1), "98 are");
    bench.now = bench.now.offset_by(200_000_000);
    let after = asked(&mut bench, 3, 101);
    assert_eq!((after.certain, after.likely), (2, 1));
    // Another balancer's losses concern its own servers only.
    let stranger = SenderOrigin { id: 8, ..ORIGIN };
    let elsewhere = Mapping { server: IpAddr::from([127, 0, 0, 3]).into(), ..request(7, 2_000) };
    for first in [0, 1_000, 2_000] {
        let record = std::slice::from_ref(&elsewhere);
        bench.send("127.0.0.66:1", packet_of(stranger, first, 0, record));
    }
    let beside = asked(&mut bench, 4, 102);
    assert_eq!((beside.certain, beside.likely), (3, 1));
}

#[test]
fn a_servers_clock_is_reported_against_the_balancers() {
    let mut bench = Bench::new();
    // The balancer's is an hour ahead, give or take when this began; the lines' stamps are of 2026.
    bench.send(BALANCER, packet(0, 0, &[request(7, 2_000)]));
    (0..20).for_each(|_| bench.line("/a", 2_000));
    let (_, balance) = bench.finish();
    let lines = Timestamp::from_seconds(1_795_379_000);
    let first = Timestamp::from_micros(2_000);
    let balancer = SENT.micros_since(Timestamp::from_micros(1_000));
    let clock = balance.servers[0].clock.expect("there are enough");
    assert_eq!((clock.micros, clock.lines), (lines.micros_since(first) - balancer, 20));
    let text = balance.to_string();
    assert!(text.contains(&format!("; {clock}\n")), "{text}");
    let told = format!("\"clock_ahead_us\":{},\"clock_within_us\":142857}}", clock.micros);
    assert!(balance.json().contains(&told), "{}", balance.json());
}
