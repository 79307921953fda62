//! The kinds of traffic.

use crate::stage::Kind::{self, Apache, Nginx};
use crate::stage::visitors::Manner;

/// One kind of traffic.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What the command line calls it.
    pub name: &'static str,
    /// What the table calls it.
    pub title: &'static str,
    /// How visitors behave.
    pub manner: Manner,
    /// The web servers.
    pub webs: [Kind; 3],
    /// Whether TLS passes through the balancer.
    pub tls: bool,
}

/// All rows of the table.
pub const ROWS: &[Row] = &[
    row("single", "one request a connection, 60 URLs", Manner::Single),
    row("same-page", "90 % the same URL", Manner::SamePage),
    row("keep-alive", "keep-alive", Manner::KeepAlive),
    row("slow", "half slow downloads", Manner::Slow),
    row("post", "half POST with bodies", Manner::Post),
    row("pipelined", "pipelined", Manner::Pipelined),
    row("long-urls", "URLs up to 7 kB", Manner::LongUrls),
    row("odd", "HEAD, 304, ranges, 4xx, chunks, aborts, sockets", Manner::Odd),
    Row { tls: true, ..row("tls", "TLS passed through", Manner::Single) },
    Row {
        webs: [Nginx, Nginx, Apache],
        ..row("mixed", "nginx and Apache, keep-alive", Manner::KeepAlive)
    },
];

const fn row(name: &'static str, title: &'static str, manner: Manner) -> Row {
    Row { name, title, manner, webs: [Nginx; 3], tls: false }
}
