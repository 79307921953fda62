//! The extended encoding in a file: one line of text a mapping, with columns for awk.
//!
//! ```text
//! line   = "pen1" 20(SP column) SP request [LF]
//! column = value / "-"                        ; "-" if unknown
//! ```
//!
//! | column | |
//! |---|---|
//! | 1 | `pen1`: the version |
//! | 2 | seconds since the epoch with six decimals |
//! | 3 | `open`, `request`, `end` or `close` |
//! | 4, 5 | client: address and port; `unix:` for a client on a Unix-domain socket |
//! | 6, 7 | server: address, or path, and port |
//! | 8, 9 | the balancer's own address and port towards the server |
//! | 10, 11 | number of the connection; number of the request on the connection |
//! | 12 | status |
//! | 13, 14, 15 | bytes of the response: head, body, body with framing |
//! | 16, 17 | bytes of the connection: to the server, to the client |
//! | 18, 19, 20 | hashes of User-Agent, Referer and Host by [`crate::attribution::text_hash`], in hex |
//! | 21 | hash of the full request if longer than 800 bytes, in hex |
//! | 22 … | the request to the end of the line, at most 800 bytes |
//!
//! An exchange in opaque TLS is an `end` without a status. In place of the request stand the word
//! `sealed`, the duration in microseconds, the bytes of the client, the bytes of the server, and
//! the greatest possible number of requests.
//!
//! In place of the request of another `end` may stand the word `body` and when the body of the request
//! ended: so many microseconds before the record, or `pending`. After `pending` a second `end` follows, which
//! replaces the first.
//!
//! In paths and requests, the backslash and bytes other than printable ASCII are written `\xNN`; so
//! is a space in a path.

use std::io::Write as _;
use std::net::SocketAddr;

use super::{
    BodyEnd, Mapping, MappingError, MappingErrorKind, MappingKind, OpaqueTls, RequestEncoding,
    RequestText,
};
use crate::addr::{ClientAddr, ServerAddr, parse_ip};
use crate::request::{Cut, LONG};
use crate::time::{Resolution, Timestamp};

/// The start of a line. Classic lines begin with an address.
pub const START: &[u8] = b"pen1 ";

impl<'a> Mapping<'a> {
    /// Parses an extended line, with or without its line end.
    ///
    /// # Errors
    /// Names what was expected and at which byte. Any bytes are safe to pass.
    pub fn parse_extended_line(line: &'a [u8]) -> Result<Self, MappingError> {
        let bare = line.strip_suffix(b"\n").unwrap_or(line);
        let mut columns = LineColumns { line: bare, at: 0 };
        if columns.next(MappingErrorKind::Start)? != b"pen1" {
            return Err(MappingError { kind: MappingErrorKind::Start, at: 0 });
        }
        let time = columns.read(MappingErrorKind::Time, time)?;
        let kind = columns.read(MappingErrorKind::Column, kind)?;
        let client = columns.read(MappingErrorKind::Client, ClientAddr::parse)?;
        let client_port = columns.read(MappingErrorKind::Column, optional(number))?;
        let server = columns.read(MappingErrorKind::Server, server)?;
        let server_port = columns.read(MappingErrorKind::Column, optional(number))?;
        let ip = columns.read(MappingErrorKind::Column, optional(parse_ip))?;
        let port = columns.read(MappingErrorKind::Column, optional(number))?;
        let mapping = Self {
            kind,
            time: Some((time, Resolution::Microsecond)),
            client_port,
            server_port,
            balancer: ip.zip(port).map(|(ip, port)| SocketAddr::new(ip, port)),
            connection: columns.read(MappingErrorKind::Column, optional(number))?,
            nth: columns.read(MappingErrorKind::Column, optional(number))?,
            status: columns.read(MappingErrorKind::Column, optional(number))?,
            head_bytes: columns.read(MappingErrorKind::Column, optional(number))?,
            body_bytes: columns.read(MappingErrorKind::Column, optional(number))?,
            framed_bytes: columns.read(MappingErrorKind::Column, optional(number))?,
            to_server: columns.read(MappingErrorKind::Column, optional(number))?,
            to_client: columns.read(MappingErrorKind::Column, optional(number))?,
            user_agent: columns.read(MappingErrorKind::Column, optional(hex))?,
            referer: columns.read(MappingErrorKind::Column, optional(hex))?,
            host: columns.read(MappingErrorKind::Column, optional(hex))?,
            whole: columns.read(MappingErrorKind::Column, optional(long_hex))?,
            ..Self::new(client, server)
        };
        if mapping.kind == MappingKind::Ended
            && let Some(found) = bare.get(columns.at..).and_then(opaque_tls)
        {
            return Ok(Self { opaque_tls: Some(found), ..mapping });
        }
        if mapping.kind == MappingKind::Ended
            && let Some(found) = bare.get(columns.at..).and_then(body_end)
        {
            return Ok(Self { body_end: Some(found), ..mapping });
        }
        let request = match bare.get(columns.at..) {
            None | Some(b"-") => None,
            Some(bytes) => {
                let spelling = if bytes.contains(&b'\\') {
                    RequestEncoding::Escaped
                } else {
                    RequestEncoding::Raw
                };
                Some(RequestText { bytes, cut: Cut::Long, spelling })
            }
        };
        Ok(Self { request, ..mapping })
    }

