//! The tokens of a format, and their meanings.

use super::super::field::LogField;
use super::super::format::{self, FormatError};
use super::super::json::JsonNames;
use super::super::parser::named;
use super::super::plan::PlanItem;
use super::super::template;
use super::super::time_format::TimeFormat;
use super::{FormatDialect, LoggedFields};
use crate::time::Resolution;

/// Apache's names for formats, expanded.
const COMMON: &str = r#"%h %l %u %t "%r" %>s %b"#;
const COMBINED: &str = r#"%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i""#;
const VHOST_COMBINED: &str = r#"%v:%p %h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i""#;

/// A format split into tokens.
pub(super) struct GatheredTokens {
    pub(super) dialect: FormatDialect,
    /// The format to paste; `None` if the format cannot be pasted.
    pub(super) pasted: Option<String>,
    pub(super) tokens: Vec<FormatToken>,
}

/// A token that logs a value.
#[derive(Clone, Debug)]
pub(super) struct FormatToken {
    /// The token as written, or the path of a key.
    pub(super) text: String,
    pub(super) field: LogField,
    /// The resolution of a time.
    pub(super) resolution: Option<Resolution>,
    /// Whether the token is in quotes.
    pub(super) is_quoted: bool,
}

impl GatheredTokens {
    pub(super) fn of(given: &str) -> Result<Self, FormatError> {
        let pasted = match given.trim() {
            "auto" => {
                return Ok(Self { dialect: FormatDialect::Auto, pasted: None, tokens: Vec::new() });
            }
            "json" => return Ok(Self::of_json(&JsonNames::usual())),
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
            (_, true) => FormatDialect::NginxJson,
            (true, false) => FormatDialect::Nginx,
            (false, false) => FormatDialect::Apache,
        };
        let items = format::placed(pasted)?;
        let tokens = (0..items.len()).filter_map(|index| token(pasted, &items, index));
        Ok(Self { dialect, tokens: tokens.collect(), pasted: Some(pasted.to_owned()) })
    }

    fn of_json(names: &JsonNames) -> Self {
        let token = |(field, text)| FormatToken { text, field, resolution: None, is_quoted: true };
        let tokens = names.paths().into_iter().map(token).collect();
        Self { dialect: FormatDialect::Json, pasted: None, tokens }
    }
}

fn token(pasted: &str, items: &[format::PlacedItem], index: usize) -> Option<FormatToken> {
    let (item, at) = items.get(index)?;
    let text = written_at(pasted, *at).to_owned();
    let (field, resolution) = match item {
        PlanItem::Literal(_) | PlanItem::Captures => return None,
        PlanItem::Value(field, _) => (*field, None),
        PlanItem::Time(form, _) => (LogField::Time, Some(fineness(form, &text))),
    };
    let before = index.checked_sub(1).and_then(|before| items.get(before));
    let is_quoted = matches!(before, Some((PlanItem::Literal(text), _)) if text.ends_with(b"\""));
    Some(FormatToken { text, field, resolution, is_quoted })
}

fn fineness(form: &TimeFormat, text: &str) -> Resolution {
    match form {
        TimeFormat::EpochMillis | TimeFormat::MillisFraction => Resolution::Millisecond,
        TimeFormat::EpochMicros | TimeFormat::MicrosFraction => Resolution::Microsecond,
        TimeFormat::Epoch if text.starts_with('$') => Resolution::Millisecond,
        TimeFormat::Clf | TimeFormat::Iso | TimeFormat::Epoch | TimeFormat::Strftime(_) => {
            Resolution::Second
        }
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

/// The tokens by evidence.
pub(super) fn logged(dialect: FormatDialect, tokens: &[FormatToken]) -> LoggedFields {
    let mut logged = LoggedFields::default();
    for token in tokens {
        let thing = match token.field {
            LogField::Client => &mut logged.client,
            LogField::PeerPort => &mut logged.peer_port,
            LogField::Request
            | LogField::Method
            | LogField::Target
            | LogField::Path
            | LogField::Query
            | LogField::Protocol => &mut logged.request,
            LogField::Time => &mut logged.time,
            LogField::Status => &mut logged.status,
            LogField::Bytes => &mut logged.bytes,
            LogField::Referer => &mut logged.referer,
            LogField::UserAgent => &mut logged.user_agent,
            _ => continue,
        };
        thing.push(token.text.clone());
        logged.resolution = logged.resolution.into_iter().chain(token.resolution).min();
    }
    if dialect != FormatDialect::Json && has(tokens, LogField::Request) {
        // Parts of the request beside the request line add nothing.
        let is_line = |token: &&FormatToken| token.field == LogField::Request;
        logged.request = tokens.iter().filter(is_line).map(|token| token.text.clone()).collect();
    }
    logged
}

pub(super) fn has(tokens: &[FormatToken], field: LogField) -> bool {
    tokens.iter().any(|token| token.field == field)
}

/// Whether the format logs the request line, or all parts of it.
pub(super) fn is_whole_request(dialect: FormatDialect, tokens: &[FormatToken]) -> bool {
    let target = has(tokens, LogField::Target) || has(tokens, LogField::Path);
    let parts = has(tokens, LogField::Method) && target && has(tokens, LogField::Protocol);
    matches!(dialect, FormatDialect::Auto) || has(tokens, LogField::Request) || parts
}

/// Whether `json:…` names the key of the peer's port.
pub(super) fn is_port_given(given: &str) -> bool {
    let fields = given.trim().strip_prefix("json:").unwrap_or_default();
    fields.split(',').any(|pair| pair.trim().starts_with("port="))
}
