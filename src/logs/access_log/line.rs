//! A line of the access log: combined format, followed by what only a balancer knows.
//!
//! ```text
//! line     = combined SP host SP server SP first SP total SP connection SP nth SP end LF
//! combined = client " - - [" time "] " request SP status SP bytes SP referer SP user-agent
//! ```
//!
//! In the notation of nginx, for programs that ask for a log format:
//! `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer"
//! "$http_user_agent" "$http_host" $upstream_addr $upstream_header_time $request_time $connection
//! $connection_requests $request_completion`.
//!
//! Within quotes `"`, `\` and bytes other than printable ASCII are written as `\xHH`, as nginx does; a missing value is
//! `-`. Times are seconds with three decimals.

use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use chrono::DateTime;
use pen_records::addr::ClientAddr;
use pen_records::time::Timestamp;

use crate::config::Endpoint;

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeEnd {
    /// The whole response was forwarded.
    Whole,
    /// The client closed the connection before that.
    Client,
    /// The server closed the connection before that.
    Server,
    /// pen closed the connection before that: timeout, command `close`, or shutdown.
    Pen,
    /// pen rejected the request.
    Refused,
    /// The exchange could not be followed to its end.
    Unknown,
}

impl ExchangeEnd {
    fn word(self) -> &'static str {
        match self {
            Self::Whole => "-",
            Self::Client => "client",
            Self::Server => "server",
            Self::Pen => "pen",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the status to log for an exchange without a response: the one that a web server or proxy would log.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Client => 499,
            Self::Server => 502,
            Self::Pen => 504,
            Self::Refused => 400,
            Self::Whole | Self::Unknown => 0,
        }
    }
}

/// The logged parts of a request, escaped already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EscapedRequest<'a> {
    /// The request line, within quotes.
    pub request: &'a [u8],
    /// Referer, User-Agent and Host, each within quotes and after a space.
    pub fields: &'a [u8],
}

/// An exchange to be logged.
#[derive(Clone, Copy, Debug)]
pub struct AccessLogLine<'a> {
    /// Address of the client.
    pub client: ClientAddr,
    /// The logged parts of the request.
    pub text: EscapedRequest<'a>,
    /// Status of the response.
    pub status: u16,
    /// Bytes of the body with its framing, as nginx counts `$body_bytes_sent`.
    pub bytes: u64,
    /// Address of the server.
    pub server: &'a Endpoint,
    /// Time from the head of the request to the head of the response; `None` without a response.
    pub first: Option<Duration>,
    /// Time from the head of the request to the end of the response.
    pub total: Duration,
    /// Number of the connection.
    pub connection: u64,
    /// Number of the request on the connection, from 1.
    pub nth: u32,
    /// How the exchange ended.
    pub end: ExchangeEnd,
}

impl AccessLogLine<'_> {
    /// Appends the line, dated `time`, with its line end.
    pub fn write(&self, time: &[u8], out: &mut Vec<u8>) {
        let Self { client, text, status, bytes, server, first, total, connection, nth, end } = self;
        let written = write!(out, "{client} - - [").and_then(|()| {
            out.extend_from_slice(time);
            out.extend_from_slice(b"] ");
            out.extend_from_slice(text.request);
            write!(out, " {status:03} {bytes}")?;
            out.extend_from_slice(text.fields);
            let (first, total, end) =
                (SecondsOrDash(*first), SecondsOrDash(Some(*total)), end.word());
            writeln!(out, " {server} {first} {total} {connection} {nth} {end}")
        });
        written.expect("writing to a Vec does not fail");
    }
}

struct SecondsOrDash(Option<Duration>);

impl fmt::Display for SecondsOrDash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => write!(f, "{}.{:03}", time.as_secs(), time.subsec_millis()),
            None => f.write_str("-"),
        }
    }
}

