//! Time zones of logs whose times have none: an offset, a name, or the zone of this machine.

use std::str::FromStr;

use chrono::{DateTime, Local, MappedLocalTime, NaiveDateTime, Offset as _, TimeDelta, TimeZone};
use chrono_tz::Tz;
use pen_records::access::{AccessLine, StampZone};
use pen_records::time::{Resolution, Timestamp};

const SECOND: i64 = 1_000_000;
/// Offsets of zones change at multiples of this time: microseconds.
const QUARTER: i64 = 900 * SECOND;
/// How far lines of one log are out of order at most, where an hour comes twice: microseconds.
const DISORDER: i64 = 1_200 * SECOND;

/// The zone of timestamps without a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogZone {
    /// This machine's zone, as of the timestamp.
    Here,
    /// Seconds ahead of UTC.
    Ahead(i64),
    /// A zone of the time zone database.
    Named(Tz),
}

impl FromStr for LogZone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "local" => return Ok(Self::Here),
            "UTC" | "Z" => return Ok(Self::Ahead(0)),
            _ => {}
        }
        match text.split_at_checked(1) {
            Some(("+", digits)) => seconds(digits).map(Self::Ahead),
            Some(("-", digits)) => seconds(digits).map(|seconds| Self::Ahead(-seconds)),
            _ => text.parse().ok().map(Self::Named),
        }
        .ok_or_else(|| {
            "expected local, UTC, hours and minutes ahead of UTC, as in +0200, or the name of a zone, as in \
             Europe/Berlin"
                .to_owned()
        })
    }
}

/// Returns the seconds of four digits of hours and minutes.
fn seconds(digits: &str) -> Option<i64> {
    let digits = digits.replace(':', "");
    // A number may begin with a sign, this one not.
    let number =
        digits.parse::<i64>().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
    let (hours, minutes) = (number / 100, number % 100);
    (digits.len() == 4 && hours < 24 && minutes < 60).then_some(hours * 3_600 + minutes * 60)
}

impl LogZone {
    /// Returns the seconds ahead of UTC when clocks in the zone show `wall`; for an hour that comes twice, both,
    /// the first one first.
    fn ahead(self, wall: Timestamp) -> (i64, Option<i64>) {
        let Some(wall) = DateTime::from_timestamp_micros(wall.as_micros()) else {
            return (0, None);
        };
        match self {
            Self::Ahead(seconds) => (seconds, None),
            Self::Here => of_zone(&Local, wall.naive_utc()),
            Self::Named(zone) => of_zone(&zone, wall.naive_utc()),
        }
    }
}

fn of_zone<Z: TimeZone>(zone: &Z, wall: NaiveDateTime) -> (i64, Option<i64>) {
    let ahead = |time: &DateTime<Z>| i64::from(time.offset().fix().local_minus_utc());
    let shown = |wall: NaiveDateTime| match wall.and_local_timezone(zone.clone()) {
        MappedLocalTime::Single(time) => Some((ahead(&time), None)),
        MappedLocalTime::Ambiguous(one, other) => {
            let (one, other) = (ahead(&one), ahead(&other));
            // The first has less of UTC behind it.
            Some((one.max(other), Some(one.min(other))))
        }
        MappedLocalTime::None => None,
    };
    // No clock ever showed a time that is left out. One that was not set forward yet would show it.
    let before = || shown(wall.checked_sub_signed(TimeDelta::hours(3))?);
    shown(wall).or_else(before).unwrap_or((0, None))
}

/// Times of one log, which have no zone. Of an hour that comes twice, when summer time ends, the order of the lines
/// says which it is.
#[derive(Clone, Debug)]
pub(crate) struct LocalTimes {
    zone: LogZone,
    /// The last quarter of an hour of local time, and the seconds ahead of UTC in it.
    quarter: (i64, (i64, Option<i64>)),
    /// The time of the last line, in microseconds.
    last: Option<i64>,
}

impl LocalTimes {
    pub(crate) fn new(zone: LogZone) -> Self {
        Self { zone, quarter: (i64::MIN, (0, None)), last: None }
    }

    /// Returns the seconds that the zone is ahead of UTC at the next line's time.
    pub(crate) fn ahead(&mut self, wall: Timestamp) -> i64 {
        let (first, second) = self.both(wall);
        let utc = |ahead: i64| wall.as_micros().saturating_sub(ahead.saturating_mul(SECOND));
        let is_second = self.last.is_some_and(|last| utc(first).saturating_add(DISORDER) < last);
        let ahead = second.filter(|_| is_second).unwrap_or(first);
        self.last = Some(utc(ahead));
        ahead
    }

