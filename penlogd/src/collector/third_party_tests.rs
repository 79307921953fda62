//! Lines of other balancers: HAProxy's by syslog, and those of senders that were named.

use pen_records::access::Spec;
use pen_records::mapping::third_party_log::ThirdPartySpec;
use pen_records::server_alias::ServerAliases;
use pen_records::shipment::{Push, SendStamp, SenderOrigin, ShipmentWriter};

use super::*;
use crate::allow::Allow;

const BALANCER: &str = "127.0.0.1:4000";
const WEB: &str = "127.0.0.2:5000";
const FORMAT: &str = r#"%h %l %u %t "%r" %>s %b %{remote}p"#;

struct Bench {
    collector: Collector,
    now: Timestamp,
    out: Vec<u8>,
}

impl Bench {
    fn new(known: SenderSettings, allow: Allow) -> Self {
        let known = SenderSettings { format: Spec::parse(FORMAT).unwrap(), ..known };
        let settings = CollectorSettings {
            held_bytes: 1 << 20,
            servers: 8,
            senders: 100,
            balancers: 16,
            known,
            allow,
            ..CollectorSettings::default()
        };
        let now = Timestamp::from_seconds(0);
        Self { collector: Collector::new(settings), now, out: Vec::new() }
    }

    fn send(&mut self, from: &str, datagram: impl AsRef<[u8]>) {
        self.now = self.now.offset_by(1_000);
        self.collector.decide(self.now, &mut self.out, None);
        let from = from.parse().unwrap();
        assert!(self.collector.receive(from, datagram.as_ref(), self.now.into()).is_none());
    }

