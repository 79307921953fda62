//! The engine with ids of requests that another balancer gives and logs.

use super::foreign::Site;
use super::*;
use crate::attribution::LoggedRequestId;
use crate::mapping::third_party_log::ThirdPartySpec;
use crate::request_id::RequestId;

const MILLI: i64 = 1_000;
const SECOND: i64 = 1_000_000;
const FORMAT: &str =
    r#"$remote_addr [$msec] "$request" $status $upstream_addr $request_time $request_id"#;

pub(super) fn site() -> Site {
    Site::new(&ThirdPartySpec::parse(FORMAT).unwrap())
}

pub(super) fn id(number: u32) -> String {
    format!("{:032x}", u128::from(number) * 0x1234_5678_9abc_def1_0f2e_3d4c)
}

impl Site {
    pub(super) fn record(&mut self, at: i64, client: u8, url: &str, id: &str) {
        self.passage(at, &passage(client, url, id));
    }

    pub(super) fn line_with(&mut self, at: i64, url: &str, id: &str) {
        let line = self.logged_with(at, url, id);
        self.put(at, line);
    }

    fn logged_with(&self, at: i64, url: &str, id: &str) -> LoggedLine {
        let given = RequestId::of(id.as_bytes());
        let request_id = given.map_or(LoggedRequestId::Absent, LoggedRequestId::Given);
        LoggedLine { request_id, ..self.logged(at, url) }
    }
}

fn passage(client: u8, url: &str, id: &str) -> String {
    format!("192.0.2.{client} [1790000000.000] \"GET {url} HTTP/1.1\" 200 10.0.0.1:80 0.003 {id}")
}

fn by_id(client: u8, certainty: Certainty) -> Out {
    (client, certainty, Reason::RequestId)
}

#[test]
fn equal_requests_are_told_apart_by_their_ids_in_any_order() {
    for record_first in [true, false] {
        let mut site = site();
        let mut expected = Vec::new();
        for round in 0..20_u8 {
            let at = i64::from(round) * 30 * MILLI;
            let clients = [3 * round + 1, 3 * round + 2, 3 * round + 3];
            let records = |site: &mut Site| {
                for client in clients {
                    site.record(at + MILLI, client, "/", &id(client.into()));
                }
            };
            if record_first {
                records(&mut site);
            }
            for client in clients.into_iter().rev() {
                site.line_with(at + 2 * MILLI, "/", &id(client.into()));
                expected.push(by_id(client, Certainty::Exact));
            }
            if !record_first {
                records(&mut site);
            }
        }
        assert_eq!(site.out(), expected, "{record_first}");
    }
}

#[test]
fn ids_that_come_before_the_first_decision_are_remembered() {
    let mut site = site();
    for client in 1..=30_u8 {
        let at = 1_000 * SECOND + i64::from(client) * MILLI;
        let line = site.logged_with(at, "/", &id(client.into()));
        site.put_at_once(line);
        site.passage_at_once(at + MILLI, &passage(client, "/", &id(client.into())));
    }
    // Others come while the first ones wait.
    for client in 31..=60_u8 {
        let at = 1_000 * SECOND + i64::from(client) * MILLI;
        site.line_with(at, "/", &id(client.into()));
        site.record(at + MILLI, client, "/", &id(client.into()));
    }
    let expected: Vec<_> = (1..=60).map(|client| by_id(client, Certainty::Exact)).collect();
    assert_eq!(site.out(), expected);
}

#[test]
fn half_of_the_lines_may_have_ids_of_a_balancer_without_records() {
    let mut site = site();
    let mut expected = Vec::new();
    for client in 1..=200_u8 {
        let at = i64::from(client) * 20 * MILLI;
        // Two of three come by the other balancer.
        if client % 3 == 0 {
            site.record(at, client, "/", &id(client.into()));
            expected.push(client);
        } else {
            expected.push(0);
        }
        site.line_with(at + MILLI, "/", &id(client.into()));
    }
    let clients: Vec<u8> = site.out().iter().map(|it| it.0).collect();
    assert_eq!(clients[60..], expected[60..]);
}

