//! The choice of a format ([`Spec`]), and the parser of its lines ([`Parser`]).

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use super::clf::{self, ClfVariant};
use super::counts::{FormatCounts, NAMES};
use super::envelope::{self, Envelope};
use super::field::{DurationUnit, LineDraft, LogField};
use super::format::{self, FormatError, FormatProblem};
use super::head::{ClientPlacement, HeadParser};
use super::json::{self, JsonNames, NamedHeaders, ObjectDepth, WrappedLine};
use super::plan::FormatPlan;
use super::shapes::ShapeParser;
use super::timestamp::TimestampParser;
use super::{AccessLine, Expected, LineError, LineSpan, LoggedRequest, known, template};
use crate::request::unescape_with_offsets;
use crate::time::{Resolution, Timestamp};

/// The format of access lines, as chosen by the user.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    choice: SpecChoice,
    near: Option<Timestamp>,
    own: Option<IpAddr>,
}

#[derive(Clone, Debug, Default)]
enum SpecChoice {
    #[default]
    Auto,
    Named(ClientPlacement),
    Plan(Arc<FormatPlan>),
    Json(Arc<JsonNames>),
}

static USUAL: LazyLock<Arc<JsonNames>> = LazyLock::new(|| Arc::new(JsonNames::usual()));

impl Spec {
    /// The format is detected line by line.
    #[must_use]
    pub fn auto() -> Self {
        Self::default()
    }

    /// The same format, for a log that was written near `time`: some stamps have no year.
    #[must_use]
    pub fn near(self, time: Timestamp) -> Self {
        Self { near: Some(time), ..self }
    }

    /// The same format, for the log of the server at `own`: some logs have this address beside the client's.
    #[must_use]
    pub fn of_server(self, own: IpAddr) -> Self {
        Self { own: Some(own), ..self }
    }

    /// Parses the argument of `--format`:
    ///
    /// - `auto`, `common`, `combined`, `vhost_combined` or `json`;
    /// - `json:client=a.b,time=t,…`: the keys of fields in a JSON object; dots separate nested
    ///   keys;
    /// - a `LogFormat` of Apache or a `log_format` of nginx, with or without the surrounding
    ///   directive. The client is the first of `%h`, `%a`, `$remote_addr` and
    ///   `$realip_remote_addr`, and without those X-Forwarded-For.
    ///
    /// # Errors
    ///
    /// Names the fault in `text` and its byte offset.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let wanted = match text.trim() {
            "auto" => SpecChoice::Auto,
            "common" | "combined" => SpecChoice::Named(ClientPlacement::First),
            "vhost_combined" => SpecChoice::Named(ClientPlacement::AfterHost),
            "json" => SpecChoice::Json(USUAL.clone()),
            _ => match text.strip_prefix("json:") {
                Some(fields) => SpecChoice::Json(Arc::new(named(fields)?)),
                None => pasted(text)?,
            },
        };
        Ok(Self { choice: wanted, near: None, own: None })
    }
}

/// Formats that have a name.
const NAMED: &[&str] = &["auto", "common", "combined", "vhost_combined", "json"];

fn pasted(text: &str) -> Result<SpecChoice, FormatError> {
    known::check_name(text, NAMED)?;
    known::check(text)?;
    if format::is_nginx(text)
        && let Some(names) = template::names(&format::inner(text)?)
    {
        return Ok(SpecChoice::Json(Arc::new(names)));
    }
    Ok(SpecChoice::Plan(Arc::new(format::compile(text)?)))
}

/// Parses `field=path,…`, the text behind `json:`.
pub(super) fn named(fields: &str) -> Result<JsonNames, FormatError> {
    let mut names = JsonNames::usual();
    let mut at = "json:".len();
    for pair in fields.split(',') {
        let wrong = || FormatError::new(at, FormatProblem::FieldName);
        let (name, path) = pair.trim().split_once('=').ok_or_else(wrong)?;
        let field = json_field(name).filter(|_| !path.is_empty()).ok_or_else(wrong)?;
        names = names.with(field, path);
        at += pair.len() + 1;
    }
    Ok(names)
}

fn json_field(name: &str) -> Option<LogField> {
    Some(match name {
        "client" => LogField::Client,
        "port" => LogField::PeerPort,
        "server_port" => LogField::ServerPort,
        "time" => LogField::Time,
        "request" => LogField::Request,
        "method" => LogField::Method,
        "uri" => LogField::Target,
        "query" => LogField::Query,
        "protocol" => LogField::Protocol,
        "status" => LogField::Status,
        "bytes" => LogField::Bytes,
        "referer" => LogField::Referer,
        "user_agent" => LogField::UserAgent,
        "host" => LogField::Host,
        "user" => LogField::User,
        "forwarded_for" => LogField::ForwardedFor,
        "nth" => LogField::Nth,
        "request_id" => LogField::RequestIdHeader,
        "duration" => LogField::Duration(DurationUnit::Seconds),
        _ => return None,
    })
}

