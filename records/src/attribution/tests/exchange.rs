//! The engine with our own balancer's records, whose ports, ends and sizes are evidence.

use super::*;
use crate::addr::ServerAddr;
use crate::mapping::{BodyEnd, OpaqueTls, RequestText};

pub(super) const SECOND: i64 = 1_000_000;
const BALANCER: &str = "10.0.0.9:0";

/// A line as a log with stamps of whole seconds has it.
pub(super) fn in_whole_seconds(line: LoggedLine) -> LoggedLine {
    let resolution = Resolution::Second;
    LoggedLine { time: line.time.cut_to(resolution), resolution, ..line }
}

pub(super) struct Site {
    pub(super) engine: Attributor<u32>,
    server: ServerIndex,
    balancers: BalancerHashes,
    lines: u32,
    out: Vec<Out>,
    /// Whether records come without a key.
    pub(super) is_unauthenticated: bool,
}

/// A connection of a client by a port of the balancer's.
#[derive(Clone, Copy)]
pub(super) struct Connection {
    number: u64,
    client: u8,
    port: u16,
}

pub(super) const fn connection(number: u64, client: u8, port: u16) -> Connection {
    Connection { number, client, port }
}

impl Site {
    pub(super) fn new(settings: JoinSettings) -> Self {
        let mut engine = Attributor::new(settings);
        let server = engine.server(ServerAddr::Ip([127, 0, 1, 1].into()));
        let (balancers, lines, out) = (BalancerHashes::default(), 0, Vec::new());
        Self { engine, server, balancers, lines, out, is_unauthenticated: false }
    }

    fn record(&mut self, at: i64, of: Connection, kind: MappingKind, more: Mapping<'_>) {
        let mut balancer: std::net::SocketAddr = BALANCER.parse().unwrap();
        balancer.set_port(of.port);
        let client = ClientAddr::Ip([192, 0, 2, of.client].into());
        let mapping =
            Mapping { kind, client, connection: Some(of.number), balancer: Some(balancer), ..more };
        self.advance(at);
        let time = (Timestamp::from_micros(at), Resolution::Microsecond);
        let record = MappingEvent::with_exchange(&mapping, self.server, time, &mut self.balancers);
        let is_unauthenticated = self.is_unauthenticated;
        self.engine.mapping(&MappingEvent { is_unauthenticated, ..record.unwrap() });
    }

    pub(super) fn opened(&mut self, at: i64, of: Connection) {
        self.record(at, of, MappingKind::Opened, NOTHING);
    }

    pub(super) fn closed(&mut self, at: i64, of: Connection) {
        self.record(at, of, MappingKind::Closed, NOTHING);
    }

    pub(super) fn request(&mut self, at: i64, of: Connection, nth: u32, url: &str) {
        self.request_by(at, of, nth, url, "agent");
    }

    /// A request for a virtual host.
    pub(super) fn request_of(
        &mut self,
        at: i64,
        of: Connection,
        url: &str,
        agent: &str,
        host: &str,
    ) {
        let host = Some(text_hash(host.as_bytes()));
        let asked = Mapping { host, ..asking(1, url, agent) };
        self.record(at, of, MappingKind::Request, asked);
    }

    pub(super) fn request_by(&mut self, at: i64, of: Connection, nth: u32, url: &str, agent: &str) {
        self.record(at, of, MappingKind::Request, asking(nth, url, agent));
    }

    pub(super) fn ended(&mut self, at: i64, of: Connection, nth: u32, answer: (u16, u64)) {
        self.ended_with(at, of, nth, answer, None);
    }

    fn ended_with(
        &mut self,
        at: i64,
        of: Connection,
        nth: u32,
        (status, bytes): (u16, u64),
        body_end: Option<BodyEnd>,
    ) {
        let (nth, status) = (Some(nth), Some(status));
        let (body_bytes, head_bytes) = (Some(bytes), Some(100));
        let mapping =
            Mapping { nth, status, body_bytes, framed_bytes: body_bytes, head_bytes, ..NOTHING };
        self.record(at, of, MappingKind::Ended, Mapping { body_end, ..mapping });
    }

