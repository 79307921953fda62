//! The state as an HTML page: one file, no script, nothing fetched from elsewhere, readable on a phone and in the
//! dark. `maud` escapes every text that is inserted.

mod format;

use std::time::Duration;

use format::{ByteSize, LimitOrDash, ShortDuration, Thousands, utc};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::history::{STEP, TrafficHistory};
use super::{address, bytes, label, sparkline};
use crate::config::limit;
use crate::data::snapshot::{
    BalancerCounters, CheckSnapshot, ClientSnapshot, ConnectionSnapshot, LimitedCount, LogSnapshot,
    ServerSnapshot, ServerStatus, Snapshot, TlsSnapshot,
};

const STYLE: &str = include_str!("page.css");
/// Style classes of a text that reports a fault.
const TROUBLE: &str = "state trouble";
/// A certificate that expires within this time is marked.
const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// Rows of a list that the page shows; the JSON and the control port have more.
const MAX_ROWS: usize = 200;

/// Returns the page. With a history the page draws charts and reloads itself; without, it is a static file.
#[must_use]
pub fn draw(snapshot: &Snapshot, history: Option<&TrafficHistory>) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                @if history.is_some() { meta http-equiv="refresh" content="5"; }
                title { "Pen status page" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (headline(snapshot))
                (tiles(snapshot, history))
                (servers(&snapshot.servers, history))
                (log("Mapping records", snapshot.mapping_log.as_ref()))
                (log("Access log", snapshot.access_log.as_ref()))
                @if let Some(tls_state) = &snapshot.tls { (tls(tls_state, snapshot)) }
                (clients(&snapshot.clients, snapshot.clients_known))
                (connections(&snapshot.connections, snapshot.connections_open))
                (totals(&snapshot.counts))
                (footer(history))
            }
        }
    };
    page.into_string()
}

fn headline(snapshot: &Snapshot) -> Markup {
    html! {
        h1 { "Pen status page" }
        p.dim {
            "Time " (utc(snapshot.time)) ", up for " (ShortDuration(snapshot.uptime))
            ", listening on " (snapshot.listen.join(", ")) ", "
            (snapshot.servers.len()) " servers, " (snapshot.current) " current"
        }
    }
}

fn tiles(snapshot: &Snapshot, history: Option<&TrafficHistory>) -> Markup {
    let line = |of: fn(&TrafficHistory) -> Vec<f64>| history.map(of).unwrap_or_default();
    let (to_server, to_client) = bytes(snapshot);
    let open = snapshot.connections_open;
    let limit = open.most.map(|most| format!("of {}", Thousands(most)));
    let accepted = format!("{} total", Thousands(snapshot.counts.accepted));
    let per_second = |rate: f64| format!("{rate:.1}/s");
    let total = |bytes| format!("{} total", ByteSize(float(bytes)));
    let bytes_per_second = |rate: f64| format!("{}/s", ByteSize(rate));
    html! {
        div.tiles {
            (tile("Open connections", &Thousands(open.now).to_string(), limit.as_deref(), &line(TrafficHistory::open)))
            (rate_tile("New connections", &accepted, per_second, &line(TrafficHistory::accepted)))
            (rate_tile("From clients", &total(to_server), bytes_per_second, &line(TrafficHistory::to_server)))
            (rate_tile("To clients", &total(to_client), bytes_per_second, &line(TrafficHistory::to_client)))
        }
    }
}

/// Shows the latest rate and the total; only the total where there is no history.
fn rate_tile(name: &str, total: &str, format: impl Fn(f64) -> String, line: &[f64]) -> Markup {
    match line.last() {
        Some(rate) => tile(name, &format(*rate), Some(total), line),
        None => tile(name, total, None, line),
    }
}

fn tile(name: &str, value: &str, detail: Option<&str>, line: &[f64]) -> Markup {
    html! {
        div.card.tile {
            span.dim { (name) }
            b { (value) @if let Some(detail) = detail { " " small { (detail) } } }
            (sparkline::draw(line, name))
        }
    }
}

fn servers(servers: &[ServerSnapshot], history: Option<&TrafficHistory>) -> Markup {
    let columns = [
        Column::left("server"),
        Column::wide("address"),
        Column::left("status"),
        Column::right("connections"),
        Column::right(""),
        Column::right("soft, hard limit"),
        Column::right("served"),
        Column::right("new/s"),
        Column::right("failures"),
        Column::right("from clients"),
        Column::right("to clients"),
        Column::right("bytes/s"),
        Column::right("weight, prio"),
    ];
    html! {
        h2 { "Servers" }
        @if servers.is_empty() {
            p.card.note { "No servers." }
        } @else {
            (table(&columns, servers.iter().map(|server| server_row(server, history))))
        }
    }
}

