//! The fast path: common, combined, `vhost_combined` and their many variants, recognised line by
//! line (NCSA's log format as in the `mod_log_config` manual, nginx's predefined `combined`).
//!
//! ```text
//! line    = [vhost SP] client [SP host] *(SP word) SP "[" time "]" [extra] SP quoted-request
//!           [SP status [SP bytes [SP quoted-referer [SP quoted-agent]]]] rest
//! ```
//!
//! A client can forge two parts: the user, whose name may hold spaces, brackets and a date, and
//! quoted text. The parser therefore takes the last time before the quote of the request, because a
//! user name cannot hold an unescaped quote, and looks for the client in front of that time only.

use super::envelope::Envelope;
use super::head::HeadParser;
use super::quote::QuoteScanner;
use super::timestamp::TimestampParser;
use super::{AccessLine, Expected, LineError, LineSpan, LoggedRequest, TrailingNumbers, trailing};
use crate::addr::parse_ip;
use crate::scan;

/// The variant of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClfVariant {
    Common,
    Combined,
    VhostCommon,
    VhostCombined,
}

/// Parses the line behind `envelope` into `found`, overwriting all fields.
#[inline]
pub(super) fn parse(
    line: &[u8],
    envelope: Envelope,
    heads: &mut HeadParser,
    clock: &mut TimestampParser,
    found: &mut AccessLine,
) -> Result<ClfVariant, LineError> {
    let (start, body) = trim(line, envelope.length as usize);
    let (quote, after_host) = heads.read(body, start, envelope, clock, found)?;
    let mut quotes = QuoteScanner::new(body, quote + 1);
    let request_end =
        quotes.closing(quote + 1).ok_or_else(|| LineError::new(quote, Expected::Request))?;
    found.request = LoggedRequest::Line(LineSpan::new(quote + 1, request_end));
    if body.get(request_end.wrapping_sub(VERSION)) == Some(&b' ') {
        split_version(body, (quote + 1, request_end), found);
    }
    let with_agent = tail(body, request_end + 1, &mut quotes, found);
    if body[start] == b'[' {
        size_alone(body, request_end + 1, found);
    }
    Ok(match (after_host, with_agent) {
        (false, false) => ClfVariant::Common,
        (false, true) => ClfVariant::Combined,
        (true, false) => ClfVariant::VhostCommon,
        (true, true) => ClfVariant::VhostCombined,
    })
}

/// Strips a CR, and a pair of quotes around the line as spreadsheets export lines. Offsets stay
/// relative to `line`.
fn trim(line: &[u8], start: usize) -> (usize, &[u8]) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line.get(start..) {
        // A quote before the time ends a first field in quotes.
        Some([b'"', rest @ .., b'"'])
            if !rest.iter().take_while(|&&byte| byte != b'[').any(|&byte| byte == b'"') =>
        {
            (start + 1, &line[..line.len() - 1])
        }
        _ => (start, line),
    }
}

/// The length of a space and a version alone.
const VERSION: usize = " 1.1".len();

/// In `GET / 1.1`, as Hypercorn has it, the last word is the protocol without its name: the request is in parts.
#[cold]
fn split_version(body: &[u8], (start, end): (usize, usize), found: &mut AccessLine) {
    let words = body.get(start..end - VERSION).and_then(|before| memchr::memchr(b' ', before));
    let is_version = matches!(body[end - VERSION..end], [_, b'1', b'.', b'0' | b'1']);
    if let Some(space) = words.filter(|_| is_version) {
        found.request = LoggedRequest::Parts {
            method: LineSpan::new(start, start + space),
            target: LineSpan::new(start + space + 1, end - VERSION),
            query: None,
            protocol: Some(LineSpan::new(end - VERSION + 1, end)),
        };
    }
}

