//! What is known about the inputs when a misfit is looked for: counts and small samples, no files.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use pen_records::attribution::text_hash;
use pen_records::misfit::{FitSample, LooseDifference};
use pen_records::time::Timestamp;

use super::kinds::LogKind;

/// Different clients counted of a server.
const CLIENTS: usize = 1_024;
/// Bytes shown of a line that was not understood.
const SHOWN: usize = 80;

/// All facts.
#[derive(Debug, Default)]
pub(crate) struct SurveyFacts {
    /// In the order of the command line.
    pub(crate) servers: Vec<ServerFacts>,
    pub(crate) mapping_logs: Vec<MappingLogFacts>,
    /// The servers that mappings name and that have no log here. Their numbers in the samples follow those of
    /// `servers`.
    pub(crate) others: Vec<NamedServer>,
    /// Options `--server` in use, by place.
    pub(crate) options: BTreeSet<usize>,
    /// Whole requests.
    pub(crate) exact: FitSample,
    /// Requests without protocol, scheme and host.
    pub(crate) loose: FitSample,
}

/// A server that mappings name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedServer {
    pub(crate) name: String,
    /// Whether it is a name in the balancer's configuration, and no address.
    pub(crate) is_alias: bool,
}

/// Two requests that may be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestPair {
    pub(crate) difference: LooseDifference,
    /// As the server logged it.
    pub(crate) logged: String,
    /// As the mapping has it.
    pub(crate) mapped: String,
}

/// The first and the last time in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeSpan {
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
}

impl TimeSpan {
    /// Returns a span that includes `time`, too.
    pub(crate) fn with(span: Option<Self>, time: Timestamp) -> Option<Self> {
        if time == Timestamp::MIN {
            return span;
        }
        let span = span.unwrap_or(Self { first: time, last: time });
        Some(Self { first: span.first.min(time), last: span.last.max(time) })
    }

    pub(crate) fn joined(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let with = |span, other: Self| Self::with(Self::with(span, other.first), other.last);
        other.map_or(one, |other| with(one, other))
    }

    /// Returns the microseconds between two spans, 0 if they overlap.
    pub(crate) fn gap(self, other: Self) -> i64 {
        self.first.micros_since(other.last).max(other.first.micros_since(self.last)).max(0)
    }

    /// Returns the share of this span that `other` covers, from 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
    pub(crate) fn covered_by(self, other: Self) -> f64 {
        let length = self.last.micros_since(self.first).max(1) as f64;
        let overlap = self.last.min(other.last).micros_since(self.first.max(other.first));
        (overlap.max(0) as f64 / length).min(1.0)
    }
}

/// Minutes that a time zone is ahead of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ZoneOffset(pub(crate) i64);

impl ZoneOffset {
    fn opposite(self) -> Self {
        Self(-self.0)
    }

    /// Returns the offset if `lines` are at the times of `mappings` but for a time zone.
    pub(crate) fn between(lines: TimeSpan, mappings: TimeSpan) -> Option<Self> {
        let first = lines.first.micros_since(mappings.first);
        let quarters = first.saturating_add(QUARTER / 2).div_euclid(QUARTER);
        let is_near = |micros: i64| (micros - quarters * QUARTER).abs() <= QUARTER / 3;
        let last = lines.last.micros_since(mappings.last);
        let is_zone =
            quarters != 0 && quarters.abs() <= FARTHEST && is_near(first) && is_near(last);
        is_zone.then_some(Self(quarters * 15))
    }
}

/// A zone of one of two logs with which both logs cover the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ZoneShift {
    OfLines(ZoneOffset),
    OfMappings(ZoneOffset),
}

impl ZoneShift {
    /// Returns the zone of mappings in local time, or else of lines.
    pub(crate) fn new(lines: TimeSpan, mappings: TimeSpan, are_local: bool) -> Option<Self> {
        let zone = ZoneOffset::between(lines, mappings)?;
        Some(if are_local { Self::OfMappings(zone.opposite()) } else { Self::OfLines(zone) })
    }
}

impl fmt::Display for ZoneOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        let minutes = self.0.abs();
        write!(f, "{sign}{:02}{:02}", minutes / 60, minutes % 60)
    }
}

