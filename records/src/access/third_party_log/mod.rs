//! Formats of balancer logs: of HAProxy, Envoy, Traffic Server and nginx, pasted from a
//! configuration and compiled to the same [`FormatPlan`] as formats of access lines.

mod envoy;
mod haproxy;
mod json;
mod trafficserver;

use std::sync::{Arc, LazyLock};

use self::haproxy::HaproxyFormat;
use super::envelope::{self, Envelope};
pub(crate) use super::field::BalancerField;
use super::field::{BalancerSpans, LineDraft, LogField};
use super::format::{self, FormatError, FormatProblem};
use super::json::{self as json_line, JsonNames, ObjectDepth};
use super::known;
use super::plan::{FormatPlan, PlanItem};
use super::time_format::{TimeFormat, TimestampParts};
use super::timestamp::{self, TimestampParser};
use super::{AccessLine, Expected, LineError};
use crate::time::{Resolution, Timestamp};

/// The fields of a line in a balancer's log, as spans.
#[derive(Clone, Debug, Default)]
pub(crate) struct BalancerLine {
    /// Fields that web servers log too.
    pub(crate) line: AccessLine,
    pub(crate) parts: BalancerSpans,
}

/// A compiled format.
#[derive(Clone, Debug)]
pub(crate) struct BalancerFormat {
    syntax: LineSyntax,
    pub(crate) manner: FormatTraits,
}

/// How the fields stand in a line.
#[derive(Clone, Debug)]
enum LineSyntax {
    Text(Arc<FormatPlan>),
    Json(Arc<JsonNames>),
}

/// Properties of a format that affect the meaning of its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all may be true")]
pub(crate) struct FormatTraits {
    /// Times are of the end.
    pub(crate) ends: bool,
    /// Times have no zone.
    pub(crate) is_local: bool,
    /// What stands in the place of an absent header also stands there if headers are not logged.
    pub(crate) drops_headers: bool,
    /// Requests escape bytes as `#NN`.
    pub(crate) hash_escapes: bool,
    pub(crate) has_server: bool,
    pub(crate) has_request: bool,
    pub(crate) has_user_agent: bool,
    pub(crate) has_referer: bool,
    pub(crate) has_host: bool,
}

/// HAProxy's own formats for requests and connections, and the formats that our documentation
/// recommends.
pub(crate) const HAPROXY: [&str; 7] = [
    haproxy::HTTP_ALL,
    haproxy::HTTP_PORTS,
    haproxy::HTTP,
    haproxy::TCP_PORTS,
    haproxy::TCP,
    haproxy::HTTPS,
    haproxy::CLF,
];

/// Formats that have a name.
const NAMED: &[&str] = &[
    "haproxy",
    "nginx-stream",
    "conntrack",
    "traefik",
    "caddy",
    "elb",
    "alb",
    "json",
    "common",
    "combined",
];

/// The common log format.
const COMMON: &str = r#"%h %l %u %t "%r" %s %b"#;
/// The combined log format.
const COMBINED: &str = r#"%h %l %u %t "%r" %s %b "%{Referer}i" "%{User-Agent}i""#;
/// Traefik's `common` format, which adds the number of requests, router, server and duration.
const TRAEFIK: &str = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" $connection "$router" "$upstream_addr" ${request_ms}ms"#;

/// The log of AWS's classic load balancer.
const ELB: &str = r#"$time_iso8601 $hostname $remote_addr:$remote_port $upstream_addr $pid $pid $pid $status $pid $pid $body_bytes_sent "$request" "$http_user_agent"$rest"#;
/// The log of AWS's application load balancer. Further fields may stand behind.
const ALB: &str = r#"$scheme $time_iso8601 $hostname $remote_addr:$remote_port $upstream_addr $pid $pid $pid $status $pid $pid $body_bytes_sent "$request" "$http_user_agent"$rest"#;

impl BalancerFormat {
    /// Compiles a pasted format, or the name of a well-known one.
    pub(crate) fn parse(pasted: &str) -> Result<Self, FormatError> {
        match pasted.trim() {
            "traefik" => Self::compile(TRAEFIK, BalancerDialect::Traefik),
            "elb" => Self::compile(ELB, BalancerDialect::Nginx),
            "alb" => Self::compile(ALB, BalancerDialect::Nginx),
            "json" => Ok(Self::json(json::usual(), BalancerDialect::Envoy)),
            "caddy" => Ok(Self::json(json::caddy(), BalancerDialect::Nginx)),
            "common" => Self::compile(COMMON, BalancerDialect::Apache),
            "combined" => Self::compile(COMBINED, BalancerDialect::Apache),
            _ => {
                known::check_name(pasted, NAMED)?;
                let dialect = BalancerDialect::of(pasted);
                if matches!(dialect, BalancerDialect::Nginx | BalancerDialect::Apache) {
                    known::check(pasted)?;
                }
                Self::compile(pasted, dialect)
            }
        }
    }