fn server_row(server: &ServerSnapshot, history: Option<&TrafficHistory>) -> [Markup; 13] {
    let config = &server.config;
    let line = history.map(|history| history.server_connections(server.id)).unwrap_or_default();
    let rate = history.and_then(|history| history.server_rate(server.id));
    let byte_rate = history.and_then(|history| history.server_bytes(server.id));
    let (soft, hard) = (limit(config.soft), limit(config.hard));
    [
        html! { (label(server.id)) },
        html! { (address(server)) },
        html! { (status(server.state)) (check(server.check.as_ref())) },
        html! { (Thousands(server.connections.into())) (bar(server.connections, soft.max(hard))) },
        sparkline::draw(&line, "connections"),
        html! { (LimitOrDash(soft)) ", " (LimitOrDash(hard)) },
        html! { (Thousands(server.served)) },
        html! { @if let Some(rate) = rate { (format!("{rate:.1}")) } },
        html! {
            (Thousands(server.failures))
            @if let Some(ago) = server.last_failure { small.dim { (ShortDuration(ago)) " ago" } }
        },
        html! { (ByteSize(float(server.to_server))) },
        html! { (ByteSize(float(server.to_client))) },
        html! { @if let Some(rate) = byte_rate { (ByteSize(rate)) } },
        html! { (config.weight) ", " (config.prio) },
    ]
}

fn status(status: ServerStatus) -> Markup {
    let word = status.word();
    html! {
        span.state.(word) {
            (word)
            @if let ServerStatus::Blacklisted(left) = status { " " (ShortDuration(left)) }
        }
    }
}

/// Shows the fault that the last health check found.
fn check(check: Option<&CheckSnapshot>) -> Markup {
    html! {
        @if let Some(wrong) = check.and_then(|check| check.wrong.as_deref()) {
            small.dim { (wrong) }
        }
    }
}

/// Draws how much of a limit is used; nothing without a limit.
fn bar(now: u32, most: u32) -> Markup {
    let Some(percent) = (u64::from(now) * 100).checked_div(most.into()) else { return html! {} };
    html! { span.bar { i style={ "width:" (percent.min(100)) "%" } {} } }
}

fn log(title: &str, log: Option<&LogSnapshot>) -> Markup {
    let Some(log) = log else { return html! {} };
    html! {
        h2 { (title) }
        div.card.note {
            p {
                "to " (log.target) ": " (Thousands(log.made)) " made, "
                (Thousands(log.written)) " written, "
                span class=[(log.dropped > 0).then_some(TROUBLE)] { (Thousands(log.dropped)) " dropped" }
            }
            (trouble(log.trouble.as_deref()))
        }
    }
}

fn trouble(trouble: Option<&str>) -> Markup {
    html! { @if let Some(trouble) = trouble { p { span class=(TROUBLE) { (trouble) } } } }
}

fn tls(tls: &TlsSnapshot, snapshot: &Snapshot) -> Markup {
    let peers = match (tls.clients, tls.servers) {
        (true, true) => "clients and servers",
        (true, false) => "clients",
        (false, _) => "servers",
    };
    html! {
        h2 { "TLS" }
        div.card.note {
            p {
                "with " (peers)
                @if tls.clients {
                    ": " (Thousands(tls.handshakes)) " handshakes, " (Thousands(tls.failed))
                    " failed; certificates: " (Thousands(tls.certificates)) ", read "
                    (ShortDuration(tls.age)) " ago"
                }
            }
            @if let Some((file, end)) = &tls.expires {
                @let left = end.duration_since(snapshot.time).ok();
                @let soon = left.is_none_or(|left| left < EXPIRY_WARNING);
                p {
                    span class=[soon.then_some(TROUBLE)] {
                        @match left {
                            Some(left) => { "first to expire, in " (ShortDuration(left)) ": " (file) }
                            None => { (file) " has expired" }
                        }
                    }
                }
            }
            (trouble(tls.trouble.as_deref()))
        }
    }
}

fn clients(clients: &[ClientSnapshot], known: LimitedCount) -> Markup {
    let columns = [
        Column::wide("client"),
        Column::right("age"),
        Column::right("last server"),
        Column::right("connects"),
        Column::right("sent"),
        Column::right("received"),
    ];
    let rows = clients.iter().take(MAX_ROWS).map(|client| {
        [
            html! { (client.addr) },
            html! { (ShortDuration(client.age)) },
            html! { @if let Some(server) = client.server { (label(server)) } },
            html! { (Thousands(client.connects)) },
            html! { (ByteSize(float(client.sent))) },
            html! { (ByteSize(float(client.received))) },
        ]
    });
    html! {
        h2 { "Active clients" }
        (list_size(clients.len(), known))
        @if !clients.is_empty() { (table(&columns, rows)) }
    }
}

fn connections(connections: &[ConnectionSnapshot], open: LimitedCount) -> Markup {
    let columns = [
        Column::left("connection"),
        Column::wide("client"),
        Column::right("server"),
        Column::left("state"),
        Column::right("age"),
        Column::right("sent"),
        Column::right("received"),
    ];
    let rows = connections.iter().take(MAX_ROWS).map(|connection| {
        [
            html! { (connection.number) },
            html! { (connection.client) },
            html! { @if let Some(server) = connection.server { (label(server)) } },
            html! { (connection.stage.word()) },
            html! { (ShortDuration(connection.age)) },
            html! { (ByteSize(float(connection.to_client))) },
            html! { (ByteSize(float(connection.to_server))) },
        ]
    });
    html! {
        h2 { "Active connections" }
        (list_size(connections.len(), open))
        @if !connections.is_empty() { (table(&columns, rows)) }
    }
}