    /// A whole connection of one request.
    pub(super) fn visit(&mut self, at: i64, of: Connection, url: &str, answer: (u16, u64)) {
        self.opened(at, of);
        self.request(at + 1, of, 1, url);
        self.ended(at + 1_000, of, 1, answer);
        self.closed(at + 1_001, of);
    }

    pub(super) fn line(&mut self, at: i64, url: &str, answer: (u16, u64), port: Option<u16>) {
        let asked = self.asked(at, url, answer, port);
        self.put(at, asked);
    }

    pub(super) fn asked(
        &self,
        at: i64,
        url: &str,
        answer: (u16, u64),
        port: Option<u16>,
    ) -> LoggedLine {
        let url = url.as_bytes();
        LoggedLine {
            long: Fingerprint::of_logged(&[url], Cut::Long),
            whole: Fingerprint::of_whole_logged(&[url]),
            sender: Some(text_hash(b"10.0.0.9")),
            user_agent: Some(text_hash(b"agent")),
            referer: Some(text_hash(b"-")),
            status: Some(answer.0),
            bytes: Some(answer.1),
            peer_port: port,
            ..LoggedLine::unread(self.server, (Timestamp::from_micros(at), Resolution::Microsecond))
        }
    }

    pub(super) fn put(&mut self, at: i64, line: LoggedLine) {
        self.advance(at);
        self.engine.line(&line, self.lines);
        self.lines += 1;
    }

    pub(super) fn advance(&mut self, at: i64) {
        advance(&mut self.engine, at, &mut self.out);
    }

    pub(super) fn out(&mut self, at: i64) -> Vec<Out> {
        self.advance(at);
        let counts = self.engine.counts();
        let kept = counts.used + counts.expired + counts.evicted + counts.outstanding;
        assert_eq!(counts.mappings, kept, "{counts:?}");
        std::mem::take(&mut self.out)
    }

    pub(super) fn clients(&mut self, at: i64) -> Vec<u8> {
        self.out(at).iter().map(|&(client, ..)| client).collect()
    }
}

fn asking<'a>(nth: u32, url: &'a str, agent: &str) -> Mapping<'a> {
    Mapping {
        nth: Some(nth),
        request: Some(RequestText::raw(url.as_bytes(), Cut::Long)),
        whole: Fingerprint::of_whole(url.as_bytes()).map(Fingerprint::get),
        user_agent: Some(text_hash(agent.as_bytes())),
        ..NOTHING
    }
}

impl Connection {
    pub(super) const fn client(self) -> u8 {
        self.client
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new(JoinSettings::default())
    }
}

const NOTHING: Mapping<'static> = Mapping::new(
    ClientAddr::Unix,
    ServerAddr::Ip(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
);

pub(super) const OK: (u16, u64) = (200, 300);
pub(super) const EXACT: (Certainty, Reason) = (Certainty::Exact, Reason::Port);

#[test]
fn a_port_is_a_key_whoever_else_asks_for_the_same() {
    let mut site = Site::default();
    for number in 0..40 {
        let client = u8::try_from(number % 7 + 1).unwrap();
        let port = u16::try_from(2_000 + number).unwrap();
        site.visit(i64::try_from(number).unwrap(), connection(number, client, port), "/a", OK);
    }
    // In another order than they were asked.
    for number in (0..40).rev() {
        site.line(5_000, "/a", OK, Some(2_000 + number));
    }
    let out = site.out(SECOND);
    for (&(client, certainty, reason), number) in out.iter().zip((0..40).rev()) {
        assert_eq!((client, certainty, reason), (number % 7 + 1, EXACT.0, EXACT.1));
    }
    assert_eq!(site.engine.counts().used, 40, "each took its own mapping");
}

#[test]
fn a_port_that_is_used_again_is_told_by_the_time() {
    let mut site = Site::default();
    for round in 0..8 {
        let at = i64::from(round) * 60 * SECOND;
        let of = connection(u64::from(round), round + 1, 2_000);
        site.visit(at, of, "/a", OK);
        site.line(at + 2_000, "/a", OK, Some(2_000));
    }
    let out = site.out(900 * SECOND);
    let expected: Vec<_> = (1..9).map(|client| (client, EXACT.0, EXACT.1)).collect();
    assert_eq!(out, expected);
}

