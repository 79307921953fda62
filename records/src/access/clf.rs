//! The fast path: common, combined, `vhost_combined` and their many relatives, told apart line
//! by line (NCSA's log format as the `mod_log_config` manual gives it, nginx's predefined `combined`).
//!
//! ```text
//! line    = [vhost SP] client [SP host] *(SP word) SP "[" time "]" [extra] SP quoted-request
//!           [SP status [SP bytes [SP quoted-referer [SP quoted-agent]]]] rest
//! ```
//!
//! Two things a client chooses could lie: the user, whose name may hold spaces, brackets and a
//! date, and what is quoted. The time is therefore the last one before the request's quote, which no
//! user name can hold unescaped; and the client is looked for only in front of it.

use super::clock::{Clock, Read, decimal};
use super::{AccessLine, Expected, LineError, Request, Span};
use crate::addr::parse_ip;

/// Where the client stands among the words in front of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// Each line shows it.
    ByLine,
    /// It is the first word.
    First,
    /// It is the second, after the virtual host.
    AfterHost,
}

/// Which of the relatives a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Common,
    Combined,
    VhostCommon,
    VhostCombined,
}

/// Reads the line that starts at `start` of `line` into `found`, which is fresh.
#[inline]
pub(super) fn parse(
    line: &[u8],
    start: usize,
    placement: Placement,
    clock: &mut Clock,
    found: &mut AccessLine,
) -> Result<Shape, LineError> {
    let (start, body) = trim(line, start);
    let (bracket, time, quote) = find_time(body, start, clock)?;
    let after_host = head(body, start, bracket, placement, found)?;
    let request_end =
        closing_quote(body, quote + 1).ok_or_else(|| error(quote, Expected::Request))?;
    found.time = Some(time.time);
    found.time_text = Some(span(bracket + 1, time.end));
    found.request = Request::Line(span(quote + 1, request_end));
    let with_agent = tail(body, request_end + 1, found)?;
    Ok(match (after_host, with_agent) {
        (false, false) => Shape::Common,
        (false, true) => Shape::Combined,
        (true, false) => Shape::VhostCommon,
        (true, true) => Shape::VhostCombined,
    })
}

/// Takes off a CR, and a pair of quotes round the whole line as spreadsheets export it. Offsets
/// stay those of `line`.
fn trim(line: &[u8], start: usize) -> (usize, &[u8]) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line.get(start..) {
        Some([b'"', .., b'"']) => (start + 1, &line[..line.len() - 1]),
        _ => (start, line),
    }
}

/// The bracket before the time, the time, and the quote before the request.
fn find_time(
    body: &[u8],
    start: usize,
    clock: &mut Clock,
) -> Result<(usize, Read, usize), LineError> {
    let (bracket, time) = next_time(body, start, body.len(), clock)
        .ok_or_else(|| error(start, Expected::AccessLine))?;
    if body[time.end + 1..].starts_with(b" \"") {
        return Ok((bracket, time, time.end + 2));
    }
    let quote = next_quote(body, time.end).ok_or_else(|| error(time.end, Expected::Request))?;
    let (mut bracket, mut time) = (bracket, time);
    while let Some(later) = next_time(body, time.end, quote, clock) {
        (bracket, time) = later;
    }
    Ok((bracket, time, quote))
}

/// The first bracketed time in `body[from..to]`, and its bracket.
#[inline]
fn next_time(body: &[u8], mut from: usize, to: usize, clock: &mut Clock) -> Option<(usize, Read)> {
    loop {
        let bracket = from + memchr::memchr(b'[', body.get(from..to)?)?;
        let time = clock.any(body, bracket + 1);
        if let Some(time) = time.filter(|time| body.get(time.end) == Some(&b']')) {
            return Some((bracket, time));
        }
        from = bracket + 1;
    }
}

/// The words in front of the time, whose `[` is `body[bracket]`. Returns whether the virtual host
/// comes first.
#[inline]
fn head(
    body: &[u8],
    start: usize,
    bracket: usize,
    placement: Placement,
    found: &mut AccessLine,
) -> Result<bool, LineError> {
    let no_client = || error(start, Expected::Client);
    let end = bracket.checked_sub(1).filter(|&end| end > start && body[end] == b' ');
    let end = end.ok_or_else(no_client)?;
    let first = word(body, start, end);
    if first.1 == first.0 {
        return Err(no_client());
    }
    let second = word(body, first.1 + 1, end);
    let dash = body.get(second.0..second.1) == Some(b"-");
    let after_host = match placement {
        Placement::First => false,
        Placement::AfterHost => true,
        Placement::ByLine => !dash && host_first(body, first, second, end).ok_or_else(no_client)?,
    };
    if after_host {
        if second.1 <= second.0 {
            return Err(no_client());
        }
        let host = &body[first.0..first.1];
        found.client = span(second.0, second.1);
        found.host = Some(span(first.0, first.1));
        found.server_port = port_of(host);
        found.user = user(body, second.1 + 1, end);
        return Ok(true);
    }
    let (client_end, port) = without_port(body, first);
    found.client = span(first.0, client_end);
    found.peer_port = port;
    // `client host user`: a user's name alone in that place has nothing behind it.
    let names_host = !dash && second.1 < end && body[second.0..second.1].contains(&b'.');
    if names_host {
        found.host = Some(span(second.0, second.1));
    }
    found.user = user(body, if names_host { second.1 + 1 } else { first.1 + 1 }, end);
    Ok(false)
}

