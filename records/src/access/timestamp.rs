//! Timestamps in access lines, parsed by arithmetic: without a calendar library or time zone data.
//!
//! `10/Oct/2000:13:55:36 -0700` is Apache's `%t` (`mod_log_config` manual) and nginx's
//! `$time_local`; ISO 8601 is `$time_iso8601` (`ngx_http_log_module` manual) and Traefik's format;
//! seconds since the epoch with a fraction are `$msec` and Caddy's `ts`.

use super::StampZone;
use crate::time::{Resolution, Timestamp};

/// A time, its resolution, and the end of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ParsedTime {
    pub(super) time: (Timestamp, Resolution),
    pub(super) zone: StampZone,
    pub(super) end: usize,
}

/// Parses times; caches the last time, its day and its zone, which consecutive lines mostly share.
/// The cache starts with the epoch.
#[derive(Clone, Debug)]
pub(crate) struct TimestampParser {
    stamp: [u8; CLF],
    seconds: i64,
    date: [u8; 12],
    date_seconds: i64,
    zone: [u8; 5],
    zone_seconds: i64,
}

/// Length of `10/Oct/2000:13:55:36 -0700`.
const CLF: usize = 26;

impl Default for TimestampParser {
    fn default() -> Self {
        Self {
            stamp: *b"01/Jan/1970:00:00:00 +0000",
            seconds: 0,
            date: *b"01/Jan/1970:",
            date_seconds: 0,
            zone: *b"+0000",
            zone_seconds: 0,
        }
    }
}

impl TimestampParser {
    /// Parses a time in any format with a zone, at `at`.
    #[inline]
    pub(super) fn any(&mut self, text: &[u8], at: usize) -> Option<ParsedTime> {
        self.clf(text, at).or_else(|| iso(text, at)).or_else(|| epoch(text, at))
    }

    /// Parses `dd/Mon/yyyy:hh:mm:ss[.fraction] +hhmm` at `at`.
    #[inline]
    pub(super) fn clf(&mut self, text: &[u8], at: usize) -> Option<ParsedTime> {
        let rest = text.get(at..)?;
        let head: &[u8; CLF] = rest.first_chunk()?;
        if *head != self.stamp {
            if head[20] != b' ' {
                return self.clf_fraction(rest, at);
            }
            self.seconds = self.clf_seconds(head.first_chunk()?, head.last_chunk()?)?;
            self.stamp = *head;
        }
        let time = (Timestamp::from_seconds(self.seconds), Resolution::Second);
        Some(ParsedTime { time, zone: StampZone::Given, end: at + CLF })
    }

    #[cold]
    fn clf_fraction(&mut self, rest: &[u8], at: usize) -> Option<ParsedTime> {
        let (micros, resolution, taken) = fraction(rest.get(20..)?)?;
        let zone = rest.get(20 + taken..)?.strip_prefix(b" ")?.first_chunk()?;
        let seconds = self.clf_seconds(rest.first_chunk()?, zone)?;
        let time = Timestamp::from_seconds(seconds).offset_by(micros);
        let time = (time, resolution);
        Some(ParsedTime { time, zone: StampZone::Given, end: at + CLF + taken })
    }