    fn line(&mut self, url: &str, port: u16) {
        let line = format!(
            "127.0.0.1 - - [22/Nov/2026:20:23:20 +0000] \"GET {url} HTTP/1.1\" 200 5 {port}\n"
        );
        self.send(WEB, line);
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

fn haproxys(client: u8, server: &str, url: &str, ports: &str) -> String {
    format!(
        "<134>Nov 22 20:23:20 haproxy[7]: 192.0.2.{client}:4711 [22/Nov/2026:20:23:20.526] web app/{server} \
         0/0/0/1/2 200 128 - - ---- 1/1/0/0/0 0/0 \"GET {url} HTTP/1.1\"{ports}\n"
    )
}

fn named() -> SenderSettings {
    let servers = ServerAliases::new(vec!["app/w1=127.0.0.2".parse().unwrap()]).unwrap();
    SenderSettings { servers, ..SenderSettings::default() }
}

#[test]
fn what_haproxy_sends_is_no_access_line_and_names_the_client() {
    let mut bench = Bench::new(named(), Allow::default());
    bench.line("/a", 4000);
    bench.send(BALANCER, haproxys(7, "w1", "/a", ""));
    bench.send(BALANCER, haproxys(8, "w1", "/b", " 127.0.0.1:4001 127.0.0.2:80"));
    bench.line("/b", 4001);
    let (clients, balance) = bench.finish();
    assert_eq!(clients, ["192.0.2.7", "192.0.2.8"]);
    assert_eq!((balance.received.mappings, balance.join.used), (2, 2));
}

#[test]
fn equal_requests_behind_nginx_are_exact_by_the_ids_that_it_gives() {
    let format = r#"$remote_addr [$msec] "$request" $status "$upstream_addr" $request_id"#;
    let spec = ThirdPartySpec::parse(format).unwrap();
    let senders = vec![LineSender::Addr(BALANCER.parse::<SocketAddr>().unwrap().ip())];
    let nginx = BalancerSender { name: "127.0.0.1".into(), senders, spec };
    let known = SenderSettings { balancers: vec![nginx], ..SenderSettings::default() };
    let mut bench = Bench::new(known, Allow::default());
    bench.collector = Collector::new(CollectorSettings {
        known: SenderSettings { format: Spec::auto(), ..bench.collector.settings.known.clone() },
        ..bench.collector.settings.clone()
    });
    let id = |client: u8| format!("{:032x}", u128::from(client) << 90 | 0x1234_5678_9abc);
    // The lines come in another order than the records, and before them.
    for first in (1..=60_u8).step_by(3) {
        for client in [first + 2, first, first + 1] {
            let line = format!(
                "127.0.0.1 - - [22/Nov/2026:20:23:20 +0000] \"GET / HTTP/1.0\" 200 5 \"-\" \"curl\" {}\n",
                id(client)
            );
            bench.send(WEB, line);
        }
        for client in first..first + 3 {
            let record = format!(
                "192.0.2.{client} [1795379000.000] \"GET / HTTP/1.1\" 200 \"127.0.0.2:80\" {}\n",
                id(client)
            );
            bench.send(BALANCER, record);
        }
    }
    let (clients, balance) = bench.finish();
    let expected = (1..=60_u8).step_by(3).flat_map(|first| [first + 2, first, first + 1]);
    assert_eq!(clients, expected.map(|client| format!("192.0.2.{client}")).collect::<Vec<_>>());
    assert_eq!((balance.join.lines, balance.join.exact), (60, 60));
}

#[test]
fn names_without_an_address_and_answers_of_its_own_are_counted() {
    let mut bench = Bench::new(named(), Allow::default());
    bench.send(BALANCER, haproxys(7, "w2", "/a", ""));
    bench.send(BALANCER, haproxys(7, "<NOSRV>", "/a", ""));
    bench.line("/a", 4000);
    let (clients, balance) = bench.finish();
    assert_eq!(clients, ["127.0.0.1"]);
    assert_eq!((balance.received.mappings, balance.received.mappings_unused), (2, 2));
}

#[test]
fn who_may_not_send_mappings_may_not_send_them_as_haproxy() {
    let mut allow = Allow::default();
    allow.add("mappings=10.0.0.0/8".parse().unwrap());
    let mut bench = Bench::new(named(), allow);
    bench.send(BALANCER, haproxys(7, "w1", "/a", ""));
    bench.line("/a", 4000);
    let (clients, balance) = bench.finish();
    assert_eq!((clients, balance.received.refused), (vec!["127.0.0.1".to_owned()], 1));
}

#[test]
fn a_connection_that_is_logged_when_it_opens_is_known_before_its_lines() {
    let mut bench = Bench::new(SenderSettings::default(), Allow::default());
    let tcp = "192.0.2.9:1 [22/Nov/2026:20:23:20.526] t a/w 1/0/+1 +0 -- 1/1/1/1/0 0/0 127.0.0.1:4000 127.0.0.2:80";
    bench.send(BALANCER, format!("<134>1 2026-11-22T20:23:20.527000+00:00 - haproxy 7 - - {tcp}"));
    bench.line("/a", 4000);
    bench.line("/b", 4000);
    assert_eq!(bench.finish().0, ["192.0.2.9", "192.0.2.9"]);
}

#[test]
fn lines_of_a_sender_that_was_named_are_read_by_its_format() {
    let spec = r#"%DOWNSTREAM_REMOTE_ADDRESS% %DURATION% "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%" %UPSTREAM_HOST% %UPSTREAM_LOCAL_ADDRESS%"#;
    let spec = ThirdPartySpec::parse(spec).unwrap();
    let senders = vec![LineSender::Name(b"edge".to_vec())];
    let sender = BalancerSender { name: "edge".into(), senders, spec };
    let known = SenderSettings { balancers: vec![sender], ..SenderSettings::default() };
    let mut bench = Bench::new(known, Allow::default());
    let server =
        pen_records::shipment::ShipmentServer { name: Some(b"edge"), ..Default::default() };
    let origin = SenderOrigin { id: 1, start: Timestamp::from_micros(2) };
    let mut writer = ShipmentWriter::new(origin, server, 1400);
    for line in [
        &br#"192.0.2.9:1 3 "GET /a HTTP/2" 127.0.0.2:80 127.0.0.1:4000"#[..],
        b"junk",
        br#"192.0.2.8:1 3 "GET /a HTTP/1.1" 127.0.0.2:80 127.0.0.1:4001"#,
        // As Docker's json-file has lines, and CRI.
        br#"{"log":"192.0.2.7:1 3 \"GET /a HTTP/1.1\" 127.0.0.2:80 127.0.0.1:4002\n"}"#,
        br#"2026-11-22T20:23:20.5Z stdout F 192.0.2.6:1 3 "GET /a HTTP/1.1" 127.0.0.2:80 127.0.0.1:4003"#,
    ] {
        assert_eq!(writer.push(line, None), Push::Taken);
    }
    let shipment = writer.finish(SendStamp::default(), <[u8]>::to_vec).unwrap();
    bench.line("/a", 4001);
    bench.line("/a", 4000);
    bench.line("/a", 4002);
    bench.line("/a", 4003);
    bench.send(BALANCER, shipment);
    let (clients, balance) = bench.finish();
    assert_eq!(clients, ["192.0.2.8", "192.0.2.9", "192.0.2.7", "192.0.2.6"]);
    assert_eq!((balance.received.mappings, balance.received.mappings_unused), (5, 1));
}

#[test]
fn records_by_which_no_line_can_be_matched_are_said() {
    let servers = ServerAliases::new(vec!["app/web1=127.0.0.2".parse().unwrap()]).unwrap();
    let known = SenderSettings { servers, ..SenderSettings::default() };
    let mut bench = Bench::new(known, Allow::default());
    for number in 0..30 {
        let line = format!(
            "<134>Nov 22 20:23:20 lb haproxy[7]: 203.0.113.9:{} [22/Nov/2026:20:23:20.123] front app/web1 1/0/5 212 -- \
             1/1/0/0/0 0/0",
            4_000 + number
        );
        bench.send(BALANCER, line);
        bench.line(&format!("/{number}"), 7_000 + number);
    }
    bench.now = bench.now.offset_by(30_000_000);
    bench.collector.decide(bench.now, &mut bench.out, None);
    let said = bench.collector.take_remarks();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("30 records of a balancer's connections, and none names"),
        "{said:?}"
    );
}
