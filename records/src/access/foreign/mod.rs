//! Formats of balancers' logs: HAProxy's, Envoy's, Traffic Server's and nginx's, pasted as they stand in a
//! configuration, and compiled to the same [`Plan`] as formats of access lines.

mod envoy;
mod haproxy;
mod trafficserver;

use std::sync::Arc;

use super::clock::{self, Clock};
pub(crate) use super::field::Part;
use super::field::{Field, Parts};
use super::format::{self, FormatError, FormatProblem, Placed};
use super::plan::{Item, Plan};
use super::{AccessLine, Expected, LineError, envelope};

/// What a line of a balancer's log says, as spans.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// What web servers log, too.
    pub(crate) line: AccessLine,
    pub(crate) parts: Parts,
}

/// A compiled format.
#[derive(Clone, Debug)]
pub(crate) struct Format {
    plan: Arc<Plan>,
    pub(crate) manner: Manner,
}

/// How the values of a format are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all may be true")]
pub(crate) struct Manner {
    /// Its times are those of the end.
    pub(crate) ends: bool,
    /// Its times have no zone.
    pub(crate) is_local: bool,
    /// What is no text is `#NN` in its requests.
    pub(crate) hash_escapes: bool,
    pub(crate) has_request: bool,
    pub(crate) has_user_agent: bool,
    pub(crate) has_referer: bool,
    pub(crate) has_host: bool,
}

/// HAProxy's own formats for requests and connections, and those that our documents recommend.
pub(crate) const HAPROXY: [&str; 6] = [
    haproxy::HTTP_ALL,
    haproxy::HTTP_PORTS,
    haproxy::HTTP,
    haproxy::TCP_PORTS,
    haproxy::TCP,
    haproxy::HTTPS,
];

impl Format {
    /// Compiles a pasted format.
    pub(crate) fn parse(pasted: &str) -> Result<Self, FormatError> {
        let dialect = Dialect::of(pasted);
        let text = format::unquoted(pasted)?;
        let items = match dialect {
            Dialect::Haproxy => haproxy::items(&text)?,
            Dialect::Envoy => envoy::items(&text)?,
            Dialect::TrafficServer => trafficserver::items(&text)?,
            Dialect::Nginx => format::nginx(&text, nginx_field)?,
            Dialect::Apache => format::apache(&text, apache_field)?,
        };
        let manner = Manner::of(&items, dialect);
        let has_server = |(item, _): &Placed| {
            matches!(
                item,
                Item::Value(Field::Part(Part::Server | Part::Servers | Part::ServerName), _)
            )
        };
        if !items.iter().any(has_server) {
            return Err(FormatError::new(0, FormatProblem::NoServer));
        }
        Ok(Self { plan: Arc::new(format::plan(items)?), manner })
    }

    /// Reads a line, in a syslog envelope or without.
    pub(crate) fn read(
        &self,
        line: &[u8],
        clock: &mut Clock,
        found: &mut Found,
    ) -> Result<(), LineError> {
        if u32::try_from(line.len()).is_err() {
            return Err(super::clf::error(0, Expected::AccessLine));
        }
        let start = envelope::length(line);
        let envelope = u32::try_from(start).unwrap_or_default();
        *found =
            Found { line: AccessLine { envelope, ..AccessLine::default() }, ..Found::default() };
        self.plan.parse_balancers(line, start, clock, (&mut found.line, &mut found.parts))
    }
}

/// Whether a line may be one of HAProxy's own formats: cheap, for lines that mostly are not.
pub(crate) fn may_be_haproxys(line: &[u8]) -> bool {
    let rest = line.get(envelope::length(line)..).unwrap_or_default();
    let Some(space) = rest.iter().take(64).position(|&byte| byte == b' ') else { return false };
    let (client, behind) = (&rest[..space], &rest[space..]);
    client.contains(&b':') && behind.starts_with(b" [") && behind.get(22) == Some(&b'.')
}

/// Zones are quarters of hours.
const QUARTER: i64 = 900 * 1_000_000;

/// The zone of local times, in seconds to take away for UTC: what syslog's own stamp says.
pub(crate) fn zone_of_envelope(line: &[u8], local: i64) -> Option<i64> {
    let at = match line.first()? {
        b'<' => memchr::memchr(b'>', line.get(..5)?)? + 1,
        _ => 0,
    };
    let at = at + if line.get(at..)?.starts_with(b"1 ") { 2 } else { 0 };
    let stamp = clock::iso(line, at)?.time.0.as_micros();
    // The stamp is of the end, a little later.
    Some((local - stamp + QUARTER / 2).div_euclid(QUARTER) * 900)
}

/// Whose format a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Haproxy,
    Envoy,
    TrafficServer,
    Nginx,
    Apache,
}

impl Dialect {
    fn of(text: &str) -> Self {
        if format::directive(text, "log-format").is_some() || text.contains("%ci") {
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

impl Manner {
    fn of(items: &[Placed], dialect: Dialect) -> Self {
        let has = |wanted: Field| {
            items.iter().any(|(item, _)| matches!(item, Item::Value(field, _) if *field == wanted))
        };
        Self {
            ends: dialect == Dialect::Nginx,
            is_local: dialect == Dialect::Haproxy && haproxy::is_local(items),
            hash_escapes: dialect == Dialect::Haproxy,
            has_request: has(Field::Request) || has(Field::Method),
            has_user_agent: has(Field::UserAgent),
            has_referer: has(Field::Referer),
            has_host: has(Field::Host),
        }
    }
}

/// What a variable of nginx holds where nginx is the balancer.
fn nginx_field(name: &str) -> (Field, u8) {
    match name {
        "upstream_addr" => (Field::Part(Part::Servers), 0),
        "upstream_response_length" => (Field::Part(Part::Body), 0),
        "upstream_bytes_received" => (Field::Part(Part::All), 0),
        "session_time" => (Field::Duration(super::field::Unit::Seconds), 0),
        "protocol" => (Field::Word, 9),
        name => format::nginx_field(name),
    }
}

/// The same of Apache's directives.
fn apache_field(letter: u8, param: &str, original: bool) -> (Field, u8) {
    match (letter, param) {
        (b'e', "BALANCER_WORKER_NAME") => (Field::Part(Part::Server), 0),
        _ => format::apache_field(letter, param, original),
    }
}
