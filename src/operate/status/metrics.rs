//! The state as Prometheus reads it, text format 0.0.4. Clients and connections are not in it: one
//! series for each of them would drown whoever collects.

use std::fmt::{self, Display, Formatter, Write as _};
use std::time::UNIX_EPOCH;

use super::label;
use crate::command::apply::limit;
use crate::data::snapshot::{ServerNow, Snapshot, State};

/// The content type to serve it with.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The state.
#[must_use]
pub fn write(snapshot: &Snapshot) -> String {
    let mut out = Text(String::new());
    whole(&mut out, snapshot);
    servers(&mut out, &snapshot.servers);
    if let Some(log) = &snapshot.mapping_log {
        for (name, what, count) in [
            ("made", "Mapping records that were made.", log.made),
            ("written", "Mapping records that were sent or written.", log.written),
            ("dropped", "Mapping records that were dropped.", log.dropped),
        ] {
            out.one(&format!("pen_mapping_records_{name}_total"), Kind::Counter, what, count);
        }
        let well = u8::from(log.trouble.is_none());
        out.one("pen_mapping_log_up", Kind::Gauge, "Whether the mapping log works.", well);
    }
    if let Some(log) = &snapshot.access_log {
        for (name, what, count) in [
            ("made", "Access lines that were made.", log.made),
            ("written", "Access lines that are in the file.", log.written),
            ("dropped", "Access lines that were dropped.", log.dropped),
        ] {
            out.one(&format!("pen_access_lines_{name}_total"), Kind::Counter, what, count);
        }
        let well = u8::from(log.trouble.is_none());
        out.one("pen_access_log_up", Kind::Gauge, "Whether the access log works.", well);
    }
    if let Some(tls) = &snapshot.tls {
        for (name, what, count) in [
            ("handshakes", "Clients that TLS was agreed on with.", tls.handshakes),
            ("failed_handshakes", "Clients that it was not.", tls.failed),
        ] {
            out.one(&format!("pen_tls_{name}_total"), Kind::Counter, what, count);
        }
        let well = u8::from(tls.trouble.is_none());
        out.one("pen_tls_up", Kind::Gauge, "Whether all files of TLS can be used.", well);
        if let Some((_, end)) = &tls.expires {
            let end = end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let what = "When the first certificate expires, in Unix time.";
            out.one("pen_tls_expires_seconds", Kind::Gauge, what, end);
        }
    }
    out.0
}

fn whole(out: &mut Text, snapshot: &Snapshot) {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    out.family("pen_build_info", Kind::Gauge, "The version that runs.");
    out.sample("pen_build_info", &version, 1);
    let started = snapshot.time.checked_sub(snapshot.uptime).unwrap_or(UNIX_EPOCH);
    let started = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    out.one("pen_start_time_seconds", Kind::Gauge, "When it started, in Unix time.", started);
    let (open, known) = (snapshot.connections_open, snapshot.clients_known);
    out.one("pen_connections", Kind::Gauge, "Open connections.", open.now);
    if let Some(most) = open.most {
        out.one("pen_connections_limit", Kind::Gauge, "Connections there may be.", most);
    }
    out.one("pen_clients_known", Kind::Gauge, "Clients whose server is remembered.", known.now);
    if let Some(most) = known.most {
        out.one("pen_clients_known_limit", Kind::Gauge, "Clients that may be remembered.", most);
    }
    let counts = &snapshot.counts;
    for (name, what, count) in [
        ("accepted", "Connections that were accepted.", counts.accepted),
        ("denied", "Connections that an access list kept out.", counts.denied),
        ("unserved", "Connections for which no server was left.", counts.unserved),
        ("http_refused", "Connections with a request that was refused.", counts.http_refused),
        ("not_http", "Connections that passed as they were in HTTP mode.", counts.not_http),
    ] {
        out.one(&format!("pen_connections_{name}_total"), Kind::Counter, what, count);
    }
    for (name, what, count) in [
        ("failovers", "Connections that went to another server.", counts.failovers),
        ("lost_datagrams", "Datagrams that could not be passed on.", counts.lost_datagrams),
        ("accept_failures", "Times that none could be accepted.", counts.accept_failures),
    ] {
        out.one(&format!("pen_{name}_total"), Kind::Counter, what, count);
    }
    if let Some(drops) = counts.kernel_drops {
        let what = "Datagrams that the kernel dropped before they could be taken.";
        out.one("pen_kernel_drops_total", Kind::Counter, what, drops);
    }
    if !counts.ended.is_empty() {
        let name = "pen_connections_ended_total";
        out.family(name, Kind::Counter, "Connections that are over, by cause.");
        for (cause, count) in &counts.ended {
            out.sample(name, &[("cause", cause)], *count);
        }
    }
}

/// A family of metrics that each server has one of.
struct PerServer {
    name: &'static str,
    kind: Kind,
    what: &'static str,
    value: fn(&ServerNow) -> u64,
}

