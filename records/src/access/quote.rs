//! Where quoted text ends: `"…"` with `\"` and `\\` inside, as Apache and nginx write it.

use super::clf::{error, span};
use super::{Expected, LineError, Span};
use crate::scan;

/// SP and a quoted field; `None` if none begins at `at`, an error if it never ends.
#[inline]
pub(super) fn quoted(body: &[u8], at: usize) -> Result<Option<Span>, LineError> {
    match body.get(at..) {
        // The commonest value, too short for a search to pay.
        Some([b' ', b'"', b'-', b'"']) | Some([b' ', b'"', b'-', b'"', b' ', ..]) => {
            return Ok(Some(span(at + 2, at + 3)));
        }
        Some([b' ', b'"', ..]) => {}
        _ => return Ok(None),
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
        at = scan::find(b'"', body, at)?;
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
    let before = body.get(from..at).unwrap_or_default();
    if before.last() != Some(&b'\\') {
        return false;
    }
    let run = before.iter().rev().take_while(|&&b| b == b'\\').count();
    run % 2 == 1
}
