use pen_records::misfit::{FitSample, LooseDifference};
use pen_records::request::{Cut, Fingerprint};
use pen_records::time::Timestamp;

use super::super::facts::{BadLine, ClientCounts, MappingLogFacts, NamedServer, RequestPair};
use super::super::kinds::LogKind;
use super::*;

fn request(text: &str) -> Fingerprint {
    Fingerprint::of_raw(text.as_bytes(), Cut::Short).expect("a request")
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_700_000_000 + seconds)
}

fn span(first: i64, last: i64) -> TimeSpan {
    TimeSpan { first: at(first), last: at(last) }
}

/// Lines of a server and how many of them got a client.
fn counts(lines: u64, found: u64) -> ServerCounts {
    ServerCounts { lines, found, sure: found, ..ServerCounts::default() }
}

/// A server whose log was understood and that mappings name.
fn server(name: &str) -> ServerFacts {
    let mut server = ServerFacts {
        label: name.to_owned(),
        is_named: true,
        looked: 100,
        understood: 100,
        span: Some(span(0, 100)),
        ..ServerFacts::default()
    };
    (0..100).for_each(|_| server.clients.add(b"10.9.9.9"));
    server
}

fn mapping_log() -> MappingLogFacts {
    MappingLogFacts {
        name: "pen.log".to_owned(),
        looked: 100,
        understood: 100,
        is_seen: true,
        span: Some(span(0, 100)),
        ..MappingLogFacts::default()
    }
}

fn bad(kind: LogKind) -> Option<BadLine> {
    let [log, error, text] = ["x.log", "expected a client at byte 0", "#"].map(str::to_owned);
    Some(BadLine { log, number: 1, error, text, kind })
}

/// Facts of logs in which nothing is wrong but what a test changes.
fn facts(servers: &[&str]) -> SurveyFacts {
    SurveyFacts {
        servers: servers.iter().map(|name| server(name)).collect(),
        mapping_logs: vec![mapping_log()],
        ..SurveyFacts::default()
    }
}

fn other(name: &str, is_alias: bool) -> Vec<NamedServer> {
    vec![NamedServer { name: name.to_owned(), is_alias }]
}

/// Adds 100 lines of a log.
fn lines(sample: &mut FitSample, log: usize) {
    (0..100).for_each(|n| sample.line(log, request(&format!("GET /{log}/{n} HTTP/1.1")), at(n)));
}

/// Adds the mappings of these lines, which are of a server.
fn mappings(sample: &mut FitSample, log: usize, of: usize) {
    (0..100).for_each(|n| sample.mapping(of, request(&format!("GET /{log}/{n} HTTP/1.1")), at(n)));
}

fn causes(facts: &SurveyFacts, counts: &[ServerCounts]) -> Vec<MisfitCause> {
    diagnose(facts, counts).into_iter().map(|misfit| misfit.cause).collect()
}

#[test]
fn lines_that_find_their_mappings_are_no_misfit() {
    let mut facts = facts(&["10.0.0.1", "10.0.0.2"]);
    (0..2).for_each(|log| lines(&mut facts.exact, log));
    (0..2).for_each(|log| mappings(&mut facts.exact, log, log));
    assert_eq!(causes(&facts, &[counts(100, 60), counts(100, 100)]), []);
    assert_eq!(causes(&facts, &[counts(0, 0), counts(1, 1)]), []);
}

#[test]
fn a_server_that_no_mapping_names() {
    let mut facts = facts(&["10.0.0.9", "10.0.0.2"]);
    facts.servers[0].is_named = false;
    facts.others = other("10.0.0.1", false);
    let named = ["10.0.0.1", "10.0.0.2"].map(str::to_owned).to_vec();
    let expected = |fits| MisfitCause::UnknownServer { named: named.clone(), fits };
    assert_eq!(causes(&facts, &[counts(100, 0), counts(100, 100)]), [expected(None)]);
    lines(&mut facts.exact, 0);
    mappings(&mut facts.exact, 0, 2);
    let fits = Some("10.0.0.1".to_owned());
    assert_eq!(causes(&facts, &[counts(100, 0), counts(100, 100)]), [expected(fits.clone())]);
    assert_eq!(causes(&facts, &[counts(1, 0), counts(100, 100)]), [expected(fits)]);
}

#[test]
fn a_balancer_that_logs_names() {
    let mut facts = facts(&["10.0.0.1"]);
    facts.servers[0].is_named = false;
    facts.others = other("app/web1", true);
    let names = vec!["app/web1".to_owned()];
    assert_eq!(causes(&facts, &[counts(100, 0)]), [MisfitCause::Unnamed { names }]);
}