const PER_SERVER: [PerServer; 7] = [
    PerServer {
        name: "pen_server_up",
        kind: Kind::Gauge,
        what: "Whether the server gets connections.",
        value: |server| u64::from(matches!(server.state, State::Up | State::Full)),
    },
    PerServer {
        name: "pen_server_connections",
        kind: Kind::Gauge,
        what: "Connections of the server.",
        value: |server| server.connections.into(),
    },
    PerServer {
        name: "pen_server_soft_limit",
        kind: Kind::Gauge,
        what: "Connections it should not have more of; 0 for no limit.",
        value: |server| limit(server.config.soft).into(),
    },
    PerServer {
        name: "pen_server_hard_limit",
        kind: Kind::Gauge,
        what: "Connections it must not have more of; 0 for no limit of its own.",
        value: |server| limit(server.config.hard).into(),
    },
    PerServer {
        name: "pen_server_weight",
        kind: Kind::Gauge,
        what: "Its share where servers are chosen by weight.",
        value: |server| server.config.weight.into(),
    },
    PerServer {
        name: "pen_server_connections_total",
        kind: Kind::Counter,
        what: "Connections the server has had.",
        value: |server| server.served,
    },
    PerServer {
        name: "pen_server_failures_total",
        kind: Kind::Counter,
        what: "Attempts to connect that failed.",
        value: |server| server.failures,
    },
];

fn servers(out: &mut Text, servers: &[ServerNow]) {
    if servers.is_empty() {
        return;
    }
    for PerServer { name, kind, what, value } in PER_SERVER {
        out.family(name, kind, what);
        for server in servers {
            let (label, address) = (label(server.id), server.config.addr.to_string());
            out.sample(name, &[("server", &label), ("address", &address)], value(server));
        }
    }
    let name = "pen_server_state";
    out.family(name, Kind::Gauge, "1 for the state that the server is in.");
    for server in servers {
        let (label, address) = (label(server.id), server.config.addr.to_string());
        for word in State::WORDS {
            let labels = [("server", &*label), ("address", &*address), ("state", word)];
            out.sample(name, &labels, u8::from(word == server.state.word()));
        }
    }
    let name = "pen_server_bytes_total";
    out.family(name, Kind::Counter, "Bytes, by where they went.");
    for server in servers {
        let (label, address) = (label(server.id), server.config.addr.to_string());
        for (to, count) in [("server", server.to_server), ("client", server.to_client)] {
            out.sample(name, &[("server", &label), ("address", &address), ("to", to)], count);
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: Kind, what: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        writeln!(self.0, "# HELP {name} {what}\n# TYPE {name} {kind}")
            .expect("writing to a String does not fail");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", Escaped(value)));
        let labels = labels.collect::<Vec<_>>().join(",");
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        writeln!(self.0, "{name}{labels} {value}").expect("writing to a String does not fail");
    }

    fn one(&mut self, name: &str, kind: Kind, what: &str, value: impl Display) {
        self.family(name, kind, what);
        self.sample(name, &[], value);
    }
}

struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::operate::status::samples::busy;

    /// The rules of the text format that a scraper holds us to.
    fn check(text: &str) -> BTreeMap<String, String> {
        let mut samples = BTreeMap::new();
        let (mut family, mut families) = (String::new(), BTreeSet::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                family = help.split(' ').next().unwrap().to_owned();
                assert!(families.insert(family.clone()), "twice: {family}");
                continue;
            }
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, family);
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            assert_eq!(name, family, "{line}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
            assert!(labels.ends_with('}'), "{line}");
            assert!(samples.insert(series.to_owned(), value.to_owned()).is_none(), "twice: {line}");
        }
        assert!(text.ends_with('\n'));
        samples
    }

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let samples = check(&write(&busy()));
        for (series, value) in [
            ("pen_connections", "272"),
            ("pen_connections_accepted_total", "482110"),
            ("pen_connections_ended_total{cause=\"idle\"}", "5"),
            ("pen_server_up{server=\"3\",address=\"[2001:db8::7]:8080\"}", "0"),
            ("pen_server_state{server=\"4\",address=\"10.0.0.5:8080\",state=\"draining\"}", "1"),
            (
                "pen_server_bytes_total{server=\"0\",address=\"10.0.0.1:8080\",to=\"server\"}",
                "4938268",
            ),
            ("pen_mapping_records_dropped_total", "220"),
            ("pen_mapping_log_up", "0"),
            ("pen_tls_handshakes_total", "480000"),
            ("pen_tls_up", "0"),
            ("pen_tls_expires_seconds", "1796156600"),
            ("pen_start_time_seconds", "1795112475"),
        ] {
            assert_eq!(samples.get(series).map(String::as_str), Some(value), "{series}");
        }
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(Escaped("a\"b\\c\nd").to_string(), "a\\\"b\\\\c\\nd");
    }
}
