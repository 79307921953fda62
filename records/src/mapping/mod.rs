//! A mapping: this client asked this server for this request over this connection.
//!
//! One value with several encodings, one file each. [`classic`] is the format of the C balancer;
//! [`packet`] and [`mod@line`] are the formats of `pen` on the network and in a file;
//! [`third_party_log`] reads the logs of other proxies. Fields that an encoding lacks are `None`;
//! every field is optional evidence for the join.

pub mod classic;
pub mod line;
pub mod origins;
pub mod packet;
pub mod packet_times;
pub mod third_party_log;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::addr::{ClientAddr, ServerAddr};
use crate::request::{Cut, Fingerprint, without_cut_protocol};
use crate::request_id::RequestId;
use crate::time::{Resolution, Timestamp};

/// A record of the balancer, borrowing from the bytes it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping<'a> {
    /// The event of the connection.
    pub kind: MappingKind,
    /// The client.
    pub client: ClientAddr,
    /// The client's port.
    pub client_port: Option<u16>,
    /// The server.
    pub server: ServerAddr<'a>,
    /// The server's port.
    pub server_port: Option<u16>,
    /// The balancer's own address and port towards the server, which the web server logs as its
    /// peer.
    pub balancer: Option<SocketAddr>,
    /// When, by the balancer's clock, and in which resolution.
    pub time: Option<(Timestamp, Resolution)>,
    /// The number of the connection, unique while the balancer runs.
    pub connection: Option<u64>,
    /// The number of the request on its connection, from 1.
    pub nth: Option<u32>,
    /// The first line of the request.
    pub request: Option<RequestText<'a>>,
    /// Hash of a full first line that is too long for `request`: see [`Fingerprint::of_whole`].
    pub whole: Option<u64>,
    /// Hash of the User-Agent header, by [`crate::attribution::text_hash`].
    pub user_agent: Option<u32>,
    /// Hash of the Referer header, by [`crate::attribution::text_hash`].
    pub referer: Option<u32>,
    /// Hash of the Host header, by [`crate::attribution::text_hash`].
    pub host: Option<u32>,
    /// The id that the balancer gave the request. No encoding of ours has it: only other balancers log one.
    pub request_id: Option<RequestId>,
    /// The status of the response.
    pub status: Option<u16>,
    /// Bytes of the response body, without framing.
    pub body_bytes: Option<u64>,
    /// Bytes of the response head.
    pub head_bytes: Option<u64>,
    /// Bytes of the response body as sent, including the framing of chunks.
    pub framed_bytes: Option<u64>,
    /// Bytes of the connection from the client to the server.
    pub to_server: Option<u64>,
    /// Bytes of the connection from the server to the client.
    pub to_client: Option<u64>,
    /// When the request's body ended, in a record of kind [`MappingKind::Ended`]; `None` without a body.
    pub body_end: Option<BodyEnd>,
    /// Properties of an exchange in opaque TLS; the kind is then [`MappingKind::Ended`].
    pub opaque_tls: Option<OpaqueTls>,
}

/// When the body of a request ended, in the record of the end of its response. The body may end
/// last: then a second record follows, which replaces the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// Not when the record was made.
    Pending,
    /// So many microseconds before the time of the record.
    Ago(u32),
}

impl BodyEnd {
    /// The number that stands for [`BodyEnd::Pending`].
    const PENDING: u32 = u32::MAX;

    /// Returns the end of a body so long before the record; more than an hour is cut.
    #[must_use]
    pub fn ago(time: Duration) -> Self {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        Self::Ago(micros.min(Self::PENDING - 1))
    }

    const fn from_number(number: u32) -> Self {
        if number == Self::PENDING { Self::Pending } else { Self::Ago(number) }
    }

    const fn number(self) -> u32 {
        match self {
            Self::Pending => Self::PENDING,
            Self::Ago(micros) => micros,
        }
    }
}