/// Parses the access lines of one server or one file.
#[derive(Clone, Debug)]
pub struct Parser {
    wanted: SpecChoice,
    heads: HeadParser,
    clock: TimestampParser,
    /// Headers that objects of the log have named.
    named: NamedHeaders,
    shapes: ShapeParser,
    seen: FormatCounts,
}

impl Parser {
    /// Creates a parser.
    #[must_use]
    pub fn new(spec: &Spec) -> Self {
        let placement = match spec.choice {
            SpecChoice::Named(placement) => placement,
            _ => ClientPlacement::ByLine,
        };
        Self {
            wanted: spec.choice.clone(),
            heads: HeadParser::new(placement, spec.near, spec.own),
            clock: TimestampParser::default(),
            named: NamedHeaders::default(),
            shapes: ShapeParser::default(),
            seen: FormatCounts::default(),
        }
    }

    /// Learns from the first lines of a log which word is the client, so that they are parsed like
    /// later lines.
    pub fn learn<'a>(&mut self, lines: impl Iterator<Item = &'a [u8]>) {
        if !matches!(self.wanted, SpecChoice::Auto) {
            return;
        }
        let mut other = self.clone();
        let mut found = AccessLine::default();
        for line in lines {
            let _ = other.read(line, &mut found);
        }
        self.heads = other.heads.without_last();
        self.shapes = other.shapes;
    }

    /// Whether the client of a line is a choice among its words that later lines may decide otherwise.
    #[must_use]
    pub fn is_choice(&self, line: &[u8]) -> bool {
        if !matches!(self.wanted, SpecChoice::Auto) {
            return false;
        }
        let mut other = self.clone();
        other.heads.reset_choice();
        let _ = other.read(line, &mut AccessLine::default());
        other.heads.is_choice()
    }

    /// Whether a format was chosen, so that lines of another one are not parsed.
    #[must_use]
    pub const fn is_given(&self) -> bool {
        !matches!(self.wanted, SpecChoice::Auto)
    }

    /// Whether it is known which word of a line is the client.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        !matches!(self.wanted, SpecChoice::Auto) || self.heads.is_settled()
    }

    /// Parses `line`, which has no LF; a CR at the end belongs to no field.
    ///
    /// # Errors
    ///
    /// If the line is no access line, or not in the chosen format.
    #[inline]
    pub fn parse(&mut self, line: &[u8]) -> Result<AccessLine, LineError> {
        let mut found = AccessLine::default();
        self.read(line, &mut found)?;
        Ok(found)
    }

    /// Parses into `found`, overwriting all fields: an [`AccessLine`] is too large to return by
    /// value for each of many lines. After an error the content of `found` is undefined.
    ///
    /// # Errors
    ///
    /// See [`Parser::parse`].
    pub fn read(&mut self, line: &[u8], found: &mut AccessLine) -> Result<(), LineError> {
        if u32::try_from(line.len()).is_err() {
            return Err(LineError::new(0, Expected::AccessLine));
        }
        let envelope = envelope::of(line);
        match self.parse_at(line, envelope, found) {
            Ok(index) => self.seen.count_usual(index),
            Err(error) => {
                let index = self.parse_otherwise(line, envelope, found);
                let index = index.or_else(|| self.parse_shape(line, envelope, found));
                self.seen.count(index.ok_or(error)?);
            }
        }
        self.seen.count_envelope(found.envelope > 0);
        Ok(())
    }

    /// Parses a line that could not be parsed behind `envelope`.
    #[cold]
    fn parse_otherwise(
        &mut self,
        line: &[u8],
        envelope: Envelope,
        found: &mut AccessLine,
    ) -> Option<usize> {
        let other = if envelope.length > 0 { Envelope::default() } else { envelope::find(line) };
        let envelopes = if other.length == envelope.length {
            &[envelope][..]
        } else {
            if let Ok(index) = self.parse_at(line, other, found) {
                return Some(index);
            }
            &[envelope, other]
        };
        envelopes.iter().find_map(|&envelope| self.parse_object(line, envelope, found))
    }

    /// Parses a line of a server with a form of its own, in a log that has no usual lines. Returns the index of the
    /// form behind those of [`NAMES`].
    #[cold]
    fn parse_shape(
        &mut self,
        line: &[u8],
        envelope: Envelope,
        found: &mut AccessLine,
    ) -> Option<usize> {
        if !matches!(self.wanted, SpecChoice::Auto) || !self.seen.has_no_usual() {
            return None;
        }
        let near = self.near();
        let other = if envelope.length > 0 { Envelope::default() } else { envelope::find(line) };
        let envelopes = [envelope, other];
        let tried = if other.length == envelope.length { &envelopes[..1] } else { &envelopes };
        let index = tried.iter().find_map(|&envelope| {
            self.shapes.parse(line, envelope, near, &mut self.clock, found)
        })?;
        Some(NAMES.len() + index)
    }

    /// Parses an object that is not one of the usual ones.
    fn parse_object(
        &mut self,
        line: &[u8],
        envelope: Envelope,
        found: &mut AccessLine,
    ) -> Option<usize> {
        let start = json::open(line, envelope.length as usize)?;
        self.parse_fields(line, start, envelope, found).or_else(|| {
            let wrapped = json::wrapped(line, start, &mut self.clock)?;
            self.parse_wrapped(line, wrapped, envelope, found)
        })
    }

    /// Parses the object at `start` by its keys, also within objects of any name.
    fn parse_fields(
        &mut self,
        line: &[u8],
        start: usize,
        envelope: Envelope,
        found: &mut AccessLine,
    ) -> Option<usize> {
        let names = match &self.wanted {
            SpecChoice::Plan(_) => return None,
            SpecChoice::Json(names) => names,
            _ => &*USUAL,
        };
        let is_read = [ObjectDepth::Known, ObjectDepth::Any].into_iter().any(|depth| {
            *found = AccessLine::in_envelope(envelope);
            let draft = LineDraft::new(found);
            json::parse(line, start, (names, depth), &mut self.clock, draft).is_ok()
        });
        is_read.then(|| {
            self.named.complete(found);
            4
        })
    }

    /// Parses the text in an object of Docker, the journal or a log shipper. Its spans become those
    /// of the object.
    fn parse_wrapped(
        &mut self,
        line: &[u8],
        wrapped: WrappedLine,
        envelope: Envelope,
        found: &mut AccessLine,
    ) -> Option<usize> {
        let (mut text, mut offsets) = (Vec::new(), Vec::new());
        unescape_with_offsets(wrapped.text.of(line), &mut text, &mut offsets);
        let text = text.trim_ascii_end();
        let inner = envelope::of(text);
        let index = match self.parse_at(text, inner, found) {
            Ok(index) => index,
            Err(_) => self
                .parse_at(text, Envelope::default(), found)
                .ok()
                .or_else(|| {
                    let start = json::open(text, inner.length as usize)?;
                    self.parse_fields(text, start, inner, found)
                })
                .or_else(|| self.parse_shape(text, inner, found))?,
        };
        let first = wrapped.text.start;
        let outer = |at: u32| first + offsets.get(at as usize).copied().unwrap_or_default();
        found.each_span(|span| LineSpan { start: outer(span.start), end: outer(span.end) });
        found.envelope = envelope.length;
        found.envelope_host = found.envelope_host.or(wrapped.host).or(envelope.host);
        found.time = found.time.or(wrapped.time);
        found.is_wrapped = true;
        Some(index)
    }

    /// Parses the line behind `envelope` into `found`; returns the index of its format in
    /// [`NAMES`].
    #[inline]
    fn parse_at(
        &mut self,
        line: &[u8],
        envelope: Envelope,
        found: &mut AccessLine,
    ) -> Result<usize, LineError> {
        let clock = &mut self.clock;
        let (start, fresh) = (envelope.length as usize, || AccessLine::in_envelope(envelope));
        let names = match &self.wanted {
            SpecChoice::Auto if line.get(start) == Some(&b'{') => Some(&*USUAL),
            SpecChoice::Json(names) => Some(names),
            _ => None,
        };
        if let Some(names) = names {
            *found = fresh();
            let draft = LineDraft::new(found);
            json::parse(line, start, (names, ObjectDepth::Known), clock, draft)?;
            if found.request == LoggedRequest::Absent {
                json::find_request(line, start, names, clock, found);
            }
            self.named.complete(found);
            return Ok(4);
        }
        if let SpecChoice::Plan(plan) = &self.wanted {
            *found = fresh();
            return plan.parse(line, start, clock, found).map(|()| 5);
        }
        Ok(match clf::parse(line, envelope, &mut self.heads, clock, found)? {
            ClfVariant::Common => 0,
            ClfVariant::Combined => 1,
            ClfVariant::VhostCommon => 2,
            ClfVariant::VhostCombined => 3,
        })
    }

    pub(super) fn near(&self) -> Option<Timestamp> {
        self.heads.near()
    }

    pub(super) fn clock(&mut self) -> &mut TimestampParser {
        &mut self.clock
    }

    /// The time of a JSON object that may be cut or lack a client.
    pub(super) fn json_time(&mut self, line: &[u8]) -> Option<(Timestamp, Resolution)> {
        let names = match &self.wanted {
            SpecChoice::Json(names) => names,
            _ => &*USUAL,
        };
        let start = memchr::memchr(b'{', line)?;
        json::time(line, start, names, &mut self.clock)
    }

    /// The detected formats for a report, most used first: `combined (1,204 lines), common (3)`.
    #[must_use]
    pub fn format(&self) -> String {
        self.seen.to_string()
    }
}