    /// Appends this mapping as an extended line, line end included. A mapping without a time is
    /// written with time 0; a request is cut to [`LONG`] bytes.
    pub fn write_extended_line(&self, out: &mut Vec<u8>) {
        let micros = self.time.map_or(0, |(time, _)| time.as_micros()).max(0);
        let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
        let kind = match self.kind {
            MappingKind::Opened => "open",
            MappingKind::Request => "request",
            MappingKind::Ended => "end",
            MappingKind::Closed => "close",
        };
        write!(out, "pen1 {seconds}.{fraction:06} {kind} ").expect(VEC);
        self.client.write_to(out);
        column(self.client_port, out);
        out.push(b' ');
        match self.server {
            ServerAddr::Ip(ip) => ClientAddr::from(ip).write_to(out),
            ServerAddr::Unix(path) => escape_path(path, out),
        }
        column(self.server_port, out);
        column(self.balancer.map(|addr| addr.ip().to_canonical()), out);
        column(self.balancer.map(|addr| addr.port()), out);
        column(self.connection, out);
        column(self.nth, out);
        column(self.status, out);
        column(self.head_bytes, out);
        column(self.body_bytes, out);
        column(self.framed_bytes, out);
        column(self.to_server, out);
        column(self.to_client, out);
        for hash in [self.user_agent, self.referer, self.host] {
            match hash {
                Some(hash) => write!(out, " {hash:08x}").expect(VEC),
                None => out.extend_from_slice(b" -"),
            }
        }
        match self.whole {
            Some(hash) => write!(out, " {hash:016x} ").expect(VEC),
            None => out.extend_from_slice(b" - "),
        }
        let is_end = self.kind == MappingKind::Ended;
        match (self.opaque_tls, self.body_end) {
            (Some(OpaqueTls { took, asked, answered, requests }), _) if is_end => {
                write!(out, "sealed {took} {asked} {answered} {requests}").expect(VEC);
            }
            (None, Some(BodyEnd::Pending)) if is_end => out.extend_from_slice(b"body pending"),
            (None, Some(BodyEnd::Ago(micros))) if is_end => {
                write!(out, "body {micros}").expect(VEC);
            }
            _ => self.write_request(out),
        }
        out.push(b'\n');
    }

    fn write_request(&self, out: &mut Vec<u8>) {
        match self.request {
            None => out.push(b'-'),
            // Escaped, to distinguish the request `-` from no request.
            Some(RequestText { bytes: b"-", .. }) => out.extend_from_slice(b"\\x2d"),
            Some(RequestText { bytes, spelling: RequestEncoding::Escaped, .. }) => {
                out.extend_from_slice(bytes);
            }
            Some(RequestText { bytes, .. }) => {
                escape(&bytes[..bytes.len().min(LONG)], b'\\', out);
            }
        }
    }
}

const VEC: &str = "writing to a Vec does not fail";

fn column(value: Option<impl std::fmt::Display>, out: &mut Vec<u8>) {
    match value {
        Some(value) => write!(out, " {value}").expect(VEC),
        None => out.extend_from_slice(b" -"),
    }
}

/// Appends `\xNN` for bytes that are not printable, for the backslash, and for `also`.
fn escape(bytes: &[u8], also: u8, out: &mut Vec<u8>) {
    for &byte in bytes {
        if matches!(byte, b' '..=b'~') && byte != b'\\' && byte != also {
            out.push(byte);
        } else {
            write!(out, "\\x{byte:02x}").expect(VEC);
        }
    }
}

/// Appends a path with [`escape`]; escapes stay, because a path from a line is kept as written there.
fn escape_path(mut path: &[u8], out: &mut Vec<u8>) {
    while let [byte, rest @ ..] = path {
        if is_escape(path) {
            out.extend_from_slice(&path[..4]);
            path = &path[4..];
        } else {
            escape(std::slice::from_ref(byte), b' ', out);
            path = rest;
        }
    }
}

