//! The two encodings of the C balancer.
//!
//! ```text
//! datagram = "+" SP [client] SP server SP *OCTET [LF]      at most 1,024 bytes
//! line     = [client] SP 1*DIGIT SP server SP *OCTET [LF]  seconds since the epoch
//! ```
//!
//! Both hold the first bytes of one read from the client: the first line of a request, but also
//! fragments of a body, TLS records, or nothing. The client is empty if the balancer listened on a
//! Unix-domain socket; the server may be IPv6 without brackets or a path.

use nom::bytes::complete::{tag, take_till};
use nom::character::complete::char;
use nom::combinator::rest;
use nom::sequence::terminated;
use nom::{IResult, Parser};

use super::{Mapping, MappingError, MappingErrorKind, MappingKind, RequestText};
use crate::addr::{ClientAddr, LONGEST_PATH, ServerAddr, v4_word};
use crate::request::Cut;
use crate::scan;
use crate::time::{Resolution, Timestamp};

impl<'a> Mapping<'a> {
    /// Parses a classic datagram, with or without its line end.
    ///
    /// # Errors
    /// Names what was expected and at which byte. Any bytes are safe to pass.
    pub fn parse_datagram(datagram: &'a [u8]) -> Result<Self, MappingError> {
        let fail = |kind, rest: &[u8]| MappingError { kind, at: datagram.len() - rest.len() };
        let bare = datagram.strip_suffix(b"\n").unwrap_or(datagram);
        let (rest, _) = tag::<_, _, ()>("+ ")(bare)
            .map_err(|_| MappingError { kind: MappingErrorKind::Start, at: 0 })?;
        let (rest, client) = client(rest).map_err(|()| fail(MappingErrorKind::Client, rest))?;
        let (rest, server) = server(rest).map_err(|()| fail(MappingErrorKind::Server, rest))?;
        let request = Some(RequestText::raw(rest, Cut::Long));
        Ok(Self { kind: MappingKind::Request, request, ..Self::new(client, server) })
    }

    /// Parses a line of a classic mapping file, with or without its line end.
    ///
    /// # Errors
    /// Names what was expected and at which byte. Any bytes are safe to pass.
    pub fn parse_classic_line(line: &'a [u8]) -> Result<Self, MappingError> {
        let line = FileReader::default().read(line)?;
        let time = Some((line.time, Resolution::Second));
        let request = Some(line.request);
        Ok(Self { time, request, ..Self::new(line.client, line.server()?) })
    }

    /// Appends this mapping as a classic datagram, line end included, cut to 1,024 bytes as the C
    /// balancer does.
    pub fn write_datagram(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(b"+ ");
        self.write_client(out);
        self.write_server(out);
        let room = (DATAGRAM - 1).saturating_sub(out.len() - start);
        out.extend(self.request_bytes().iter().take(room));
        out.push(b'\n');
    }

    /// Appends this mapping as a line of a classic mapping file, line end included. Bytes above
    /// 0x7F become `.`, as in the C balancer. So do control characters, which the C balancer writes
    /// unchanged and which reach the terminal of a reader. A mapping without a time is written with
    /// time 0.
    pub fn write_file_line(&self, out: &mut Vec<u8>) {
        use std::io::Write as _;
        let seconds = self.time.map_or(0, |(time, _)| time.as_micros().div_euclid(1_000_000));
        self.write_client(out);
        write!(out, "{seconds} ").expect("writing to a Vec does not fail");
        self.write_server(out);
        let kept = self.request_bytes().iter().take(Cut::Short.len());
        out.extend(kept.map(|&byte| if matches!(byte, b' '..=b'~') { byte } else { b'.' }));
        out.push(b'\n');
    }

    /// The request up to its first line end.
    fn request_bytes(&self) -> &'a [u8] {
        // An escaped request is written as it is: escaped requests come from lines, which no
        // classic writer reads.
        let bytes = self.request.map_or(&b""[..], |request| request.bytes);
        memchr::memchr2(b'\r', b'\n', bytes).map_or(bytes, |end| &bytes[..end])
    }

    fn write_client(&self, out: &mut Vec<u8>) {
        if self.client != ClientAddr::Unix {
            self.client.write_to(out);
        }
        out.push(b' ');
    }

    fn write_server(&self, out: &mut Vec<u8>) {
        match self.server {
            ServerAddr::Ip(ip) => ClientAddr::from(ip).write_to(out),
            ServerAddr::Unix(path) => out.extend_from_slice(path),
        }
        out.push(b' ');
    }
}

/// A line of a classic mapping file whose server address is not parsed yet: a file names few
/// servers, and a reader of many lines recognises them by their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLine<'a> {
    /// The client.
    pub client: ClientAddr,
    /// When the request was read, to the second.
    pub time: Timestamp,
    /// The server as written in the line.
    pub server_text: &'a [u8],
    /// The first bytes of the request.
    pub request: RequestText<'a>,
    server_at: usize,
}

