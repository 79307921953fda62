//! The state in the text exposition format 0.0.4 of Prometheus. Clients and connections are left out: a series for
//! each would have no bound.
//!
//! The format is written by hand: the crate `prometheus-client` writes `OpenMetrics`, which is another content type with other
//! rules for names and an end marker, and it counts by itself, while all values come from a snapshot here. The tests hold
//! the output to the rules that `promtool check metrics` applies.

use std::fmt::{self, Display, Formatter, Write as _};
use std::time::UNIX_EPOCH;

use super::label;
use crate::config::limit;
use crate::data::snapshot::{ServerSnapshot, ServerStatus, Snapshot};

/// The content type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns all metrics.
#[must_use]
pub fn write(snapshot: &Snapshot) -> String {
    let mut out = MetricsText(String::new());
    balancer(&mut out, snapshot);
    servers(&mut out, &snapshot.servers);
    if let Some(log) = &snapshot.mapping_log {
        for (name, help, count) in [
            ("made", "Mapping records made.", log.made),
            (
                "written",
                "Mapping records sent to the collector or written to the file.",
                log.written,
            ),
            (
                "dropped",
                "Mapping records dropped because the log did not keep up or failed.",
                log.dropped,
            ),
        ] {
            out.single(
                &format!("pen_mapping_records_{name}_total"),
                MetricKind::Counter,
                help,
                count,
            );
        }
        let well = u8::from(log.trouble.is_none());
        out.single(
            "pen_mapping_log_up",
            MetricKind::Gauge,
            "Mapping log works (1) or has a fault (0).",
            well,
        );
    }
    if let Some(log) = &snapshot.access_log {
        for (name, help, count) in [
            ("made", "Access lines made.", log.made),
            ("written", "Access lines written to the file.", log.written),
            (
                "dropped",
                "Access lines dropped because the log did not keep up or failed.",
                log.dropped,
            ),
        ] {
            out.single(&format!("pen_access_lines_{name}_total"), MetricKind::Counter, help, count);
        }
        let well = u8::from(log.trouble.is_none());
        out.single(
            "pen_access_log_up",
            MetricKind::Gauge,
            "Access log works (1) or has a fault (0).",
            well,
        );
    }
    if let Some(tls) = &snapshot.tls {
        for (name, help, count) in [
            ("handshakes", "Completed TLS handshakes with clients.", tls.handshakes),
            ("failed_handshakes", "Failed TLS handshakes with clients.", tls.failed),
        ] {
            out.single(&format!("pen_tls_{name}_total"), MetricKind::Counter, help, count);
        }
        let well = u8::from(tls.trouble.is_none());
        out.single(
            "pen_tls_up",
            MetricKind::Gauge,
            "All TLS files are usable (1) or not (0).",
            well,
        );
        if let Some((_, end)) = &tls.expires {
            let end = end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let help = "Unix time at which the first certificate expires.";
            out.single("pen_tls_expires_seconds", MetricKind::Gauge, help, end);
        }
    }
    out.0
}

fn balancer(out: &mut MetricsText, snapshot: &Snapshot) {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    out.family("pen_build_info", MetricKind::Gauge, "Running version of pen.");
    out.sample("pen_build_info", &version, 1);
    let started = snapshot.time.checked_sub(snapshot.uptime).unwrap_or(UNIX_EPOCH);
    let started = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    out.single(
        "pen_start_time_seconds",
        MetricKind::Gauge,
        "Unix time at which pen started.",
        started,
    );
    let (open, known) = (snapshot.connections_open, snapshot.clients_known);
    out.single("pen_connections", MetricKind::Gauge, "Open connections.", open.now);
    if let Some(most) = open.most {
        out.single("pen_connections_limit", MetricKind::Gauge, "Limit of open connections.", most);
    }
    out.single("pen_clients_known", MetricKind::Gauge, "Remembered clients.", known.now);
    if let Some(most) = known.most {
        out.single(
            "pen_clients_known_limit",
            MetricKind::Gauge,
            "Limit of remembered clients.",
            most,
        );
    }
    let counts = &snapshot.counts;
    for (name, help, count) in [
        ("accepted", "Accepted connections.", counts.accepted),
        ("denied", "Connections denied by an access list.", counts.denied),
        ("unserved", "Connections closed because no server was available.", counts.unserved),
        ("http_refused", "Connections with a rejected request in HTTP mode.", counts.http_refused),
        (
            "not_http",
            "Connections forwarded unchanged in HTTP mode because they were not HTTP/1.x.",
            counts.not_http,
        ),
    ] {
        out.single(&format!("pen_connections_{name}_total"), MetricKind::Counter, help, count);
    }
    for (name, help, count) in [
        ("failovers", "Connections that failed over to another server.", counts.failovers),
        ("lost_datagrams", "Datagrams that could not be forwarded.", counts.lost_datagrams),
        ("accept_failures", "Failed attempts to accept a connection.", counts.accept_failures),
    ] {
        out.single(&format!("pen_{name}_total"), MetricKind::Counter, help, count);
    }
    if let Some(drops) = counts.kernel_drops {
        let help = "Datagrams dropped by the kernel because a receive buffer was full.";
        out.single("pen_kernel_drops_total", MetricKind::Counter, help, drops);
    }
    if !counts.ended.is_empty() {
        let name = "pen_connections_ended_total";
        out.family(name, MetricKind::Counter, "Connections ended abnormally, by cause.");
        for (cause, count) in &counts.ended {
            out.sample(name, &[("cause", cause)], *count);
        }
    }
}

