//! HAProxy as the balancer, of Debian: what it logs is read while it happens, by UDP syslog, and afterwards,
//! from its log, as `docs/guide/behind-haproxy-and-others.md` has it.

use pen_bench::accuracy::ours::{Scores, live_behind, offline_behind};
use pen_bench::accuracy::{ROWS, Row};
use pen_bench::stage::WebServerKind::{Apache, Nginx};
use pen_bench::stage::{HaproxyLogMode, Make, Score, sibling};

use crate::support::{Road, distinct_visits, web};

const NAMES: [&str; 4] = ["--server", "app/web1=127.0.1.1", "--server", "web2=127.0.1.2"];

/// Its standard lines name no server's address, but no two requests are alike.
#[test]
fn standard_lines_of_requests_name_the_clients_of_distinct_requests() {
    let mut road = Road::to(&sibling("penlogd").unwrap(), &NAMES).unwrap();
    let ours = sibling("penlog").unwrap();
    let webs = [
        web(Nginx, 1, vec![road.ship(&ours, 1).unwrap()]),
        web(Apache, 2, vec![road.ship(&ours, 2).unwrap()]),
    ];
    let make = Make::Haproxy(HaproxyLogMode::Http);
    road.travel_behind(make, &webs, &distinct_visits(60)).unwrap().assert_all_right();
}

#[test]
fn with_its_ports_lines_that_have_the_peers_port_are_exact_while_it_happens() {
    let found =
        live_behind(Make::Haproxy(HaproxyLogMode::HttpPorts), row("keep-alive"), 300, 3).unwrap();
    assert_right_by_port(&found);
}

#[test]
fn with_its_ports_lines_that_have_the_peers_port_are_exact_afterwards() {
    let found = offline_behind(Make::Haproxy(HaproxyLogMode::HttpPorts), row("keep-alive"), 300, 3)
        .unwrap();
    assert_right_by_port(&found);
}

#[test]
fn connections_with_their_ports_are_exact_whatever_is_asked_on_them() {
    let make = Make::Haproxy(HaproxyLogMode::TcpPorts);
    for name in ["keep-alive", "tls"] {
        assert_exact(live_behind(make, row(name), 200, 3).unwrap().of("port"));
        assert_exact(offline_behind(make, row(name), 200, 3).unwrap().of("port"));
    }
}

/// Without ports a line of a connection says nothing of requests: nobody is named wrongly for sure.
#[test]
fn connections_without_ports_name_nobody_for_sure_who_was_another() {
    let make = Make::Haproxy(HaproxyLogMode::Tcp);
    for found in [
        live_behind(make, row("single"), 100, 3).unwrap(),
        offline_behind(make, row("single"), 100, 3).unwrap(),
    ] {
        for (_, score) in found.named() {
            assert_eq!((score.written, score.certain_wrong), (score.lines, 0), "{score:?}");
        }
    }
}

fn assert_right_by_port(found: &Scores) {
    let port = found.of("port");
    // Where several clients ask for the same over one connection within a second, order decides.
    assert_eq!((port.right, port.exact_wrong), (port.lines, 0), "{port:?}");
    assert!(port.exact * 2 > port.lines, "{port:?}");
    for (name, score) in found.named() {
        // In 27 runs 99.3 to 100 % of combined lines were right, and of common ones 96 to 100 %, but 83 % once: alike
        // lines are told by their order, and a record that is late shifts those behind it.
        let per_cent = if name == "common" { 75 } else { 98 };
        assert!(score.right * 100 >= score.lines * per_cent, "{name}: {score:?}");
        assert_eq!((score.lost(), score.doubled, score.strange), (0, 0, 0), "{score:?}");
        assert_eq!(score.certain_wrong, 0, "{score:?}");
    }
}

fn assert_exact(score: &Score) {
    assert!(score.lines > 0);
    assert_eq!((score.exact, score.exact_wrong), (score.lines, 0), "{score:?}");
    assert_eq!((score.lost(), score.doubled, score.strange), (0, 0, 0), "{score:?}");
}

fn row(name: &str) -> &'static Row {
    ROWS.iter().find(|row| row.name == name).expect("the row is in the table")
}
