//! The offset between the clock of a sender and the clock of the collector, so that lines and
//! mappings are dated by the collector's clock.

use crate::time::Timestamp;

/// How far back a line may be dated, in microseconds: as long as a shipper holds lines while the
/// collector is unreachable.
const BOUND: i64 = 60_000_000;

/// [`super::GATHER`] in microseconds. A line that was gathered for less is dated as if it had
/// waited the full time, but not after its arrival. So all lines of a shipper are late by the same
/// time, which the join can learn, and no line is dated before its mapping, whose own delay is
/// unknown.
const GATHER: i64 = super::GATHER.subsec_micros() as i64;

/// For how long the fastest shipment is remembered, in microseconds, and for as long again: clocks
/// drift, and administrators set them.
const SPAN: i64 = 10_000_000;

/// An estimate of the offset between the sender's clock and the collector's.
///
/// The time from the send timestamp to the arrival is the travel time plus the clock offset. The
/// least such time of the last seconds is an upper bound of the offset. The excess of a shipment
/// over that minimum is time it spent waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SenderClock {
    /// The least time from sending to arrival, in this span and in the previous one, in
    /// microseconds.
    least: [i64; 2],
    /// When the current span began.
    since: Timestamp,
}

impl SenderClock {
    pub(crate) const fn new() -> Self {
        Self { least: [i64::MAX; 2], since: Timestamp::MIN }
    }

    /// Records the arrival of a shipment that was `sent` by the sender's clock. Returns the send
    /// time by the collector's clock, never later than the arrival.
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

    /// Microseconds by which the sender's clock is ahead of the collector's, less the travel time
    /// of the fastest recent shipment.
    pub(crate) fn ahead(&self) -> i64 {
        self.least[0].min(self.least[1]).saturating_neg()
    }

    /// The time at which a line was read, `age` microseconds before its shipment was sent; late by
    /// the same constant for all lines.
    pub(super) fn read(sent: Timestamp, age: u32, now: Timestamp) -> Timestamp {
        bounded(now, now.micros_since(sent).saturating_add(i64::from(age) - GATHER))
    }

    /// Returns the time `micros` microseconds before `now`, within bounds.
    pub(crate) fn before(now: Timestamp, micros: i64) -> Timestamp {
        bounded(now, micros)
    }
}

/// No time is dated after `now`, or further back than [`BOUND`].
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
            // The travel times; the fastest counts as zero.
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