/// Shows the count, its limit, and how many rows of the list follow if those are not all.
fn list_size(listed: usize, count: LimitedCount) -> Markup {
    let shown = u64::try_from(listed.min(MAX_ROWS)).expect("a usize fits into 64 bits");
    html! {
        p.dim {
            (Thousands(count.now))
            @if let Some(most) = count.most { " of at most " (Thousands(most)) }
            @if shown < count.now && shown > 0 { "; " (shown) " are shown" }
        }
    }
}

fn totals(counts: &BalancerCounters) -> Markup {
    html! {
        h2 { "Since the start" }
        p.card.note {
            (Thousands(counts.accepted)) " connections accepted, " (Thousands(counts.denied))
            " denied, " (Thousands(counts.unserved)) " without an available server, "
            (Thousands(counts.failovers)) " failed over to another server"
            @if counts.lost_datagrams > 0 {
                "; " (Thousands(counts.lost_datagrams)) " datagrams could not be forwarded"
            }
            @if let Some(drops @ 1..) = counts.kernel_drops {
                "; " (Thousands(drops)) " datagrams dropped by the kernel: its receive buffer was full"
            }
            @if counts.accept_failures > 0 {
                "; accepting failed " (Thousands(counts.accept_failures)) " times"
            }
            @if counts.http_refused + counts.not_http > 0 {
                "; in HTTP mode " (Thousands(counts.http_refused)) " with a rejected request, "
                (Thousands(counts.not_http)) " that were not HTTP"
            }
            @for (cause, count) in &counts.ended {
                "; " (Thousands(*count)) " ended: " (cause)
            }
        }
    }
}

fn footer(history: Option<&TrafficHistory>) -> Markup {
    html! {
        footer.dim {
            "pen " (env!("CARGO_PKG_VERSION"))
            @if let Some(history) = history {
                "; charts of the last " (ShortDuration(history.span())) ", a point every "
                (STEP.as_secs()) " s; also as " a href="/status.json" { "JSON" } " and for "
                a href="/metrics" { "Prometheus" }
            }
        }
    }
}

/// A column of a table. On a phone, where there is no head row, each cell shows the column's title.
struct Column {
    title: &'static str,
    /// Class of the head cell.
    head: Option<&'static str>,
    /// Class of the other cells.
    cell: Option<&'static str>,
}

impl Column {
    const fn right(title: &'static str) -> Self {
        Self { title, head: None, cell: None }
    }

    const fn left(title: &'static str) -> Self {
        Self { title, head: Some("l"), cell: Some("l") }
    }

    /// A column whose text may wrap.
    const fn wide(title: &'static str) -> Self {
        Self { title, head: Some("l"), cell: Some("l w") }
    }
}

fn table<const N: usize>(columns: &[Column; N], rows: impl Iterator<Item = [Markup; N]>) -> Markup {
    html! {
        div.card.scroll {
            table {
                thead { tr { @for column in columns { th class=[column.head] { (column.title) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (column, cell) in columns.iter().zip(row) {
                                td class=[column.cell] data-k=(column.title) { (cell) }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::status::samples::busy;

    #[test]
    fn inserted_text_is_escaped() {
        let page = draw(&busy(), Some(&TrafficHistory::default()));
        assert!(page.contains("web2.&lt;b&gt;example&lt;/b&gt;.net (10.0.0.2:8080)"));
        assert!(page.contains("in 9 d 0 h: /etc/pen/a&lt;b&gt;.crt"), "{page}");
        assert!(page.contains("b.crt: expected &lt;PEM&gt;"));
        assert!(page.contains("no collector answers at &lt;loghost&gt;"));
        assert!(page.contains("&lt;no answer&gt;"));
        assert!(!page.contains("<b>example"));
    }

    #[test]
    fn the_live_page_has_charts_and_the_file_has_none() {
        let mut history = TrafficHistory::default();
        for at in 0..3 {
            history.push(&Snapshot { uptime: busy().uptime + at * STEP, ..busy() });
        }
        let live = draw(&busy(), Some(&history));
        // Four above, and one for each server.
        assert_eq!(live.matches("<svg").count(), 4 + busy().servers.len());
        assert!(live.contains("http-equiv=\"refresh\""));
        let file = draw(&busy(), None);
        assert!(!file.contains("<svg") && !file.contains("refresh"));
        for text in ["<title>Pen status page</title>", "Active clients", "Active connections"] {
            assert!(file.contains(text), "{text}");
        }
    }

    #[test]
    fn long_lists_are_cut_and_the_page_says_so() {
        let mut snapshot = busy();
        let client = snapshot.clients[0].clone();
        snapshot.clients = vec![client; 300];
        let page = draw(&snapshot, None);
        assert!(page.contains("1,377 of at most 2,048; 200 are shown"), "{page}");
    }
}
