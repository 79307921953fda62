//! Traffic Server's log fields, from its administrator's guide ("Formatting Log Files").
//!
//! ```text
//! format = *( literal / "%<" ["{" header "}"] name ["[" slice "]"] ">" )
//! ```

use super::super::field::{BalancerField, DurationUnit, LogField};
use super::super::format::{
    FormatError, FormatProblem, FormatText, PlacedItem, is_request_id, literal,
};
use super::super::plan::PlanItem;
use super::super::time_format::TimeFormat;

/// Whether a text contains a field of Traffic Server: Apache has `%<s` too, but without `>`.
pub(super) fn is_its(text: &str) -> bool {
    text.match_indices("%<").any(|(at, _)| {
        let rest = text.as_bytes().get(at + 2..).unwrap_or_default();
        let name = rest.iter().position(|&byte| byte == b'>').map(|end| &rest[..end]);
        name.is_some_and(|name| !name.is_empty() && !name.contains(&b'%') && !name.contains(&b' '))
    })
}

/// The items of a format.
pub(super) fn items(text: &FormatText) -> Result<Vec<PlacedItem>, FormatError> {
    let mut items = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.bytes.get(at) {
        let offset = text.at(at);
        if byte != b'%' || text.bytes.get(at + 1) != Some(&b'<') {
            literal(&mut items, byte, offset);
            at += 1;
            continue;
        }
        let rest = &text.bytes[at + 2..];
        let len =
            memchr::memchr(b'>', rest).ok_or_else(|| text.error(at, FormatProblem::Unfinished))?;
        items.push((item(&String::from_utf8_lossy(&rest[..len])), offset));
        at += len + 3;
    }
    Ok(items)
}

fn item(name: &str) -> PlanItem {
    if let Some((header, kind)) = name.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        let (field, rank) = match (header.to_ascii_lowercase().as_str(), kind) {
            ("user-agent", "cqh") => (LogField::UserAgent, 1),
            ("referer", "cqh") => (LogField::Referer, 1),
            ("host", "cqh") => (LogField::Host, 1),
            ("user-agent", "pqh") => (LogField::UserAgent, 0),
            ("referer", "pqh") => (LogField::Referer, 0),
            ("host", "pqh") => (LogField::Host, 0),
            (header, "pqh") if is_request_id(header) => (LogField::RequestIdHeader, 0),
            (header, "cqh") if is_request_id(header) => (LogField::RequestIdHeader, 1),
            _ => (LogField::ClientText, 9),
        };
        return PlanItem::Value(field, rank);
    }
    let bare = name.split('[').next().unwrap_or(name);
    let (field, rank) = match bare {
        "cqtq" | "cqts" => return PlanItem::Time(TimeFormat::Epoch, false),
        // `06/Feb/2009:12:14:14 -0800`
        "cqtn" => return PlanItem::Time(TimeFormat::Clf, false),
        "chi" => (LogField::Client, 0),
        "chp" => (LogField::Part(BalancerField::ClientPort), 0),
        "pqsi" => (LogField::Part(BalancerField::Own), 0),
        "pqsp" => (LogField::Part(BalancerField::OwnPort), 0),
        "nhi" | "shi" => (LogField::Part(BalancerField::Server), 0),
        "nhp" => (LogField::Part(BalancerField::ServerPort), 0),
        "ttms" => (LogField::Duration(DurationUnit::Milliseconds), 0),
        "ttmsf" | "tts" => (LogField::Duration(DurationUnit::Seconds), 1),
        "sssc" => (LogField::Status, 0),
        "pssc" => (LogField::Status, 1),
        "sscl" => (LogField::Part(BalancerField::Body), 0),
        "sshl" => (LogField::Part(BalancerField::Head), 0),
        "cqtx" => (LogField::Request, 0),
        "cqhm" => (LogField::Method, 0),
        "cqup" | "cquup" => (LogField::Target, 0),
        "cqu" | "pqu" | "cquc" | "cquuc" | "cauc" => (LogField::Target, 1),
        "cqpv" | "cqhv" => (LogField::Protocol, 1),
        "sqpv" => (LogField::Protocol, 0),
        "caun" => (LogField::User, 0),
        _ => (LogField::Word, 9),
    };
    PlanItem::Value(field, rank)
}
