//! Lines that wait for records: lost ones that come again, and those of a balancer that is not heard.

use pen_records::mapping::packet::{write_packet, write_record};
use pen_records::mapping::{MappingKind, RequestText};
use pen_records::request::Cut;
use pen_records::shipment::{DiscoveryQuestion, SenderOrigin, StreamList};
use pen_records::time::Resolution;

use super::*;

const BALANCER: &str = "127.0.0.1:4000";
const WEB: &str = "127.0.0.2:5000";
const ORIGIN: SenderOrigin = SenderOrigin { id: 7, start: Timestamp::from_micros(1) };
const SECOND: i64 = 1_000_000;

/// A collector, and a balancer whose clock is an hour ahead.
struct Site {
    collector: Collector,
    now: Timestamp,
    out: Vec<u8>,
    /// The run of the balancer.
    origin: SenderOrigin,
}

impl Site {
    fn new() -> Self {
        let settings = CollectorSettings {
            held_bytes: 1 << 20,
            unfinished_bytes: 1 << 20,
            senders: 16,
            balancers: 16,
            servers: 16,
            grace: Duration::from_secs(60),
            ..CollectorSettings::default()
        };
        let now = Timestamp::from_seconds(1_795_379_000);
        Self { collector: Collector::new(settings), now, out: Vec::new(), origin: ORIGIN }
    }

    /// Passes time in steps of 10 ms.
    fn pass(&mut self, millis: i64) {
        for _ in 0..millis / 10 {
            self.now = self.now.offset_by(10_000);
            self.collector.decide(self.now, &mut self.out, None);
        }
    }

    /// A packet with a record of a request of each client, recorded `ago` microseconds before.
    fn packet(&mut self, first: u64, ago: i64, clients: &[u8]) {
        let sent = self.now.offset_by(3_600 * SECOND);
        let mut records = Vec::new();
        for &client in clients {
            let mapping = Mapping {
                kind: MappingKind::Request,
                time: Some((sent.offset_by(-ago), Resolution::Microsecond)),
                nth: Some(1),
                connection: Some(client.into()),
                balancer: Some(([127, 0, 0, 1], 2_000 + u16::from(client)).into()),
                request: Some(RequestText::raw(b"GET /a HTTP/1.1", Cut::Long)),
                ..Mapping::new(
                    IpAddr::from([203, 0, 113, client]).into(),
                    IpAddr::from([127, 0, 0, 2]).into(),
                )
            };
            write_record(&mapping, &mut records);
        }
        let count = u32::try_from(clients.len()).unwrap();
        let mut packet = Vec::new();
        write_packet(self.origin, first, sent, 0, (count, &records), &mut packet);
        let answer = self.collector.receive(BALANCER.parse().unwrap(), &packet, self.now.into());
        assert!(answer.is_none());
    }

    /// The balancer says that it has sent all records up to this number, and asks which have come.
    fn ask(&mut self, next: u64) {
        let question = DiscoveryQuestion {
            nonce: 1,
            origin: self.origin,
            shipments: next,
            lines: 0,
            streams: StreamList::default(),
        };
        let mut bytes = Vec::new();
        question.write(&mut bytes);
        let answer = self.collector.receive(BALANCER.parse().unwrap(), &bytes, self.now.into());
        assert!(answer.is_some_and(|answer| answer.received.is_some()));
    }

    fn line(&mut self) {
        let line = b"127.0.0.1 - - [22/Nov/2026:20:23:20 +0000] \"GET /a HTTP/1.1\" 200 5\n";
        let answer = self.collector.receive(WEB.parse().unwrap(), line, self.now.into());
        assert!(answer.is_none());
    }

    /// Lines written so far.
    fn written(&self) -> usize {
        self.out.iter().filter(|&&byte| byte == b'\n').count()
    }

    /// The last bytes of the clients written so far.
    fn clients(&self) -> Vec<u8> {
        let text = String::from_utf8_lossy(&self.out);
        let clients = text.lines().filter_map(|line| line.split([' ', '.']).nth(3)?.parse().ok());
        clients.collect()
    }
}

#[test]
fn a_line_waits_for_the_record_that_was_lost_and_comes_again() {
    let mut site = Site::new();
    site.packet(0, 0, &[1]);
    site.line();
    site.pass(1_000);
    site.ask(1);
    assert_eq!(site.clients(), [1]);
    // The packet with the record of client 2 is lost.
    site.pass(10);
    site.line();
    site.pass(100);
    site.packet(2, 0, &[3]);
    site.pass(10);
    site.line();
    site.pass(1_000);
    assert_eq!(site.clients(), [1], "it is waited for");
    site.ask(3);
    site.packet(1, 1_120_000, &[2]);
    site.pass(300);
    assert_eq!(site.clients(), [1, 2, 3]);
}