/// Parses the fields behind the request, from `at`. Returns whether Referer and User-Agent were
/// present; a line may be cut within them, and then has no value for what is cut.
#[inline]
fn tail(body: &[u8], at: usize, quotes: &mut QuoteScanner<'_>, found: &mut AccessLine) -> bool {
    let from = at;
    let Some((status, at)) = number(body, at) else { return false };
    // A status with fewer digits belongs to a line that was cut.
    let status = status.filter(|_| at == from + 4);
    found.status = status.and_then(|status| u16::try_from(status).ok());
    let Some((bytes, at)) = number(body, at) else { return false };
    found.bytes = bytes;
    let Ok(referer) = quotes.field(at) else { return true };
    let Some(referer) = referer else {
        read_trailing(body, at, found);
        return false;
    };
    found.referer = Some(referer);
    let Ok(agent) = quotes.field(referer.end as usize + 1) else { return true };
    let Some(agent) = agent else {
        if trailing::is_id(referer.of(body)) {
            // A request's id in quotes behind common.
            found.referer = None;
            read_trailing(body, at, found);
            return false;
        }
        return unclosed_referer(body, referer, found);
    };
    found.user_agent = Some(agent);
    let at = agent.end as usize + 1;
    if at < body.len() {
        read_trailing(body, at, found);
        found.forwarded_for = forwarded_for(body, at, quotes);
    }
    true
}

/// In `"http://a.example/ "Mozilla/5.0"` the quote of the Referer is not closed. Returns whether a
/// User-Agent was found.
#[cold]
fn unclosed_referer(body: &[u8], referer: LineSpan, found: &mut AccessLine) -> bool {
    let Some(gap) = memchr::memmem::rfind(referer.of(body), b" \"") else { return false };
    let end = referer.start as usize + gap;
    found.referer = Some(LineSpan::new(referer.start as usize, end));
    found.user_agent = Some(LineSpan::new(end + 2, referer.end as usize));
    true
}

/// A line of `mod_ssl`'s request log, which begins with the time, has a size and no status.
#[cold]
fn size_alone(body: &[u8], at: usize, found: &mut AccessLine) {
    if let Some((size, _)) = number(body, at).filter(|(_, end)| *end == body.len()) {
        (found.status, found.bytes) = (None, size);
    }
}

/// Reads the fields behind the known ones, where there are any.
#[inline]
fn read_trailing(body: &[u8], at: usize, found: &mut AccessLine) {
    if at < body.len() {
        found.trailing = TrailingNumbers::read(&body[at..]);
    }
    if body.len() - at > trailing::LEAST_DIGITS {
        let id = trailing::request_id(&body[at..]);
        found.request_id = id.map(|(start, end)| LineSpan::new(at + start, at + end));
    }
}

/// nginx's stock `main` format ends in a quoted `$http_x_forwarded_for`: returned if the field is
/// the last one and begins with an address.
#[cold]
fn forwarded_for(body: &[u8], at: usize, quotes: &mut QuoteScanner<'_>) -> Option<LineSpan> {
    let last = quotes.field(at).ok()??;
    let text = last.of(body);
    let first = text.split(|&b| b == b',').next().unwrap_or_default();
    let is_it = last.end as usize + 1 == body.len() && parse_ip(first).is_some();
    is_it.then_some(last)
}

/// Parses SP and digits or `-`, up to a space or the end: returns the number (`None` for `-`), and
/// the offset of the end.
#[inline]
fn number(body: &[u8], at: usize) -> Option<(Option<u64>, usize)> {
    let rest = body.get(at..)?.strip_prefix(b" ")?;
    if let Some((value, len)) = rest.first_chunk().and_then(scan::short_number)
        && rest[len] == b' '
    {
        return Some((Some(value), at + 1 + len));
    }
    long_number(rest).map(|(value, len)| (value, at + 1 + len))
}

/// Parses digits or `-`, up to a space or the end.
#[cold]
fn long_number(rest: &[u8]) -> Option<(Option<u64>, usize)> {
    let mut value = 0_u64;
    let mut len = 0;
    while let Some(digit) = rest.get(len).map(|byte| byte.wrapping_sub(b'0')).filter(|d| *d < 10) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        len += 1;
    }
    // 19 digits always fit.
    if len > 19 {
        return None;
    }
    let value = match (len, rest.first()) {
        (0, Some(b'-')) => {
            len = 1;
            None
        }
        (0, _) => return None,
        _ => Some(value),
    };
    matches!(rest.get(len), None | Some(b' ')).then_some((value, len))
}

#[cfg(test)]
mod tests {
    use super::super::head::ClientPlacement;
    use super::*;
    use crate::request::{Cut, Fingerprint};

    const TIME: &str = "[10/Oct/2000:13:55:36 -0700]";

