//! An nginx `log_format … escape=json '{"key":"$variable",…}'`: maps keys to variables. The lines
//! are then parsed as JSON, with keys in any order.

use super::field::LogField;
use super::format::nginx_field;
use super::json::JsonNames;

type TemplateFields = Vec<(Vec<Vec<u8>>, LogField, u8)>;

/// Parses a template; `None` if the text is no object of variables with a client.
pub(super) fn names(template: &str) -> Option<JsonNames> {
    let mut fields = Vec::new();
    let text = template.as_bytes();
    let end = object(text, space(text, 0), &mut Vec::new(), &mut fields)?;
    if space(text, end) != text.len()
        || !fields.iter().any(|(_, field, _)| *field == LogField::Client)
    {
        return None;
    }
    Some(JsonNames::build(fields))
}

/// Parses the object that opens at `at`; returns its end.
fn object(
    text: &[u8],
    at: usize,
    path: &mut Vec<Vec<u8>>,
    fields: &mut TemplateFields,
) -> Option<usize> {
    if text.get(at) != Some(&b'{') || path.len() > 7 {
        return None;
    }
    let mut at = space(text, at + 1);
    loop {
        let (key, end) = string(text, at)?;
        path.push(key.to_vec());
        let colon = space(text, end);
        if text.get(colon) != Some(&b':') {
            return None;
        }
        at = value(text, space(text, colon + 1), path, fields)?;
        path.pop();
        at = space(text, at);
        match text.get(at)? {
            b',' => at = space(text, at + 1),
            b'}' => return Some(at + 1),
            _ => return None,
        }
    }
}

fn value(
    text: &[u8],
    at: usize,
    path: &mut Vec<Vec<u8>>,
    fields: &mut TemplateFields,
) -> Option<usize> {
    let (value, end) = match text.get(at)? {
        b'{' if text.get(at + 1) != Some(&b'$') => return object(text, at, path, fields),
        b'"' => string(text, at)?,
        _ => {
            // A variable may have braces of its own.
            let is_end = |&(index, byte): &(usize, &u8)| {
                matches!(byte, b',' | b'}') && !text[at..at + index].ends_with(b"${")
            };
            let stop = text[at..].iter().enumerate().find(is_end)?;
            let braced = text[at..].starts_with(b"${") && *stop.1 == b'}';
            let len = stop.0 + usize::from(braced);
            (text[at..at + len].trim_ascii(), at + len)
        }
    };
    if let Some((field, rank)) = variable(value) {
        fields.push((path.clone(), field, rank));
    }
    Some(end)
}

/// Parses a value that consists of a single variable.
fn variable(value: &[u8]) -> Option<(LogField, u8)> {
    let name = value.strip_prefix(b"$")?;
    let name = name.strip_prefix(b"{").and_then(|n| n.strip_suffix(b"}")).unwrap_or(name);
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let name = std::str::from_utf8(name).ok().filter(|n| n.bytes().all(|b| is_part(&b)))?;
    (name != "is_args").then(|| nginx_field(name))
}

fn string(text: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = text.get(at..)?.strip_prefix(b"\"")?;
    let len = memchr::memchr(b'"', rest)?;
    Some((&rest[..len], at + len + 2))
}

fn space(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|b| b.is_ascii_whitespace()).count()
}