/// Whether `text` begins with `\xNN`.
fn is_escape(text: &[u8]) -> bool {
    matches!(text, [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

struct LineColumns<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> LineColumns<'a> {
    fn next(&mut self, kind: MappingErrorKind) -> Result<&'a [u8], MappingError> {
        let rest = self.line.get(self.at..).unwrap_or_default();
        let len = memchr::memchr(b' ', rest).ok_or(MappingError { kind, at: self.at })?;
        self.at += len + 1;
        Ok(&rest[..len])
    }

    fn read<T>(
        &mut self,
        kind: MappingErrorKind,
        read: impl Fn(&'a [u8]) -> Option<T>,
    ) -> Result<T, MappingError> {
        let at = self.at;
        let column = self.next(kind)?;
        read(column).ok_or(MappingError { kind, at })
    }
}

fn optional<'a, T>(read: impl Fn(&'a [u8]) -> Option<T>) -> impl Fn(&'a [u8]) -> Option<Option<T>> {
    move |column| if column == b"-" { Some(None) } else { read(column).map(Some) }
}

/// Parses an address, or a path whose special bytes are escaped; the path keeps the escapes.
fn server(column: &[u8]) -> Option<ServerAddr<'_>> {
    let is_escaped = |path: &[u8]| {
        let is_valid = |(at, byte): (usize, &u8)| match byte {
            b'\\' => is_escape(&path[at..]),
            _ => matches!(byte, b'!'..=b'~'),
        };
        path.iter().enumerate().all(is_valid)
    };
    ServerAddr::parse(column).filter(|server| match server {
        ServerAddr::Ip(_) => true,
        ServerAddr::Unix(path) => is_escaped(path),
    })
}

/// Parses a column of decimal digits.
fn number<T: TryFrom<u64>>(column: &[u8]) -> Option<T> {
    if column.is_empty() || column.len() > 20 {
        return None;
    }
    let value = column.iter().try_fold(0_u64, |value, &digit| {
        let digit = char::from(digit).to_digit(10)?;
        value.checked_mul(10)?.checked_add(digit.into())
    })?;
    T::try_from(value).ok()
}

/// Parses eight hex digits.
fn hex(column: &[u8]) -> Option<u32> {
    if column.len() != 8 {
        return None;
    }
    column.iter().try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

/// Parses sixteen hex digits.
fn long_hex(column: &[u8]) -> Option<u64> {
    let (high, low) = column.split_at_checked(8)?;
    Some(u64::from(hex(high)?) << 32 | u64::from(hex(low)?))
}

/// `seconds.micros`
fn time(column: &[u8]) -> Option<Timestamp> {
    let dot = column.len().checked_sub(7)?;
    let (seconds, fraction) = (column.get(..dot)?, column.get(dot + 1..)?);
    if column.get(dot) != Some(&b'.') || seconds.len() > 12 {
        return None;
    }
    let (seconds, micros): (i64, i64) = (signed(seconds)?, signed(fraction)?);
    Some(Timestamp::from_micros(seconds * 1_000_000 + micros))
}

/// `sealed took asked answered requests`
fn opaque_tls(columns: &[u8]) -> Option<OpaqueTls> {
    let mut numbers = columns.strip_prefix(b"sealed ")?.split(|&byte| byte == b' ').map(number);
    let mut next = || numbers.next().flatten();
    let found = OpaqueTls { took: next()?, asked: next()?, answered: next()?, requests: next()? };
    numbers.next().is_none().then_some(found)
}

/// `body micros` or `body pending`
fn body_end(columns: &[u8]) -> Option<BodyEnd> {
    match columns.strip_prefix(b"body ")? {
        b"pending" => Some(BodyEnd::Pending),
        micros => number(micros).map(BodyEnd::from_number),
    }
}

fn signed(digits: &[u8]) -> Option<i64> {
    number::<u64>(digits).and_then(|value| value.try_into().ok())
}

fn kind(column: &[u8]) -> Option<MappingKind> {
    match column {
        b"open" => Some(MappingKind::Opened),
        b"request" => Some(MappingKind::Request),
        b"end" => Some(MappingKind::Ended),
        b"close" => Some(MappingKind::Closed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_path_is_written_as_it_was_read_or_refused() {
        let line = |path: &str| {
            format!("pen1 1.000000 open 192.0.2.7 9 {path} - - - - - - - - - - - - - - - -\n")
        };
        for (path, is_read) in [
            ("/run/web.sock", true),
            ("/run/a\\x20b\\x5c.sock", true),
            ("/run/a\u{10}b", false),
            ("/run/\u{e9}", false),
            ("/run/a\\b", false),
        ] {
            let line = line(path);
            let mapping = Mapping::parse_extended_line(line.as_bytes());
            assert_eq!(mapping.is_ok(), is_read, "{path}");
            if let Ok(mapping) = mapping {
                let mut out = Vec::new();
                mapping.write_extended_line(&mut out);
                assert_eq!(String::from_utf8_lossy(&out), line, "{path}");
            }
        }
    }
}