#[test]
fn after_a_restart_of_the_balancer_numbers_and_ports_come_again() {
    for has_closes in [true, false] {
        let mut site = Site::default();
        for round in 0..2 {
            for number in 0..12 {
                let at = i64::from(round * 30 + number) * 3 * SECOND;
                let client = u8::try_from(round * 12 + number + 1).unwrap();
                let port = u16::try_from(2_000 + number).unwrap();
                let of = connection(u64::try_from(number).unwrap() + 1, client, port);
                site.opened(at, of);
                site.request(at + 1, of, 1, "/a");
                site.ended(at + 1_000, of, 1, OK);
                if has_closes {
                    site.closed(at + 1_001, of);
                }
                site.line(at + 2_000, "/a", OK, Some(port));
            }
        }
        let expected: Vec<_> = (1..25).map(|client| (client, EXACT.0, EXACT.1)).collect();
        assert_eq!(site.out(900 * SECOND), expected, "{has_closes}");
    }
}

#[test]
fn a_port_that_is_used_again_at_once_is_told_by_the_request_or_said_to_be_likely() {
    let mut site = Site::default();
    site.visit(0, connection(1, 7, 2_000), "/a", OK);
    site.visit(2_000, connection(2, 8, 2_000), "/b", OK);
    site.line(4_000, "/b", OK, Some(2_000));
    site.line(4_001, "/a", OK, Some(2_000));
    assert_eq!(site.out(SECOND), [(8, EXACT.0, EXACT.1), (7, EXACT.0, EXACT.1)]);
    // TLS, say: no request is known.
    for (number, client) in [(3, 7), (4, 8)] {
        let (of, at) = (connection(number, client, 2_001), i64::try_from(number).unwrap());
        site.opened(SECOND + at, of);
        site.closed(SECOND + at, of);
    }
    site.line(SECOND + 10, "/a", OK, Some(2_001));
    assert_eq!(site.out(2 * SECOND)[0].1, Certainty::Likely);
}

#[test]
fn what_follows_a_guess_by_port_is_a_guess() {
    let mut site = Site::default();
    let (first, second) = (connection(1, 7, 2_000), connection(2, 8, 2_000));
    site.visit(0, first, "/a", OK);
    site.opened(2_000, second);
    for (nth, url) in [(1, "/a"), (2, "/b")] {
        site.request(2_001, second, nth, url);
        site.ended(2_002, second, nth, OK);
    }
    site.line(2_100, "/a", OK, Some(2_000));
    site.line(2_101, "/a", OK, Some(2_000));
    site.line(2_102, "/b", OK, Some(2_000));
    let out = site.out(SECOND);
    let clients: Vec<u8> = out.iter().map(|&(client, ..)| client).collect();
    assert_eq!(clients, [7, 8, 8], "in order");
    assert!(out[..2].iter().all(|&(_, certainty, _)| certainty == Certainty::Likely), "{out:?}");
}

#[test]
fn a_connection_without_requests_names_its_client_too() {
    let mut site = Site::default();
    let of = connection(1, 7, 2_000);
    site.opened(0, of);
    site.line(3 * SECOND, "/encrypted", OK, Some(2_000));
    // A line that was not understood but for its port.
    let line = LoggedLine { long: None, ..site.asked(4 * SECOND, "", OK, Some(2_000)) };
    site.put(4 * SECOND, line);
    site.closed(5 * SECOND, of);
    site.line(5 * SECOND + 100_000, "/last", OK, Some(2_000));
    assert_eq!(site.out(9 * SECOND), [(7, EXACT.0, EXACT.1); 3]);
}

#[test]
fn any_record_of_a_connection_makes_it_known() {
    for which in 0..4 {
        let mut site = Site::default();
        let of = connection(1, 7, 2_000);
        match which {
            0 => site.opened(0, of),
            1 => site.request(0, of, 1, "/a"),
            2 => site.ended(0, of, 1, OK),
            _ => site.closed(0, of),
        }
        site.line(1_000, "/a", OK, Some(2_000));
        assert_eq!(site.out(SECOND), [(7, EXACT.0, EXACT.1)], "{which}");
    }
}

#[test]
fn a_line_whose_port_is_of_no_connection_is_decided_by_its_request() {
    let mut site = Site::default();
    site.visit(0, connection(1, 7, 2_000), "/a", OK);
    site.line(2_000, "/a", OK, Some(2_001));
    site.line(2_001, "/b", OK, Some(2_001));
    let expected =
        [(7, Certainty::Certain, Reason::Only), (0, Certainty::Unmatched, Reason::NoMapping)];
    assert_eq!(site.out(SECOND), expected);
}

