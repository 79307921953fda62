//! Where quoted text ends: `"…"` with `\"` and `\\` inside, as Apache and nginx write it.

use super::{Expected, LineError, LineSpan};
use crate::scan;

/// The quotes of a line from one end to the other. Where they stand is found for a window of the line
/// at once: a field is shorter than the way into a search of its own.
pub(super) struct QuoteScanner<'a> {
    body: &'a [u8],
    /// Those in the window that have not been passed, a bit for each byte.
    ahead: u64,
    /// Where the window begins.
    window: usize,
}

impl<'a> QuoteScanner<'a> {
    /// From `from` on.
    #[inline]
    pub(super) fn new(body: &'a [u8], from: usize) -> Self {
        Self { body, ahead: scan::window(b'"', body, from), window: from }
    }

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.ahead == 0 {
            self.window += scan::WINDOW;
            if self.window >= self.body.len() {
                return None;
            }
            self.ahead = scan::window(b'"', self.body, self.window);
        }
        let at = self.window + self.ahead.trailing_zeros() as usize;
        self.ahead &= self.ahead - 1;
        Some(at)
    }

    /// The quote that ends a field that began at `from`: unescaped, and a space or nothing behind it.
    /// Those before it are passed.
    #[inline]
    pub(super) fn closing(&mut self, from: usize) -> Option<usize> {
        loop {
            let at = self.next()?;
            if at < from || !matches!(self.body.get(at + 1), None | Some(b' ')) {
                continue;
            }
            // The byte before it is there: the quote that opened the field, if nothing else.
            if self.body.get(at.wrapping_sub(1)) != Some(&b'\\') || !is_escaped(self.body, from, at)
            {
                return Some(at);
            }
        }
    }

    /// SP and a quoted field; `None` if none begins at `at`, an error if it never ends.
    #[inline]
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

/// The first unescaped quote from `from`.
pub(super) fn next_quote(body: &[u8], from: usize) -> Option<usize> {
    let quotes = memchr::memchr_iter(b'"', body.get(from..)?).map(|quote| from + quote);
    quotes.into_iter().find(|&quote| !is_escaped(body, from, quote))
}

/// Whether an odd number of backslashes stands before `body[at]`. nginx writes `\x22` and `\x5C`, so
/// that only Apache's `\"` and `\\` meet this.
#[cold]
fn is_escaped(body: &[u8], from: usize, at: usize) -> bool {
    let before = body.get(from..at).unwrap_or_default();
    if before.last() != Some(&b'\\') {
        return false;
    }
    let run = before.iter().rev().take_while(|&&b| b == b'\\').count();
    run % 2 == 1
}
