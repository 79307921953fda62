//! What is due when. A timer is never taken back: whoever is called looks whether it still matters.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Times, and to whom they belong.
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
    /// Calls `key` at `due`.
    pub(super) fn add(&mut self, due: Instant, key: K) {
        self.0.push(Reverse((due, key)));
    }

    /// The earliest one.
    #[must_use]
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((due, _))| *due)
    }

    /// Takes one that is due by now.
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
}
