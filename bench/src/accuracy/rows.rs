//! The kinds of traffic.

use super::wordings::{PLAIN, VARIED, Wording};
use crate::stage::Faults;
use crate::stage::WebServerKind::{self, Apache, Nginx};
use crate::stage::visitors::{Protocol, Sending, TrafficKind, USER_AGENTS};

/// One kind of traffic.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What the command line calls it.
    pub name: &'static str,
    /// What the table calls it.
    pub title: &'static str,
    /// How visitors behave.
    pub manner: TrafficKind,
    /// How many User-Agents the visitors have.
    pub user_agents: u64,
    /// The web servers.
    pub webs: [WebServerKind; 3],
    /// How visits are sent; where TLS is, it passes through the balancer.
    pub sending: Sending,
    /// Whether clients and servers have IPv6 addresses, and the servers the same one. Only our pen, which is
    /// told the clients' by the PROXY protocol, has this row.
    pub v6: bool,
    /// What happens to records on their way to a collector; likewise.
    pub faults: Option<Faults>,
    /// Seconds that the servers' clocks are ahead, in the logs that are merged afterwards; likewise.
    pub clocks: [i64; 3],
    /// What the servers log; likewise, where it is not as usual.
    pub wordings: &'static [Wording],
}

/// All rows of the table.
pub const ROWS: &[Row] = &[
    row("single", "one request a connection, 60 URLs", TrafficKind::Single),
    row("same-page", "90 % the same URL", TrafficKind::SamePage),
    Row { user_agents: 1, ..row("same-page-1", "the same, 1 User-Agent", TrafficKind::SamePage) },
    Row {
        user_agents: 12,
        ..row("same-page-12", "the same, 12 User-Agents", TrafficKind::SamePage)
    },
    row("keep-alive", "keep-alive", TrafficKind::KeepAlive),
    row("slow", "half slow downloads", TrafficKind::Slow),
    row("post", "half POST with bodies", TrafficKind::Post),
    row("early", "half POST answered before their bodies have come", TrafficKind::EarlyAnswers),
    row("pipelined", "pipelined", TrafficKind::Pipelined),
    row("long-urls", "URLs up to 7 kB", TrafficKind::LongUrls),
    Row {
        webs: [Nginx, Nginx, Apache],
        ..row("odd", "HEAD, 304, ranges, 4xx, chunks, aborts, sockets", TrafficKind::Odd)
    },
    Row {
        sending: Sending { tls: Some(Protocol::Http1), per_second: None },
        webs: [Nginx, Nginx, Apache],
        ..row("tls", "TLS passed through", TrafficKind::Single)
    },
    sealed("sealed-nginx", "TLS to nginx, 50 requests/s", Protocol::Http1, Nginx),
    sealed("sealed-apache", "TLS to Apache, 50 requests/s", Protocol::Http1, Apache),
    sealed("sealed-nginx-h2", "TLS to nginx, HTTP/2, 50 requests/s", Protocol::Http2, Nginx),
    sealed("sealed-apache-h2", "TLS to Apache, HTTP/2, 50 requests/s", Protocol::Http2, Apache),
    Row {
        webs: [Nginx, Nginx, Apache],
        ..row("mixed", "nginx and Apache, keep-alive", TrafficKind::KeepAlive)
    },
    Row {
        webs: [Nginx, Nginx, Apache],
        wordings: VARIED,
        ..row("varied", "JSON, virtual hosts, two formats", TrafficKind::KeepAlive)
    },
    Row { v6: true, ..row("ipv6", "IPv6, servers at one address", TrafficKind::KeepAlive) },
    Row {
        faults: Some(Faults { lost: 10, doubled: 10, late: 50 }),
        ..row("lossy", "1 % of records lost, 1 % doubled, 5 % late (live)", TrafficKind::KeepAlive)
    },
    Row {
        clocks: [-90, 3, 3_600],
        ..row("clocks", "clocks off by -90, 3, 3,600 s (offline)", TrafficKind::KeepAlive)
    },
    Row { webs: [Nginx, Nginx, Apache], ..row("all", "all of it mixed", TrafficKind::All) },
    Row {
        sending: Sending { tls: None, per_second: Some(BUSY) },
        webs: [Nginx, Nginx, Apache],
        ..row("busy", "all of it mixed, 2,000 requests/s for a minute", TrafficKind::All)
    },
];

/// Requests a second of a busy site.
const BUSY: u32 = 2_000;

impl Row {
    /// Whether the C programs can take part.
    #[must_use]
    pub fn is_for_all(&self) -> bool {
        !self.v6
            && self.faults.is_none()
            && self.clocks == [0; 3]
            && self.sending.per_second.is_none()
            && self.wordings.iter().all(|it| it.files.iter().all(|file| file.host.is_none()))
    }

    /// How many requests it has, where others have so many: where they come slowly it is fewer, and of a busy site
    /// those of a minute.
    #[must_use]
    pub fn requests(&self, requests: usize) -> usize {
        match self.sending.per_second {
            Some(BUSY) => requests * 20,
            Some(_) => requests / 3,
            None => requests,
        }
    }
}

/// TLS that passes through, slowly enough to be told apart by time and size.
const fn sealed(
    name: &'static str,
    title: &'static str,
    protocol: Protocol,
    web: WebServerKind,
) -> Row {
    let manner = match protocol {
        Protocol::Http1 => TrafficKind::KeepAlive,
        Protocol::Http2 => TrafficKind::Pipelined,
    };
    let sending = Sending { tls: Some(protocol), per_second: Some(50) };
    Row { sending, webs: [web; 3], ..row(name, title, manner) }
}

const fn row(name: &'static str, title: &'static str, manner: TrafficKind) -> Row {
    Row {
        name,
        title,
        manner,
        user_agents: USER_AGENTS,
        webs: [Nginx; 3],
        sending: Sending { tls: None, per_second: None },
        v6: false,
        faults: None,
        clocks: [0; 3],
        wordings: PLAIN,
    }
}