#[test]
fn two_balancers_may_use_the_same_port_at_the_same_time() {
    let mut site = Site::default();
    site.opened(0, connection(1, 7, 2_000));
    let mut other = Mapping { connection: Some(1), kind: MappingKind::Opened, ..NOTHING };
    other.balancer = Some("10.0.0.8:2000".parse().unwrap());
    other.client = ClientAddr::Ip([192, 0, 2, 8].into());
    let time = (Timestamp::from_micros(5), Resolution::Microsecond);
    let record = MappingEvent::with_exchange(&other, site.server, time, &mut site.balancers);
    site.engine.mapping(&record.unwrap());
    for name in ["10.0.0.9", "10.0.0.8"] {
        let sender = Some(text_hash(name.as_bytes()));
        let line = LoggedLine { sender, ..site.asked(SECOND, "/a", OK, Some(2_000)) };
        site.put(SECOND, line);
    }
    assert_eq!(site.out(2 * SECOND), [(7, EXACT.0, EXACT.1), (8, EXACT.0, EXACT.1)]);
}

#[test]
fn without_ports_lines_take_exchanges_in_the_order_of_their_ends() {
    let mut site = Site::default();
    let (slow, quick) = (connection(1, 7, 2_000), connection(2, 8, 2_001));
    for round in 0..30 {
        let at = round * SECOND;
        let nth = u32::try_from(round + 1).unwrap();
        site.request(at, slow, nth, "/a");
        site.request(at + 10, quick, nth, "/a");
        site.ended(at + 1_000, quick, nth, OK);
        site.line(at + 1_100, "/a", OK, None);
        site.ended(at + 50_000, slow, nth, OK);
        site.line(at + 50_100, "/a", OK, None);
    }
    let clients = site.clients(60 * SECOND);
    assert_eq!(clients, [8, 7].repeat(30));
}

/// Two clients ask the same in turn. The first is answered at once, and its body ends last: the server logs
/// each request at the later end or, `early`, when it has been answered.
fn early_answers(rounds: i64, early: bool, loses: impl Fn(i64) -> bool) -> Vec<u8> {
    let mut site = Site::default();
    let (slow, quick) = (connection(1, 7, 2_000), connection(2, 8, 2_001));
    let whole = Some(BodyEnd::Ago(0));
    for round in 0..rounds {
        let at = round * SECOND;
        let nth = u32::try_from(round + 1).unwrap();
        site.request(at, slow, nth, "/a");
        site.request(at + 10, quick, nth, "/a");
        site.ended_with(at + 500, slow, nth, OK, Some(BodyEnd::Pending));
        if early {
            site.line(at + 600, "/a", OK, Some(2_000).filter(|_| round < 4));
        }
        site.ended_with(at + 1_000, quick, nth, OK, Some(BodyEnd::Pending));
        site.ended_with(at + 2_000, quick, nth, OK, whole);
        site.line(at + 2_100, "/a", OK, Some(2_001).filter(|_| round < 4));
        if !loses(round) {
            site.ended_with(at + 300_000, slow, nth, OK, whole);
        }
        if !early {
            site.line(at + 300_100, "/a", OK, None);
        }
    }
    site.closed(rounds * SECOND, slow);
    site.clients(60 * SECOND)
}

#[test]
fn where_the_body_of_a_request_ends_last_lines_come_in_the_order_of_these_ends() {
    assert_eq!(early_answers(30, false, |_| false), [8, 7].repeat(30));
    let lost = early_answers(30, false, |round| round % 3 == 1);
    assert_eq!(lost, [8, 7].repeat(30), "the next request ends a body");
}

#[test]
fn a_server_that_logs_a_request_before_its_body_has_ended_is_known_by_its_ports() {
    assert_eq!(early_answers(30, true, |_| false), [7, 8].repeat(30));
}

