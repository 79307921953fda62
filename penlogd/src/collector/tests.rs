//! The core on a clock of its own. The names say what a collector must do; many of them are what
//! the C collector did not.

use std::time::Duration;

use pen_records::access::Spec;
use pen_records::rewrite::{LikelyPolicy, UnmatchedPolicy};
use pen_records::server_alias::ServerAliases;
use pen_records::shipment::{Push, SendStamp, SenderOrigin, ShipmentServer, ShipmentWriter};

use pen_records::shipment::{DiscoveryQuestion, StreamList};

use super::*;

const BALANCER: &str = "127.0.0.1:4000";
const WEB: &str = "127.0.0.2:5000";
const TIME: &str = "[22/Nov/2026:20:23:20 +0000]";

/// Datagrams in, each a millisecond after the one before; text out.
struct Bench {
    collector: Collector,
    now: Timestamp,
    out: Vec<u8>,
    explain: Vec<u8>,
}

impl Bench {
    fn new(settings: CollectorSettings) -> Self {
        let collector = Collector::new(settings);
        let now = Timestamp::from_seconds(1_795_379_000);
        Self { collector, now, out: Vec::new(), explain: Vec::new() }
    }

    fn send(&mut self, from: &str, datagram: impl AsRef<[u8]>) -> Option<DiscoveryAnswer> {
        self.wait(1);
        self.collector.receive(from.parse().unwrap(), datagram.as_ref(), self.now.into())
    }

    fn wait(&mut self, millis: i64) {
        self.now = self.now.offset_by(millis * 1_000);
        self.collector.decide(self.now, &mut self.out, Some(&mut self.explain));
    }

