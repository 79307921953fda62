//! Traffic Server's log fields, as its administrator's guide has them ("Formatting Log Files").
//!
//! ```text
//! format = *( literal / "%<" ["{" header "}"] name ["[" slice "]"] ">" )
//! ```

use super::super::field::{Field, Part, Unit};
use super::super::format::{FormatError, FormatProblem, Placed, Text, literal};
use super::super::plan::Item;
use super::super::stamp::Form;

/// Whether a text has one of its fields in it: Apache has `%<s` too, but no `>` behind.
pub(super) fn is_its(text: &str) -> bool {
    text.match_indices("%<").any(|(at, _)| {
        let rest = text.as_bytes().get(at + 2..).unwrap_or_default();
        let name = rest.iter().position(|&byte| byte == b'>').map(|end| &rest[..end]);
        name.is_some_and(|name| !name.is_empty() && !name.contains(&b'%') && !name.contains(&b' '))
    })
}

/// The items of a format.
pub(super) fn items(text: &Text) -> Result<Vec<Placed>, FormatError> {
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

fn item(name: &str) -> Item {
    if let Some((header, kind)) = name.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        let (field, rank) = match (header.to_ascii_lowercase().as_str(), kind) {
            ("user-agent", "cqh") => (Field::UserAgent, 1),
            ("referer", "cqh") => (Field::Referer, 1),
            ("host", "cqh") => (Field::Host, 1),
            ("user-agent", "pqh") => (Field::UserAgent, 0),
            ("referer", "pqh") => (Field::Referer, 0),
            ("host", "pqh") => (Field::Host, 0),
            _ => (Field::ClientText, 9),
        };
        return Item::Value(field, rank);
    }
    let bare = name.split('[').next().unwrap_or(name);
    let (field, rank) = match bare {
        "cqtq" | "cqts" => return Item::Time(Form::Epoch, false),
        // `06/Feb/2009:12:14:14 -0800`
        "cqtn" => return Item::Time(Form::Clf, false),
        "chi" => (Field::Client, 0),
        "chp" => (Field::Part(Part::ClientPort), 0),
        "pqsi" => (Field::Part(Part::Own), 0),
        "pqsp" => (Field::Part(Part::OwnPort), 0),
        "nhi" | "shi" => (Field::Part(Part::Server), 0),
        "nhp" => (Field::Part(Part::ServerPort), 0),
        "ttms" => (Field::Duration(Unit::Milliseconds), 0),
        "ttmsf" | "tts" => (Field::Duration(Unit::Seconds), 1),
        "sssc" => (Field::Status, 0),
        "pssc" => (Field::Status, 1),
        "sscl" => (Field::Part(Part::Body), 0),
        "sshl" => (Field::Part(Part::Head), 0),
        "cqtx" => (Field::Request, 0),
        "cqhm" => (Field::Method, 0),
        "cqup" | "cquup" => (Field::Target, 0),
        "cqu" | "pqu" | "cquc" | "cquuc" | "cauc" => (Field::Target, 1),
        "cqpv" | "cqhv" => (Field::Protocol, 1),
        "sqpv" => (Field::Protocol, 0),
        "caun" => (Field::User, 0),
        _ => (Field::Word, 9),
    };
    Item::Value(field, rank)
}