#[test]
fn whole_seconds_tell_that_requests_are_logged_before_their_bodies_end() {
    let mut site = Site::default();
    let whole = Some(BodyEnd::Ago(0));
    let (slow, quick) = (connection(1, 7, 2_000), connection(2, 8, 2_001));
    let stamped = |site: &mut Site, at: i64, url: &str| {
        let time = Timestamp::from_seconds(at / SECOND);
        let line =
            LoggedLine { time, resolution: Resolution::Second, ..site.asked(at, url, OK, None) };
        site.put(at, line);
    };
    for nth in 1..=10 {
        let (at, url) = (i64::from(nth) * 10 * SECOND, format!("/{nth}"));
        site.request(at + 900_000, slow, nth, &url);
        site.ended_with(at + 905_000, slow, nth, OK, Some(BodyEnd::Pending));
        stamped(&mut site, at + 906_000, &url);
        site.ended_with(at + 1_200_000, slow, nth, OK, whole);
    }
    let at = 200 * SECOND;
    site.request(at + 100_000, slow, 11, "/a");
    site.ended_with(at + 101_000, slow, 11, OK, Some(BodyEnd::Pending));
    site.request(at + 200_000, quick, 1, "/a");
    site.ended_with(at + 201_000, quick, 1, OK, whole);
    stamped(&mut site, at + 102_000, "/a");
    stamped(&mut site, at + 202_000, "/a");
    site.ended_with(at + 500_000, slow, 11, OK, whole);
    let clients = site.clients(300 * SECOND);
    assert_eq!(clients[clients.len() - 2..], [7, 8]);
}

#[test]
fn of_two_clients_whose_exchanges_end_close_to_each_other_neither_is_certain() {
    let mut site = Site::default();
    let (one, other) = (connection(1, 7, 2_000), connection(2, 8, 2_001));
    for (round, apart) in
        (0..300).map(|round| (round, 100_000)).chain([(300, 3_000), (301, 100_000)])
    {
        let at = round * SECOND;
        let nth = u32::try_from(round + 1).unwrap();
        site.request(at, one, nth, "/a");
        site.request(at + 10, other, nth, "/a");
        let (first, second) = (at + 1_000, at + 1_000 + apart);
        let ends = [(first, true), (first + 500, false), (second, true), (second + 500, false)];
        for (time, is_end) in ends {
            match is_end {
                true => site.ended(time, if time == first { one } else { other }, nth, OK),
                false => site.line(time, "/a", OK, None),
            }
        }
    }
    let out = site.out(400 * SECOND);
    let sure = |round: usize| [out[2 * round].1, out[2 * round + 1].1];
    assert_eq!(sure(299), [Certainty::Certain; 2], "far from each other");
    assert_eq!(
        sure(300),
        [Certainty::Likely; 2],
        "the balancer may have seen them in another order"
    );
    assert_eq!(sure(301), [Certainty::Certain; 2]);
}

#[test]
fn status_and_size_tell_equal_requests_apart() {
    let mut site = Site::default();
    for (number, client, answer) in [(1, 7, OK), (2, 8, (200, 900)), (3, 9, (404, 0))] {
        site.visit(number, connection(u64::try_from(number).unwrap(), client, 0), "/a", answer);
    }
    // With its head, as Apache counts.
    for answer in [(404, 0), (200, 1_000), OK] {
        site.line(2_000, "/a", answer, None);
    }
    let out = site.out(SECOND);
    let clients: Vec<u8> = out.iter().map(|&(client, ..)| client).collect();
    assert_eq!(clients, [9, 8, 7]);
    assert!(out.iter().all(|&(_, certainty, _)| certainty == Certainty::Certain), "{out:?}");
}

#[test]
fn what_was_sent_with_another_user_agent_is_another_request() {
    let mut site = Site::default();
    site.request_by(0, connection(1, 7, 0), 1, "/a", "agent");
    site.request_by(1, connection(2, 8, 0), 1, "/a", "other");
    let agent = Some(text_hash(b"other"));
    let line = LoggedLine { user_agent: agent, ..site.asked(100, "/a", OK, None) };
    site.put(100, line);
    site.line(101, "/a", OK, None);
    let certain = |client| (client, Certainty::Certain, Reason::Only);
    assert_eq!(site.out(SECOND), [certain(8), certain(7)]);
}

