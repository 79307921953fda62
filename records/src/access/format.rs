//! A pasted format string, compiled once into a [`FormatPlan`].
//!
//! ```text
//! apache  = ["LogFormat" SP quoted [SP name]] ; *( literal / "%" *modifier ["{" param "}"] letter )
//! nginx   = ["log_format" SP name [SP "escape=" word] 1*(SP quoted) ";"]
//!           ; *( literal / "$" name / "${" name "}" )
//! ```
//!
//! The directives are from the `mod_log_config` and `mod_logio` manuals of Apache 2.4, the
//! variables from nginx's core, `realip` and `log` modules. Others become ignored fields; `known`
//! refuses names that no server has.

use std::fmt;

use super::field::{DurationUnit, LogField};
use super::known::FormatName;
use super::plan::{FormatPlan, PlanItem};
use super::time_format::TimeFormat;

/// A fault of a format string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatError {
    /// Offset in the given text.
    pub at: usize,
    /// The fault.
    pub problem: FormatProblem,
}

/// The faults of a format string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatProblem {
    /// The text is no name of a format, and has no directive or variable.
    Unknown,
    /// A directive, variable, brace or quote is not closed.
    Unfinished,
    /// An unknown strftime conversion.
    TimeFormat,
    /// Two fields without a literal between.
    Adjoining,
    /// No field names the client.
    NoClient,
    /// No field of a balancer's format names the client.
    NoVisitor,
    /// The format has too many fields.
    TooLong,
    /// Not `field=path`, or an unknown field.
    FieldName,
    /// No field logs the requested value.
    NotLogged,
    /// A variable that nginx does not have.
    UnknownVariable {
        /// Without the `$`.
        name: FormatName,
        /// The variable that was perhaps meant.
        meant: Option<&'static str>,
    },
    /// A directive that Apache does not have.
    UnknownDirective {
        /// The directive.
        name: FormatName,
    },
    /// A word in braces that the directive does not allow.
    UnknownParameter {
        /// The directive.
        name: FormatName,
        /// The word that was perhaps meant.
        meant: Option<&'static str>,
    },
}

impl FormatError {
    pub(super) fn new(at: usize, problem: FormatProblem) -> Self {
        Self { at, problem }
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at;
        match self.problem {
            FormatProblem::Unknown => f.write_str(
                "unknown format: expected auto, common, combined, vhost_combined, json, or an \
                 Apache LogFormat or nginx log_format string",
            ),
            FormatProblem::Unfinished => write!(f, "the directive, variable or quote at byte {at} is not closed"),
            FormatProblem::TimeFormat => write!(f, "unknown time conversion at byte {at}"),
            FormatProblem::Adjoining => {
                write!(f, "nothing separates the field at byte {at} from the one before it")
            }
            FormatProblem::NoClient => {
                f.write_str("no field names the client: expected %h, %a, $remote_addr or the like")
            }
            FormatProblem::NoVisitor => f.write_str(
                "no field names the client: expected %ci, %[src], %DOWNSTREAM_REMOTE_ADDRESS%, %<chi>, \
                 $remote_addr, %h or the like",
            ),
            FormatProblem::NotLogged => f.write_str("no field of the format logs the requested value"),
            FormatProblem::UnknownVariable { name, meant } => {
                write!(f, "unknown variable ${name} at byte {at}: ")?;
                match meant {
                    Some(meant) => write!(f, "did you mean ${meant}? ")?,
                    None => write!(f, "nginx has none of this name. ")?,
                }
                write!(f, "For a variable that your configuration defines, write $arg_{name}")
            }
            FormatProblem::UnknownDirective { name } => {
                write!(f, "unknown directive {name} at byte {at}: Apache has none of this letter")
            }
            FormatProblem::UnknownParameter { name, meant } => {
                write!(f, "unknown {name} at byte {at}")?;
                meant.map_or(Ok(()), |meant| write!(f, ": did you mean {meant}?"))
            }
            FormatProblem::TooLong => write!(f, "too many fields, seen at byte {at}"),
            FormatProblem::FieldName => write!(
                f,
                "expected field=path at byte {at}, field one of client, port, server_port, time, \
                 request, method, uri, query, protocol, status, bytes, referer, user_agent, host, \
                 user, forwarded_for, nth, duration"
            ),
        }
    }
}

