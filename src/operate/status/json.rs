//! The state as one JSON object. Times are seconds, and what there is not is `null`.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::PoolServerId;
use crate::config::limit;
use crate::data::snapshot::{
    CheckSnapshot, ClientSnapshot, ConnectionSnapshot, LimitedCount, LogSnapshot, ServerSnapshot,
    ServerStatus, Snapshot, TlsSnapshot,
};

/// The state, with a line end.
#[must_use]
pub fn write(snapshot: &Snapshot) -> String {
    let seconds = snapshot.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let counts = &snapshot.counts;
    let ended = counts.ended.iter().map(|(cause, count)| (*cause, count.to_string()));
    let fields = [
        ("version", Text(env!("CARGO_PKG_VERSION")).to_string()),
        ("time", time(seconds)),
        ("uptime", time(snapshot.uptime)),
        ("listen", list(snapshot.listen.iter().map(|addr| Text(addr).to_string()))),
        ("connections", gauge(snapshot.connections_open)),
        ("accepted", counts.accepted.to_string()),
        ("denied", counts.denied.to_string()),
        ("unserved", counts.unserved.to_string()),
        ("failovers", counts.failovers.to_string()),
        ("lost_datagrams", counts.lost_datagrams.to_string()),
        (
            "kernel_drops",
            counts.kernel_drops.map_or_else(|| "null".to_owned(), |it| it.to_string()),
        ),
        ("accept_failures", counts.accept_failures.to_string()),
        ("http_refused", counts.http_refused.to_string()),
        ("not_http", counts.not_http.to_string()),
        ("ended", object(ended)),
        ("current", snapshot.current.to_string()),
        ("servers", list(snapshot.servers.iter().map(server))),
        ("clients", gauge(snapshot.clients_known)),
        ("client_list", list(snapshot.clients.iter().map(client))),
        ("connection_list", list(snapshot.connections.iter().map(connection))),
        ("tls", option(snapshot.tls.as_ref().map(|it| tls(it, snapshot.time)))),
        ("mapping_log", option(snapshot.mapping_log.as_ref().map(log))),
        ("access_log", option(snapshot.access_log.as_ref().map(log))),
    ];
    object(fields) + "\n"
}

fn server(server: &ServerSnapshot) -> String {
    let (host, port) = server.config.host_and_port();
    let config = &server.config;
    let left = match server.state {
        ServerStatus::Blacklisted(left) => Some(time(left)),
        ServerStatus::Up | ServerStatus::Full | ServerStatus::Draining | ServerStatus::Down => None,
    };
    object([
        ("server", id(server.id)),
        ("host", Text(&host).to_string()),
        ("port", port.to_string()),
        ("address", Text(&config.addr.to_string()).to_string()),
        ("state", Text(server.state.word()).to_string()),
        ("blacklisted_for", option(left)),
        ("connections", server.connections.to_string()),
        ("max", limit(config.soft).to_string()),
        ("hard", limit(config.hard).to_string()),
        ("weight", config.weight.to_string()),
        ("prio", config.prio.to_string()),
        ("acl", config.acl.to_string()),
        ("served", server.served.to_string()),
        ("failures", server.failures.to_string()),
        ("last_failure", option(server.last_failure.map(time))),
        ("check", option(server.check.as_ref().map(check))),
        ("from_clients", server.to_server.to_string()),
        ("to_clients", server.to_client.to_string()),
    ])
}

fn check(check: &CheckSnapshot) -> String {
    object([
        ("age", time(check.age)),
        ("ok", check.wrong.is_none().to_string()),
        ("wrong", option(check.wrong.as_deref().map(|wrong| Text(wrong).to_string()))),
    ])
}

fn client(client: &ClientSnapshot) -> String {
    object([
        ("address", Text(&client.addr.to_string()).to_string()),
        ("age", time(client.age)),
        ("server", option(client.server.map(id))),
        ("connects", client.connects.to_string()),
        ("sent", client.sent.to_string()),
        ("received", client.received.to_string()),
    ])
}

fn connection(connection: &ConnectionSnapshot) -> String {
    object([
        ("connection", connection.number.to_string()),
        ("client", Text(&connection.client).to_string()),
        ("server", option(connection.server.map(id))),
        ("state", Text(connection.stage.word()).to_string()),
        ("age", time(connection.age)),
        ("from_client", connection.to_server.to_string()),
        ("to_client", connection.to_client.to_string()),
    ])
}

fn tls(tls: &TlsSnapshot, now: SystemTime) -> String {
    let expires = tls.expires.as_ref();
    // Less than nothing is shown as nothing.
    let left = |end: &SystemTime| end.duration_since(now).unwrap_or_default();
    object([
        ("clients", tls.clients.to_string()),
        ("servers", tls.servers.to_string()),
        ("certificates", tls.certificates.to_string()),
        ("age", time(tls.age)),
        ("expires_first", option(expires.map(|(file, _)| Text(file).to_string()))),
        ("expires_in", option(expires.map(|(_, end)| time(left(end))))),
        ("handshakes", tls.handshakes.to_string()),
        ("failed", tls.failed.to_string()),
        ("trouble", option(tls.trouble.as_deref().map(|text| Text(text).to_string()))),
    ])
}

fn log(log: &LogSnapshot) -> String {
    object([
        ("target", Text(&log.target).to_string()),
        ("made", log.made.to_string()),
        ("written", log.written.to_string()),
        ("dropped", log.dropped.to_string()),
        ("trouble", option(log.trouble.as_deref().map(|text| Text(text).to_string()))),
    ])
}

fn gauge(gauge: LimitedCount) -> String {
    object([
        ("now", gauge.now.to_string()),
        ("most", option(gauge.most.map(|most| most.to_string()))),
    ])
}

fn id(id: PoolServerId) -> String {
    match id {
        PoolServerId::Slot(number) => number.to_string(),
        PoolServerId::Emergency | PoolServerId::Abuse => Text(&super::label(id)).to_string(),
    }
}

fn time(time: Duration) -> String {
    format!("{}.{:03}", time.as_secs(), time.subsec_millis())
}

fn option(value: Option<String>) -> String {
    value.unwrap_or_else(|| "null".to_owned())
}

/// `[a,b]`.
pub fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(","))
}

/// `{"name":value}`; the values are JSON already.
pub fn object<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let fields = fields.into_iter().map(|(name, value)| format!("{}:{value}", Text(name)));
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

/// Text as a JSON string.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a>(pub &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(Text("a\"b\\c\n\u{1}\u{e9}").to_string(), "\"a\\\"b\\\\c\\n\\u0001\u{e9}\"");
    }

    #[test]
    fn the_state_is_one_line_of_json() {
        let text = write(&crate::operate::status::samples::busy());
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("\"host\":\"web2.<b>example</b>.net\",\"port\":8080"), "{text}");
        assert!(text.contains("\"state\":\"blacklisted\",\"blacklisted_for\":21.000"), "{text}");
        assert!(text.contains("\"uptime\":266525.000"), "{text}");
        let (open, close) = (text.matches(['{', '[']).count(), text.matches(['}', ']']).count());
        // One bracketed address of each kind is in it, so both are even.
        assert_eq!(open, close, "{text}");
    }
}