    fn read(line: &str) -> Result<(AccessLine, ClfVariant), LineError> {
        let mut found = AccessLine::default();
        let mut heads = HeadParser::new(ClientPlacement::ByLine, None, None);
        let shape = parse(
            line.as_bytes(),
            Envelope::default(),
            &mut heads,
            &mut TimestampParser::default(),
            &mut found,
        )?;
        Ok((found, shape))
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
            (r#""GET /" 20"#, "GET /", None, None, None),
        ] {
            let line = format!("192.0.2.1 - - {TIME} {rest}");
            let (found, _) = read(&line).expect(rest);
            let LoggedRequest::Line(span) = found.request else { panic!("{rest}") };
            assert_eq!(span.of(line.as_bytes()), request.as_bytes(), "{rest}");
            assert_eq!((found.status, found.bytes), (status, bytes), "{rest}");
            let found_agent = found.user_agent.map(|agent| agent.of(line.as_bytes()));
            assert_eq!(found_agent, agent.map(str::as_bytes), "{rest}");
        }
    }

    #[test]
    fn a_version_alone_is_the_protocol() {
        for (request, method, target) in [
            ("GET / 1.1", "GET", "/"),
            ("POST /a?b=1&c 1.0", "POST", "/a?b=1&c"),
            ("GET /a b 1.1", "GET", "/a b"),
        ] {
            let line = format!("127.0.0.1:40100 - - {TIME} \"{request}\" 200 5 \"-\" \"curl/8\"");
            let (found, _) = read(&line).expect(request);
            let LoggedRequest::Parts { method: m, target: t, query: None, protocol: Some(_) } =
                found.request
            else {
                panic!("{request}: {:?}", found.request)
            };
            let texts = [m, t].map(|span| span.of(line.as_bytes()));
            assert_eq!(texts, [method.as_bytes(), target.as_bytes()], "{request}");
            assert_eq!(found.peer_port, Some(40_100), "{request}");
            let whole = request.replace(" 1.", " HTTP/1.");
            let cut = Cut::Long;
            assert_eq!(
                found.request.fingerprint(line.as_bytes(), cut),
                Fingerprint::of_logged(&[whole.as_bytes()], cut),
                "{request}"
            );
        }
        for request in
            ["/ 1.1", "GET 1.1", " 1.1", "GET / 2.1", "GET /a HTTP/1.1", "a 1.", "GET / x.y"]
        {
            let line = format!("192.0.2.1 - - {TIME} \"{request}\" 200 5");
            let (found, _) = read(&line).expect(request);
            let LoggedRequest::Line(span) = found.request else { panic!("{request}") };
            assert_eq!(span.of(line.as_bytes()), request.as_bytes());
        }
    }