#[test]
fn mappings_of_another_port() {
    let mut facts = facts(&["10.0.0.1:8080"]);
    facts.servers[0].is_named = false;
    facts.servers[0].other_ports.extend([80, 81]);
    let expected = MisfitCause::OtherPort { ports: vec![80, 81] };
    assert_eq!(causes(&facts, &[counts(100, 0)]), [expected]);
}

#[test]
fn swapped_servers_are_one_misfit() {
    let mut facts = facts(&["10.0.0.1", "10.0.0.2"]);
    (0..2).for_each(|log| lines(&mut facts.exact, log));
    (0..2).for_each(|log| mappings(&mut facts.exact, log, 1 - log));
    // Common requests got wrong clients, which are likely at best.
    let likely = ServerCounts { found: 70, ..counts(100, 0) };
    let misfits = diagnose(&facts, &[likely, likely]);
    let pair = |one: &str, other: &str| (one.to_owned(), other.to_owned());
    let logs = vec![pair("10.0.0.1", "10.0.0.2"), pair("10.0.0.2", "10.0.0.1")];
    assert_eq!(misfits.len(), 1);
    assert_eq!(misfits[0].cause, MisfitCause::MixedUp { logs, has_several_files: false });
    assert_eq!(causes(&facts, &[counts(100, 90), counts(100, 90)]), [], "they fit after all");
}

#[test]
fn logs_of_different_times() {
    let mut facts = facts(&["10.0.0.1"]);
    let [lines, mappings] = [span(0, 100), span(500, 600)];
    facts.mapping_logs[0].span = Some(mappings);
    let expected = MisfitCause::NoOverlap { lines, mappings, zone: None };
    assert_eq!(causes(&facts, &[counts(100, 0)]), [expected]);
    assert_eq!(causes(&facts, &[counts(2, 0)]), [], "too few lines to tell");
    let mappings = span(70, 600);
    facts.mapping_logs[0].span = Some(mappings);
    let expected = MisfitCause::PartialOverlap { lines, mappings };
    assert_eq!(causes(&facts, &[counts(100, 30)]), [expected]);
}

#[test]
fn mapping_logs_that_are_none() {
    let mut facts = facts(&["10.0.0.1"]);
    let log = &mut facts.mapping_logs[0];
    (log.looked, log.understood, log.span) = (0, 0, None);
    let logs = vec!["pen.log".to_owned()];
    assert_eq!(causes(&facts, &[counts(100, 0)]), [MisfitCause::NoMappings { logs }]);
    assert_eq!(causes(&facts, &[counts(1, 0)]), [], "one line may be anything");
    let log = &mut facts.mapping_logs[0];
    (log.looked, log.not_understood) = (5, bad(LogKind::Access));
    let expected = MisfitCause::NoMappingLog {
        log: "pen.log".to_owned(),
        kind: LogKind::Access,
        bad: bad(LogKind::Access),
    };
    assert_eq!(causes(&facts, &[counts(1, 0)]), [expected]);
}

#[test]
fn lines_that_are_not_understood() {
    let mut facts = facts(&["10.0.0.1"]);
    facts.servers[0].understood = 0;
    facts.servers[0].not_understood = bad(LogKind::W3c);
    let counts = |not_understood, found| ServerCounts { not_understood, ..counts(100, found) };
    let expected = |as_detected| MisfitCause::NotUnderstood {
        bad: bad(LogKind::W3c),
        has_format: false,
        as_detected,
        exchanged: None,
    };
    assert_eq!(causes(&facts, &[counts(100, 0)]), [expected(false)]);
    facts.servers[0].as_detected = 100;
    assert_eq!(causes(&facts, &[counts(100, 0)]), [expected(true)]);
    facts.servers[0].as_detected = 0;
    facts.servers[0].understood = 20;
    assert_eq!(causes(&facts, &[counts(80, 18)]), [], "messages of an application between");
    facts.servers[0].with_request = 70;
    assert_eq!(causes(&facts, &[counts(80, 18)]), [expected(false)], "they have requests");
}

#[test]
fn requests_that_a_proxy_changed() {
    let mut facts = facts(&["10.0.0.1"]);
    lines(&mut facts.exact, 0);
    lines(&mut facts.loose, 0);
    mappings(&mut facts.loose, 0, 0);
    let pair = RequestPair {
        difference: LooseDifference::Protocol,
        logged: "GET / HTTP/1.0".to_owned(),
        mapped: "GET / HTTP/1.1".to_owned(),
    };
    facts.servers[0].changed = Some(pair.clone());
    assert_eq!(causes(&facts, &[counts(100, 0)]), [MisfitCause::Changed(pair)]);
}

