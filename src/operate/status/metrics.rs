//! The state as Prometheus reads it, text format 0.0.4. Clients and connections are not in it: one
//! series for each of them would drown whoever collects.

use std::fmt::{self, Display, Formatter, Write as _};
use std::time::UNIX_EPOCH;

use super::label;
use crate::config::limit;
use crate::data::snapshot::{ServerSnapshot, ServerStatus, Snapshot};

/// The content type to serve it with.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The state.
#[must_use]
pub fn write(snapshot: &Snapshot) -> String {
    let mut out = MetricsText(String::new());
    balancer(&mut out, snapshot);
    servers(&mut out, &snapshot.servers);
    if let Some(log) = &snapshot.mapping_log {
        for (name, help, count) in [
            ("made", "Mapping records that were made.", log.made),
            ("written", "Mapping records that were sent or written.", log.written),
            ("dropped", "Mapping records that were dropped.", log.dropped),
        ] {
            out.single(
                &format!("pen_mapping_records_{name}_total"),
                MetricKind::Counter,
                help,
                count,
            );
        }
        let well = u8::from(log.trouble.is_none());
        out.single("pen_mapping_log_up", MetricKind::Gauge, "Whether the mapping log works.", well);
    }
    if let Some(log) = &snapshot.access_log {
        for (name, help, count) in [
            ("made", "Access lines that were made.", log.made),
            ("written", "Access lines that are in the file.", log.written),
            ("dropped", "Access lines that were dropped.", log.dropped),
        ] {
            out.single(&format!("pen_access_lines_{name}_total"), MetricKind::Counter, help, count);
        }
        let well = u8::from(log.trouble.is_none());
        out.single("pen_access_log_up", MetricKind::Gauge, "Whether the access log works.", well);
    }
    if let Some(tls) = &snapshot.tls {
        for (name, help, count) in [
            ("handshakes", "Clients that TLS was agreed on with.", tls.handshakes),
            ("failed_handshakes", "Clients that it was not.", tls.failed),
        ] {
            out.single(&format!("pen_tls_{name}_total"), MetricKind::Counter, help, count);
        }
        let well = u8::from(tls.trouble.is_none());
        out.single("pen_tls_up", MetricKind::Gauge, "Whether all files of TLS can be used.", well);
        if let Some((_, end)) = &tls.expires {
            let end = end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let help = "When the first certificate expires, in Unix time.";
            out.single("pen_tls_expires_seconds", MetricKind::Gauge, help, end);
        }
    }
    out.0
}

fn balancer(out: &mut MetricsText, snapshot: &Snapshot) {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    out.family("pen_build_info", MetricKind::Gauge, "The version that runs.");
    out.sample("pen_build_info", &version, 1);
    let started = snapshot.time.checked_sub(snapshot.uptime).unwrap_or(UNIX_EPOCH);
    let started = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    out.single(
        "pen_start_time_seconds",
        MetricKind::Gauge,
        "When it started, in Unix time.",
        started,
    );
    let (open, known) = (snapshot.connections_open, snapshot.clients_known);
    out.single("pen_connections", MetricKind::Gauge, "Open connections.", open.now);
    if let Some(most) = open.most {
        out.single("pen_connections_limit", MetricKind::Gauge, "Connections there may be.", most);
    }
    out.single(
        "pen_clients_known",
        MetricKind::Gauge,
        "Clients whose server is remembered.",
        known.now,
    );
    if let Some(most) = known.most {
        out.single(
            "pen_clients_known_limit",
            MetricKind::Gauge,
            "Clients that may be remembered.",
            most,
        );
    }
    let counts = &snapshot.counts;
    for (name, help, count) in [
        ("accepted", "Connections that were accepted.", counts.accepted),
        ("denied", "Connections that an access list kept out.", counts.denied),
        ("unserved", "Connections for which no server was left.", counts.unserved),
        ("http_refused", "Connections with a request that was refused.", counts.http_refused),
        ("not_http", "Connections that passed as they were in HTTP mode.", counts.not_http),
    ] {
        out.single(&format!("pen_connections_{name}_total"), MetricKind::Counter, help, count);
    }
    for (name, help, count) in [
        ("failovers", "Connections that went to another server.", counts.failovers),
        ("lost_datagrams", "Datagrams that could not be passed on.", counts.lost_datagrams),
        ("accept_failures", "Times that none could be accepted.", counts.accept_failures),
    ] {
        out.single(&format!("pen_{name}_total"), MetricKind::Counter, help, count);
    }
    if let Some(drops) = counts.kernel_drops {
        let help = "Datagrams that the kernel dropped before they could be taken.";
        out.single("pen_kernel_drops_total", MetricKind::Counter, help, drops);
    }
    if !counts.ended.is_empty() {
        let name = "pen_connections_ended_total";
        out.family(name, MetricKind::Counter, "Connections that are over, by cause.");
        for (cause, count) in &counts.ended {
            out.sample(name, &[("cause", cause)], *count);
        }
    }
}

