//! Servers that go by several addresses and names.

use pen_records::access::Spec;
use pen_records::server_alias::ServerAliases;
use pen_records::shipment::{Push, SendStamp, SenderOrigin, ShipmentServer, ShipmentWriter};

use super::*;

const BALANCER: &str = "127.0.0.1:4000";
const TAIL: &str = "- - [22/Nov/2026:20:23:20 +0000]";

struct Bench {
    collector: Collector,
    now: Timestamp,
    out: Vec<u8>,
}

impl Bench {
    fn new(options: &[&str]) -> Self {
        Self::reading("auto", options)
    }

    /// The same, with a format for all servers.
    fn reading(format: &str, options: &[&str]) -> Self {
        let format = Spec::parse(format).unwrap();
        let options = options.iter().map(|text| text.parse().unwrap()).collect();
        let servers = ServerAliases::new(options).unwrap();
        let settings = CollectorSettings {
            known: SenderSettings { format, servers, ..SenderSettings::default() },
            held_bytes: 1 << 20,
            unfinished_bytes: 1 << 20,
            servers: 100,
            senders: 100,
            balancers: 16,
            ..CollectorSettings::default()
        };
        let now = Timestamp::from_seconds(1_795_379_000);
        Self { collector: Collector::new(settings), now, out: Vec::new() }
    }

    fn send(&mut self, from: &str, datagram: &str) {
        self.now = self.now.offset_by(1_000);
        self.collector.receive(from.parse().unwrap(), datagram.as_bytes(), self.now.into());
    }

    /// Sends a mapping of the server, and then the line of the same request, with `head` in front.
    fn request(&mut self, number: u32, mapped: &str, from: &str, head: &str) {
        self.send(BALANCER, &format!("+ 203.0.113.{number} {mapped} GET /{number} HTTP/1.1\n"));
        let line = format!("{head}10.9.9.9 {TAIL} \"GET /{number} HTTP/1.1\" 200 5\n");
        self.send(&format!("{from}:5000"), &line);
    }

    /// Lets time pass as the loop does, and returns the warnings of that time.
    fn remarks(&mut self, seconds: i64) -> Vec<String> {
        let until = self.now.offset_by(seconds * 1_000_000);
        let mut remarks = Vec::new();
        while let Some(due) = self.collector.next_due().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.collector.decide(self.now, &mut self.out, None);
            remarks.append(&mut self.collector.take_remarks());
        }
        self.now = until;
        remarks
    }

    /// Returns the clients in the log.
    fn clients(mut self) -> Vec<String> {
        self.collector.finish(self.now, &mut self.out, None);
        let text = String::from_utf8_lossy(&self.out);
        text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
    }
}

#[test]
fn mappings_may_name_a_server_by_another_address_or_by_its_socket() {
    let mut bench = Bench::new(&["2001:db8::1=10.0.0.1", "/run/app.sock=10.0.0.1"]);
    bench.request(1, "10.0.0.1", "10.0.0.1", "");
    bench.request(2, "2001:db8::1", "10.0.0.1", "");
    bench.request(3, "/run/app.sock", "10.0.0.1", "");
    bench.request(4, "10.0.0.2", "10.0.0.1", "");
    assert_eq!(bench.clients(), ["203.0.113.1", "203.0.113.2", "203.0.113.3", "10.9.9.9"]);
}

#[test]
fn the_other_address_may_send_the_lines_and_stand_in_the_mappings() {
    let mut bench = Bench::new(&["10.0.0.2=10.0.0.1"]);
    bench.request(1, "10.0.0.2", "10.0.0.2", "");
    bench.request(2, "10.0.0.1", "10.0.0.2", "");
    bench.request(3, "10.0.0.2", "10.0.0.1", "");
    assert_eq!(bench.clients(), ["203.0.113.1", "203.0.113.2", "203.0.113.3"]);
}

