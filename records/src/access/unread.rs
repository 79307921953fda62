//! Lines without a known format: their time, which keeps their place in the log, and the text where
//! parsing stopped, for messages.

use std::fmt;

use super::parser::Parser;
use super::{LineError, envelope};
use crate::time::{Resolution, Timestamp};

/// Bytes of a line that are searched for a time. A client chooses what stands further behind.
const SEARCHED: usize = 512;

/// Keys of a time, as in `ts=2026-11-29T15:44:32Z level=info`.
const KEYS: [&[u8]; 5] = [b"time", b"ts", b"timestamp", b"t", b"@timestamp"];

/// Bytes of a line that a message shows.
const SHOWN: usize = 60;

impl Parser {
    /// The time of a line that could not be parsed: the first time in brackets or behind `time=` or the
    /// like, or that of an envelope, or of nginx's or Apache's error log in the zone of the last line with a zone.
    #[must_use]
    #[cold]
    pub fn time_of_unread(&mut self, line: &[u8]) -> Option<(Timestamp, Resolution)> {
        let start = &line[..line.len().min(SEARCHED)];
        let clock = self.clock();
        let in_brackets = memchr::memchr_iter(b'[', start).find_map(|bracket| {
            let read = clock.any(line, bracket + 1)?;
            (line.get(read.end) == Some(&b']')).then_some(read.time)
        });
        let behind_key = || {
            memchr::memchr_iter(b'=', start).find_map(|equals| {
                let key = start[..equals].rsplit(|&byte| byte == b' ').next()?;
                KEYS.contains(&key).then_some(())?;
                let quote = usize::from(start.get(equals + 1) == Some(&b'"'));
                Some(clock.any(line, equals + 1 + quote)?.time)
            })
        };
        in_brackets
            .or_else(behind_key)
            .or_else(|| self.json_time(line))
            .or_else(|| Some(envelope::time(line, self.near())?.0))
            .or_else(|| self.clock().local(line))
    }
}

impl LineError {
    /// The error together with the text where parsing stopped.
    #[must_use]
    pub fn in_line(self, line: &[u8]) -> LineErrorInText<'_> {
        LineErrorInText { error: self, line }
    }
}

/// See [`LineError::in_line`].
#[derive(Clone, Copy, Debug)]
pub struct LineErrorInText<'a> {
    error: LineError,
    line: &'a [u8],
}

impl fmt::Display for LineErrorInText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.line.get(self.error.at as usize..).unwrap_or_default();
        let shown = &rest[..rest.len().min(SHOWN)];
        let more = if shown.len() < rest.len() { "…" } else { "" };
        let place = if rest.is_empty() { "the end of the line" } else { "" };
        let quote = if rest.is_empty() { "" } else { "\"" };
        let shown = shown.escape_ascii();
        write!(f, "{}, at {place}{quote}{shown}{more}{quote}", self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Expected, Spec};
    use super::*;

    #[test]
    fn a_line_that_is_not_understood_has_the_time_that_can_be_read() {
        let mut parser = Parser::new(&Spec::auto());
        for (line, seconds) in [
            ("a, b - - [14/Nov/2023:22:13:01 +0000] \"GET / HTTP/1.1\" 200", Some(1_699_999_981)),
            ("x [y] [2023-11-14T22:13:01Z] z", Some(1_699_999_981)),
            ("{\"time\":\"2023-11-14T22:13:01Z\",\"who\":1}", Some(1_699_999_981)),
            ("{\"ts\":1699999981.5,\"who\":", Some(1_699_999_981)),
            ("2023-11-14T22:13:01Z web1 nginx: hello", Some(1_699_999_981)),
            ("level=info time=\"2023-11-14T22:13:01Z\" msg=x", Some(1_699_999_981)),
            ("ts=1699999981.5 caller=x at=1500000000", Some(1_699_999_981)),
            ("2023/11/14 22:13:01 [error] 7#7: *1 open() failed", Some(1_699_999_981)),
            ("[Tue Nov 14 22:13:01.123456 2023] [error] [client 192.0.2.1]", Some(1_699_999_981)),
            ("hello", None),
            ("", None),
            ("[", None),
        ] {
            let time = parser.time_of_unread(line.as_bytes());
            let found = time.map(|(time, _)| time.as_micros() / 1_000_000);
            assert_eq!(found, seconds, "{line}");
        }
    }

    #[test]
    fn a_local_time_is_in_the_zone_of_the_lines_before() {
        let mut parser = Parser::new(&Spec::auto());
        let line = b"192.0.2.1 - - [14/Nov/2023:22:13:01 +0100] \"GET / HTTP/1.1\" 200 5";
        parser.parse(line).unwrap();
        let time = parser.time_of_unread(b"2023/11/14 22:13:01 [error] 7#7: x");
        assert_eq!(time.map(|(time, _)| time.as_micros() / 1_000_000), Some(1_699_996_381));
    }

    #[test]
    fn an_error_is_shown_with_the_text_where_it_is() {
        let error = LineError::new(2, Expected::Client);
        for (line, message) in [
            (&b"a b\x07"[..], "expected a client at byte 2, at \"b\\x07\""),
            (b"a ", "expected a client at byte 2, at the end of the line"),
        ] {
            assert_eq!(error.in_line(line).to_string(), message);
        }
        let long = [b"a ".as_slice(), &[b'x'; 200]].concat();
        assert!(error.in_line(&long).to_string().ends_with("xxx…\""));
    }
}
