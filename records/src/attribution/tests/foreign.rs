//! The engine with what other balancers log: an exchange is known when it is over, connections to servers are
//! shared by clients, and headers may not be known.

use super::*;
use crate::access::TrailingNumbers;
use crate::addr::ServerAddr;
use crate::mapping::third_party_log::{ThirdPartyReader, ThirdPartyServer, ThirdPartySpec};

const MILLI: i64 = 1_000;

pub(super) struct Site {
    engine: Attributor<u32>,
    server: ServerIndex,
    reader: ThirdPartyReader,
    balancers: BalancerHashes,
    numbers: u64,
    out: Vec<Out>,
    /// Whether records come without a key.
    pub(super) is_unauthenticated: bool,
}

impl Site {
    pub(super) fn new(spec: &ThirdPartySpec) -> Self {
        let mut engine = Attributor::new(JoinSettings::default());
        let server = engine.server(ServerAddr::Ip([10, 0, 0, 1].into()));
        let reader = ThirdPartyReader::new(spec);
        Self {
            engine,
            server,
            reader,
            balancers: BalancerHashes::default(),
            numbers: THIRD_PARTY_BASE,
            out: Vec::new(),
            is_unauthenticated: false,
        }
    }

    /// A line of the balancer's log comes at its exchange's end.
    pub(super) fn passage(&mut self, at: i64, line: &str) {
        advance(&mut self.engine, at, &mut self.out);
        self.passage_at_once(at, line);
    }