#[test]
fn a_server_that_logs_no_user_agent_is_joined_without() {
    let mut site = Site::default();
    let common = |site: &Site, at| LoggedLine {
        user_agent: None,
        referer: None,
        ..site.asked(at, "/a", OK, None)
    };
    for round in 0..20 {
        let at = round * SECOND;
        let of = connection(u64::try_from(round).unwrap(), 7, 0);
        site.visit(at, of, "/a", OK);
        let line = common(&site, at + 2_000);
        site.put(at + 2_000, line);
    }
    assert_eq!(site.clients(60 * SECOND), [7; 20]);
}

#[test]
fn a_line_may_come_before_anything_is_known_of_its_server() {
    let mut site = Site::default();
    let line = LoggedLine { user_agent: None, referer: None, ..site.asked(0, "/a", OK, None) };
    site.put(0, line);
    let of = connection(1, 7, 2_000);
    let request = Mapping {
        nth: Some(1),
        server_port: Some(80),
        request: Some(RequestText::raw(b"/a", Cut::Long)),
        ..NOTHING
    };
    site.record(5_000, of, MappingKind::Request, request);
    assert_eq!(site.clients(SECOND), [7]);
}

#[test]
fn headers_that_a_server_logs_otherwise_are_given_up_in_the_end() {
    let mut site = Site::default();
    for round in 0..600_i64 {
        let at = round * 10_000;
        site.visit(at, connection(u64::try_from(round).unwrap(), 7, 0), "/a", OK);
        let user_agent = Some(text_hash(b"agen"));
        let line = LoggedLine { user_agent, ..site.asked(at + 2_000, "/a", OK, None) };
        site.put(at + 2_000, line);
    }
    let out = site.out(60 * SECOND);
    assert!(out[400..].iter().all(|&(client, ..)| client == 7));
}

#[test]
fn long_requests_that_differ_at_their_end_are_told_apart() {
    let mut site = Site::default();
    let long = |end: &str| format!("GET /{}{end} HTTP/1.1", "a".repeat(2_000));
    site.request(0, connection(1, 7, 0), 1, &long("x"));
    site.request(1, connection(2, 8, 0), 1, &long("y"));
    site.line(100, &long("y"), OK, None);
    site.line(101, &long("x"), OK, None);
    let certain = |client| (client, Certainty::Certain, Reason::Only);
    assert_eq!(site.out(SECOND), [certain(8), certain(7)]);
}

#[test]
fn a_request_without_an_answer_ends_with_its_connection() {
    let mut site = Site::default();
    let of = connection(1, 7, 0);
    site.request(0, of, 1, "/big");
    site.line(SECOND, "/big", (200, 123_456), None);
    site.closed(SECOND + 10_000, of);
    assert_eq!(site.clients(2 * SECOND), [7]);
    // A socket that was switched to is logged when it is closed, long after the answer.
    let of = connection(2, 8, 0);
    site.request(3 * SECOND, of, 1, "/socket");
    site.ended(3 * SECOND, of, 1, (101, 0));
    site.closed(100 * SECOND, of);
    site.line(100 * SECOND, "/socket", (101, 77), None);
    assert_eq!(site.clients(200 * SECOND), [8]);
}

#[test]
fn who_left_in_the_midst_of_an_answer_may_be_logged_long_after() {
    let mut site = Site::default();
    for nth in 0..600_u16 {
        let (at, client) = (i64::from(nth) * 1_600, u8::try_from(nth % 100).unwrap());
        site.visit(at, connection(nth.into(), client, 4000), "GET /a HTTP/1.1", (200, 9));
        site.line(at + 1_200, "GET /a HTTP/1.1", (200, 9), None);
    }
    // Two leave, one after the other; the server notices when it writes for the next time.
    for (client, left) in [(101, SECOND), (102, SECOND + 150_000)] {
        let of = connection(1_000 + u64::from(client), client, 5000);
        site.opened(left - 2_000, of);
        site.request(left - 1_000, of, 1, "GET /big HTTP/1.1");
        site.closed(left, of);
    }
    site.line(SECOND + 150_500, "GET /big HTTP/1.1", (200, 81_920), None);
    site.line(SECOND + 240_000, "GET /big HTTP/1.1", (200, 40_960), None);
    let out = site.out(10 * SECOND);
    let last: Vec<_> =
        out[600..].iter().map(|(client, certainty, _)| (*client, *certainty)).collect();
    assert_eq!(last, [(101, Certainty::Likely), (102, Certainty::Likely)]);
}

