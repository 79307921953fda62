//! The tokens of a format, each with what it logs.

use super::super::field::Field;
use super::super::format::{self, FormatError};
use super::super::json::Names;
use super::super::parser::named;
use super::super::plan::Item;
use super::super::stamp::Form;
use super::super::template;
use super::{Dialect, Logged};
use crate::time::Resolution;

/// Apache's own names for formats, spelled out.
const COMMON: &str = r#"%h %l %u %t "%r" %>s %b"#;
const COMBINED: &str = r#"%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i""#;
const VHOST_COMBINED: &str = r#"%v:%p %h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i""#;

/// A format taken apart.
pub(super) struct Gathered {
    pub(super) dialect: Dialect,
    /// As it would be pasted; `None` if it is none that could be.
    pub(super) pasted: Option<String>,
    pub(super) tokens: Vec<Token>,
}

/// A piece that logs something.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// As it is written, or the path of a key.
    pub(super) text: String,
    pub(super) field: Field,
    /// How finely, if it is a time.
    pub(super) resolution: Option<Resolution>,
    /// Whether quotes stand round it.
    pub(super) is_quoted: bool,
}

impl Gathered {
    pub(super) fn of(given: &str) -> Result<Self, FormatError> {
        let pasted = match given.trim() {
            "auto" => return Ok(Self { dialect: Dialect::Auto, pasted: None, tokens: Vec::new() }),
            "json" => return Ok(Self::of_json(&Names::usual())),
            "common" => COMMON,
            "combined" => COMBINED,
            "vhost_combined" => VHOST_COMBINED,
            _ => given,
        };
        if let Some(fields) = pasted.strip_prefix("json:") {
            return Ok(Self::of_json(&named(fields)?));
        }
        let is_nginx = format::is_nginx(pasted);
        let is_json = is_nginx && template::names(&format::inner(pasted)?).is_some();
        let dialect = match (is_nginx, is_json) {
            (_, true) => Dialect::NginxJson,
            (true, false) => Dialect::Nginx,
            (false, false) => Dialect::Apache,
        };
        let items = format::placed(pasted)?;
        let tokens = (0..items.len()).filter_map(|index| token(pasted, &items, index));
        Ok(Self { dialect, tokens: tokens.collect(), pasted: Some(pasted.to_owned()) })
    }

    fn of_json(names: &Names) -> Self {
        let token = |(field, text)| Token { text, field, resolution: None, is_quoted: true };
        let tokens = names.paths().into_iter().map(token).collect();
        Self { dialect: Dialect::Json, pasted: None, tokens }
    }
}

fn token(pasted: &str, items: &[format::Placed], index: usize) -> Option<Token> {
    let (item, at) = items.get(index)?;
    let text = written_at(pasted, *at).to_owned();
    let (field, resolution) = match item {
        Item::Literal(_) | Item::Captures => return None,
        Item::Value(field, _) => (*field, None),
        Item::Time(form, _) => (Field::Time, Some(fineness(form, &text))),
    };
    let before = index.checked_sub(1).and_then(|before| items.get(before));
    let is_quoted = matches!(before, Some((Item::Literal(text), _)) if text.ends_with(b"\""));
    Some(Token { text, field, resolution, is_quoted })
}

fn fineness(form: &Form, text: &str) -> Resolution {
    match form {
        Form::EpochMillis | Form::MillisFraction => Resolution::Millisecond,
        Form::EpochMicros | Form::MicrosFraction => Resolution::Microsecond,
        Form::Epoch if text.starts_with('$') => Resolution::Millisecond,
        Form::Clf | Form::Iso | Form::Epoch | Form::Strftime(_) => Resolution::Second,
    }
}

/// The directive or variable that begins at `at`.
pub(in super::super) fn written_at(pasted: &str, at: usize) -> &str {
    let rest = pasted.get(at..).unwrap_or_default();
    let bytes = rest.as_bytes();
    let braces = |from: usize| match bytes.get(from) {
        Some(b'{') => rest.get(from..).and_then(|rest| rest.find('}')).map_or(0, |len| len + 1),
        _ => 0,
    };
    let len = if bytes.first() == Some(&b'$') {
        let is_part = |b: &&u8| b.is_ascii_alphanumeric() || **b == b'_';
        match braces(1) {
            0 => 1 + bytes[1..].iter().take_while(is_part).count(),
            len => 1 + len,
        }
    } else {
        let is_modifier = |b: &&u8| b.is_ascii_digit() || matches!(b, b'!' | b',' | b'<' | b'>');
        let end = bytes.iter().skip(1).take_while(is_modifier).count() + 1;
        let end = end + braces(end);
        end + if bytes.get(end) == Some(&b'^') { 3 } else { 1 }
    };
    rest.get(..len).unwrap_or(rest)
}

/// The same by what it is good for.
pub(super) fn logged(dialect: Dialect, tokens: &[Token]) -> Logged {
    let mut logged = Logged::default();
    for token in tokens {
        let thing = match token.field {
            Field::Client => &mut logged.client,
            Field::PeerPort => &mut logged.peer_port,
            Field::Request
            | Field::Method
            | Field::Target
            | Field::Path
            | Field::Query
            | Field::Protocol => &mut logged.request,
            Field::Time => &mut logged.time,
            Field::Status => &mut logged.status,
            Field::Bytes => &mut logged.bytes,
            Field::Referer => &mut logged.referer,
            Field::UserAgent => &mut logged.user_agent,
            _ => continue,
        };
        thing.push(token.text.clone());
        logged.resolution = logged.resolution.into_iter().chain(token.resolution).min();
    }
    if dialect != Dialect::Json && has(tokens, Field::Request) {
        // Its parts beside it say nothing more.
        let is_line = |token: &&Token| token.field == Field::Request;
        logged.request = tokens.iter().filter(is_line).map(|token| token.text.clone()).collect();
    }
    logged
}

pub(super) fn has(tokens: &[Token], field: Field) -> bool {
    tokens.iter().any(|token| token.field == field)
}

/// Whether requests can be told by it: the first line, or all that it is made of.
pub(super) fn is_whole_request(dialect: Dialect, tokens: &[Token]) -> bool {
    let target = has(tokens, Field::Target) || has(tokens, Field::Path);
    let parts = has(tokens, Field::Method) && target && has(tokens, Field::Protocol);
    matches!(dialect, Dialect::Auto) || has(tokens, Field::Request) || parts
}

/// Whether `json:…` says where the peer's port is.
pub(super) fn is_port_given(given: &str) -> bool {
    let fields = given.trim().strip_prefix("json:").unwrap_or_default();
    fields.split(',').any(|pair| pair.trim().starts_with("port="))
}
