//! HAProxy's `log-format`: the variables and flags of section 8.2 of its configuration manual.
//!
//! ```text
//! format = *( literal / "%" ["{" flag *("," flag) "}"] ( name / "[" expression "]" ) )
//! flag   = ("+" / "-") ( "Q" / "E" / "X" )          ; quoted, escaped, hexadecimal
//! ```
//!
//! If no header was captured, HAProxy omits `%hr` and `%hs` and the following space.

use std::sync::LazyLock;

use super::super::field::{BalancerField, LogField};
use super::super::format::{FormatError, FormatProblem, FormatText, PlacedItem, literal};
use super::super::known;
use super::super::plan::PlanItem;
use super::super::time_format::{TimeFormat, TimestampParts};
use super::super::timestamp::TimestampParser;
use crate::time::{Resolution, Timestamp};

/// `option tcplog`.
pub(super) const TCP: &str =
    "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq";
/// `option httplog`.
pub(super) const HTTP: &str = "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc \
     %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r";
/// `option httpslog`, whose last fields are ignored.
pub(super) const HTTPS: &str = "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc \
     %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r %lc/%lc/%lc/%lc/%lc %lc/%lc/%lc";
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

/// `option httplog clf`.
pub(super) const CLF: &str = "%{+Q}o %{-Q}ci - - [%trg] %r %ST %B \"\" \"\" %cp %ms %ft %b %s %TR %Tw %Tc %Tr \
     %Ta %tsc %ac %fc %bc %sc %rc %sq %bq %CC %CS %hrl %hsl";

/// The time of `%t` and `%tr` without its milliseconds.
static LOCAL_TIME: LazyLock<TimeFormat> =
    LazyLock::new(|| TimeFormat::apache("%d/%b/%Y:%H:%M:%S").expect("known conversions"));

/// Beginnings of messages about proxies, servers and health checks.
const NOTICES: [&[u8]; 12] = [
    b"Proxy ",
    b"Server ",
    b"Backup Server ",
    b"Health check for ",
    b"backend ",
    b"frontend ",
    b"Connect from ",
    b"Stopping ",
    b"Pausing ",
    b"[WARNING]",
    b"[NOTICE]",
    b"[ALERT]",
];

/// Whether a message is about HAProxy itself.
pub(super) fn is_notice(message: &[u8]) -> bool {
    NOTICES.iter().any(|start| message.starts_with(start))
}

/// What a format is made of.
pub(super) enum HaproxyFormat {
    Text(Vec<PlacedItem>),
    /// A JSON object (`%{+json}o`): the keys and the meanings of their values.
    Json(Vec<(Vec<Vec<u8>>, LogField, u8)>),
}

