//! Access lines: spans into a line nobody copies.
//!
//! A [`Parser`] reads line after line by a [`Spec`]: what the user asked for, or whatever each line
//! shows itself to be. Underneath, a way of reading a file each: the relatives of common and
//! combined, pasted format strings, JSON; and a syslog envelope round any of them.

mod clf;
mod clock;
mod envelope;
mod field;
mod format;
mod json;
mod parser;
mod plan;
mod stamp;
mod template;
mod write;

use std::fmt;

pub use self::format::{FormatError, FormatProblem};
pub use self::parser::{Parser, Spec};
pub use self::write::{write_with_client, write_with_text};

use crate::time::{Resolution, Timestamp};

/// Bytes `start..end` of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes of `line` that this names; empty if it reaches beyond.
    #[must_use]
    pub fn of(self, line: &[u8]) -> &[u8] {
        line.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// What was found in an access line. All spans are offsets into the line that was parsed, escapes
/// not undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessLine {
    /// Bytes of a syslog envelope before the line proper; 0 without one.
    pub envelope: u32,
    /// The client field: the only bytes a rewrite changes.
    pub client: Span,
    /// When, and how finely that was written.
    pub time: Option<(Timestamp, Resolution)>,
    /// The time's text.
    pub time_text: Option<Span>,
    /// The request.
    pub request: Request,
    /// The response's status.
    pub status: Option<u16>,
    /// Bytes sent, as the format counts them.
    pub bytes: Option<u64>,
    /// The Referer header.
    pub referer: Option<Span>,
    /// The User-Agent header.
    pub user_agent: Option<Span>,
    /// The Host header or the virtual host's name, with its port if it was logged as one word.
    pub host: Option<Span>,
    /// The authenticated user.
    pub user: Option<Span>,
    /// The X-Forwarded-For header.
    pub forwarded_for: Option<Span>,
    /// The port of the connection's peer: the balancer's own port towards the server.
    pub peer_port: Option<u16>,
    /// The server's own port.
    pub server_port: Option<u16>,
    /// Which request on its connection this was, from 1.
    pub nth: Option<u32>,
    /// How long the request took, in microseconds.
    pub duration: Option<u64>,
}

/// The request as a format spells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Request {
    /// The format does not log it.
    #[default]
    Absent,
    /// The request's first line.
    Line(Span),
    /// Its words, each logged on its own.
    Parts {
        /// GET, POST, …
        method: Span,
        /// Path and query; for Apache's `%U%q` two adjoining spans would be joined here.
        target: Span,
        /// The query where it was logged apart from the path (with its `?`).
        query: Option<Span>,
        /// `HTTP/1.1`.
        protocol: Option<Span>,
    },
}

/// Why a line was not understood, and at which byte that shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineError {
    /// Offset of the first byte that does not fit.
    pub at: u32,
    /// What was expected there.
    pub expected: Expected,
}

/// What a line lacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A line of any known format.
    AccessLine,
    /// A client field.
    Client,
    /// A time.
    Time,
    /// A request.
    Request,
    /// Literal text of the format.
    Literal,
    /// A JSON object with a client in it.
    Json,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected = match self.expected {
            Expected::AccessLine => "an access line",
            Expected::Client => "a client",
            Expected::Time => "a time",
            Expected::Request => "a request",
            Expected::Literal => "the format's own text",
            Expected::Json => "a JSON object that names a client",
        };
        write!(f, "expected {expected} at byte {}", self.at)
    }
}

impl std::error::Error for LineError {}