    /// Returns whether the time comes twice, so that it takes the lines before to know which it is.
    pub(crate) fn is_ambiguous(&mut self, wall: Timestamp) -> bool {
        self.both(wall).1.is_some()
    }

    /// Returns the time in UTC of the next line.
    pub(crate) fn utc(&mut self, wall: Timestamp) -> Timestamp {
        wall.offset_by(self.ahead(wall).saturating_mul(-SECOND))
    }

    fn both(&mut self, wall: Timestamp) -> (i64, Option<i64>) {
        let quarter = wall.as_micros().div_euclid(QUARTER);
        if quarter != self.quarter.0 {
            self.quarter = (quarter, self.zone.ahead(wall));
        }
        self.quarter.1
    }
}

/// Times of one access log, whose lines may have a zone or not.
pub(crate) struct AccessTimes {
    /// Whether a zone was asked for.
    is_chosen: bool,
    local: LocalTimes,
}

impl AccessTimes {
    pub(crate) fn new(chosen: Option<LogZone>) -> Self {
        let local = LocalTimes::new(chosen.unwrap_or(LogZone::Here));
        Self { is_chosen: chosen.is_some(), local }
    }

    /// Returns the time of the next line in UTC.
    #[inline]
    pub(crate) fn of(&mut self, line: &AccessLine) -> Option<(Timestamp, Resolution)> {
        let (wall, resolution) = line.time?;
        Some(if self.is_local(line) {
            (self.local.utc(wall), resolution)
        } else {
            (wall, resolution)
        })
    }

    /// Returns the time of a line in UTC, whatever lines came before; `None` if it takes them to know it.
    pub(crate) fn of_single(&mut self, line: &AccessLine) -> Option<(Timestamp, Resolution)> {
        let (wall, _) = line.time?;
        if self.is_local(line) && self.local.is_ambiguous(wall) { None } else { self.of(line) }
    }

    #[inline]
    fn is_local(&self, line: &AccessLine) -> bool {
        match line.zone {
            StampZone::Given => false,
            StampZone::Missing => true,
            StampZone::MissingAfterT => self.is_chosen,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 29 October 2023, 00:00 UTC: in Berlin summer time ends an hour later.
    const NIGHT: i64 = 1_698_537_600;

    #[test]
    fn zones_are_offsets_or_names() {
        for (text, seconds) in
            [("UTC", 0), ("+0200", 7_200), ("-03:30", -12_600), ("+0545", 20_700)]
        {
            assert_eq!(text.parse(), Ok(LogZone::Ahead(seconds)), "{text}");
        }
        assert_eq!("local".parse(), Ok(LogZone::Here));
        for (text, zone) in [("Europe/Berlin", Tz::Europe__Berlin), ("CET", Tz::CET)] {
            assert_eq!(text.parse(), Ok(LogZone::Named(zone)), "{text}");
        }
        for text in ["", "+2", "Berlin", "+2500", "+0260", "0200", "+02000", "++200", "+-100"] {
            assert!(text.parse::<LogZone>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_order_says_which_of_two_hours_it_is() {
        let mut times = LocalTimes::new("Europe/Berlin".parse().unwrap());
        for utc in (-4..8).map(|quarter| NIGHT + quarter * 900) {
            let wall = utc + if utc < NIGHT + 3_600 { 7_200 } else { 3_600 };
            // A line that began before the one before it.
            for early in [0, 600] {
                let is_over = utc >= NIGHT + 3_600 && utc - early < NIGHT + 3_600;
                let wall = wall - early + if is_over { 3_600 } else { 0 };
                let found = times.utc(Timestamp::from_seconds(wall));
                assert_eq!(found, Timestamp::from_seconds(utc - early), "{}", utc - NIGHT);
            }
        }
        // Before a line is known it is the first.
        let mut times = LocalTimes::new("Europe/Berlin".parse().unwrap());
        let wall = Timestamp::from_seconds(NIGHT + 7_500);
        assert!(times.is_ambiguous(wall));
        assert_eq!(times.utc(wall), Timestamp::from_seconds(NIGHT + 300));
        // In spring an hour is left out: 26 March 2023, 01:00 UTC.
        let left_out = Timestamp::from_seconds(1_679_792_400 + 3_600 + 60);
        assert_eq!(times.utc(left_out), Timestamp::from_seconds(1_679_792_400 + 60));
    }

    proptest! {
        #[test]
        fn no_time_is_too_far(wall in any::<i64>(), name in "Europe/Berlin|local|[+]0200") {
            let mut times = LocalTimes::new(name.parse().unwrap());
            times.utc(Timestamp::from_micros(wall));
            times.utc(Timestamp::from_micros(wall.wrapping_add(7)));
        }
    }
}