/// Appends a value within quotes; `-` for none.
pub fn quote(value: Option<&[u8]>, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    out.push(b'"');
    let mut rest = value.filter(|value| !value.is_empty()).unwrap_or(b"-");
    while let Some(at) = rest.iter().position(|&byte| !is_plain(byte)) {
        out.extend_from_slice(&rest[..at]);
        let [high, low] = [rest[at] >> 4, rest[at] & 15].map(|it| DIGITS[usize::from(it)]);
        out.extend_from_slice(&[b'\\', b'x', high, low]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// The timestamp of a line, formatted once per second.
#[derive(Debug, Default)]
pub struct CachedTimestamp {
    second: i64,
    text: Vec<u8>,
}

impl CachedTimestamp {
    /// Returns `time` as `25/Nov/2026:13:45:12 +0000`.
    pub fn at(&mut self, time: Timestamp) -> &[u8] {
        let second = time.as_micros().div_euclid(1_000_000);
        if second != self.second || self.text.is_empty() {
            self.second = second;
            let time = DateTime::from_timestamp(second, 0).unwrap_or_default();
            self.text = time.format("%d/%b/%Y:%H:%M:%S +0000").to_string().into_bytes();
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use pen_records::access::{LoggedRequest, Parser, Spec};
    use proptest::prelude::*;

    use super::*;

    fn line(request: &[u8], fields: [&[u8]; 3], end: ExchangeEnd) -> Vec<u8> {
        let (mut first, mut others, mut out) = (Vec::new(), Vec::new(), Vec::new());
        quote(Some(request), &mut first);
        for field in fields {
            others.push(b' ');
            quote(Some(field), &mut others);
        }
        let line = AccessLogLine {
            client: "203.0.113.7".parse::<std::net::IpAddr>().unwrap().into(),
            text: EscapedRequest { request: &first, fields: &others },
            status: 200,
            bytes: 5,
            server: &Endpoint::Ip("[2001:db8::1]:80".parse().unwrap()),
            first: Some(Duration::from_micros(12_345)),
            total: Duration::from_secs(61),
            connection: 41,
            nth: 3,
            end,
        };
        let mut stamp = CachedTimestamp::default();
        line.write(stamp.at(Timestamp::from_seconds(1_795_614_312)), &mut out);
        out
    }

    #[test]
    fn a_line_is_combined_and_more() {
        let text = line(
            b"GET /a?\"\\ HTTP/1.1",
            [b"", b"agent/1 \xc3\xa9", b"shop:80"],
            ExchangeEnd::Whole,
        );
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "203.0.113.7 - - [25/Nov/2026:13:45:12 +0000] \"GET /a?\\x22\\x5C HTTP/1.1\" 200 5 \"-\" \
             \"agent/1 \\xC3\\xA9\" \"shop:80\" [2001:db8::1]:80 0.012 61.000 41 3 -\n"
        );
        assert!(
            line(b"GET / HTTP/1.1", [b"", b"", b""], ExchangeEnd::Client)
                .ends_with(b" 41 3 client\n")
        );
    }

    proptest! {
        #[test]
        fn whatever_was_sent_a_line_is_one_line_that_our_own_readers_understand(
            request in prop::collection::vec(any::<u8>(), 1..60),
            fields in prop::array::uniform3(prop::collection::vec(any::<u8>(), 0..40)),
        ) {
            let [referer, agent, host] = &fields;
            let text = line(&request, [referer, agent, host], ExchangeEnd::Whole);
            let (end, body) = text.split_last().unwrap();
            prop_assert!(*end == b'\n' && body.iter().all(|byte| matches!(byte, b' '..=b'~')));
            let mut parser = Parser::new(&Spec::auto());
            let read = parser.parse(body).unwrap();
            prop_assert_eq!(read.client.of(body), b"203.0.113.7");
            prop_assert_eq!((read.status, read.bytes), (Some(200), Some(5)));
            let mut quoted = Vec::new();
            quote(Some(&request), &mut quoted);
            let inner = &quoted[1..quoted.len() - 1];
            let LoggedRequest::Line(span) = read.request else { panic!("{:?}", read.request) };
            prop_assert_eq!(span.of(body), inner);
        }
    }
}