#[test]
fn a_format_without_the_protocol_of_requests_is_compared_without() {
    let mut bench = Bench::new(&[]);
    let mapping = |bench: &mut Bench, number: usize| {
        let protocol = ["1.1", "1.0", "2.0"][number % 3];
        let text = format!("+ 203.0.113.{number} 10.0.0.1 GET /{number} HTTP/{protocol}\n");
        bench.send(BALANCER, &text);
    };
    // The records of the first requests come before it is known how their server logs.
    (1..=3).for_each(|number| mapping(&mut bench, number));
    for number in 1..=6 {
        if number > 3 {
            mapping(&mut bench, number);
        }
        let line =
            format!(r#"[GIN] 2026/11/22 - 20:23:20 | 200 | 1ms | 10.9.9.9 | GET "/{number}""#);
        bench.send("10.0.0.1:5000", &format!("{line}\n"));
    }
    bench.collector.finish(bench.now, &mut bench.out, None);
    let text = String::from_utf8_lossy(&bench.out).into_owned();
    let clients: Vec<_> = text.lines().filter_map(|line| line.split(" | ").nth(3)).collect();
    let expected: Vec<_> = (1..=6).map(|number| format!("203.0.113.{number}")).collect();
    assert_eq!(clients, expected);
}

#[test]
fn the_host_in_a_relays_envelope_names_the_server() {
    let mut bench = Bench::new(&["web1=10.0.0.1", "WEB2=10.0.0.2"]);
    bench.request(1, "10.0.0.1", "10.0.0.9", "<190>Nov 22 20:23:20 web1 nginx: ");
    bench.request(2, "10.0.0.2", "10.0.0.9", "<190>Nov 22 20:23:20 web2 nginx: ");
    bench.request(3, "10.0.0.2", "10.0.0.9", "<190>1 2026-11-22T20:23:20Z web2 nginx 17 - - ");
    bench.request(4, "10.0.0.1", "10.0.0.9", "<190>Nov 22 20:23:20 web2 nginx: ");
    bench.request(5, "10.0.0.3", "10.0.0.9", "<190>Nov 22 20:23:20 10.0.0.3 nginx: ");
    let expected = ["203.0.113.1", "203.0.113.2", "203.0.113.3", "10.9.9.9", "203.0.113.5"];
    assert_eq!(bench.clients(), expected);
}

#[test]
fn a_central_file_may_come_by_a_shipper() {
    let mut bench = Bench::new(&["web1=10.0.0.1"]);
    bench.send(BALANCER, "+ 203.0.113.1 10.0.0.1 GET /1 HTTP/1.1\n");
    let origin = SenderOrigin { id: 1, start: Timestamp::from_micros(2) };
    let mut writer = ShipmentWriter::new(origin, ShipmentServer::default(), 1400);
    let line = format!("Nov 22 20:23:20 web1 nginx: 10.9.9.9 {TAIL} \"GET /1 HTTP/1.1\" 200 5");
    assert_eq!(writer.push(line.as_bytes(), None), Push::Taken);
    let shipment = writer.finish(SendStamp::default(), <[u8]>::to_vec).unwrap();
    bench.now = bench.now.offset_by(1_000);
    bench.collector.receive("10.0.0.9:5000".parse().unwrap(), &shipment, bench.now.into());
    assert_eq!(bench.clients(), ["203.0.113.1"]);
}

#[test]
fn a_server_that_no_mapping_names_is_said_with_the_option_to_add() {
    let mut bench = Bench::new(&[]);
    bench.request(1, "10.0.0.1", "127.0.0.7", "");
    let said = bench.remarks(30);
    assert_eq!(
        said,
        [
            "1 lines of 127.0.0.7, and no mapping names this server; mappings name 10.0.0.1: add --server \
          127.0.0.7=10.0.0.1 if this is that server"
        ]
    );
    let mut count = 0;
    for number in 2..200 {
        bench.request(number % 200, "10.0.0.1", "127.0.0.7", "");
        count += bench.remarks(1).iter().filter(|it| it.contains("add --server")).count();
    }
    assert!((2..=3).contains(&count), "{count} warnings in 200 s");
    assert!(bench.remarks(100).len() <= 1, "after the last line there is one more look");
    assert_eq!(bench.collector.next_due(), None, "an idle collector sleeps");
}

#[test]
fn records_without_lines_and_lines_without_records_are_said() {
    let mut bench = Bench::new(&[]);
    bench.send(BALANCER, "+ 203.0.113.1 10.0.0.1 GET /1 HTTP/1.1\n");
    let said = bench.remarks(30);
    assert!(said[0].starts_with("1 records of a balancer, and no access line"), "{said:?}");
    let mut bench = Bench::new(&[]);
    bench.send("10.0.0.1:5000", &format!("10.9.9.9 {TAIL} \"GET /1 HTTP/1.1\" 200 5\n"));
    let said = bench.remarks(30);
    assert!(said[0].starts_with("1 access lines, and no record of a balancer"), "{said:?}");
}

#[test]
fn lines_that_are_not_understood_are_said_with_the_first_of_them() {
    let mut bench = Bench::new(&[]);
    bench.request(1, "10.0.0.1", "10.0.0.1", "");
    for _ in 0..3 {
        bench.send("10.0.0.1:5000", "what is this\n");
    }
    let said = bench.remarks(30);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("3 of 4 lines of 10.0.0.1 are not understood"), "{said:?}");
    assert!(said[0].contains("of \"what is this\""), "{said:?}");
    assert!(said[0].contains("--format '10.0.0.1=…'"), "{said:?}");
}