/// Whether the first of two words is the virtual host and the second the client. `None`: neither
/// can be told to be the client.
#[cold]
fn host_first(
    body: &[u8],
    first: (usize, usize),
    second: (usize, usize),
    end: usize,
) -> Option<bool> {
    let (one, two) = (&body[first.0..first.1], &body[second.0..second.1]);
    let four_words = {
        let third = word(body, second.1 + 1, end);
        third.1 < end
    };
    match (parse_ip(one).is_some(), parse_ip(two).is_some()) {
        (true, false) => Some(false),
        // `vhost client ident user`, or `client host user` with an address for the host.
        (true, true) => Some(four_words),
        (false, true) => is_host(one).then_some(true),
        (false, false) if two.is_empty() => is_host(one).then_some(false),
        (false, false) => {
            let named = is_host(two) && two.contains(&b'.');
            is_host(one).then_some(named && (four_words || one.contains(&b':')))
        }
    }
}

fn is_host(word: &[u8]) -> bool {
    word.iter().all(|b| b.is_ascii_alphanumeric() || b"-._:[]*".contains(b))
}

/// `192.0.2.1:40100` or `[2001:db8::1]:40100` in the client's place: where the address ends, and
/// the port. The word's end and `None` for anything else.
#[inline]
pub(super) fn without_port(body: &[u8], (from, to): (usize, usize)) -> (usize, Option<u16>) {
    let word = &body[from..to];
    // A port has five digits at most.
    let tail = word.len().saturating_sub(6);
    let Some(colon) = word[tail..].iter().rposition(|&b| b == b':') else { return (to, None) };
    let colon = tail + colon;
    let port = decimal(&word[colon + 1..]).and_then(|port| u16::try_from(port).ok());
    if port.is_none() || parse_ip(word).is_some() || parse_ip(&word[..colon]).is_none() {
        return (to, None);
    }
    (from + colon, port)
}

/// The port of `a.example:443`.
fn port_of(host: &[u8]) -> Option<u16> {
    let colon = memchr::memrchr(b':', host)?;
    u16::try_from(decimal(&host[colon + 1..])?).ok()
}

/// The user in `body[from..end]`, the words between client and time. The first is the identity, if
/// there is another; a `-` at the end is the user whatever stands before it.
#[inline]
fn user(body: &[u8], from: usize, end: usize) -> Option<Span> {
    let words = body.get(from..end).filter(|words| !words.is_empty())?;
    if words.ends_with(b" -") {
        return Some(span(end - 1, end));
    }
    let after_identity = words.iter().position(|&b| b == b' ').map_or(0, |space| space + 1);
    Some(span(from + after_identity, end))
}

/// What follows the request, from `at`. Returns whether a Referer and a User-Agent were there.
#[inline]
fn tail(body: &[u8], at: usize, found: &mut AccessLine) -> Result<bool, LineError> {
    let Some((status, at)) = number(body, at) else { return Ok(false) };
    found.status = status.and_then(|status| u16::try_from(status).ok());
    let Some((bytes, at)) = number(body, at) else { return Ok(false) };
    found.bytes = bytes;
    let Some(referer) = quoted(body, at)? else { return Ok(false) };
    found.referer = Some(referer);
    let Some(agent) = quoted(body, referer.end as usize + 1)? else { return Ok(false) };
    found.user_agent = Some(agent);
    let at = agent.end as usize + 1;
    if at < body.len() {
        found.forwarded_for = forwarded_for(body, at)?;
    }
    Ok(true)
}

/// nginx's stock `main` format ends in a quoted `$http_x_forwarded_for`: taken for that if it is the
/// last field and its first word an address.
#[cold]
fn forwarded_for(body: &[u8], at: usize) -> Result<Option<Span>, LineError> {
    let Some(last) = quoted(body, at)? else { return Ok(None) };
    let text = last.of(body);
    let first = text.split(|&b| b == b',').next().unwrap_or_default();
    let is_it = last.end as usize + 1 == body.len() && parse_ip(first).is_some();
    Ok(is_it.then_some(last))
}

