//! How many mappings and lines of a server there are in the same seconds: where one are fewer, some are missing.

use crate::attribution::costs;
use crate::time::Timestamp;

/// Seconds that are counted by themselves: records come that much before their lines at most.
const SECONDS: usize = 32;
#[expect(clippy::cast_possible_wrap, reason = "a small number")]
const SPAN: i64 = SECONDS as i64;

/// Mappings and lines of one server.
pub(crate) struct FlowCounts {
    /// By second: which one, its mappings, and its lines.
    seconds: [(i64, f64, f64); SECONDS],
    /// The second of the last line.
    last: i64,
    /// Those of the seconds before it, of late.
    mappings: f64,
    lines: f64,
}

impl FlowCounts {
    pub(crate) const fn new() -> Self {
        Self { seconds: [(i64::MIN, 0.0, 0.0); SECONDS], last: i64::MAX, mappings: 0.0, lines: 0.0 }
    }

    pub(crate) fn count_mapping(&mut self, time: Timestamp) {
        let second = second(time);
        if second >= self.last || self.last == i64::MAX {
            self.at(second).1 += 1.0;
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
        self.at(second).2 += 1.0;
    }

    /// Adds up the seconds before this one.
    #[cold]
    fn close(&mut self, second: i64) {
        for closed in self.last..second.min(self.last.saturating_add(SPAN)) {
            let (_, mappings, lines) = *self.at(closed);
            self.mappings += mappings;
            self.lines += lines;
        }
        self.last = second;
        while self.mappings.max(self.lines) > costs::FLOW_FADE_AT {
            self.mappings /= 2.0;
            self.lines /= 2.0;
        }
    }

    fn at(&mut self, second: i64) -> &mut (i64, f64, f64) {
        let place = usize::try_from(second.rem_euclid(SPAN)).unwrap_or(0);
        let at = &mut self.seconds[place];
        if at.0 != second {
            *at = (second, 0.0, 0.0);
        }
        at
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
