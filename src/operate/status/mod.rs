//! The state of the balancer for operators and programs, drawn from a [`Snapshot`]: an HTML page, a JSON object and
//! Prometheus metrics. [`history`] keeps samples of the last minutes; [`http`] serves all formats from threads of its
//! own, so that forwarding never waits for them.

pub mod history;
pub mod http;
pub mod json;
pub mod metrics;
pub mod page;
mod sparkline;

use crate::config::PoolServerId;
use crate::data::snapshot::{ServerSnapshot, Snapshot};

/// Returns the label of a server: its number, `emergency` or `abuse`.
fn label(id: PoolServerId) -> String {
    match id {
        PoolServerId::Slot(number) => number.to_string(),
        PoolServerId::Emergency => "emergency".to_owned(),
        PoolServerId::Abuse => "abuse".to_owned(),
    }
}

/// Returns `ADDRESS`, or `NAME (ADDRESS)` for a server that was configured by name.
fn address(server: &ServerSnapshot) -> String {
    match &server.config.name {
        Some(name) => format!("{name} ({})", server.config.addr),
        None => server.config.addr.to_string(),
    }
}

/// Returns the bytes of all servers: from clients to servers, and from servers to clients.
fn bytes(snapshot: &Snapshot) -> (u64, u64) {
    let sum = |of: fn(&ServerSnapshot) -> u64| snapshot.servers.iter().map(of).sum();
    (sum(|server| server.to_server), sum(|server| server.to_client))
}

#[cfg(test)]
pub(crate) mod samples {
    //! A snapshot with every kind of entry, for the tests of each format.

    use std::time::{Duration, UNIX_EPOCH};

    use pen_records::addr::ClientAddr;

    use crate::config::PoolServerId;
    use crate::config::{Endpoint, ServerSettings};
    use crate::data::snapshot::{
        BalancerCounters, CheckSnapshot, ClientSnapshot, ConnectionSnapshot, ConnectionStatus,
        LimitedCount, LogSnapshot, ServerSnapshot, ServerStatus, Snapshot, TlsSnapshot,
    };

    fn server(id: PoolServerId, addr: &str, state: ServerStatus, scale: u64) -> ServerSnapshot {
        let mut config = ServerSettings::new(Endpoint::Ip(addr.parse().unwrap()));
        config.soft = std::num::NonZeroU32::new(200);
        config.hard = std::num::NonZeroU32::new(250);
        ServerSnapshot {
            id,
            config,
            state,
            connections: u32::try_from(17 * scale).unwrap(),
            served: 48_211 * scale,
            failures: scale % 3,
            check: (scale < 3).then(|| CheckSnapshot {
                age: Duration::from_secs(scale),
                wrong: (state == ServerStatus::Down).then(|| "<no answer>".to_owned()),
            }),
            last_failure: (scale < 3).then_some(Duration::from_secs(75)),
            to_server: 1_234_567 * scale,
            to_client: 9_876_543_210 * scale,
        }
    }

    /// Returns servers in every status, clients and connections of every kind, and texts with markup to escape.
    pub(crate) fn busy() -> Snapshot {
        let mut named = server(PoolServerId::Slot(1), "10.0.0.2:8080", ServerStatus::Full, 9);
        named.config.name = Some("web2.<b>example</b>.net".to_owned());
        let client = |addr: &str, age, number: u32| ClientSnapshot {
            addr: ClientAddr::parse(addr.as_bytes()).unwrap(),
            age: Duration::from_secs(age),
            server: Some(PoolServerId::Slot(number)),
            connects: age * 3,
            sent: age * 123_456,
            received: age * 4_321,
        };
        let connection = |number, client: &str, stage| ConnectionSnapshot {
            number,
            client: client.to_owned(),
            client_fd: 17,
            server: Some(PoolServerId::Slot(0)),
            server_fd: Some(18),
            stage,
            age: Duration::from_secs(number),
            to_server: 500 * number,
            to_client: 70_000 * number,
        };
        Snapshot {
            time: UNIX_EPOCH + Duration::from_secs(1_795_379_000),
            uptime: Duration::from_secs(3 * 86_400 + 7_325),
            listen: vec!["0.0.0.0:80".to_owned(), "[::]:80".to_owned()],
            servers: vec![
                server(PoolServerId::Slot(0), "10.0.0.1:8080", ServerStatus::Up, 4),
                named,
                server(
                    PoolServerId::Slot(3),
                    "[2001:db8::7]:8080",
                    ServerStatus::Blacklisted(Duration::from_secs(21)),
                    1,
                ),
                server(PoolServerId::Slot(4), "10.0.0.5:8080", ServerStatus::Draining, 2),
                server(PoolServerId::Slot(5), "10.0.0.6:8080", ServerStatus::Down, 2),
                server(PoolServerId::Emergency, "10.0.0.99:8080", ServerStatus::Up, 0),
            ],
            current: 1,
            clients_known: LimitedCount { now: 1_377, most: Some(2_048) },
            clients: vec![
                client("203.0.113.7", 2, 0),
                client("2001:db8:77::1234:5678", 31, 1),
                client("unix:", 4_000, 0),
            ],
            connections_open: LimitedCount { now: 272, most: Some(500) },
            connections: vec![
                connection(48_201, "203.0.113.7:51234", ConnectionStatus::Open),
                connection(48_377, "[2001:db8:77::1234:5678]:51234", ConnectionStatus::HalfClosed),
                connection(48_378, "198.51.100.9:4711", ConnectionStatus::Connecting),
            ],
            counts: BalancerCounters {
                accepted: 482_110,
                denied: 12,
                unserved: 3,
                failovers: 5,
                lost_datagrams: 0,
                kernel_drops: Some(31),
                accept_failures: 0,
                http_refused: 2,
                not_http: 1,
                ended: vec![("client closed", 400_000), ("idle", 5)],
            },
            mapping_log: Some(LogSnapshot {
                target: "loghost:10000".to_owned(),
                made: 964_220,
                written: 964_000,
                dropped: 220,
                trouble: Some("no collector answers at <loghost>".to_owned()),
            }),
            access_log: Some(LogSnapshot {
                target: "/var/log/pen/access.log".to_owned(),
                made: 1_000,
                written: 1_000,
                dropped: 0,
                trouble: None,
            }),
            tls: Some(TlsSnapshot {
                clients: true,
                servers: false,
                certificates: 3,
                age: Duration::from_secs(7_200),
                expires: Some((
                    "/etc/pen/a<b>.crt".to_owned(),
                    UNIX_EPOCH + Duration::from_secs(1_795_379_000 + 9 * 86_400),
                )),
                handshakes: 480_000,
                failed: 17,
                trouble: Some("/etc/pen/b.crt: expected <PEM>".to_owned()),
            }),
        }
    }
}
