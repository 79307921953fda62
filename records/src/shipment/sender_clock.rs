//! The offset between the clock of a sender and the clock of the collector, so that lines and
//! mappings are dated by the collector's clock.

use crate::time::Timestamp;

/// How far back a line or a record may be dated, in microseconds: an outage of a day.
const BOUND: i64 = 86_400_000_000;

/// [`super::GATHER`] in microseconds. A line that was gathered for less is dated as if it had
/// waited the full time, but not after its arrival. So all lines of a shipper are late by the same
/// time, which the join can learn, and no line is dated before its mapping, whose own delay is
/// unknown.
const GATHER: i64 = super::GATHER.subsec_micros() as i64;

/// For how long the fastest shipment is remembered, in microseconds, and for as long again: clocks
/// drift, and administrators set them.
const SPAN: i64 = 10_000_000;

/// For how long after a silence the fastest shipment from before it still counts, in microseconds: what came first may
/// have waited somewhere until then.
const RECALL: i64 = 2_000_000;

/// A later datagram that was sent so much earlier, in microseconds, was sent by a clock that was set back.
const SET_BACK: i64 = 5_000;

/// An estimate of the offset between the sender's clock and the collector's.
///
/// The time from the send timestamp to the arrival is the travel time plus the clock offset. The
/// least such time of the last seconds is an upper bound of the offset. The excess of a shipment
/// over that minimum is time it spent waiting.
///
/// A clock that is set back makes all later times longer, as if each shipment had waited. But shipments
/// are numbered in the order of sending, so a later one with an earlier send timestamp shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SenderClock {
    /// The least time from sending to arrival, in this span and in the previous one, in
    /// microseconds.
    least: [i64; 2],
    /// When the current span began.
    since: Timestamp,
    /// The number and the send timestamp of the shipment with the highest number.
    last: (u64, Timestamp),
    /// The number of the first shipment after the clock was set back, and the least time before: a
    /// shipment sent before may still come.
    set_back: Option<(u64, i64)>,
}

impl SenderClock {
    pub(crate) const fn new() -> Self {
        let (least, since) = ([i64::MAX; 2], Timestamp::MIN);
        Self { least, since, last: (0, Timestamp::MIN), set_back: None }
    }

    /// Records the arrival of a shipment that was `sent` by the sender's clock; numbers grow in the order
    /// of sending. Returns the send time by the collector's clock, never later than the arrival.
    pub(crate) fn arrived(&mut self, number: u64, sent: Timestamp, now: Timestamp) -> Timestamp {
        let passed = now.micros_since(sent);
        if let Some((_, least)) = self.set_back.filter(|(first, _)| number < *first) {
            return bounded(now, passed.saturating_sub(least).max(0));
        }
        let (last, last_sent) = self.last;
        if number >= last {
            if last_sent.micros_since(sent) > SET_BACK && self.is_known() {
                self.set_back = Some((number, self.least[0].min(self.least[1])));
                (self.least, self.since) = ([i64::MAX; 2], now);
            }
            self.last = (number, sent);
        }
        let age = now.micros_since(self.since);
        if age >= 2 * SPAN {
            let before = self.least[0].min(self.least[1]);
            // A datagram waits no longer than the silence lasted: otherwise the clock was set.
            let has_waited = passed.saturating_sub(before) <= age;
            let before = if has_waited { before } else { i64::MAX };
            (self.least, self.since) = ([i64::MAX, before], now.offset_by(RECALL - SPAN));
        } else if age >= SPAN {
            (self.least, self.since) = ([i64::MAX, self.least[0]], now);
        }
        self.least[0] = self.least[0].min(passed);
        let waited = passed.saturating_sub(self.least[0].min(self.least[1]));
        bounded(now, waited)
    }

    fn is_known(&self) -> bool {
        self.least.iter().any(|&least| least < i64::MAX)
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
                let got = clock.arrived(sent.unsigned_abs(), at(sent + wrong), now);
                assert_eq!(got, at(expected).min(now), "{sent}, {wrong} wrong");
                assert_eq!(SenderClock::read(got, 25_000, now), got.offset_by(GATHER - 25_000));
                assert_eq!(SenderClock::read(got, 0, now), now.min(got.offset_by(GATHER)));
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_is_followed() {
        let second = 1_000_000;
        for step in [-3_600 * second, -60 * second, -5 * second, 5 * second, 3_600 * second] {
            let mut clock = SenderClock::new();
            for n in 0..200_u32 {
                // Set after a hundred seconds.
                let wrong = if n < 100 { 0 } else { step };
                let sent = i64::from(n) * second;
                let now = at(sent + 300);
                let got = clock.arrived(n.into(), at(sent + wrong), now);
                assert_eq!(got, now, "{step}: after {n} seconds");
            }
        }
    }

    #[test]
    fn what_waited_while_the_collector_was_stopped_is_dated_by_its_sending() {
        let (mut clock, second) = (SenderClock::new(), 1_000_000);
        for n in 0..30_u32 {
            let sent = i64::from(n) * second;
            assert_eq!(clock.arrived(n.into(), at(sent), at(sent + 300)), at(sent + 300));
        }
        // Stopped for 90 s: the datagrams of the first seconds have waited.
        let start = 119 * second;
        for n in 30..35_u32 {
            let sent = i64::from(n) * second;
            assert_eq!(clock.arrived(n.into(), at(sent), at(start + 300)), at(sent + 300));
        }
        // A clock that was set back by 5 s in a silence is followed after some seconds.
        let step = -5 * second;
        for n in 200..220_u32 {
            let sent = i64::from(n) * second;
            let got = clock.arrived(n.into(), at(sent + step), at(sent + 300));
            let expected = if n < 202 { sent + step } else { sent };
            assert_eq!(got, at(expected + 300), "{n}");
        }
    }

    #[test]
    fn what_was_sent_before_a_clock_was_set_back_may_come_after() {
        let (mut clock, second) = (SenderClock::new(), 1_000_000);
        for n in [0_u32, 1, 2, 5, 6] {
            let wrong = if n < 4 { 0 } else { -60 * second };
            let sent = i64::from(n) * second;
            let got = clock.arrived(n.into(), at(sent + wrong), at(sent + 300));
            assert_eq!(got, at(sent + 300), "{n}");
        }
        // Both waited for the rest of ten seconds.
        assert_eq!(clock.arrived(3, at(3 * second), at(10 * second + 300)), at(3 * second + 300));
        assert_eq!(clock.arrived(7, at(-53 * second), at(10 * second + 300)), at(7 * second + 300));
    }

    proptest! {
        #[test]
        fn no_line_is_dated_after_its_arrival_or_far_before(
            shipments in proptest::collection::vec(
                (any::<i64>(), any::<u32>(), any::<i64>(), any::<u64>()), 1..20,
            ),
        ) {
            let mut clock = SenderClock::new();
            for (sent, age, now, number) in shipments {
                let now = at(now);
                let sent = clock.arrived(number, at(sent), now);
                for time in [sent, SenderClock::read(sent, age, now)] {
                    prop_assert!(time <= now && now.micros_since(time) <= BOUND);
                }
            }
        }
    }
}