    /// What was written, all of it.
    fn finish(&mut self) -> String {
        self.collector.finish(self.now, &mut self.out, Some(&mut self.explain));
        let written = self.out.iter().filter(|&&byte| byte == b'\n').count() as u64;
        let mut balance = self.collector.report();
        balance.log.written = written;
        assert!(balance.adds_up(), "{balance}");
        assert_eq!(balance.held_bytes, 0);
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

fn settings() -> CollectorSettings {
    CollectorSettings {
        held_bytes: 1 << 20,
        unfinished_bytes: 1 << 20,
        servers: 100,
        senders: 100,
        balancers: 16,
        ..CollectorSettings::default()
    }
}

/// What comes out when all of this is sent, the log lines from the web server.
fn through(datagrams: &[&str]) -> String {
    let mut bench = Bench::new(settings());
    for datagram in datagrams {
        let from = if datagram.starts_with("+ ") { BALANCER } else { WEB };
        bench.send(from, datagram);
    }
    bench.finish()
}

fn line(client: &str, request: &str) -> String {
    format!("{client} - - {TIME} \"{request}\" 200 5\n")
}

/// 40 lines in which one of two words may be the client, and the words in a line.
fn lines_with_a_choice(head: &str) -> Vec<String> {
    let words = |number: usize| head.replace('N', &number.to_string());
    (0..40)
        .map(|number| format!("{} {TIME} \"GET /{number} HTTP/1.1\" 200 5\n", words(number)))
        .collect()
}

#[test]
fn the_client_of_the_first_lines_is_the_word_that_later_lines_tell() {
    for (head, expected) in [
        // A client sends X-Forwarded-For; the second address is the balancer's.
        ("203.0.113.N 127.0.0.1 - -", "203.0.113.N 192.0.2.7 - -"),
        ("127.0.0.1 203.0.113.N - -", "192.0.2.7 203.0.113.N - -"),
        ("a-N.example - lb1 - bob", "a-N.example - 192.0.2.7 - bob"),
        ("lb1.example a-N.example - -", "192.0.2.7 a-N.example - -"),
    ] {
        let mut bench = Bench::new(settings());
        let expected = lines_with_a_choice(expected).concat();
        for (number, line) in lines_with_a_choice(head).into_iter().enumerate() {
            bench.send(BALANCER, format!("+ 192.0.2.7 127.0.0.2 GET /{number} HTTP/1.1\n"));
            bench.send(WEB, line);
        }
        assert_eq!(bench.finish(), expected, "{head}");
    }
}

#[test]
fn a_first_line_with_a_choice_is_not_held_for_ever() {
    let mut bench = Bench::new(settings());
    let lines = lines_with_a_choice("203.0.113.N 127.0.0.1 - -");
    bench.send(WEB, &lines[0]);
    let due = bench.collector.next_due().unwrap();
    assert!(due <= bench.now.offset_by(1_000_000));
    bench.wait(500);
    assert!(bench.out.is_empty());
    bench.wait(1_500);
    assert_eq!(String::from_utf8_lossy(&bench.out), lines[0]);
    // A line that leaves no choice waits no longer than others.
    bench.send("127.0.0.3:5000", line("127.0.0.1", "GET /a HTTP/1.1"));
    bench.wait(500);
    assert!(bench.out.ends_with(b"/a HTTP/1.1\" 200 5\n"));
    bench.finish();
}

#[test]
fn the_vectors_of_the_old_programs_hold_where_they_were_right() {
    let a = line("10.0.0.1", "GET /a HTTP/1.1");
    let b = line("10.0.0.1", "GET /b HTTP/1.1");
    let mapping = "+ 203.0.113.7 127.0.0.2 GET /a HTTP/1.1\n";
    assert_eq!(through(&[mapping, &a]), line("203.0.113.7", "GET /a HTTP/1.1"));
    assert_eq!(through(&[mapping, &b]), b);
    let v6 = "+ ::1 127.0.0.2 GET / HTTP/1.1\n";
    assert_eq!(through(&[v6, &line("10.0.0.1", "GET / HTTP/1.1")]), line("::1", "GET / HTTP/1.1"));
    let mut bench = Bench::new(settings());
    bench.send(BALANCER, mapping);
    bench.send("127.0.0.3:5000", &a);
    assert_eq!(bench.finish(), a, "another server's line");
}

#[test]
fn requests_of_any_length_are_found() {
    for len in [1, 98, 99, 100, 101, 150, 799, 800, 801, 1_000, 5_000, 60_000] {
        let request = format!("GET /{} HTTP/1.1", "x".repeat(len));
        let mut mapping = format!("+ 203.0.113.7 127.0.0.2 {request}\n");
        mapping.truncate(1023);
        let mut bench = Bench::new(settings());
        bench.send(BALANCER, &mapping);
        bench.send(WEB, line("10.0.0.1", &request));
        assert_eq!(bench.finish(), line("203.0.113.7", &request), "{len}");
    }
}

#[test]
fn a_mapping_explains_one_line_only() {
    let a = line("10.0.0.1", "GET /a HTTP/1.1");
    let mapping = "+ 203.0.113.7 127.0.0.2 GET /a HTTP/1.1\n";
    let out = through(&[mapping, &a, &a, &a]);
    // Any of three equal lines may be the one.
    let is_named = |line: &&str| line.starts_with("203.0.113.7 ");
    assert_eq!(out.lines().filter(is_named).count(), 1, "{out}");
    assert_eq!(out.lines().count(), 3, "{out}");
}

#[test]
fn equal_requests_are_told_apart_by_their_order() {
    let asked = line("10.0.0.1", "GET / HTTP/1.1");
    let out = through(&[
        "+ 1.1.1.1 127.0.0.2 GET / HTTP/1.1\n",
        "+ 2.2.2.2 127.0.0.2 GET / HTTP/1.1\n",
        &asked,
        &asked,
    ]);
    let clients: Vec<_> = out.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(clients, ["1.1.1.1", "2.2.2.2"]);
}

#[test]
fn a_request_that_only_begins_alike_is_another() {
    for request in ["GET /acc", "", "-", "GET /account/delete HTTP/1.1 "] {
        let asked = line("10.0.0.1", request);
        let mapping = "+ 6.6.6.6 127.0.0.2 GET /account/delete HTTP/1.1\n";
        assert_eq!(through(&[mapping, &asked]), asked, "{request}");
    }
}

#[test]
fn escapes_of_both_web_servers_are_undone() {
    let mapping = b"+ 203.0.113.7 127.0.0.2 GET /\"a\\\xC3\xA9\t HTTP/1.1\n";
    for logged in [r#"GET /\"a\\\xc3\xa9\t HTTP/1.1"#, r"GET /\x22a\x5C\xC3\xA9\x09 HTTP/1.1"] {
        let mut bench = Bench::new(settings());
        bench.send(BALANCER, mapping);
        bench.send(WEB, line("10.0.0.1", logged));
        assert_eq!(bench.finish(), line("203.0.113.7", logged));
    }
}

#[test]
fn a_line_that_comes_before_its_mapping_waits_for_it() {
    let a = line("10.0.0.1", "GET /a HTTP/1.1");
    let mapping = "+ 203.0.113.7 127.0.0.2 GET /a HTTP/1.1\n";
    assert_eq!(through(&[&a, mapping]), line("203.0.113.7", "GET /a HTTP/1.1"));
    let mut bench = Bench::new(settings());
    bench.send(WEB, &a);
    bench.wait(300);
    assert_eq!(bench.out, a.as_bytes(), "but not for ever");
}

#[test]
fn a_mapping_grows_too_old() {
    let a = line("10.0.0.1", "GET /a HTTP/1.1");
    let mut bench = Bench::new(settings());
    bench.send(BALANCER, "+ 203.0.113.7 127.0.0.2 GET /a HTTP/1.1\n");
    bench.wait(601_000);
    bench.send(WEB, &a);
    assert_eq!(bench.finish(), a);
    assert_eq!(bench.collector.report().join.expired, 1);
}

#[test]
fn what_is_not_understood_passes_through_and_is_counted() {
    for text in [
        "no quotes here\n",
        "one \"quote only\n",
        "\"GET /nospaces\"\n",
        "{\"message\": \"not an access line\"}\n",
        "a\tb\n",
        "+\n",
        "+1\n",
    ] {
        let mut bench = Bench::new(settings());
        bench.send(WEB, text);
        assert_eq!(bench.finish(), text, "{}", text.escape_debug());
        let received = bench.collector.report().received;
        assert_eq!((received.lines, received.not_understood), (1, 1), "{}", text.escape_debug());
    }
}

#[test]
fn each_line_ends_in_one_line_feed() {
    let a = line("10.0.0.1", "GET /a HTTP/1.1");
    let bare = a.trim_end();
    assert_eq!(through(&[bare]), a);
    assert_eq!(through(&[bare, bare]), a.repeat(2));
    assert_eq!(through(&[&format!("{bare}\n{bare}\n\n{bare}")]), a.repeat(3));
    assert_eq!(through(&[&format!("{bare}\r\n")]), format!("{bare}\r\n"));
}

#[test]
fn a_syslog_envelope_is_taken_off() {
    let a = line("10.0.0.1", "GET /a HTTP/1.1");
    let mapping = "+ 203.0.113.7 127.0.0.2 GET /a HTTP/1.1\n";
    let enveloped = format!("<190>Nov 22 20:23:20 web nginx: {}", a.trim_end());
    assert_eq!(through(&[mapping, &enveloped]), line("203.0.113.7", "GET /a HTTP/1.1"));
}

#[test]
fn odd_mappings_of_the_balancer_do_no_harm() {
    for mapping in [
        "+ 1.2.3.4 2001:db8::2 GET /a HTTP/1.1\n",
        "+ 1.2.3.4 /run/app.sock GET /a HTTP/1.1\n",
        "+  127.0.0.9 GET /a HTTP/1.1\n",
        "+ 1.2.3.4 127.0.0.2 \n",
        "+ 1.2.3.4 127.0.0.2",
        "+ 1.2.3.4 localhost GET /a HTTP/1.1\n",
        "+ \n",
        "+ a b c",
        "+ 1.2.3.4 127.0.0.2 pass\0word=\u{1b}[2J&x\n",
    ] {
        let a = line("10.0.0.1", "GET /a HTTP/1.1");
        assert_eq!(through(&[mapping, &a]), a, "{}", mapping.escape_debug());
    }
    let full = format!("+ 1.2.3.4 127.0.0.2 {}", "y".repeat(1024 - 20));
    assert_eq!(full.len(), 1024);
    assert_eq!(through(&[&full]), "");
}

#[test]
fn a_mapping_without_a_client_address_names_the_unix_socket() {
    let a = line("10.0.0.1", "GET /a HTTP/1.1");
    let out = through(&["+  127.0.0.2 GET /a HTTP/1.1\n", &a]);
    assert_eq!(out, line("unix:", "GET /a HTTP/1.1"));
}

#[test]
fn a_visitor_cannot_forge_a_mapping_through_a_long_line_of_the_c_shipper() {
    let head = format!("10.0.0.1 - - {TIME} \"GET /");
    let path = "x".repeat(1023 - head.len());
    let first = format!("{head}{path}");
    let rest = "+ 66.66.66.66 127.0.0.2 GET /bank HTTP/1.1\" 200 5\n";
    let mut bench = Bench::new(settings());
    bench.send(WEB, &first);
    bench.send("127.0.0.2:5001", line("10.0.0.1", "GET /other HTTP/1.1"));
    bench.send(WEB, rest);
    bench.send(WEB, line("10.0.0.1", "GET /bank HTTP/1.1"));
    let out = bench.finish();
    assert!(!out.contains("\n66.66.66.66"), "{out}");
    assert!(out.contains(&format!("{first}{rest}")), "the long line is whole");
    assert_eq!(bench.collector.report().received.mappings, 0);
}

#[test]
fn a_piece_whose_rest_is_lost_is_written_after_a_while() {
    let mut bench = Bench::new(settings());
    bench.send(WEB, "z".repeat(1023));
    bench.wait(900);
    assert_eq!(bench.out, b"");
    bench.wait(200);
    bench.wait(300);
    assert_eq!(bench.out, format!("{}\n", "z".repeat(1023)).as_bytes());
}

#[test]
fn only_who_may_is_heard() {
    let mut settings = settings();
    for from in ["mappings=127.0.0.1", "lines=127.0.0.2"] {
        settings.allow.add(from.parse().unwrap());
    }
    let mut bench = Bench::new(settings);
    bench.send("127.0.0.66:1", "+ 6.6.6.6 127.0.0.2 GET /a HTTP/1.1\n");
    bench.send("127.0.0.66:1", line("6.6.6.6", "GET /forged HTTP/1.1"));
    bench.send(WEB, "+ 6.6.6.6 127.0.0.2 GET /a HTTP/1.1\n");
    bench.send(WEB, line("10.0.0.1", "GET /a HTTP/1.1"));
    assert_eq!(bench.finish(), line("10.0.0.1", "GET /a HTTP/1.1"));
    assert_eq!(bench.collector.report().received.refused, 3);
}

/// Settings with these policies.
fn rewriting(unmatched: UnmatchedPolicy, likely: LikelyPolicy) -> CollectorSettings {
    CollectorSettings { rewrite: RewritePolicy { unmatched, likely }, ..settings() }
}

#[test]
fn the_user_decides_what_unexplained_and_likely_lines_say() {
    use {LikelyPolicy as L, UnmatchedPolicy as U};
    for (unmatched, expected) in [(U::Keep, "10.0.0.1"), (U::Dash, "-"), (U::Server, "127.0.0.2")] {
        let mut bench = Bench::new(rewriting(unmatched, L::Use));
        bench.send(WEB, line("10.0.0.1", "GET /a HTTP/1.1"));
        assert_eq!(bench.finish(), line(expected, "GET /a HTTP/1.1"));
    }
    for (likely, expected) in [(L::Use, "1.1.1.1"), (L::Keep, "10.0.0.1"), (L::Dash, "-")] {
        let mut bench = Bench::new(rewriting(U::Keep, likely));
        bench.send(BALANCER, "+ 1.1.1.1 127.0.0.2 GET /a HTTP/1.1\n");
        bench.send(BALANCER, "+ 2.2.2.2 127.0.0.2 GET /a HTTP/1.1\n");
        bench.send(WEB, line("10.0.0.1", "GET /a HTTP/1.1"));
        assert_eq!(bench.finish(), line(expected, "GET /a HTTP/1.1"), "{likely:?}");
        let explain = String::from_utf8_lossy(&bench.explain);
        assert!(explain.starts_with("likely\t"), "{explain}");
        assert!(explain.ends_with(&format!("\t10.0.0.1\t{expected}\t127.0.0.2\n")), "{explain}");
    }
}

#[test]
fn a_line_that_came_past_the_balancer_keeps_its_client_under_every_option() {
    for (_, _, unmatched) in UnmatchedPolicy::WORDS {
        for (_, _, likely) in LikelyPolicy::WORDS {
            let mut bench = Bench::new(rewriting(unmatched, likely));
            for i in 0..200 {
                bench.send(WEB, line("198.51.100.7", "GET /health HTTP/1.1"));
                bench.send(BALANCER, format!("+ 1.1.1.1 127.0.0.2 GET /{i} HTTP/1.1\n"));
                bench.send(WEB, line("10.0.0.1", &format!("GET /{i} HTTP/1.1")));
                bench.wait(1_000);
            }
            let out = bench.finish();
            let explain = String::from_utf8_lossy(&bench.explain).into_owned();
            let mut direct = 0;
            for (line, columns) in out.lines().zip(explain.lines()) {
                if columns.split('\t').nth(1) == Some("direct") {
                    assert!(line.starts_with("198.51.100.7 "), "{unmatched:?} {likely:?}: {line}");
                    assert!(
                        columns.ends_with("\t198.51.100.7\t198.51.100.7\t127.0.0.2"),
                        "{columns}"
                    );
                    direct += 1;
                }
            }
            assert!(direct > 100, "{direct} lines");
        }
    }
}

#[test]
fn a_sender_may_speak_for_another_server_and_have_its_own_format() {
    let mut settings = settings();
    let key = ServerKey::parse("10.0.0.9").unwrap();
    settings.known.servers =
        ServerAliases::new(vec!["127.0.0.2=10.0.0.9".parse().unwrap()]).unwrap();
    settings.known.formats.push((key, Spec::parse("vhost_combined").unwrap()));
    let mut bench = Bench::new(settings);
    bench.send(BALANCER, "+ 203.0.113.7 10.0.0.9 GET /a HTTP/1.1\n");
    let tail = " 200 5 \"-\" \"curl\"\n";
    let middle = format!("- - {TIME} \"GET /a HTTP/1.1\"");
    bench.send(WEB, format!("www.example.com:80 10.0.0.1 {middle}{tail}"));
    assert_eq!(bench.finish(), format!("www.example.com:80 203.0.113.7 {middle}{tail}"));
}

fn ship(lines: &[&[u8]], server: ShipmentServer<'_>) -> Vec<Vec<u8>> {
    let origin = SenderOrigin { id: 7, start: Timestamp::from_seconds(1) };
    let mut writer = ShipmentWriter::new(origin, server, 1400);
    let mut sent = Vec::new();
    for line in lines {
        assert_eq!(writer.push(line, None), Push::Taken);
        sent.extend(writer.finish(SendStamp::default(), <[u8]>::to_vec));
    }
    sent
}

#[test]
fn shipments_name_their_server_and_hold_lines_only() {
    let server = ShipmentServer::parse("10.0.0.9:80").unwrap();
    let a = line("10.0.0.1", "GET /a HTTP/1.1");
    let forged = b"+ 6.6.6.6 10.0.0.9 GET /a HTTP/1.1";
    let mut bench = Bench::new(settings());
    bench.send(BALANCER, "+ 203.0.113.7 10.0.0.9 GET /a HTTP/1.1\n");
    for datagram in ship(&[forged, a.trim_end().as_bytes(), b"", b"two\nlines"], server) {
        bench.send(WEB, datagram);
    }
    let expected = format!(
        "+ 6.6.6.6 10.0.0.9 GET /a HTTP/1.1\n{}\ntwo\\x0Alines\n",
        line("203.0.113.7", "GET /a HTTP/1.1")
    );
    assert_eq!(bench.finish(), expected);
    assert_eq!(bench.collector.report().received.mappings, 1);
}

#[test]
fn a_shipped_line_is_as_old_as_its_shipper_says() {
    let origin = SenderOrigin { id: 7, start: Timestamp::from_seconds(1) };
    let mut writer = ShipmentWriter::new(origin, ShipmentServer::default(), 1400);
    let mut bench = Bench::new(settings());
    for (page, age, delay) in [("a", 9, "0.006000"), ("b", 7, "0.008000"), ("c", 2, "0.010000")] {
        bench.send(BALANCER, format!("+ 203.0.113.7 127.0.0.2 GET /{page} HTTP/1.1\n"));
        let line = line("10.0.0.1", &format!("GET /{page} HTTP/1.1"));
        let _ = writer.push(line.trim_end().as_bytes(), Some(Duration::ZERO));
        // Its clock is wrong by years, and what it does is seen ten milliseconds after the mapping.
        let stamp = SendStamp {
            sent: bench.now.offset_by(9_000 - 300_000_000_000_000),
            now: Duration::from_millis(age),
            ..SendStamp::default()
        };
        let shipment = writer.finish(stamp, <[u8]>::to_vec).unwrap();
        bench.wait(9);
        bench.send(WEB, shipment);
        bench.wait(1_000);
        let explain = String::from_utf8(std::mem::take(&mut bench.explain)).unwrap();
        let said = explain.split('\t').nth(4);
        assert_eq!(said, Some(delay), "read {age} ms before it was sent: {explain}");
    }
    bench.finish();
}

#[test]
fn where_nobody_looked_for_a_while_a_mapping_is_as_old_as_can_be() {
    let mut bench = Bench::new(settings());
    let arrived = ArrivalTime { after: bench.now.offset_by(-5_000), by: bench.now };
    let from = BALANCER.parse().unwrap();
    bench.collector.receive(from, b"+ 203.0.113.7 127.0.0.2 GET /a HTTP/1.1\n", arrived);
    let line = line("10.0.0.1", "GET /a HTTP/1.1");
    bench.collector.receive(WEB.parse().unwrap(), line.as_bytes(), arrived);
    bench.wait(1_000);
    let explain = String::from_utf8_lossy(&bench.explain);
    assert_eq!(explain.split('\t').nth(4), Some("0.005000"), "{explain}");
    bench.finish();
}

#[test]
fn lost_and_doubled_shipments_are_known_by_their_numbers() {
    let sent = ship(&[b"one", b"two", b"three", b"four"], ShipmentServer::default());
    let mut bench = Bench::new(settings());
    for index in [0, 0, 3, 1] {
        bench.send(WEB, &sent[index]);
    }
    assert_eq!(bench.finish(), "one\nfour\ntwo\n");
    let counts = bench.collector.report().shipments;
    assert_eq!((counts.duplicates, counts.lost_shipments, counts.lost_lines), (1, 1, 1));
}

#[test]
fn questions_are_answered_with_a_share_of_the_buffer() {
    let mut bench = Bench::new(CollectorSettings { window: 8 << 20, ..settings() });
    let origin = SenderOrigin { id: 7, start: Timestamp::from_seconds(1) };
    let mut question = Vec::new();
    let streams = StreamList::default();
    DiscoveryQuestion { nonce: 99, origin, shipments: 0, lines: 0, streams }.write(&mut question);
    let answer = bench.send(WEB, &question);
    let received = Some(pen_records::shipment::ReceivedShipments { from: 0, upto: 0 });
    let positions = StreamList::default();
    let expected =
        DiscoveryAnswer { nonce: 99, window: 4 << 20, datagram: 65_507, received, positions };
    assert_eq!(answer, Some(expected));
    let mut echoed = Vec::new();
    answer.unwrap().write(&mut echoed);
    assert_eq!(bench.send(WEB, &echoed), None, "no answer to an answer");
    assert_eq!(bench.finish(), "");
}

#[test]
fn memory_is_bounded_whatever_comes() {
    let engine = JoinSettings { max_mappings: 100, max_lines: 1_000, ..JoinSettings::default() };
    let mut bench = Bench::new(CollectorSettings {
        engine,
        held_bytes: 100_000,
        servers: 10_000,
        senders: 100,
        balancers: 16,
        ..settings()
    });
    for number in 0..5_000 {
        let from = BALANCER.parse().unwrap();
        let mapping = format!("+ 1.1.1.1 10.0.{}.{} GET /{number}\n", number / 256, number % 256);
        bench.collector.receive(from, mapping.as_bytes(), bench.now.into());
        let line = line("10.0.0.1", &format!("GET /{number}{}", "x".repeat(number)));
        bench.collector.receive(WEB.parse().unwrap(), line.as_bytes(), bench.now.into());
        bench.collector.decide(bench.now, &mut bench.out, None);
        assert!(bench.collector.report().held_bytes <= 100_000);
    }
    assert_eq!(bench.finish().lines().count(), 5_000);
    let balance = bench.collector.report();
    assert_eq!((balance.join.outstanding, balance.join.evicted), (100, 4_900));
    assert!(balance.queue.decided_early > 0);
}

#[test]
fn servers_that_only_mappings_name_do_not_take_the_place_of_those_that_have_lines() {
    let mut bench = Bench::new(CollectorSettings { servers: 10, ..settings() });
    for number in 0..200 {
        bench.send(BALANCER, format!("+ 1.1.1.1 10.0.1.{number} GET /a HTTP/1.1\n"));
        let path = "x".repeat(number);
        bench.send(BALANCER, format!("+ 1.1.1.1 /{path} GET /a HTTP/1.1\n"));
    }
    bench.send(WEB, line("10.0.0.1", "GET /first HTTP/1.1"));
    bench.send(BALANCER, "+ 203.0.113.7 127.0.0.2 GET /a HTTP/1.1\n");
    bench.send(WEB, line("10.0.0.1", "GET /a HTTP/1.1"));
    let out = bench.finish();
    assert!(out.contains(&line("203.0.113.7", "GET /a HTTP/1.1")), "{out}");
    assert_eq!(bench.collector.report().received.mappings_unused, 390);
}

#[test]
fn made_up_servers_do_not_take_the_place_of_a_server_that_a_balancer_names() {
    let mut bench = Bench::new(CollectorSettings { servers: 10, ..settings() });
    for number in 0..50 {
        bench.send(&format!("10.9.9.{number}:1"), line("10.0.0.1", "GET /made-up HTTP/1.1"));
    }
    bench.send(BALANCER, "+ 203.0.113.7 127.0.0.2 GET /a HTTP/1.1\n");
    bench.send(WEB, line("10.0.0.1", "GET /a HTTP/1.1"));
    let out = bench.finish();
    assert!(out.contains(&line("203.0.113.7", "GET /a HTTP/1.1")), "{out}");
}

#[test]
fn control_characters_in_shipped_lines_forge_no_line_and_reach_no_terminal() {
    let forged: &[u8] = b"one\n203.0.113.9 - forged\r\x1B[2J\x9B";
    let sent = ship(&[forged], ShipmentServer::default());
    let mut bench = Bench::new(settings());
    bench.send(WEB, &sent[0]);
    assert_eq!(bench.finish(), "one\\x0A203.0.113.9 - forged\\x0D\\x1B[2J\\x9B\n");
}

#[test]
fn pieces_of_lines_are_bounded_in_bytes() {
    let mut bench = Bench::new(CollectorSettings { unfinished_bytes: 100_000, ..settings() });
    for sender in 0..200_u16 {
        for _ in 0..20 {
            bench.send(&format!("127.0.0.2:{}", 1_000 + sender), "x".repeat(1_023));
            assert!(bench.collector.pieces.bytes() <= 101_023);
        }
    }
    bench.wait(2_000);
    assert_eq!(bench.collector.pieces.bytes(), 0);
    let out = bench.finish();
    assert_eq!(out.bytes().filter(|&byte| byte == b'x').count(), 200 * 20 * 1_023);
}

proptest::proptest! {
    #[test]
    fn any_datagrams_leave_the_balance_even(
        datagrams in proptest::collection::vec(
            (0_u8..4, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)), 0..40),
    ) {
        let mut bench = Bench::new(settings());
        for (kind, bytes) in datagrams {
            let prefix: &[u8] = match kind {
                0 => b"+ 1.1.1.1 127.0.0.2 ",
                1 => b"\xFEpn\x01\x03",
                2 => b"10.0.0.1 - - ",
                _ => b"",
            };
            bench.send(WEB, [prefix, &bytes].concat());
        }
        bench.finish();
    }
}
