//! Live estimate of how far a server's clock is ahead of the collector's.
//!
//! A line arrives after it was logged. So its logged time minus its arrival time is at most the clock offset, less by the delay
//! on the way and by the truncation of the logged time. Over many lines the greatest difference is close to the offset: with
//! whole-second times, one line in twenty is truncated by less than 50 ms.

use std::fmt;

use pen_records::time::{Resolution, Timestamp};

/// Length of a period in microseconds; the greatest difference of this and the last period counts, since clocks drift and are set.
const SPAN: i64 = 60_000_000;

/// Lines needed for an estimate.
const ENOUGH: u32 = 8;

/// Microseconds by which a line is late, besides its resolution, that was logged before its shipper ran.
const BACKLOG: i64 = 500_000;

/// Microseconds from the first line of a new shipper in which it reads what was logged before it ran.
const FIRST_READ: i64 = 150_000;

/// Microseconds after which a shipper that catches up has to have become less late, and by how many: otherwise its lines
/// are late for another reason.
const CATCH_UP: i64 = 2_000_000;
const CAUGHT_UP: i64 = 1_000_000;

/// Microseconds by which the first line has to be late by the shipper's clock alone: servers write blocks that late.
const BACKLOG_LONG: i64 = 10_000_000;

/// Microseconds up to which a line may be late by the shipper's clock alone. Beyond, its stamp may be of another time zone.
const PLAUSIBLE: i64 = 14 * 60_000_000;

/// Offset in microseconds below which a clock counts as right.
const TINY: i64 = 50_000;

/// The greatest difference of a server's lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerClock {
    /// The current period and the one before.
    spans: [ClockPeriod; 2],
    /// Start of the current period.
    since: Timestamp,
    step: i64,
    /// What is known while lines are read that may have been logged long before.
    catches_up: Option<CatchUp>,
}

/// A shipper that reads lines late.
#[derive(Clone, Copy, Debug, Default)]
struct CatchUp {
    /// Of a new shipper: microseconds by which the clock of its machine is ahead, and when it read its first line.
    shipper: Option<i64>,
    first_read: Option<Timestamp>,
    /// When a line was looked at to see whether lines become less late, and by how many microseconds that was late.
    looked: Option<(Timestamp, i64)>,
}

#[derive(Clone, Copy, Debug)]
struct ClockPeriod {
    greatest: i64,
    lines: u32,
}

const EMPTY: ClockPeriod = ClockPeriod { greatest: i64::MIN, lines: 0 };

/// Offset of a server's clock against another clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveClockOffset {
    /// Microseconds by which it is ahead; negative if behind.
    pub micros: i64,
    /// Error bound in microseconds: larger with fewer lines and coarser logged times.
    pub within: i64,
    /// Number of lines of the last two periods.
    pub lines: u32,
}

impl Default for ServerClock {
    fn default() -> Self {
        Self { spans: [EMPTY; 2], since: Timestamp::MIN, step: 1, catches_up: None }
    }
}

impl ServerClock {
    /// Takes notice of a shipper that is new, whose clock is `ahead` by so many microseconds: it may go on where another
    /// one was ended.
    pub(crate) fn catch_up(&mut self, ahead: i64) {
        self.catches_up = Some(CatchUp { shipper: Some(ahead), ..CatchUp::default() });
    }

    /// Adds a line, and returns the time that dates it: that of reading, or the logged time by the collector's
    /// clock if the shipper reads what was logged long before. A shipper is `behind` if it could not send the line at once.
    pub(crate) fn date(
        &mut self,
        logged: (Timestamp, Resolution),
        read: Timestamp,
        is_behind: bool,
    ) -> (Timestamp, Resolution) {
        let by_reading = (read, Resolution::Microsecond);
        let ahead = self.ahead().map(|clock| clock.micros);
        if is_behind && ahead.is_some() {
            self.catches_up.get_or_insert_default();
        }
        if let Some(catches_up) = &mut self.catches_up {
            if let Some(at) = catches_up.logged_here(logged.0, read, ahead) {
                let (late, is_known) = (read.micros_since(at), ahead.is_some());
                let is_late = late > logged.1.micros() + BACKLOG;
                // By the stamp even if the line is late by less than the stamp can tell.
                if catches_up.is_first(read, is_known)
                    || is_late && catches_up.goes_on(read, late, is_known)
                {
                    return (at, logged.1);
                }
                if is_behind {
                    return by_reading;
                }
            }
            self.catches_up = None;
        }
        self.note(logged, read);
        by_reading
    }

    /// Whether lines are read that may have been logged long before.
    pub(crate) const fn catches_up(&self) -> bool {
        self.catches_up.is_some()
    }