/// Microseconds of a quarter of an hour.
const QUARTER: i64 = 900 * 1_000_000;
/// Quarters of an hour of the farthest zone.
const FARTHEST: i64 = 14 * 4;

/// The facts about a server of the command line.
#[derive(Debug, Default)]
pub(crate) struct ServerFacts {
    /// The name as it was typed, with the port.
    pub(crate) label: String,
    /// Whether mappings name the server.
    pub(crate) is_named: bool,
    /// The ports in mappings of the server's address, if the server was given with a port that is none of these.
    pub(crate) other_ports: BTreeSet<u16>,
    /// Lines looked at, and those understood.
    pub(crate) looked: u64,
    pub(crate) understood: u64,
    /// Understood lines without a request.
    pub(crate) without_request: u64,
    /// Whether a format logs requests without the protocol.
    pub(crate) lacks_protocol: bool,
    /// Lines that were not understood but have a request.
    pub(crate) with_request: u64,
    /// Whether a format was given.
    pub(crate) has_format: bool,
    /// Lines that are not understood, but would be if the format were detected.
    pub(crate) as_detected: u64,
    /// The logs, and the formats that their lines were read by.
    pub(crate) formats: Vec<(String, String)>,
    pub(crate) not_understood: Option<BadLine>,
    pub(crate) span: Option<TimeSpan>,
    pub(crate) clients: ClientCounts,
    /// An example of two requests that differ only in protocol, scheme or host.
    pub(crate) changed: Option<RequestPair>,
    pub(crate) ports: PortFacts,
}

/// The balancer's ports in a server's lines and mappings.
#[derive(Clone, Debug, Default)]
pub(crate) struct PortFacts {
    /// Of each sampled line, the peer's port, or the numbers that may be it.
    pub(crate) lines: Vec<Vec<u16>>,
    pub(crate) mappings: HashSet<u16>,
}

impl PortFacts {
    /// Returns whether most lines name a port of a mapping.
    pub(crate) fn agree(&self) -> bool {
        let known =
            self.lines.iter().filter(|ports| ports.iter().any(|port| self.mappings.contains(port)));
        known.count() * 2 > self.lines.len()
    }

    /// Returns whether most lines have a number that may be a port.
    pub(crate) fn are_logged(&self) -> bool {
        self.lines.iter().filter(|ports| !ports.is_empty()).count() * 2 > self.lines.len()
    }
}

/// The facts about a mapping log.
#[derive(Debug, Default)]
pub(crate) struct MappingLogFacts {
    pub(crate) name: String,
    pub(crate) looked: u64,
    pub(crate) understood: u64,
    /// Understood lines without a time, and those without a request.
    pub(crate) without_time: u64,
    pub(crate) without_request: u64,
    /// The kind of most lines at the beginning.
    pub(crate) kind: LogKind,
    pub(crate) not_understood: Option<BadLine>,
    pub(crate) span: Option<TimeSpan>,
    /// Whether the log could be looked at; standard input cannot.
    pub(crate) is_seen: bool,
}

/// The first line of a log that was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadLine {
    pub(crate) log: String,
    /// From 1.
    pub(crate) number: u64,
    /// What was expected, and where.
    pub(crate) error: String,
    /// The beginning of the line.
    pub(crate) text: String,
    /// The kind of most lines that were not understood.
    pub(crate) kind: LogKind,
}

impl BadLine {
    /// Shortens and escapes a line.
    pub(crate) fn show(line: &[u8]) -> String {
        let cut = &line[..line.len().min(SHOWN)];
        let dots = if cut.len() < line.len() { "…" } else { "" };
        let text = String::from_utf8_lossy(cut);
        let text: String = text
            .chars()
            .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
            .collect();
        format!("{text}{dots}")
    }
}

/// How often each client is in the lines of a server.
#[derive(Debug, Default)]
pub(crate) struct ClientCounts {
    counts: HashMap<u32, u32>,
    lines: u32,
}

impl ClientCounts {
    pub(crate) fn add(&mut self, client: &[u8]) {
        let client = text_hash(client);
        self.lines += 1;
        if self.counts.len() < CLIENTS || self.counts.contains_key(&client) {
            *self.counts.entry(client).or_default() += 1;
        }
    }

