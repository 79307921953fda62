//! Whether numbers in a server's lines are ports of the balancer's connections, and how long after the close of
//! its connection a line may come.
//!
//! A number is evidence for its field if a connection has it as a port and suits the line: has the line's request
//! outstanding, or was open a short while ago. Few numbers do so by chance, where the balancer has few
//! connections; so the first or second line may be enough. Request times and sizes are found out as soon.

use super::odds_of_chance;
use crate::attribution::costs;
use crate::attribution::line::LineOrigin;
use crate::time::Timestamp;

/// A field of the lines of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortField {
    pub(crate) origin: LineOrigin,
    /// How many fields there are behind the known ones, and which of them this is, counted from 0. No fields
    /// stand for the field that the format names as the port.
    pub(crate) place: (u8, u8),
}

impl PortField {
    /// Whether the format names the field as the port.
    const fn is_named(self) -> bool {
        self.place.0 == 0
    }
}

/// How a number was found among the ports of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortFinding {
    /// How many connections might have been found so.
    pub(crate) rivals: u32,
    /// Whether the connection had the line's request outstanding.
    pub(crate) by_request: bool,
}

/// What is known of the fields of a server's lines that may be ports.
pub(crate) struct PortEvidence {
    fields: Vec<FieldEvidence>,
    lateness: Lateness,
    /// How long before the opening of their connections lines come: by clocks that differ.
    earliness: Lateness,
    /// Share of lines, in parts per million, that come before the opening of their connections: a moving average.
    early: i64,
    /// Share of lines, in parts per million, whose request is none of all those of their connection: a moving average.
    without_request: i64,
    /// Share of lines, in parts per million, whose request was not found on the connection of their port although
    /// the connection's requests are known: a moving average.
    strange: i64,
}

/// The evidence for one field.
#[derive(Clone, Copy)]
struct FieldEvidence {
    field: PortField,
    /// By how much the field is a port rather than not, in thousandths of a natural logarithm.
    weight: i64,
    /// The last number that was found.
    last: u16,
}

impl PortEvidence {
    pub(crate) fn new() -> Self {
        let strange = costs::PORT_REQUESTS_STRANGE / 2;
        Self {
            fields: Vec::new(),
            lateness: Lateness::default(),
            earliness: Lateness::default(),
            early: 0,
            without_request: 0,
            strange,
        }
    }

    /// Whether the field is a port beyond doubt.
    pub(crate) fn is_port(&self, field: PortField) -> bool {
        self.weight(field) >= costs::PORT_KNOWN
    }

    /// Whether a few misses would leave the field a port.
    pub(crate) fn is_settled(&self, field: PortField) -> bool {
        self.weight(field) > costs::PORT_SETTLED
    }

    /// Returns the evidence for a field, in thousandths of a natural logarithm.
    pub(crate) fn weight(&self, field: PortField) -> i64 {
        self.fields.iter().find(|it| it.field == field).map_or(0, |it| it.weight)
    }

    /// Learns that a number in the field was found among the ports of connections. A number that stands in each
    /// line shows nothing, unless the requests are the connection's too.
    pub(crate) fn found(&mut self, field: PortField, number: u16, finding: PortFinding) {
        let evidence = self.of(field);
        if evidence.last != number || finding.by_request {
            let weight = odds_of_chance(finding.rivals, costs::PORTS_OF_A_BALANCER);
            evidence.weight = (evidence.weight + weight).min(costs::PORT_EVIDENCE_MOST);
        }
        evidence.last = number;
    }

    /// Learns that no connection has the number in the field.
    pub(crate) fn missed(&mut self, field: PortField) {
        let step = if field.is_named() { costs::PORT_MISSED_NAMED } else { costs::PORT_MISSED };
        let evidence = self.of(field);
        evidence.weight = (evidence.weight - step).max(costs::PORT_EVIDENCE_LEAST);
    }

    /// Learns how long after the close of its connection a line came, in microseconds.
    pub(crate) fn came_late(&mut self, micros: i64, now: Timestamp) {
        self.lateness.learn(micros, now);
    }