impl std::error::Error for FormatError {}

/// The bytes of a format after unquoting, each with its offset in the pasted text.
pub(super) struct FormatText {
    pub(super) bytes: Vec<u8>,
    offsets: Vec<usize>,
    end: usize,
}

impl FormatText {
    pub(super) fn at(&self, index: usize) -> usize {
        self.offsets.get(index).copied().unwrap_or(self.end)
    }

    fn push(&mut self, byte: u8, offset: usize) {
        self.bytes.push(byte);
        self.offsets.push(offset);
    }

    pub(super) fn error(&self, index: usize, problem: FormatProblem) -> FormatError {
        FormatError::new(self.at(index), problem)
    }
}

/// Whether a pasted text is an nginx format: has a variable or the nginx directive.
pub(super) fn is_nginx(text: &str) -> bool {
    let variable =
        |pair: &[u8]| pair[0] == b'$' && (pair[1].is_ascii_alphabetic() || pair[1] == b'{');
    directive(text, "log_format").is_some()
        || (directive(text, "LogFormat").is_none() && text.as_bytes().windows(2).any(variable))
}

/// The format string inside a directive and its quotes.
pub(super) fn inner(pasted: &str) -> Result<String, FormatError> {
    let text = unquoted(pasted)?;
    Ok(String::from_utf8_lossy(&text.bytes).into_owned())
}

/// Compiles a pasted format.
pub(super) fn compile(pasted: &str) -> Result<FormatPlan, FormatError> {
    let mut items = placed(pasted)?;
    let is = |item: &PlanItem, field| matches!(item, PlanItem::Value(found, _) if *found == field);
    if !items.iter().any(|(item, _)| is(item, LogField::Client)) {
        // A log may have X-Forwarded-For in the place of the client.
        let forwarded = items.iter_mut().find(|(item, _)| is(item, LogField::ForwardedFor));
        if let Some((item, _)) = forwarded {
            *item = PlanItem::Value(LogField::ClientList, 0);
        }
    }
    plan(items)
}

/// Compiles the items of a format into a plan.
pub(super) fn plan(mut items: Vec<PlacedItem>) -> Result<FormatPlan, FormatError> {
    if !items.iter().any(|(item, _)| !matches!(item, PlanItem::Literal(_))) {
        return Err(FormatError::new(0, FormatProblem::Unknown));
    }
    join_targets(&mut items);
    if items.len() > 300 {
        return Err(FormatError::new(items[300].1, FormatProblem::TooLong));
    }
    let adjoining = items.windows(2).find(|pair| {
        match (&pair[0].0, &pair[1].0) {
            // `$host$request_uri`: a path begins with a slash, and a host has none.
            (PlanItem::Value(host, _), PlanItem::Value(LogField::Target | LogField::Path, _)) => {
                !host.is_word()
            }
            (PlanItem::Value(..), PlanItem::Value(..) | PlanItem::Time(..)) => true,
            _ => false,
        }
    });
    if let Some(pair) = adjoining {
        return Err(FormatError::new(pair[1].1, FormatProblem::Adjoining));
    }
    let is_client = |item: &PlanItem| {
        matches!(item, PlanItem::Value(LogField::Client | LogField::ClientList, _))
    };
    if !items.iter().any(|(item, _)| is_client(item)) {
        return Err(FormatError::new(0, FormatProblem::NoClient));
    }
    let items: Vec<_> = items.into_iter().map(|(item, _)| item).collect();
    Ok(FormatPlan::new(&items))
}

