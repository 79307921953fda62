//! What programs that pass lines on write in front of a line: the envelopes of syslog, and the
//! prefixes of container runtimes, the journal and grep.
//!
//! ```text
//! RFC 3164   ["<" PRI ">"] [stamp SP] *(host SP) tag [":"] [SP] line
//! RFC 5424   ["<" PRI ">"] "1" SP stamp SP host SP app SP pid SP msgid SP data [SP [BOM] line]
//! CRI        stamp SP ("stdout" / "stderr") SP flags SP line
//! docker     stamp SP line / stream 3NUL length SP line / name *SP "| " line
//! grep       file ":" [number ":"] line
//! tag        name ["[" pid "]"]
//! ```
//!
//! The forms of `stamp` are in [`stamp`]. nginx sends RFC 3164 with a host name (without under
//! `nohostname`), HAProxy without; a relay puts a host of its own before that one. journalctl and
//! rsyslog write RFC 3164 with stamps of their own and without PRI.

mod prefix;
mod stamp;

use super::head::is_address;
use super::timestamp;
use super::{LineSpan, StampZone};
use crate::time::{Resolution, Timestamp};

/// What stands in front of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Envelope {
    /// Length in bytes; 0 without an envelope. Includes `@cee:`, which marks JSON in a syslog
    /// message.
    pub(super) length: u32,
    /// The host or container that the envelope names; of several the one nearest to the line,
    /// which is the host of the program.
    pub(super) host: Option<LineSpan>,
}

impl Envelope {
    fn new(length: usize, host: Option<LineSpan>) -> Self {
        Self { length: LineSpan::new(length, length).start, host }
    }
}

/// Length of the envelope in bytes; 0 if there is none.
#[inline]
pub(super) fn length(line: &[u8]) -> usize {
    of(line).length as usize
}

/// The envelope of a line.
#[inline]
pub(super) fn of(line: &[u8]) -> Envelope {
    // An access line nearly always begins with an address or a brace.
    if begins_with_v4(line) { Envelope::default() } else { of_other(line) }
}

