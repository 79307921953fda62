//! The state as one JSON object. Times are seconds with three decimals; a value that does not exist is `null`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::config::{PoolServerId, ServerSettings, limit};
use crate::data::snapshot::{
    CheckSnapshot, ClientSnapshot, ConnectionSnapshot, LimitedCount, LogSnapshot, ServerSnapshot,
    ServerStatus, Snapshot, TlsSnapshot,
};

/// Returns the state as JSON, with a line end.
#[must_use]
pub fn write(snapshot: &Snapshot) -> String {
    let status = StatusJson::new(snapshot);
    serde_json::to_string(&status).expect("all keys are text and no value fails") + "\n"
}

/// The whole object. Fields are written in the order of their declaration, which scripts may rely on.
#[derive(Serialize)]
struct StatusJson<'a> {
    version: &'static str,
    time: JsonSeconds,
    uptime: JsonSeconds,
    listen: &'a [String],
    connections: LimitedCountJson,
    accepted: u64,
    denied: u64,
    unserved: u64,
    failovers: u64,
    lost_datagrams: u64,
    kernel_drops: Option<u64>,
    accept_failures: u64,
    http_refused: u64,
    not_http: u64,
    #[serde(serialize_with = "as_object")]
    ended: &'a [(&'static str, u64)],
    current: u32,
    servers: Vec<ServerJson<'a>>,
    clients: LimitedCountJson,
    client_list: Vec<ClientJson>,
    connection_list: Vec<ConnectionJson<'a>>,
    tls: Option<TlsJson<'a>>,
    mapping_log: Option<LogJson<'a>>,
    access_log: Option<LogJson<'a>>,
}

impl<'a> StatusJson<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let counts = &snapshot.counts;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            time: JsonSeconds(snapshot.time.duration_since(UNIX_EPOCH).unwrap_or_default()),
            uptime: JsonSeconds(snapshot.uptime),
            listen: &snapshot.listen,
            connections: LimitedCountJson::new(snapshot.connections_open),
            accepted: counts.accepted,
            denied: counts.denied,
            unserved: counts.unserved,
            failovers: counts.failovers,
            lost_datagrams: counts.lost_datagrams,
            kernel_drops: counts.kernel_drops,
            accept_failures: counts.accept_failures,
            http_refused: counts.http_refused,
            not_http: counts.not_http,
            ended: &counts.ended,
            current: snapshot.current,
            servers: snapshot.servers.iter().map(ServerJson::new).collect(),
            clients: LimitedCountJson::new(snapshot.clients_known),
            client_list: snapshot.clients.iter().map(ClientJson::new).collect(),
            connection_list: snapshot.connections.iter().map(ConnectionJson::new).collect(),
            tls: snapshot.tls.as_ref().map(|tls| TlsJson::new(tls, snapshot.time)),
            mapping_log: snapshot.mapping_log.as_ref().map(LogJson::new),
            access_log: snapshot.access_log.as_ref().map(LogJson::new),
        }
    }
}

#[derive(Serialize)]
struct ServerJson<'a> {
    server: ServerIdJson,
    host: String,
    port: u16,
    address: String,
    state: &'static str,
    blacklisted_for: Option<JsonSeconds>,
    connections: u32,
    max: u32,
    hard: u32,
    weight: u32,
    prio: u32,
    acl: u8,
    served: u64,
    failures: u64,
    last_failure: Option<JsonSeconds>,
    check: Option<CheckJson<'a>>,
    from_clients: u64,
    to_clients: u64,
}

impl<'a> ServerJson<'a> {
    fn new(server: &'a ServerSnapshot) -> Self {
        let config: &ServerSettings = &server.config;
        let (host, port) = config.host_and_port();
        let blacklisted_for = match server.state {
            ServerStatus::Blacklisted(left) => Some(JsonSeconds(left)),
            ServerStatus::Up | ServerStatus::Full | ServerStatus::Draining | ServerStatus::Down => {
                None
            }
        };
        Self {
            server: ServerIdJson::new(server.id),
            host,
            port,
            address: config.addr.to_string(),
            state: server.state.word(),
            blacklisted_for,
            connections: server.connections,
            max: limit(config.soft),
            hard: limit(config.hard),
            weight: config.weight,
            prio: config.prio,
            acl: config.acl,
            served: server.served,
            failures: server.failures,
            last_failure: server.last_failure.map(JsonSeconds),
            check: server.check.as_ref().map(CheckJson::new),
            from_clients: server.to_server,
            to_clients: server.to_client,
        }
    }
}

#[derive(Serialize)]
struct CheckJson<'a> {
    age: JsonSeconds,
    ok: bool,
    wrong: Option<&'a str>,
}

impl<'a> CheckJson<'a> {
    fn new(check: &'a CheckSnapshot) -> Self {
        let wrong = check.wrong.as_deref();
        Self { age: JsonSeconds(check.age), ok: wrong.is_none(), wrong }
    }
}