/// The items of a pasted format, each with its offset.
pub(super) fn placed(pasted: &str) -> Result<Vec<PlacedItem>, FormatError> {
    let text = unquoted(pasted)?;
    if is_nginx(pasted) { nginx(&text, nginx_field) } else { apache(&text, apache_field) }
}

/// If the text is the directive `name`, returns the text behind the name and its offset.
pub(super) fn directive<'a>(text: &'a str, name: &str) -> Option<(&'a str, usize)> {
    let start = text.len() - text.trim_start().len();
    let rest = text.get(start..)?;
    let word = rest.get(..name.len())?;
    let tail = rest.get(name.len()..)?;
    let is_it = word.eq_ignore_ascii_case(name) && tail.starts_with(char::is_whitespace);
    is_it.then_some((tail, start + name.len()))
}

pub(super) fn unquoted(pasted: &str) -> Result<FormatText, FormatError> {
    let mut text = FormatText { bytes: Vec::new(), offsets: Vec::new(), end: pasted.len() };
    if let Some((rest, offset)) = directive(pasted, "LogFormat") {
        words(rest, offset, &mut text, 0, Some(1))?;
    } else if let Some((rest, offset)) = directive(pasted, "log-format") {
        if rest.trim_start().starts_with(['"', '\'']) {
            words(rest, offset, &mut text, 0, Some(1))?;
        } else {
            plain(rest, offset, &mut text);
        }
    } else if let Some((rest, offset)) = directive(pasted, "log_format") {
        words(rest, offset, &mut text, 1, None)?;
    } else if pasted.trim_start().starts_with('\'') {
        words(pasted, 0, &mut text, 0, None)?;
    } else {
        plain(pasted, 0, &mut text);
    }
    Ok(text)
}

/// A format without quotes: undoes only `\"`, `\\` and `\t`, and trims white space. The text begins at `from`
/// of what was pasted.
fn plain(pasted: &str, from: usize, text: &mut FormatText) {
    let start = pasted.len() - pasted.trim_start().len();
    let mut bytes = pasted.trim_end().bytes().enumerate().skip(start).peekable();
    while let Some((offset, byte)) = bytes.next() {
        let escaped = match (byte, bytes.peek()) {
            (b'\\', Some((_, next @ (b'"' | b'\\')))) => Some(*next),
            (b'\\', Some((_, b't'))) => Some(b'\t'),
            _ => None,
        };
        if escaped.is_some() {
            bytes.next();
        }
        text.push(escaped.unwrap_or(byte), from + offset);
    }
}

/// The words of a directive: skips `skip` words and `escape=…`, takes at most `most`, and ends at
/// `;`.
fn words(
    rest: &str,
    offset: usize,
    text: &mut FormatText,
    skip: usize,
    most: Option<usize>,
) -> Result<(), FormatError> {
    let bytes = rest.as_bytes();
    let (mut at, mut seen) = (0, 0);
    loop {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        let taken = seen >= skip && most.is_none_or(|most| seen < skip + most);
        match bytes.get(at) {
            None | Some(b';') => return Ok(()),
            Some(&quote @ (b'"' | b'\'')) => {
                let mut into = FormatText { bytes: Vec::new(), offsets: Vec::new(), end: 0 };
                at = quoted_word(bytes, at, quote, offset, &mut into)?;
                if taken {
                    text.bytes.append(&mut into.bytes);
                    text.offsets.append(&mut into.offsets);
                }
            }
            Some(_) => {
                let len = bytes[at..]
                    .iter()
                    .position(|b| b.is_ascii_whitespace() || *b == b';')
                    .unwrap_or(bytes.len() - at);
                if taken && !bytes[at..].starts_with(b"escape=") {
                    for (index, byte) in bytes.iter().enumerate().skip(at).take(len) {
                        text.push(*byte, offset + index);
                    }
                }
                at += len;
            }
        }
        seen += 1;
    }
}

