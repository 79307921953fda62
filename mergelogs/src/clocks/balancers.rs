//! Mapping logs of several balancers, each with a clock of its own.
//!
//! Logs that were written at the same time are of different balancers. Each is compared with the servers' logs by itself:
//! where one server's clock is further ahead of one balancer's clock than of another's, the balancers' clocks differ by
//! as much.

use pen_records::time::Timestamp;

use super::{ArchiveClock, SECOND, nearest};
use crate::config::InputOrigin;
use crate::input::heads::InputHead;

/// How long before the end of a log the next one of the same balancer may begin, in microseconds.
const OVERLAP: i64 = 5_000_000;
/// After a longer gap, the next log may be of another balancer, whose clock is far ahead: in microseconds, and as a part
/// of the time of the log before.
const GAP: i64 = 60 * SECOND;
const GAP_PART: i64 = 20;
/// Smaller differences are not corrected: with the lines of other balancers between its own a clock is known less well. In
/// microseconds.
const LEAST: i64 = SECOND;
/// Of more balancers all clocks are taken to be the same.
const MOST: usize = 8;

/// Mapping logs that follow each other, as one balancer writes them.
#[derive(Clone, Debug)]
pub(super) struct BalancerLogs<'a> {
    pub(super) heads: Vec<&'a InputHead>,
    /// Microseconds its clock is ahead of the first balancer's.
    pub(super) ahead: i64,
    /// Its last time, as far as is known.
    last: Timestamp,
    /// The place of the logs before, if the same balancer may have written both.
    follows: Option<usize>,
}

impl<'a> BalancerLogs<'a> {
    /// Tells the logs of different balancers apart: `heads` are in the order of their first times, and `last` knows the
    /// last ones.
    pub(super) fn tell_apart(
        heads: &[&'a InputHead],
        mut last: impl FnMut(&InputOrigin) -> Timestamp,
    ) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for &head in heads {
            let last = last(&head.origin);
            let ends_before = |it: &&Self| it.last <= head.first_time.offset_by(OVERLAP);
            let before = all.iter().enumerate().filter(|(_, it)| ends_before(it));
            let follows = before.max_by_key(|(_, it)| it.last).map(|(place, _)| place);
            let next = Self { heads: vec![head], ahead: 0, last, follows };
            match follows.and_then(|place| all.get_mut(place)) {
                Some(of) if !of.is_far_before(head.first_time) => of.take(next),
                _ => all.push(next),
            }
        }
        if all.len() > MOST {
            return vec![Self {
                heads: heads.to_vec(),
                ahead: 0,
                last: Timestamp::MAX,
                follows: None,
            }];
        }
        all
    }

    /// Whether there is a gap between these logs and a later time.
    fn is_far_before(&self, time: Timestamp) -> bool {
        let first = self.heads.first().map_or(self.last, |head| head.first_time);
        time.micros_since(self.last) > GAP.max(self.last.micros_since(first) / GAP_PART)
    }

    /// Takes later logs of the same balancer.
    fn take(&mut self, later: Self) {
        self.heads.extend(later.heads);
        self.last = self.last.max(later.last);
    }

    /// Joins logs that follow each other by their times where the clock is the same: one balancer wrote them.
    pub(super) fn join_followers(all: Vec<Self>) -> Vec<Self> {
        let mut joined: Vec<Self> = Vec::new();
        let mut places = Vec::new();
        for logs in all {
            let of = logs.follows.and_then(|place| places.get(place).copied());
            match of.filter(|&of: &usize| joined[of].ahead == logs.ahead) {
                Some(of) => {
                    joined[of].take(logs);
                    places.push(of);
                }
                None => {
                    places.push(joined.len());
                    joined.push(logs);
                }
            }
        }
        joined
    }

    /// Finds how far each balancer's clock is ahead of the first one's: `compare` says how far each server's clock is
    /// ahead of a balancer's.
    pub(super) fn compare_clocks(all: &mut [Self], compare: impl Fn(&Self) -> Vec<ArchiveClock>) {
        if all.len() < 2 {
            return;
        }
        let mut known: Vec<ArchiveClock> = Vec::new();
        for logs in all {
            let found = compare(logs);
            known.resize(found.len(), ArchiveClock::default());
            let both = found.iter().zip(&known).filter(|(it, of)| it.votes.min(of.votes) > 0);
            if let Some((it, of)) = both.max_by_key(|(it, of)| it.votes.min(of.votes)) {
                let ahead = of.center - it.center;
                let is_coarse = it.within.max(of.within) >= SECOND;
                let ahead = if is_coarse { nearest(ahead, SECOND) } else { ahead };
                logs.ahead = if ahead.abs() > LEAST { ahead } else { 0 };
            }
            for (it, of) in found.into_iter().zip(&mut known) {
                if of.votes == 0 {
                    *of = ArchiveClock { center: it.center + logs.ahead, ..it };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logs from one second to another each; returns which of them are told apart.
    fn told_apart(spans: &[(i64, i64)], ahead: &[i64]) -> Vec<Vec<i64>> {
        let heads: Vec<_> = spans.iter().map(|&(first, _)| InputHead::at(first)).collect();
        let heads: Vec<_> = heads.iter().collect();
        let mut lasts = spans.iter().map(|&(_, last)| Timestamp::from_seconds(last));
        let mut all = BalancerLogs::tell_apart(&heads, |_| lasts.next().unwrap());
        for logs in &mut all {
            let place = spans
                .iter()
                .position(|&(first, _)| Timestamp::from_seconds(first) == logs.heads[0].first_time);
            logs.ahead = ahead[place.unwrap()];
        }
        let joined = BalancerLogs::join_followers(all);
        let firsts = |it: &BalancerLogs<'_>| -> Vec<i64> {
            it.heads.iter().map(|head| head.first_time.as_micros() / SECOND).collect()
        };
        joined.iter().map(firsts).collect()
    }

    #[test]
    fn logs_that_do_not_follow_each_other_closely_are_one_balancers_only_by_one_clock() {
        let spans = [(1_000, 2_000), (3_200, 4_200)];
        assert_eq!(told_apart(&spans, &[0, 0]), [vec![1_000, 3_200]]);
        assert_eq!(told_apart(&spans, &[0, 1_200]), [vec![1_000], vec![3_200]]);
        // Rotated logs follow each other, and logs of the same time do not.
        let rotated = [(1_000, 2_000), (2_001, 3_000), (3_002, 4_000)];
        assert_eq!(told_apart(&rotated, &[0, 7, 7]), [vec![1_000, 2_001, 3_002]]);
        assert_eq!(told_apart(&[(1_000, 2_000), (1_500, 2_500)], &[0, 0]).len(), 2);
        // The last is of the second balancer, after a pause.
        let paused = [(1_000, 2_000), (3_200, 4_200), (5_000, 6_000)];
        assert_eq!(told_apart(&paused, &[0, 1_200, 1_200]), [vec![1_000], vec![3_200, 5_000]]);
    }
}
