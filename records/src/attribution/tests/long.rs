//! Exchanges that go on for longer than the window, and lines that never have a mapping.

use super::exchange::{Connection, OK, SECOND, Site, connection};
use super::*;

fn settings(window: u64, max_mappings: usize) -> JoinSettings {
    let window = Duration::from_secs(window);
    JoinSettings { window, max_mappings, ..JoinSettings::default() }
}

fn download(number: u64) -> Connection {
    let (client, port) = (u8::try_from(number).unwrap(), u16::try_from(number).unwrap());
    connection(1_000 + number, 100 + client, 4_000 + port)
}

#[test]
fn an_exchange_longer_than_the_window_is_kept_while_its_connection_is_open() {
    for has_end in [true, false] {
        let mut site = Site::new(settings(5, 1 << 20));
        // Downloads of 15 s, among many short requests for the same.
        for number in 0..40 {
            let of = download(number);
            site.opened(1, of);
            site.request(2, of, 1, "/long");
        }
        for second in 0..15 {
            let of = connection(second, 1, 2_000 + u16::try_from(second).unwrap());
            let at = i64::try_from(second).unwrap() * SECOND + 10;
            site.visit(at, of, "/short", OK);
            site.line(at + 2_000, "/short", OK, None);
        }
        for number in 0..40 {
            let at = 15 * SECOND + i64::try_from(number).unwrap() * 100_000;
            let of = download(number);
            if has_end {
                site.ended(at, of, 1, OK);
            }
            site.closed(at + 1, of);
            site.line(at + 1_000, "/long", OK, None);
        }
        let out = site.clients(60 * SECOND);
        assert_eq!(out[15..], (100..140).collect::<Vec<_>>(), "{has_end}");
        let counts = site.engine.counts();
        assert_eq!((counts.expired, counts.outstanding), (0, 0));
    }
}

#[test]
fn what_is_kept_beyond_the_window_is_bounded_and_ends_with_its_connection() {
    let mut site = Site::new(settings(5, 80));
    let of = |number: u16| connection(number.into(), 1, 2_000 + number);
    for number in 0..100 {
        let at = i64::from(number) * SECOND;
        site.opened(at, of(number));
        site.request(at + 1, of(number), 1, "/long");
    }
    let counts = site.engine.counts();
    assert!((6..=30).contains(&counts.outstanding), "three eighths of 80 at most: {counts:?}");
    for number in 0..100 {
        site.closed(200 * SECOND, of(number));
    }
    for second in 201..300 {
        site.advance(second * SECOND);
    }
    assert_eq!(site.engine.counts().outstanding, 0);
}

#[test]
fn a_request_behind_another_on_its_connection_ends_the_exchange_before() {
    let mut site = Site::new(settings(5, 1 << 20));
    let of = connection(1, 1, 2_000);
    site.opened(0, of);
    // The end of the first is lost.
    site.request(1, of, 1, "/a");
    site.request(SECOND, of, 2, "/a");
    for second in 2..30 {
        site.advance(second * SECOND);
    }
    assert_eq!(site.engine.counts().outstanding, 1);
}

#[test]
fn health_checks_cost_the_lines_of_visitors_nothing() {
    for (agent, certain) in [("pen-check", 295), ("monitor/1.0", 200)] {
        for url in ["/health", "/a0"] {
            let mut site = Site::default();
            let mut visits = Vec::new();
            for number in 0..400_i64 {
                let at = number * SECOND / 4;
                let (client, url_asked) =
                    (u8::try_from(number % 90).unwrap() + 1, format!("/a{number}"));
                let of = connection(number.unsigned_abs() + 1, client, 2_000);
                if number % 4 == 0 {
                    let check = LoggedLine {
                        user_agent: Some(text_hash(agent.as_bytes())),
                        ..site.asked(at, url, OK, None)
                    };
                    site.put(at, check);
                    visits.push(None);
                } else {
                    site.visit(at, of, &url_asked, OK);
                    site.line(at + 2_000, &url_asked, OK, None);
                    visits.push(Some(client));
                }
            }
            let out = site.out(1_000 * SECOND);
            for (visit, it) in visits.iter().zip(&out) {
                assert_eq!(visit.unwrap_or(0), it.0, "{agent} {url}");
            }
            let found = out.iter().filter(|it| it.1 == Certainty::Certain).count();
            assert!(found >= certain, "{agent} {url}: {found}");
        }
    }
}
