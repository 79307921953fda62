//! Whether a server logs exchanges in the order in which they end, as the balancer saw it.
//!
//! The balancer may see two ends in another order than the server, if the ends are close to each other. And a
//! server with one process, whose answers are ready at once, logs in the order in which requests were sent. So
//! pairs of lines that are not in doubt are counted by the time between the ends, and by whether the requests
//! were sent in the same order.

use crate::attribution::costs;
use crate::attribution::line::LineOrigin;
use crate::attribution::memory::mappings::GroupSlot;
use crate::time::Timestamp;

/// Gaps by octaves of microseconds.
const GAPS: usize = 28;

/// The exchange of a line that is hardly in doubt.
#[derive(Clone, Copy)]
pub(crate) struct SureEnd {
    pub(crate) ended: Timestamp,
    pub(crate) asked: Timestamp,
    /// The group, if the line was decided by the order of its group.
    pub(crate) group: Option<GroupSlot>,
    /// Where the line came from: lines of different files are in no order.
    pub(crate) origin: LineOrigin,
}

/// Pairs of lines by the gap between the ends of their exchanges: logged in that order, and in the reverse
/// order.
#[derive(Clone, Copy)]
struct OrderCounts {
    straight: [f64; GAPS],
    crossed: [f64; GAPS],
}

/// How often lines are logged in the order of ends.
pub(crate) struct EndOrder {
    /// Where requests were sent in the order of the ends, and where not.
    counts: [OrderCounts; 2],
    last: Option<SureEnd>,
}

impl EndOrder {
    pub(crate) fn new() -> Self {
        let mut crossed = [0.0; GAPS];
        let mut some = costs::CROSSED_AT_FIRST;
        for gap in &mut crossed {
            *gap = some;
            some *= std::f64::consts::FRAC_1_SQRT_2;
        }
        let counts = OrderCounts { straight: [costs::STRAIGHT_AT_FIRST; GAPS], crossed };
        Self { counts: [counts; 2], last: None }
    }

    /// Learns from a line and the line before it.
    pub(crate) fn learn(&mut self, end: SureEnd) {
        let Some(last) = self.last.replace(end) else { return };
        if end.origin != last.origin || end.group.is_some() && end.group == last.group {
            return;
        }
        let later = end.ended.micros_since(last.ended);
        let is_reversed = (end.asked < last.asked) != (later < 0);
        let gap = octave(later);
        let counts = &mut self.counts[usize::from(is_reversed)];
        let count = if later < 0 { &mut counts.crossed } else { &mut counts.straight };
        count[gap] += 1.0;
        if counts.straight[gap] + counts.crossed[gap] > costs::END_ORDER_FADE_AT {
            counts.straight[gap] /= 2.0;
            counts.crossed[gap] /= 2.0;
        }
    }

    /// Returns how much likelier it is that two exchanges are logged in the reverse order of their ends than in
    /// that order. `is_reversed` says whether their requests were sent in the reverse order.
    pub(crate) fn crossed(&self, gap: i64, is_reversed: bool) -> f64 {
        let counts = &self.counts[usize::from(is_reversed)];
        let gap = octave(gap);
        counts.crossed[gap] / counts.straight[gap].max(0.1)
    }
}

fn octave(gap: i64) -> usize {
    ((gap.unsigned_abs() + 1).ilog2() as usize).min(GAPS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(ended: i64, asked: i64) -> SureEnd {
        let at = Timestamp::from_micros;
        SureEnd { ended: at(ended), asked: at(asked), group: None, origin: LineOrigin(0) }
    }

    #[test]
    fn close_ends_are_crossed_more_easily_than_far_ones() {
        let order = EndOrder::new();
        assert!(order.crossed(3, false) > 0.2);
        assert!(order.crossed(100_000, false) < 0.01);
    }

    #[test]
    fn a_server_that_logs_as_requests_are_sent_is_known() {
        let mut order = EndOrder::new();
        for round in 0..400 {
            let at = round * 1_000_000;
            order.learn(end(at + 150, at));
            order.learn(end(at + 100, at + 10));
        }
        assert!(order.crossed(50, true) > 3.0, "{}", order.crossed(50, true));
        assert!(order.crossed(50, false) < 0.4);
    }
}