impl<'a> FileLine<'a> {
    /// Parses the server address.
    ///
    /// # Errors
    /// If the text is no address: then the line is no mapping.
    pub fn server(&self) -> Result<ServerAddr<'a>, MappingError> {
        let error = MappingError { kind: MappingErrorKind::Server, at: self.server_at };
        ServerAddr::parse(self.server_text).ok_or(error)
    }
}

/// Parses the lines of a mapping file; caches the last timestamp, which consecutive lines mostly
/// share.
#[derive(Clone, Debug)]
pub struct FileReader {
    /// The last timestamp with the space behind.
    stamp: [u8; 11],
    time: Timestamp,
}

impl Default for FileReader {
    fn default() -> Self {
        Self { stamp: *b"0000000000 ", time: Timestamp::from_seconds(0) }
    }
}

impl FileReader {
    /// Parses a line, with or without its line end.
    ///
    /// # Errors
    /// Names what was expected and at which byte. Any bytes are safe to pass.
    #[inline(always)]
    pub fn read<'a>(&mut self, line: &'a [u8]) -> Result<FileLine<'a>, MappingError> {
        let fail = |kind, rest: &[u8]| MappingError { kind, at: line.len() - rest.len() };
        let bare = line.strip_suffix(b"\n").unwrap_or(line);
        let (rest, client) = client(bare).map_err(|()| fail(MappingErrorKind::Client, bare))?;
        let (rest, time) = match rest.split_first_chunk() {
            Some((stamp, rest)) if *stamp == self.stamp => (rest, self.time),
            _ => self.stamp(rest).map_err(|()| fail(MappingErrorKind::Time, rest))?,
        };
        let server_at = line.len() - rest.len();
        let end = scan::find(b' ', rest, 0).unwrap_or(rest.len());
        Ok(FileLine {
            client,
            time,
            server_text: &rest[..end],
            request: RequestText::raw(rest.get(end + 1..).unwrap_or_default(), Cut::Short),
            server_at,
        })
    }

    #[cold]
    fn stamp<'a>(&mut self, text: &'a [u8]) -> Result<(&'a [u8], Timestamp), ()> {
        let (rest, time) = seconds(text)?;
        // Shorter or longer timestamps are not cached.
        if let Some((stamp, behind)) = text.split_first_chunk()
            && behind.len() == rest.len()
        {
            (self.stamp, self.time) = (*stamp, time);
        }
        Ok((rest, time))
    }
}

/// The most bytes of a classic datagram.
pub const DATAGRAM: usize = 1024;

fn word(input: &[u8]) -> IResult<&[u8], &[u8], ()> {
    terminated(take_till(|byte| byte == b' '), char(' ')).parse(input)
}

#[inline(always)]
fn client(input: &[u8]) -> Result<(&[u8], ClientAddr), ()> {
    if let Some((ip, len)) = v4_word(input) {
        return Ok((&input[len + 1..], ClientAddr::Ip(ip.into())));
    }
    other_client(input)
}

/// Parses a client without an IPv4 address, or near the end of a text.
#[cold]
fn other_client(input: &[u8]) -> Result<(&[u8], ClientAddr), ()> {
    let (rest, text) = word(input).map_err(drop)?;
    let client = if text.is_empty() { Some(ClientAddr::Unix) } else { ClientAddr::parse(text) };
    Ok((rest, client.ok_or(())?))
}

/// Parses the server and the space behind, which a record without a request may lack.
#[inline]
fn server(input: &[u8]) -> Result<(&[u8], ServerAddr<'_>), ()> {
    if let Some((ip, len)) = v4_word(input) {
        return Ok((&input[len + 1..], ServerAddr::Ip(ip.into())));
    }
    let (rest, text) = word.or(rest).parse(input).map_err(drop)?;
    let rest = if rest.len() == input.len() { &rest[rest.len()..] } else { rest };
    match ServerAddr::parse(text) {
        // No socket has such a path, and the record would not fit into a datagram when written
        // again.
        Some(ServerAddr::Unix(path)) if path.len() > LONGEST_PATH => Err(()),
        Some(server) => Ok((rest, server)),
        None => Err(()),
    }
}

