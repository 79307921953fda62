//! Timers by due time. A timer is never removed early: the caller checks whether the timer still
//! matters.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Number of stale timers tolerated beside the wanted timers.
const SPARE: usize = 1_024;

/// Due times and keys.
#[derive(Debug)]
pub(super) struct Timers<K>(BinaryHeap<Reverse<(Instant, K)>>);

impl<K> Default for Timers<K>
where
    K: Ord,
{
    fn default() -> Self {
        Self(BinaryHeap::new())
    }
}

impl<K: Ord> Timers<K> {
    /// Adds a timer.
    pub(super) fn add(&mut self, due: Instant, key: K) {
        self.0.push(Reverse((due, key)));
    }

    /// Returns when the earliest timer is due.
    #[must_use]
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((due, _))| *due)
    }

    /// Removes stale timers once they outnumber the `wanted` timers: otherwise timers of ended
    /// connections would pile up.
    pub(super) fn tidy(&mut self, wanted: usize, is_wanted: impl Fn(Instant, &K) -> bool) {
        if self.0.len() > 2 * wanted + SPARE {
            self.0.retain(|Reverse((due, key))| is_wanted(*due, key));
        }
    }

    /// Takes a timer that is due by now.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Instant, K)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(due)| due)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn timers_come_in_the_order_they_are_due() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut timers = Timers::default();
        for second in [5, 1, 3] {
            timers.add(at(second), second);
        }
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.pop(start), None);
        assert_eq!(timers.pop(at(4)), Some((at(1), 1)));
        assert_eq!(timers.pop(at(4)), Some((at(3), 3)));
        assert_eq!(timers.pop(at(4)), None);
    }

    #[test]
    fn timers_of_those_who_are_gone_do_not_pile_up() {
        let start = Instant::now();
        let mut timers = Timers::default();
        for client in 0_u64..100_000 {
            // Ten at a time; each timer would be due an hour later.
            timers.add(start + Duration::from_secs(3_600) + Duration::from_millis(client), client);
            timers.tidy(10, |_, key| key + 10 > client);
            assert!(timers.0.len() <= SPARE + 20);
        }
        let late = start + Duration::from_secs(7_200);
        let left: Vec<_> = std::iter::from_fn(|| timers.pop(late)).map(|(_, key)| key).collect();
        assert!(left.ends_with(&(99_990..100_000).collect::<Vec<_>>()), "{left:?}");
    }
}
