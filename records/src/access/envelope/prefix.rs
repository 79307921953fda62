//! Prefixes of lines that are no envelope of syslog: of `docker compose logs`, of Docker's raw
//! stream, of `logcli`, of `grep -H` and `grep -n`, and a tag without a stamp.

use super::super::head::is_address;
use super::{LineSpan, tag, word_end};

/// Returns the end of the prefix at `at`, and the host or container in the prefix.
pub(super) fn find(line: &[u8], at: usize) -> Option<(usize, Option<LineSpan>)> {
    let rest = line.get(at..)?;
    if let [..=2, 0, 0, 0, _, _, _, _, _, ..] = rest {
        // Docker's raw stream: the number of the stream, and the length of the frame.
        return Some((at + 8, None));
    }
    if let Some(blank) = blank(rest) {
        return Some((at + blank, None));
    }
    let at = at + colour(rest);
    let end = at + memchr::memchr(b' ', line.get(at..)?).unwrap_or(line.len() - at);
    if end == at {
        return None;
    }
    compose(line, at, end)
        .or_else(|| labels(line, at).map(|end| (end, None)))
        .or_else(|| grep(line, at, end).map(|end| (end, None)))
        .or_else(|| bare_tag(line, at, word_end(line, at)?))
}

/// The length of a byte order mark, or of tabs and of a line's number as `cat -n` and `nl` write it.
fn blank(rest: &[u8]) -> Option<usize> {
    if rest.starts_with(b"\xEF\xBB\xBF") {
        return Some(3);
    }
    let spaces = rest.iter().take_while(|&&b| b == b' ').count();
    let digits = rest[spaces..].iter().take_while(|b| b.is_ascii_digit()).count();
    let tabs = rest[spaces + digits..].iter().take_while(|&&b| b == b'\t').count();
    (tabs > 0).then_some(spaces + digits + tabs)
}

/// `{app="web", pod="web-1"} `, as `logcli` writes the labels of Loki.
fn labels(line: &[u8], at: usize) -> Option<usize> {
    let rest = line.get(at..)?;
    let is_label = matches!(rest, [b'{', b'a'..=b'z' | b'A'..=b'Z' | b'_', ..]);
    let end = memchr::memmem::find(rest, b"\"} ").filter(|_| is_label)?;
    Some(at + end + 3)
}

/// `name  | `
fn compose(line: &[u8], at: usize, end: usize) -> Option<(usize, Option<LineSpan>)> {
    let name = line.get(at..end)?;
    let spaces = line.get(end..)?.iter().take(64).take_while(|&&b| b == b' ').count();
    let bar = end + spaces;
    let is_name = name.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b));
    if !is_name || !line.get(bar..)?.starts_with(b"| ") {
        return None;
    }
    let end = bar + 2;
    Some((end + colour(line.get(end..)?), Some(LineSpan::new(at, at + name.len()))))
}

/// Length of the escape sequence of a colour.
fn colour(rest: &[u8]) -> usize {
    let Some(body) = rest.strip_prefix(b"\x1B[") else { return 0 };
    let len = body.iter().take(12).position(|&b| b == b'm');
    len.map_or(0, |len| len + 3)
}

/// `file:`, `number:` or `file:number:`, and a line behind.
fn grep(line: &[u8], at: usize, end: usize) -> Option<usize> {
    let word = line.get(at..end)?;
    let colon = memchr::memchr(b':', word)?;
    if is_address(word) && !is_numbered(word) {
        return None;
    }
    let (file, mut line_at) = (&word[..colon], at + colon + 1);
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let rest = line.get(line_at..end)?;
    if !is_number(file)
        && let Some(len) = memchr::memchr(b':', rest).filter(|&len| is_number(&rest[..len]))
        && len + 1 < rest.len()
        && (!is_address(rest) || is_numbered(rest))
    {
        line_at += len + 1;
    }
    let word = line.get(line_at..end)?;
    // Behind the colon of a host or an IPv6 address stands a number.
    let begins_line = is_address(word)
        || word.starts_with(b"{")
        || word.starts_with(b"<")
        || (!is_number(word) && (file.contains(&b'.') || is_number(file)) && word.len() > 2);
    (begins_line && !file.is_empty()).then_some(line_at)
}

/// `tag: ` or `host tag: ` without a stamp.
fn bare_tag(line: &[u8], at: usize, end: usize) -> Option<(usize, Option<LineSpan>)> {
    if let Some(behind) = tag(line, at, end) {
        return Some((behind, None));
    }
    let second = word_end(line, end + 1)?;
    let behind = tag(line, end + 1, second)?;
    let name = line.get(at..end)?;
    let is_host = name.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b));
    let mut words = line.get(behind..)?.splitn(4, |&b| b == b' ').take(3);
    let is_clients = |word: &[u8]| word == b"-" || is_address(word);
    let begins_line = line.get(behind) == Some(&b'{') || words.any(is_clients);
    (is_host && begins_line).then(|| (behind, Some(LineSpan::new(at, end))))
}

/// Whether a word that may be an IPv6 address is one behind the number of a line: no address of the
/// internet begins with so short a group.
fn is_numbered(word: &[u8]) -> bool {
    let Some(colon) = memchr::memchr(b':', word) else { return false };
    let (number, behind) = (&word[..colon], &word[colon + 1..]);
    (1..4).contains(&number.len())
        && number != b"64"
        && number.iter().all(u8::is_ascii_digit)
        && is_address(behind)
        && memchr::memchr(b':', behind) == Some(4)
}