#[test]
fn an_id_that_a_client_sends_again_makes_no_line_exact() {
    let mut site = site();
    for client in 1..=20_u8 {
        let at = i64::from(client) * SECOND;
        site.record(at, client, "/", &id(client.into()));
        site.line_with(at, "/", &id(client.into()));
    }
    // Another client sends the id of the last request: the balancer passes it on.
    site.record(20 * SECOND + MILLI, 99, "/", &id(20));
    site.line_with(20 * SECOND + MILLI, "/", &id(20));
    for client in 31..=40_u8 {
        let at = i64::from(client) * SECOND;
        site.record(at, client, "/", &id(client.into()));
        site.line_with(at, "/", &id(client.into()));
    }
    let out = site.out();
    assert!(out[..19].iter().all(|it| it.1 == Certainty::Exact), "{out:?}");
    assert!(out[19..].iter().all(|it| it.1 != Certainty::Exact), "{out:?}");
    let clients: Vec<u8> = out[21..].iter().map(|it| it.0).collect();
    assert_eq!(clients, (31..=40).collect::<Vec<_>>());
}

#[test]
fn a_line_with_the_id_of_another_line_is_not_exact() {
    let mut site = site();
    for client in 1..=20_u8 {
        let at = i64::from(client) * SECOND;
        site.record(at, client, "/", &id(client.into()));
        site.line_with(at, "/", &id(client.into()));
    }
    // A forged id and a request within the request come with the same id as the last line.
    let at = 20 * SECOND + MILLI;
    site.line_with(at, "/", &id(20));
    site.line_with(at, "/auth", &id(20));
    let out = site.out();
    assert!(out[..19].iter().all(|it| it.1 == Certainty::Exact), "{out:?}");
    assert_eq!(out[19], by_id(20, Certainty::Likely));
    let unknown = (0, Certainty::Unmatched, Reason::UnknownId);
    assert_eq!(out[20..], [unknown, unknown]);
}

#[test]
fn a_line_whose_id_no_record_has_takes_no_mapping_of_another_id() {
    let mut site = site();
    for client in 1..=40_u8 {
        let at = i64::from(client) * 20 * MILLI;
        site.record(at, client, "/", &id(client.into()));
        // Lines of a check past the balancer, and of requests whose record was lost.
        match client {
            30 => site.line_with(at, "/", "-"),
            35 => site.line_with(at, "/", &id(1_035)),
            _ => site.line_with(at, "/", &id(client.into())),
        }
    }
    let unknown = (0, Certainty::Unmatched, Reason::UnknownId);
    for (at, out) in site.out().into_iter().enumerate() {
        let client = u8::try_from(at).unwrap() + 1;
        let expected =
            if matches!(client, 30 | 35) { unknown } else { by_id(client, Certainty::Exact) };
        assert_eq!(out, expected, "{client}");
    }
}

#[test]
fn ids_of_the_servers_own_making_change_nothing() {
    let with_ids = |has_ids: bool| {
        let mut site = site();
        for client in 1..=60_u8 {
            let at = i64::from(client) * 50 * MILLI;
            let url = format!("/{}", client % 7);
            site.record(at, client, &url, &id(client.into()));
            match has_ids {
                true => site.line_with(at + MILLI, &url, &id(5_000 + u32::from(client))),
                false => site.line(at + MILLI, &url, None),
            }
        }
        site.out()
    };
    assert_eq!(with_ids(true), with_ids(false));
}

#[test]
fn a_request_that_the_balancer_rewrites_is_found_by_its_id() {
    let mut site = site();
    for client in 1..=30_u8 {
        let at = i64::from(client) * 20 * MILLI;
        site.record(at, client, "/app/", &id(client.into()));
        site.line_with(at, "/", &id(client.into()));
    }
    let out = site.out();
    assert!(out.iter().enumerate().all(|(at, it)| usize::from(it.0) == at + 1), "{out:?}");
    assert_eq!(out[29], by_id(30, Certainty::Certain));
}

#[test]
fn ids_that_only_some_clients_send_give_no_exact() {
    let mut site = site();
    for client in 1..=30_u8 {
        let at = i64::from(client) * SECOND;
        let id = if client % 3 == 0 { id(client.into()) } else { "-".to_owned() };
        site.record(at, client, "/", &id);
        site.line_with(at, "/", &id);
    }
    let out = site.out();
    assert!(out.iter().enumerate().all(|(at, it)| usize::from(it.0) == at + 1), "{out:?}");
    assert!(out.iter().all(|it| it.1 != Certainty::Exact), "{out:?}");
}
