//! The engine as a driver sees it: what comes out of small, plain situations.

mod backlog;
mod dated;
mod exchange;
mod foreign;
mod ids;
mod logs;
mod long;
mod ports;
mod strangers;
mod tls;
mod twin;
mod unauthenticated;
mod why;

use std::time::Duration;

use super::*;
use crate::addr::{ClientAddr, ServerAddr};
use crate::mapping::{Mapping, MappingKind};
use crate::request::{Cut, Fingerprint};
use crate::time::{Resolution, Timestamp};

const SECOND: i64 = 1_000_000;

/// What came out of a line: the client's last octet (0 for none), how sure, and why.
type Out = (u8, Certainty, Reason);

/// It is `at`: what is due comes out.
fn advance(engine: &mut Attributor<u32>, at: i64, decided: &mut Vec<Out>) {
    engine.advance(Timestamp::from_micros(at));
    while let Some(out) = engine.next_decided() {
        let client = match out.verdict.client {
            Some(ClientAddr::Ip(std::net::IpAddr::V4(ip))) => ip.octets()[3],
            _ => 0,
        };
        decided.push((client, out.verdict.certainty, out.verdict.reason));
    }
}

struct Site {
    engine: Attributor<u32>,
    server: ServerIndex,
    lines: u32,
    sender: u32,
    out: Vec<Out>,
    /// Whether records come without a key.
    is_unauthenticated: bool,
}

impl Site {
    fn new() -> Self {
        let mut engine = Attributor::new(JoinSettings::default());
        let server = engine.server(ServerAddr::Ip([127, 0, 1, 1].into()));
        Self { engine, server, lines: 0, sender: 9, out: Vec::new(), is_unauthenticated: false }
    }

    fn mapping(&mut self, at: i64, client: u8, url: &str) {
        self.advance(at);
        self.engine.mapping(&MappingEvent {
            server: self.server,
            client: ClientAddr::Ip([192, 0, 2, client].into()),
            time: Timestamp::from_micros(at),
            resolution: Resolution::Microsecond,
            request: Some(Fingerprint::of_raw(url.as_bytes(), Cut::Long).unwrap()),
            cut: Cut::Long,
            is_body: url.starts_with("field"),
            exchange: None,
            is_unauthenticated: self.is_unauthenticated,
        });
    }

    fn line(&mut self, at: i64, agent: u32, url: &str) {
        self.advance(at);
        let line = LoggedLine {
            long: Fingerprint::of_logged(&[url.as_bytes()], Cut::Long),
            sender: Some(self.sender),
            user_agent: Some(agent),
            ..LoggedLine::unread(self.server, (Timestamp::from_micros(at), Resolution::Microsecond))
        };
        self.engine.line(&line, self.lines);
        self.lines += 1;
    }

    /// As a driver does: time moves, what is due comes out, and only then comes the next.
    fn advance(&mut self, at: i64) {
        advance(&mut self.engine, at, &mut self.out);
    }

    /// What came out by now.
    fn out(&mut self, at: i64) -> Vec<Out> {
        self.advance(at);
        std::mem::take(&mut self.out)
    }
}

#[test]
fn a_line_waits_and_takes_the_only_mapping() {
    let mut site = Site::new();
    site.mapping(0, 7, "/a");
    site.line(10, 1, "/a");
    assert_eq!(site.out(1_000), [], "it is held for the rest of its group");
    assert_eq!(site.out(SECOND), [(7, Certainty::Certain, Reason::Only)]);
}

#[test]
fn a_mapping_that_comes_late_is_waited_for() {
    let mut site = Site::new();
    site.line(0, 1, "/a");
    site.mapping(100_000, 7, "/a");
    assert_eq!(site.out(SECOND), [(7, Certainty::Certain, Reason::Only)]);
}

#[test]
fn a_mapping_explains_one_line() {
    let mut site = Site::new();
    site.mapping(0, 7, "/a");
    site.line(10, 1, "/a");
    site.line(SECOND, 1, "/a");
    let expected =
        [(7, Certainty::Certain, Reason::Only), (0, Certainty::Unmatched, Reason::NoMapping)];
    assert_eq!(site.out(9 * SECOND), expected);
}

#[test]
fn several_mappings_of_one_client_are_certain_of_two_clients_likely_and_in_order() {
    let mut site = Site::new();
    site.mapping(0, 7, "/a");
    site.mapping(1, 7, "/a");
    site.line(10, 1, "/a");
    site.line(11, 1, "/a");
    let expected =
        [(7, Certainty::Certain, Reason::SameClient), (7, Certainty::Certain, Reason::SameClient)];
    assert_eq!(site.out(SECOND), expected);
    site.mapping(2 * SECOND, 8, "/a");
    site.mapping(2 * SECOND + 1, 9, "/a");
    site.line(2 * SECOND + 2, 5, "/a");
    site.line(2 * SECOND + 3, 6, "/a");
    let out = site.out(9 * SECOND);
    assert_eq!(out[0], (8, Certainty::Likely, Reason::Order));
    assert_eq!(out[1].1, Certainty::Likely, "the rest of a guess is a guess");
}