    /// Adds a line: `logged` by the server's clock, `read` by the collector's.
    fn note(&mut self, (logged, resolution): (Timestamp, Resolution), read: Timestamp) {
        let age = read.micros_since(self.since);
        if age >= SPAN {
            let before = if age < 2 * SPAN { self.spans[0] } else { EMPTY };
            (self.spans, self.since, self.step) = ([EMPTY, before], read, 1);
        }
        let span = &mut self.spans[0];
        span.greatest = span.greatest.max(logged.micros_since(read));
        span.lines = span.lines.saturating_add(1);
        self.step = self.step.max(resolution.micros());
    }

    /// Returns the offset against the collector's clock, or `None` with too few lines.
    pub(crate) fn ahead(&self) -> Option<LiveClockOffset> {
        let lines = self.spans[0].lines.saturating_add(self.spans[1].lines);
        let micros = self.spans[0].greatest.max(self.spans[1].greatest);
        // In one of 20 cases each of this many lines is truncated by more.
        let within = 3 * self.step / (i64::from(lines) + 1);
        (lines >= ENOUGH).then_some(LiveClockOffset { micros, within, lines })
    }
}

impl CatchUp {
    /// Returns the logged time by the collector's clock, given how far the server's clock is ahead; `None` if nothing
    /// plausible is known of it.
    fn logged_here(
        &self,
        logged: Timestamp,
        read: Timestamp,
        ahead: Option<i64>,
    ) -> Option<Timestamp> {
        if let Some(ahead) = ahead {
            return Some(logged.offset_by(-ahead));
        }
        let at = logged.offset_by(-self.shipper?);
        (read.micros_since(at).abs() <= PLAUSIBLE).then_some(at)
    }

    /// Whether a line belongs to those that a new shipper finds. Unless the server's clock `is_known`, nobody knows.
    fn is_first(&mut self, read: Timestamp, is_known: bool) -> bool {
        if self.shipper.is_none() || !is_known {
            return false;
        }
        let first = *self.first_read.get_or_insert(read);
        read.micros_since(first) < FIRST_READ
    }

    /// Whether lines become less late: `late` microseconds is the last one.
    fn goes_on(&mut self, read: Timestamp, late: i64, is_known: bool) -> bool {
        let Some((since, before)) = self.looked else {
            self.looked = Some((read, late));
            return late > BACKLOG_LONG || is_known;
        };
        if read.micros_since(since) < CATCH_UP {
            return true;
        }
        self.looked = Some((read, late));
        late <= before.saturating_sub(CAUGHT_UP)
    }
}

impl LiveClockOffset {
    /// Returns the offset against another clock, which is itself `other` microseconds ahead.
    #[must_use]
    pub fn of(self, other: i64) -> Self {
        Self { micros: self.micros.saturating_sub(other), ..self }
    }
}

