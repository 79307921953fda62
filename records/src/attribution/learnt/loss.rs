//! Records that never came: while some are missing, the only mapping that a line could have may be that of a
//! request whose own line is yet to come, and the line's own be among those that were lost.
//!
//! That takes two things at once: that the line's record was lost, and that another request was alike. How often either
//! happens is counted; where both together are too rare to matter, nothing is doubted.

use crate::attribution::costs;
use crate::attribution::line::HeldLine;
use crate::attribution::queue::Attributor;
use crate::attribution::verdict::{Certainty, LineVerdict, Reason};
use crate::time::Timestamp;

const MILLION: u64 = 1_000_000;

/// Lost records of late.
pub(crate) struct RecordLosses {
    /// By time, the latest first.
    spans: [LossInterval; costs::LOSS_INTERVALS],
    /// When the latest began.
    since: Timestamp,
    /// Parts in a million that were lost of the span where that were the most.
    rate: u64,
}

#[derive(Clone, Copy, Default)]
struct LossInterval {
    came: u64,
    lost: u64,
}

impl RecordLosses {
    pub(crate) const fn new() -> Self {
        Self {
            spans: [LossInterval { came: 0, lost: 0 }; costs::LOSS_INTERVALS],
            since: Timestamp::MIN,
            rate: 0,
        }
    }

    /// So many records came, and so many were found to be missing before them; or, below zero, to be
    /// missing no more.
    fn note(&mut self, now: Timestamp, came: u32, missing: i64) {
        self.pass(now);
        self.spans[0].came += u64::from(came);
        let mut found = missing.min(0).unsigned_abs();
        for span in &mut self.spans {
            let some = found.min(span.lost);
            (span.lost, found) = (span.lost - some, found - some);
        }
        self.spans[0].lost += missing.max(0).unsigned_abs().min(costs::LOSS_MOST);
        if missing != 0 || self.rate > 0 {
            self.weigh();
        }
    }

    /// Parts in a million of the records that are missing.
    fn rate(&mut self, now: Timestamp) -> u64 {
        if self.rate > 0 {
            self.pass(now);
        }
        self.rate
    }

    fn pass(&mut self, now: Timestamp) {
        let passed = now.micros_since(self.since).div_euclid(costs::LOSS_INTERVAL);
        if passed < 1 {
            return;
        }
        let passed = usize::try_from(passed)
            .map_or(costs::LOSS_INTERVALS, |passed| passed.min(costs::LOSS_INTERVALS));
        self.spans.rotate_right(passed % costs::LOSS_INTERVALS);
        self.spans[..passed].fill(LossInterval::default());
        self.since = now;
        self.weigh();
    }

    fn weigh(&mut self) {
        let rate = |&LossInterval { came, lost }: &LossInterval| {
            let lost = lost.min(costs::LOSS_MOST);
            (lost * MILLION).checked_div(lost + came).unwrap_or(0)
        };
        self.rate = self.spans.iter().map(rate).max().unwrap_or(0);
    }
}

impl<T> Attributor<T> {
    /// Says how many records of a balancer came together, and how many were found to be missing before them by their
    /// numbers: below zero if so many that were missing have come.
    pub fn came(&mut self, now: Timestamp, records: u32, missing: i64) {
        self.losses.note(now, records, missing);
    }

    /// What would be certain is only likely while what was lost may speak for somebody else.
    pub(crate) fn doubt_for_losses(
        &mut self,
        asked: &HeldLine,
        verdict: LineVerdict,
    ) -> LineVerdict {
        if verdict.certainty != Certainty::Certain || verdict.reason == Reason::Port {
            return verdict;
        }
        let lost = self.losses.rate(self.now.max(asked.time));
        let Some(state) = self.states.get(asked.server as usize).filter(|_| lost > 0) else {
            return verdict;
        };
        let wrong = lost.saturating_mul(state.crowded()) / MILLION;
        if wrong <= costs::LOSS_TOLERATED {
            return verdict;
        }
        let right = u16::try_from((MILLION - wrong.min(MILLION)) / 1_000).unwrap_or(0);
        let probability = right.clamp(costs::LOSS_PROBABILITY.0, costs::LOSS_PROBABILITY.1);
        LineVerdict {
            certainty: Certainty::Likely,
            reason: Reason::Doubtful,
            probability,
            ..verdict
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_remembered_for_a_while_and_one_that_came_late_is_none() {
        let at = Timestamp::from_seconds;
        let mut losses = RecordLosses::new();
        losses.note(at(100), 98, 2);
        assert_eq!(losses.rate(at(101)), 20_000);
        losses.note(at(109), 100, 0);
        assert_eq!(losses.rate(at(109)), 10_000);
        // Much came since, and nothing was lost of it.
        losses.note(at(130), 10_000, 0);
        assert_eq!(losses.rate(at(131)), 10_000);
        losses.note(at(132), 1, -1);
        assert_eq!(losses.rate(at(132)), 1_000_000 / 199);
        assert!(losses.rate(at(160)) > 0);
        assert_eq!(losses.rate(at(400)), 0);
        losses.note(at(401), 0, 3);
        losses.note(at(402), 3, -3);
        assert_eq!(losses.rate(at(402)), 0);
        losses.note(Timestamp::MIN, 3, i64::MIN);
        losses.note(Timestamp::MAX, 3, i64::MAX);
        assert!(losses.rate(Timestamp::MAX) > 999_000);
    }
}
