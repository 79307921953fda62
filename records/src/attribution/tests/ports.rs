//! Ports in lines: found by evidence where the format does not name them, and keys wherever they are known.

use super::exchange::{Connection, EXACT, OK, SECOND, Site, connection, in_whole_seconds};
use super::*;
use crate::access::TrailingNumbers;

/// A line of no known port that ends in these fields.
fn ending(site: &Site, at: i64, url: &str, fields: &str) -> LoggedLine {
    LoggedLine {
        trailing: TrailingNumbers::read(format!(" {fields}").as_bytes()),
        ..site.asked(at, url, OK, None)
    }
}

/// A number that looks random, and is the same in each run.
const fn spread(number: i64) -> i64 {
    (number * 7_919 + 13) % 28_232
}

fn port_of(number: i64) -> u16 {
    u16::try_from(32_768 + spread(number)).unwrap()
}

fn client_of(number: i64) -> u8 {
    u8::try_from(number % 250 + 1).unwrap()
}

fn connection_of(number: i64) -> Connection {
    connection(u64::try_from(number).unwrap() + 1, client_of(number), port_of(number))
}

#[test]
fn a_port_behind_the_known_fields_is_found_from_the_first_line_on() {
    for fields in ["PORT", "0.003 PORT", "0.003 2048 \"a b\" PORT x", "port=PORT", "4100 PORT 4200"]
    {
        let mut site = Site::default();
        for number in 0..40 {
            let at = number * SECOND / 10;
            site.visit(at, connection_of(number), "/a", OK);
            let fields = fields.replace("PORT", &port_of(number).to_string());
            site.put(at + 2_000, ending(&site, at + 2_000, "/a", &fields));
        }
        let expected: Vec<_> = (0..40).map(|n| (client_of(n), EXACT.0, EXACT.1)).collect();
        assert_eq!(site.out(100 * SECOND), expected, "{fields}");
        assert_eq!(site.engine.counts().used, 40, "each took its own mapping");
    }
}

#[test]
fn a_port_is_found_where_no_request_is_known() {
    for (per_second, least) in [(1, 160), (50, 160), (1_000, 150)] {
        let mut site = Site::default();
        for number in 0..160 {
            let (at, of) = (number * SECOND / per_second, connection_of(number));
            site.opened(at, of);
            site.closed(at + 900, of);
            site.put(at + 1_000, ending(&site, at + 1_000, "/a", &port_of(number).to_string()));
        }
        let out = site.out(1_000 * SECOND);
        let exact = out.iter().filter(|it| it.1 == Certainty::Exact).count();
        assert!(exact >= least, "{per_second}: {exact}");
        for (number, it) in (0..160).zip(&out).filter(|(_, it)| it.1 == Certainty::Exact) {
            assert_eq!(it.0, client_of(number));
        }
    }
}

#[test]
fn other_numbers_behind_the_known_fields_change_nothing() {
    for fields in ["", "NUMBER", "8080", "0.1 NUMBER", "8080 NUMBER"] {
        let run = |fields: &str| {
            let mut site = Site::default();
            for number in 0..400 {
                let at = number * SECOND / 50;
                site.visit(
                    at,
                    connection_of(number),
                    ["/a", "/b"][usize::from(number % 3 == 0)],
                    OK,
                );
                let random = 32_768 + spread(number * 31 + 7);
                let fields = fields.replace("NUMBER", &random.to_string());
                let url = ["/a", "/b"][usize::from(number % 3 == 0)];
                site.put(at + 2_000, ending(&site, at + 2_000, url, &fields));
            }
            site.out(100 * SECOND)
        };
        assert_eq!(run(fields), run(""), "{fields}");
    }
}