/// A metric family with one sample per server.
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
        help: "Server gets new connections (1) or not (0).",
        value: |server| u64::from(matches!(server.state, ServerStatus::Up | ServerStatus::Full)),
    },
    ServerMetric {
        name: "pen_server_connections",
        kind: MetricKind::Gauge,
        help: "Open connections of the server.",
        value: |server| server.connections.into(),
    },
    ServerMetric {
        name: "pen_server_soft_limit",
        kind: MetricKind::Gauge,
        help: "Soft limit of connections to the server; 0 for no limit.",
        value: |server| limit(server.config.soft).into(),
    },
    ServerMetric {
        name: "pen_server_hard_limit",
        kind: MetricKind::Gauge,
        help: "Hard limit of connections to the server; 0 for no limit.",
        value: |server| limit(server.config.hard).into(),
    },
    ServerMetric {
        name: "pen_server_weight",
        kind: MetricKind::Gauge,
        help: "Weight of the server where servers are selected by weight.",
        value: |server| server.config.weight.into(),
    },
    ServerMetric {
        name: "pen_server_connections_total",
        kind: MetricKind::Counter,
        help: "Connections opened to the server.",
        value: |server| server.served,
    },
    ServerMetric {
        name: "pen_server_failures_total",
        kind: MetricKind::Counter,
        help: "Failed attempts to connect to the server.",
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
    out.family(
        name,
        MetricKind::Gauge,
        "Current state of the server: 1 for the state named by the label, else 0.",
    );
    for server in servers {
        let (label, address) = (label(server.id), server.config.addr.to_string());
        for word in ServerStatus::WORDS {
            let labels = [("server", &*label), ("address", &*address), ("state", word)];
            out.sample(name, &labels, u8::from(word == server.state.word()));
        }
    }
    let name = "pen_server_bytes_total";
    out.family(name, MetricKind::Counter, "Bytes forwarded, by receiver.");
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

    /// Checks the rules of the text format that `promtool check metrics` and a scraper apply; returns the samples.
    fn check(text: &str) -> BTreeMap<String, String> {
        let mut samples = BTreeMap::new();
        let (mut family, mut families) = (String::new(), BTreeSet::new());
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# HELP ") {
                let (name, help) = comment.split_once(' ').unwrap();
                assert!(families.insert(name.to_owned()), "twice: {name}");
                assert!(help.ends_with('.') && !help.contains('\\'), "{line}");
                name.clone_into(&mut family);
            } else if let Some(comment) = line.strip_prefix("# TYPE ") {
                let (name, kind) = comment.split_once(' ').unwrap();
                assert_eq!(name, family, "{line}");
                assert!(["counter", "gauge"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                // Units that promtool wants in full, and as a suffix.
                assert!(!name.contains("millis") && !name.contains("_ms"), "{line}");
            } else {
                let (series, value) = sample(line);
                let name = series.split('{').next().unwrap();
                assert_eq!(name, family, "{line}");
                assert!(samples.insert(series, value).is_none(), "twice: {line}");
            }
        }
        assert!(text.ends_with('\n'));
        samples
    }

    /// Checks the grammar of a sample, `name{label="value",…} number`; returns series and number.
    fn sample(line: &str) -> (String, String) {
        let is_name = |name: &str| {
            let first = name.bytes().next();
            first.is_some_and(|byte| byte.is_ascii_lowercase())
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let Some((name, labels)) = series.split_once('{') else {
            assert!(is_name(series), "{line}");
            return (series.to_owned(), value.to_owned());
        };
        assert!(is_name(name), "{line}");
        let labels = labels.strip_suffix("\"}").unwrap_or_else(|| panic!("{line}"));
        let mut names = BTreeSet::new();
        for label in labels.split("\",") {
            let (name, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(is_name(name) && !name.starts_with("__") && names.insert(name), "{line}");
            let plain = value.replace("\\\\", "").replace("\\\"", "").replace("\\n", "");
            assert!(!plain.contains(['"', '\\', '\n']), "{line}");
        }
        (series.to_owned(), value.to_owned())
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