#[derive(Serialize)]
struct ClientJson {
    address: String,
    age: JsonSeconds,
    server: Option<ServerIdJson>,
    connects: u64,
    sent: u64,
    received: u64,
}

impl ClientJson {
    fn new(client: &ClientSnapshot) -> Self {
        Self {
            address: client.addr.to_string(),
            age: JsonSeconds(client.age),
            server: client.server.map(ServerIdJson::new),
            connects: client.connects,
            sent: client.sent,
            received: client.received,
        }
    }
}

#[derive(Serialize)]
struct ConnectionJson<'a> {
    connection: u64,
    client: &'a str,
    server: Option<ServerIdJson>,
    state: &'static str,
    age: JsonSeconds,
    from_client: u64,
    to_client: u64,
}

impl<'a> ConnectionJson<'a> {
    fn new(connection: &'a ConnectionSnapshot) -> Self {
        Self {
            connection: connection.number,
            client: &connection.client,
            server: connection.server.map(ServerIdJson::new),
            state: connection.stage.word(),
            age: JsonSeconds(connection.age),
            from_client: connection.to_server,
            to_client: connection.to_client,
        }
    }
}

#[derive(Serialize)]
struct TlsJson<'a> {
    clients: bool,
    servers: bool,
    certificates: u64,
    age: JsonSeconds,
    expires_first: Option<&'a str>,
    /// 0 for a certificate that has expired.
    expires_in: Option<JsonSeconds>,
    handshakes: u64,
    failed: u64,
    trouble: Option<&'a str>,
}

impl<'a> TlsJson<'a> {
    fn new(tls: &'a TlsSnapshot, now: SystemTime) -> Self {
        let left = |end: SystemTime| JsonSeconds(end.duration_since(now).unwrap_or_default());
        Self {
            clients: tls.clients,
            servers: tls.servers,
            certificates: tls.certificates,
            age: JsonSeconds(tls.age),
            expires_first: tls.expires.as_ref().map(|(file, _)| file.as_str()),
            expires_in: tls.expires.as_ref().map(|(_, end)| left(*end)),
            handshakes: tls.handshakes,
            failed: tls.failed,
            trouble: tls.trouble.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct LogJson<'a> {
    target: &'a str,
    made: u64,
    written: u64,
    dropped: u64,
    trouble: Option<&'a str>,
}

impl<'a> LogJson<'a> {
    fn new(log: &'a LogSnapshot) -> Self {
        let LogSnapshot { target, made, written, dropped, trouble } = log;
        let (made, written, dropped) = (*made, *written, *dropped);
        Self { target, made, written, dropped, trouble: trouble.as_deref() }
    }
}

#[derive(Serialize)]
struct LimitedCountJson {
    now: u64,
    most: Option<u64>,
}

impl LimitedCountJson {
    fn new(count: LimitedCount) -> Self {
        Self { now: count.now, most: count.most }
    }
}

/// A number for a slot, a word for the emergency and the abuse server.
#[derive(Serialize)]
#[serde(untagged)]
enum ServerIdJson {
    Slot(u32),
    Special(String),
}

impl ServerIdJson {
    fn new(id: PoolServerId) -> Self {
        match id {
            PoolServerId::Slot(number) => Self::Slot(number),
            PoolServerId::Emergency | PoolServerId::Abuse => Self::Special(super::label(id)),
        }
    }
}

/// A duration in seconds, always with three decimals.
struct JsonSeconds(Duration);

impl Serialize for JsonSeconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = format!("{}.{:03}", self.0.as_secs(), self.0.subsec_millis());
        RawValue::from_string(text).map_err(S::Error::custom)?.serialize(serializer)
    }
}

fn as_object<S: Serializer>(
    fields: &[(&'static str, u64)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(fields.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::status::samples::busy;

    #[test]
    fn the_state_is_one_line_of_json() {
        let text = write(&busy());
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("\"host\":\"web2.<b>example</b>.net\",\"port\":8080"), "{text}");
        assert!(text.contains("\"state\":\"blacklisted\",\"blacklisted_for\":21.000"), "{text}");
        assert!(text.contains("\"uptime\":266525.000"), "{text}");
        serde_json::from_str::<serde::de::IgnoredAny>(&text).unwrap();
    }

    #[test]
    fn keys_their_order_and_numbers_stay_as_scripts_know_them() {
        let text = write(&busy()).replace(env!("CARGO_PKG_VERSION"), "VERSION");
        insta::assert_snapshot!("status_json", text);
    }

    #[test]
    fn text_is_escaped() {
        let mut snapshot = busy();
        snapshot.listen = vec!["a\"b\\c\n\u{1}\u{e9}".to_owned()];
        let text = write(&snapshot);
        assert!(text.contains("\"listen\":[\"a\\\"b\\\\c\\n\\u0001\u{e9}\"]"), "{text}");
    }
}
