//! Syslog envelopes in front of a line.
//!
//! ```text
//! RFC 3164   ["<" PRI ">"] Mmm SP dd SP hh:mm:ss [SP host] SP tag ["[" pid "]"] ":" [SP] line
//! RFC 5424   "<" PRI ">" version SP stamp SP host SP app SP pid SP msgid SP data [SP [BOM] line]
//! ```
//!
//! nginx sends the first form with a host name (without under `nohostname`), HAProxy without;
//! rsyslog writes files with either the RFC 3164 timestamp or an ISO 8601 timestamp, and no PRI.

use super::timestamp;

/// Length of the envelope in bytes; 0 if there is none. Includes `@cee:`, which marks JSON in a
/// syslog message.
#[inline]
pub(super) fn length(line: &[u8]) -> usize {
    let length = syslog(line);
    match line.get(length) {
        Some(b'@') => length + cookie(&line[length..]),
        _ => length,
    }
}

fn cookie(rest: &[u8]) -> usize {
    let Some(after) = rest.strip_prefix(b"@cee:") else { return 0 };
    rest.len() - after.trim_ascii_start().len()
}

#[inline]
fn syslog(line: &[u8]) -> usize {
    // An access line nearly always begins with a digit, a lower-case letter or a bracket.
    match line.first() {
        Some(b'<' | b'A'..=b'S') => opened(line).unwrap_or(0),
        Some(b'1' | b'2') if line.get(10) == Some(&b'T') => bsd(line, 0).unwrap_or(0),
        _ => 0,
    }
}

fn opened(line: &[u8]) -> Option<usize> {
    if line.first() != Some(&b'<') {
        return bsd(line, 0);
    }
    let close = line.iter().take(5).position(|&b| b == b'>')?;
    let priority = timestamp::decimal(line.get(1..close)?)?;
    if priority > 191 {
        return None;
    }
    rfc5424(line, close + 1).or_else(|| bsd(line, close + 1))
}

/// RFC 3164, section 4.1, and its variants in files.
fn bsd(line: &[u8], at: usize) -> Option<usize> {
    let at = bsd_stamp(line, at).or_else(|| {
        let end = timestamp::iso(line, at)?.end;
        (line.get(end) == Some(&b' ')).then_some(end + 1)
    })?;
    let first = word_end(line, at)?;
    if let Some(length) = tag(line, at, first) {
        return Some(length);
    }
    // A host name, then the tag.
    let second = word_end(line, first + 1)?;
    tag(line, first + 1, second)
}

/// Parses `Mmm dd hh:mm:ss `, with a space for a missing digit of the day; returns the offset of
/// the end.
fn bsd_stamp(line: &[u8], at: usize) -> Option<usize> {
    let stamp: &[u8; 16] = line.get(at..)?.first_chunk()?;
    let [m2, m1, m0, b' ', d1, d0, b' ', h1, h0, b':', n1, n0, b':', s1, s0, b' '] = stamp else {
        return None;
    };
    timestamp::month(&[*m2, *m1, *m0])?;
    let digits = [d0, h1, h0, n1, n0, s1, s0].into_iter().all(u8::is_ascii_digit);
    (digits && (*d1 == b' ' || d1.is_ascii_digit())).then_some(at + 16)
}

/// If the word ends in a colon, the word is a tag; returns the offset of the access line.
fn tag(line: &[u8], from: usize, to: usize) -> Option<usize> {
    let word = line.get(from..to)?;
    let name = word.strip_suffix(b":")?;
    let name = match name.strip_suffix(b"]") {
        Some(open) => open.get(..memchr::memchr(b'[', open)?)?,
        None => name,
    };
    // An IPv6 address may end in a colon; the name of a program has no other colon.
    let is_tag = !name.is_empty() && !name.contains(&b':');
    is_tag.then_some(to + usize::from(line.get(to) == Some(&b' ')))
}

/// RFC 5424, section 6.
fn rfc5424(line: &[u8], at: usize) -> Option<usize> {
    let mut at = line.get(at..)?.starts_with(b"1 ").then_some(at + 2)?;
    for _ in 0..5 {
        let end = word_end(line, at)?;
        if end == at {
            return None;
        }
        at = end + 1;
    }
    let mut at = structured_data(line, at)?;
    at += usize::from(line.get(at) == Some(&b' '));
    let mark = line.get(at..).is_some_and(|rest| rest.starts_with(b"\xEF\xBB\xBF"));
    Some(at + if mark { 3 } else { 0 })
}

/// Skips `-`, or elements in brackets whose values are quoted with `\"`, `\\` and `\]` inside.
fn structured_data(line: &[u8], mut at: usize) -> Option<usize> {
    if line.get(at) == Some(&b'-') {
        return Some(at + 1);
    }
    let from = at;
    while line.get(at) == Some(&b'[') {
        let mut quoted = false;
        loop {
            at += 1;
            match line.get(at)? {
                b'\\' if quoted => at += 1,
                b'"' => quoted = !quoted,
                b']' if !quoted => break,
                _ => {}
            }
        }
        at += 1;
    }
    (at > from).then_some(at)
}

fn word_end(line: &[u8], from: usize) -> Option<usize> {
    Some(from + memchr::memchr(b' ', line.get(from..)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_end_where_the_line_begins() {
        for (envelope, line) in [
            ("<190>Jul  8 11:07:07 web1 nginx: ", "192.0.2.1 - - ["),
            ("<190>Jul  8 11:07:07 nginx: ", "192.0.2.1 - - ["),
            ("Jul  8 11:07:07 ip-172-31-43-28.internal nginx[2869]: ", "192.0.2.1 - - ["),
            ("<150>Feb 12 12:14:14 haproxy[14389]: ", "192.0.2.1:4 ["),
            ("2024-01-02T03:04:05.123456+01:00 web1 nginx: ", "{\"a\":1}"),
            ("<165>1 2003-10-11T22:14:15.003Z web1 nginx 17 access - ", "192.0.2.1 - - ["),
            ("@cee: ", "{\"a\":1}"),
            ("<190>Jul  8 11:07:07 nginx: @cee:", "{\"a\":1}"),
            ("<165>1 - - - - - - \u{FEFF}", "192.0.2.1 - - ["),
            ("<165>1 - web1 nginx - - [a@1 b=\"c]\\\"d\"][e@2] ", "192.0.2.1 - - ["),
        ] {
            let whole = format!("{envelope}{line}");
            assert_eq!(length(whole.as_bytes()), envelope.len(), "{whole}");
        }
    }

    #[test]
    fn lines_without_an_envelope_have_none() {
        for line in [
            "",
            "<",
            "<190>",
            "<999>Jul  8 11:07:07 nginx: x",
            "192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1\" 200 1",
            "Jul 8",
            "Januar 1 2 3",
            "2001:db8::1 - - [",
            "<165>1 - -",
            "<165>1 - - - - - [a b=\"",
        ] {
            assert_eq!(length(line.as_bytes()), 0, "{line}");
        }
    }
}
