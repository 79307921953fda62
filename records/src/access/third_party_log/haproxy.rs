//! HAProxy's `log-format`: the variables and flags of section 8.2 of its configuration manual.
//!
//! ```text
//! format = *( literal / "%" ["{" flag *("," flag) "}"] ( name / "[" expression "]" ) )
//! flag   = ("+" / "-") ( "Q" / "E" / "X" )          ; quoted, escaped, hexadecimal
//! ```
//!
//! If no header was captured, HAProxy omits `%hr` and `%hs` and the following space.

use super::super::field::{BalancerField, LogField};
use super::super::format::{FormatError, FormatProblem, FormatText, PlacedItem, literal};
use super::super::plan::PlanItem;
use super::super::time_format::TimeFormat;

/// `option tcplog`.
pub(super) const TCP: &str =
    "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq";
/// `option httplog`.
pub(super) const HTTP: &str = "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc \
     %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r";
/// `option httpslog`, whose last fields are ignored.
pub(super) const HTTPS: &str = "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc \
     %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r %ID/%ID/%ID/%ID/%ID %ID/%ID/%ID";
/// The format that our documentation recommends instead of `option tcplog`.
pub(super) const TCP_PORTS: &str = "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts \
     %ac/%fc/%bc/%sc/%rc %sq/%bq %bi:%bp %si:%sp";
/// The recommended format instead of `option httplog`: with ports, and with headers that servers
/// log too.
pub(super) const HTTP_ALL: &str = "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS \
     %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r %bi:%bp %si:%sp \
     %{+Q,+E}[var(txn.user_agent)] %{+Q,+E}[var(txn.referer)] %[var(txn.content_length)]";
/// The recommended format with ports alone.
pub(super) const HTTP_PORTS: &str = "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS \
     %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r %bi:%bp %si:%sp";

/// The items of a format.
pub(super) fn items(text: &FormatText) -> Result<Vec<PlacedItem>, FormatError> {
    let mut items = Vec::new();
    let mut at = 0;
    let mut quotes_all = false;
    while let Some(&byte) = text.bytes.get(at) {
        if byte == b'\\' && text.bytes.get(at + 1) == Some(&b' ') {
            // In an unquoted configuration, `\ ` stands for a space.
            literal(&mut items, b' ', text.at(at));
            at += 2;
            continue;
        }
        if byte != b'%' {
            literal(&mut items, byte, text.at(at));
            at += 1;
            continue;
        }
        let variable = HaproxyVariable::read(text, at)?;
        let offset = text.at(at);
        at = variable.end;
        let quoted = variable.quoted.unwrap_or(quotes_all);
        match variable.name.as_str() {
            "%" => literal(&mut items, b'%', offset),
            "o" => quotes_all = quoted,
            "hr" | "hs" => {
                items.push((PlanItem::Captures, offset));
                at += usize::from(text.bytes.get(at) == Some(&b' '));
            }
            name => {
                if quoted {
                    literal(&mut items, b'"', offset);
                }
                push(&mut items, name, offset);
                if quoted {
                    literal(&mut items, b'"', offset);
                }
            }
        }
    }
    Ok(joined_times(items))
}

/// A variable or an expression of a format.
struct HaproxyVariable {
    /// An expression includes its brackets.
    name: String,
    quoted: Option<bool>,
    end: usize,
}

impl HaproxyVariable {
    fn read(text: &FormatText, start: usize) -> Result<Self, FormatError> {
        let unfinished = || text.error(start, FormatProblem::Unfinished);
        let mut at = start + 1;
        let mut quoted = None;
        if text.bytes.get(at) == Some(&b'{') {
            let len = memchr::memchr(b'}', &text.bytes[at..]).ok_or_else(unfinished)?;
            for flag in text.bytes[at + 1..at + len].split(|&byte| byte == b',') {
                match flag.trim_ascii() {
                    b"+Q" => quoted = Some(true),
                    b"-Q" => quoted = Some(false),
                    _ => {}
                }
            }
            at += len + 1;
        }
        let rest = text.bytes.get(at..).unwrap_or_default();
        let len = match rest.first() {
            Some(b'[') => memchr::memchr(b']', rest).ok_or_else(unfinished)? + 1,
            Some(b'%') => 1,
            _ => rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count(),
        };
        if len == 0 {
            return Err(unfinished());
        }
        let name = String::from_utf8_lossy(&rest[..len]).into_owned();
        Ok(Self { name, quoted, end: at + len })
    }
}

