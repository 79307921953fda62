//! The end of quoted text: `"…"` with `\"` and `\\` inside, as Apache and nginx write it.

use super::{Expected, LineError, LineSpan};
use crate::scan::BytePlaces;

/// Scans a line for quotes.
pub(super) struct QuoteScanner<'a> {
    body: &'a [u8],
    quotes: BytePlaces<'a, b'"'>,
}

impl<'a> QuoteScanner<'a> {
    /// Starts scanning at `from`.
    #[inline]
    pub(super) fn new(body: &'a [u8], from: usize) -> Self {
        Self { body, quotes: BytePlaces::new(body, from) }
    }

    /// Finds the quote that ends a field that began at `from`: unescaped, with a space or the end
    /// of the line behind. Skips all quotes before.
    #[inline(always)]
    pub(super) fn closing(&mut self, from: usize) -> Option<usize> {
        self.quotes.skip_to(from);
        loop {
            let at = self.quotes.next()?;
            if !matches!(self.body.get(at + 1), None | Some(b' ')) {
                continue;
            }
            // A byte before the quote exists: at least the opening quote.
            if self.body.get(at.wrapping_sub(1)) != Some(&b'\\') || !is_escaped(self.body, from, at)
            {
                return Some(at);
            }
        }
    }

    /// Parses SP and a quoted field; `None` if no field begins at `at`, an error if the quote is
    /// not closed.
    #[inline(always)]
    pub(super) fn field(&mut self, at: usize) -> Result<Option<LineSpan>, LineError> {
        match self.body.get(at..) {
            Some([b' ', b'"', ..]) => {}
            _ => return Ok(None),
        }
        match self.closing(at + 2) {
            Some(end) => Ok(Some(LineSpan::new(at + 2, end))),
            None => Err(LineError::new(at + 1, Expected::Literal)),
        }
    }
}

/// Finds the first unescaped quote from `from`.
pub(super) fn next_quote(body: &[u8], from: usize) -> Option<usize> {
    let quotes = memchr::memchr_iter(b'"', body.get(from..)?).map(|quote| from + quote);
    quotes.into_iter().find(|&quote| !is_escaped(body, from, quote))
}

/// Whether an odd number of backslashes stands before `body[at]`. Only Apache's `\"` and `\\` need
/// this: nginx writes `\x22` and `\x5C`.
#[cold]
fn is_escaped(body: &[u8], from: usize, at: usize) -> bool {
    let before = body.get(from..at).unwrap_or_default();
    if before.last() != Some(&b'\\') {
        return false;
    }
    let run = before.iter().rev().take_while(|&&b| b == b'\\').count();
    run % 2 == 1
}
