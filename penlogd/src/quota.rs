//! Quotas: how many lines and bytes a sender may bring in a second. Records count as lines.
//!
//! What a sender brings is taken, and its connections wait until its quota has made up for it. So nothing is lost: the sender
//! keeps the rest.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// A sender that was silent for so long may bring all of that time's share at once.
const BURST: Duration = Duration::from_secs(10);

const NANOS: u128 = 1_000_000_000;

/// What a sender may bring in a second; `None`: as much as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaLimits {
    /// Lines and records.
    pub lines: Option<NonZeroU64>,
    /// Bytes of datagrams.
    pub bytes: Option<NonZeroU64>,
}

impl QuotaLimits {
    const fn is_none(&self) -> bool {
        self.lines.is_none() && self.bytes.is_none()
    }
}

impl fmt::Display for QuotaLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.lines, self.bytes) {
            (Some(lines), Some(bytes)) => write!(f, "{lines} lines and {bytes} bytes a second"),
            (Some(lines), None) => write!(f, "{lines} lines a second"),
            (None, Some(bytes)) => write!(f, "{bytes} bytes a second"),
            (None, None) => f.write_str("no quota"),
        }
    }
}

/// The quotas of all senders that have brought something.
#[derive(Debug)]
pub(crate) struct Quotas<K> {
    used: HashMap<K, SenderQuota>,
}

