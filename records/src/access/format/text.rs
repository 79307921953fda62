//! The text of a pasted format: the directive around it, its words, quotes and escapes.

use super::{FormatError, FormatProblem};

/// The bytes of a format after unquoting, each with its offset in the pasted text.
pub(in crate::access) struct FormatText {
    pub(in crate::access) bytes: Vec<u8>,
    offsets: Vec<usize>,
    end: usize,
}

impl FormatText {
    pub(in crate::access) fn at(&self, index: usize) -> usize {
        self.offsets.get(index).copied().unwrap_or(self.end)
    }

    fn push(&mut self, byte: u8, offset: usize) {
        self.bytes.push(byte);
        self.offsets.push(offset);
    }

    pub(in crate::access) fn error(&self, index: usize, problem: FormatProblem) -> FormatError {
        FormatError::new(self.at(index), problem)
    }
}

/// The format string inside a directive and its quotes.
pub(in crate::access) fn inner(pasted: &str) -> Result<String, FormatError> {
    let text = unquoted(pasted)?;
    Ok(String::from_utf8_lossy(&text.bytes).into_owned())
}

/// If the text is the directive `name`, returns the text behind the name and its offset.
pub(in crate::access) fn directive<'a>(text: &'a str, name: &str) -> Option<(&'a str, usize)> {
    let start = text.len() - text.trim_start().len();
    let rest = text.get(start..)?;
    let word = rest.get(..name.len())?;
    let tail = rest.get(name.len()..)?;
    let is_it = word.eq_ignore_ascii_case(name) && tail.starts_with(char::is_whitespace);
    is_it.then_some((tail, start + name.len()))
}

pub(in crate::access) fn unquoted(pasted: &str) -> Result<FormatText, FormatError> {
    let mut text = FormatText { bytes: Vec::new(), offsets: Vec::new(), end: pasted.len() };
    if let Some((rest, offset)) = directive(pasted, "LogFormat") {
        words(rest, offset, &mut text, 0, Some(1))?;
    } else if let Some((rest, offset)) = directive(pasted, "log-format") {
        if rest.trim_start().starts_with(['"', '\'']) {
            words(rest, offset, &mut text, 0, Some(1))?;
        } else {
            unquoted_word(rest, offset, &mut text);
        }
    } else if let Some((rest, offset)) = directive(pasted, "log_format") {
        words(rest, offset, &mut text, 1, None)?;
    } else if pasted.trim_start().starts_with('\'') {
        words(pasted, 0, &mut text, 0, None)?;
    } else {
        plain(pasted, 0, &mut text);
    }
    Ok(text)
}

/// A word of HAProxy's configuration that does not begin with a quote: quotes within are taken off, and a space behind
/// a backslash belongs to the word. A space by itself is kept: shells and people drop the backslash.
fn unquoted_word(rest: &str, offset: usize, text: &mut FormatText) {
    let (rest, offset) = (rest.trim_end(), offset + rest.len() - rest.trim_start().len());
    let mut bytes = rest.trim_start().bytes().enumerate().peekable();
    let mut quote = None;
    while let Some((at, byte)) = bytes.next() {
        match (byte, bytes.peek()) {
            (b'\\', Some(&(_, next @ (b'"' | b'\'' | b'\\' | b'#')))) if quote != Some(b'\'') => {
                bytes.next();
                text.push(next, offset + at);
            }
            (b'"' | b'\'', _) if quote.is_none() => quote = Some(byte),
            _ if quote == Some(byte) => quote = None,
            _ => text.push(byte, offset + at),
        }
    }
}

/// A format without quotes: undoes only `\"`, `\\` and `\t`, and trims white space. The text begins at `from`
/// of what was pasted.
fn plain(pasted: &str, from: usize, text: &mut FormatText) {
    let start = pasted.len() - pasted.trim_start().len();
    let mut bytes = pasted.trim_end().bytes().enumerate().skip(start).peekable();
    while let Some((offset, byte)) = bytes.next() {
        let escaped = match (byte, bytes.peek()) {
            (b'\\', Some((_, next @ (b'"' | b'\\')))) => Some(*next),
            (b'\\', Some((_, b't'))) => Some(b'\t'),
            _ => None,
        };
        if escaped.is_some() {
            bytes.next();
        }
        text.push(escaped.unwrap_or(byte), from + offset);
    }
}

/// The words of a directive: skips `skip` words and `escape=…`, takes at most `most`, and ends at
/// `;`.
fn words(
    rest: &str,
    offset: usize,
    text: &mut FormatText,
    skip: usize,
    most: Option<usize>,
) -> Result<(), FormatError> {
    let bytes = rest.as_bytes();
    let (mut at, mut seen) = (0, 0);
    loop {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        let taken = seen >= skip && most.is_none_or(|most| seen < skip + most);
        match bytes.get(at) {
            None | Some(b';') => return Ok(()),
            Some(&quote @ (b'"' | b'\'')) => {
                let mut into = FormatText { bytes: Vec::new(), offsets: Vec::new(), end: 0 };
                at = quoted_word(bytes, at, quote, offset, &mut into)?;
                if taken {
                    text.bytes.append(&mut into.bytes);
                    text.offsets.append(&mut into.offsets);
                }
            }
            Some(_) => {
                let len = bytes[at..]
                    .iter()
                    .position(|b| b.is_ascii_whitespace() || *b == b';')
                    .unwrap_or(bytes.len() - at);
                if taken && !bytes[at..].starts_with(b"escape=") {
                    for (index, byte) in bytes.iter().enumerate().skip(at).take(len) {
                        text.push(*byte, offset + index);
                    }
                }
                at += len;
            }
        }
        seen += 1;
    }
}

/// Reads the quoted word that opens at `at`; returns the rest of the text.
fn quoted_word(
    bytes: &[u8],
    open: usize,
    quote: u8,
    offset: usize,
    text: &mut FormatText,
) -> Result<usize, FormatError> {
    let mut at = open + 1;
    loop {
        match (bytes.get(at), bytes.get(at + 1)) {
            (None, _) => {
                return Err(FormatError::new(offset + open, FormatProblem::Unfinished));
            }
            (Some(&byte), _) if byte == quote => return Ok(at + 1),
            (Some(b'\\'), Some(&next @ (b'"' | b'\'' | b'\\'))) => {
                text.push(next, offset + at);
                at += 2;
            }
            (Some(b'\\'), Some(b't')) => {
                text.push(b'\t', offset + at);
                at += 2;
            }
            (Some(&byte), _) => {
                text.push(byte, offset + at);
                at += 1;
            }
        }
    }
}
