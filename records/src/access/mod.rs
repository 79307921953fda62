//! Access lines, parsed into spans of the borrowed line.
//!
//! A [`Parser`] parses line after line in the format of a [`Spec`]: the format given by the user,
//! or one detected line by line. Each kind of format has a file: `clf` for common, combined and
//! their variants, `format` and `plan` for pasted format strings, `json`, and `shapes` for servers with a form
//! of their own; `envelope` skips a syslog envelope around any of them.

mod carried;
mod clf;
mod counts;
mod envelope;
mod field;
mod format;
mod head;
mod json;
mod known;
mod layout;
mod parser;
mod plan;
mod quote;
pub mod review;
mod shapes;
mod template;
pub(crate) mod third_party_log;
mod time_format;
mod timestamp;
mod trailing;
mod truth;
mod unread;
mod write;

use std::fmt;

pub use self::carried::carried;
use self::envelope::Envelope;
pub use self::format::{FormatError, FormatProblem};
pub use self::known::FormatName;
pub use self::parser::{Parser, Spec};
pub(crate) use self::timestamp::TimestampParser;
pub use self::trailing::TrailingNumbers;
pub use self::unread::LineErrorInText;
pub use self::write::{write_with_client, write_with_text};

use crate::request::{Cut, Fingerprint, LONG, unescape, without_protocol};
use crate::time::{Resolution, Timestamp};

/// Bytes `start..end` of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LineSpan {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl LineSpan {
    /// Bytes `start..end` of a line that [`Parser::parse`] accepted: its length fits 32 bits.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a longer line is refused in Parser::parse"
    )]
    const fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The number of bytes.
    const fn length(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// The bytes of this span in `line`; empty if the span reaches beyond the line.
    #[must_use]
    pub fn of(self, line: &[u8]) -> &[u8] {
        line.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// The fields of an access line. All spans are offsets into the parsed line, and escapes are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessLine {
    /// Length in bytes of what stands in front: a syslog envelope, or the prefix of a container
    /// runtime or of grep; 0 without.
    pub envelope: u32,
    /// The host or container that the envelope names, for lines that come by a syslog relay or from
    /// a central file: the host of the web server.
    pub envelope_host: Option<LineSpan>,
    /// The client field: the only bytes that a rewrite changes.
    pub client: LineSpan,
    /// The time, and its resolution.
    pub time: Option<(Timestamp, Resolution)>,
    /// Whether the time names its zone.
    pub zone: StampZone,
    /// The text of the time.
    pub time_text: Option<LineSpan>,
    /// The request.
    pub request: LoggedRequest,
    /// The response's status.
    pub status: Option<u16>,
    /// Bytes sent, as the format counts them.
    pub bytes: Option<u64>,
    /// The Referer header.
    pub referer: Option<LineSpan>,
    /// The User-Agent header.
    pub user_agent: Option<LineSpan>,
    /// The Host header or the name of the virtual host, with the port if logged as one word.
    pub host: Option<LineSpan>,
    /// The authenticated user.
    pub user: Option<LineSpan>,
    /// The X-Forwarded-For header.
    pub forwarded_for: Option<LineSpan>,
    /// The port of the TCP peer: the balancer's own port towards the server.
    pub peer_port: Option<u16>,
    /// The server's own port.
    pub server_port: Option<u16>,
    /// The number of the request on its connection, from 1.
    pub nth: Option<u32>,
    /// Duration of the request in microseconds.
    pub duration: Option<u64>,
    /// The request's id: a header that the balancer sets, or the server's own id.
    pub request_id: Option<LineSpan>,
    /// Whether the line is text in a JSON object, so that each field is escaped once more.
    pub is_wrapped: bool,
    /// Numbers behind the known fields, one of which may be the peer's port.
    pub trailing: TrailingNumbers,
}

/// Whether a time names its zone. A time without one is read as if it were UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StampZone {
    /// It does, or is no local time.
    #[default]
    Given,
    /// It does not, and is most likely local time.
    Missing,
    /// It does not, and is most likely UTC, as after a `T` in JSON.
    MissingAfterT,
}

impl AccessLine {
    /// A line of which nothing but the envelope is known.
    fn in_envelope(envelope: Envelope) -> Self {
        Self { envelope: envelope.length, envelope_host: envelope.host, ..Self::default() }
    }

