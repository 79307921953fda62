//! The clock of send timestamps.

use std::time::{Duration, Instant, SystemTime};

use pen_records::time::Timestamp;

/// A clock that was set back by more goes on as if it had not been. Smaller steps do not matter to the collector.
const SET_BACK: Duration = Duration::from_millis(100);

/// The system's clock, but never set back: a collector takes the time from sending to arrival for a line's waiting
/// time.
#[derive(Debug, Default)]
pub(super) struct SendClock {
    /// The last time, by the monotonic clock and since 1970.
    last: Option<(Instant, Duration)>,
}

impl SendClock {
    pub(super) fn now(&mut self) -> Timestamp {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = self.next(Instant::now(), wall);
        Timestamp::from_micros(0) + now
    }

    fn next(&mut self, now: Instant, wall: Duration) -> Duration {
        let time = match self.last {
            Some((last, time)) => {
                let expected = time + now.saturating_duration_since(last);
                if wall + SET_BACK < expected { expected } else { wall }
            }
            None => wall,
        };
        self.last = Some((now, time));
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_goes_on() {
        let (mut clock, start) = (SendClock::default(), Instant::now());
        let seconds = Duration::from_secs;
        for (passed, wall, expected) in [
            (0, 1_000, 1_000),
            (1, 1_001, 1_001),
            (2, 942, 1_002),
            (12, 952, 1_012),
            // Set right again, and forward.
            (13, 1_013, 1_013),
            (14, 4_614, 4_614),
        ] {
            assert_eq!(
                clock.next(start + seconds(passed), seconds(wall)),
                seconds(expected),
                "{passed}"
            );
        }
    }
}