fn seconds(input: &[u8]) -> Result<(&[u8], Timestamp), ()> {
    let (rest, digits) = word(input).map_err(drop)?;
    if digits.is_empty() || digits.len() > 12 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(());
    }
    let seconds = digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    Ok((rest, Timestamp::from_seconds(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_of_the_c_balancer_are_read() {
        for (datagram, client, server, request) in [
            (
                "+ 127.0.0.9 127.0.0.1 GET /x HTTP/1.1\n",
                "127.0.0.9",
                "127.0.0.1",
                "GET /x HTTP/1.1",
            ),
            ("+ 127.0.0.9 127.0.0.1 \n", "127.0.0.9", "127.0.0.1", ""),
            ("+ 127.0.0.9 127.0.0.1", "127.0.0.9", "127.0.0.1", ""),
            ("+ ::1 127.0.0.2 GET / HTTP/1.1", "::1", "127.0.0.2", "GET / HTTP/1.1"),
            ("+ 10.0.0.1 2001:db8::2 a  b\n", "10.0.0.1", "2001:db8::2", "a  b"),
            ("+  /run/app.sock GET /\n", "unix:", "/run/app.sock", "GET /"),
            ("+ 1.1.1.1 127.0.0.2 \u{1}body\u{0}\n", "1.1.1.1", "127.0.0.2", "\u{1}body\u{0}"),
        ] {
            let mapping = Mapping::parse_datagram(datagram.as_bytes()).expect(datagram);
            assert_eq!(mapping.client.to_string(), client, "{datagram}");
            assert_eq!(mapping.server.to_string(), server, "{datagram}");
            assert_eq!(mapping.request.map(|r| r.bytes), Some(request.as_bytes()), "{datagram}");
        }
    }

    #[test]
    fn file_lines_of_the_c_balancer_are_read() {
        let line = b"127.0.0.9 1795379143 127.0.0.1 GET /x HTTP/1.1\n";
        let mapping = Mapping::parse_classic_line(line).expect("it is one");
        assert_eq!(
            mapping.time,
            Some((Timestamp::from_seconds(1_795_379_143), Resolution::Second))
        );
        assert_eq!(mapping.request.map(|r| r.bytes), Some(&b"GET /x HTTP/1.1"[..]));
        let unix = Mapping::parse_classic_line(b" 1795379143 /run/a GET /").expect("no client");
        assert_eq!(unix.client, ClientAddr::Unix);
    }

    #[test]
    fn a_remembered_stamp_does_not_leak_into_another_line() {
        let mut reader = FileReader::default();
        for (stamp, seconds) in [
            ("0000000000", Some(0)),
            ("1795379143", Some(1_795_379_143)),
            ("1795379143", Some(1_795_379_143)),
            ("17953791431", Some(17_953_791_431)),
            ("179537914", Some(179_537_914)),
            ("1795379144", Some(1_795_379_144)),
            ("179537914 ", None),
            ("          ", None),
            ("1795379144", Some(1_795_379_144)),
        ] {
            let line = format!("192.0.2.1 {stamp} 10.0.0.1 GET /");
            let time =
                reader.read(line.as_bytes()).and_then(|line| line.server().map(|_| line.time));
            assert_eq!(time.ok(), seconds.map(Timestamp::from_seconds), "{stamp}");
        }
    }

    #[test]
    fn what_is_no_mapping_says_what_was_expected_and_where() {
        use MappingErrorKind::{Client, Server, Start, Time};
        for (datagram, kind, at) in [
            ("", Start, 0),
            ("+", Start, 0),
            ("GET / HTTP/1.1", Start, 0),
            ("+ nobody 127.0.0.1 GET /", Client, 2),
            ("+ 1.2.3.4 somewhere GET /", Server, 10),
        ] {
            let error = Mapping::parse_datagram(datagram.as_bytes()).expect_err(datagram);
            assert_eq!(error, MappingError { kind, at }, "{datagram}");
        }
        for (line, kind, at) in [
            ("1.2.3.4 now 127.0.0.1 GET /", Time, 8),
            ("1.2.3.4 -5 127.0.0.1 GET /", Time, 8),
            ("1.2.3.4 5 there GET /", Server, 10),
            ("x", Client, 0),
        ] {
            let error = Mapping::parse_classic_line(line.as_bytes()).expect_err(line);
            assert_eq!(error, MappingError { kind, at }, "{line}");
        }
    }

    #[test]
    fn a_server_path_longer_than_any_socket_has_is_refused() {
        for (path, is_read) in [(LONGEST_PATH, true), (LONGEST_PATH + 1, false), (1_020, false)] {
            let datagram = format!("+  /{}", "x".repeat(path - 1));
            let mapping = Mapping::parse_datagram(datagram.as_bytes());
            assert_eq!(mapping.is_ok(), is_read, "{path} bytes");
            let mut out = Vec::new();
            if let Ok(mapping) = mapping {
                mapping.write_datagram(&mut out);
            }
            assert!(out.len() <= DATAGRAM, "{} bytes written", out.len());
        }
    }

    #[test]
    fn a_long_request_is_cut_as_the_c_balancer_cuts_it() {
        let request = "x".repeat(5_000);
        let text = format!("+ 127.0.0.9 127.0.0.1 {request}\n");
        let mapping = Mapping::parse_datagram(text.as_bytes()).expect("it is one");
        let mut out = Vec::new();
        mapping.write_datagram(&mut out);
        assert_eq!((out.len(), out.last()), (DATAGRAM, Some(&b'\n')));
        out.clear();
        mapping.write_file_line(&mut out);
        assert_eq!(out.len(), "127.0.0.9 0 127.0.0.1 ".len() + 100 + 1);
    }
}