    /// Learns how long before the opening of its connection a line came, in microseconds beyond its stamp's resolution.
    pub(crate) fn came_early(&mut self, micros: i64, now: Timestamp) {
        self.earliness.learn(micros, now);
        let share = if micros > 0 { 1_000_000 } else { 0 };
        self.early += (share - self.early) / costs::SHARE_MEMORY;
    }

    /// Whether hardly any line comes before the opening of its connection.
    pub(crate) const fn is_rarely_early(&self) -> bool {
        self.early < costs::PORT_EARLY_RARE
    }

    /// Whether a line comes too long before the opening of a connection to be of this connection, as far as is known.
    pub(crate) fn is_too_early(&self, micros: i64) -> bool {
        micros > costs::PORT_LATE_UNIT && micros > self.earliness.bound().unwrap_or(i64::MAX)
    }

    /// Learns whether a line's request was found on the connection of its port.
    pub(crate) fn learn_request(&mut self, is_found: bool) {
        let share = if is_found { 0 } else { 1_000_000 };
        self.strange += (share - self.strange) / costs::PORT_REQUESTS_MEMORY;
    }

    /// Learns whether a connection never had a line's request.
    pub(crate) const fn learn_without_request(&mut self, is_without: bool) {
        let share = if is_without { 1_000_000 } else { 0 };
        self.without_request += (share - self.without_request) / costs::SHARE_MEMORY;
    }

    /// Whether hardly any line has a request that is none of its connection.
    pub(crate) const fn names_requests(&self) -> bool {
        self.has_requests() && self.without_request < costs::PORT_WITHOUT_REQUEST_RARE
    }

    /// Whether lines have the requests that records name, so that a closed connection without a line's request is
    /// not the line's.
    pub(crate) const fn has_requests(&self) -> bool {
        self.strange < costs::PORT_REQUESTS_STRANGE
    }

    /// Whether a line comes too long after the close of a connection to be of this connection. Of a connection
    /// whose requests are known, and this line's is none of them, much less is believed.
    pub(crate) fn is_too_late(&self, micros: i64, has_requests: bool) -> bool {
        let at_first = if has_requests { costs::PORT_LATE_UNIT } else { costs::PORT_RECENT };
        micros > costs::PORT_LATE_UNIT && micros > self.lateness.bound().unwrap_or(at_first)
    }

    fn of(&mut self, field: PortField) -> &mut FieldEvidence {
        let known = self.fields.iter().position(|it| it.field == field);
        let place = known.unwrap_or_else(|| {
            let new = FieldEvidence { field, weight: 0, last: 0 };
            if self.fields.len() < costs::PORT_FIELDS {
                self.fields.push(new);
                return self.fields.len() - 1;
            }
            // The one with the least evidence either way.
            let least = (0..self.fields.len()).min_by_key(|&at| self.fields[at].weight.abs());
            let place = least.unwrap_or(0);
            self.fields[place] = new;
            place
        });
        &mut self.fields[place]
    }
}

/// How long after the close of their connections lines come, or before their opening: counts by octaves of [`costs::PORT_LATE_UNIT`].
#[derive(Debug, Default)]
struct Lateness {
    counts: [u32; costs::PORT_LATE_OCTAVES],
    total: u32,
    /// The times of the first line and of the last.
    times: Option<(Timestamp, Timestamp)>,
}