    /// Parses the local time of nginx's error log (`2023/11/14 22:13:20`) or Apache's
    /// (`[Tue Nov 14 22:13:20.123456 2023]`) at the beginning of a line. The zone is that of the
    /// last time with a zone.
    pub(super) fn local(&self, line: &[u8]) -> Option<(Timestamp, Resolution)> {
        let (midnight, clock, fraction_at) = match line {
            [y3, y2, y1, y0, b'/', m1, m0, b'/', d1, d0, b' ', rest @ ..] => {
                let year = two(*y3, *y2)? * 100 + two(*y1, *y0)?;
                (midnight(year, two(*m1, *m0)?, two(*d1, *d0)?)?, rest.first_chunk()?, None)
            }
            [b'[', _, _, _, b' ', m2, m1, m0, b' ', d1, d0, b' ', rest @ ..] => {
                let close = rest.iter().take(24).position(|&b| b == b']').unwrap_or(rest.len());
                let [.., b' ', y3, y2, y1, y0] = rest.get(..close.min(24))? else { return None };
                let year = two(*y3, *y2)? * 100 + two(*y1, *y0)?;
                let tens = if *d1 == b' ' { b'0' } else { *d1 };
                let day = two(tens, *d0)?;
                let midnight = midnight(year, month(&[*m2, *m1, *m0])?, day)?;
                (midnight, rest.first_chunk()?, rest.get(8..))
            }
            _ => return None,
        };
        let seconds = midnight + time_of_day(clock)? - self.zone_seconds;
        let (micros, resolution, _) =
            fraction_at.and_then(fraction).unwrap_or((0, Resolution::Second, 0));
        Some((Timestamp::from_seconds(seconds).offset_by(micros), resolution))
    }

    #[inline]
    fn clf_seconds(&mut self, stamp: &[u8; 20], zone: &[u8; 5]) -> Option<i64> {
        let date: &[u8; 12] = stamp.first_chunk()?;
        if *date != self.date {
            self.date_seconds = clf_date(date)?;
            self.date = *date;
        }
        if *zone != self.zone {
            let (seconds, taken) = numeric_zone(zone)?;
            if taken != zone.len() {
                return None;
            }
            self.zone_seconds = seconds;
            self.zone = *zone;
        }
        let clock: &[u8; 8] = stamp.last_chunk()?;
        Some(self.date_seconds + time_of_day(clock)? - self.zone_seconds)
    }
}

/// Parses `dd/Mon/yyyy:`; returns the seconds from the epoch to midnight of that day.
fn clf_date(date: &[u8; 12]) -> Option<i64> {
    let [d1, d0, b'/', m @ .., b'/', y3, y2, y1, y0, b':'] = date else { return None };
    let day = two(*d1, *d0)?;
    let year = two(*y3, *y2)? * 100 + two(*y1, *y0)?;
    midnight(year, month(m)?, day)
}

/// Midnight of a day in seconds since the epoch; `None` for a day that does not exist.
pub(super) fn midnight(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    ((1..=length).contains(&day)).then(|| days_to(year, month, day) * 86_400)
}