#[test]
fn where_no_ends_arrive_equal_requests_are_taken_in_the_order_in_which_they_came() {
    let mut site = Site::default();
    for number in 1..=200 {
        let at = i64::from(number) * 1_000;
        site.request(at, connection(number.into(), number, 2_000 + u16::from(number)), 1, "/a");
        // Each is answered 40 ms later: so 40 are always on their way.
        if number > 40 {
            site.line(at, "/a", OK, None);
        }
    }
    assert_eq!(site.clients(60 * SECOND), (1..=160).collect::<Vec<u8>>());
}

#[test]
fn beside_traffic_under_seal_at_one_address_a_plain_mapping_is_not_certain_to_be_the_lines_own() {
    let tls = |site: &mut Site, at| {
        let opaque_tls = Some(OpaqueTls { took: 500, asked: 200, answered: 900, requests: 1 });
        let ended = Mapping { nth: Some(1), server_port: Some(443), opaque_tls, ..NOTHING };
        site.record(at, connection(1, 1, 2_000), MappingKind::Ended, ended);
    };
    let plain = |site: &mut Site, at: i64, server_port| {
        let request = Mapping {
            nth: Some(1),
            server_port: Some(80),
            request: Some(RequestText::raw(b"/a", Cut::Long)),
            user_agent: Some(text_hash(b"agent")),
            ..NOTHING
        };
        let of = connection(at.unsigned_abs(), 2, 2_001);
        site.record(at, of, MappingKind::Request, request);
        site.ended(at + 1_000, of, 1, OK);
        let line = site.asked(at + 1_100, "/a", OK, None);
        site.put(at + 1_100, LoggedLine { server_port, ..line });
        let out = site.out(at + SECOND);
        assert_eq!(out[0].0, 2);
        out[0].1
    };
    let mut site = Site::default();
    assert_eq!(plain(&mut site, SECOND, None), Certainty::Certain);
    tls(&mut site, 10 * SECOND);
    assert_eq!(plain(&mut site, 10 * SECOND + 1, None), Certainty::Likely);
    assert_eq!(plain(&mut site, 90 * SECOND, None), Certainty::Certain, "that was long ago");
    let mut site = Site::default();
    tls(&mut site, 10 * SECOND);
    assert_eq!(plain(&mut site, 10 * SECOND + 1, Some(80)), Certainty::Certain, "another port");
}

#[test]
fn a_port_that_is_used_again_at_once_belongs_to_the_connection_that_has_a_request_left() {
    let mut site = Site::default();
    for number in 1..=6_u8 {
        let (at, of) = (i64::from(number) * 800_000, connection(number.into(), number, 2_000));
        site.opened(at, of);
        let opaque_tls = Some(OpaqueTls { took: 500, asked: 200, answered: 900, requests: 1 });
        let ended = Mapping { nth: Some(1), server_port: Some(443), opaque_tls, ..NOTHING };
        site.record(at + 1_000, of, MappingKind::Ended, ended);
        site.closed(at + 2_000, of);
        let line = site.asked(at, "/a", OK, Some(2_000));
        site.put(at + 3_000, in_whole_seconds(line));
    }
    let out = site.out(60 * SECOND);
    assert_eq!(out, (1..=6).map(|client| (client, EXACT.0, EXACT.1)).collect::<Vec<_>>());
}

#[test]
fn classic_records_and_ours_may_come_together() {
    let mut site = Site::default();
    site.visit(0, connection(1, 7, 0), "/a", OK);
    site.engine.mapping(&MappingEvent {
        server: site.server,
        client: ClientAddr::Ip([192, 0, 2, 8].into()),
        time: Timestamp::from_micros(5),
        resolution: Resolution::Microsecond,
        request: Fingerprint::of_raw(b"/b", Cut::Long),
        cut: Cut::Long,
        is_body: false,
        exchange: None,
        is_unauthenticated: false,
    });
    site.line(2_000, "/b", OK, None);
    site.line(2_001, "/a", OK, None);
    assert_eq!(site.clients(SECOND), [8, 7]);
}

