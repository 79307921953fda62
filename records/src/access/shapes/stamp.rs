//! Times that only the shapes have, without a zone.

use super::super::StampZone;
use super::super::timestamp::{ParsedTime, TimestampParser, midnight, month, time_of_day};
use crate::time::{Resolution, Timestamp};

/// Parses the time at `at`: any time with a zone, or `22/Nov/2026 20:23:20`, `2026/11/22 - 20:23:20`,
/// `2026/11/22 20:23:20`, `2026-11-22 20:23:20`, `261122 20:23:20`, `Sun Nov 22 20:23:20 2026`.
pub(super) fn read(clock: &mut TimestampParser, line: &[u8], at: usize) -> Option<ParsedTime> {
    clock.any(line, at).or_else(|| {
        let text = line.get(at..)?;
        [day_first, year_first, short_year_first, weekday_first].into_iter().find_map(|form| {
            let (seconds, len) = form(text)?;
            let time = (Timestamp::from_seconds(seconds), Resolution::Second);
            Some(ParsedTime { time, zone: StampZone::Missing, end: at + len })
        })
    })
}

/// `22/Nov/2026 20:23:20`
fn day_first(text: &[u8]) -> Option<(i64, usize)> {
    let (date, clock) = (text.get(..12)?, text.get(12..20)?);
    let [_, _, b'/', m2, m1, m0, b'/', _, _, _, _, b' '] = date else { return None };
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

fn seconds((year, month, day): (i64, i64, i64), clock: &[u8]) -> Option<i64> {
    Some(midnight(year, month, day)? + time_of_day(clock.first_chunk()?)?)
}

fn number(text: &[u8], range: std::ops::Range<usize>) -> Option<i64> {
    text.get(range)?.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0'))
    })
}
