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
            let ends_before = |it: &&mut Self| it.last <= head.first_time.offset_by(OVERLAP);
            match all.iter_mut().filter(ends_before).max_by_key(|it| it.last) {
                Some(of) => {
                    of.heads.push(head);
                    of.last = of.last.max(last);
                }
                None => all.push(Self { heads: vec![head], ahead: 0, last }),
            }
        }
        if all.len() > MOST {
            return vec![Self { heads: heads.to_vec(), ahead: 0, last: Timestamp::MAX }];
        }
        all
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