/// The envelope of a line that does not begin with an IPv4 address.
fn of_other(line: &[u8]) -> Envelope {
    let is_likely = matches!(
        line,
        [b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', b'0'..=b'9' | b'-', ..]
            | [b'0'..=b'9', b':', ..]
            | [b'0'..=b'9', b'0'..=b'9', b':', ..]
            | [b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', b':', ..]
            | [b'1', b' ', ..]
            | [..=2, 0, 0, 0, ..]
            | [b'\t' | 0xEF, ..]
            | [b' ', b' ' | b'0'..=b'9', ..]
            | [b'<' | b'@' | b'A'..=b'Z' | b'a'..=b'z' | b'/' | b'.' | b'_' | 0x1B, ..]
    );
    if is_likely { find(line) } else { Envelope::default() }
}

/// Whether a line begins like an IPv4 address, as no envelope does.
#[inline]
const fn begins_with_v4(line: &[u8]) -> bool {
    matches!(
        line,
        [b'0'..=b'9', b'.', ..]
            | [b'0'..=b'9', b'0'..=b'9', b'.', ..]
            | [b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', b'.', ..]
    )
}

/// The time in the envelope. Without a zone it is taken as UTC, without a year it is the one next to
/// `near`.
#[cold]
pub(super) fn time(
    line: &[u8],
    near: Option<Timestamp>,
) -> Option<((Timestamp, Resolution), StampZone)> {
    let at = priority(line).unwrap_or(0);
    let at = at + if line.get(at..)?.starts_with(b"1 ") { 2 } else { 0 };
    let stamp = stamp::read(line, at, near)?;
    Some((stamp.time?, stamp.zone))
}

/// Envelopes of envelopes that are looked into.
const DEPTH: usize = 3;

/// The envelope of a line that could not be parsed otherwise: [`of`] does not look for all of them.
#[cold]
pub(super) fn find(line: &[u8]) -> Envelope {
    let (mut at, mut host) = (0, None);
    for _ in 0..DEPTH {
        let Some((end, named)) = next(line, at) else { break };
        (at, host) = (end, named.or(host));
    }
    Envelope::new(at + cookie(line.get(at..).unwrap_or_default()), host)
}

/// The first of several envelopes.
#[cold]
pub(super) fn outer(line: &[u8]) -> Envelope {
    next(line, 0).map_or_else(Envelope::default, |(end, host)| Envelope::new(end, host))
}

fn cookie(rest: &[u8]) -> usize {
    let Some(after) = rest.strip_prefix(b"@cee:") else { return 0 };
    rest.len() - after.trim_ascii_start().len()
}

/// Reads one envelope at `at`. Returns the end of the envelope and the host in the envelope.
fn next(line: &[u8], at: usize) -> Option<(usize, Option<LineSpan>)> {
    let rest = line.get(at..)?;
    match rest {
        [b'<', ..] => {
            let at = at + priority(rest)?;
            // A priority alone, as programs write to /dev/log.
            let is_bare = starts_line(line.get(at..)?);
            rfc5424(line, at)
                .or_else(|| is_bare.then_some((at, None)))
                .or_else(|| rfc3164(line, at))
                .or_else(|| tagged(line, at, Tags::Any))
        }
        [b'1', b' ', ..] => rfc5424(line, at),
        [b'0'..=b'9' | b'A'..=b'Z', ..] => rfc3164(line, at).or_else(|| prefix::find(line, at)),
        _ => prefix::find(line, at),
    }
}

/// Parses `<PRI>`; returns its length.
fn priority(line: &[u8]) -> Option<usize> {
    let rest = line.strip_prefix(b"<")?;
    let close = rest.iter().take(4).position(|&b| b == b'>')?;
    let priority = timestamp::decimal(rest.get(..close)?)?;
    (priority <= 191).then_some(close + 2)
}

/// RFC 3164, section 4.1, and its variants in files and of container runtimes.
fn rfc3164(line: &[u8], at: usize) -> Option<(usize, Option<LineSpan>)> {
    let stamp = stamp::read(line, at, None)?;
    let rest = line.get(stamp.end..)?;
    for stream in [&b"stdout "[..], b"stderr "] {
        if rest.starts_with(stream) {
            // `F` for a full line, `P` for a part of one.
            return Some((word_end(line, stamp.end + stream.len())? + 1, None));
        }
    }
    if stamp.is_containers || starts_line(rest) {
        return Some((stamp.end, None));
    }
    // Seconds since the epoch in front of a host name.
    let is_named = || stamp.is_epoch && !rest.first().is_some_and(u8::is_ascii_digit);
    let (at, tags) = (stamp.end, if stamp.is_epoch { Tags::WithColon } else { Tags::Any });
    tagged(line, at, tags).or_else(|| is_named().then_some((at, None)))
}

/// Which tags are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tags {
    WithColon,
    /// A tag without its colon, too, or a host without a tag: known by the address behind.
    Any,
}

/// Hosts and a tag.
fn tagged(line: &[u8], at: usize, tags: Tags) -> Option<(usize, Option<LineSpan>)> {
    let mut words = [(0, 0); 4];
    let mut from = at;
    for index in 0..words.len() {
        let to = word_end(line, from)?;
        words[index] = (from, to);
        let before = |back: usize| {
            let (from, to) = *words.get(index.checked_sub(back)?)?;
            let is_name = to > from && line[from..to] != *b"-";
            is_name.then(|| LineSpan::new(from, to))
        };
        if let Some(end) = tag(line, from, to) {
            return Some((end, before(1)));
        }
        let rest = line.get(from..)?;
        if tags == Tags::WithColon {
            from = to + 1;
            continue;
        }
        if line[at..to].iter().all(|b| !b.is_ascii_alphabetic()) {
            // A number is no host: this line begins with fields of its own.
            return None;
        }
        if index > 0 && starts_line(rest) {
            // `host line`, or `host tag line`. A virtual host belongs to the line: it has a port, or
            // dots in the place of the tag.
            let (from, to) = words[index - 1];
            let has = |byte: u8| line[from..to].contains(&byte);
            if has(b':') || (index > 1 && has(b'.')) {
                let name = if index > 2 { 3 } else { 2 };
                return Some((from, before(name)));
            }
            return Some((words[index].0, before(if index > 1 { 2 } else { 1 })));
        }
        if index > 0 && (rest.starts_with(b"<") || stamp::read(line, from, None).is_some()) {
            return Some((from, before(1)));
        }
        from = to + 1;
    }
    None
}

/// Whether an access line begins with `rest`: an address, or a JSON object.
fn starts_line(rest: &[u8]) -> bool {
    if rest.first() == Some(&b'{') {
        return true;
    }
    let end = rest.iter().take(64).position(|&b| b == b' ');
    end.is_some_and(|end| is_address(&rest[..end]))
}

/// If the word ends in a colon, the word is a tag; returns the offset of the access line.
fn tag(line: &[u8], from: usize, to: usize) -> Option<usize> {
    let word = line.get(from..to)?;
    let name = word.strip_suffix(b":")?;
    let name = match name.strip_suffix(b"]") {
        Some(open) => open.get(..memchr::memchr(b'[', open)?)?,
        None => name,
    };
    // An IPv6 address may end in a colon; the name of a program has no other colon. nginx logs
    // `unix:` for a client of a Unix-domain socket. An object or a bracket begins the line.
    let begins_line = matches!(name.first(), None | Some(b'{' | b'[' | b'"' | b'\''));
    let is_tag = !begins_line && !name.contains(&b':') && name != b"unix";
    is_tag.then_some(to + usize::from(line.get(to) == Some(&b' ')))
}

/// RFC 5424, section 6.
fn rfc5424(line: &[u8], at: usize) -> Option<(usize, Option<LineSpan>)> {
    let mut at = line.get(at..)?.starts_with(b"1 ").then_some(at + 2)?;
    let mut host = None;
    for field in 0..5 {
        let end = word_end(line, at)?;
        if end == at {
            return None;
        }
        if field == 1 && line[at..end] != *b"-" {
            host = Some(LineSpan::new(at, end));
        }
        at = end + 1;
    }
    let mut at = structured_data(line, at)?;
    // rsyslog keeps the space behind a tag as a part of the message.
    at += line.get(at..)?.iter().take(2).take_while(|&&b| b == b' ').count();
    let mark = line.get(at..).is_some_and(|rest| rest.starts_with(b"\xEF\xBB\xBF"));
    Some((at + if mark { 3 } else { 0 }, host))
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
    fn envelopes_end_where_the_line_begins_and_name_their_host() {
        for (envelope, line, host) in [
            ("<190>Jul  8 11:07:07 web1 nginx: ", "192.0.2.1 - - [", "web1"),
            ("<190>Jul  8 11:07:07 nginx: ", "192.0.2.1 - - [", ""),
            ("<190>web1 nginx: ", "192.0.2.1 - - [", "web1"),
            ("<190>nginx: ", "192.0.2.1 - - [", ""),
            (
                "Jul  8 11:07:07 ip-172-31-43-28.internal nginx[2869]: ",
                "192.0.2.1 - - [",
                "ip-172-31-43-28.internal",
            ),
            ("<150>Feb 12 12:14:14 haproxy[14389]: ", "192.0.2.1:4 [", ""),
            ("Nov 14 22:13:20 FW1 fw1 nginx: ", "192.0.2.1 - - [", "fw1"),
            ("Nov 14 22:13:20 FW1 fw1 nginx[8]: ", "a.example:80 192.0.2.1 - - [", "fw1"),
            ("Nov 14 22:13:20.123 web1 nginx: ", "192.0.2.1 - - [", "web1"),
            ("Nov 14 22:13:20.123456 web1 nginx[1]: ", "192.0.2.1 - - [", "web1"),
            ("Nov 4 22:13:20 web1 nginx: ", "192.0.2.1 - - [", "web1"),
            ("Nov 14 2023 22:13:20 web1 nginx: ", "192.0.2.1 - - [", "web1"),
            ("<190>Nov 14 2023 22:13:20.123 UTC web1 nginx: ", "192.0.2.1 - - [", "web1"),
            ("Nov 14 22:13:20 WEB nginx: ", "192.0.2.1 - - [", "WEB"),
            ("Nov 14 22:13:20 ", "a.example:80 192.0.2.1 - - [", ""),
            ("Tue Nov 14 22:13:20 2023 web1 nginx: ", "192.0.2.1 - - [", "web1"),
            ("Tue 2023-11-14 22:13:20 UTC web1 nginx[1]: ", "192.0.2.1 - - [", "web1"),
            ("Tue 2023-11-14 22:13:20 CEST web1 nginx[1]: ", "192.0.2.1 - - [", "web1"),
            ("1700000000.123456 web1 nginx[1]: ", "192.0.2.1 - - [", "web1"),
            ("1700000000.123 ", "192.0.2.1 - - [", ""),
            ("1700000000 ", "192.0.2.1 - - [", ""),
            ("2024-01-02T03:04:05.123456+01:00 web1 nginx: ", "{\"a\":1}", "web1"),
            ("2024-01-02T03:04:05+0000 web1 nginx[1]: ", "192.0.2.1 - - [", "web1"),
            ("2024-01-02 03:04:05 web1 nginx: ", "192.0.2.1 - - [", "web1"),
            ("2024-01-02 03:04:05.123 +0100 web1 nginx: ", "192.0.2.1 - - [", "web1"),
            ("Nov 14 22:13:20 web1 app[7]: ", "{\"a\": \"b\", \"c\": 1}", "web1"),
            ("<190>1 2023-11-14T22:13:20Z web1 app 7 - - ", "{\"a\": \"b\"}", "web1"),
            ("web-1  | ", "{\"a\": \"b\", \"c\": 1}", "web-1"),
            ("Nov 14 22:13:20 web1 app[7]: ", "[pid: 2|app: 0] 192.0.2.1 () {3", "web1"),
            ("Nov 14 22:13:20 web1 nginx ", "192.0.2.1 - - [", "web1"),
            ("Nov 14 22:13:20 web1 ", "192.0.2.1 - - [", "web1"),
            ("Nov 14 22:13:20 relay web1 nginx ", "192.0.2.1 - - [", "web1"),
            ("Nov 14 22:13:20 web1 ", "a.example:80 192.0.2.1 - - [", "web1"),
            ("Nov 14 22:13:20 web1 nginx ", "a.example 192.0.2.1 - - [", "web1"),
            ("1700000000.5 ", "lb1 - - [", ""),
            ("access.log:1:", "2001:db8::1 - - [", ""),
            ("12:", "2001:db8::1 - - [", ""),
            ("Nov 14 22:13:20 relay Nov 14 22:13:21 web1 nginx: ", "192.0.2.1 - - [", "web1"),
            ("Nov 14 22:13:20 relay <190>Nov 14 22:13:21 web1 nginx: ", "192.0.2.1 - [", "web1"),
            ("<165>1 2003-10-11T22:14:15.003Z web1 nginx 17 access - ", "192.0.2.1 - - [", "web1"),
            ("<190>1 2023-11-14T22:13:20.123+00:00 web1 nginx - - -  ", "192.0.2.1 - [", "web1"),
            ("1 2023-11-14T22:13:20.123+00:00 web1 nginx - - - ", "192.0.2.1 - [", "web1"),
            ("@cee: ", "{\"a\":1}", ""),
            ("<190>Jul  8 11:07:07 nginx: @cee:", "{\"a\":1}", ""),
            ("<165>1 - - - - - - \u{FEFF}", "192.0.2.1 - - [", ""),
            ("<165>1 - web1 nginx - - [a@1 b=\"c]\\\"d\"][e@2] ", "192.0.2.1 - - [", "web1"),
            ("2023-11-14T22:13:20.346494690+00:00 stdout F ", "192.0.2.1 - - [", ""),
            ("2023-11-14T22:13:20.346494690Z stderr P ", "{\"a\":1}", ""),
            ("2023-11-14T22:13:20.346494690Z ", "192.0.2.1 - - [", ""),
            ("2023-11-14T22:13:20.346494690Z ", "a.example 192.0.2.1 - - [", ""),
            ("\u{1}\0\0\0\0\0\0\u{5f}", "192.0.2.1 - - [", ""),
            ("web-1  | ", "192.0.2.1 - - [", "web-1"),
            ("web-1 | ", "{\"a\":1}", "web-1"),
            ("\u{1b}[36mweb-1  | \u{1b}[0m", "192.0.2.1 - - [", "web-1"),
            ("web-1  | 2023-11-14T22:13:20.346494690Z ", "192.0.2.1 - - [", "web-1"),
            ("web1 nginx: ", "192.0.2.1 - - [", "web1"),
            ("nginx: ", "192.0.2.1 - - [", ""),
            ("access.log:", "192.0.2.1 - - [", ""),
            ("/var/log/nginx/access.log:", "2001:db8::1 - - [", ""),
            ("access.log:12:", "192.0.2.1 - - [", ""),
            ("12:", "192.0.2.1 - - [", ""),
            ("./access.log.1:", "a.example:80 192.0.2.1 - - [", ""),
            ("access.log:", "{\"a\":1}", ""),
            ("access.log:Nov 14 22:13:20 web1 nginx: ", "192.0.2.1 - - [", "web1"),
        ] {
            let whole = format!("{envelope}{line}");
            let found = find(whole.as_bytes());
            assert_eq!(found.length as usize, envelope.len(), "{whole}");
            let named = found.host.map_or(&b""[..], |host| host.of(whole.as_bytes()));
            assert_eq!(named, host.as_bytes(), "{whole}");
        }
    }

    #[test]
    fn lines_without_an_envelope_have_none() {
        for line in [
            "",
            "<",
            "<190>",
            "<999>Jul  8 11:07:07 nginx: x",
            "1432194201.810 15 203.0.113.9 4711 127.0.0.1",
            "192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.1\" 200 1",
            "10.0.0.9 - - [",
            "1.2.3.4:5678 - - [",
            "Jul 8",
            "Januar 1 2 3",
            "2001:db8::1 - - [",
            "fe80::1 - - [",
            "cafe:12:: - - [",
            "a.example:443 192.0.2.1 - - [",
            "a.example 192.0.2.1 - - [",
            "a.example:80 unix: - - [",
            "unix: - - [",
            "localhost - - [",
            "<165>1 - -",
            "<165>1 - - - - - [a b=\"",
            "| x",
            "a",
            "a:",
        ] {
            assert_eq!(length(line.as_bytes()), 0, "{line}");
        }
    }

    #[test]
    fn the_time_of_an_envelope_is_known_if_it_has_a_year() {
        for (line, seconds) in [
            ("2024-01-02T03:04:05.123456+01:00 web1 nginx: x", Some(1_704_161_045)),
            ("<165>1 2024-01-02T03:04:05Z web1 nginx - - - x", Some(1_704_164_645)),
            ("1700000000.5 web1 nginx: x", Some(1_700_000_000)),
            ("Tue 2024-01-02 03:04:05 UTC web1 nginx: x", Some(1_704_164_645)),
            ("<190>Jan  2 2024 03:04:05 web1 nginx: x", Some(1_704_164_645)),
            ("Tue Jan  2 03:04:05 2024 web1 nginx: x", Some(1_704_164_645)),
            ("Jan  2 03:04:05 web1 nginx: x", None),
            ("192.0.2.1 - -", None),
        ] {
            let found =
                time(line.as_bytes(), None).map(|((time, _), _)| time.as_micros() / 1_000_000);
            assert_eq!(found, seconds, "{line}");
        }
        let near = |seconds| Some(Timestamp::from_seconds(seconds));
        for (near, seconds) in [
            (near(1_704_164_000), 1_704_164_645),
            // The end of the year before, and of the same one.
            (near(1_704_000_000), 1_704_164_645),
            (near(1_735_000_000), 1_735_787_045),
        ] {
            let found = time(b"Jan  2 03:04:05 web1 nginx: x", near);
            assert_eq!(found.map(|((time, _), _)| time), Some(Timestamp::from_seconds(seconds)));
        }
    }
}