    /// The fields of a wrapped line without the escapes of the object, as a line of their own: their
    /// texts are appended to `into`.
    #[must_use]
    pub fn unwrapped(&self, line: &[u8], into: &mut Vec<u8>) -> Self {
        let mut plain = Self { is_wrapped: false, ..*self };
        plain.each_span(|span| {
            let (start, text) = (into.len(), span.of(line));
            into.resize(start + text.len(), 0);
            let len = unescape(text, &mut into[start..]);
            into.truncate(start + len);
            LineSpan::new(start, start + len)
        });
        plain
    }

    /// Replaces all spans.
    fn each_span(&mut self, mut change: impl FnMut(LineSpan) -> LineSpan) {
        let Self { client, time_text, referer, user_agent, host, user, .. } = self;
        *client = change(*client);
        let optional = [time_text, referer, user_agent, host, user, &mut self.forwarded_for];
        for span in optional.into_iter().chain([&mut self.envelope_host, &mut self.request_id]) {
            *span = span.map(&mut change);
        }
        match &mut self.request {
            LoggedRequest::Absent => {}
            LoggedRequest::Line(span) => *span = change(*span),
            LoggedRequest::Parts { method, target, query, protocol } => {
                (*method, *target) = (change(*method), change(*target));
                *query = query.map(&mut change);
                *protocol = protocol.map(&mut change);
            }
        }
    }

    fn set_envelope(&mut self, envelope: Envelope) {
        (self.envelope, self.envelope_host) = (envelope.length, envelope.host);
    }
}

/// The request, in the form that the format logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoggedRequest {
    /// Not logged.
    #[default]
    Absent,
    /// The request's first line.
    Line(LineSpan),
    /// The parts of the request line, logged separately.
    Parts {
        /// GET, POST, …
        method: LineSpan,
        /// Path and query.
        target: LineSpan,
        /// The query if logged separately from the path; nginx's `$args` lacks the `?`.
        query: Option<LineSpan>,
        /// `HTTP/1.1`.
        protocol: Option<LineSpan>,
    },
}

impl LoggedRequest {
    /// The identity of the request under `cut`; `None` if no request was logged, or so little that
    /// it cannot equal a balancer's record (no protocol, and shorter than the cut).
    #[must_use]
    #[inline]
    pub fn fingerprint(&self, line: &[u8], cut: Cut) -> Option<Fingerprint> {
        match *self {
            Self::Absent => None,
            Self::Line(span) => Fingerprint::of_logged(&[span.of(line)], cut),
            Self::Parts { .. } => self.fingerprint_of_parts(line, cut),
        }
    }

    /// The length of the request line in bytes, as far as logged; 0 without a request.
    #[must_use]
    pub fn text_length(&self) -> usize {
        match *self {
            Self::Absent => 0,
            Self::Line(span) => span.length(),
            Self::Parts { method, target, query, protocol } => {
                let optional = |span: Option<LineSpan>| span.map_or(0, |span| span.length() + 1);
                method.length() + 1 + target.length() + optional(query) + optional(protocol)
            }
        }
    }

    /// The identity of a full request longer than [`LONG`] bytes, including the protocol.
    #[must_use]
    #[inline]
    pub fn whole(&self, line: &[u8]) -> Option<Fingerprint> {
        match *self {
            Self::Line(span) => Fingerprint::of_whole_logged(&[span.of(line)]),
            Self::Parts { method, target, query: None, protocol: Some(protocol) }
                if !is_version(protocol.of(line)) =>
            {
                Fingerprint::of_whole_logged(&[method, target, protocol].map(|part| part.of(line)))
            }
            Self::Absent | Self::Parts { .. } => None,
        }
    }

    /// The identity of the request without its protocol: under [`Cut::Target`], or [`Cut::Whole`]
    /// if longer than that keeps.
    #[must_use]
    #[inline]
    pub fn target(&self, line: &[u8]) -> Option<Fingerprint> {
        match *self {
            Self::Absent => None,
            Self::Line(span) => {
                let text = [without_protocol(span.of(line))];
                Fingerprint::of_whole_logged(&text)
                    .or_else(|| Fingerprint::of_logged(&text, Cut::Target))
            }
            Self::Parts { method, target, query, .. } => {
                let text = joined(line, method, target, query);
                Fingerprint::of_whole_logged(&[&text])
                    .or_else(|| Fingerprint::of_logged(&[&text], Cut::Target))
            }
        }
    }

