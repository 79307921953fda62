//! The walk over one JSON object: values of known keys, without recursion or copies.

use super::super::field::LogField;
use super::super::{Expected, LineError, LineSpan};
use super::names::JsonNames;

/// Objects deeper than this hold no key of interest.
const DEPTH: usize = 8;

/// An open object or array, and its keys: `None` if no key is of interest.
#[derive(Clone, Copy)]
struct JsonLevel {
    array: bool,
    node: Option<usize>,
}

/// In which objects keys are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::access) enum ObjectDepth {
    /// In those that the keys name.
    Known,
    /// In those of unknown names, too.
    Any,
}

/// Walks over the object at `start`, calls `found` for each value of a known key, and returns the end of
/// the object. For `null`, `found` is called with an empty value if the key is a header's, otherwise not.
pub(super) fn walk(
    line: &[u8],
    start: usize,
    (names, wanted): (&JsonNames, ObjectDepth),
    mut found: impl FnMut(LogField, u8, LineSpan),
) -> Result<usize, LineError> {
    let mut levels = [JsonLevel { array: false, node: None }; DEPTH];
    levels[0].node = Some(0);
    // The kinds of levels deeper than `DEPTH`, a bit each.
    let mut deep = 0_u64;
    let mut depth = 1_usize;
    let at = skip_space(line, start);
    if line.get(at) != Some(&b'{') {
        return Err(LineError::new(at, Expected::Json));
    }
    let mut at = skip_space(line, at + 1);
    let mut empty = true;
    loop {
        let level = levels.get(depth - 1).copied();
        let level = level.unwrap_or(JsonLevel { array: deep & 1 == 1, node: None });
        let byte = *line.get(at).ok_or_else(|| LineError::new(line.len(), Expected::Json))?;
        if byte == if level.array { b']' } else { b'}' } {
            if depth > DEPTH {
                deep >>= 1;
            }
            depth -= 1;
            at += 1;
            if depth == 0 {
                return Ok(at);
            }
            at = skip_space(line, at);
            empty = false;
            continue;
        }
        if !empty {
            if byte != b',' {
                return Err(LineError::new(at, Expected::Json));
            }
            at = skip_space(line, at + 1);
            if matches!(line.get(at), Some(b'}' | b']')) {
                // A comma behind the last member.
                continue;
            }
            if level.array && depth <= DEPTH {
                // Only the first element counts.
                levels[depth - 1].node = None;
            }
        }
        let node = if level.array {
            if empty { level.node } else { None }
        } else {
            let (key, end) = string(line, at)?;
            at = skip_space(line, end);
            if line.get(at) != Some(&b':') {
                return Err(LineError::new(at, Expected::Json));
            }
            at = skip_space(line, at + 1);
            level.node.and_then(|node| names.child(node, key.of(line)))
        };
        match line.get(at) {
            Some(open @ (b'{' | b'[')) => {
                let array = *open == b'[';
                let is_within = wanted == ObjectDepth::Any && node.is_none() && !level.array;
                let node = if is_within { level.node.filter(|&root| root == 0) } else { node };
                match levels.get_mut(depth) {
                    Some(level) => *level = JsonLevel { array, node },
                    // Deeper objects are refused rather than misread.
                    None if depth >= DEPTH + 64 => return Err(LineError::new(at, Expected::Json)),
                    None => deep = deep << 1 | u64::from(array),
                }
                depth += 1;
                at = skip_space(line, at + 1);
                empty = true;
            }
            Some(_) => {
                let (value, end, is_null) = value(line, at)?;
                let field = node.and_then(|node| names.nodes[node].field);
                match field {
                    Some((field, rank)) if !is_null => found(field, rank, value),
                    // A header that the request lacks.
                    Some((field @ (LogField::UserAgent | LogField::Referer), rank)) => {
                        found(field, rank, LineSpan::new(at, at));
                    }
                    _ => {}
                }
                at = skip_space(line, end);
                empty = false;
            }
            None => return Err(LineError::new(at, Expected::Json)),
        }
    }
}

/// Parses a string, number or word: returns its text, its end, and whether it is `null` or missing.
#[inline]
fn value(line: &[u8], at: usize) -> Result<(LineSpan, usize, bool), LineError> {
    if matches!(line.get(at), Some(b'"' | b'\'')) {
        let (text, end) = string(line, at)?;
        return Ok((text, end, false));
    }
    let rest = line.get(at..).unwrap_or_default();
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+');
    let len = rest.iter().take_while(|b| is_part(b)).count();
    if len == 0 {
        let is_missing = matches!(rest.first(), Some(b',' | b'}'));
        let value = (LineSpan::new(at, at), at, true);
        return if is_missing { Ok(value) } else { Err(LineError::new(at, Expected::Json)) };
    }
    let end = at + len + further_numbers(&rest[len..]);
    Ok((LineSpan::new(at, end), end, matches!(&rest[..len], b"null" | b"None")))
}

/// The length of the further values of nginx's `0.001, 0.002 : 0.003`, one for each server that was asked.
fn further_numbers(rest: &[u8]) -> usize {
    let mut end = 0;
    loop {
        let behind = match &rest[end..] {
            [b',', b' ', ..] => end + 2,
            [b' ', b':', b' ', ..] => end + 3,
            _ => return end,
        };
        let is_part = |b: &&u8| b.is_ascii_digit() || matches!(b, b'.' | b'-');
        let len = rest[behind..].iter().take_while(is_part).count();
        if len == 0 || matches!(rest.get(behind + len), Some(b'"' | b'\'')) {
            return end;
        }
        end = behind + len;
    }
}

/// Parses a string: returns the text between the quotes, and the end. Dictionaries of Python have single quotes.
#[inline]
fn string(line: &[u8], at: usize) -> Result<(LineSpan, usize), LineError> {
    let unclosed = || LineError::new(at, Expected::Json);
    let Some(&quote @ (b'"' | b'\'')) = line.get(at) else { return Err(unclosed()) };
    let mut end = at + 1;
    loop {
        let rest = line.get(end..).ok_or_else(unclosed)?;
        end += memchr::memchr(quote, rest).ok_or_else(unclosed)?;
        let run = line[at + 1..end].iter().rev().take_while(|&&b| b == b'\\').count();
        if run % 2 == 0 {
            return Ok((LineSpan::new(at + 1, end), end + 1));
        }
        end += 1;
    }
}

#[inline]
pub(super) fn skip_space(line: &[u8], mut at: usize) -> usize {
    while line.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}