#[test]
fn bounds_hold_with_exchanges_too() {
    let settings = JoinSettings { max_mappings: 10, max_lines: 5, ..JoinSettings::default() };
    let mut site = Site::new(settings);
    for number in 0..1_000_u32 {
        let of = connection(number.into(), 7, u16::try_from(number).unwrap() + 1);
        site.opened(number.into(), of);
        site.request(number.into(), of, 1, &format!("/{}", number % 30));
        if number % 3 == 0 {
            site.ended(number.into(), of, 1, OK);
        }
        site.line(number.into(), &format!("/{}", number % 20), OK, Some(1));
    }
    site.out(2_000);
    let counts = site.engine.counts();
    // With all that is known of them they take more room than classic ones.
    assert!(counts.outstanding <= 3 && counts.held <= 5, "{counts:?}");
    assert_eq!(counts.mappings, 1_000);
}

#[test]
fn servers_at_one_address_are_told_apart_by_their_ports() {
    let mut site = Site::default();
    let answer = |site: &mut Site, number: u8, port: u16| {
        // The same port of the balancer's to either.
        let of = connection(number.into(), number, 2_000);
        let request = Mapping {
            nth: Some(1),
            server_port: Some(port),
            request: Some(RequestText::raw(b"/a", Cut::Long)),
            user_agent: Some(text_hash(b"agent")),
            ..NOTHING
        };
        site.record(number.into(), of, MappingKind::Request, request);
    };
    for (number, port) in [(1, 80), (2, 81), (3, 80), (4, 81)] {
        answer(&mut site, number, port);
    }
    for (server_port, peer_port) in [(81, None), (80, None), (81, Some(2_000)), (80, Some(2_000))] {
        let line = site.asked(100, "/a", OK, peer_port);
        site.put(100, LoggedLine { server_port: Some(server_port), ..line });
    }
    let out = site.out(SECOND);
    let clients: Vec<u8> = out.iter().map(|&(client, ..)| client).collect();
    assert_eq!(clients, [2, 1, 4, 3]);
    assert_eq!(out[2].1, Certainty::Exact);
}

/// Apache dates a line by the first line of the request. The balancer knows of a request that never comes whole
/// when the server gives it up.
#[test]
fn stamps_of_the_start_find_exchanges_that_ended_seconds_later() {
    let mut site = Site::default();
    let stamped =
        |site: &Site, at: i64, answer| in_whole_seconds(site.asked(at, "/a", answer, None));
    let visit = |site: &mut Site, at: i64, number: u8, took: i64, answer: (u16, u64)| {
        let of = connection(number.into(), number, 2_000 + u16::from(number));
        site.opened(at, of);
        let is_late = answer.0 == 408;
        site.request(if is_late { at + took - 2 } else { at + 1 }, of, 1, "/a");
        site.ended(at + took, of, 1, answer);
        site.closed(at + took + 1, of);
    };
    let (slow, timeout) = ((200, 90_000), (408, 447));
    // Alone at first, so that it is known what stamps name.
    let mut expected = Vec::new();
    for number in 1..9 {
        let at = i64::from(number) * 10 * SECOND + 300_000;
        let answer = if number % 2 == 0 { timeout } else { slow };
        visit(&mut site, at, number, 2_500_000, answer);
        let line = stamped(&site, at, answer);
        site.put(at + 2_600_000, line);
        expected.push(number);
    }
    // Then three at a time.
    for round in 1_u8..7 {
        let at = i64::from(round) * 10 * SECOND + 100 * SECOND + 300_000;
        let number = 10 + 3 * round;
        site.advance(at);
        let of = |nth: u8| {
            connection(u64::from(number + nth), number + nth, 3_000 + u16::from(number + nth))
        };
        for nth in 0..3 {
            site.opened(at + i64::from(nth), of(nth));
        }
        site.request(at + 10, of(0), 1, "/a");
        site.request(at + 20, of(1), 1, "/a");
        site.ended(at + 1_000, of(1), 1, OK);
        site.ended(at + 2_200_000, of(0), 1, slow);
        site.request(at + 2_500_000, of(2), 1, "/a");
        site.ended(at + 2_500_002, of(2), 1, timeout);
        for (nth, answer) in [(1, OK), (0, slow), (2, timeout)] {
            let line = stamped(&site, at, answer);
            site.put(at + 2_600_000, line);
            expected.push(number + nth);
        }
    }
    assert_eq!(site.clients(1_000 * SECOND), expected);
}
