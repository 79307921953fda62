//! Clients are written as their networks or under pseudonyms, wherever they show; the join does not mind.

use pen_records::addr::ClientAddr;
use pen_records::privacy::Privacy;
use pen_records::rewrite::UnmatchedPolicy;

use super::*;

const WEB: &str = "127.0.0.2:5000";

/// What is written of three lines: one with a client, one without, and one that came past the balancer.
fn written(privacy: Option<Privacy>, unmatched: UnmatchedPolicy) -> (Vec<String>, String) {
    let rewrite = RewritePolicy { unmatched, ..RewritePolicy::default() };
    let settings = CollectorSettings {
        held_bytes: 1 << 20,
        servers: 8,
        senders: 100,
        balancers: 16,
        privacy,
        rewrite,
        ..CollectorSettings::default()
    };
    let mut collector = Collector::new(settings);
    let (mut out, mut explain) = (Vec::new(), Vec::new());
    let at = Timestamp::from_seconds(0);
    let line = |client: &str, url: &str| {
        format!("{client} - - [22/Nov/2026:20:23:20 +0000] \"GET {url} HTTP/1.1\" 200 5\n")
    };
    for datagram in [
        "+ 192.0.2.77 127.0.0.2 GET /a HTTP/1.1\n".to_owned(),
        line("10.0.0.9", "/a"),
        line("10.0.0.9", "/b"),
        line("2001:db8:1:2::9", "/c"),
        "not understood of 198.51.100.7\n".to_owned(),
    ] {
        let web = WEB.parse().unwrap();
        assert!(collector.receive(web, datagram.as_bytes(), at.into()).is_none());
    }
    collector.finish(at, &mut out, Some(&mut explain));
    let first = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let clients = String::from_utf8(out).unwrap().lines().map(first).collect();
    (clients, String::from_utf8(explain).unwrap())
}

#[test]
fn no_client_is_written_whole() {
    let (clients, explain) = written(Some(Privacy::cut(24, 48)), UnmatchedPolicy::Keep);
    assert_eq!(clients, ["192.0.2.0", "10.0.0.0", "2001:db8:1::", "not"]);
    for whole in ["192.0.2.77", "10.0.0.9", "2001:db8:1:2::9"] {
        assert!(!explain.contains(whole), "{explain}");
    }
    assert!(explain.contains("\t10.0.0.0\t192.0.2.0\t127.0.0.2\n"), "{explain}");
}

#[test]
fn pseudonyms_are_the_same_wherever_a_client_shows() {
    let key = b"a key of more than sixteen bytes";
    let mut privacy = Privacy::keyed(key).unwrap();
    let expected = privacy.client(ClientAddr::parse(b"192.0.2.77").unwrap()).to_string();
    let (clients, explain) = written(Some(privacy), UnmatchedPolicy::Dash);
    assert_eq!((clients[0].as_str(), clients[1].as_str()), (expected.as_str(), "-"));
    assert!(explain.contains(&expected) && !explain.contains("192.0.2.77"), "{explain}");
}

#[test]
fn a_server_is_no_client() {
    let (clients, _) = written(Some(Privacy::cut(0, 0)), UnmatchedPolicy::Server);
    assert_eq!(clients[..2], ["0.0.0.0", "127.0.0.2"]);
}
