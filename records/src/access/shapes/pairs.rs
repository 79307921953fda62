//! Lines of keys and values: `key=value key="value"` (logfmt), and `key:value` between tabs (LTSV).

use std::sync::LazyLock;

use super::super::LineSpan;
use super::super::field::{LineDraft, LogField};
use super::super::head::is_address;
use super::super::json::JsonNames;
use super::super::quote::next_quote;
use super::super::timestamp::TimestampParser;

/// Known keys that a line must have at least.
const FEWEST: usize = 3;

/// The keys that LTSV names, which JSON writers use otherwise.
const LTSV: &[(&str, LogField, u8)] = &[
    ("host", LogField::Client, 1),
    ("req", LogField::Request, 1),
    ("ua", LogField::UserAgent, 1),
    ("forwardedfor", LogField::ForwardedFor, 1),
];

/// Keys of the other form beside the usual ones.
const LOGFMT: &[(&str, LogField, u8)] = &[("ua", LogField::UserAgent, 4), ("t", LogField::Time, 9)];

static TABBED: LazyLock<JsonNames> = LazyLock::new(|| JsonNames::usual_and(LTSV));
static SPACED: LazyLock<JsonNames> = LazyLock::new(|| JsonNames::usual_and(LOGFMT));

/// Parses the line that starts at `start` into the draft; `None` if it has another shape.
pub(super) fn read(
    line: &[u8],
    start: usize,
    clock: &mut TimestampParser,
    draft: &mut LineDraft<'_>,
) -> Option<()> {
    let is_tabbed = memchr::memchr(b'\t', line.get(start..)?).is_some();
    let names = if is_tabbed { &*TABBED } else { &*SPACED };
    let pair = if is_tabbed { tabbed } else { spaced };
    let (mut at, mut known) = (start, 0);
    let has_commas = pair(line, start).is_some_and(|first| first.value.of(line).ends_with(b","));
    while at < line.len() {
        let Some(LoggedPair { key, mut value, end }) = pair(line, at) else {
            // A word that is no pair.
            at += line[at..].iter().position(|&byte| byte == b' ' || byte == b'\t')? + 1;
            continue;
        };
        at = end;
        if has_commas && value.of(line).ends_with(b",") {
            value.end -= 1;
        }
        if let Some((field, rank)) = names.field(key.of(line))
            && (field != LogField::Client || is_address(value.of(line)))
        {
            known += usize::from(draft.take(field, rank, value, line, clock));
        }
    }
    draft.take_target(line);
    (known >= FEWEST).then_some(())
}

struct LoggedPair {
    key: LineSpan,
    value: LineSpan,
    end: usize,
}

/// `key:value` up to a tab. Brackets around a time are no part of the value.
fn tabbed(line: &[u8], at: usize) -> Option<LoggedPair> {
    let end = at + memchr::memchr(b'\t', &line[at..]).unwrap_or(line.len() - at);
    let colon = at + key_length(&line[at..end], b':')?;
    let (mut from, mut to) = (colon + 1, end);
    if let [b'[', .., b']'] = line[from..to] {
        (from, to) = (from + 1, to - 1);
    }
    let (key, value) = (LineSpan::new(at, colon), LineSpan::new(from, to));
    Some(LoggedPair { key, value, end: (end + 1).min(line.len()) })
}

/// `key=value` up to a blank, or `key="value"`.
fn spaced(line: &[u8], at: usize) -> Option<LoggedPair> {
    let equals = at + key_length(&line[at..], b'=')?;
    let from = equals + 1;
    let (from, to, end) = if line.get(from) == Some(&b'"') {
        let close = next_quote(line, from + 1)?;
        (from + 1, close, close + 1)
    } else {
        let rest = &line[from..];
        let end = from + memchr::memchr(b' ', rest).unwrap_or(rest.len());
        (from, end, end)
    };
    let blanks = line[end..].iter().take_while(|&&byte| byte == b' ').count();
    if blanks == 0 && end < line.len() {
        return None;
    }
    let (key, value) = (LineSpan::new(at, equals), LineSpan::new(from, to));
    Some(LoggedPair { key, value, end: end + blanks })
}

/// The length of the key in front of `mark`.
fn key_length(text: &[u8], mark: u8) -> Option<usize> {
    let is_key = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-@".contains(byte);
    let len = text.iter().take_while(|byte| is_key(byte)).count();
    (len > 0 && text.get(len) == Some(&mark)).then_some(len)
}
