//! What the user asked for ([`Spec`]), and reading line after line by it ([`Parser`]).

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use super::clf::{self, Shape};
use super::clock::Clock;
use super::field::{Field, Unit};
use super::format::{self, FormatError, FormatProblem};
use super::head::{Heads, Placement};
use super::json::{self, Names};
use super::plan::Plan;
use super::{AccessLine, Expected, LineError, envelope, template};

/// The format of access lines as the user asked for it.
#[derive(Clone, Debug, Default)]
pub struct Spec(Wanted);

#[derive(Clone, Debug, Default)]
enum Wanted {
    #[default]
    Auto,
    Named(Placement),
    Plan(Arc<Plan>),
    Json(Arc<Names>),
}

static USUAL: LazyLock<Arc<Names>> = LazyLock::new(|| Arc::new(Names::usual()));

impl Spec {
    /// Each line shows what it is.
    #[must_use]
    pub fn auto() -> Self {
        Self::default()
    }

    /// Reads what stands behind `--format`:
    ///
    /// - `auto`, `common`, `combined`, `vhost_combined` or `json`;
    /// - `json:client=a.b,time=t,…`: where in a JSON object a field is, dots walk into objects;
    /// - a `LogFormat` of Apache or a `log_format` of nginx, with or without the directive round it.
    ///   The client is the first of `%h`, `%a`, `$remote_addr` and `$realip_remote_addr` in it.
    ///
    /// # Errors
    ///
    /// Says what is wrong with `text`, and at which byte.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let wanted = match text.trim() {
            "auto" => Wanted::Auto,
            "common" | "combined" => Wanted::Named(Placement::First),
            "vhost_combined" => Wanted::Named(Placement::AfterHost),
            "json" => Wanted::Json(USUAL.clone()),
            _ => match text.strip_prefix("json:") {
                Some(fields) => Wanted::Json(Arc::new(named(fields)?)),
                None => pasted(text)?,
            },
        };
        Ok(Self(wanted))
    }
}

fn pasted(text: &str) -> Result<Wanted, FormatError> {
    if format::is_nginx(text)
        && let Some(names) = template::names(&format::inner(text)?)
    {
        return Ok(Wanted::Json(Arc::new(names)));
    }
    Ok(Wanted::Plan(Arc::new(format::compile(text)?)))
}

/// `field=path,…`, what stands behind `json:`.
pub(super) fn named(fields: &str) -> Result<Names, FormatError> {
    let mut names = Names::usual();
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

fn json_field(name: &str) -> Option<Field> {
    Some(match name {
        "client" => Field::Client,
        "port" => Field::PeerPort,
        "server_port" => Field::ServerPort,
        "time" => Field::Time,
        "request" => Field::Request,
        "method" => Field::Method,
        "uri" => Field::Target,
        "query" => Field::Query,
        "protocol" => Field::Protocol,
        "status" => Field::Status,
        "bytes" => Field::Bytes,
        "referer" => Field::Referer,
        "user_agent" => Field::UserAgent,
        "host" => Field::Host,
        "user" => Field::User,
        "forwarded_for" => Field::ForwardedFor,
        "nth" => Field::Nth,
        "duration" => Field::Duration(Unit::Seconds),
        _ => return None,
    })
}

/// Reads the access lines of one server or one file.
#[derive(Clone, Debug)]
pub struct Parser {
    wanted: Wanted,
    heads: Heads,
    clock: Clock,
    seen: Seen,
}

/// How many lines were read by each way of reading them.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    lines: [u64; NAMES.len()],
    enveloped: u64,
}

const NAMES: [&str; 6] =
    ["common", "combined", "vhost_common", "vhost_combined", "json", "the given format"];

impl Parser {
    /// One that has seen no lines yet.
    #[must_use]
    pub fn new(spec: &Spec) -> Self {
        let placement = match spec.0 {
            Wanted::Named(placement) => placement,
            _ => Placement::ByLine,
        };
        Self {
            wanted: spec.0.clone(),
            heads: Heads::new(placement),
            clock: Clock::default(),
            seen: Seen::default(),
        }
    }

    /// Reads `line`, which has no LF; a CR at its end is no part of any field.
    ///
    /// # Errors
    ///
    /// If it is no access line, or not one of the format asked for.
    #[inline]
    pub fn parse(&mut self, line: &[u8]) -> Result<AccessLine, LineError> {
        let mut found = AccessLine::default();
        self.read(line, &mut found)?;
        Ok(found)
    }

    /// The same into `found`, whatever that held: an [`AccessLine`] is large to hand back by value
    /// for each of many lines. After an error `found` means nothing.
    ///
    /// # Errors
    ///
    /// See [`Parser::parse`].
    pub fn read(&mut self, line: &[u8], found: &mut AccessLine) -> Result<(), LineError> {
        if u32::try_from(line.len()).is_err() {
            return Err(clf::error(0, Expected::AccessLine));
        }
        let envelope = envelope::length(line);
        let read = self.parse_at(line, envelope, found);
        let index = match read {
            Err(_) if envelope > 0 => self.parse_at(line, 0, found).or(read)?,
            read => read?,
        };
        self.seen.lines[index] += 1;
        self.seen.enveloped += u64::from(found.envelope > 0);
        Ok(())
    }

    /// Reads the line that starts at `start` into `found`; returns the place of its format in
    /// [`NAMES`].
    #[inline]
    fn parse_at(
        &mut self,
        line: &[u8],
        start: usize,
        found: &mut AccessLine,
    ) -> Result<usize, LineError> {
        let clock = &mut self.clock;
        let fresh = AccessLine { envelope: clf::span(start, start).start, ..AccessLine::default() };
        match &self.wanted {
            Wanted::Auto if line.get(start) == Some(&b'{') => {
                *found = fresh;
                return json::parse(line, start, &USUAL, clock, found).map(|()| 4);
            }
            Wanted::Json(names) => {
                *found = fresh;
                return json::parse(line, start, names, clock, found).map(|()| 4);
            }
            Wanted::Plan(plan) => {
                *found = fresh;
                return plan.parse(line, start, clock, found).map(|()| 5);
            }
            Wanted::Auto | Wanted::Named(_) => {}
        }
        Ok(match clf::parse(line, start, &mut self.heads, clock, found)? {
            Shape::Common => 0,
            Shape::Combined => 1,
            Shape::VhostCommon => 2,
            Shape::VhostCombined => 3,
        })
    }

    /// The formats found, most used first, as a report names them: `combined (1,204 lines), common
    /// (3)`.
    #[must_use]
    pub fn format(&self) -> String {
        let mut found: Vec<_> =
            NAMES.into_iter().zip(self.seen.lines).filter(|(_, lines)| *lines > 0).collect();
        found.sort_by_key(|(_, lines)| std::cmp::Reverse(*lines));
        let mut text = String::new();
        for (index, (name, lines)) in found.into_iter().enumerate() {
            let (comma, unit) = match (index, lines) {
                (0, 1) => ("", " line"),
                (0, _) => ("", " lines"),
                _ => (", ", ""),
            };
            let _ = write!(text, "{comma}{name} ({}{unit})", Grouped(lines));
        }
        if text.is_empty() {
            text.push_str("none found");
        }
        if self.seen.enveloped > 0 {
            let _ = write!(text, ", {} in a syslog envelope", Grouped(self.seen.enveloped));
        }
        text
    }
}

/// A number with its thousands apart.
struct Grouped(u64);

impl std::fmt::Display for Grouped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 < 1_000 {
            return self.0.fmt(f);
        }
        write!(f, "{},{:03}", Self(self.0 / 1_000), self.0 % 1_000)
    }
}
