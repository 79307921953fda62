//! The clock of a run: it is never set, so ages of records stay right however late they are sent.
//!
//! A collector dates a record by its age, the time of sending less the record's own time. Both have to be by one clock. The
//! system's clock may be set between them, by hours for a packet that waited for hours. So packets carry the time at the
//! run's start and the time passed since, which counts sleep and is never set. Records made by a clock that was set since the
//! start are dated anew.

use std::hash::{BuildHasher as _, RandomState};

use nix::time::{ClockId, clock_gettime};
use pen_records::shipment::SenderOrigin;
use pen_records::time::Timestamp;

use crate::logs::mapping_log::wall_clock;

/// A smaller difference, in microseconds, is an inexact reading.
const STEP: i64 = 2_000;
/// The two clocks are read again if that took longer, in microseconds.
const READING: i64 = 200;
const READINGS: u32 = 4;

/// The system's clock, and the time since the machine's start with sleep, read at once; in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClockReading {
    pub(super) wall: Timestamp,
    pub(super) boot: i64,
}

impl ClockReading {
    pub(super) fn now() -> Self {
        let mut reading = Self { wall: wall_clock(), boot: since_boot() };
        for _ in 0..READINGS {
            let before = since_boot();
            reading = Self { wall: wall_clock(), boot: before };
            if since_boot() - before <= READING {
                break;
            }
        }
        reading
    }
}

fn since_boot() -> i64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_or(0, |time| time.tv_sec() * 1_000_000 + time.tv_nsec() / 1_000)
}

/// The clock of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunClock {
    start: Timestamp,
    /// The time since the machine's start when the run began; `None` for a run before the machine's last start.
    boot: Option<i64>,
    /// Microseconds by which the system's clock is ahead of this one, and was before it was set last.
    ahead: [i64; 2],
}

impl RunClock {
    /// The clock of a run that began at the reading.
    pub(super) const fn new(start: ClockReading) -> Self {
        Self { start: start.wall, boot: Some(start.boot), ahead: [0; 2] }
    }

    /// The clock of an earlier run. `boot` is as in the reading at its start, if the machine has not started again since.
    pub(super) const fn earlier(start: Timestamp, boot: Option<i64>) -> Self {
        Self { start, boot, ahead: [0; 2] }
    }

    /// The time by this clock.
    pub(super) fn at(&self, reading: ClockReading) -> Timestamp {
        match self.boot {
            Some(boot) => self.start.offset_by(reading.boot - boot),
            None => reading.wall.offset_by(-self.ahead[0]),
        }
    }

    /// The time by this clock; notes whether the system's clock was set.
    pub(super) fn read(&mut self, reading: ClockReading) -> Timestamp {
        let now = self.at(reading);
        let ahead = reading.wall.micros_since(now);
        if (ahead - self.ahead[0]).abs() > STEP {
            self.ahead = [ahead, self.ahead[0]];
        }
        now
    }

    /// Microseconds by which the system's clock is ahead.
    pub(super) const fn ahead(&self) -> i64 {
        self.ahead[0]
    }

    /// Takes that number from a packet of an earlier run, if nothing better is known.
    pub(super) const fn set_ahead(&mut self, ahead: i64) {
        if self.boot.is_none() {
            self.ahead = [ahead; 2];
        }
    }

    /// Whether the system's clock was set since the start.
    pub(super) fn is_apart(&self) -> bool {
        self.ahead != [0; 2]
    }

    /// Dates by this clock what happened shortly before `now` at `time` by the system's clock, perhaps before that was set.
    pub(super) fn date(&self, time: Timestamp, now: Timestamp) -> Timestamp {
        let dates = self.ahead.map(|ahead| time.offset_by(-ahead));
        let far = |date: &Timestamp| now.micros_since(*date).unsigned_abs();
        dates.into_iter().min_by_key(far).unwrap_or(time)
    }
}

/// An identity, and the clock since it was chosen.
#[derive(Clone, Copy, Debug)]
pub(in crate::logs) struct RecordOrigin {
    pub(super) origin: SenderOrigin,
    pub(super) clock: RunClock,
}

impl RecordOrigin {
    /// Returns a random identity of this process, different from other balancers and from earlier runs.
    pub(in crate::logs) fn new() -> Self {
        let reading = ClockReading::now();
        // The standard library seeds the hasher from the system's random numbers.
        let id = RandomState::new().hash_one((reading.wall.as_micros(), std::process::id()));
        let origin = SenderOrigin { id, start: reading.wall };
        Self { origin, clock: RunClock::new(reading) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(wall: i64, boot: i64) -> ClockReading {
        ClockReading { wall: Timestamp::from_micros(wall), boot }
    }

    #[test]
    fn a_clock_that_is_set_changes_no_age() {
        const HOUR: i64 = 3_600_000_000;
        for step in [-HOUR, -5_000_000, 5_000_000, HOUR] {
            let mut clock = RunClock::new(at(1_000 * HOUR, 70));
            let sent = clock.read(at(1_001 * HOUR, HOUR + 70));
            assert_eq!(sent, Timestamp::from_micros(1_001 * HOUR));
            assert!(!clock.is_apart());
            // Set, and read ten minutes later.
            let later = HOUR + 600_000_000;
            let again = clock.read(at(1_000 * HOUR + later + step, later + 70));
            assert_eq!(again.micros_since(sent), 600_000_000, "{step}");
            assert_eq!((clock.is_apart(), clock.ahead()), (true, step));
            // Two records of 3 ms ago, made before and after.
            for made in [0, step] {
                let time = Timestamp::from_micros(1_000 * HOUR + later + made - 3_000);
                assert_eq!(again.micros_since(clock.date(time, again)), 3_000, "{step} {made}");
            }
        }
    }

    #[test]
    fn the_clock_of_an_earlier_run_goes_on() {
        let start = Timestamp::from_micros(5_000_000);
        let same_boot = RunClock::earlier(start, Some(100));
        assert_eq!(same_boot.at(at(1, 2_000_100)), Timestamp::from_micros(7_000_000));
        let mut another = RunClock::earlier(start, None);
        another.set_ahead(-4_000);
        assert_eq!(another.at(at(9_000_000, 3)), Timestamp::from_micros(9_004_000));
    }

    #[test]
    fn both_clocks_are_read_at_once() {
        let start = ClockReading::now();
        let mut clock = RunClock::new(start);
        let now = clock.read(ClockReading::now());
        assert!(now >= start.wall && start.boot > 0);
    }
}
