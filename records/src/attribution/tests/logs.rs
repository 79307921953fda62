//! Several logs of one server: of different formats, or of virtual hosts.

use super::exchange::{Connection, OK, SECOND, Site, connection};
use super::*;
use crate::access::TrailingNumbers;
use crate::attribution::LineOrigin;

/// A visitor of a virtual host, by number.
fn visit(number: i64) -> (Connection, String) {
    let client = u8::try_from(number % 40).unwrap() + 1;
    let port = u16::try_from(2_000 + number).unwrap();
    (connection(number.unsigned_abs() + 1, client, port), format!("agent{}", client % 12))
}

/// Two logs of a server, with headers and without, and the same URLs; lines come in the order of answers.
#[test]
fn each_log_is_compared_by_what_it_has() {
    for (urls, least) in [(1, 900), (40, 985)] {
        let mut site = Site::default();
        let mut clients = Vec::new();
        for number in 0..2_000 {
            let (at, (of, agent)) = (number * SECOND / 100, visit(number * 7));
            // A quarter of the lines is in the common log, which has URLs of its own.
            let is_common = number % 4 == 3;
            let url = format!("/{is_common}{}", number * 31 % urls);
            site.opened(at, of);
            site.request_by(at + 1, of, 1, &url, &agent);
            site.ended(at + 1_000 + number % 7 * 5_000, of, 1, OK);
            let agent = Some(text_hash(agent.as_bytes()));
            let line = site.asked(at + 40_000, &url, OK, None);
            let line = if is_common {
                LoggedLine { origin: LineOrigin(1), user_agent: None, referer: None, ..line }
            } else {
                LoggedLine { user_agent: agent, ..line }
            };
            site.put(at + 40_000, line);
            clients.push((of.client(), is_common));
        }
        let out = site.out(1_000 * SECOND);
        let combined = clients.iter().zip(&out).filter(|((_, is_common), _)| !is_common);
        let (mut right, mut all, mut certain_wrong) = (0, 0, 0);
        for ((client, _), it) in combined {
            all += 1;
            right += usize::from(it.0 == *client);
            certain_wrong += usize::from(it.0 != *client && it.1 >= Certainty::Certain);
        }
        assert!(right * 1_000 >= all * least, "{urls}: {right} of {all}");
        assert_eq!(certain_wrong, 0);
    }
}

#[test]
fn a_change_of_format_loses_no_line_that_is_held() {
    let mut site = Site::default();
    let mut clients = Vec::new();
    for number in 0..600 {
        let (at, (of, agent)) = (number * SECOND / 100, visit(number));
        let url = format!("/{}", number % 50);
        site.opened(at, of);
        site.request_by(at + 1, of, 1, &url, &agent);
        site.ended(at + 1_000, of, 1, OK);
        let line = site.asked(at + 2_000, &url, OK, None);
        let agent = Some(text_hash(agent.as_bytes()));
        // From combined to common, and back.
        let line = if (200..400).contains(&number) {
            LoggedLine { user_agent: None, referer: None, ..line }
        } else {
            LoggedLine { user_agent: agent, ..line }
        };
        site.put(at + 2_000, line);
        clients.push(of.client());
    }
    let out = site.out(1_000 * SECOND);
    let right = clients.iter().zip(&out).filter(|(client, it)| it.0 == **client).count();
    assert_eq!(right, 600);
}

