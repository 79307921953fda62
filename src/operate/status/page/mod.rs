//! The state as a page: one file, no script, nothing fetched from anywhere, readable on a phone and
//! in the dark.

mod words;

use std::fmt::{self, Write as _};
use std::time::{Duration, UNIX_EPOCH};

use words::{Count, Html, Lasting, Most, Size, Utc};

use super::history::{STEP, TrafficHistory};
use super::{address, bytes, label, sparkline};
use crate::config::limit;
use crate::data::snapshot::{
    CheckSnapshot, ClientSnapshot, ConnectionSnapshot, LimitedCount, LogSnapshot, ServerSnapshot,
    ServerStatus, Snapshot,
};

const STYLE: &str = include_str!("page.css");
/// A certificate that expires within this time wants to be looked at.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// Rows of a list that a page shows: whoever wants more has the JSON and the control port.
const ROWS: usize = 200;

/// The page. With a history it is the live one, which draws lines and asks for itself again.
#[must_use]
pub fn draw(snapshot: &Snapshot, history: Option<&TrafficHistory>) -> String {
    let mut page = Page(String::new());
    page.head(snapshot, history.is_some());
    page.tiles(snapshot, history);
    page.servers(snapshot, history);
    page.log("Mapping records", snapshot.mapping_log.as_ref());
    page.log("Access log", snapshot.access_log.as_ref());
    page.tls(snapshot);
    page.clients(&snapshot.clients, snapshot.clients_known);
    page.connections(&snapshot.connections, snapshot.connections_open);
    page.ended(snapshot);
    page.foot(history);
    page.0
}

struct Page(String);

impl Page {
    fn add(&mut self, text: fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("writing to a String does not fail");
    }

