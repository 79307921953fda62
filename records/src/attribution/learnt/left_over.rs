//! How often mappings are left over, and how often lines are without one, in groups with several candidates.

use crate::attribution::costs;

/// Counts of mappings and lines; a line counts by its probability.
#[derive(Clone, Copy)]
pub(crate) struct LeftOverCounts {
    left: f64,
    alone: f64,
    taken: f64,
    /// How many of `taken` were supposed at first.
    supposed: f64,
}

impl LeftOverCounts {
    pub(crate) const fn new() -> Self {
        let (left, taken) = costs::LEFT_OVER_AT_FIRST;
        Self { left, alone: 0.0, taken, supposed: taken }
    }

    /// Learns that so many mappings were left over; some of them may be only partly so.
    pub(crate) fn learn_left(&mut self, mappings: f64) {
        self.left += mappings.min(costs::LEFT_OVER_FADE_AT);
        self.fade();
    }

    /// Learns from a line that was without a mapping with this probability.
    pub(crate) fn learn_line(&mut self, alone: f64) {
        self.alone += alone;
        self.taken += 1.0 - alone;
        self.fade();
    }

    fn fade(&mut self) {
        while self.left + self.taken + self.alone > costs::LEFT_OVER_FADE_AT {
            self.left /= 2.0;
            self.alone /= 2.0;
            self.taken /= 2.0;
            self.supposed /= 2.0;
        }
    }

    /// Returns the share of mappings that are left over, where so many are at least.
    pub(crate) fn left(&self, at_least: f64) -> f64 {
        let learnt = self.net(self.left) / (self.left + self.taken);
        learnt.max(at_least).max(costs::LEFT_OVER_LEAST)
    }

    /// Returns the cost of a line without a mapping, where there are so many at least.
    pub(crate) fn alone_cost(&self, at_least: f64) -> i64 {
        cost_of(self.alone(at_least))
    }

    /// Returns the share of lines without a mapping, where there are so many at least.
    pub(crate) fn alone(&self, at_least: f64) -> f64 {
        let learnt = self.net(self.alone) / (self.alone + self.taken);
        learnt.max(at_least).max(costs::ALONE_LEAST)
    }

    /// Returns the share of lines in order without a mapping, where there are so many at least. It is known sooner, since
    /// lines that have none leave no mapping over.
    pub(crate) fn alone_in_order(&self, at_least: f64) -> f64 {
        let supposed = self.supposed * costs::ALONE_SUPPOSED;
        let learnt = self.net(self.alone) / (self.alone + self.taken - self.supposed + supposed);
        learnt.max(at_least)
    }

    /// Returns the extra cost of such a line, compared with a line with a mapping.
    pub(crate) fn alone_in_order_cost(&self, at_least: f64) -> i64 {
        let share = self.alone_in_order(at_least);
        cost_of(share / (1.0 - share).max(costs::ALONE_LEAST)).max(0)
    }

    /// Returns a count less most of what is left over on both sides: either lines are missing or records.
    /// Otherwise lines that fail to find their mappings would make it seem usual to have none.
    fn net(&self, count: f64) -> f64 {
        count - self.left.min(self.alone) * costs::LEFT_OVER_BOTH
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a small number")]
fn cost_of(share: f64) -> i64 {
    (-1_000.0 * share.max(costs::ALONE_LEAST).ln()) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_over_on_both_sides_makes_neither_usual() {
        let mut counts = LeftOverCounts::new();
        assert!(counts.left(0.0) < 0.01 && counts.alone_cost(0.0) > 6_000);
        for _ in 0..900 {
            counts.learn_left(9.0);
            counts.learn_line(0.0);
        }
        assert!(counts.left(0.0) > 0.85, "one line in ten is logged: {}", counts.left(0.0));
        assert!(counts.alone_cost(0.0) > 6_000);
        for _ in 0..900 {
            counts.learn_left(1.0);
            counts.learn_line(1.0);
        }
        assert!(counts.left(0.0) < 0.3, "{}", counts.left(0.0));
        assert!(counts.alone_cost(0.0) > 1_000);
    }
}