/// SP and digits or `-`, up to a space or the end: the number (`None` for `-`), and where it ended.
#[inline]
fn number(body: &[u8], at: usize) -> Option<(Option<u64>, usize)> {
    let rest = body.get(at..)?.strip_prefix(b" ")?;
    let mut value = 0_u64;
    let mut len = 0;
    for &byte in rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
        len += 1;
    }
    let value = match (len, rest.first()) {
        (0, Some(b'-')) => {
            len = 1;
            None
        }
        (0, _) => return None,
        _ => Some(value),
    };
    matches!(rest.get(len), None | Some(b' ')).then_some((value, at + 1 + len))
}

/// SP and a quoted field; `None` if none begins at `at`, an error if it never ends.
#[inline]
fn quoted(body: &[u8], at: usize) -> Result<Option<Span>, LineError> {
    if !body.get(at..).is_some_and(|rest| rest.starts_with(b" \"")) {
        return Ok(None);
    }
    match closing_quote(body, at + 2) {
        Some(end) => Ok(Some(span(at + 2, end))),
        None => Err(error(at + 1, Expected::Literal)),
    }
}

/// The quote that ends a field that began at `from`: unescaped, and a space or nothing behind it.
#[inline]
pub(super) fn closing_quote(body: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr::memchr(b'"', body.get(at..)?)?;
        if matches!(body.get(at + 1), None | Some(b' ')) && !is_escaped(body, from, at) {
            return Some(at);
        }
        at += 1;
    }
}

/// The first unescaped quote from `from`.
pub(super) fn next_quote(body: &[u8], from: usize) -> Option<usize> {
    let quotes = memchr::memchr_iter(b'"', body.get(from..)?).map(|quote| from + quote);
    quotes.into_iter().find(|&quote| !is_escaped(body, from, quote))
}

/// Whether an odd number of backslashes stands before `body[at]`. nginx writes `\x22` and `\x5C`, so
/// that only Apache's `\"` and `\\` meet this.
#[inline]
fn is_escaped(body: &[u8], from: usize, at: usize) -> bool {
    let run = body[from..at].iter().rev().take_while(|&&b| b == b'\\').count();
    run % 2 == 1
}

/// The word in `body[from..end]`, up to a space.
#[inline]
fn word(body: &[u8], from: usize, end: usize) -> (usize, usize) {
    let rest = body.get(from..end).unwrap_or_default();
    let len = rest.iter().position(|&b| b == b' ').unwrap_or(rest.len());
    let from = from.min(end);
    (from, from + len)
}

#[inline]
pub(super) fn span(start: usize, end: usize) -> Span {
    let narrow = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
    Span { start: narrow(start), end: narrow(end) }
}