/// Reads the quoted word that opens at `at`; returns the rest of the text.
fn quoted_word(
    bytes: &[u8],
    open: usize,
    quote: u8,
    offset: usize,
    text: &mut FormatText,
) -> Result<usize, FormatError> {
    let mut at = open + 1;
    loop {
        match (bytes.get(at), bytes.get(at + 1)) {
            (None, _) => {
                return Err(FormatError::new(offset + open, FormatProblem::Unfinished));
            }
            (Some(&byte), _) if byte == quote => return Ok(at + 1),
            (Some(b'\\'), Some(&next @ (b'"' | b'\'' | b'\\'))) => {
                text.push(next, offset + at);
                at += 2;
            }
            (Some(b'\\'), Some(b't')) => {
                text.push(b'\t', offset + at);
                at += 2;
            }
            (Some(&byte), _) => {
                text.push(byte, offset + at);
                at += 1;
            }
        }
    }
}

/// An item and its offset in the pasted text.
pub(super) type PlacedItem = (PlanItem, usize);

pub(super) fn literal(items: &mut Vec<PlacedItem>, byte: u8, at: usize) {
    if let Some((PlanItem::Literal(text), _)) = items.last_mut() {
        text.push(byte);
    } else {
        items.push((PlanItem::Literal(vec![byte]), at));
    }
}

/// Merges an adjacent path and query into one field.
fn join_targets(items: &mut Vec<PlacedItem>) {
    let is = |items: &[PlacedItem], index: usize, field: LogField| matches!(items.get(index), Some((PlanItem::Value(found, _), _)) if *found == field);
    let mut index = 0;
    while index < items.len() {
        if is(items, index, LogField::Path) {
            while is(items, index + 1, LogField::Query) {
                items.remove(index + 1);
                items[index].0 = PlanItem::Value(LogField::Target, 0);
            }
        }
        index += 1;
    }
}