/// Parses a format.
pub(super) fn parse(text: &FormatText) -> Result<HaproxyFormat, FormatError> {
    let mut items = Vec::new();
    let mut keys = Vec::new();
    let mut at = 0;
    let (mut quotes_all, mut is_json) = (false, false);
    while let Some(&byte) = text.bytes.get(at) {
        if byte == b'\\' && text.bytes.get(at + 1) == Some(&b' ') {
            // In an unquoted configuration, `\ ` stands for a space.
            space(&mut items, text.at(at));
            at += 2;
            continue;
        }
        if byte == b' ' {
            space(&mut items, text.at(at));
            at += 1;
            continue;
        }
        if byte != b'%' {
            literal(&mut items, byte, text.at(at));
            at += 1;
            continue;
        }
        let variable = HaproxyVariable::read(text, at)?;
        let offset = text.at(at);
        known::check_haproxy(&variable.name).map_err(|problem| text.error(at, problem))?;
        at = variable.end;
        let quoted = variable.quoted.unwrap_or(quotes_all);
        is_json |= variable.is_json;
        if is_json {
            // Only what has a name is written.
            let name = variable.alias;
            keys.extend(name.map(|key| (vec![key.into_bytes()], value_of(&variable.name), 0)));
            continue;
        }
        match variable.name.as_str() {
            "%" => literal(&mut items, b'%', offset),
            "o" => quotes_all = quoted,
            // Lists of headers, without a mark where one ends.
            "hrl" | "hsl" if is_rest_lists(&text.bytes[at..]) => {
                trim_end(&mut items);
                items.push((PlanItem::Value(LogField::Text, 0), offset));
                return Ok(HaproxyFormat::Text(joined_times(items)));
            }
            "hr" | "hs" => {
                items.push((PlanItem::Captures, offset));
                at += usize::from(text.bytes.get(at) == Some(&b' '));
            }
            name => {
                let quoted = quoted && is_text(name);
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
    if is_json {
        return Ok(HaproxyFormat::Json(keys));
    }
    trim_end(&mut items);
    Ok(HaproxyFormat::Text(joined_times(items)))
}

/// The meaning of a variable or an expression as one value.
fn value_of(name: &str) -> LogField {
    match name {
        "t" | "tr" => LogField::Part(BalancerField::LocalTime),
        "T" | "Tl" | "trg" | "trl" | "Ts" => LogField::Time,
        expression if expression.starts_with('[') => meant(expression),
        name => meaning(name),
    }
}

/// Reads `06/Feb/2009:12:14:14.655`.
pub(super) fn local_time(
    text: &[u8],
    clock: &mut TimestampParser,
) -> Option<(Timestamp, Resolution)> {
    let mut parts = TimestampParts::default();
    let end = LOCAL_TIME.read(text, 0, &mut parts, clock)?;
    if text.get(end) == Some(&b'.') {
        TimeFormat::MillisFraction.read(text, end + 1, &mut parts, clock)?;
    }
    parts.finish()
}

/// Appends a space as HAProxy writes it: not at the beginning, and one of several.
fn space(items: &mut Vec<PlacedItem>, at: usize) {
    let is_first = items.is_empty();
    let follows =
        matches!(items.last(), Some((PlanItem::Literal(text), _)) if text.ends_with(b" "));
    let follows = follows || matches!(items.last(), Some((PlanItem::Captures, _)));
    if !is_first && !follows {
        literal(items, b' ', at);
    }
}

/// Drops the space at the end; relays of syslog do so, too.
fn trim_end(items: &mut Vec<PlacedItem>) {
    if let Some((PlanItem::Literal(text), _)) = items.last_mut() {
        text.truncate(text.trim_ascii_end().len());
        if text.is_empty() {
            items.pop();
        }
    }
}

/// Whether nothing but lists of headers follows.
fn is_rest_lists(rest: &[u8]) -> bool {
    let mut words = rest.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    words.all(|word| matches!(word, b"%hrl" | b"%hsl"))
}

/// Whether the flag `+Q` puts a variable in quotes: names, addresses and texts, but no numbers, times and
/// states.
fn is_text(name: &str) -> bool {
    let is_timer = name.len() == 2 && name.starts_with('T');
    !is_timer
        && !matches!(
            name,
            "t" | "tr"
                | "T"
                | "trg"
                | "trl"
                | "ms"
                | "ts"
                | "tsc"
                | "ST"
                | "B"
                | "U"
                | "pid"
                | "rt"
                | "lc"
                | "ac"
                | "fc"
                | "bc"
                | "sc"
                | "rc"
                | "sq"
                | "bq"
                | "bp"
                | "cp"
                | "fp"
                | "sp"
        )
}

/// A variable or an expression of a format.
struct HaproxyVariable {
    /// An expression includes its brackets.
    name: String,
    /// The name in parentheses, which is the key in JSON (HAProxy 3.0).
    alias: Option<String>,
    quoted: Option<bool>,
    /// Whether the line is JSON from here on: `%{+json}o`.
    is_json: bool,
    end: usize,
}

impl HaproxyVariable {
    fn read(text: &FormatText, start: usize) -> Result<Self, FormatError> {
        let unfinished = || text.error(start, FormatProblem::Unfinished);
        let mut at = start + 1;
        let mut found =
            Self { name: String::new(), alias: None, quoted: None, is_json: false, end: at };
        loop {
            let (close, is_flags) = match text.bytes.get(at) {
                Some(b'{') => (b'}', true),
                Some(b'(') => (b')', false),
                _ => break,
            };
            let len = memchr::memchr(close, &text.bytes[at..]).ok_or_else(unfinished)?;
            let inner = &text.bytes[at + 1..at + len];
            if is_flags {
                found.flags(inner);
            } else {
                // A type may follow the name, as in `%(bytes:sint)[...]`.
                let name = inner.split(|&byte| byte == b':').next().unwrap_or_default();
                found.alias = Some(String::from_utf8_lossy(name).into_owned());
            }
            at += len + 1;
        }
        let rest = text.bytes.get(at..).unwrap_or_default();
        let len = match rest.first() {
            Some(b'[') => expression_length(rest).ok_or_else(unfinished)?,
            Some(b'%') => 1,
            _ => rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count(),
        };
        if len == 0 {
            return Err(unfinished());
        }
        found.name = String::from_utf8_lossy(&rest[..len]).into_owned();
        found.end = at + len;
        Ok(found)
    }

    fn flags(&mut self, flags: &[u8]) {
        for flag in flags.split(|&byte| byte == b',') {
            match flag.trim_ascii() {
                b"+Q" => self.quoted = Some(true),
                b"-Q" => self.quoted = Some(false),
                b"+json" => self.is_json = true,
                _ => {}
            }
        }
    }
}

/// The length of an expression with its brackets. Brackets in its arguments, as of a regular expression, are
/// in quotes or in pairs.
fn expression_length(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote = None;
    for (at, &byte) in text.iter().enumerate() {
        match (quote, byte) {
            (Some(open), byte) if byte == open => quote = None,
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, b'[') => depth += 1,
            (None, b']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Appends the items of a variable.
fn push(items: &mut Vec<PlacedItem>, name: &str, at: usize) {
    match name {
        // `06/Feb/2009:12:14:14.655`, in the zone of the machine.
        "t" | "tr" => {
            items.push((PlanItem::Time(LOCAL_TIME.clone(), false), at));
            literal(items, b'.', at);
            items.push((PlanItem::Time(TimeFormat::MillisFraction, false), at));
        }
        "T" | "Tl" | "trg" | "trl" => items.push((PlanItem::Time(TimeFormat::Clf, false), at)),
        "Ts" => items.push((PlanItem::Time(TimeFormat::Epoch, false), at)),
        "ms" => items.push((PlanItem::Time(TimeFormat::MillisFraction, false), at)),
        expression if expression.starts_with('[') => items
            .push((date(expression).unwrap_or_else(|| PlanItem::Value(meant(expression), 0)), at)),
        name => items.push((PlanItem::Value(meaning(name), 0), at)),
    }
}

/// The time of a sample fetch `date`, `accept_date` or `request_date` without a converter; `None` for any other
/// expression.
fn date(expression: &str) -> Option<PlanItem> {
    let inner = expression.strip_prefix('[')?.strip_suffix(']')?.trim();
    let (name, arguments) = match inner.split_once('(') {
        Some((name, rest)) => (name, rest.strip_suffix(')')?),
        None => (inner, ""),
    };
    let is_end = match name {
        "date" => true,
        "accept_date" | "request_date" => false,
        _ => return None,
    };
    let form = match arguments.rsplit(',').next()?.trim() {
        "ms" => TimeFormat::EpochMillis,
        "us" => TimeFormat::EpochMicros,
        _ => TimeFormat::Epoch,
    };
    Some(PlanItem::Time(form, is_end))
}

/// The meaning of a variable that is no time.
fn meaning(name: &str) -> LogField {
    match name {
        "ci" => LogField::Client,
        "cp" => LogField::Part(BalancerField::ClientPort),
        "bi" => LogField::Part(BalancerField::Own),
        "bp" => LogField::Part(BalancerField::OwnPort),
        "si" => LogField::Part(BalancerField::Server),
        "sp" => LogField::Part(BalancerField::ServerPort),
        "b" => LogField::Part(BalancerField::Group),
        "s" => LogField::Part(BalancerField::ServerName),
        "TR" => LogField::Part(BalancerField::Lead),
        "Tw" => LogField::Part(BalancerField::Queue),
        "Tc" => LogField::Part(BalancerField::Connect),
        "Ta" | "Tt" => LogField::Part(BalancerField::Took),
        "B" => LogField::Part(BalancerField::All),
        "ST" => LogField::Status,
        "r" => LogField::Request,
        "HM" => LogField::Method,
        "HU" | "HPO" => LogField::Target,
        "HP" => LogField::Path,
        "HQ" => LogField::Query,
        "HV" => LogField::Protocol,
        "ID" => LogField::RequestId,
        _ => LogField::Word,
    }
}

/// The meaning of an expression: a sample fetch, perhaps with converters behind it, or a variable whose name
/// tells.
fn meant(expression: &str) -> LogField {
    let inner = expression.trim_matches(['[', ']']);
    let (fetch, behind) = inner.split_once('(').unwrap_or((inner, ""));
    let (fetch, _) = fetch.split_once(',').unwrap_or((fetch, ""));
    let argument = behind.split_once(')').map_or("", |(argument, _)| argument);
    let name = match fetch.trim() {
        "var" => argument.rsplit('.').next().unwrap_or(argument),
        "src" => return LogField::Client,
        "src_port" => return meaning("cp"),
        "bc_src" => return meaning("bi"),
        "bc_src_port" => return meaning("bp"),
        "bc_dst" => return meaning("si"),
        "bc_dst_port" => return meaning("sp"),
        "be_name" => return meaning("b"),
        "srv_name" => return meaning("s"),
        "method" | "capture.req.method" => return LogField::Method,
        "url" | "capture.req.uri" | "pathq" => return LogField::Target,
        "path" => return LogField::Path,
        "query" => return LogField::Query,
        "capture.req.ver" => return LogField::Protocol,
        "status" | "txn.status" => return LogField::Status,
        "unique-id" => return LogField::RequestId,
        "req.hdr" | "req.fhdr" | "hdr" | "res.hdr" | "res.fhdr" => argument,
        _ => return LogField::ClientText,
    };
    let name = name.split(',').next().unwrap_or(name).trim();
    match name.to_ascii_lowercase().replace('-', "_").as_str() {
        "user_agent" | "ua" => LogField::UserAgent,
        "referer" | "referrer" => LogField::Referer,
        "host" => LogField::Host,
        "content_length" | "length" => LogField::Part(BalancerField::Length),
        "x_request_id" | "request_id" | "req_id" | "x_unique_id" | "unique_id"
        | "x_correlation_id" => LogField::RequestIdHeader,
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
