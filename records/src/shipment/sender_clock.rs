//! A shipper's clock beside ours: when lines were read, by our clock.

use crate::time::Timestamp;

/// How far back a line may be dated: as long as a shipper holds lines for a collector that is away.
const BOUND: i64 = 60_000_000;

/// [`super::GATHER`] in microseconds. A line that waited for less is dated as if it had waited that long,
/// but not after its arrival: all of a shipper's lines are late by the same, which can be learnt, and none
/// is ahead of its mapping, whose own delay nobody knows.
const GATHER: i64 = super::GATHER.subsec_micros() as i64;

/// How long the quickest shipment is remembered, and as long again: clocks drift, and somebody sets them.
const SPAN: i64 = 10_000_000;

/// What is known of the difference between a shipper's clock and ours.
///
/// Where both clocks are right, a shipment's time of travel is what passed from its stamp to its
/// arrival; what the quickest of the last seconds took is at least the difference of the clocks.
/// Whatever a shipment took beyond that, it waited somewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SenderClock {
    /// The least that passed, now and in the span before.
    least: [i64; 2],
    /// When this span began.
    since: Timestamp,
}

impl SenderClock {
    pub(crate) const fn new() -> Self {
        Self { least: [i64::MAX; 2], since: Timestamp::MIN }
    }

    /// A shipment that was `sent` by its clock has arrived. Gives back when that was by ours: never
    /// after its arrival.
    pub(crate) fn arrived(&mut self, sent: Timestamp, now: Timestamp) -> Timestamp {
        let passed = now.micros_since(sent);
        let age = now.micros_since(self.since);
        if age >= SPAN {
            let before = if age < 2 * SPAN { self.least[0] } else { i64::MAX };
            (self.least, self.since) = ([i64::MAX, before], now);
        }
        self.least[0] = self.least[0].min(passed);
        let waited = passed.saturating_sub(self.least[0].min(self.least[1]));
        bounded(now, waited)
    }

    /// Microseconds it is ahead of ours, less what the quickest of late took on its way.
    pub(crate) fn ahead(&self) -> i64 {
        self.least[0].min(self.least[1]).saturating_neg()
    }

    /// When a line was read, give or take the same for all, that is `age` microseconds older than the
    /// sending of its shipment.
    pub(super) fn read(sent: Timestamp, age: u32, now: Timestamp) -> Timestamp {
        bounded(now, now.micros_since(sent).saturating_add(i64::from(age) - GATHER))
    }

    /// So many microseconds before `now`, within bounds.
    pub(crate) fn before(now: Timestamp, micros: i64) -> Timestamp {
        bounded(now, micros)
    }
}

/// No sender is believed to be ahead of time, or far behind it.
fn bounded(now: Timestamp, before: i64) -> Timestamp {
    now.offset_by(-before.clamp(0, BOUND))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn a_clock_that_is_wrong_does_not_matter() {
        for wrong in [-3_600_000_000, 0, 3_600_000_000] {
            let mut clock = SenderClock::new();
            // What each took on its way: the quickest is taken for one that took no time.
            for (sent, took, expected) in
                [(0, 900, 900), (1_000, 300, 1_300), (2_000, 5_000, 2_300), (9_000, 301, 9_300)]
            {
                let now = at(sent + took);
                let got = clock.arrived(at(sent + wrong), now);
                assert_eq!(got, at(expected).min(now), "{sent}, {wrong} wrong");
                assert_eq!(SenderClock::read(got, 25_000, now), got.offset_by(GATHER - 25_000));
                assert_eq!(SenderClock::read(got, 0, now), now.min(got.offset_by(GATHER)));
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_is_followed() {
        let mut clock = SenderClock::new();
        let second = 1_000_000;
        for n in 0..200 {
            // Set back by an hour after a hundred seconds.
            let wrong = if n < 100 { 0 } else { -3_600 * second };
            let now = at(n * second + 300);
            let got = clock.arrived(at(n * second + wrong), now);
            let follows = !(100..120).contains(&n);
            assert!(!follows || got == now, "after {n} seconds: {got:?} {now:?}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_dated_after_its_arrival_or_far_before(
            shipments in proptest::collection::vec((any::<i64>(), any::<u32>(), any::<i64>()), 1..20),
        ) {
            let mut clock = SenderClock::new();
            for (sent, age, now) in shipments {
                let now = at(now);
                let sent = clock.arrived(at(sent), now);
                for time in [sent, SenderClock::read(sent, age, now)] {
                    prop_assert!(time <= now && now.micros_since(time) <= BOUND);
                }
            }
        }
    }
}
