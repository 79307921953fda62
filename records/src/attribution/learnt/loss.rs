//! Lost records. While records are missing, the only candidate of a line may belong to a request
//! whose own line is still to come, and the line's own record may be lost.
//!
//! That takes two coincidences: a lost record, and another equal request. Both are counted; where
//! both together are too rare to matter, certain lines stay certain.

use indexmap::IndexMap;

use crate::attribution::costs;
use crate::attribution::line::BalancerId;
use crate::time::Timestamp;

/// Shares are parts in a million.
pub(crate) const MILLION: u64 = 1_000_000;

/// The most balancers with known losses, in all and of a server; each run counts.
const BALANCERS: usize = 4_096;
const RECORDERS: usize = 256;

/// Recently lost records of each balancer.
pub(crate) struct BalancerLosses {
    balancers: IndexMap<BalancerId, RecordLosses>,
    /// Until then a rate may be above zero.
    until: Timestamp,
}

impl BalancerLosses {
    pub(crate) fn new() -> Self {
        Self { balancers: IndexMap::new(), until: Timestamp::MIN }
    }

    /// Counts records of a balancer as [`RecordLosses::count`] does.
    pub(crate) fn count(&mut self, balancer: BalancerId, now: Timestamp, came: u32, missing: i64) {
        if self.balancers.len() >= BALANCERS && !self.balancers.contains_key(&balancer) {
            self.balancers.shift_remove_index(0);
        }
        self.balancers.entry(balancer).or_insert_with(RecordLosses::new).count(now, came, missing);
        if missing > 0 {
            self.until = self.until.max(now.offset_by(costs::LOSS_REMEMBERED));
        }
    }

    /// Returns the share of lost records in parts per million, of the worst of these balancers.
    pub(crate) fn rate(&mut self, recorders: &Recorders, now: Timestamp) -> u64 {
        if now > self.until {
            return 0;
        }
        let mut rate = |balancer| self.balancers.get_mut(balancer).map(|losses| losses.rate(now));
        recorders.0.iter().filter_map(&mut rate).max().unwrap_or(0)
    }
}

/// The balancers that recorded requests of one server, newest last.
#[derive(Debug, Default)]
pub(crate) struct Recorders(Vec<BalancerId>);

impl Recorders {
    pub(crate) fn has(&self, balancer: BalancerId) -> bool {
        self.0.contains(&balancer)
    }

    pub(crate) fn add(&mut self, balancer: BalancerId) {
        if self.0.last() == Some(&balancer) || self.0.contains(&balancer) {
            return;
        }
        if self.0.len() >= RECORDERS {
            self.0.remove(0);
        }
        self.0.push(balancer);
    }
}

/// Records lost recently.
struct RecordLosses {
    /// The latest interval first.
    intervals: [LossInterval; costs::LOSS_INTERVALS],
    /// Start of the latest interval.
    since: Timestamp,
    /// Share of lost records in the worst interval, in parts per million.
    rate: u64,
}

#[derive(Clone, Copy, Default)]
struct LossInterval {
    came: u64,
    lost: u64,
}

impl RecordLosses {
    const fn new() -> Self {
        Self {
            intervals: [LossInterval { came: 0, lost: 0 }; costs::LOSS_INTERVALS],
            since: Timestamp::MIN,
            rate: 0,
        }
    }

    /// Counts received records, and records found missing before them; a negative number means late
    /// arrivals.
    fn count(&mut self, now: Timestamp, came: u32, missing: i64) {
        self.pass(now);
        self.intervals[0].came += u64::from(came);
        let mut found = missing.min(0).unsigned_abs();
        for interval in &mut self.intervals {
            let some = found.min(interval.lost);
            (interval.lost, found) = (interval.lost - some, found - some);
        }
        self.intervals[0].lost += missing.max(0).unsigned_abs().min(costs::LOSS_MOST);
        if missing != 0 || self.rate > 0 {
            self.weigh();
        }
    }

    /// Returns the share of lost records, in parts per million.
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
        self.intervals.rotate_right(passed % costs::LOSS_INTERVALS);
        self.intervals[..passed].fill(LossInterval::default());
        self.since = now;
        self.weigh();
    }

    fn weigh(&mut self) {
        let rate = |&LossInterval { came, lost }: &LossInterval| {
            let lost = lost.min(costs::LOSS_MOST);
            (lost * MILLION).checked_div(lost + came).unwrap_or(0)
        };
        self.rate = self.intervals.iter().map(rate).max().unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_remembered_for_a_while_and_one_that_came_late_is_none() {
        let at = Timestamp::from_seconds;
        let mut losses = RecordLosses::new();
        losses.count(at(100), 98, 2);
        assert_eq!(losses.rate(at(101)), 20_000);
        losses.count(at(109), 100, 0);
        assert_eq!(losses.rate(at(109)), 10_000);
        // Much came since, and nothing was lost of it.
        losses.count(at(130), 10_000, 0);
        assert_eq!(losses.rate(at(131)), 10_000);
        losses.count(at(132), 1, -1);
        assert_eq!(losses.rate(at(132)), 1_000_000 / 199);
        assert!(losses.rate(at(160)) > 0);
        assert_eq!(losses.rate(at(400)), 0);
        losses.count(at(401), 0, 3);
        losses.count(at(402), 3, -3);
        assert_eq!(losses.rate(at(402)), 0);
        losses.count(Timestamp::MIN, 3, i64::MIN);
        losses.count(Timestamp::MAX, 3, i64::MAX);
        assert!(losses.rate(Timestamp::MAX) > 999_000);
    }

    #[test]
    fn what_one_balancer_loses_does_not_concern_the_servers_of_another() {
        let at = Timestamp::from_seconds;
        let mut losses = BalancerLosses::new();
        let [mut shop, mut blog, unknown] = [const { Recorders(Vec::new()) }; 3];
        shop.add(BalancerId(1));
        blog.add(BalancerId(2));
        losses.count(BalancerId(1), at(100), 98, 2);
        losses.count(BalancerId(2), at(100), 100, 0);
        let rates = [&shop, &blog, &unknown].map(|recorders| losses.rate(recorders, at(101)));
        assert_eq!(rates, [20_000, 0, 0]);
        // A server that both record for.
        blog.add(BalancerId(1));
        assert_eq!(losses.rate(&blog, at(101)), 20_000);
        assert_eq!(losses.rate(&blog, at(400)), 0);
    }
}