/// Parses an Apache format; `field` maps a directive to its meaning.
pub(super) fn apache(
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

/// The meaning of an Apache directive, and its rank among directives of equal meaning.
pub(super) fn apache_field(letter: u8, param: &str, original: bool) -> (LogField, u8) {
    let header = || match param.to_ascii_lowercase().as_str() {
        "referer" => (LogField::Referer, 0),
        "user-agent" => (LogField::UserAgent, 0),
        "host" => (LogField::Host, 0),
        "x-forwarded-for" => (LogField::ForwardedFor, 0),
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
        b'C' | b'f' | b'o' | b'e' | b'n' => (LogField::ClientText, 9),
        b'l' | b'A' | b'P' | b'X' | b'L' | b'I' | b'S' | b'R' => (LogField::Word, 9),
        _ => (LogField::Text, 9),
    }
}

/// Parses an nginx format; `field` maps a variable to its meaning.
pub(super) fn nginx(
    text: &FormatText,
    field: impl Fn(&str) -> (LogField, u8),
) -> Result<Vec<PlacedItem>, FormatError> {
    let mut items: Vec<PlacedItem> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = text.bytes.get(at) {
        if byte != b'$' {
            literal(&mut items, byte, text.at(at));
            at += 1;
            continue;
        }
        let unfinished = || text.error(at, FormatProblem::Unfinished);
        let braced = text.bytes.get(at + 1) == Some(&b'{');
        let from = at + 1 + usize::from(braced);
        let is_part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
        let len =
            text.bytes[from.min(text.bytes.len())..].iter().take_while(|b| is_part(b)).count();
        let end = from + len + usize::from(braced);
        if len == 0 || (braced && text.bytes.get(end - 1) != Some(&b'}')) {
            return Err(unfinished());
        }
        let name = String::from_utf8_lossy(&text.bytes[from..from + len]);
        let offset = text.at(at);
        match name.as_ref() {
            "time_local" => items.push((PlanItem::Time(TimeFormat::Clf, false), offset)),
            "time_iso8601" => items.push((PlanItem::Time(TimeFormat::Iso, false), offset)),
            "msec" => items.push((PlanItem::Time(TimeFormat::Epoch, false), offset)),
            name => {
                let (field, rank) = field(name);
                items.push((PlanItem::Value(field, rank), offset));
            }
        }
        at = end;
    }
    Ok(items)
}

/// The meaning of an nginx variable, and its rank among variables of equal meaning.
pub(super) fn nginx_field(name: &str) -> (LogField, u8) {
    match name {
        "remote_addr" | "realip_remote_addr" => (LogField::Client, 0),
        "remote_port" | "realip_remote_port" => (LogField::PeerPort, 0),
        "server_port" => (LogField::ServerPort, 0),
        "time_local" | "time_iso8601" | "msec" => (LogField::Time, 0),
        "remote_user" => (LogField::User, 0),
        "request" => (LogField::Request, 0),
        "request_method" => (LogField::Method, 0),
        "request_uri" => (LogField::Target, 0),
        "uri" | "document_uri" => (LogField::Path, 1),
        "is_args" | "args" | "query_string" => (LogField::Query, 0),
        "server_protocol" => (LogField::Protocol, 0),
        "status" => (LogField::Status, 0),
        "body_bytes_sent" => (LogField::Bytes, 0),
        "bytes_sent" => (LogField::Bytes, 1),
        "http_referer" => (LogField::Referer, 0),
        "http_user_agent" => (LogField::UserAgent, 0),
        "http_host" => (LogField::Host, 0),
        "host" => (LogField::Host, 1),
        "server_name" => (LogField::Host, 2),
        "http_x_forwarded_for" => (LogField::ForwardedFor, 0),
        "proxy_add_x_forwarded_for" => (LogField::ForwardedFor, 1),
        "connection_requests" => (LogField::Nth, 0),
        "request_time" => (LogField::Duration(DurationUnit::Seconds), 0),
        "connection"
        | "connection_time"
        | "gzip_ratio"
        | "hostname"
        | "https"
        | "pid"
        | "pipe"
        | "request_id"
        | "request_length"
        | "scheme"
        | "server_addr"
        | "ssl_cipher"
        | "ssl_protocol"
        | "upstream_cache_status" => (LogField::Word, 9),
        "request_filename" | "request_body" | "document_root" => (LogField::ClientText, 9),
        _ => {
            let clients = ["http_", "cookie_", "arg_", "sent_http_"];
            let clients = clients.iter().any(|prefix| name.starts_with(prefix));
            (if clients { LogField::ClientText } else { LogField::Text }, 9)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::timestamp::TimestampParser;
    use crate::access::{AccessLine, LineError, LineSpan, LoggedRequest};

    const TIME: &str = "10/Oct/2000:13:55:36 -0700";

    fn read(format: &str, line: &str) -> Result<AccessLine, LineError> {
        let plan = compile(format).expect(format);
        let mut found = AccessLine::default();
        plan.parse(line.as_bytes(), 0, &mut TimestampParser::default(), &mut found)?;
        Ok(found)
    }

    #[test]
    fn apache_formats_find_their_fields() {
        let line = r#"a.example:8443 192.0.2.1:40100 - bob [10/Oct/2000:13:55:36 -0700] "GET /a?b HTTP/1.1" 200 5 "-" "x \"y\"" 1234 2"#;
        let plain =
            r#"%v:%p %h:%{remote}p %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i" %D %k"#;
        let escaped = plain.replace('"', "\\\"");
        for format in [
            plain.to_owned(),
            escaped.clone(),
            format!("LogFormat \"{escaped}\" mine"),
            format!("  logformat '{plain}'"),
            plain.replace("%>s", "%!400,501{x}s").replace("%v", "%{x}V"),
            plain.replace("%h", "%{c}a").replace("%D", "%{us}T"),
        ] {
            let found = read(&format, line).unwrap_or_else(|wrong| panic!("{format}: {wrong}"));
            let text =
                |span: LineSpan| String::from_utf8_lossy(span.of(line.as_bytes())).into_owned();
            assert_eq!(text(found.client), "192.0.2.1", "{format}");
            assert_eq!(found.host.map(text).as_deref(), Some("a.example"), "{format}");
            assert_eq!(found.time_text.map(text).as_deref(), Some(TIME), "{format}");
            assert_eq!(found.user.map(text).as_deref(), Some("bob"), "{format}");
            assert_eq!(found.user_agent.map(text).as_deref(), Some(r#"x \"y\""#), "{format}");
            assert_eq!((found.server_port, found.peer_port), (Some(8443), Some(40_100)));
            assert_eq!((found.duration, found.nth), (Some(1234), Some(3)), "{format}");
            assert_eq!((found.status, found.bytes), (Some(200), Some(5)), "{format}");
        }
    }

    #[test]
    fn nginx_formats_find_their_fields() {
        let line = r#"192.0.2.1 - bob b [10/Oct/2000:13:55:36 -0700] "GET /a HTTP/1.1" 200 5 "-" "x" "-" 0.012 40100 7"#;
        let one = r#"$remote_addr - $remote_user [$time_local] "$request" "#;
        let two = r#"$status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for" $request_time ${remote_port} $connection_requests"#;
        for format in [
            format!("{one}{two}"),
            format!("log_format main '{one}' '{two}';"),
            format!("log_format main escape=default\n  '{one}'\n  '{two}';\n"),
            format!("'{one}'\n'{two}';"),
            format!("log_format main \"{}\";", format!("{one}{two}").replace('"', "\\\"")),
        ] {
            let found = read(&format, line).unwrap_or_else(|wrong| panic!("{format}: {wrong}"));
            let text =
                |span: LineSpan| String::from_utf8_lossy(span.of(line.as_bytes())).into_owned();
            assert_eq!(text(found.client), "192.0.2.1", "{format}");
            assert_eq!(found.user.map(text).as_deref(), Some("bob b"), "{format}");
            let LoggedRequest::Line(request) = found.request else { panic!("{format}") };
            assert_eq!(text(request), "GET /a HTTP/1.1", "{format}");
            assert_eq!((found.peer_port, found.nth), (Some(40_100), Some(7)), "{format}");
            assert_eq!(found.duration, Some(12_000), "{format}");
        }
    }

    #[test]
    fn a_request_in_parts_is_found_in_parts() {
        for (format, line) in [
            (r#"%h "%m %U%q %H""#, r#"192.0.2.1 "GET /a?b=c HTTP/1.1""#),
            ("%h,%H,%m,%U%q", "192.0.2.1,HTTP/1.1,GET,/a?b=c"),
            (
                "$remote_addr $request_method $scheme://$host$request_uri $server_protocol",
                "192.0.2.1 GET http://a.example/a?b=c HTTP/1.1",
            ),
            (
                "$remote_addr $request_method $uri$is_args$args $server_protocol",
                "192.0.2.1 GET /a?b=c HTTP/1.1",
            ),
        ] {
            let found = read(format, line).unwrap_or_else(|wrong| panic!("{format}: {wrong}"));
            let LoggedRequest::Parts { method, target, query: None, protocol: Some(protocol) } =
                found.request
            else {
                panic!("{format}: {:?}", found.request)
            };
            let parts = [method, target, protocol].map(|part| part.of(line.as_bytes()));
            assert_eq!(parts, [&b"GET"[..], b"/a?b=c", b"HTTP/1.1"], "{format}");
        }
    }

    #[test]
    fn times_of_a_format_are_read() {
        for (format, time) in [
            ("%t", "[10/Oct/2000:13:55:36 -0700]"),
            ("[%{%d/%b/%Y:%T}t.%{msec_frac}t %{%z}t]", "[10/Oct/2000:13:55:36.000 -0700]"),
            ("%{%Y-%m-%d %H:%M:%S}t", "2000-10-10 20:55:36"),
            ("%{sec}t", "971211336"),
            ("%{begin:usec}t", "971211336000000"),
            ("%{end:sec}t %{begin:sec}t", "971211399 971211336"),
            ("%{end:sec}t", "971211336"),
            ("[$time_local]", "[10/Oct/2000:13:55:36 -0700]"),
            ("$time_iso8601", "2000-10-10T20:55:36+00:00"),
            ("$msec", "971211336.000"),
        ] {
            let client = if format.contains('$') { "$remote_addr" } else { "%a" };
            let found = read(&format!("{client} {format} z"), &format!("192.0.2.1 {time} z"));
            let seconds = found.expect(format).time.map(|(time, _)| time.as_micros() / 1_000_000);
            assert_eq!(seconds, Some(971_211_336), "{format}");
        }
    }

    #[test]
    fn what_a_client_writes_cannot_stand_for_the_client() {
        let forwarded = "%{X-Forwarded-For}i %h %l %u %t";
        let honest = format!("203.0.113.9 192.0.2.1 - - [{TIME}]");
        assert!(read(forwarded, &honest).is_ok());
        let forged = format!("203.0.113.9 203.0.113.8 192.0.2.1 - - [{TIME}]");
        assert!(read(forwarded, &forged).is_err());
        let quoted = format!(r#""203.0.113.9 203.0.113.8" 192.0.2.1 - - [{TIME}]"#);
        let found = read(r#""%{X-Forwarded-For}i" %h %l %u %t"#, &quoted).unwrap();
        assert_eq!(found.client.of(quoted.as_bytes()), b"192.0.2.1");
    }

    #[test]
    fn a_list_of_addresses_is_one_field() {
        let rest = format!("- - [{TIME}] \"GET / HTTP/1.1\" 200");
        let listed = format!("198.51.100.1, 192.0.2.5 {rest}");
        for (format, line, client) in [
            (r#"%{X-Forwarded-For}i %l %u %t "%r" %>s"#, listed.clone(), "198.51.100.1, 192.0.2.5"),
            (r#"%{X-Forwarded-For}i %l %u %t "%r" %>s"#, format!("- {rest}"), "-"),
            (
                r#"$http_x_forwarded_for - $remote_user [$time_local] "$request" $status"#,
                listed.clone(),
                "198.51.100.1, 192.0.2.5",
            ),
            (
                r#"%{X-Forwarded-For}i %h %l %u %t "%r" %>s"#,
                listed.replace(" - -", " 192.0.2.1 - -"),
                "192.0.2.1",
            ),
        ] {
            let found = read(format, &line).unwrap_or_else(|wrong| panic!("{format}: {wrong}"));
            let text = String::from_utf8_lossy(found.client.of(line.as_bytes())).into_owned();
            assert_eq!(text, client, "{format}");
        }
        let forged = format!("198.51.100.1 x {rest}");
        assert!(read(r#"%{X-Forwarded-For}i %l %u %t "%r" %>s"#, &forged).is_err());
    }

    #[test]
    fn formats_that_cannot_be_read_are_refused_where_they_cannot() {
        for (format, at, problem) in [
            ("", 0, FormatProblem::Unknown),
            ("combinde", 0, FormatProblem::Unknown),
            ("%t %r", 0, FormatProblem::NoClient),
            ("$time_local", 0, FormatProblem::NoClient),
            ("%h %{Referer", 3, FormatProblem::Unfinished),
            ("%h %>", 3, FormatProblem::Unfinished),
            ("%h %^F", 3, FormatProblem::Unfinished),
            ("$remote_addr ${status", 13, FormatProblem::Unfinished),
            ("$remote_addr $", 13, FormatProblem::Unfinished),
            ("log_format x '$remote_addr", 13, FormatProblem::Unfinished),
            ("%h%u", 2, FormatProblem::Adjoining),
            ("LogFormat \"%h %r%u\" x", 16, FormatProblem::Adjoining),
            ("%h %{%H:%Q}t", 8, FormatProblem::TimeFormat),
        ] {
            let wrong = compile(format).err();
            assert_eq!(wrong, Some(FormatError::new(at, problem)), "{format}");
        }
    }
}
