//! Times that only the shapes have, mostly without a zone.

use super::super::StampZone;
use super::super::timestamp::{
    ParsedTime, TimestampParser, fraction, midnight, month, numeric_zone, time_of_day,
};
use crate::time::{Resolution, Timestamp};

/// Parses the time at `at`: any time with a zone, or `22/Nov/2026 20:23:20`, `22/Nov/2026:20:23:20`,
/// `2026/11/22 - 20:23:20`, `2026/11/22 20:23:20`, `2026-11-22 20:23:20`, `261122 20:23:20`,
/// `Sun Nov 22 20:23:20 2026`, `Sun, 22 Nov 2026 20:23:20`, `11/22/26, 20:23:20`; each perhaps with a fraction and a zone.
pub(super) fn read(clock: &mut TimestampParser, line: &[u8], at: usize) -> Option<ParsedTime> {
    clock.any(line, at).or_else(|| {
        let text = line.get(at..)?;
        let forms =
            [day_first, year_first, short_year_first, weekday_first, weekday_and_day, month_first];
        forms.into_iter().find_map(|form| {
            let (seconds, len) = form(text)?;
            let (micros, resolution, taken) =
                fraction(text.get(len..)?).unwrap_or((0, Resolution::Second, 0));
            let (offset, zone, zone_len) = zone(text.get(len + taken..)?);
            let time = Timestamp::from_seconds(seconds - offset).offset_by(micros);
            let end = at + len + taken + zone_len;
            Some(ParsedTime { time: (time, resolution), zone, end })
        })
    })
}

/// Parses a blank and a zone: seconds to subtract for UTC, and the length. Abbreviations other than that of UTC
/// name several zones.
fn zone(text: &[u8]) -> (i64, StampZone, usize) {
    let missing = (0, StampZone::Missing, 0);
    let Some(name) = text.strip_prefix(b" ") else { return missing };
    if let Some((offset, len)) = numeric_zone(name) {
        return (offset, StampZone::Given, len + 1);
    }
    let len = name.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    let is_ended = name.get(len).is_none_or(|byte| matches!(byte, b']' | b'"' | b' '));
    match &name[..len] {
        b"UTC" | b"GMT" if is_ended => (0, StampZone::Given, len + 1),
        _ if (3..=5).contains(&len) && name.get(len) == Some(&b']') => {
            (0, StampZone::Missing, len + 1)
        }
        _ => missing,
    }
}

/// `22/Nov/2026 20:23:20` or `22/Nov/2026:20:23:20`
fn day_first(text: &[u8]) -> Option<(i64, usize)> {
    let (date, clock) = (text.get(..12)?, text.get(12..20)?);
    let [_, _, b'/', m2, m1, m0, b'/', _, _, _, _, b' ' | b':'] = date else { return None };
    let day = number(date, 0..2)?;
    seconds((number(date, 7..11)?, month(&[*m2, *m1, *m0])?, day), clock).map(|it| (it, 20))
}

/// `2026/11/22 - 20:23:20`, `2026/11/22 20:23:20` or `2026-11-22 20:23:20`
fn year_first(text: &[u8]) -> Option<(i64, usize)> {
    let date = text.get(..10)?;
    if !matches!((date[4], date[7]), (b'/', b'/') | (b'-', b'-')) {
        return None;
    }
    let gap: &[u8] = if text[10..].starts_with(b" - ") { b" - " } else { b" " };
    let clock = text[10..].strip_prefix(gap)?.get(..8)?;
    let date = (number(date, 0..4)?, number(date, 5..7)?, number(date, 8..10)?);
    seconds(date, clock).map(|it| (it, 18 + gap.len()))
}

/// `261122 20:23:20`
fn short_year_first(text: &[u8]) -> Option<(i64, usize)> {
    let (date, clock) = (text.get(..7)?, text.get(7..15)?);
    if date[6] != b' ' {
        return None;
    }
    let date = (2_000 + number(date, 0..2)?, number(date, 2..4)?, number(date, 4..6)?);
    seconds(date, clock).map(|it| (it, 15))
}

/// `Sun Nov 22 20:23:20 2026`
fn weekday_first(text: &[u8]) -> Option<(i64, usize)> {
    let [_, _, _, b' ', m2, m1, m0, b' ', d1, d0, b' ', rest @ ..] = text.get(..24)? else {
        return None;
    };
    let tens = if *d1 == b' ' { b'0' } else { *d1 };
    let day = number(&[tens, *d0], 0..2)?;
    let year = number(rest, 9..13).filter(|_| rest[8] == b' ')?;
    seconds((year, month(&[*m2, *m1, *m0])?, day), &rest[..8]).map(|it| (it, 24))
}

/// `Sun, 22 Nov 2026 20:23:20`
fn weekday_and_day(text: &[u8]) -> Option<(i64, usize)> {
    let [_, _, _, b',', b' ', d1, d0, b' ', m2, m1, m0, b' ', rest @ ..] = text.get(..25)? else {
        return None;
    };
    let day = number(&[*d1, *d0], 0..2)?;
    let (year, clock) = (number(rest, 0..4)?, rest.get(4..)?.strip_prefix(b" ")?);
    seconds((year, month(&[*m2, *m1, *m0])?, day), clock).map(|it| (it, 25))
}

/// `11/22/26, 20:23:20` or `1/2/2026, 9:03:07`, as IIS has it.
fn month_first(text: &[u8]) -> Option<(i64, usize)> {
    let mut at = 0;
    let mut part = |separator: &[u8]| {
        let rest = text.get(at..)?;
        let len = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let value = (1..=4).contains(&len).then(|| number(rest, 0..len))??;
        at += len + rest.get(len..)?.strip_prefix(separator).map(|_| separator.len())?;
        Some(value)
    };
    let (month, day, year) = (part(b"/")?, part(b"/")?, part(b", ")?);
    let (hour, minute, second) = (part(b":")?, part(b":")?, part(b"")?);
    let year = if year < 100 { 2_000 + year } else { year };
    let is_time = hour < 24 && minute < 60 && second < 61;
    let of_day = is_time.then_some(hour * 3_600 + minute * 60 + second)?;
    Some((midnight(year, month, day)? + of_day, at))
}

fn seconds((year, month, day): (i64, i64, i64), clock: &[u8]) -> Option<i64> {
    Some(midnight(year, month, day)? + time_of_day(clock.first_chunk()?)?)
}

fn number(text: &[u8], range: std::ops::Range<usize>) -> Option<i64> {
    text.get(range)?.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0'))
    })
}
