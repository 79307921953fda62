//! Format strings of Apache: directives from the manuals of `mod_log_config` and `mod_logio` of Apache 2.4.

use super::super::field::{DurationUnit, LogField};
use super::super::plan::PlanItem;
use super::super::time_format::TimeFormat;
use super::{FormatError, FormatProblem, FormatText, PlacedItem, literal};

/// Parses an Apache format; `field` maps a directive to its meaning.
pub(in crate::access) fn apache(
    text: &FormatText,
    field: impl Fn(u8, &str, bool) -> (LogField, u8),
) -> Result<Vec<PlacedItem>, FormatError> {
    let mut items = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.bytes.get(at) {
        if byte != b'%' {
            literal(&mut items, byte, text.at(at));
            at += 1;
            continue;
        }
        let start = at;
        let unfinished = || text.error(start, FormatProblem::Unfinished);
        at += 1;
        let is_modifier = |b: &u8| b.is_ascii_digit() || matches!(b, b'!' | b',' | b'<' | b'>');
        let modifiers = text.bytes[at..].iter().take_while(|b| is_modifier(b)).count();
        let original = text.bytes[at..at + modifiers].contains(&b'<');
        at += modifiers;
        let mut param = None;
        if text.bytes.get(at) == Some(&b'{') {
            let len = memchr::memchr(b'}', &text.bytes[at..]).ok_or_else(unfinished)?;
            param = Some((String::from_utf8_lossy(&text.bytes[at + 1..at + len]), at + 1));
            at += len + 1;
        }
        let letter = *text.bytes.get(at).ok_or_else(unfinished)?;
        at += 1;
        if letter == b'^' {
            // `%^FB`, `%{name}^ti`: two letters.
            at += 2;
            if at > text.bytes.len() {
                return Err(unfinished());
            }
            items.push((PlanItem::Value(LogField::Word, 9), text.at(start)));
            continue;
        }
        let offset = text.at(start);
        match (letter, &param) {
            (b'%', _) => literal(&mut items, b'%', offset),
            (b't', None) => {
                literal(&mut items, b'[', offset);
                items.push((PlanItem::Time(TimeFormat::Clf, false), offset));
                literal(&mut items, b']', offset);
            }
            (b't', Some((format, from))) => items.push((apache_time(format, *from, text)?, offset)),
            _ => {
                let param = param.as_ref().map(|(param, _)| param.as_ref());
                let (field, rank) = field(letter, param.unwrap_or_default(), original);
                items.push((PlanItem::Value(field, rank), offset));
            }
        }
    }
    Ok(items)
}

fn apache_time(format: &str, from: usize, text: &FormatText) -> Result<PlanItem, FormatError> {
    let (format, skipped, end) = if let Some(rest) = format.strip_prefix("begin:") {
        (rest, 6, false)
    } else if let Some(rest) = format.strip_prefix("end:") {
        (rest, 4, true)
    } else {
        (format, 0, false)
    };
    match TimeFormat::apache(format) {
        // `%{begin:}t` is `%t` with its brackets; unused in practice.
        Ok(form) => Ok(PlanItem::Time(form, end)),
        Err(at) => Err(text.error(from + skipped + at, FormatProblem::TimeFormat)),
    }
}

/// Whether a header, in lower case, is one of those that balancers give a request's id in.
pub(in crate::access) fn is_request_id(header: &str) -> bool {
    matches!(header, "x-request-id" | "request-id" | "x-correlation-id" | "x-unique-id")
}

/// The meaning of an Apache directive, and its rank among directives of equal meaning.
pub(in crate::access) fn apache_field(letter: u8, param: &str, original: bool) -> (LogField, u8) {
    let header = || match param.to_ascii_lowercase().as_str() {
        "referer" => (LogField::Referer, 0),
        "user-agent" => (LogField::UserAgent, 0),
        "host" => (LogField::Host, 0),
        "x-forwarded-for" => (LogField::ForwardedFor, 0),
        name if is_request_id(name) => (LogField::RequestIdHeader, 1),
        _ => (LogField::ClientText, 9),
    };
    match letter {
        b'h' | b'a' => (LogField::Client, 0),
        b'u' => (LogField::User, 0),
        b'r' => (LogField::Request, 0),
        b'm' => (LogField::Method, 0),
        b'U' => (LogField::Path, 0),
        b'q' => (LogField::Query, 0),
        b'H' => (LogField::Protocol, 0),
        // `%s` is the status of the original request if the request was redirected internally.
        b's' => (LogField::Status, u8::from(original)),
        b'b' | b'B' => (LogField::Bytes, 0),
        b'O' => (LogField::Bytes, 1),
        b'D' => (LogField::Duration(DurationUnit::Microseconds), 0),
        b'T' => match param {
            "us" => (LogField::Duration(DurationUnit::Microseconds), 0),
            "ms" => (LogField::Duration(DurationUnit::Milliseconds), 1),
            _ => (LogField::Duration(DurationUnit::Seconds), 2),
        },
        b'p' if param == "remote" => (LogField::PeerPort, 0),
        b'p' => (LogField::ServerPort, u8::from(param != "local")),
        b'k' => (LogField::NthFromZero, 0),
        b'v' => (LogField::Host, 1),
        b'V' => (LogField::Host, 2),
        b'i' => header(),
        b'e' if param == "UNIQUE_ID" => (LogField::RequestId, 2),
        b'C' | b'f' | b'o' | b'e' | b'n' => (LogField::ClientText, 9),
        b'l' | b'A' | b'P' | b'X' | b'L' | b'I' | b'S' | b'R' => (LogField::Word, 9),
        _ => (LogField::Text, 9),
    }
}