    fn head(&mut self, snapshot: &Snapshot, live: bool) {
        let refresh = if live { "<meta http-equiv=\"refresh\" content=\"5\">" } else { "" };
        self.add(format_args!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">{refresh}\
             <title>Pen status page</title><style>\n{STYLE}</style></head><body>\n"
        ));
        let seconds = snapshot.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let listen = snapshot.listen.join(", ");
        self.add(format_args!(
            "<h1>Pen status page</h1>\n<p class=\"dim\">Time {}, up for {}, listening on {}, \
             {} servers, {} current</p>\n",
            Utc(seconds),
            Lasting(snapshot.uptime),
            Html(&listen),
            snapshot.servers.len(),
            snapshot.current,
        ));
    }

    fn tiles(&mut self, snapshot: &Snapshot, history: Option<&TrafficHistory>) {
        let (to_server, to_client) = bytes(snapshot);
        let counts = &snapshot.counts;
        let open = snapshot.connections_open;
        let most = open.most.map(|most| format!(" of {}", Count(most))).unwrap_or_default();
        let last = |rates: Vec<f64>| rates.last().copied();
        let tile = |name, value: String, more: String, line: Vec<f64>| {
            format!(
                "<div class=\"card tile\"><span class=\"dim\">{name}</span><b>{value}\
                 <small>{more}</small></b>{}</div>\n",
                sparkline::draw(&line, name)
            )
        };
        let lines = |of: fn(&TrafficHistory) -> Vec<f64>| history.map(of).unwrap_or_default();
        let rate = |of: fn(&TrafficHistory) -> Vec<f64>, total: u64| {
            let rate = last(lines(of)).map(|rate| format!("{}/s", Size(rate)));
            let total = format!("{} in all", Size(float(total)));
            match rate {
                Some(rate) => (rate, format!(" {total}")),
                None => (total, String::new()),
            }
        };
        let accepted = match last(lines(TrafficHistory::accepted)) {
            Some(rate) => (format!("{rate:.1}/s"), format!(" {} in all", Count(counts.accepted))),
            None => (format!("{} in all", Count(counts.accepted)), String::new()),
        };
        let (up, up_more) = rate(TrafficHistory::to_server, to_server);
        let (down, down_more) = rate(TrafficHistory::to_client, to_client);
        self.add(format_args!("<div class=\"tiles\">\n"));
        for tile in [
            tile(
                "Open connections",
                Count(open.now).to_string(),
                most,
                lines(TrafficHistory::open),
            ),
            tile("New connections", accepted.0, accepted.1, lines(TrafficHistory::accepted)),
            tile("From clients", up, up_more, lines(TrafficHistory::to_server)),
            tile("To clients", down, down_more, lines(TrafficHistory::to_client)),
        ] {
            self.0.push_str(&tile);
        }
        self.add(format_args!("</div>\n"));
    }

    fn servers(&mut self, snapshot: &Snapshot, history: Option<&TrafficHistory>) {
        self.add(format_args!("<h2>Servers</h2>\n"));
        if snapshot.servers.is_empty() {
            self.add(format_args!("<p class=\"card note\">There are none.</p>\n"));
            return;
        }
        self.table(&[
            "server*",
            "address*",
            "status*",
            "connections",
            "",
            "soft, hard limit",
            "served",
            "new/s",
            "failures",
            "from clients",
            "to clients",
            "bytes/s",
            "weight, prio",
        ]);
        for server in &snapshot.servers {
            self.server(server, history);
        }
        self.end_table();
    }

    fn server(&mut self, server: &ServerSnapshot, history: Option<&TrafficHistory>) {
        let config = &server.config;
        let address = address(server);
        let line = history.map(|history| history.server_connections(server.id));
        let line = sparkline::draw(&line.unwrap_or_default(), "its connections");
        let per_second = history.and_then(|history| history.server_rate(server.id));
        let size = history.and_then(|history| history.server_bytes(server.id));
        let failures = match server.last_failure {
            Some(ago) => format!(
                "{}<small class=\"dim\">{} ago</small>",
                Count(server.failures),
                Lasting(ago)
            ),
            None => Count(server.failures).to_string(),
        };
        let (soft, hard) = (limit(config.soft), limit(config.hard));
        let bar = bar(server.connections, soft.max(hard));
        self.row([
            Cell::left("server", &label(server.id)),
            Cell::wide("address", &Html(&address).to_string()),
            Cell::left(
                "status",
                &format!("{}{}", state(server.state), check(server.check.as_ref())),
            ),
            Cell::new("connections", &format!("{}{bar}", Count(server.connections.into()))),
            Cell::new("", &line),
            Cell::new("soft, hard limit", &format!("{}, {}", Most(soft), Most(hard))),
            Cell::new("served", &Count(server.served).to_string()),
            Cell::new("new/s", &per_second.map(|it| format!("{it:.1}")).unwrap_or_default()),
            Cell::new("failures", &failures),
            Cell::new("from clients", &Size(float(server.to_server)).to_string()),
            Cell::new("to clients", &Size(float(server.to_client)).to_string()),
            Cell::new("bytes/s", &size.map(|it| Size(it).to_string()).unwrap_or_default()),
            Cell::new("weight, prio", &format!("{}, {}", config.weight, config.prio)),
        ]);
    }

    fn log(&mut self, title: &str, log: Option<&LogSnapshot>) {
        let Some(log) = log else { return };
        self.add(format_args!("<h2>{title}</h2>\n<div class=\"card note\">"));
        let drop_class = if log.dropped > 0 { "state trouble" } else { "" };
        self.add(format_args!(
            "<p>to {}: {} made, {} written, <span class=\"{drop_class}\">{} dropped</span></p>",
            Html(&log.target),
            Count(log.made),
            Count(log.written),
            Count(log.dropped),
        ));
        if let Some(trouble) = &log.trouble {
            self.add(format_args!("<p><span class=\"state trouble\">{}</span></p>", Html(trouble)));
        }
        self.add(format_args!("</div>\n"));
    }

    fn tls(&mut self, snapshot: &Snapshot) {
        let Some(tls) = &snapshot.tls else { return };
        let with = match (tls.clients, tls.servers) {
            (true, true) => "clients and servers",
            (true, false) => "clients",
            (false, _) => "servers",
        };
        self.add(format_args!("<h2>TLS</h2>\n<div class=\"card note\"><p>with {with}"));
        if tls.clients {
            self.add(format_args!(
                ": {} handshakes, {} failed; certificates: {}, read {} ago",
                Count(tls.handshakes),
                Count(tls.failed),
                Count(tls.certificates),
                Lasting(tls.age),
            ));
        }
        self.add(format_args!("</p>"));
        if let Some((file, end)) = &tls.expires {
            let left = end.duration_since(snapshot.time);
            let soon = left.as_ref().map_or(true, |left| *left < SOON);
            let class = if soon { "state trouble" } else { "" };
            let file = Html(file);
            match left {
                Ok(left) => self.add(format_args!(
                    "<p><span class=\"{class}\">the first to expire, in {}: {file}</span></p>",
                    Lasting(left)
                )),
                Err(_) => self
                    .add(format_args!("<p><span class=\"{class}\">{file} has expired</span></p>")),
            }
        }
        if let Some(trouble) = &tls.trouble {
            self.add(format_args!("<p><span class=\"state trouble\">{}</span></p>", Html(trouble)));
        }
        self.add(format_args!("</div>\n"));
    }

    fn clients(&mut self, clients: &[ClientSnapshot], known: LimitedCount) {
        self.add(format_args!("<h2>Active clients</h2>\n<p class=\"dim\">{}", Count(known.now)));
        if let Some(most) = known.most {
            self.add(format_args!(" of at most {}", Count(most)));
        }
        self.shown(clients.len(), known.now);
        if clients.is_empty() {
            return;
        }
        self.table(&["client*", "age", "last server", "connects", "sent", "received"]);
        for client in clients.iter().take(ROWS) {
            let server = client.server.map(label).unwrap_or_default();
            self.row([
                Cell::wide("client", &Html(&client.addr.to_string()).to_string()),
                Cell::new("age", &Lasting(client.age).to_string()),
                Cell::new("last server", &server),
                Cell::new("connects", &Count(client.connects).to_string()),
                Cell::new("sent", &Size(float(client.sent)).to_string()),
                Cell::new("received", &Size(float(client.received)).to_string()),
            ]);
        }
        self.end_table();
    }

    fn connections(&mut self, connections: &[ConnectionSnapshot], open: LimitedCount) {
        self.add(format_args!("<h2>Active connections</h2>\n<p class=\"dim\">{}", Count(open.now)));
        if let Some(most) = open.most {
            self.add(format_args!(" of at most {}", Count(most)));
        }
        self.shown(connections.len(), open.now);
        if connections.is_empty() {
            return;
        }
        self.table(&["connection*", "client*", "server", "state*", "age", "sent", "received"]);
        for connection in connections.iter().take(ROWS) {
            let server = connection.server.map(label).unwrap_or_default();
            self.row([
                Cell::left("connection", &connection.number.to_string()),
                Cell::wide("client", &Html(&connection.client).to_string()),
                Cell::new("server", &server),
                Cell::left("state", connection.stage.word()),
                Cell::new("age", &Lasting(connection.age).to_string()),
                Cell::new("sent", &Size(float(connection.to_client)).to_string()),
                Cell::new("received", &Size(float(connection.to_server)).to_string()),
            ]);
        }
        self.end_table();
    }

    /// How much of a list is shown, where it is not all.
    fn shown(&mut self, len: usize, all: u64) {
        let shown = u64::try_from(len.min(ROWS)).unwrap_or(u64::MAX);
        if shown < all && shown > 0 {
            self.add(format_args!("; {shown} of them are shown"));
        }
        self.add(format_args!("</p>\n"));
    }

    fn ended(&mut self, snapshot: &Snapshot) {
        let counts = &snapshot.counts;
        self.add(format_args!(
            "<h2>So far</h2>\n<p class=\"card note\">{} accepted, {} denied, {} without a server, \
             {} passed to another server",
            Count(counts.accepted),
            Count(counts.denied),
            Count(counts.unserved),
            Count(counts.failovers),
        ));
        if counts.lost_datagrams > 0 {
            let count = Count(counts.lost_datagrams);
            self.add(format_args!("; {count} datagrams could not be passed on"));
        }
        if let Some(drops @ 1..) = counts.kernel_drops {
            let count = Count(drops);
            self.add(format_args!(
                "; {count} datagrams were dropped by the kernel, whose buffer was full"
            ));
        }
        if counts.accept_failures > 0 {
            let count = Count(counts.accept_failures);
            self.add(format_args!("; {count} times none could be accepted"));
        }
        if counts.http_refused + counts.not_http > 0 {
            let (refused, raw) = (Count(counts.http_refused), Count(counts.not_http));
            self.add(format_args!(
                "; in HTTP mode {refused} with a bad request, {raw} that were not HTTP"
            ));
        }
        for (cause, count) in &counts.ended {
            self.add(format_args!("; {} ended: {}", Count(*count), Html(cause)));
        }
        self.add(format_args!("</p>\n"));
    }

    fn foot(&mut self, history: Option<&TrafficHistory>) {
        self.add(format_args!("<footer class=\"dim\">pen {}", env!("CARGO_PKG_VERSION")));
        if let Some(history) = history {
            self.add(format_args!(
                "; lines over the last {}, a point each {} s; the same as \
                 <a href=\"/status.json\">JSON</a> and for <a href=\"/metrics\">Prometheus</a>",
                Lasting(history.span()),
                STEP.as_secs()
            ));
        }
        self.add(format_args!("</footer>\n</body></html>\n"));
    }

    /// Heads with a star stand to the left.
    fn table(&mut self, heads: &[&str]) {
        self.add(format_args!("<div class=\"card scroll\"><table><thead><tr>"));
        for head in heads {
            match head.strip_suffix('*') {
                Some(head) => self.add(format_args!("<th class=\"l\">{head}</th>")),
                None => self.add(format_args!("<th>{head}</th>")),
            }
        }
        self.add(format_args!("</tr></thead><tbody>\n"));
    }

    fn row<const N: usize>(&mut self, cells: [Cell<'_>; N]) {
        self.add(format_args!("<tr>"));
        for Cell { head, html, class } in cells {
            self.add(format_args!("<td class=\"{class}\" data-k=\"{head}\">{html}</td>"));
        }
        self.add(format_args!("</tr>\n"));
    }

    fn end_table(&mut self) {
        self.add(format_args!("</tbody></table></div>\n"));
    }
}

