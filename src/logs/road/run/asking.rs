//! Questions to the collector, and what its answers confirm.

use std::time::{Duration, Instant};

use pen_records::shipment::{DiscoveryAnswer, ReceivedShipments};

use super::{RecordRun, RecordTally};

/// Pause before the same question again.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// Longest such pause for a collector that has never replied: an old one may have to refuse questions of a balancer.
const ASK_STRANGER: Duration = Duration::from_secs(20);

/// Pause before packets are sent once more that the collector has not taken, and as much longer each time.
const STALL: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug)]
pub(super) struct RecordQuestion {
    pub(super) nonce: u64,
    /// When it was asked first, and last.
    pub(super) first: Instant,
    pub(super) last: Instant,
    pub(super) looked: Instant,
    /// Pause before it is asked again.
    pub(super) pause: Duration,
    /// All records below were sent before.
    pub(super) upto: u64,
}

/// A hole in the numbers that the collector takes for missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct AwaitedHole {
    end: u64,
    /// The number up to which all was sent again since the collector did not pass over the hole when it was told to.
    sent_again: Option<u64>,
}

impl RecordRun {
    pub(super) fn must_ask(&self) -> bool {
        !self.is_synced || self.is_curious || (self.rules.is_ordered && !self.is_known)
    }

    /// Returns the nonce of the question that is due, if any, and the number of records that were sent before; `fresh` is a
    /// new nonce.
    pub(in crate::logs::road) fn question(
        &mut self,
        fresh: u64,
        now: Instant,
    ) -> Option<(u64, u64)> {
        let longest = if self.rules.is_sure { Duration::from_secs(1) } else { ASK_STRANGER };
        if let Some(question) = &mut self.question {
            question.looked = now;
            if now < question.last + question.pause {
                return None;
            }
            question.last = now;
            if !self.is_known {
                question.pause = longest.min(2 * question.pause);
            }
            return Some((question.nonce, question.upto));
        }
        let is_due = self.since.is_some_and(|since| now >= since + self.rules.ask);
        if !(self.must_ask() || (is_due && self.lowest().is_some())) {
            return None;
        }
        self.is_curious = false;
        let upto = self.again.map_or(self.sent, |(from, _)| from);
        let (nonce, pause) = (fresh, ASK_AGAIN);
        let (first, last, looked) = (now, now, now);
        self.question = Some(RecordQuestion { nonce, first, last, looked, pause, upto });
        Some((nonce, upto))
    }

    /// Takes a reply. Returns `None` if the question was another run's.
    pub(in crate::logs::road) fn answered(
        &mut self,
        answer: &DiscoveryAnswer,
    ) -> Option<RecordTally> {
        let question = self.question.filter(|question| question.nonce == answer.nonce)?;
        (self.question, self.is_known, self.is_synced) = (None, true, true);
        (self.since, self.under_way) = (Some(question.first), 0);
        let all = ReceivedShipments { from: 0, upto: question.upto };
        let ReceivedShipments { from, upto } = answer.received.unwrap_or(all);
        let (mut tally, before) = (RecordTally::default(), self.lowest());
        let mut is_told = true;
        if self.lowest().is_none_or(|lowest| lowest >= from) {
            let upto = self.beyond_hole(upto.min(self.end()), question.upto);
            is_told = self.behind_hole.is_none_or(|hole| hole.sent_again.is_some());
            tally = self.confirm(upto);
            self.sent = self.sent.max(upto);
        }
        let end = self.again.map_or(0, |(_, end)| end).max(question.upto);
        let missing = self.lowest().filter(|lowest| *lowest < end && is_told);
        self.is_curious |= !is_told;
        self.again = missing.map(|lowest| (lowest, end));
        if self.lowest().is_none() {
            self.since = None;
        }
        if missing.is_some() && missing == before {
            self.stalls += 1;
            self.burst = Some(question.last + STALL * self.stalls.min(20));
        } else {
            self.stalls = 0;
        }
        Some(tally)
    }

    /// Returns the number up to which all is confirmed, given that the collector's first missing number is `upto`. It may be
    /// one that no packet has. The next question says so, and the collector passes over it. Of an older one, what comes behind
    /// is known to have arrived if it was sent in order, or twice.
    fn beyond_hole(&mut self, upto: u64, asked: u64) -> u64 {
        let before = self.behind_hole.take();
        let hole = self.hole_at(upto).filter(|(_, end)| *end < asked);
        let Some((_, end)) = hole else { return upto };
        if self.rules.is_ordered {
            return asked;
        }
        match before.filter(|hole| hole.end == end) {
            Some(AwaitedHole { sent_again: Some(sent_again), .. }) => {
                let hole = AwaitedHole { end, sent_again: Some(sent_again) };
                self.behind_hole = (asked < sent_again).then_some(hole);
                asked.min(sent_again)
            }
            Some(_) => {
                self.behind_hole = Some(AwaitedHole { end, sent_again: Some(asked) });
                upto
            }
            None => {
                self.behind_hole = Some(AwaitedHole { end, sent_again: None });
                upto
            }
        }
    }
}