#[test]
fn a_client_teaches_its_new_user_agents_where_no_mapping_is_missing() {
    let mut site = Site::new();
    for round in 0..60 {
        let at = round * SECOND;
        let agent = if round < 10 { 1 } else { u32::try_from(round % 6).unwrap() };
        site.mapping(at, 7, &format!("/{round}"));
        site.line(at + 5, agent, &format!("/{round}"));
    }
    let out = site.out(90 * SECOND);
    assert!(out.iter().all(|line| line.0 == 7));
    let doubted = out.iter().filter(|line| line.1 != Certainty::Certain).count();
    assert!(doubted <= 6, "{doubted} lines of 60 are not certain");
}

#[test]
fn before_delays_are_known_a_far_mapping_is_not_certain() {
    let mut site = Site::new();
    for round in 0..30 {
        site.mapping(round * 40 * SECOND, 7, &format!("/{round}"));
        site.line(round * 40 * SECOND + 37 * SECOND, 1, &format!("/{round}"));
    }
    let out = site.out(3_000 * SECOND);
    assert!(out.iter().all(|line| (line.0, line.1) == (7, Certainty::Likely)), "{out:?}");
}

#[test]
fn a_known_user_agent_turns_the_order_round() {
    let mut site = Site::new();
    for (round, client) in [(0, 8), (1, 9)] {
        site.mapping(round * SECOND, client, "/own");
        site.line(round * SECOND + 5, u32::from(client), "/own");
    }
    site.mapping(5 * SECOND, 8, "/a");
    site.mapping(5 * SECOND + 1, 9, "/a");
    site.line(5 * SECOND + 5, 9, "/a");
    site.line(5 * SECOND + 6, 8, "/a");
    let out = site.out(9 * SECOND);
    assert_eq!(out[2], (9, Certainty::Likely, Reason::UserAgent));
    assert_eq!(out[3].0, 8);
}

#[test]
fn of_two_lines_that_compete_for_one_mapping_each_is_a_guess() {
    let mut site = Site::new();
    site.mapping(0, 7, "/a");
    site.line(10, 1, "/a");
    site.line(11, 1, "/a");
    let out = site.out(SECOND);
    assert!(out.iter().all(|&(_, certainty, _)| certainty < Certainty::Certain), "{out:?}");
    assert!(out.iter().any(|&(client, ..)| client == 7), "{out:?}");
}

#[test]
fn where_mappings_are_often_missing_nothing_is_certain() {
    let mut site = Site::new();
    for i in 0..40 {
        site.line(i * SECOND, 1, &format!("/unknown{i}"));
    }
    site.mapping(50 * SECOND, 7, "/a");
    site.line(50 * SECOND + 10, 1, "/a");
    let out = site.out(60 * SECOND);
    assert_eq!(out.last(), Some(&(7, Certainty::Likely, Reason::Doubtful)));
}

#[test]
fn mappings_that_nobody_answers_do_not_shift_those_that_follow() {
    let mut site = Site::new();
    // A server that answers within a millisecond or so.
    for i in 0..100 {
        site.mapping(i * SECOND, 1, &format!("/{i}"));
        site.line(i * SECOND + 1_000 + i, 1, &format!("/{i}"));
    }
    // Twenty requests that were never answered, then ordinary traffic for the same page.
    for i in 0..20 {
        site.mapping(200 * SECOND + i, 2, "/a");
    }
    for i in 0..10 {
        let at = (210 + i) * SECOND;
        let client = u8::try_from(10 + i).unwrap();
        site.mapping(at, client, "/a");
        site.line(at + 1_000, 1, "/a");
    }
    let out = site.out(300 * SECOND);
    let clients: Vec<u8> = out[100..].iter().map(|&(client, ..)| client).collect();
    assert_eq!(clients, (10..20).collect::<Vec<u8>>());
}

#[test]
fn with_many_of_one_page_outstanding_and_nothing_known_lines_are_guesses() {
    let mut site = Site::new();
    for i in 0..5_000_u32 {
        let client = u8::try_from(i % 250).unwrap();
        site.mapping(i64::from(i), client, "/a");
    }
    for i in 0..5_000 {
        site.line(100_000 + i, 1, "/a");
    }
    let out = site.out(SECOND);
    assert_eq!(out.len(), 5_000);
    assert!(out.iter().all(|&(_, certainty, _)| certainty < Certainty::Certain));
}

