//! A mapping: this client, through this connection, asked that server for this.
//!
//! One value, several spellings, a file each. [`classic`] is what the C balancer writes; [`packet`] and
//! [`mod@line`] are what ours does, on the network and in a file; [`third_party_log`] is what other proxies log. Everything a spelling does not carry is
//! `None`: all of it is evidence, none of it is required.

pub mod classic;
pub mod line;
pub mod origins;
pub mod packet;
pub mod third_party_log;

use std::fmt;
use std::net::SocketAddr;

use crate::addr::{ClientAddr, ServerAddr};
use crate::request::{Cut, Fingerprint};
use crate::time::{Resolution, Timestamp};

/// What a balancer noted, borrowing from the bytes it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping<'a> {
    /// Which moment in a connection's life this is.
    pub kind: MappingKind,
    /// Who asked.
    pub client: ClientAddr,
    /// The client's port.
    pub client_port: Option<u16>,
    /// Who was asked.
    pub server: ServerAddr<'a>,
    /// The server's port.
    pub server_port: Option<u16>,
    /// The balancer's own address and port towards the server: what a web server logs as its peer.
    pub balancer: Option<SocketAddr>,
    /// When, by the balancer's clock, and how finely that was written.
    pub time: Option<(Timestamp, Resolution)>,
    /// The connection's number, unique while the balancer runs.
    pub connection: Option<u64>,
    /// Which request on its connection this is, from 1.
    pub nth: Option<u32>,
    /// The request's first line.
    pub request: Option<RequestText<'a>>,
    /// Hash of the whole of a first line that `request` does not hold wholly: see
    /// [`Fingerprint::of_whole`].
    pub whole: Option<u64>,
    /// Of the User-Agent header, as [`crate::attribution::text_hash`] makes it.
    pub user_agent: Option<u32>,
    /// Of the Referer header, likewise.
    pub referer: Option<u32>,
    /// Of the Host header, likewise.
    pub host: Option<u32>,
    /// The response's status.
    pub status: Option<u16>,
    /// Bytes of the response's body, without framing.
    pub body_bytes: Option<u64>,
    /// Bytes of the response's head.
    pub head_bytes: Option<u64>,
    /// Bytes of the response's body as they were sent, chunks' sizes and all.
    pub framed_bytes: Option<u64>,
    /// Bytes of the whole connection from the client to the server.
    pub to_server: Option<u64>,
    /// Bytes of the whole connection from the server to the client.
    pub to_client: Option<u64>,
    /// What can be told of an exchange in TLS that only passes through; its kind is [`MappingKind::Ended`].
    pub sealed: Option<OpaqueTls>,
}

/// An exchange of which the balancer saw ciphertext: from a client's request, or several at once, to the
/// last byte of what came for it. Noted whenever the server has come to rest, so perhaps more than once:
/// a later one with the same number takes the place of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpaqueTls {
    /// Microseconds from the first byte of the request to the last of the response.
    pub took: u32,
    /// Bytes of plain text that the client sent, and the server, as far as the sizes of records tell.
    pub asked: u32,
    /// See `asked`.
    pub answered: u32,
    /// Records of the client that are large enough for a request. Over HTTP/1.1 that is one exchange
    /// all the same, over HTTP/2 mostly as many.
    pub requests: u32,
}

impl<'a> Mapping<'a> {
    /// Reads a line of a mapping file, of ours or of the C balancer, with or without its line end.
    ///
    /// # Errors
    /// Says what was expected at which byte. Any bytes are safe to pass.
    pub fn parse_file_line(line: &'a [u8]) -> Result<Self, MappingError> {
        if line.starts_with(line::START) {
            Self::parse_extended_line(line)
        } else {
            Self::parse_classic_line(line)
        }
    }

    /// A mapping that knows only who and whom.
    #[must_use]
    pub const fn new(client: ClientAddr, server: ServerAddr<'a>) -> Self {
        Self {
            kind: MappingKind::Request,
            client,
            client_port: None,
            server,
            server_port: None,
            balancer: None,
            time: None,
            connection: None,
            nth: None,
            request: None,
            whole: None,
            user_agent: None,
            referer: None,
            host: None,
            status: None,
            body_bytes: None,
            head_bytes: None,
            framed_bytes: None,
            to_server: None,
            to_client: None,
            sealed: None,
        }
    }
}

/// The moment a mapping was noted at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MappingKind {
    /// The connection to the server was opened, before any byte was forwarded.
    Opened,
    /// A request (or, from the C balancer, any read from the client) was forwarded.
    Request,
    /// The response to a request ended.
    Ended,
    /// The connection was closed.
    Closed,
}

/// The bytes of a request as a mapping holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestText<'a> {
    /// At most as many bytes as `cut` keeps.
    pub bytes: &'a [u8],
    /// The rule they were cut by.
    pub cut: Cut,
    /// How they are written down.
    pub spelling: RequestEncoding,
}

/// How the bytes of a request are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestEncoding {
    /// As the client sent them.
    Raw,
    /// Bytes that would not stand in a line of text are `\xNN`, and so is the backslash.
    Escaped,
}

impl<'a> RequestText<'a> {
    /// Bytes as the client sent them.
    #[must_use]
    pub const fn raw(bytes: &'a [u8], cut: Cut) -> Self {
        Self { bytes, cut, spelling: RequestEncoding::Raw }
    }

    /// `None` if nothing was asked (a leading line end, an empty read).
    #[must_use]
    pub fn fingerprint(self) -> Option<Fingerprint> {
        match self.spelling {
            RequestEncoding::Raw => Fingerprint::of_raw(self.bytes, self.cut),
            RequestEncoding::Escaped => Fingerprint::of_logged(&[self.bytes], self.cut),
        }
    }
}

/// Why bytes are no mapping, and at which byte that shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingError {
    /// What was expected there.
    pub kind: MappingErrorKind,
    /// Offset of the first byte that does not fit.
    pub at: usize,
}

/// What a mapping lacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingErrorKind {
    /// The spelling's first bytes.
    Start,
    /// A client address.
    Client,
    /// Seconds since the epoch.
    Time,
    /// A server address.
    Server,
    /// A column of an extended line.
    Column,
}

impl fmt::Display for MappingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected = match self.kind {
            MappingErrorKind::Start => "the start of a mapping",
            MappingErrorKind::Client => "a client address",
            MappingErrorKind::Time => "seconds since the epoch",
            MappingErrorKind::Server => "a server address",
            MappingErrorKind::Column => "another value in this column",
        };
        write!(f, "expected {expected} at byte {}", self.at)
    }
}

impl std::error::Error for MappingError {}