/// Appends the items of a variable.
fn push(items: &mut Vec<PlacedItem>, name: &str, at: usize) {
    let value = |field| (PlanItem::Value(field, 0), at);
    let part = |part| (PlanItem::Value(LogField::Part(part), 0), at);
    match name {
        // `06/Feb/2009:12:14:14.655`, in the zone of the machine.
        "t" | "tr" => {
            let form = TimeFormat::apache("%d/%b/%Y:%H:%M:%S").expect("known conversions");
            items.push((PlanItem::Time(form, false), at));
            literal(items, b'.', at);
            items.push((PlanItem::Time(TimeFormat::MillisFraction, false), at));
        }
        "T" | "Tl" | "trg" | "trl" => items.push((PlanItem::Time(TimeFormat::Clf, false), at)),
        "Ts" => items.push((PlanItem::Time(TimeFormat::Epoch, false), at)),
        "ms" => items.push((PlanItem::Time(TimeFormat::MillisFraction, false), at)),
        "ci" => items.push(value(LogField::Client)),
        "cp" => items.push(part(BalancerField::ClientPort)),
        "bi" => items.push(part(BalancerField::Own)),
        "bp" => items.push(part(BalancerField::OwnPort)),
        "si" => items.push(part(BalancerField::Server)),
        "sp" => items.push(part(BalancerField::ServerPort)),
        "b" => items.push(part(BalancerField::Group)),
        "s" => items.push(part(BalancerField::ServerName)),
        "TR" => items.push(part(BalancerField::Lead)),
        "Tw" => items.push(part(BalancerField::Queue)),
        "Tc" => items.push(part(BalancerField::Connect)),
        "Ta" | "Tt" => items.push(part(BalancerField::Took)),
        "B" => items.push(part(BalancerField::All)),
        "ST" => items.push(value(LogField::Status)),
        "r" => items.push(value(LogField::Request)),
        "HM" => items.push(value(LogField::Method)),
        "HU" => items.push(value(LogField::Target)),
        "HP" => items.push(value(LogField::Path)),
        "HQ" => items.push(value(LogField::Query)),
        "HV" => items.push(value(LogField::Protocol)),
        expression if expression.starts_with('[') => items.push(value(meant(expression))),
        _ => items.push(value(LogField::Word)),
    }
}

/// The meaning of a variable of the transaction, from its name.
fn meant(expression: &str) -> LogField {
    let inner = expression.trim_matches(['[', ']']);
    let var = inner.strip_prefix("var(").and_then(|rest| rest.split_once(')'));
    let name = var.map(|(name, _)| name.rsplit('.').next().unwrap_or(name));
    match name.map(str::to_ascii_lowercase).as_deref() {
        Some("user_agent" | "ua") => LogField::UserAgent,
        Some("referer" | "referrer") => LogField::Referer,
        Some("host") => LogField::Host,
        Some("content_length" | "length") => LogField::Part(BalancerField::Length),
        _ => LogField::ClientText,
    }
}

/// Merges `%Ts.%ms` into one time: seconds since the epoch with a fraction.
fn joined_times(mut items: Vec<PlacedItem>) -> Vec<PlacedItem> {
    let mut index = 0;
    while index + 2 < items.len() {
        let is_split = matches!(items[index].0, PlanItem::Time(TimeFormat::Epoch, _))
            && matches!(&items[index + 1].0, PlanItem::Literal(text) if text == b".")
            && matches!(items[index + 2].0, PlanItem::Time(TimeFormat::MillisFraction, _));
        if is_split {
            items.drain(index + 1..index + 3);
        }
        index += 1;
    }
    items
}

/// Whether times of a format have no zone.
pub(super) fn is_local(items: &[PlacedItem]) -> bool {
    let of_form = |wanted: fn(&TimeFormat) -> bool| {
        items.iter().any(|(item, _)| matches!(item, PlanItem::Time(form, _) if wanted(form)))
    };
    of_form(|form| matches!(form, TimeFormat::Strftime(_)))
        && !of_form(|form| matches!(form, TimeFormat::Clf | TimeFormat::Epoch))
}