    fn compile(pasted: &str, dialect: BalancerDialect) -> Result<Self, FormatError> {
        let text = format::unquoted(pasted)?;
        let items = match dialect {
            BalancerDialect::Haproxy => match haproxy::parse(&text)? {
                HaproxyFormat::Text(items) => items,
                HaproxyFormat::Json(keys) => return Ok(Self::json(keys, dialect)),
            },
            BalancerDialect::Envoy => envoy::items(&text)?,
            BalancerDialect::TrafficServer => trafficserver::items(&text)?,
            BalancerDialect::Nginx | BalancerDialect::Traefik => format::nginx(&text, nginx_field)?,
            BalancerDialect::Apache => format::apache(&text, apache_field)?,
        };
        let fields = items.iter().filter_map(|(item, _)| match item {
            PlanItem::Value(field, _) => Some(*field),
            _ => None,
        });
        let fields: Vec<_> = fields.collect();
        let is_local = dialect == BalancerDialect::Haproxy && haproxy::is_local(&items);
        let manner = FormatTraits { is_local, ..FormatTraits::of(&fields, dialect) };
        let plan = format::plan(items).map_err(|error| match error.problem {
            FormatProblem::NoClient => FormatError { problem: FormatProblem::NoVisitor, ..error },
            _ => error,
        })?;
        Ok(Self { syntax: LineSyntax::Text(Arc::new(plan)), manner })
    }

    fn json(keys: Vec<(Vec<Vec<u8>>, LogField, u8)>, dialect: BalancerDialect) -> Self {
        let fields: Vec<_> = keys.iter().map(|(_, field, _)| *field).collect();
        // A key that is not there says nothing.
        let manner = FormatTraits { drops_headers: true, ..FormatTraits::of(&fields, dialect) };
        Self { syntax: LineSyntax::Json(Arc::new(JsonNames::build(keys))), manner }
    }

    /// Parses a line, with or without a syslog envelope.
    pub(crate) fn read(
        &self,
        line: &[u8],
        clock: &mut TimestampParser,
        found: &mut BalancerLine,
    ) -> Result<(), LineError> {
        if u32::try_from(line.len()).is_err() {
            return Err(LineError::new(0, Expected::AccessLine));
        }
        // HAProxy writes a space where its format ends in one; relays of syslog drop it.
        let line = if self.manner.hash_escapes { line.trim_ascii_end() } else { line };
        let envelope = envelope::of(line);
        self.read_behind(envelope, line, clock, found).or_else(|error| {
            // The format may begin like an envelope, or like one within another.
            let others = [envelope::outer(line), Envelope::default()];
            let mut others = others.into_iter().filter(|other| other.length < envelope.length);
            let is_read = others.any(|other| self.read_behind(other, line, clock, found).is_ok());
            if is_read { Ok(()) } else { Err(error) }
        })
    }

    fn read_behind(
        &self,
        envelope: Envelope,
        line: &[u8],
        clock: &mut TimestampParser,
        found: &mut BalancerLine,
    ) -> Result<(), LineError> {
        *found =
            BalancerLine { line: AccessLine::in_envelope(envelope), ..BalancerLine::default() };
        let start = envelope.length as usize;
        let into = (&mut found.line, &mut found.parts);
        let names = match &self.syntax {
            LineSyntax::Text(plan) => return plan.parse_balancers(line, start, clock, into),
            LineSyntax::Json(names) => names,
        };
        let draft = LineDraft::of_balancer(into.0, Some(into.1));
        json_line::parse(line, start, (names, ObjectDepth::Known), clock, draft)?;
        if found.line.time.is_none() {
            let local = found.parts[BalancerField::LocalTime as usize].of(line);
            found.line.time = haproxy::local_time(local, clock);
        }
        Ok(())
    }
}

/// Whether a line is a message of HAProxy about itself and its servers, not about traffic.
pub(crate) fn is_notice_of_haproxy(line: &[u8]) -> bool {
    haproxy::is_notice(line.get(envelope::length(line)..).unwrap_or_default())
}