/// Three virtual hosts with the same URLs. Lines of each log are in order, and the logs of a second come one after the
/// other.
#[test]
fn lines_of_virtual_hosts_are_told_by_the_host() {
    let hosts = ["shop.example", "blog.example", "www.example"];
    // How lines name their host: with the port, alone, by another name, or not at all.
    for (naming, least) in [("port", 990), ("alone", 990), ("other", 950), ("none", 950)] {
        let mut site = Site::default();
        let (mut clients, mut lines) = (Vec::new(), Vec::new());
        for number in 0..3_000 {
            let (at, (of, agent)) = (number * SECOND / 50, visit(number * 7));
            let host = usize::try_from(number * 7 % 3).unwrap();
            let url = format!("/{}", number * 31 % 20);
            site.opened(at, of);
            site.request_of(at + 1, of, &url, &agent, hosts[host]);
            site.ended(at + 1_000, of, 1, OK);
            let (host_name, alone) = match naming {
                "port" => (Some(format!("{}:80", hosts[host])), Some(hosts[host].to_owned())),
                "alone" => (Some(hosts[host].to_owned()), Some(hosts[host].to_owned())),
                "other" => (Some(format!("site{host}")), Some(format!("site{host}"))),
                _ => (None, None),
            };
            let hash = |name: Option<String>| name.map(|name| text_hash(name.as_bytes()));
            let line = LoggedLine {
                origin: LineOrigin(u32::try_from(host).unwrap()),
                user_agent: Some(text_hash(agent.as_bytes())),
                host: hash(host_name),
                host_alone: hash(alone),
                resolution: Resolution::Second,
                time: Timestamp::from_seconds((at + 1_000) / SECOND),
                ..site.asked(at, &url, OK, None)
            };
            lines.push((host, of.client(), line));
            if number % 50 == 49 {
                lines.sort_by_key(|&(host, ..)| host);
                for (_, client, line) in lines.drain(..) {
                    site.put(at + 1_001, line);
                    clients.push(client);
                }
            }
        }
        let out = site.out(1_000 * SECOND);
        let right = clients.iter().zip(&out).filter(|(client, it)| it.0 == **client).count();
        let wrong = clients
            .iter()
            .zip(&out)
            .filter(|(client, it)| it.0 != **client && it.1 >= Certainty::Certain)
            .count();
        assert!(right * 1_000 >= 3_000 * least, "{naming}: {right}");
        assert_eq!(wrong, 0, "{naming}");
    }
}

/// Lines of all formats at once, records that are lost or come late, and ports that are used again: each line comes
/// out once, in order, and no mapping is lost from the books.
#[test]
fn whatever_lines_have_each_comes_out_once() {
    for seed in 0..40_u64 {
        let mut state = seed;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut site = Site::new(JoinSettings {
            window: Duration::from_secs(1 + random(20)),
            max_mappings: 1 << random(12),
            max_lines: 1 << random(10),
            ..JoinSettings::default()
        });
        let mut at = 0;
        for number in 0..600 {
            at += i64::try_from(random(20_000)).unwrap();
            let client = u8::try_from(random(20)).unwrap() + 1;
            let port = 2_000 + u16::try_from(random(200)).unwrap();
            let of = connection(random(300), client, port);
            let (url, agent) = (format!("/{}", random(5)), format!("agent{}", random(3)));
            if random(10) > 0 {
                site.opened(at, of);
            }
            if random(10) > 0 {
                let host = format!("host{}", random(3));
                site.request_of(at + 1, of, &url, &agent, &host);
            }
            if random(10) > 0 {
                site.ended(at + 2, of, 1, OK);
            }
            if random(3) > 0 {
                site.closed(at + 3, of);
            }
            let line = site.asked(at + 4, &url, OK, None);
            let host = (random(2) > 0).then(|| text_hash(format!("host{}", random(3)).as_bytes()));
            let trailing =
                [String::new(), format!(" {port}"), format!(" 0.1 {}", 2_000 + random(300))];
            // Formats change every hundred lines or so, and some lines are odd.
            let format = if random(20) == 0 { random(8) } else { number / 100 % 8 };
            let line = LoggedLine {
                origin: LineOrigin(u32::try_from(random(3)).unwrap()),
                user_agent: (format & 1 == 0).then(|| text_hash(agent.as_bytes())),
                referer: line.referer.filter(|_| format & 2 == 0),
                server_port: Some(80).filter(|_| format & 4 == 0),
                long: line.long.filter(|_| random(30) > 0),
                trailing: TrailingNumbers::read(
                    trailing[usize::try_from(random(3)).unwrap()].as_bytes(),
                ),
                peer_port: (random(9) == 0).then_some(port),
                host,
                host_alone: host,
                ..line
            };
            site.put(at + 4, line);
        }
        site.engine.finish();
        let out = site.out(at + 1_000 * SECOND);
        assert_eq!(out.len(), 600, "{seed}");
        let counts = site.engine.counts();
        assert_eq!(counts.held, 0, "{seed}");
        site.advance(at + 2_000 * SECOND);
    }
}
