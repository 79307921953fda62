//! How many mappings and lines of a server there are in the same seconds: where one are fewer, some are missing.

use crate::attribution::costs;
use crate::time::Timestamp;

/// Seconds that are counted by themselves: records come that much before their lines at most.
const SECONDS: usize = 32;
#[expect(clippy::cast_possible_wrap, reason = "a small number")]
const SPAN: i64 = SECONDS as i64;

/// Mappings and lines of one server.
pub(crate) struct FlowCounts {
    seconds: [FlowSecond; SECONDS],
    /// The second of the last line.
    last: i64,
    /// Those of the seconds before it, of late.
    mappings: f64,
    lines: f64,
    /// How many more lines than mappings there were before it.
    lead: i64,
    /// All mappings, and all lines.
    all_mappings: i64,
    all_lines: i64,
    /// The lines of the second before it.
    before: f64,
}

/// Mappings and lines of one second.
#[derive(Clone, Copy)]
struct FlowSecond {
    second: i64,
    mappings: f64,
    lines: f64,
    /// How many more lines than mappings there were before.
    lead: Option<i64>,
}

impl FlowSecond {
    const fn new(second: i64) -> Self {
        Self { second, mappings: 0.0, lines: 0.0, lead: None }
    }
}

impl FlowCounts {
    pub(crate) const fn new() -> Self {
        Self {
            seconds: [FlowSecond::new(i64::MIN); SECONDS],
            last: i64::MAX,
            mappings: 0.0,
            lines: 0.0,
            lead: 0,
            all_mappings: 0,
            all_lines: 0,
            before: 0.0,
        }
    }

    pub(crate) fn count_mapping(&mut self, time: Timestamp) {
        let second = second(time);
        self.all_mappings += 1;
        if second >= self.last || self.last == i64::MAX {
            self.at(second).mappings += 1.0;
        }
    }

    pub(crate) fn count_line(&mut self, time: Timestamp) {
        let second = second(time);
        if self.last == i64::MAX {
            self.last = second;
        }
        if second > self.last {
            self.close(second);
        }
        self.at(second).lines += 1.0;
        self.all_lines += 1;
    }

    /// Adds up the seconds before this one.
    #[cold]
    #[expect(clippy::cast_possible_truncation, reason = "whole numbers of one second")]
    fn close(&mut self, second: i64) {
        for closed in self.last..second.min(self.last.saturating_add(SPAN)) {
            let FlowSecond { mappings, lines, .. } = *self.at(closed);
            self.mappings += mappings;
            self.lines += lines;
            self.before = lines;
        }
        let later = self.seconds.iter().filter(|it| it.second >= second);
        let later = later.map(|it| it.mappings).sum::<f64>() as i64;
        self.lead = self.all_lines - (self.all_mappings - later);
        for skipped in self.last.saturating_add(1)..=second.min(self.last.saturating_add(SPAN)) {
            self.at(skipped).lead = Some(self.lead);
        }
        self.last = second;
        while self.mappings.max(self.lines) > costs::FLOW_FADE_AT {
            self.mappings /= 2.0;
            self.lines /= 2.0;
        }
    }

    fn at(&mut self, second: i64) -> &mut FlowSecond {
        let at = &mut self.seconds[place(second)];
        if at.second != second {
            *at = FlowSecond::new(second);
        }
        at
    }

    /// Returns how many more lines than mappings there were before the second of this time; as far as is known, if it
    /// is not over.
    pub(crate) fn lead(&self, time: Timestamp) -> i64 {
        let second = second(time);
        let at = &self.seconds[place(second)];
        let known = if at.second == second { at.lead } else { None };
        known.unwrap_or(self.lead)
    }

    /// Returns by how much a lead changes by chance, at most: requests are underway when a second ends.
    #[expect(clippy::cast_possible_truncation, reason = "a number of lines")]
    pub(crate) fn lead_by_chance(&self) -> i64 {
        costs::LEAD_BY_CHANCE + (self.before / costs::LEAD_LINES) as i64
    }

    /// Returns the least share of mappings without a line.
    pub(crate) fn left(&self) -> f64 {
        excess(self.mappings, self.lines)
    }

    /// Returns the least share of lines without a mapping.
    pub(crate) fn alone(&self) -> f64 {
        excess(self.lines, self.mappings)
    }
}

/// Returns which share of `some` are more than `others`, beyond chance.
fn excess(some: f64, others: f64) -> f64 {
    if some < costs::FLOW_KNOWN_AFTER {
        0.0
    } else {
        1.0 - (others / some + costs::FLOW_CHANCE).min(1.0)
    }
}

fn place(second: i64) -> usize {
    usize::try_from(second.rem_euclid(SPAN)).unwrap_or(0)
}

const fn second(time: Timestamp) -> i64 {
    time.as_micros().div_euclid(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_seen_by_the_counts_of_the_same_seconds() {
        for (every, left, alone) in [(10, 0.85, 0.0), (1, 0.0, 0.0)] {
            let mut flows = FlowCounts::new();
            for i in 0..3_000 {
                // Mappings come before the lines of the same second.
                flows.count_mapping(Timestamp::from_micros((i + 200) * 10_000));
                if i % every == 0 {
                    flows.count_line(Timestamp::from_micros(i * 10_000));
                }
            }
            assert!((flows.left() - left).abs() < 0.08, "{}", flows.left());
            assert!((flows.alone() - alone).abs() < 0.08, "{}", flows.alone());
        }
    }
}