impl Lateness {
    fn learn(&mut self, micros: i64, now: Timestamp) {
        let units = (micros.max(1) - 1) / costs::PORT_LATE_UNIT;
        let octave = (i64::BITS - units.leading_zeros()) as usize;
        self.counts[octave.min(costs::PORT_LATE_OCTAVES - 1)] += 1;
        self.total += 1;
        self.times = Some(self.times.map_or((now, now), |(first, last)| (first, last.max(now))));
        if self.total >= costs::PORT_LATE_FADE_AT {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    /// Returns the longest time that is no chance find; `None` while too little is known. Connections of a port that
    /// comes again are found by chance at all times alike, as far back as any are known.
    fn bound(&self) -> Option<i64> {
        let (first, last) = self.times.filter(|_| self.total >= costs::PORT_LATE_KNOWN_AFTER)?;
        let span = last.micros_since(first).clamp(costs::PORT_LATE_UNIT, costs::PORT_LATE_SPAN);
        let upper = |octave: usize| costs::PORT_LATE_UNIT << octave;
        let is_common = |octave: usize, count: u32| {
            let by_chance = i64::from(self.total) * upper(octave);
            count * costs::PORT_LATE_SHARE >= self.total
                && i64::from(count) * span >= by_chance.min(i64::MAX / 8) * costs::PORT_LATE_DENSER
        };
        let common = (0..self.counts.len()).rfind(|&octave| is_common(octave, self.counts[octave]));
        Some(common.map_or(costs::PORT_LATE_UNIT, |octave| upper(octave) * 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELD: PortField = PortField { origin: LineOrigin(0), place: (1, 0) };

    fn finding(rivals: u32) -> PortFinding {
        PortFinding { rivals, by_request: false }
    }

    #[test]
    fn few_lines_show_a_port_where_the_balancer_has_few_connections() {
        for (rivals, lines) in [(1, 1), (30, 2), (1_000, 3), (10_000, 10)] {
            let mut ports = PortEvidence::new();
            let known = (1..=20).find(|&line| {
                ports.found(FIELD, line, finding(rivals));
                ports.is_port(FIELD)
            });
            assert_eq!(known, Some(lines), "{rivals}");
        }
        let mut ports = PortEvidence::new();
        (1..20).for_each(|line| ports.found(FIELD, line, finding(60_000)));
        assert!(!ports.is_port(FIELD), "any number is found");
    }

    #[test]
    fn a_number_that_stands_in_each_line_shows_nothing() {
        let mut ports = PortEvidence::new();
        (0..20).for_each(|_| ports.found(FIELD, 8_080, finding(1_000)));
        assert!(!ports.is_port(FIELD));
        let by_request = PortFinding { by_request: true, ..finding(1_000) };
        (0..20).for_each(|_| ports.found(FIELD, 8_080, by_request));
        assert!(ports.is_port(FIELD), "one connection has all these requests");
    }

    #[test]
    fn a_field_that_is_no_port_any_more_is_found_out_and_learnt_again() {
        let mut ports = PortEvidence::new();
        (1..100).for_each(|line| ports.found(FIELD, line, finding(5)));
        let misses = (1..100).find(|_| {
            ports.missed(FIELD);
            !ports.is_port(FIELD)
        });
        assert_eq!(misses, Some(6));
        (1..100).for_each(|_| ports.missed(FIELD));
        (1..4).for_each(|line| ports.found(FIELD, line, finding(5)));
        assert!(ports.is_port(FIELD));
        let other = PortField { place: (2, 0), ..FIELD };
        assert!(!ports.is_port(other), "another format");
    }

    #[test]
    fn fields_are_bounded_and_the_known_ones_are_kept() {
        let mut ports = PortEvidence::new();
        (1..9).for_each(|line| ports.found(FIELD, line, finding(1)));
        for origin in 1..1_000 {
            ports.missed(PortField { origin: LineOrigin(origin), ..FIELD });
        }
        assert!(ports.is_port(FIELD));
        assert_eq!(ports.fields.len(), costs::PORT_FIELDS);
    }

    #[test]
    fn lines_come_as_late_as_most_do_and_chance_finds_do_not_count() {
        let second = 1_000_000;
        let at = |second| Timestamp::from_seconds(1_000 + second);
        for span in [40, 600, 6_000] {
            let mut late = Lateness::default();
            assert_eq!(late.bound(), None);
            (0..100).for_each(|step| late.learn(0, at(step * span / 100)));
            assert!(late.bound().unwrap() <= second, "{late:?}");
            // As many by chance, at any time since the start, or of ten minutes.
            let back = |step: i64| step * span.min(600) * second / 100;
            (0..100).for_each(|step| late.learn(back(step), at(span)));
            assert!(late.bound().unwrap() <= second, "{late:?}");
        }
        let mut late = Lateness::default();
        (0..100).for_each(|step| late.learn(15 * second, at(step * 6)));
        let bound = late.bound().unwrap();
        assert!((15 * second..60 * second).contains(&bound), "{bound}");
        late.learn(i64::MAX, Timestamp::MAX);
        late.learn(i64::MIN, Timestamp::MIN);
        late.bound();
    }
}