    /// The same, before anything was decided.
    pub(super) fn passage_at_once(&mut self, at: i64, line: &str) {
        let passage =
            self.reader.read(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
        let passage = passage.expect("a record");
        let (server, port) = match passage.whom {
            ThirdPartyServer::At(server, port) => (server, port),
            _ => (ServerAddr::Ip([10, 0, 0, 1].into()), None),
        };
        let end = Timestamp::from_micros(at);
        let times = (passage.span.asked_before(end), end, Resolution::Microsecond);
        for mapping in passage.events((server, port), self.numbers, times) {
            let time = mapping.time.unwrap();
            let record =
                MappingEvent::with_exchange(&mapping, self.server, time, &mut self.balancers);
            let is_unauthenticated = self.is_unauthenticated;
            self.engine.mapping(&MappingEvent { is_unauthenticated, ..record.unwrap() });
        }
        self.numbers += 1;
    }

    fn http(&mut self, at: i64, client: u8, took: u32, url: &str, port: Option<u16>) {
        let port = port.map_or_else(String::new, |port| format!(" 10.0.0.9:{port} 10.0.0.1:80"));
        self.passage(
            at,
            &format!(
                "192.0.2.{client}:4711 [25/Nov/2026:16:46:11.526] web app/w 0/0/0/0/{took} 200 128 - - ---- \
                 1/1/0/0/0 0/0 \"GET {url} HTTP/1.1\"{port}"
            ),
        );
    }

    pub(super) fn line(&mut self, at: i64, url: &str, port: Option<u16>) {
        let line = LoggedLine { peer_port: port, ..self.logged(at, url) };
        self.put(at, line);
    }

    /// A line whose format is not known, with these fields behind the known ones.
    fn line_ending(&mut self, at: i64, url: &str, fields: &str) {
        let trailing = TrailingNumbers::read(fields.as_bytes());
        let line = LoggedLine { trailing, ..self.logged(at, url) };
        self.put(at, line);
    }

    pub(super) fn put(&mut self, at: i64, line: LoggedLine) {
        advance(&mut self.engine, at, &mut self.out);
        self.put_at_once(line);
    }

    /// The same, before anything was decided.
    pub(super) fn put_at_once(&mut self, line: LoggedLine) {
        self.engine.line(&line, 0);
    }

    pub(super) fn logged(&self, at: i64, url: &str) -> LoggedLine {
        // nginx asks its servers by HTTP/1.0, whatever its clients speak.
        let target = format!("GET {url}");
        let long = format!("{target} HTTP/1.0");
        LoggedLine {
            long: Fingerprint::of_logged(&[long.as_bytes()], Cut::Long),
            target: Fingerprint::of_logged(&[target.as_bytes()], Cut::Target),
            sender: Some(text_hash(b"10.0.0.9")),
            user_agent: Some(text_hash(b"agent")),
            referer: Some(text_hash(b"-")),
            status: Some(200),
            nth: Some(7),
            ..LoggedLine::unread(self.server, (Timestamp::from_micros(at), Resolution::Microsecond))
        }
    }

    pub(super) fn out(&mut self) -> Vec<Out> {
        self.engine.finish();
        advance(&mut self.engine, 1 << 40, &mut self.out);
        std::mem::take(&mut self.out)
    }

    fn clients(&mut self) -> Vec<u8> {
        self.out().into_iter().map(|(client, ..)| client).collect()
    }
}

#[test]
fn requests_of_many_clients_over_one_connection_are_told_apart() {
    let mut site = Site::new(&ThirdPartySpec::haproxy());
    let mut expected = Vec::new();
    // More than are remembered of a port.
    for nth in 0..60_u8 {
        let at = i64::from(nth) * 4 * MILLI;
        site.line(at, &format!("/{nth}"), Some(4000));
        site.http(at + MILLI, nth + 1, 3, &format!("/{nth}"), Some(4000));
        expected.push((nth + 1, Certainty::Exact, Reason::Port));
    }
    let first = site.out();
    // Before the first record nothing is known of the balancer.
    assert_eq!(first, expected);
}

#[test]
fn a_port_behind_the_known_fields_is_found_where_connections_are_shared() {
    // The records come before the lines, or after.
    for (early, urls) in [(true, 60), (false, 60), (true, 7), (true, 1)] {
        let mut site = Site::new(&ThirdPartySpec::haproxy());
        for nth in 0..200_u8 {
            let at = i64::from(nth) * 40 * MILLI;
            let (url, port) = (format!("/{}", nth % urls), 40_000 + u16::from(nth) * 37 % 89);
            if early {
                site.http(at - MILLI, nth + 1, 3, &url, Some(port));
            }
            site.line_ending(at, &url, &format!(" 0.003 {port}"));
            if !early {
                site.http(at + MILLI, nth + 1, 3, &url, Some(port));
            }
        }
        let out = site.out();
        assert!(out.iter().zip(1..).all(|(line, client)| line.0 == client), "{out:?}");
        let exact = out.iter().filter(|line| line.1 == Certainty::Exact).count();
        assert!(exact >= 195, "{early} {urls}: {exact}");
    }
}

#[test]
fn equal_requests_of_many_clients_over_one_connection_keep_their_order() {
    let mut site = Site::new(&ThirdPartySpec::haproxy());
    for nth in 0..60_u8 {
        let at = i64::from(nth) * 4 * MILLI;
        site.http(at, nth + 1, 3, "/same", Some(4000));
        site.line(at + MILLI, "/same", Some(4000));
    }
    let out = site.out();
    assert!(out.iter().zip(1..).all(|(line, client)| line.0 == client), "{out:?}");
    let is_likely = out.iter().all(|line| line.1 == Certainty::Likely);
    assert!(is_likely, "a line may be missing, so that the rest of a guess is a guess");
}

#[test]
fn equal_requests_at_once_are_told_apart_by_their_ports() {
    let mut site = Site::new(&ThirdPartySpec::haproxy());
    site.http(0, 1, 3, "/a", Some(4000));
    site.http(0, 2, 3, "/a", Some(4001));
    site.line(MILLI, "/a", Some(4001));
    site.line(MILLI, "/a", Some(4000));
    let exact = |client| (client, Certainty::Exact, Reason::Port);
    assert_eq!(site.out(), [exact(2), exact(1)]);
}

#[test]
fn without_ports_the_request_decides_though_headers_are_not_known() {
    for line_has_port in [None, Some(4000)] {
        let mut site = Site::new(&ThirdPartySpec::haproxy());
        for nth in 0..20_u8 {
            let at = i64::from(nth) * 4 * MILLI;
            site.http(at, nth + 1, 3, &format!("/{nth}"), None);
            site.line(at + MILLI, &format!("/{nth}"), line_has_port);
        }
        let expected: Vec<_> =
            (1..=20).map(|client| (client, Certainty::Certain, Reason::Only)).collect();
        assert_eq!(site.out(), expected, "{line_has_port:?}");
    }
}

#[test]
fn a_record_that_comes_at_the_end_of_a_long_exchange_was_asked_long_before() {
    let mut site = Site::new(&ThirdPartySpec::haproxy());
    // The client takes its time: the server was done 200 ms before.
    site.line(9_800 * MILLI, "/slow", None);
    site.http(10_000 * MILLI, 1, 10_000, "/slow", None);
    assert_eq!(site.clients(), [1]);
}

#[test]
fn a_connection_with_its_port_is_exact_whatever_is_asked_on_it() {
    let mut site = Site::new(&ThirdPartySpec::haproxy());
    let tcp = |client: u8, took: &str, port: u16| {
        format!(
            "192.0.2.{client}:1 [25/Nov/2026:16:46:11.604] t a/w 1/0/{took} 9 -- 1/1/1/1/0 0/0 10.0.0.9:{port} \
             10.0.0.1:80"
        )
    };
    // Logged when it is opened (`option logasap`).
    site.passage(0, &tcp(1, "+1", 4000));
    site.passage(0, &tcp(2, "+1", 4001));
    for at in 1..4 {
        site.line(at * 1_000 * MILLI, "/same", Some(4000));
        site.line(at * 1_000 * MILLI, "/same", Some(4001));
    }
    // The port is used again.
    site.passage(5_000 * MILLI, &tcp(3, "+1", 4000));
    site.line(6_000 * MILLI, "/same", Some(4000));
    let expected: Vec<_> =
        [1, 2, 1, 2, 1, 2, 3].into_iter().map(|it| (it, Certainty::Exact, Reason::Port)).collect();
    assert_eq!(site.out(), expected);
}

#[test]
fn a_port_behind_the_known_fields_is_found_where_only_connections_are_logged() {
    let mut site = Site::new(&ThirdPartySpec::haproxy());
    for nth in 0..40_u8 {
        let (at, port) = (i64::from(nth) * 200 * MILLI, 40_000 + u16::from(nth) * 37);
        let record = format!(
            "192.0.2.{}:1 [25/Nov/2026:16:46:11.604] t a/w 1/0/+1 9 -- 1/1/1/1/0 0/0 10.0.0.9:{port} \
             10.0.0.1:80",
            nth + 1
        );
        site.passage(at, &record);
        site.line_ending(at + 20 * MILLI, "/same", &format!(" {port}"));
    }
    let exact = |client| (client, Certainty::Exact, Reason::Port);
    assert_eq!(site.out(), (1..=40).map(exact).collect::<Vec<_>>());
}

#[test]
fn a_request_that_was_cut_leaves_its_connection() {
    let mut site = Site::new(&ThirdPartySpec::haproxy());
    let line = "192.0.2.5:1 [25/Nov/2026:16:46:11.604] t a/w 0/0/0/1/2 200 9 - - ---- 1/1/1/1/0 0/0 \
                \"GET /aaaaaa\" 10.0.0.9:4000 10.0.0.1:80";
    site.line(0, "/aaaaaaaaaaaaaaaaaaaaaaa", Some(4000));
    site.passage(MILLI, line);
    assert_eq!(site.out(), [(5, Certainty::Exact, Reason::Port)]);
}