    /// The identity of the request under `cut` without its protocol, for formats that do not log it.
    #[must_use]
    pub fn without_protocol(&self, line: &[u8], cut: Cut) -> Option<Fingerprint> {
        match *self {
            Self::Absent => None,
            Self::Line(span) => Fingerprint::of_logged(&[without_protocol(span.of(line))], cut),
            Self::Parts { method, target, query, .. } => {
                let text = joined(line, method, target, query);
                Fingerprint::of_logged(&[&text], cut)
            }
        }
    }

    /// Fingerprint of the request with a protocol, for a line without.
    #[must_use]
    pub fn with_protocol(&self, line: &[u8], cut: Cut, protocol: &[u8]) -> Option<Fingerprint> {
        match *self {
            Self::Parts { method, target, query, protocol: None } => {
                let text = joined(line, method, target, query);
                Fingerprint::of_logged(&[&text, protocol], cut)
            }
            _ => self.fingerprint(line, cut),
        }
    }

    /// Whether the format logs requests by parts, without the protocol.
    #[must_use]
    pub const fn lacks_protocol(&self) -> bool {
        matches!(self, Self::Parts { protocol: None, .. })
    }

    fn fingerprint_of_parts(&self, line: &[u8], cut: Cut) -> Option<Fingerprint> {
        match *self {
            Self::Absent | Self::Line(_) => None,
            Self::Parts { method, target, query: None, protocol: Some(protocol) }
                if !is_version(protocol.of(line)) =>
            {
                Fingerprint::of_logged(&[method, target, protocol].map(|part| part.of(line)), cut)
            }
            Self::Parts { method, target, query, protocol } => {
                let query = query.map_or(&b""[..], |query| query.of(line));
                let mark: &[u8] = if query.is_empty() || query[0] == b'?' { b"" } else { b"?" };
                let protocol = protocol.map(|protocol| protocol.of(line));
                let space: &[u8] = match protocol {
                    Some(protocol) if is_version(protocol) => b" HTTP/",
                    Some(_) => b" ",
                    None => b"",
                };
                let parts = [method.of(line), b" ", target.of(line), mark, query, space];
                let mut buf = [0; 2 * LONG];
                let mut len = 0;
                for part in parts.into_iter().chain(protocol) {
                    len += unescape(part, &mut buf[len..]);
                }
                let whole = protocol.is_some() || len >= cut.len();
                whole.then(|| Fingerprint::of_raw(&buf[..len], cut)).flatten()
            }
        }
    }
}

/// Method and target, with the query behind a question mark.
fn joined(line: &[u8], method: LineSpan, target: LineSpan, query: Option<LineSpan>) -> Vec<u8> {
    let query = query.map_or(&b""[..], |query| query.of(line));
    let mark: &[u8] = if query.is_empty() || query[0] == b'?' { b"" } else { b"?" };
    [method.of(line), b" ", target.of(line), mark, query].concat()
}

/// Whether a protocol is the version alone, as in `1.1`.
fn is_version(protocol: &[u8]) -> bool {
    protocol.first().is_some_and(u8::is_ascii_digit)
}

/// Why a line could not be parsed, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineError {
    /// Offset of the first invalid byte.
    pub at: u32,
    /// What was expected.
    pub expected: Expected,
}

impl LineError {
    const fn new(at: usize, expected: Expected) -> Self {
        Self { at: LineSpan::new(at, at).start, expected }
    }
}

/// Returns the host or container in the envelope of a line: see [`AccessLine::envelope_host`].
#[must_use]
pub fn envelope_host(line: &[u8]) -> Option<&[u8]> {
    envelope::of(line).host.map(|span| span.of(line))
}

/// The expected part of a line.
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
            Expected::Literal => "literal text of the format",
            Expected::Json => "a JSON object with a client",
        };
        write!(f, "expected {expected} at byte {}", self.at)
    }
}