#[test]
fn a_change_of_format_is_learnt_again() {
    let mut site = Site::default();
    for number in 0..300 {
        let at = number * SECOND / 20;
        site.visit(at, connection_of(number), "/a", OK);
        let fields = match number / 100 {
            0 => String::new(),
            1 => port_of(number).to_string(),
            _ => (2_000 + number % 50).to_string(),
        };
        site.put(at + 2_000, ending(&site, at + 2_000, "/a", &fields));
    }
    let out = site.out(100 * SECOND);
    let right = (0..300).zip(&out).filter(|&(number, it)| it.0 == client_of(number)).count();
    assert!(right >= 294, "{right}");
    assert!(out[100..200].iter().all(|it| (it.1, it.2) == EXACT));
    assert!(out[..100].iter().chain(&out[200..]).all(|it| it.1 != Certainty::Exact));
}

#[test]
fn a_line_whose_port_no_record_has_gets_no_client() {
    // A second balancer without records has other ports, or the same ones at other times.
    for (is_named, other) in [(true, 20_000), (false, 20_000), (true, 0), (false, 0)] {
        let mut site = Site::default();
        for number in 0..600 {
            let at = number * SECOND / 20;
            site.visit(at, connection_of(number), "/a", OK);
            // Ports come again after 28,232 connections; here those of our balancer two seconds ago and before do.
            let port = port_of(number);
            let foreign = if other > 0 {
                10_000 + u16::try_from(number).unwrap()
            } else {
                port_of(spread(number) % (number - 40).max(1))
            };
            for (port, later) in [(foreign, 1_500), (port, 2_000)] {
                let line = if is_named {
                    site.asked(at + later, "/a", OK, Some(port))
                } else {
                    ending(&site, at + later, "/a", &port.to_string())
                };
                site.put(at + later, line);
            }
        }
        let out = site.out(1_000 * SECOND);
        let what = format!("{is_named} {other}");
        let ours = (0..600).zip(out.iter().skip(1).step_by(2));
        let wrong: Vec<_> =
            ours.clone().filter(|(number, it)| it.0 != client_of(*number)).collect();
        assert!(wrong.is_empty(), "{what} {wrong:?}");
        assert!(ours.filter(|(_, it)| it.1 == Certainty::Exact).count() >= 598, "{what}");
        let foreign: Vec<_> = out.iter().step_by(2).skip(if other > 0 { 2 } else { 41 }).collect();
        let named = foreign.iter().filter(|it| it.1 != Certainty::Unmatched).count();
        assert_eq!(named, 0, "{what}");
    }
}

#[test]
fn a_port_of_a_connection_that_was_just_closed_is_no_key_to_another_request() {
    // As `mergelogs` reads: whole seconds, and lines wait for three.
    let mut site =
        Site::new(JoinSettings { wait: Duration::from_secs(3), ..JoinSettings::default() });
    for number in 0..600 {
        let at = number * SECOND / 20;
        site.visit(at, connection_of(number), "/a", OK);
        let asked = |site: &Site, url, agent: &str, number| LoggedLine {
            user_agent: Some(text_hash(agent.as_bytes())),
            ..in_whole_seconds(site.asked(at, url, OK, Some(port_of(number))))
        };
        let own = asked(&site, "/a", "agent", number);
        // Another balancer uses a port of one and a half seconds ago, or a line comes twice.
        let other = match number % 4 {
            0 => asked(&site, "/b", "agent", (number - 30).max(0)),
            1 => asked(&site, "/a", "other", (number - 30).max(0)),
            2 => asked(&site, "/a", "agent", (number - 30).max(0)),
            _ => own,
        };
        site.put(at + 2_000, own);
        site.put(at + 2_000, other);
    }
    let out = site.out(1_000 * SECOND);
    for (number, pair) in (0..600).zip(out.chunks(2)) {
        assert_eq!(pair[0], (client_of(number), EXACT.0, EXACT.1), "{number}");
        let expected = if number % 4 == 3 { client_of(number) } else { 0 };
        assert!(number < 30 || pair[1].0 == expected, "{number}: {:?}", pair[1]);
    }
}

