//! Whether a server answers equal requests in the order in which they are asked.

use crate::attribution::costs;
use crate::attribution::odds::chance;

/// How often equal requests with different User-Agents are answered in the reverse order, against
/// how often delays alone would reverse the order.
#[derive(Clone, Copy)]
pub(crate) struct RequestOrder {
    /// Crossings observed, in thousandths.
    seen: i64,
    /// Crossings that chance would bring, in thousandths.
    expected: i64,
    /// See [`Self::crossing_cost`].
    cost: i64,
}

impl RequestOrder {
    /// The state before any pair was seen: a tenth of the crossings that chance would bring.
    pub(crate) const fn new() -> Self {
        Self {
            seen: costs::ORDER_SEEN_AT_FIRST,
            expected: costs::ORDER_EXPECTED_AT_FIRST,
            cost: costs::ORDER_COST_AT_FIRST,
        }
    }

    /// Learns whether two requests crossed. `against` is how much more the crossed delays cost.
    pub(crate) fn learn(&mut self, crossed: bool, against: i64) {
        self.expected += chance(against);
        self.seen += if crossed { 1_000 } else { 0 };
        if self.expected > costs::ORDER_FADE_AT {
            (self.seen, self.expected) = (self.seen / 2, self.expected / 2);
        }
        self.cost = self.find_crossing_cost();
    }

    /// Returns the cost of a crossing.
    pub(crate) const fn crossing_cost(self) -> i64 {
        self.cost
    }

    fn find_crossing_cost(self) -> i64 {
        let seen = self.seen.max(1);
        if seen >= self.expected {
            return 0;
        }
        // 0.693 for each doubling; between two of them a straight line is good enough for a price.
        let ratio = self.expected * 4 / seen;
        let octaves = i64::from(ratio.ilog2()) - 2;
        let rest = (ratio >> octaves) - 4;
        octaves * costs::HALVING + rest * (costs::HALVING / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crossing_is_dear_where_few_are_seen_and_cheap_where_as_many_as_chance_brings() {
        let mut turns = RequestOrder::new();
        assert_eq!(turns.crossing_cost(), turns.find_crossing_cost());
        (0..200).for_each(|_| turns.learn(false, 0));
        assert!(turns.crossing_cost() > 3_000);
        (0..2_000).for_each(|i| turns.learn(i % 2 == 0, 0));
        assert!(turns.crossing_cost() < 300);
    }
}