/// An exchange in TLS that the balancer passes through encrypted: from one or several requests of a
/// client to the last byte of the responses. Recorded whenever the server becomes idle, so perhaps
/// several times: a later record with the same number replaces an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpaqueTls {
    /// Microseconds from the first byte of the request to the last byte of the response.
    pub took: u32,
    /// Bytes of plain text from the client, estimated from the sizes of TLS records.
    pub asked: u32,
    /// Bytes of plain text from the server, estimated from the sizes of TLS records.
    pub answered: u32,
    /// Client TLS records that are large enough for a request. Over HTTP/1.1 they belong to one
    /// exchange; over HTTP/2 most are an exchange each.
    pub requests: u32,
}

impl<'a> Mapping<'a> {
    /// Parses a line of a mapping file, extended or classic, with or without its line end.
    ///
    /// # Errors
    /// Names what was expected and at which byte. Any bytes are safe to pass.
    pub fn parse_file_line(line: &'a [u8]) -> Result<Self, MappingError> {
        if line.starts_with(line::START) {
            Self::parse_extended_line(line)
        } else {
            Self::parse_classic_line(line)
        }
    }

    /// A mapping that names a client and a server only.
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
            request_id: None,
            status: None,
            body_bytes: None,
            head_bytes: None,
            framed_bytes: None,
            to_server: None,
            to_client: None,
            body_end: None,
            opaque_tls: None,
        }
    }
}

/// The event of a connection that a mapping records. Packets contain these numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MappingKind {
    /// The connection to the server was opened, before any byte was forwarded.
    Opened = 1,
    /// A request (or, from the C balancer, any read from the client) was forwarded.
    Request = 2,
    /// The response to a request ended.
    Ended = 3,
    /// The connection was closed.
    Closed = 4,
}

/// The bytes of a request in a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestText<'a> {
    /// At most as many bytes as `cut` keeps.
    pub bytes: &'a [u8],
    /// The cut of the bytes.
    pub cut: Cut,
    /// The encoding of the bytes.
    pub spelling: RequestEncoding,
}

/// The encoding of the bytes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestEncoding {
    /// Raw bytes from the client.
    Raw,
    /// The backslash and bytes that a line of text cannot hold are written `\xNN`.
    Escaped,
}

impl<'a> RequestText<'a> {
    /// Creates a text of raw bytes from the client.
    #[must_use]
    pub const fn raw(bytes: &'a [u8], cut: Cut) -> Self {
        Self { bytes, cut, spelling: RequestEncoding::Raw }
    }

    /// Returns the text without the protocol, for lines that lack it.
    #[must_use]
    pub fn without_protocol(self) -> Self {
        Self { bytes: without_cut_protocol(self.bytes, self.cut), ..self }
    }

    /// Whether the text begins neither with a method nor with a path, as a piece of a request's body does: C pen records
    /// whatever it reads.
    #[must_use]
    #[inline]
    pub fn is_body(self) -> bool {
        let is_method = |byte: &u8| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_');
        let method = self.bytes.iter().take_while(|byte| is_method(byte)).count();
        match self.bytes.get(method) {
            Some(b' ') | None => method == 0,
            Some(b'/') => method > 0,
            Some(_) => true,
        }
    }

    /// Returns the fingerprint; `None` if the text has no request (a leading line end, an empty
    /// read).
    #[must_use]
    pub fn fingerprint(self) -> Option<Fingerprint> {
        match self.spelling {
            RequestEncoding::Raw => Fingerprint::of_raw(self.bytes, self.cut),
            RequestEncoding::Escaped => Fingerprint::of_logged(&[self.bytes], self.cut),
        }
    }
}

/// Why bytes are no mapping, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingError {
    /// What was expected.
    pub kind: MappingErrorKind,
    /// Offset of the first invalid byte.
    pub at: usize,
}

/// The expected part of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingErrorKind {
    /// The first bytes of the encoding.
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
            MappingErrorKind::Column => "a valid value in this column",
        };
        write!(f, "expected {expected} at byte {}", self.at)
    }
}

impl std::error::Error for MappingError {}