/// Whether a line may be in one of HAProxy's own formats: cheap, because most lines are not.
pub(crate) fn may_be_haproxys(line: &[u8]) -> bool {
    let rest = line.get(envelope::length(line)..).unwrap_or_default();
    if haproxy::is_notice(rest) {
        return true;
    }
    let Some(space) = rest.iter().take(64).position(|&byte| byte == b' ') else { return false };
    let (client, behind) = (&rest[..space], &rest[space..]);
    if behind.starts_with(b" - - [") {
        // `option httplog clf`: Referer and User-Agent are always empty.
        return memchr::memmem::find(behind, b" \"\" \"\" ").is_some();
    }
    client.contains(&b':') && behind.starts_with(b" [") && behind.get(22) == Some(&b'.')
}

/// Reads the local time at the beginning of a line of nginx's error log, `2026/11/29 15:18:30`, behind an
/// envelope of syslog or not. Returns the time and its end in the line.
pub(crate) fn nginx_error_time(
    line: &[u8],
    clock: &mut TimestampParser,
) -> Option<((Timestamp, Resolution), usize)> {
    static FORM: LazyLock<TimeFormat> =
        LazyLock::new(|| TimeFormat::apache("%Y/%m/%d %H:%M:%S").expect("known conversions"));
    let mut parts = TimestampParts::default();
    let end = FORM.read(line, envelope::length(line), &mut parts, clock)?;
    Some((parts.finish()?, end))
}

/// Time zones are multiples of 15 minutes.
const QUARTER: i64 = 900 * 1_000_000;

/// The zone of local times, in seconds to subtract for UTC, from the timestamp of syslog.
pub(crate) fn zone_of_envelope(line: &[u8], local: i64) -> Option<i64> {
    let at = match line.first()? {
        b'<' => memchr::memchr(b'>', line.get(..5)?)? + 1,
        _ => 0,
    };
    let at = at + if line.get(at..)?.starts_with(b"1 ") { 2 } else { 0 };
    let stamp = timestamp::iso(line, at)?.time.0.as_micros();
    // Syslog's timestamp is from slightly after the end.
    Some((local - stamp + QUARTER / 2).div_euclid(QUARTER) * 900)
}

/// The program that a format belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BalancerDialect {
    Haproxy,
    Envoy,
    TrafficServer,
    Nginx,
    /// nginx's language, with the time of the beginning.
    Traefik,
    Apache,
}

impl BalancerDialect {
    fn of(text: &str) -> Self {
        let is_haproxys = ["%ci", "%[", "%{+", "%{-", "%("].iter().any(|mark| text.contains(mark));
        if format::directive(text, "log-format").is_some() || is_haproxys {
            Self::Haproxy
        } else if format::is_nginx(text) {
            Self::Nginx
        } else if trafficserver::is_its(text) {
            Self::TrafficServer
        } else if envoy::is_its(text) {
            Self::Envoy
        } else {
            Self::Apache
        }
    }
}

impl FormatTraits {
    fn of(fields: &[LogField], dialect: BalancerDialect) -> Self {
        use BalancerField::{LocalTime, Server, ServerName, Servers};
        let has = |wanted: LogField| fields.contains(&wanted);
        Self {
            ends: dialect == BalancerDialect::Nginx,
            is_local: has(LogField::Part(LocalTime)),
            drops_headers: dialect == BalancerDialect::Traefik,
            hash_escapes: dialect == BalancerDialect::Haproxy,
            has_server: [Server, ServerName, Servers].into_iter().any(|it| has(LogField::Part(it))),
            has_request: has(LogField::Request) || has(LogField::Method),
            has_user_agent: has(LogField::UserAgent),
            has_referer: has(LogField::Referer),
            has_host: has(LogField::Host),
        }
    }
}

/// The meaning of an nginx variable if nginx is the balancer.
fn nginx_field(name: &str) -> (LogField, u8) {
    match name {
        "upstream_addr" => (LogField::Part(BalancerField::Servers), 0),
        "upstream_response_length" => (LogField::Part(BalancerField::Bodies), 0),
        "upstream_bytes_received" => (LogField::Part(BalancerField::All), 0),
        "request_ms" => (LogField::Duration(super::field::DurationUnit::Milliseconds), 0),
        "rest" => (LogField::Text, 9),
        "session_time" => (LogField::Duration(super::field::DurationUnit::Seconds), 0),
        "protocol" => (LogField::Word, 9),
        // What the balancer made, and not what the client sent.
        "request_id" | "req_id" | "reqid" => (LogField::RequestId, 0),
        name => format::nginx_field(name),
    }
}

/// The meaning of an Apache directive if Apache is the balancer.
fn apache_field(letter: u8, param: &str, original: bool) -> (LogField, u8) {
    match (letter, param) {
        (b'e', "BALANCER_WORKER_NAME") => (LogField::Part(BalancerField::Server), 0),
        _ => format::apache_field(letter, param, original),
    }
}