impl<K> Default for Quotas<K> {
    fn default() -> Self {
        Self { used: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash> Quotas<K> {
    /// Returns until when a sender has to wait before it brings more; `None` if it may.
    pub(crate) fn wait(&mut self, sender: &K, now: Instant) -> Option<Instant> {
        self.used.get(sender)?.wait(now)
    }

    /// Charges what a sender has brought, and returns as [`Self::wait`]. Limits that have changed begin anew.
    pub(crate) fn charge(
        &mut self,
        (sender, limits): (&K, QuotaLimits),
        (lines, bytes): (u64, u64),
        now: Instant,
    ) -> Option<Instant> {
        if limits.is_none() {
            self.used.remove(sender);
            return None;
        }
        let quota =
            self.used.entry(sender.clone()).or_insert_with(|| SenderQuota::new(limits, now));
        if quota.limits != limits {
            *quota = SenderQuota::new(limits, now);
        }
        let counts = [lines, bytes];
        quota.buckets.iter_mut().zip(counts).for_each(|(bucket, count)| {
            if let Some(bucket) = bucket {
                bucket.take(count, now);
            }
        });
        quota.wait(now)
    }
}

/// What a sender has used of its quota.
#[derive(Debug)]
struct SenderQuota {
    limits: QuotaLimits,
    /// Of lines, and of bytes.
    buckets: [Option<TokenBucket>; 2],
}

impl SenderQuota {
    fn new(limits: QuotaLimits, now: Instant) -> Self {
        let bucket = |rate: NonZeroU64| TokenBucket { rate, used: 0, at: now };
        Self { limits, buckets: [limits.lines.map(bucket), limits.bytes.map(bucket)] }
    }

    fn wait(&self, now: Instant) -> Option<Instant> {
        self.buckets.iter().flatten().filter_map(|bucket| bucket.wait(now)).max()
    }
}

/// Tokens that come back at a steady rate, up to those of [`BURST`]. What is taken may exceed what is left: then the bucket is
/// in debt.
#[derive(Clone, Debug)]
struct TokenBucket {
    /// Tokens in a second.
    rate: NonZeroU64,
    /// Billionths of tokens that are taken and had not come back at a time.
    used: u128,
    at: Instant,
}

impl TokenBucket {
    fn take(&mut self, tokens: u64, now: Instant) {
        self.used = self.used_at(now).saturating_add(u128::from(tokens) * NANOS);
        self.at = self.at.max(now);
    }

    /// Returns when there are tokens again; `None` if there are now.
    fn wait(&self, now: Instant) -> Option<Instant> {
        let full = u128::from(self.rate.get()) * BURST.as_nanos();
        let over = (self.used_at(now) + 1).checked_sub(full).filter(|&over| over > 0)?;
        let nanos = over.div_ceil(u128::from(self.rate.get()));
        Some(now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    fn used_at(&self, now: Instant) -> u128 {
        let passed = now.saturating_duration_since(self.at);
        self.used.saturating_sub(passed.as_nanos() * u128::from(self.rate.get()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(rate: u64) -> QuotaLimits {
        QuotaLimits { lines: NonZeroU64::new(rate), bytes: None }
    }

    #[test]
    fn ten_seconds_may_come_at_once_and_then_as_much_as_the_rate_says() {
        let (mut quotas, start) = (Quotas::default(), Instant::now());
        let mut bring = |count, second| {
            let now = start + Duration::from_secs(second);
            let until = quotas.charge((&"web5", lines(5)), (count, 0), now);
            until.map(|until| until.duration_since(now))
        };
        assert_eq!(bring(49, 0), None);
        let wait = bring(1, 0).expect("the burst is used up");
        assert!(wait < Duration::from_secs(1), "{wait:?}");
        assert_eq!(bring(4, 1), None);
        let wait = bring(20, 1).expect("far too many");
        assert_eq!(wait.as_secs(), 3, "{wait:?}");
        assert_eq!(bring(40, 100), None, "a long silence gives a burst and no more");
        assert!(bring(11, 100).is_some());
    }

    #[test]
    fn lines_and_bytes_count_for_themselves_and_for_each_sender() {
        let limits = QuotaLimits { lines: NonZeroU64::new(10), bytes: NonZeroU64::new(1_000) };
        let (mut quotas, now) = (Quotas::default(), Instant::now());
        assert!(quotas.charge((&"a", limits), (1, 10_000), now).is_some());
        assert!(quotas.charge((&"b", limits), (100, 1), now).is_some());
        assert!(quotas.charge((&"c", limits), (99, 9_999), now).is_none());
        assert!(quotas.charge((&"d", QuotaLimits::default()), (1 << 40, 1 << 50), now).is_none());
        let waits = ["a", "b", "c", "d"].map(|sender| quotas.wait(&sender, now).is_some());
        assert_eq!(waits, [true, true, false, false]);
        // The file of --authorized was read again.
        assert!(quotas.charge((&"a", lines(100)), (1, 10_000), now).is_none());
        assert!(quotas.charge((&"b", QuotaLimits::default()), (100, 1), now).is_none());
        assert_eq!(quotas.wait(&"b", now), None);
    }

    proptest! {
        /// A sender that waits as it is told never brings more than its rate and a burst.
        #[test]
        fn who_waits_stays_below_the_rate(
            rate in 1..1_000_u64,
            brought in proptest::collection::vec((0..5_000_u64, 0..3_000_u64), 1..60),
        ) {
            let (mut quotas, start) = (Quotas::default(), Instant::now());
            let (mut now, mut total, mut last) = (start, 0, 0);
            for (count, millis) in brought {
                now += Duration::from_millis(millis);
                if let Some(until) = quotas.wait(&(), now) {
                    // Not a moment too early, and not one too late.
                    prop_assert!(quotas.wait(&(), until - Duration::from_nanos(1)).is_some());
                    prop_assert!(quotas.wait(&(), until).is_none());
                    now = until;
                }
                total += count;
                last = count;
                let _ = quotas.charge((&(), lines(rate)), (count, 0), now);
            }
            let seconds = now.duration_since(start).as_secs_f64();
            let most = rate as f64 * (seconds + BURST.as_secs_f64()) + last as f64;
            prop_assert!(total as f64 <= most, "{total} of {most}");
        }

        #[test]
        fn the_largest_numbers_do_not_overflow(counts in proptest::collection::vec(any::<u64>(), 1..9)) {
            let (mut quotas, now) = (Quotas::default(), Instant::now());
            for count in counts {
                let _ = quotas.charge((&0, lines(u64::MAX)), (count, count), now);
                let _ = quotas.charge((&1, lines(1)), (count.min(1 << 30), 0), now);
            }
        }
    }
}