/// A cell; its head goes beside it on a phone, where there is no head of the column.
struct Cell<'a> {
    head: &'static str,
    html: &'a str,
    class: &'static str,
}

impl<'a> Cell<'a> {
    fn new(head: &'static str, html: &'a str) -> Self {
        Self { head, html, class: "" }
    }

    fn left(head: &'static str, html: &'a str) -> Self {
        Self { head, html, class: "l" }
    }

    fn wide(head: &'static str, html: &'a str) -> Self {
        Self { head, html, class: "l w" }
    }
}

fn state(state: ServerStatus) -> String {
    let word = state.word();
    let more = match state {
        ServerStatus::Blacklisted(left) => format!(" {}", Lasting(left)),
        ServerStatus::Up | ServerStatus::Full | ServerStatus::Draining | ServerStatus::Down => {
            String::new()
        }
    };
    format!("<span class=\"state {word}\">{word}{more}</span>")
}

/// What the last check found wrong.
fn check(check: Option<&CheckSnapshot>) -> String {
    let wrong = check.and_then(|check| check.wrong.as_deref());
    wrong.map(|wrong| format!("<small class=\"dim\">{}</small>", Html(wrong))).unwrap_or_default()
}

fn bar(now: u32, most: u32) -> String {
    if most == 0 {
        return String::new();
    }
    let percent = (u64::from(now) * 100 / u64::from(most)).min(100);
    format!("<span class=\"bar\"><i style=\"width:{percent}%\"></i></span>")
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
    fn figures_are_for_people() {
        for (size, expected) in [
            (0.0, "0 B"),
            (999.0, "999 B"),
            (1_000.0, "1.0 kB"),
            (9_960.0, "10 kB"),
            (999_600.0, "1.0 MB"),
            (1.5e9, "1.5 GB"),
            (7e18, "7000 PB"),
        ] {
            assert_eq!(Size(size).to_string(), expected, "{size}");
        }
        assert_eq!(Count(1_234_567).to_string(), "1,234,567");
        assert_eq!(Count(999).to_string(), "999");
        for (seconds, expected) in
            [(0, "0 s"), (75, "1 min 15 s"), (7_325, "2 h 2 min"), (266_525, "3 d 2 h")]
        {
            assert_eq!(Lasting(Duration::from_secs(seconds)).to_string(), expected);
        }
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_795_379_000, "2026-11-22 20:23:20 UTC"),
        ] {
            assert_eq!(Utc(seconds).to_string(), expected);
        }
    }

    #[test]
    fn nothing_that_others_chose_is_markup() {
        let page = draw(&busy(), Some(&TrafficHistory::default()));
        assert!(page.contains("web2.&lt;b&gt;example&lt;/b&gt;.net (10.0.0.2:8080)"));
        assert!(page.contains("in 9 d 0 h: /etc/pen/a&lt;b&gt;.crt"), "{page}");
        assert!(page.contains("b.crt: expected &lt;PEM&gt;"));
        assert!(page.contains("no collector answers at &lt;loghost&gt;"));
        assert!(page.contains("&lt;no answer&gt;"));
        assert!(!page.contains("<b>example"));
    }

    #[test]
    fn the_live_page_has_lines_and_the_file_has_none() {
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
    fn long_lists_are_cut_and_the_cut_is_said() {
        let mut snapshot = busy();
        let client = snapshot.clients[0].clone();
        snapshot.clients = vec![client; 300];
        let page = draw(&snapshot, None);
        assert!(page.contains("1,377 of at most 2,048; 200 of them are shown"), "{page}");
    }
}