impl fmt::Display for LiveClockOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |micros: i64| {
            let millis = micros.unsigned_abs().div_ceil(1_000);
            format!("{}.{:03}", millis / 1_000, millis % 1_000)
        };
        if self.micros.abs() < TINY.max(self.within) {
            write!(f, "clock right to {} s", millis(TINY.max(self.within)))
        } else {
            let way = if self.micros < 0 { "behind" } else { "ahead" };
            write!(f, "clock {} s {way}, to {} s", millis(self.micros), millis(self.within))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn cut(time: Timestamp, resolution: Resolution) -> (Timestamp, Resolution) {
        let step = resolution.micros();
        (Timestamp::from_micros(time.as_micros().div_euclid(step) * step), resolution)
    }

    #[test]
    fn what_is_right_is_told_from_what_is_off() {
        for (micros, within, expected) in [
            (-12_000, 3_000, "clock right to 0.050 s"),
            (90_000, 120_000, "clock right to 0.120 s"),
            (3_004_000, 15_000, "clock 3.004 s ahead, to 0.015 s"),
            (-90_000_000, 15_000, "clock 90.000 s behind, to 0.015 s"),
        ] {
            assert_eq!(LiveClockOffset { micros, within, lines: 9 }.to_string(), expected);
        }
        assert_eq!(ServerClock::default().ahead(), None);
    }

    #[test]
    fn what_a_new_shipper_reads_late_is_dated_by_its_stamp() {
        let at = |millis: i64| Timestamp::from_micros(1_795_379_000 * SECOND + millis * 1_000);
        let fine = |time| (time, Resolution::Microsecond);
        let mut clock = ServerClock::default();
        // Its clock is 7 s ahead.
        let stamp = |millis| cut(at(millis + 7_000), Resolution::Second);
        clock.catch_up(0);
        for second in 0..20 {
            let read = at(second * 1_000 + 5);
            assert_eq!(
                clock.date(stamp(second * 1_000), read, false),
                fine(read),
                "none was late yet"
            );
        }
        // A slow answer is no backlog.
        assert_eq!(clock.date(stamp(15_000), at(25_000), false), fine(at(25_000)));
        clock.catch_up(0);
        let read = at(60_000);
        for second in 30..58 {
            let (found, resolution) = clock.date(stamp(second * 1_000), read, false);
            let error = found.micros_since(at(second * 1_000)).abs();
            assert!(resolution == Resolution::Second && error < 10_000, "{error}");
        }
        let found = clock.date(stamp(59_900), read, false);
        assert_eq!(found.1, Resolution::Second, "what is found at once was logged before");
        assert_eq!(clock.date(stamp(60_150), at(60_160), false), fine(at(60_160)));
        assert_eq!(
            clock.date(stamp(50_000), at(60_200), false),
            fine(at(60_200)),
            "a slow answer again"
        );
    }

    #[test]
    fn the_first_lines_of_a_long_backlog_are_dated_by_the_shippers_clock() {
        let at = |millis: i64| Timestamp::from_micros(1_795_379_000 * SECOND + millis * 1_000);
        let fine = |time| (time, Resolution::Microsecond);
        // The shipper's machine is 3 s ahead; 300 s are sent in 10 s.
        let stamp = |millis| cut(at(millis + 3_000), Resolution::Second);
        let mut clock = ServerClock::default();
        clock.catch_up(3 * SECOND);
        for tenth in 0..3_000 {
            let (logged, read) = (tenth * 100, 300_000 + tenth * 100 / 30);
            let (found, _) = clock.date(stamp(logged), at(read), false);
            let error = found.micros_since(at(logged)).abs();
            assert!(
                error <= SECOND || found == at(read) && read - logged < 1_600,
                "{logged}: {error}"
            );
        }
        // A log in blocks, and a server of another time zone, are no backlog.
        for late in [9_000, 3_600_000] {
            let mut clock = ServerClock::default();
            clock.catch_up(3 * SECOND);
            assert_eq!(clock.date(stamp(0), at(late), false), fine(at(late)));
            assert!(!clock.catches_up());
        }
        // Nor are slow answers, if they do not become less late.
        clock.catch_up(3 * SECOND);
        let dated = (0..20).map(|second| second * 1_000 + 400_000);
        let by_reading = dated
            .filter(|&read| clock.date(stamp(read - 5_000), at(read), false) == fine(at(read)));
        assert!(by_reading.count() >= 14);
    }

    #[test]
    fn a_shipper_that_could_not_send_catches_up() {
        let at = |millis: i64| Timestamp::from_micros(1_795_379_000 * SECOND + millis * 1_000);
        let fine = |time| (time, Resolution::Microsecond);
        let stamp = |millis| cut(at(millis), Resolution::Second);
        let mut clock = ServerClock::default();
        for second in 0..20 {
            assert_eq!(
                clock.date(stamp(second * 1_000), at(second * 1_000), false).0,
                at(second * 1_000)
            );
        }
        // What it had read is dated by its reading, and what it reads afterwards by its stamp.
        assert_eq!(clock.date(stamp(20_000), at(20_000), true), fine(at(20_000)));
        for second in 21..60 {
            let (found, _) = clock.date(stamp(second * 1_000), at(60_500), false);
            let error = found.micros_since(at(second * 1_000)).abs();
            assert!(error < SECOND || second == 59, "{second}: {error}");
        }
        assert!(!clock.catches_up());
    }

    #[test]
    fn a_clock_that_is_set_back_is_right_two_minutes_later() {
        let mut clock = ServerClock::default();
        let mut ahead = Vec::new();
        for second in 0..400 {
            let read = Timestamp::from_micros(second * 1_010_000);
            let logged = read.offset_by(if second < 200 { 3_600 * SECOND } else { 0 } - 2_000);
            clock.note(cut(logged, Resolution::Second), read);
            ahead.push(clock.ahead().map(|ahead| ahead.micros / SECOND));
        }
        assert_eq!((ahead[199], ahead[399]), (Some(3_599), Some(0)));
        assert!(ahead[330..].iter().all(|ahead| *ahead == Some(0)), "{ahead:?}");
    }

    proptest! {
        #[test]
        fn a_hundred_lines_say_it_to_50_ms_and_no_line_says_too_much(
            ahead in -4_000 * SECOND..4_000 * SECOND,
            lines in proptest::collection::vec((0..400_000_i64, 0..20_000_i64), 100..300),
            is_fine in any::<bool>(),
        ) {
            let resolution = if is_fine { Resolution::Millisecond } else { Resolution::Second };
            let (mut clock, mut time) = (ServerClock::default(), Timestamp::from_seconds(1_795_379_000));
            for (passed, took) in lines {
                time = time.offset_by(passed);
                clock.note(cut(time.offset_by(ahead), resolution), time.offset_by(took));
            }
            let found = clock.ahead().expect("there are enough");
            prop_assert!(found.micros <= ahead, "{found:?} for {ahead}");
            // Seldom it is more, where chance cuts all of them by more.
            prop_assert!(found.micros >= ahead - 50_000 - 2 * found.within, "{found:?} for {ahead}");
        }
    }
}