#[test]
fn a_port_that_opens_only_after_the_line_is_no_exact_key() {
    // As `mergelogs` reads; some lines of another balancer have a port 1.1 s before ours.
    for (url, is_named) in [("/b", true), ("/b", false), ("/a", true), ("/a", false)] {
        let wait = Duration::from_secs(3);
        let mut site = Site::new(JoinSettings { wait, ..JoinSettings::default() });
        for number in 0..600 {
            let at = number * SECOND / 20;
            site.visit(at, connection_of(number), "/a", OK);
            let mut line = |url, port: u16| {
                let asked = if is_named {
                    site.asked(at, url, OK, Some(port))
                } else {
                    ending(&site, at, url, &port.to_string())
                };
                site.put(at + 2_000, in_whole_seconds(asked));
            };
            let foreign = if number % 60 == 0 { port_of(number + 22) } else { 10_000 };
            line(url, foreign);
            line("/a", port_of(number));
        }
        let out = site.out(1_000 * SECOND);
        for (number, pair) in (0..600).zip(out.chunks(2)).skip(100) {
            let what = format!("{url} {is_named} {number}: {pair:?}");
            assert_ne!(pair[0].1, Certainty::Exact, "{what}");
            assert_eq!(pair[1].0, client_of(number), "{what}");
            let is_claimed = url == "/a" && number % 60 == 22;
            assert!(is_claimed || pair[1].1 == Certainty::Exact, "{what}");
        }
    }
}

#[test]
fn a_late_line_has_the_connection_with_its_request_and_not_the_last_one_of_the_port() {
    let mut site = Site::default();
    for number in 0..100 {
        let at = number * SECOND / 10;
        site.visit(at, connection_of(number), "/a", OK);
        site.line(at + 2_000, "/a", OK, Some(port_of(number)));
    }
    let (at, first) = (20 * SECOND, connection(500, 7, 2_000));
    site.visit(at, first, "/first", OK);
    let second = connection(501, 8, 2_000);
    site.opened(at + 5 * SECOND, second);
    site.request(at + 5 * SECOND + 1, second, 1, "/second");
    site.ended(at + 6 * SECOND, second, 1, OK);
    // The log was read only now.
    for url in ["/first", "/second", "/third"] {
        site.line(at + 17 * SECOND, url, OK, Some(2_000));
    }
    site.closed(at + 20 * SECOND, second);
    let out = site.out(200 * SECOND);
    assert_eq!(out[100], (7, EXACT.0, EXACT.1));
    assert_eq!(out[101], (8, EXACT.0, EXACT.1));
    assert_ne!(out[102].1, Certainty::Exact, "no record has the request");
}

#[test]
fn a_port_without_requests_is_no_exact_key_in_doubt_of_another_balancer() {
    let wait = Duration::from_secs(3);
    let mut site = Site::new(JoinSettings { wait, ..JoinSettings::default() });
    for number in 0..600 {
        let (at, of) = (number * SECOND / 20, connection_of(number));
        site.opened(at, of);
        site.closed(at + 900, of);
        let line = |site: &Site, port| site.asked(at + 1_000, "/a", OK, Some(port));
        let own = line(&site, port_of(number));
        site.put(at + 1_000, if number % 2 == 0 { own } else { in_whole_seconds(own) });
        // Lines of another balancer with a port of no connection, or of one that was just closed.
        let foreign = if number % 10 == 9 { port_of(number - 2) } else { 10_000 };
        let foreign = in_whole_seconds(line(&site, foreign));
        site.put(at + 1_000, foreign);
    }
    let out = site.out(1_000 * SECOND);
    for (number, pair) in (0..600).zip(out.chunks(2)).skip(100) {
        assert_eq!(pair[0].0, client_of(number));
        let certainty = if number % 2 == 0 { Certainty::Exact } else { Certainty::Likely };
        assert_eq!(pair[0].1, certainty, "{number}");
        assert_ne!(pair[1].1, Certainty::Exact, "{number}");
    }
}

#[test]
fn a_format_that_logs_requests_otherwise_has_exact_ports_all_the_same() {
    let mut site = Site::default();
    for number in 0..100 {
        let at = number * SECOND / 20;
        site.visit(at, connection_of(number), "/a", OK);
        site.line(at + 2_000, "/index.html", OK, Some(port_of(number)));
    }
    let out = site.out(1_000 * SECOND);
    let exact =
        (0..100).zip(&out).filter(|&(number, it)| *it == (client_of(number), EXACT.0, EXACT.1));
    assert!(exact.count() >= 80);
}

