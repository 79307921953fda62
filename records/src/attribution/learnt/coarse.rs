//! Delays of lines with coarse stamps after the ends of responses, which are known finely.
//!
//! A coarse stamp does not tell when in its second the line was logged. If all lines follow the
//! ends by about the same delay, delays by stamp lie anywhere in a span of one second. Which part
//! of that span was observed depends on when in a second the log begins. So the observed delays say
//! where the span may lie. Inside the span no delay is better than another, and order decides.

use crate::attribution::costs;
use crate::attribution::learnt::delays::ServerDelays;

/// The span of ordinary delays by coarse stamps, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CoarseDelaySpan {
    first: i64,
    last: i64,
    /// Whether it was learnt.
    is_known: bool,
}

impl CoarseDelaySpan {
    /// Returns the span of a server whose stamps are `step` microseconds apart.
    pub(crate) fn of(delays: &ServerDelays, step: i64) -> Self {
        let hull = || delays.hull(costs::DELAYS_SETTLED_AFTER);
        if let Some((shortest, longest)) = delays.steps().dense_span().or_else(hull) {
            let (first, last) = (shortest.min(longest - step), longest.max(shortest + step));
            return Self { first, last, is_known: true };
        }
        let (before, after) = costs::COARSE_PRIOR;
        Self { first: -before * step, last: after * step, is_known: false }
    }

    /// Returns the cost of a delay.
    pub(crate) fn cost(self, delay: i64) -> i64 {
        let apart = (self.first - delay).max(delay - self.last);
        match u64::try_from(apart) {
            // Lines mostly follow ends at once.
            Err(_) | Ok(0) if self.is_known || costs::COARSE_AT_FIRST.contains(&delay) => 0,
            Err(_) | Ok(0) => costs::COARSE_OUTSIDE,
            Ok(apart) => {
                let octaves = i64::from((apart / costs::COARSE_UNIT + 1).ilog2());
                (costs::COARSE_OUTSIDE + octaves * costs::COARSE_DOUBLING).min(costs::COARSE_WORST)
            }
        }
    }

    /// Returns the cost saved by taking an exchange that, at the end of the window, has waited so
    /// long.
    pub(crate) fn saved(self, waited: i64) -> i64 {
        let width = (self.last - self.first).max(1);
        (waited - self.first).clamp(0, width) * costs::COARSE_OVERDUE / width
    }

    /// Whether the line of an exchange would have come before so long a delay.
    pub(crate) fn is_overdue(self, delay: i64) -> bool {
        delay > self.last && self.cost(delay) >= costs::OVERDUE
    }

    /// Whether a delay is far outside the span.
    pub(crate) fn is_unusual(self, delay: i64) -> bool {
        let width = self.last - self.first;
        delay < self.first - width || delay > self.last + width
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Resolution;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn what_was_not_seen_yet_of_a_second_is_as_good_as_what_was() {
        let mut delays = ServerDelays::new();
        let before = CoarseDelaySpan::of(&delays, SECOND);
        assert_eq!((before.cost(-900_000), before.cost(-1), before.cost(0)), (0, 0, 0));
        assert!(before.cost(3 * SECOND) <= 3_000, "a clock may be ahead by that much");
        assert!(before.cost(-4 * SECOND) > 3_000 && before.cost(9 * SECOND) > 3_000);
        // A log that begins late in a second.
        (0..300).for_each(|i| delays.learn(-999_000 + i * 300, Resolution::Microsecond));
        let span = CoarseDelaySpan::of(&delays, SECOND);
        for delay in [-990_000, -500_000, -10_000] {
            assert_eq!(span.cost(delay), 0, "{delay}");
            assert!(!span.is_unusual(delay));
        }
        assert!(span.cost(-2_500_000) > 6_000);
        assert!(span.is_unusual(60 * SECOND));
        assert!(span.saved(60 * SECOND) > span.saved(-500_000));
        // And then goes on to the end of the next.
        (0..1_000).for_each(|i| delays.learn(-i * 1_000, Resolution::Microsecond));
        let span = CoarseDelaySpan::of(&delays, SECOND);
        assert!(span.cost(-1_500_000) > 3_000, "{span:?}");
    }
}