    #[test]
    fn a_line_that_is_cut_or_lacks_a_quote_is_read_as_far_as_it_is_whole() {
        let head = format!("192.0.2.1 - - {TIME} \"GET / HTTP/1.1\" 200 5");
        for (rest, referer, agent) in [
            (r#" "http://a.example/ c"#, None, None),
            (r#" "-" "Mozilla/5.0 (cut"#, Some("-"), None),
            (r#" "-" "x" "203.0.113.7"#, Some("-"), Some("x")),
            (
                r#" "http://a.example/ "Mozilla/5.0 (X11)""#,
                Some("http://a.example/"),
                Some("Mozilla/5.0 (X11)"),
            ),
        ] {
            let line = format!("{head}{rest}");
            let (found, shape) = read(&line).expect(rest);
            let text = |span: LineSpan| std::str::from_utf8(span.of(line.as_bytes())).unwrap();
            assert_eq!(found.referer.map(text), referer, "{rest}");
            assert_eq!(found.user_agent.map(text), agent, "{rest}");
            assert_eq!(
                (found.status, found.bytes, shape),
                (Some(200), Some(5), ClfVariant::Combined)
            );
        }
    }

    #[test]
    fn the_request_log_of_mod_ssl_begins_with_the_time() {
        let line =
            format!("{TIME} 192.0.2.1 TLSv1.3 TLS_AES_256_GCM_SHA384 \"GET / HTTP/1.1\" 512");
        let (found, _) = read(&line).unwrap();
        assert_eq!(found.client.of(line.as_bytes()), b"192.0.2.1");
        assert_eq!((found.status, found.bytes, found.user), (None, Some(512), None));
    }

    #[test]
    fn a_line_without_a_time_has_that_of_its_envelope() {
        for (stamp, seconds) in [
            ("2023-11-14T22:13:20Z", Some(1_700_000_000)),
            ("1700000000.5", Some(1_700_000_000)),
            ("Nov 14 22:13:20", None),
        ] {
            let line = format!("{stamp} web1 nginx: 192.0.2.1 - - \"GET / HTTP/1.1\" 200 5");
            let mut found = AccessLine::default();
            let mut heads = HeadParser::new(ClientPlacement::ByLine, None, None);
            let envelope = super::super::envelope::of(line.as_bytes());
            let clock = &mut TimestampParser::default();
            parse(line.as_bytes(), envelope, &mut heads, clock, &mut found).expect(stamp);
            assert_eq!(found.client.of(line.as_bytes()), b"192.0.2.1", "{line}");
            let time = found.time.map(|(time, _)| time.as_micros() / 1_000_000);
            assert_eq!((time, found.status), (seconds, Some(200)), "{line}");
        }
        assert!(read("192.0.2.1 - - \"GET / HTTP/1.1\" 200 5").is_err(), "no envelope");
    }

    #[test]
    fn a_line_in_quotes_and_with_a_carriage_return_is_read_between_them() {
        let line = format!("\"192.0.2.1 - - {TIME} \"GET / HTTP/1.1\" 200 5 \"-\" \"x\"\"\r");
        let (found, shape) = read(&line).unwrap();
        assert_eq!(found.client, LineSpan::new(1, 10));
        assert_eq!(found.user_agent.map(|agent| agent.of(line.as_bytes())), Some(&b"x"[..]));
        assert_eq!(shape, ClfVariant::Combined);
    }

    #[test]
    fn what_is_no_access_line_is_refused() {
        for line in [
            "",
            "\"",
            "#Fields: a b",
            "192.0.2.1",
            "[10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1\" 200 5",
            "[10/Oct/2000:13:55:36 -0700] a.example 192.0.2.1 \"GET / HTTP/1.1\" 200 5",
            " [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1\" 200 5",
            "192.0.2.1 - - [10/Oct/2000:13:55:36 -0700]",
            "request failed: [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1\" 200 5",
            "failed [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1\" 200 5",
            "192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1",
            "[Tue Oct 10 13:55:36 2000] [error] [client 192.0.2.1:4] AH00128: no file",
            "192.0.2.1:4 [28/Feb/2025:02:43:10.123] front/back: SSL handshake failure",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
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
            let text =
                |span: LineSpan| String::from_utf8_lossy(span.of(line.as_bytes())).into_owned();
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
            ("lb1.example:40100", "lb1.example", Some(40_100)),
        ] {
            let line = format!("{head} - - {TIME} \"GET / HTTP/1.1\" 200 5");
            let (found, _) = read(&line).expect(head);
            assert_eq!(found.client.of(line.as_bytes()), client.as_bytes());
            assert_eq!(found.peer_port, port);
        }
    }

    #[test]
    fn numbers_behind_the_known_fields_are_kept() {
        for (rest, numbers) in [
            ("200 5", &[][..]),
            ("200 5 40312", &[(0, 40_312)]),
            ("200 5 \"-\" \"curl\"", &[]),
            ("200 5 \"-\" \"curl\" 40312", &[(0, 40_312)]),
            ("200 5 \"-\" \"curl\" \"203.0.113.7\" 0.003 40312", &[(2, 40_312)]),
            ("200 5 \"-\" \"curl\" 40312 \"203.0.113.7\"", &[(0, 40_312)]),
        ] {
            let line = format!("192.0.2.1 - - {TIME} \"GET / HTTP/1.1\" {rest}");
            let (found, _) = read(&line).expect(rest);
            assert_eq!(found.trailing.iter().collect::<Vec<_>>(), numbers, "{rest}");
        }
    }

    #[test]
    fn a_user_that_looks_like_a_time_does_not_move_the_request() {
        let line =
            format!(r#"192.0.2.1 - x {TIME} \"GET /forged\" 1 {TIME} "GET / HTTP/1.1" 200 5"#);
        let (found, _) = read(&line).unwrap();
        let LoggedRequest::Line(span) = found.request else { panic!("no request") };
        assert_eq!(span.of(line.as_bytes()), b"GET / HTTP/1.1");
    }
}