#[test]
fn ports_that_are_translated_on_the_way_are_no_keys() {
    let mut site = Site::default();
    for number in 0..200 {
        let (at, url) = (number * SECOND / 20, format!("/{number}"));
        site.visit(at, connection_of(number), &url, OK);
        site.line(at + 2_000, &url, OK, Some(port_of(number) ^ 0x1555));
    }
    let out = site.out(1_000 * SECOND);
    let right = (0..200).zip(&out).filter(|&(number, it)| it.0 == client_of(number)).count();
    assert_eq!(right, 200);
}

#[test]
fn a_line_long_before_its_port_was_opened_is_of_another_balancer() {
    let wait = Duration::from_secs(4);
    let mut site = Site::new(JoinSettings { wait, ..JoinSettings::default() });
    for number in 0..40 {
        let at = number * SECOND;
        site.visit(at, connection_of(number), "/a", OK);
        site.line(at + 2_000, "/a", OK, Some(port_of(number)));
    }
    let (at, of) = (100 * SECOND, connection_of(77));
    site.line(at, "/a", OK, Some(port_of(77)));
    site.visit(at + 5 * SECOND / 2, of, "/a", OK);
    site.line(at + 5 * SECOND / 2 + 2_000, "/a", OK, Some(port_of(77)));
    let out = site.out(200 * SECOND);
    assert_eq!((out[40].0, out[40].1), (0, Certainty::Unmatched));
    assert_eq!(out[41], (of.client(), EXACT.0, EXACT.1));
}

#[test]
fn a_port_that_no_record_names_changes_no_client() {
    let run = |has_port: bool| {
        let mut site = Site::default();
        for number in 0..400 {
            let at = number * SECOND / 200;
            let client = u8::try_from(number % 40).unwrap() + 1;
            let of = connection(number.unsigned_abs() + 1, client, 0);
            site.opened(at, of);
            site.request(at + 1, of, 1, "/a");
            site.ended(at + 1_000, of, 1, OK);
            let port = has_port.then(|| u16::try_from(2_000 + number).unwrap());
            let line = in_whole_seconds(site.asked(at + 1_000, "/a", OK, port));
            site.put(at + 1_000, line);
        }
        site.out(1_000 * SECOND)
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn a_line_of_another_address_than_the_balancers_is_not_of_its_port() {
    let mut site = Site::default();
    for number in 0..200 {
        let at = number * SECOND / 20;
        site.visit(at, connection_of(number), "/a", OK);
        // A balancer without records uses the same ports at the same time.
        for (name, url, later) in [("10.0.0.8", "/b", 1_400), ("10.0.0.9", "/a", 1_500)] {
            let line = site.asked(at + later, url, OK, Some(port_of(number)));
            let sender = Some(text_hash(name.as_bytes()));
            site.put(at + later, LoggedLine { sender, ..line });
        }
    }
    let out = site.out(1_000 * SECOND);
    for (number, pair) in (0..200).zip(out.chunks(2)).skip(1) {
        assert_eq!(pair[0].1, Certainty::Unmatched, "{number}");
        assert_eq!(pair[1], (client_of(number), EXACT.0, EXACT.1), "{number}");
    }
}

#[test]
fn where_lines_name_a_gateway_ports_are_keys_all_the_same() {
    let mut site = Site::default();
    for number in 0..200 {
        let at = number * SECOND / 20;
        site.visit(at, connection_of(number), "/a", OK);
        let line = site.asked(at + 1_500, "/a", OK, Some(port_of(number)));
        // Later the network translates addresses.
        let name = if number < 40 { "10.0.0.9" } else { "172.17.0.1" };
        site.put(at + 1_500, LoggedLine { sender: Some(text_hash(name.as_bytes())), ..line });
    }
    let exact = site.out(1_000 * SECOND).iter().filter(|it| it.1 == Certainty::Exact).count();
    assert_eq!(exact, 200 - 7);
}