#[test]
fn where_lines_are_known_to_be_in_order_equal_requests_are_taken_in_order() {
    let mut site = Site::new();
    for i in 0..200 {
        site.mapping(i * 100_000, 1, &format!("/{i}"));
        site.line(i * 100_000 + 5_000 + i % 10 * 6_000, 1, &format!("/{i}"));
    }
    // A hundred equal requests at once, each answered 30 ms later.
    for i in 0..100_u8 {
        site.mapping(30 * SECOND + i64::from(i) * 500, i, "/a");
    }
    for i in 0..100 {
        site.line(30 * SECOND + 30_000 + i * 500, 1, "/a");
    }
    let out = site.out(40 * SECOND);
    let clients: Vec<u8> = out[200..].iter().map(|&(client, ..)| client).collect();
    let in_order = (0..100).zip(&clients).filter(|(i, client)| i == *client).count();
    assert!(in_order >= 95, "{in_order} of 100 are in order: {clients:?}");
}

#[test]
fn old_mappings_are_forgotten_and_counted() {
    let mut site = Site::new();
    site.mapping(0, 7, "/a");
    site.line(601 * SECOND, 1, "/a");
    assert_eq!(site.out(700 * SECOND), [(0, Certainty::Unmatched, Reason::NoMapping)]);
    assert_eq!(site.engine.counts().expired, 1);
}

#[test]
fn bounds_hold_whatever_is_sent() {
    let settings = JoinSettings { max_mappings: 10, max_lines: 5, ..JoinSettings::default() };
    let mut site = Site::new();
    site.engine = Attributor::new(settings);
    site.server = site.engine.server(ServerAddr::Ip([127, 0, 1, 1].into()));
    for i in 0..100 {
        site.mapping(i, 7, &format!("/{i}"));
    }
    for i in 0..20 {
        site.line(200 + i, 1, "/x");
    }
    assert_eq!(site.out(300).len(), 15);
    let counts = site.engine.counts();
    assert_eq!((counts.outstanding, counts.evicted), (10, 90));
    assert_eq!((counts.held, counts.decided_early), (5, 15));
}

#[test]
fn a_line_finds_mappings_of_either_cut() {
    let mut site = Site::new();
    site.mapping(0, 1, "/long");
    site.engine.mapping(&MappingEvent {
        server: site.server,
        client: ClientAddr::Ip([192, 0, 2, 2].into()),
        time: Timestamp::from_micros(0),
        resolution: Resolution::Second,
        request: Some(Fingerprint::of_raw(b"/short", Cut::Short).unwrap()),
        cut: Cut::Short,
        is_body: false,
        exchange: None,
        is_unauthenticated: false,
    });
    for (at, url) in [(10, "/long"), (11, "/short")] {
        let logged = |cut| Fingerprint::of_logged(&[url.as_bytes()], cut);
        let line = LoggedLine {
            short: logged(Cut::Short),
            long: logged(Cut::Long),
            ..LoggedLine::unread(site.server, (Timestamp::from_micros(at), Resolution::Second))
        };
        site.engine.line(&line, 0);
    }
    let clients: Vec<u8> = site.out(SECOND).iter().map(|&(client, ..)| client).collect();
    assert_eq!(clients, [1, 2]);
}

#[test]
fn lines_that_came_past_the_balancer_use_no_mapping_up() {
    let mut site = Site::new();
    for i in 0..200_u32 {
        let at = i64::from(i) * SECOND;
        site.sender = 7;
        site.line(at, 1, "/health");
        site.sender = 9;
        site.mapping(at + 1_000, 3, &format!("/{i}"));
        site.line(at + 2_000, 1, &format!("/{i}"));
    }
    site.sender = 7;
    site.mapping(200 * SECOND, 3, "/health");
    site.line(200 * SECOND + 10, 1, "/health");
    site.line(200 * SECOND + 20, 1, "/health");
    let out = site.out(900 * SECOND);
    let direct = out.iter().filter(|&&(.., reason)| reason == Reason::Direct).count();
    assert!(direct > 150, "{direct} of 200");
    let last = &out[out.len() - 20..];
    assert!(last.iter().any(|&(client, ..)| client == 3));
}

#[test]
fn settings_bound_the_wait() {
    let wait = Duration::from_millis(20);
    let mut site = Site::new();
    site.engine = Attributor::new(JoinSettings { wait, ..JoinSettings::default() });
    site.server = site.engine.server(ServerAddr::Ip([127, 0, 1, 1].into()));
    site.line(0, 1, "/a");
    assert_eq!(site.engine.next_due(), Some(Timestamp::from_micros(20_000)));
    assert_eq!(site.out(19_999).len(), 0);
    assert_eq!(site.out(20_000).len(), 1);
}
