//! Records and lines from senders without a key, where other senders have keys.

use super::exchange::{self, EXACT, OK, connection};
use super::*;

/// What becomes of a line that would be certain or exact.
const DOUBTED: (Certainty, Reason) = (Certainty::Likely, Reason::Unauthenticated);

#[test]
fn a_record_without_a_key_makes_its_own_line_likely_and_no_other() {
    let mut site = Site::new();
    site.mapping(0, 7, "/a");
    site.is_unauthenticated = true;
    site.mapping(1, 8, "/b");
    site.mapping(2, 9, "/c");
    site.mapping(3, 9, "/c");
    for url in ["/a", "/b", "/c", "/c", "/d"] {
        site.line(10, 1, url);
    }
    let (likely, reason) = DOUBTED;
    let expected = [
        (7, Certainty::Certain, Reason::Only),
        (8, likely, reason),
        (9, likely, reason),
        (9, likely, reason),
        (0, Certainty::Unmatched, Reason::NoMapping),
    ];
    assert_eq!(site.out(SECOND), expected);
    let counts = site.engine.counts();
    assert_eq!((counts.certain, counts.likely, counts.unauthenticated), (1, 3, 3));
}

#[test]
fn a_port_of_a_connection_without_a_key_is_no_proof() {
    for which in 0..5 {
        let mut site = exchange::Site::default();
        let records: [fn(&mut exchange::Site, exchange::Connection); 4] = [
            |site, of| site.opened(0, of),
            |site, of| site.request(1, of, 1, "/a"),
            |site, of| site.ended(1_000, of, 1, OK),
            |site, of| site.closed(1_001, of),
        ];
        for (number, record) in records.into_iter().enumerate() {
            site.is_unauthenticated = which == number;
            record(&mut site, connection(1, 7, 2_000));
        }
        site.line(1_100, "/a", OK, Some(2_000));
        let (certainty, reason) = if which == 4 { EXACT } else { DOUBTED };
        assert_eq!(site.out(9 * SECOND), [(7, certainty, reason)], "record {which}");
    }
}

#[test]
fn an_exchange_without_a_key_is_no_proof_without_the_port_either() {
    for which in 0..3 {
        let mut site = exchange::Site::default();
        let of = connection(1, 7, 2_000);
        site.is_unauthenticated = which == 0;
        site.request(1, of, 1, "/a");
        site.is_unauthenticated = which == 1;
        site.ended(1_000, of, 1, OK);
        site.line(1_100, "/a", OK, None);
        let expected = if which == 2 { (Certainty::Certain, Reason::Only) } else { DOUBTED };
        assert_eq!(site.out(9 * SECOND), [(7, expected.0, expected.1)], "record {which}");
    }
}

#[test]
fn an_id_of_a_record_without_a_key_is_no_proof() {
    for is_unauthenticated in [false, true] {
        let mut site = ids::site();
        site.is_unauthenticated = is_unauthenticated;
        for client in 1..=20 {
            site.record(i64::from(client), client, "/", &ids::id(client.into()));
            site.line_with(i64::from(client) + 1, "/", &ids::id(client.into()));
        }
        let (certainty, reason) =
            if is_unauthenticated { DOUBTED } else { (Certainty::Exact, Reason::RequestId) };
        let expected: Vec<_> = (1..=20).map(|client| (client, certainty, reason)).collect();
        assert_eq!(site.out(), expected);
    }
}

#[test]
fn a_line_without_a_key_is_likely_at_most() {
    let mut site = exchange::Site::default();
    site.visit(0, connection(1, 7, 2_000), "/a", OK);
    let line = site.asked(1_100, "/a", OK, Some(2_000));
    site.put(1_100, LoggedLine { is_unauthenticated: true, ..line });
    assert_eq!(site.out(9 * SECOND), [(7, DOUBTED.0, DOUBTED.1)]);
    assert_eq!(site.engine.counts().unauthenticated, 1);
}
