//! Whether a server logs exchanges in the order in which they end, as the balancer saw it.
//!
//! The balancer may see two ends in another order than the server, if the ends are close to each other. And a
//! server with one process, whose answers are ready at once, logs in the order in which requests were sent. So
//! pairs of lines that are not in doubt are counted by the time between the ends, and by whether the requests
//! were sent in the same order. Only lines of one stamp count: of others, delays say what is likely. They are counted
//! at every distance in the log, as two equal lines may be far from each other: a log that several workers write in blocks
//! has most neighbours in order.

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
    /// The stamp of the line.
    pub(crate) stamp: Timestamp,
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
    /// The ends of the last lines, and how many came so far.
    last: Vec<SureEnd>,
    seen: usize,
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
        Self { counts: [counts; 2], last: Vec::new(), seen: 0 }
    }

    /// Whether enough lines were seen for their order to be known.
    pub(crate) const fn is_known(&self) -> bool {
        self.seen >= costs::END_ORDER_KNOWN_AFTER
    }

    /// Learns from a line and some of those before it.
    pub(crate) fn learn(&mut self, end: SureEnd) {
        let first = (self.seen + self.seen / costs::END_ORDER_STRIDE) % costs::END_ORDER_STRIDE;
        for place in (first..self.last.len()).step_by(costs::END_ORDER_STRIDE) {
            self.learn_pair(self.last[place], end);
        }
        let place = self.seen % costs::END_ORDER_LINES;
        match self.last.get_mut(place) {
            Some(oldest) => *oldest = end,
            None => self.last.push(end),
        }
        self.seen += 1;
    }

    /// Learns from a line and one before it.
    fn learn_pair(&mut self, last: SureEnd, end: SureEnd) {
        if end.stamp != last.stamp
            || end.origin != last.origin
            || end.group.is_some() && end.group == last.group
        {
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
        SureEnd {
            ended: at(ended),
            asked: at(asked),
            group: None,
            origin: LineOrigin(0),
            stamp: at(ended.div_euclid(1_000_000)),
        }
    }

    #[test]
    fn close_ends_are_crossed_more_easily_than_far_ones() {
        let order = EndOrder::new();
        assert!(order.crossed(3, false) > 0.2);
        assert!(order.crossed(100_000, false) < 0.01);
    }

    #[test]
    fn a_log_in_blocks_has_neighbours_in_order_and_lines_of_other_blocks_in_none() {
        let mut order = EndOrder::new();
        let at = Timestamp::from_micros;
        for second in 0..200 {
            // Two workers write what they answered in the second, one after the other.
            for number in (0..32).step_by(2).chain((1..32).step_by(2)) {
                let ended = second * 1_000_000 + number * 30_000;
                order.learn(SureEnd { stamp: at(second), ..end(ended, ended - 1_000) });
            }
        }
        let crossed = order.crossed(200_000, false);
        assert!((0.25..1.0).contains(&crossed), "{crossed}");
    }

    #[test]
    fn lines_of_other_stamps_tell_nothing_of_the_order_within_one() {
        let mut order = EndOrder::new();
        let before = order.crossed(30_000, false);
        (0..400).for_each(|second| order.learn(end(second * 1_000_000, 0)));
        assert_eq!(order.crossed(30_000, false).to_bits(), before.to_bits());
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