#[test]
fn repairs_that_take_longer_than_the_grace_are_waited_for_while_they_go_on() {
    let mut site = Site::new();
    site.packet(0, 0, &[1]);
    site.line();
    site.pass(1_000);
    site.ask(1);
    site.pass(500);
    // Five lines, and the packets with their records are lost.
    for _ in 0..5 {
        site.line();
        site.pass(100);
    }
    site.ask(6);
    for number in 1..=5_u8 {
        site.pass(40_000);
        let ago =
            site.now.micros_since(Site::new().now) - (1_350 + 100 * i64::from(number)) * 1_000;
        site.packet(number.into(), ago, &[number + 1]);
    }
    site.pass(1_000);
    assert_eq!(site.clients(), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_run_that_is_silent_since_another_one_began_is_not_waited_for() {
    let mut site = Site::new();
    site.packet(0, 0, &[1]);
    site.packet(1, 0, &[]);
    site.line();
    site.pass(500);
    // It is killed, and another run begins.
    site.origin = SenderOrigin { start: Timestamp::from_micros(2), ..ORIGIN };
    site.packet(0, 0, &[2]);
    site.packet(1, 0, &[]);
    site.line();
    for _ in 0..15 {
        site.pass(100);
        site.packet(1, 0, &[]);
    }
    assert!(site.clients().is_empty(), "what the first run has left may come");
    for _ in 0..10 {
        site.pass(100);
        site.packet(1, 0, &[]);
    }
    assert_eq!(site.clients(), [1, 2]);
    // One that goes on is waited for, whoever else begins there.
    site.origin = ORIGIN;
    site.packet(1, 0, &[3]);
    site.packet(2, 0, &[]);
    site.line();
    site.pass(5_000);
    assert_eq!(site.clients(), [1, 2], "the second run is silent, and none has begun since");
}

#[test]
fn a_record_that_never_comes_is_waited_for_once() {
    let mut site = Site::new();
    site.packet(0, 0, &[1]);
    site.ask(1);
    site.line();
    site.packet(2, 0, &[3]);
    site.line();
    site.pass(59_000);
    assert!(site.clients().is_empty());
    site.pass(2_000);
    assert_eq!(site.clients().len(), 2);
    for number in 0..10 {
        site.packet(3 + u64::from(number), 0, &[10 + number]);
        site.line();
        site.pass(500);
    }
    assert_eq!(site.clients()[2..], [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
}

#[test]
fn lines_wait_for_a_balancer_that_is_not_heard_but_not_for_ever() {
    let mut site = Site::new();
    site.packet(0, 0, &[1]);
    site.line();
    // It beats.
    for _ in 0..5 {
        site.pass(1_000);
        site.packet(1, 0, &[]);
    }
    assert_eq!(site.clients(), [1]);
    // The way from the balancer is cut for 30 s.
    site.pass(1_000);
    site.line();
    site.pass(29_000);
    assert_eq!(site.clients(), [1]);
    site.packet(1, 29 * SECOND, &[2]);
    site.pass(300);
    assert_eq!(site.clients(), [1, 2]);
    // The balancer is ended for good.
    site.line();
    site.pass(59_000);
    assert_eq!(site.clients(), [1, 2]);
    site.pass(2_000);
    assert_eq!(site.written(), 3);
    site.line();
    site.pass(300);
    assert_eq!(site.written(), 4, "nobody waits for it");
}

#[test]
fn a_collector_that_was_stopped_waits_for_what_waited_for_it() {
    let mut site = Site::new();
    site.packet(0, 0, &[1]);
    site.line();
    site.pass(100);
    site.packet(1, 0, &[]);
    site.pass(1_000);
    site.ask(1);
    // Stopped for 90 s: the line comes first.
    site.now = site.now.offset_by(90 * SECOND);
    site.line();
    site.pass(1_000);
    assert_eq!(site.clients(), [1]);
    site.packet(1, 1_000_000, &[2]);
    site.pass(300);
    assert_eq!(site.clients(), [1, 2]);
}

#[test]
fn a_heartbeat_lets_lines_pass_that_no_record_explains() {
    let mut site = Site::new();
    site.packet(0, 0, &[1]);
    site.line();
    site.pass(100);
    site.packet(1, 0, &[]);
    site.pass(500);
    site.line();
    site.pass(400);
    assert_eq!(site.written(), 1);
    site.packet(1, 0, &[]);
    site.pass(100);
    assert_eq!(site.written(), 2);
    assert_eq!(site.collector.report().packets.duplicates, 0);
}