#[test]
fn direct_visitors_are_no_misfit() {
    let mut facts = facts(&["10.0.0.1"]);
    facts.servers[0].is_named = false;
    facts.others = other("10.0.0.2", false);
    facts.servers[0].clients = ClientCounts::default();
    for n in 0..100 {
        facts.servers[0].clients.add(format!("192.0.2.{}", n % 20).as_bytes());
    }
    assert_eq!(causes(&facts, &[counts(100, 0)]), []);
    let direct = ServerCounts { direct: 95, ..counts(100, 4) };
    assert_eq!(causes(&facts, &[direct]), []);
}

#[test]
fn health_checks_are_no_misfit() {
    let mut facts = facts(&["10.0.0.1"]);
    let visit = |n| request(&format!("GET /{n} HTTP/1.1"));
    (0..100).for_each(|n| facts.exact.line(0, request("GET /health HTTP/1.0"), at(n)));
    assert_eq!(causes(&facts, &[counts(100, 0)]), [], "a server with nothing else");
    (0..10).for_each(|n| facts.exact.line(0, visit(n), at(n)));
    assert_eq!(causes(&facts, &[counts(110, 0)]).len(), 1, "others find nothing");
    (0..10).for_each(|n| facts.exact.mapping(0, visit(n), at(n)));
    assert_eq!(causes(&facts, &[counts(110, 10)]), []);
    facts.servers[0].is_named = false;
    facts.others = other("10.0.0.2", false);
    assert_eq!(causes(&facts, &[counts(110, 10)]), [], "a spare server");
}

#[test]
fn without_a_cause_many_lines_are_a_misfit_and_few_are_none() {
    let mut facts = facts(&["10.0.0.1"]);
    lines(&mut facts.exact, 0);
    assert_eq!(causes(&facts, &[counts(100, 40)]), [MisfitCause::Unexplained]);
    assert_eq!(causes(&facts, &[counts(19, 0)]), []);
}

#[test]
fn servers_with_one_cause_are_said_together() {
    let mut facts = facts(&["10.0.0.1", "10.0.0.2"]);
    (facts.mapping_logs[0].looked, facts.mapping_logs[0].span) = (0, None);
    facts.mapping_logs[0].understood = 0;
    let misfits = diagnose(&facts, &[counts(100, 0), counts(50, 0)]);
    assert_eq!(misfits.len(), 1);
    assert_eq!((misfits[0].servers.len(), misfits[0].lines, misfits[0].lost), (2, 150, 150));
}

#[test]
fn mappings_without_requests_or_times_find_nothing() {
    let cause = |change: &dyn Fn(&mut SurveyFacts)| {
        let mut facts = facts(&["10.0.0.1"]);
        change(&mut facts);
        diagnose(&facts, &[counts(12, 0)]).first().map(|misfit| misfit.cause.clone())
    };
    let log = || "pen.log".to_owned();
    assert_eq!(
        cause(&|facts| facts.mapping_logs[0].without_request = 100),
        Some(MisfitCause::MappingsWithoutRequest { log: log() })
    );
    assert_eq!(
        cause(&|facts| facts.mapping_logs[0].without_time = 100),
        Some(MisfitCause::MappingsWithoutTime { log: log() })
    );
    let with_ports = |facts: &mut SurveyFacts| {
        facts.mapping_logs[0].without_request = 100;
        facts.servers[0].ports.lines = vec![vec![40_100]; 12];
        facts.servers[0].ports.mappings.insert(40_100);
    };
    assert_eq!(cause(&with_ports), None);
    assert_eq!(cause(&|facts| facts.mapping_logs[0].without_request = 40), None);
}

#[test]
fn a_server_with_several_files_is_mixed_up_in_some_of_them() {
    let mut facts = facts(&["10.0.0.1", "10.0.0.2"]);
    for log in 0..2 {
        lines(&mut facts.exact, log);
        mappings(&mut facts.exact, log, 1 - log);
    }
    let format = |name: &str| (name.to_owned(), "combined".to_owned());
    facts.servers[0].formats = vec![format("a.log"), format("b.log")];
    let misfits = diagnose(&facts, &[counts(100, 0); 2]);
    let is_several =
        |cause: &MisfitCause| matches!(cause, MisfitCause::MixedUp { has_several_files: true, .. });
    assert!(misfits.iter().any(|misfit| is_several(&misfit.cause)), "{misfits:?}");
}