#[test]
fn lines_of_haproxy_that_are_not_its_datagrams_are_known() {
    let mut bench = Bench::new(&[]);
    bench.request(1, "10.0.0.1", "10.0.0.1", "");
    let line = "192.0.2.7:4711 [25/Nov/2026:16:46:11.585] web app/w2 0/0/0/3/4 200 129 - - ---- 1/1/0/0/0 0/0 \"GET / HTTP/1.1\"\n";
    for _ in 0..3 {
        bench.send("10.0.0.9:5000", line);
    }
    let said = bench.remarks(30);
    let expected = "these are lines of HAProxy: say --mapping-format '10.0.0.9=haproxy'";
    assert!(said.iter().any(|it| it.ends_with(expected)), "{said:?}");
}

#[test]
fn a_format_that_fits_no_line_is_said_to_be_left_out() {
    let mut bench = Bench::reading("$remote_addr|$request", &[]);
    bench.request(1, "10.0.0.1", "10.0.0.1", "");
    let said = bench.remarks(30);
    assert!(
        said[0].ends_with("leave out its --format, by which the lines are not understood"),
        "{said:?}"
    );
}

#[test]
fn a_server_whose_lines_find_nothing_is_said() {
    let mut bench = Bench::new(&[]);
    for number in 0..60 {
        let mapped = if number < 20 { "10.0.0.1" } else { "10.0.0.2" };
        bench.request(number, mapped, "10.0.0.1", "");
    }
    let said = bench.remarks(30);
    assert_eq!(
        said,
        [
            "40 of 60 lines of 10.0.0.1 find no mapping: they are among those of 10.0.0.2, from where no line comes. If \
          this is another address of the server, add --server 10.0.0.2=10.0.0.1"
        ]
    );
}

#[test]
fn a_second_address_is_said_at_once_where_all_requests_are_the_same() {
    let mut bench = Bench::new(&[]);
    for number in 0..60 {
        let mapped = if number % 2 == 0 { "10.0.0.1" } else { "10.0.0.2" };
        bench.send(BALANCER, &format!("+ 203.0.113.{number} {mapped} GET / HTTP/1.1\n"));
        bench.send("10.0.0.1:5000", &format!("10.9.9.9 {TAIL} \"GET / HTTP/1.1\" 200 5\n"));
    }
    let said = bench.remarks(30);
    let text = "if 10.0.0.2 is another address of this server, add --server 10.0.0.2=10.0.0.1";
    assert!(said.iter().any(|it| it.ends_with(text)), "{said:?}");
    // Without lines that lack a mapping, it takes two looks.
    let mut bench = Bench::new(&[]);
    bench.send(BALANCER, "+ 203.0.113.9 10.0.0.2 GET / HTTP/1.1\n");
    bench.request(1, "10.0.0.1", "10.0.0.1", "");
    assert_eq!(bench.remarks(30), Vec::<String>::new());
    bench.request(2, "10.0.0.1", "10.0.0.1", "");
    assert_eq!(
        bench.remarks(30),
        [
            "mappings name 10.0.0.2, from where no access line has come so far: does penlog run there, with this address \
          and port?"
        ]
    );
}