    /// Returns whether the clients are visitors: a balancer, or a few, would be in most lines.
    pub(crate) fn are_visitors(&self) -> bool {
        let mut counts: Vec<_> = self.counts.values().copied().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let balancers: u32 = counts.iter().take(BALANCERS).sum();
        counts.len() > BALANCERS && balancers * 2 < self.lines
            || counts.len() >= BALANCERS && counts.len() == self.lines as usize
    }
}

impl ClientCounts {
    /// Returns whether as many lines are of one client as found a mapping, of several clients: this one is the balancer, and
    /// the others are hosts that ask past it.
    pub(crate) fn has_one_with_share(&self, found: f64) -> bool {
        let share = |&lines: &u32| f64::from(lines) / f64::from(self.lines.max(1));
        let is_one = |share: f64| (0.1..0.9).contains(&share) && (share - found).abs() < 0.05;
        self.counts.values().map(share).any(is_one)
    }
}

/// Balancers in front of a server that are common.
const BALANCERS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visitors_are_many_and_balancers_few() {
        let of = |clients: &[&str]| {
            let mut counts = ClientCounts::default();
            clients.iter().for_each(|client| counts.add(client.as_bytes()));
            counts.are_visitors()
        };
        assert!(of(&["a", "b", "c"]) && of(&["a", "b", "c", "d", "e", "f", "g", "h"]));
        assert!(!of(&["a"; 9]) && !of(&["a", "b"]) && !of(&["a", "b", "a", "b", "a"]));
        assert!(!of(&["a", "a", "a", "a", "a", "a", "b", "c", "d", "e"]));
        assert!(!of(&[]));
    }

    #[test]
    fn lines_of_another_balancer_are_a_share() {
        let mut counts = ClientCounts::default();
        (0..100).for_each(|n| counts.add(if n % 5 < 2 { b"10.0.0.8" } else { b"10.0.0.9" }));
        assert!(counts.has_one_with_share(0.42) && !counts.has_one_with_share(0.2));
        let mut one = ClientCounts::default();
        (0..100).for_each(|_| one.add(b"10.0.0.9"));
        assert!(!one.has_one_with_share(1.0) && !one.has_one_with_share(0.4));
    }

    #[test]
    fn spans_have_gaps_and_overlap() {
        let at = Timestamp::from_seconds;
        let span = |first, last| TimeSpan { first: at(first), last: at(last) };
        assert_eq!(span(0, 10).gap(span(20, 30)), 10_000_000);
        assert_eq!(span(20, 30).gap(span(0, 10)), 10_000_000);
        assert_eq!(span(0, 10).gap(span(5, 30)), 0);
        assert!((span(0, 10).covered_by(span(5, 30)) - 0.5).abs() < 0.001);
        assert!(span(0, 10).covered_by(span(20, 30)) == 0.0);
        assert!((span(0, 0).covered_by(span(0, 0))).abs() < 0.001);
        assert_eq!(TimeSpan::with(None, Timestamp::MIN), None);
        assert_eq!(TimeSpan::joined(Some(span(0, 1)), Some(span(5, 6))), Some(span(0, 6)));
    }

    #[test]
    fn logs_of_one_time_in_two_zones() {
        let span = |first, last| TimeSpan {
            first: Timestamp::from_seconds(first),
            last: Timestamp::from_seconds(last),
        };
        let zone = |lines| ZoneOffset::between(lines, span(0, 600)).map(|zone| zone.to_string());
        assert_eq!(zone(span(7_210, 7_790)).as_deref(), Some("+0200"));
        assert_eq!(zone(span(-12_590, -12_010)).as_deref(), Some("-0330"));
        assert_eq!(zone(span(10, 590)), None);
        assert_eq!(zone(span(7_210, 9_790)), None, "longer");
        assert_eq!(zone(span(86_400, 87_000)), None, "another day");
    }

    #[test]
    fn a_shown_line_is_short_and_has_no_controls() {
        assert_eq!(BadLine::show(b"a\tb\x00"), "a\u{FFFD}b\u{FFFD}");
        assert_eq!(BadLine::show(&[b'x'; 200]).chars().count(), 81);
    }
}