/// A family of metrics that each server has one of.
struct ServerMetric {
    name: &'static str,
    kind: MetricKind,
    help: &'static str,
    value: fn(&ServerSnapshot) -> u64,
}

const SERVER_METRICS: [ServerMetric; 7] = [
    ServerMetric {
        name: "pen_server_up",
        kind: MetricKind::Gauge,
        help: "Whether the server gets connections.",
        value: |server| u64::from(matches!(server.state, ServerStatus::Up | ServerStatus::Full)),
    },
    ServerMetric {
        name: "pen_server_connections",
        kind: MetricKind::Gauge,
        help: "Connections of the server.",
        value: |server| server.connections.into(),
    },
    ServerMetric {
        name: "pen_server_soft_limit",
        kind: MetricKind::Gauge,
        help: "Connections it should not have more of; 0 for no limit.",
        value: |server| limit(server.config.soft).into(),
    },
    ServerMetric {
        name: "pen_server_hard_limit",
        kind: MetricKind::Gauge,
        help: "Connections it must not have more of; 0 for no limit of its own.",
        value: |server| limit(server.config.hard).into(),
    },
    ServerMetric {
        name: "pen_server_weight",
        kind: MetricKind::Gauge,
        help: "Its share where servers are chosen by weight.",
        value: |server| server.config.weight.into(),
    },
    ServerMetric {
        name: "pen_server_connections_total",
        kind: MetricKind::Counter,
        help: "Connections the server has had.",
        value: |server| server.served,
    },
    ServerMetric {
        name: "pen_server_failures_total",
        kind: MetricKind::Counter,
        help: "Attempts to connect that failed.",
        value: |server| server.failures,
    },
];

fn servers(out: &mut MetricsText, servers: &[ServerSnapshot]) {
    if servers.is_empty() {
        return;
    }
    for ServerMetric { name, kind, help, value } in SERVER_METRICS {
        out.family(name, kind, help);
        for server in servers {
            let (label, address) = (label(server.id), server.config.addr.to_string());
            out.sample(name, &[("server", &label), ("address", &address)], value(server));
        }
    }
    let name = "pen_server_state";
    out.family(name, MetricKind::Gauge, "1 for the state that the server is in.");
    for server in servers {
        let (label, address) = (label(server.id), server.config.addr.to_string());
        for word in ServerStatus::WORDS {
            let labels = [("server", &*label), ("address", &*address), ("state", word)];
            out.sample(name, &labels, u8::from(word == server.state.word()));
        }
    }
    let name = "pen_server_bytes_total";
    out.family(name, MetricKind::Counter, "Bytes, by where they went.");
    for server in servers {
        let (label, address) = (label(server.id), server.config.addr.to_string());
        for (to, count) in [("server", server.to_server), ("client", server.to_client)] {
            out.sample(name, &[("server", &label), ("address", &address), ("to", to)], count);
        }
    }
}

#[derive(Clone, Copy)]
enum MetricKind {
    Counter,
    Gauge,
}

struct MetricsText(String);

impl MetricsText {
    fn family(&mut self, name: &str, kind: MetricKind, help: &str) {
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
        };
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}")
            .expect("writing to a String does not fail");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", EscapedLabel(value)));
        let labels = labels.collect::<Vec<_>>().join(",");
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        writeln!(self.0, "{name}{labels} {value}").expect("writing to a String does not fail");
    }

    fn single(&mut self, name: &str, kind: MetricKind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

struct EscapedLabel<'a>(&'a str);

impl Display for EscapedLabel<'_> {
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
        assert_eq!(EscapedLabel("a\"b\\c\nd").to_string(), "a\\\"b\\\\c\\nd");
    }
}