pub(super) fn error(at: usize, expected: Expected) -> LineError {
    LineError { at: span(at, at).start, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "[10/Oct/2000:13:55:36 -0700]";

    fn read(line: &str) -> Result<(AccessLine, Shape), LineError> {
        let mut found = AccessLine::default();
        let shape =
            parse(line.as_bytes(), 0, Placement::ByLine, &mut Clock::default(), &mut found)?;
        Ok((found, shape))
    }

    #[test]
    fn the_words_before_the_time_name_client_host_and_user() {
        for (head, client, host, user) in [
            ("192.0.2.1 - -", "192.0.2.1", None, Some("-")),
            ("192.0.2.1 - bob", "192.0.2.1", None, Some("bob")),
            ("192.0.2.1 - Bob B. Bobson", "192.0.2.1", None, Some("Bob B. Bobson")),
            ("192.0.2.1 - \"\"", "192.0.2.1", None, Some("\"\"")),
            ("192.0.2.1 -", "192.0.2.1", None, Some("-")),
            ("192.0.2.1", "192.0.2.1", None, None),
            ("192.0.2.1 www.example.com bob", "192.0.2.1", Some("www.example.com"), Some("bob")),
            ("192.0.2.1 bob.example", "192.0.2.1", None, Some("bob.example")),
            ("2001:db8::1 - -", "2001:db8::1", None, Some("-")),
            ("pipe6.example.net - -", "pipe6.example.net", None, Some("-")),
            ("www.example.com 192.0.2.1 - -", "192.0.2.1", Some("www.example.com"), Some("-")),
            (
                "www.example.com:80 192.0.2.1 - b",
                "192.0.2.1",
                Some("www.example.com:80"),
                Some("b"),
            ),
            ("a.example b.example - -", "b.example", Some("a.example"), Some("-")),
            ("198.51.100.1 192.0.2.1 - -", "192.0.2.1", Some("198.51.100.1"), Some("-")),
            ("example.com 192.0.2.1 - req1 -", "192.0.2.1", Some("example.com"), Some("-")),
            ("192.0.2.1 - x [10/Oct/2000:13:55:36 +0000] y", "192.0.2.1", None, None),
        ] {
            let line = format!("{head} {TIME} \"GET / HTTP/1.1\" 200 5");
            let (found, _) = read(&line).expect(head);
            let text = |span: Span| String::from_utf8_lossy(span.of(line.as_bytes())).into_owned();
            assert_eq!(text(found.client), client, "{head}");
            assert_eq!(found.host.map(text).as_deref(), host, "{head}");
            if user.is_some() || !head.contains('[') {
                assert_eq!(found.user.map(text).as_deref(), user, "{head}");
            }
            assert_eq!(found.time_text.map(text).as_deref(), Some(TIME.trim_matches(['[', ']'])));
            assert_eq!((found.status, found.bytes), (Some(200), Some(5)), "{head}");
        }
    }

    #[test]
    fn a_port_behind_the_client_is_the_peers() {
        for (head, client, port) in [
            ("192.0.2.1:40100", "192.0.2.1", Some(40_100)),
            ("[2001:db8::1]:40100", "[2001:db8::1]", Some(40_100)),
            ("2001:db8::1", "2001:db8::1", None),
            ("192.0.2.1:99999", "192.0.2.1:99999", None),
        ] {
            let line = format!("{head} - - {TIME} \"GET / HTTP/1.1\" 200 5");
            let (found, _) = read(&line).expect(head);
            assert_eq!(found.client.of(line.as_bytes()), client.as_bytes());
            assert_eq!(found.peer_port, port);
        }
    }

    #[test]
    fn what_follows_the_time_is_read_as_far_as_it_is_known() {
        for (rest, request, status, bytes, agent) in [
            (
                r#""GET / HTTP/1.1" 304 - "-" "curl""#,
                "GET / HTTP/1.1",
                Some(304),
                None,
                Some("curl"),
            ),
            (r#"(0 s) "GET /" 200 1"#, "GET /", Some(200), Some(1), None),
            (r#""" 400 0 "-" """#, "", Some(400), Some(0), Some("")),
            (r#""a\"b\\" 400 0 "\\" "\"" 5 "x""#, r#"a\"b\\"#, Some(400), Some(0), Some("\\\"")),
            (r#""GET /a"b HTTP/1.0" 200 5"#, "GET /a\"b HTTP/1.0", Some(200), Some(5), None),
            (r#""-" - - "-" "n" 45640 "-" 0ms"#, "-", None, None, Some("n")),
            (r#""GET /""#, "GET /", None, None, None),
        ] {
            let line = format!("192.0.2.1 - - {TIME} {rest}");
            let (found, _) = read(&line).expect(rest);
            let Request::Line(span) = found.request else { panic!("{rest}") };
            assert_eq!(span.of(line.as_bytes()), request.as_bytes(), "{rest}");
            assert_eq!((found.status, found.bytes), (status, bytes), "{rest}");
            let found_agent = found.user_agent.map(|agent| agent.of(line.as_bytes()));
            assert_eq!(found_agent, agent.map(str::as_bytes), "{rest}");
        }
    }

    #[test]
    fn a_user_that_looks_like_a_time_does_not_move_the_request() {
        let line =
            format!(r#"192.0.2.1 - x {TIME} \"GET /forged\" 1 {TIME} "GET / HTTP/1.1" 200 5"#);
        let (found, _) = read(&line).unwrap();
        let Request::Line(span) = found.request else { panic!("no request") };
        assert_eq!(span.of(line.as_bytes()), b"GET / HTTP/1.1");
    }

    #[test]
    fn a_line_in_quotes_and_with_a_carriage_return_is_read_between_them() {
        let line = format!("\"192.0.2.1 - - {TIME} \"GET / HTTP/1.1\" 200 5 \"-\" \"x\"\"\r");
        let (found, shape) = read(&line).unwrap();
        assert_eq!(found.client, span(1, 10));
        assert_eq!(found.user_agent.map(|agent| agent.of(line.as_bytes())), Some(&b"x"[..]));
        assert_eq!(shape, Shape::Combined);
    }

    #[test]
    fn what_is_no_access_line_is_refused() {
        for line in [
            "",
            "\"",
            "#Fields: a b",
            "192.0.2.1",
            "[10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1\" 200 5",
            " [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1\" 200 5",
            "192.0.2.1 - - [10/Oct/2000:13:55:36 -0700]",
            "192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1",
            "192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1\" 200 5 \"-\" \"cut",
            "[Tue Oct 10 13:55:36 2000] [error] [client 192.0.2.1:4] AH00128: no file",
            "192.0.2.1:4 [28/Feb/2025:02:43:10.123] front/back: SSL handshake failure",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