impl std::error::Error for LineError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_the_same_however_a_format_spells_it() {
        let expected = Fingerprint::of_raw(b"GET /a?b=c HTTP/1.1", Cut::Long);
        assert!(expected.is_some());
        for (format, line) in [
            ("%h %r", "192.0.2.1 GET /a?b=c HTTP/1.1"),
            ("%h %m %U%q %H", "192.0.2.1 GET /a?b=c HTTP/1.1"),
            (r#"%h,"%H","%m","%U","%q""#, r#"192.0.2.1,"HTTP/1.1","GET","/a","?b=c""#),
            (
                "$remote_addr $request_method $uri $args $server_protocol",
                "192.0.2.1 GET /a b=c HTTP/1.1",
            ),
            (
                "$remote_addr $request_method $uri?$args $server_protocol",
                "192.0.2.1 GET /a?b=c HTTP/1.1",
            ),
            ("json", r#"{"ip":"192.0.2.1","method":"GET","uri":"\/a?b=c","proto":"HTTP/1.1"}"#),
            (
                "json",
                r#"{"ip":"192.0.2.1","method":"GET","path":"/a","args":"b=c","proto":"HTTP/1.1"}"#,
            ),
        ] {
            let mut parser = Parser::new(&Spec::parse(format).expect(format));
            let found = parser.parse(line.as_bytes()).expect(format);
            let ours = found.request.fingerprint(line.as_bytes(), Cut::Long);
            assert_eq!(ours, expected, "{format}");
        }
    }

    #[test]
    fn a_request_without_its_protocol_has_a_fingerprint_only_where_a_cut_hides_that() {
        for (path, known) in [("/a".to_owned(), false), (format!("/{}", "a".repeat(200)), true)] {
            let line = format!("192.0.2.1 GET {path}");
            let mut parser = Parser::new(&Spec::parse("%h %m %U").unwrap());
            let found = parser.parse(line.as_bytes()).unwrap();
            let seen = format!("GET {path} HTTP/1.1");
            let seen = Fingerprint::of_raw(seen.as_bytes(), Cut::Short);
            let ours = found.request.fingerprint(line.as_bytes(), Cut::Short);
            assert_eq!(ours == seen, known, "{path}");
            assert_eq!(ours.is_some(), known, "{path}");
        }
    }

    #[test]
    fn the_formats_found_are_named_with_the_most_used_first() {
        let mut parser = Parser::new(&Spec::auto());
        assert_eq!(parser.format(), "none found");
        let common = r#"192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 5"#;
        let combined = format!(r#"{common} "-" "x""#);
        parser.parse(common.as_bytes()).unwrap();
        assert_eq!(parser.format(), "common (1 line)");
        for _ in 0..1_204 {
            parser.parse(combined.as_bytes()).unwrap();
        }
        parser.parse(format!("<190>Oct 10 13:55:36 web nginx: {common}").as_bytes()).unwrap();
        let named = "combined (1,204 lines), common (2), 1 in a syslog envelope";
        assert_eq!(parser.format(), named);
    }

    #[test]
    fn a_header_that_a_request_lacks_is_empty_once_the_objects_of_the_log_name_it() {
        let mut parser = Parser::new(&Spec::auto());
        let mut headers = |more: &str| {
            let line = format!(r#"{{"remote_addr":"192.0.2.1"{more}}}"#);
            let found = parser.parse(line.as_bytes()).expect(more);
            let text = |span: LineSpan| String::from_utf8_lossy(span.of(line.as_bytes())).into();
            [found.user_agent.map(text), found.referer.map(text)]
        };
        let known = |text: &str| Some(text.to_owned());
        assert_eq!(headers(""), [None, None]);
        assert_eq!(headers(r#","http_referer":null"#), [None, known("")]);
        assert_eq!(headers(r#","http_user_agent":"x","referer":"y""#), [known("x"), known("y")]);
        assert_eq!(headers(r#","http_user_agent":"","referer":null"#), [known(""), known("")]);
        assert_eq!(headers(""), [known(""), known("")]);
        let common = r#"192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 5"#;
        let found = parser.parse(common.as_bytes()).expect("common");
        assert_eq!((found.user_agent, found.referer), (None, None), "not an object");
    }

    #[test]
    fn a_line_in_the_object_of_a_container_is_the_line() {
        let plain = r#"192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "GET /a&b\x22\" HTTP/1.1" 200 5 "-" "x\xc3\xa9""#;
        let json =
            r#"{"remote_addr":"192.0.2.1","request":"GET /a&b\"\" HTTP/1.1","user_agent":"xé"}"#;
        let escaped =
            |line: &str| line.replace('\\', r"\\").replace('"', r#"\""#).replace('&', r"\u0026");
        let nested = r#"{"req":{"method":"GET","url":"/a&b\"\"","remoteAddress":"192.0.2.1"},"v":"HTTP/1.1"}"#;
        let gin = r#"[GIN] 2000/10/10 - 20:55:36 | 200 | 1ms | 192.0.2.1 | GET "/a""#;
        for text in [nested, gin] {
            let line = format!(r#"{{"log":"{}\n","stream":"stdout"}}"#, escaped(text));
            let found = Parser::new(&Spec::auto()).parse(line.as_bytes()).expect(&line);
            assert_eq!(found.client.of(line.as_bytes()), b"192.0.2.1", "{line}");
            assert!(found.request.lacks_protocol(), "{line}");
        }
        for text in [plain, json] {
            let escaped = escaped(text);
            for (line, host) in [
                (
                    format!(
                        r#"{{"log":"{escaped}\n","stream":"stdout","time":"2000-10-10T20:55:36.1Z"}}"#
                    ),
                    "",
                ),
                (format!(r#"{{"_HOSTNAME":"web1","MESSAGE":"{escaped}"}}"#), "web1"),
                (
                    format!(
                        r#"{{"@timestamp":"2000-10-10T20:55:36.1Z","message":"{escaped}","host":{{"name":"web1"}}}}"#
                    ),
                    "web1",
                ),
                (format!(r#"{{"log":"<190>Oct 10 13:55:36 web1 nginx: {escaped}"}}"#), "web1"),
                (format!(r#"  [{{"log":"{escaped}"}},"#), ""),
            ] {
                let found = Parser::new(&Spec::auto()).parse(line.as_bytes()).expect(&line);
                assert_eq!(found.client.of(line.as_bytes()), b"192.0.2.1", "{line}");
                let named = found.envelope_host.map_or(&b""[..], |host| host.of(line.as_bytes()));
                assert_eq!(named, host.as_bytes(), "{line}");
                let mut fields = Vec::new();
                let unwrapped = found.unwrapped(line.as_bytes(), &mut fields);
                let seen = Fingerprint::of_raw(b"GET /a&b\"\" HTTP/1.1", Cut::Long);
                assert_eq!(unwrapped.request.fingerprint(&fields, Cut::Long), seen, "{line}");
            }
        }
    }

    #[test]
    fn objects_within_objects_are_searched_where_the_usual_places_have_no_client() {
        let mut parser = Parser::new(&Spec::auto());
        for line in [
            r#"{"nginx":{"remote_addr":"192.0.2.1","request":"GET / HTTP/1.1"},"level":"info"}"#,
            r#" {"a":{"b":{"remote_ip":"192.0.2.1","request":"GET / HTTP/1.1"}}}"#,
            r#"[{"remote_addr":"192.0.2.1","request":"GET / HTTP/1.1"},"#,
        ] {
            let found = parser.parse(line.as_bytes()).expect(line);
            assert_eq!(found.client.of(line.as_bytes()), b"192.0.2.1", "{line}");
        }
        let line = r#"{"upstream":{"remote_addr":"192.0.2.1"}}"#;
        assert!(parser.parse(line.as_bytes()).is_err());
    }

    #[test]
    fn spans_are_of_the_line_with_its_envelope() {
        let envelope = "<190>Oct 10 13:55:36 web nginx: ";
        for (spec, line) in [
            ("auto", r#"192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 5"#),
            ("auto", r#"{"remote_addr":"192.0.2.1"}"#),
            (
                "log_format x escape=json '{\"who\":\"$remote_addr\",\"r\":{\"t\":$msec}}';",
                r#"{"who":"192.0.2.1","r":{"t":1.0}}"#,
            ),
            ("%h %s", "192.0.2.1 200"),
        ] {
            let whole = format!("{envelope}{line}");
            let mut parser = Parser::new(&Spec::parse(spec).expect(spec));
            for line in [line.as_bytes(), whole.as_bytes()] {
                let found = parser.parse(line).expect(spec);
                assert_eq!(found.client.of(line), b"192.0.2.1", "{spec}");
                let length = if line.len() == whole.len() { envelope.len() } else { 0 };
                assert_eq!(found.envelope as usize, length, "{spec}");
            }
        }
    }
}
