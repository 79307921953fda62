//! A line as a pattern of fixed text and fields.

use super::super::LineSpan;
use super::super::field::{LineDraft, LogField};
use super::super::head::is_address;
use super::super::timestamp::TimestampParser;
use super::stamp;

/// An element of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ShapePart {
    /// Fixed text, in which a blank stands for one or more.
    Text(Box<[u8]>),
    /// Anything up to the text that follows, or to the end of the line.
    Skip,
    /// Anything up to the last occurrence of the text that follows.
    SkipToLast,
    /// A word.
    Value(LogField),
    /// Anything up to a quote.
    Quoted(LogField),
    Time,
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct ShapePattern(Vec<ShapePart>);

impl ShapePattern {
    /// Compiles a pattern of this module: `%t` is the time, `%c` the client, `%m`, `%u`, `%q` and `%p` are method,
    /// target, query and protocol, `%s` the status, `%b` the bytes, `%r` and `%a` Referer and User-Agent in quotes, `%w` a
    /// word, `%*` any text up to what follows, `%~` up to the last occurrence of it.
    pub(super) fn compile(pattern: &str) -> Self {
        let mut parts = Vec::new();
        for (index, piece) in pattern.split('%').enumerate() {
            let mut text = piece;
            if index > 0 {
                let (name, rest) = piece.split_at(1);
                text = rest;
                parts.push(match name {
                    "t" => ShapePart::Time,
                    "c" => ShapePart::Value(LogField::Client),
                    "m" => ShapePart::Value(LogField::Method),
                    "u" => ShapePart::Value(LogField::Target),
                    "q" => ShapePart::Value(LogField::Query),
                    "p" => ShapePart::Value(LogField::Protocol),
                    "s" => ShapePart::Value(LogField::Status),
                    "b" => ShapePart::Value(LogField::Bytes),
                    "r" => ShapePart::Quoted(LogField::Referer),
                    "a" => ShapePart::Quoted(LogField::UserAgent),
                    "w" => ShapePart::Value(LogField::Word),
                    "~" => ShapePart::SkipToLast,
                    _ => ShapePart::Skip,
                });
            }
            if !text.is_empty() {
                parts.push(ShapePart::Text(text.as_bytes().into()));
            }
        }
        Self(parts)
    }

    /// Parses the line that starts at `start` into the draft; `None` if it has another shape.
    pub(super) fn read(
        &self,
        line: &[u8],
        start: usize,
        clock: &mut TimestampParser,
        draft: &mut LineDraft<'_>,
    ) -> Option<()> {
        let blanks = line.get(start..)?.iter().take_while(|&&byte| byte == b' ').count();
        let mut at = start + blanks;
        for (index, part) in self.0.iter().enumerate() {
            let next = match self.0.get(index + 1) {
                Some(ShapePart::Text(text)) => &text[..],
                _ => &[],
            };
            at = skip_colour(line, at);
            at = match part {
                ShapePart::Text(text) => behind(line, at, text)?,
                ShapePart::Skip if next.is_empty() => line.len(),
                ShapePart::Skip => at + memchr::memmem::find(line.get(at..)?, next)?,
                ShapePart::SkipToLast => at + memchr::memmem::rfind(line.get(at..)?, next)?,
                ShapePart::Quoted(field) => {
                    let end = at + memchr::memchr(b'"', line.get(at..)?)?;
                    draft.take(*field, 0, LineSpan::new(at, end), line, clock).then_some(end)?
                }
                ShapePart::Time => {
                    let read = stamp::read(clock, line, at)?;
                    draft.line.time = Some(read.time);
                    draft.line.zone = read.zone;
                    draft.line.time_text = Some(LineSpan::new(at, read.end));
                    read.end
                }
                ShapePart::Value(field) => {
                    let end = word_end(line, at, next);
                    is_value(*field, line.get(at..end)?).then_some(())?;
                    draft.take(*field, 0, LineSpan::new(at, end), line, clock).then_some(end)?
                }
            };
        }
        (at == line.len()).then_some(())
    }
}

/// Whether the text can be a value of the field.
fn is_value(field: LogField, text: &[u8]) -> bool {
    match field {
        LogField::Client => is_address(text),
        LogField::Method => !text.is_empty() && text.iter().all(u8::is_ascii_uppercase),
        LogField::Target => {
            text.starts_with(b"/") || text == b"*" || memchr::memmem::find(text, b"://").is_some()
        }
        LogField::Protocol => text.starts_with(b"HTTP/"),
        _ => !text.is_empty(),
    }
}

/// The end of a word at `at`: a blank, a quote, a colour, or the text that follows.
fn word_end(line: &[u8], at: usize, next: &[u8]) -> usize {
    let stop = next.first().copied().unwrap_or(b' ');
    let is_end = |&byte: &u8| matches!(byte, b' ' | b'\t' | b'"' | 0x1b) || byte == stop;
    let rest = line.get(at..).unwrap_or_default();
    at + rest.iter().position(is_end).unwrap_or(rest.len())
}

/// Returns the offset behind `text` at `at`.
fn behind(line: &[u8], mut at: usize, text: &[u8]) -> Option<usize> {
    for &byte in text {
        if byte == b' ' {
            let start = at;
            while line.get(at) == Some(&b' ') || skip_colour(line, at) > at {
                at = if line[at] == b' ' { at + 1 } else { skip_colour(line, at) };
            }
            (at > start).then_some(())?;
        } else {
            at = skip_colour(line, at);
            (line.get(at) == Some(&byte)).then_some(())?;
            at += 1;
        }
    }
    Some(at)
}

/// Returns the offset behind the escape sequences of colours at `at`.
fn skip_colour(line: &[u8], mut at: usize) -> usize {
    while let Some(rest) = line.get(at..)
        && let Some(body) = rest.strip_prefix(b"\x1b[")
        && let Some(end) = body.iter().position(|&byte| byte == b'm')
        && body[..end].iter().all(|&byte| byte.is_ascii_digit() || byte == b';')
    {
        at += 2 + end + 1;
    }
    at
}