/// Days since 1970-01-01. Years are counted from March, so that the leap day is the last of a year.
fn days_to(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before_year = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    before_year + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// The number of a month from its English abbreviation, in any case.
pub(super) fn month(name: &[u8]) -> Option<i64> {
    const NAMES: [&[u8; 3]; 12] = [
        b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov",
        b"dec",
    ];
    let index = NAMES.iter().position(|n| n.eq_ignore_ascii_case(name))?;
    i64::try_from(index + 1).ok()
}

/// Parses `hh:mm:ss`; a leap second is allowed.
pub(super) fn time_of_day(clock: &[u8; 8]) -> Option<i64> {
    let [h1, h0, b':', m1, m0, b':', s1, s0] = *clock else { return None };
    let (hours, minutes, seconds) = (two(h1, h0)?, two(m1, m0)?, two(s1, s0)?);
    (hours < 24 && minutes < 60 && seconds < 61).then_some(hours * 3600 + minutes * 60 + seconds)
}

/// Parses `Z`, `+hhmm` or `+hh:mm`: returns the seconds to subtract for UTC, and the length.
pub(super) fn numeric_zone(text: &[u8]) -> Option<(i64, usize)> {
    let (sign, digits) = match text.first()? {
        b'Z' | b'z' => return Some((0, 1)),
        b'+' => (1, text.get(1..)?),
        b'-' => (-1, text.get(1..)?),
        _ => return None,
    };
    let (hours, minutes, taken) = match *digits {
        [h1, h0, b':', m1, m0, ..] => (two(h1, h0)?, two(m1, m0)?, 6),
        [h1, h0, m1, m0, ..] => (two(h1, h0)?, two(m1, m0)?, 5),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some((sign * (hours * 3600 + minutes * 60), taken))
}

fn two(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| i64::from(tens * 10 + ones))
}

/// Parses `.` or `,` and digits: returns microseconds, resolution and length.
pub(super) fn fraction(text: &[u8]) -> Option<(i64, Resolution, usize)> {
    if !matches!(text.first()?, b'.' | b',') {
        return None;
    }
    let digits = text.get(1..)?.iter().take_while(|b| b.is_ascii_digit()).count();
    let micros = fraction_micros(text.get(1..=digits)?);
    let resolution = match digits {
        0 => return None,
        1..=3 => Resolution::Millisecond,
        _ => Resolution::Microsecond,
    };
    Some((micros, resolution, digits + 1))
}

/// Converts the digits of a fraction of a second to microseconds; finer digits are dropped.
pub(super) fn fraction_micros(digits: &[u8]) -> i64 {
    let mut digits = digits.iter().copied().chain(std::iter::repeat(b'0'));
    (0..6).fold(0, |value, _| value * 10 + i64::from(digits.next().unwrap_or(b'0') - b'0'))
}

/// Parses `yyyy-mm-ddThh:mm:ss[.fraction](Z|+hh:mm)` at `at` (ISO 8601 as profiled by RFC 3339),
/// with `T` or a space. A missing zone means UTC, but only after a `T`, as in Traefik's log.
pub(super) fn iso(text: &[u8], at: usize) -> Option<ParsedTime> {
    let rest = text.get(at..)?;
    let head: &[u8; 19] = rest.first_chunk()?;
    let [y3, y2, y1, y0, b'-', m1, m0, b'-', d1, d0, b'T' | b't' | b' ', clock @ ..] = head else {
        return None;
    };
    let year = two(*y3, *y2)? * 100 + two(*y1, *y0)?;
    let day = midnight(year, two(*m1, *m0)?, two(*d1, *d0)?)?;
    let tail = rest.get(19..)?;
    let (micros, resolution, taken) = fraction(tail).unwrap_or((0, Resolution::Second, 0));
    let tail = tail.get(taken..)?;
    let gap = usize::from(tail.first() == Some(&b' ') && head[10] == b' ');
    let zone = tail.get(gap..).and_then(numeric_zone);
    let (offset, zone_len, zone) = match zone {
        Some((offset, len)) => (offset, gap + len, StampZone::Given),
        None if head[10] != b' ' => (0, 0, StampZone::MissingAfterT),
        None => return None,
    };
    let seconds = day + time_of_day(clock)? - offset;
    let time = Timestamp::from_seconds(seconds).offset_by(micros);
    Some(ParsedTime { time: (time, resolution), zone, end: at + 19 + taken + zone_len })
}

/// Parses seconds since the epoch, with or without a fraction, at `at`. The length of a larger
/// integer tells milli-, micro- or nanoseconds.
pub(super) fn epoch(text: &[u8], at: usize) -> Option<ParsedTime> {
    let rest = text.get(at..)?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let value = decimal(rest.get(..digits)?)?;
    let value = i64::try_from(value).ok()?;
    if !(9..=19).contains(&digits) {
        return None;
    }
    let whole = |micros, resolution| {
        let time = (Timestamp::from_micros(micros), resolution);
        Some(ParsedTime { time, zone: StampZone::Given, end: at + digits })
    };
    match digits {
        9..=11 => {
            let (micros, resolution, taken) =
                fraction(rest.get(digits..)?).unwrap_or((0, Resolution::Second, 0));
            let time = Timestamp::from_seconds(value).offset_by(micros);
            let time = (time, resolution);
            Some(ParsedTime { time, zone: StampZone::Given, end: at + digits + taken })
        }
        12..=14 => whole(value * 1_000, Resolution::Millisecond),
        15..=16 => whole(value, Resolution::Microsecond),
        _ => whole(value / 1_000, Resolution::Microsecond),
    }
}

/// Parses a run of digits; `None` if the run is empty, holds another character or overflows.
#[inline]
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_microsecond_with_their_zone() {
        for (text, micros, resolution) in [
            ("10/Oct/2000:13:55:36 -0700", 971_211_336_000_000, Resolution::Second),
            ("10/Oct/2000:13:55:36.25 -0700", 971_211_336_250_000, Resolution::Millisecond),
            ("29/Feb/2024:23:59:59 +0000", 1_709_251_199_000_000, Resolution::Second),
            ("01/Jan/1970:00:00:00 +0000", 0, Resolution::Second),
            ("31/Dec/1969:23:59:59 +0000", -1_000_000, Resolution::Second),
            ("2024-01-02T03:04:05+05:30", 1_704_144_845_000_000, Resolution::Second),
            ("2024-01-01T21:34:05Z", 1_704_144_845_000_000, Resolution::Second),
            ("2023-08-11T11:39:21.773360139Z", 1_691_753_961_773_360, Resolution::Microsecond),
            ("2023-08-11T11:39:21", 1_691_753_961_000_000, Resolution::Second),
            ("1693840791.7564995", 1_693_840_791_756_499, Resolution::Microsecond),
            ("1693840791.756", 1_693_840_791_756_000, Resolution::Millisecond),
            ("1693840791", 1_693_840_791_000_000, Resolution::Second),
            ("1693840791756", 1_693_840_791_756_000, Resolution::Millisecond),
        ] {
            let read = TimestampParser::default().any(text.as_bytes(), 0).expect(text);
            assert_eq!(read.time, (Timestamp::from_micros(micros), resolution), "{text}");
            assert_eq!(read.end, text.len(), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "10/Oct/2000:13:55:36",
            "10/Oct/2000:25:55:36 -0700",
            "30/Feb/2000:13:55:36 -0700",
            "10/Okt/2000:13:55:36 -0700",
            "10/Oct/2000:13:55:36 0700",
            "10/Oct/2000:13:55:36 Z",
            "10/Oct/2000:13:55:36 Zulu!",
            "02/Feb/2012:04:05:24.385",
            "2024-13-02T03:04:05Z",
            "12",
            // The content of a cache that holds no time.
            &"\0".repeat(CLF),
            "\0\0\0\0\0\0\0\0\0\0\0\x0013:55:36 -0700",
            "10/Oct/2000:13:55:36 \0\0\0\0\0",
        ] {
            assert_eq!(TimestampParser::default().any(text.as_bytes(), 0), None, "{text}");
        }
    }

    #[test]
    fn a_remembered_day_does_not_leak_into_another() {
        let mut clock = TimestampParser::default();
        for (text, seconds) in [
            ("28/Oct/2012:02:30:00 +0200", 1_351_384_200),
            ("28/Oct/2012:02:30:00 +0100", 1_351_387_800),
            ("29/Oct/2012:02:30:00 +0100", 1_351_474_200),
            ("28/Oct/2012:02:30:00 +0200", 1_351_384_200),
        ] {
            let read = clock.clf(text.as_bytes(), 0).expect(text);
            assert_eq!(read.time.0, Timestamp::from_seconds(seconds), "{text}");
        }
    }

    #[test]
    fn days_agree_with_a_calendar() {
        let start = chrono::NaiveDate::from_ymd_opt(1960, 1, 1).unwrap();
        for offset in 0..60_000 {
            use chrono::Datelike as _;
            let date = start + chrono::Days::new(offset);
            let seconds = date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp();
            let ours =
                midnight(i64::from(date.year()), i64::from(date.month()), i64::from(date.day()));
            assert_eq!(ours, Some(seconds), "{date}");
        }
    }
}
