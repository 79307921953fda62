//! Lines of another balancer, without records, among equal lines of whole seconds.

use super::exchange::{OK, SECOND, Site, connection};
use super::*;
use crate::hash::mix;

const RATE: i32 = 32;

/// A number that looks random, and is the same in each run.
fn random(number: i64, salt: u64, below: u64) -> i64 {
    let mixed = mix(mix(number.unsigned_abs(), salt * 1_000_003), 77);
    i64::try_from((mixed >> 20) % below).unwrap()
}

/// How long after the request before this one comes, as visitors do who know nothing of one another.
#[expect(clippy::cast_possible_truncation, reason = "some seconds at most")]
fn pause(number: i64) -> i64 {
    let part = f64::from(i32::try_from(random(number, 1, 1_000_000)).unwrap() + 1) / 1e6;
    2_000 + (-part.ln() * 1e6 / f64::from(RATE)) as i64
}

#[test]
fn a_guess_by_order_says_how_unsure_it_is_among_lines_without_records() {
    // One line in so many has no record, and so many per cent are right at least.
    for (every, least) in [(2, 50.0), (10, 78.0), (30, 90.0)] {
        let wait = Duration::from_secs(3);
        let mut site = Site::new(JoinSettings { wait, ..JoinSettings::default() });
        let mut clients = Vec::new();
        let (mut said, mut right, mut named) = (0.0, 0.0, 0.0);
        let mut at = 0;
        for number in 0..200 * i64::from(RATE) {
            at += pause(number);
            let client = u8::try_from(number % 250 + 1).unwrap();
            let is_recorded = random(number, 2, every) != 0;
            let is_hot = random(number, 3, 2) == 0;
            let url = if is_hot { 0 } else { random(number, 4, 60) };
            let url = format!("/{url}");
            let own = clients.len();
            clients.push(if is_recorded { client } else { 0 });
            let coarse = Timestamp::from_seconds((at + 1_000) / SECOND);
            let line = LoggedLine {
                time: coarse,
                resolution: Resolution::Second,
                user_agent: None,
                referer: None,
                ..site.asked(at, &url, OK, None)
            };
            site.engine.advance(Timestamp::from_micros(at + 2_000));
            while let Some(out) = site.engine.next_decided() {
                if let Some(ClientAddr::Ip(std::net::IpAddr::V4(ip))) = out.verdict.client {
                    let is_right = ip.octets()[3] == clients[out.payload as usize];
                    said += f64::from(out.verdict.probability) / 1_000.0;
                    right += f64::from(u8::from(is_right));
                    named += 1.0;
                }
            }
            if is_recorded {
                let of = connection(own as u64 + 1, client, 2_000);
                site.visit(at, of, &url, OK);
            }
            site.engine.line(&line, u32::try_from(own).unwrap());
        }
        let (said, right) = (said / named * 100.0, right / named * 100.0);
        assert!((said - right).abs() < 5.0, "{every}: {said:.0} said, {right:.0} right");
        assert!(right > least, "{every}: {right:.0} right");
    }
}