#[test]
fn an_option_without_effect_is_said_once() {
    let mut bench = Bench::new(&["10.0.0.7=10.0.0.1", "10.0.0.2=10.0.0.1", "app/w=10.0.0.1"]);
    bench.request(1, "10.0.0.2", "10.0.0.1", "");
    let said = bench.remarks(30);
    let option = |text: &str| {
        said.iter().any(|it| it.starts_with(&format!("--server {text} had no effect")))
    };
    assert!(option("10.0.0.7=10.0.0.1") && option("app/w=10.0.0.1"), "{said:?}");
    assert!(!option("10.0.0.2=10.0.0.1"), "{said:?}");
    bench.request(2, "10.0.0.2", "10.0.0.1", "");
    assert_eq!(bench.remarks(100), Vec::<String>::new());
}

/// Sends what a balancer that is no pen and its server log of `count` requests, the balancer's line first or last.
fn log_twice(bench: &mut Bench, count: u32) {
    for number in 0..count {
        let line = |client: &str| {
            format!("{client} {TAIL} \"GET /{number}?x HTTP/1.1\" 200 5 \"-\" \"curl/8\"\n")
        };
        let mut lines = [
            ("10.0.0.9:5000", line(&format!("198.51.100.{}", number % 200))),
            ("10.0.0.1:5000", line("10.0.0.99")),
        ];
        lines.rotate_left(number as usize % 2);
        for (from, line) in lines {
            bench.send(from, &line);
            bench.collector.decide(bench.now, &mut bench.out, None);
        }
    }
}

#[test]
fn lines_of_a_balancer_are_not_written_beside_those_of_its_server() {
    let mut bench = Bench::new(&["app/web1=10.0.0.1"]);
    log_twice(&mut bench, 40);
    let said = bench.remarks(1);
    assert!(
        said.iter().any(|it| it.starts_with("10.0.0.9 looks like a balancer: 10.0.0.1")),
        "{said:?}"
    );
    let report = bench.collector.report();
    assert_eq!((report.received.lines, report.received.repeated), (80, 40));
    assert_eq!(bench.clients(), vec!["10.0.0.99"; 40]);
}

#[test]
fn lines_of_two_servers_are_all_written() {
    let mut bench = Bench::new(&["app/web1=10.0.0.1", "app/web2=10.0.0.9"]);
    log_twice(&mut bench, 40);
    assert_eq!(bench.clients().len(), 80);
    // A server behind the server: its client is a server.
    let mut bench = Bench::new(&["app/web1=10.0.0.1"]);
    for number in 0..40 {
        bench.request(number, "10.0.0.1", "10.0.0.1", "");
        let line = format!("10.0.0.1 {TAIL} \"GET /{number} HTTP/1.1\" 200 5\n");
        bench.send("10.0.0.9:5000", &line);
    }
    assert_eq!(bench.clients().len(), 80);
}

#[test]
fn two_servers_that_are_mixed_up_are_said() {
    let mut bench = Bench::new(&[]);
    for number in 0..100 {
        // Half of the requests are the same at both.
        let (own, other) =
            if number % 2 == 0 { ("10.0.0.1", "10.0.0.2") } else { ("10.0.0.2", "10.0.0.1") };
        let url = if number % 4 < 2 { 1 } else { number };
        bench.send(BALANCER, &format!("+ 203.0.113.{number} {own} GET /{url} HTTP/1.1\n"));
        let line = format!("10.9.9.9 {TAIL} \"GET /{url} HTTP/1.1\" 200 5\n");
        bench.send(&format!("{other}:5000"), &line);
    }
    let said = bench.remarks(30);
    let count = said.iter().filter(|it| it.contains("mixed up")).count();
    assert_eq!(count, 2, "{said:?}");
}

#[test]
fn the_server_of_lines_is_found_by_their_requests() {
    let mut bench = Bench::new(&[]);
    for number in 0..30 {
        bench.request(number, "10.0.0.1", "10.0.0.1", "");
        bench.request(100 + number, "10.0.0.2", "127.0.0.7", "");
        bench.send(BALANCER, &format!("+ 203.0.113.9 10.0.0.3 GET /other{number} HTTP/1.1\n"));
    }
    let said = bench.remarks(30);
    assert!(
        said[0].ends_with(
            "10.0.0.2 have the requests of these lines: add --server 127.0.0.7=10.0.0.2"
        ),
        "{said:?}"
    );
}
