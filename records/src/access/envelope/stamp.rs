//! Timestamps at the beginning of an envelope.
//!
//! ```text
//! stamp   = [weekday SP] (bsd / iso) [SP zone] / epoch
//! bsd     = Mmm SP dd [SP yyyy] SP hh:mm:ss [fraction] [SP yyyy]
//! iso     = yyyy-mm-dd ("T" / SP) hh:mm:ss [fraction] [zone]
//! epoch   = 10DIGIT [fraction]
//! zone    = "Z" / ("+" / "-") hh[:]mm / 3*5UPPER
//! ```

use super::super::StampZone;
use super::super::timestamp::{self, ParsedTime};
use crate::time::{Resolution, Timestamp};

/// A timestamp at the beginning of an envelope.
#[derive(Clone, Copy, Debug)]
pub(super) struct EnvelopeStamp {
    /// Offset behind the stamp and its space.
    pub(super) end: usize,
    /// `None` without a year and a time near by.
    pub(super) time: Option<(Timestamp, Resolution)>,
    /// Whether the stamp names its zone.
    pub(super) zone: StampZone,
    /// Seconds since the epoch.
    pub(super) is_epoch: bool,
    /// Nanoseconds, as container runtimes write.
    pub(super) is_containers: bool,
}

/// Parses the stamp at `at` and the space behind it. The time of a stamp without a year is the one
/// next to `near`, if that is known.
pub(super) fn read(line: &[u8], at: usize, near: Option<Timestamp>) -> Option<EnvelopeStamp> {
    let begin = at;
    let at = weekday(line, at);
    let stamp = match line.get(at)? {
        b'A'..=b'Z' => bsd(line, at, near)?,
        b'0'..=b'9' if line.get(at + 4) == Some(&b'-') => iso(line, at)?,
        b'0'..=b'9' => {
            let read = timestamp::epoch(line, at)?;
            (Some(read.time), read.zone, read.end)
        }
        _ => return None,
    };
    let is_epoch = line[at].is_ascii_digit() && line.get(at + 4) != Some(&b'-');
    let (time, zone, end) = zone(line, stamp, at > begin);
    let fraction = line[at..end].iter().rposition(|&b| b == b'.').map_or(0, |point| {
        line[at + point + 1..end].iter().take_while(|b| b.is_ascii_digit()).count()
    });
    let is_gap = line.get(end) == Some(&b' ');
    is_gap.then_some(EnvelopeStamp {
        end: end + 1,
        time,
        zone,
        is_epoch,
        is_containers: fraction == 9,
    })
}

/// Skips the abbreviation of a weekday.
fn weekday(line: &[u8], at: usize) -> usize {
    const DAYS: [&[u8]; 7] = [b"Mon ", b"Tue ", b"Wed ", b"Thu ", b"Fri ", b"Sat ", b"Sun "];
    let rest = line.get(at..).unwrap_or_default();
    at + if DAYS.iter().any(|day| rest.starts_with(day)) { 4 } else { 0 }
}

/// Microseconds of a year of the Gregorian calendar, on average.
const YEAR: i64 = 31_556_952_000_000;

/// The time, whether it names its zone, and its end.
type StampParts = (Option<(Timestamp, Resolution)>, StampZone, usize);

fn bsd(line: &[u8], at: usize, near: Option<Timestamp>) -> Option<StampParts> {
    let month = timestamp::month(line.get(at..at + 3)?)?;
    let (day, at) = match line.get(at + 3..at + 5)? {
        b"  " => number(line, at + 5, 1)?,
        [b' ', _] => number(line, at + 4, 2)?,
        _ => return None,
    };
    let at = space(line, at)?;
    let (year, at) = match four_digits(line, at) {
        Some((year, end)) => (Some(year), space(line, end)?),
        None => (None, at),
    };
    let seconds = timestamp::time_of_day(line.get(at..)?.first_chunk()?)?;
    let (micros, resolution, taken) =
        timestamp::fraction(&line[at + 8..]).unwrap_or((0, Resolution::Second, 0));
    let end = at + 8 + taken;
    let later = space(line, end).and_then(|at| four_digits(line, at)).filter(|_| year.is_none());
    let (year, end) = later.map_or((year, end), |(year, end)| (Some(year), end));
    let in_year = |year| {
        let midnight = timestamp::midnight(year, month, day)?;
        Some(Timestamp::from_seconds(midnight + seconds).offset_by(micros))
    };
    let time = match (year, near) {
        (Some(year), _) => in_year(year),
        (None, Some(near)) => {
            let year = 1970 + near.as_micros().div_euclid(YEAR);
            let times = (year - 1..=year + 1).filter_map(in_year);
            times.min_by_key(|time| time.micros_since(near).saturating_abs())
        }
        (None, None) => None,
    };
    let time = time.map(|time| (time, resolution));
    Some((time, StampZone::Missing, end))
}

fn iso(line: &[u8], at: usize) -> Option<StampParts> {
    if let Some(ParsedTime { time, zone, end }) = timestamp::iso(line, at) {
        return Some((Some(time), zone, end));
    }
    // With a space instead of the `T`, and without a zone.
    let head: [u8; 19] = *line.get(at..)?.first_chunk()?;
    let mut text = [0; 32];
    text[..19].copy_from_slice(&head);
    text[10] = b'T';
    let (_, _, taken) = timestamp::fraction(&line[at + 19..]).unwrap_or((0, Resolution::Second, 0));
    let taken = taken.min(10);
    text[19..19 + taken].copy_from_slice(&line[at + 19..at + 19 + taken]);
    let read = timestamp::iso(&text[..19 + taken], 0)?;
    Some((Some(read.time), StampZone::Missing, at + read.end))
}

/// Parses the name or the offset of a zone behind a space. A time in a zone that is known by name
/// only is unknown. A host may have such a name, too, so that a name counts behind a stamp with a
/// weekday, as journalctl writes, or with a colon behind.
fn zone(line: &[u8], stamp: StampParts, has_weekday: bool) -> StampParts {
    let (time, given, end) = stamp;
    let rest = line.get(end..).unwrap_or_default();
    let Some(word) = rest.strip_prefix(b" ") else { return stamp };
    let len = word.iter().take(6).take_while(|b| b.is_ascii_uppercase()).count();
    let is_utc = matches!(word.get(..len), Some(b"UTC" | b"GMT"));
    let named = || (time.filter(|_| is_utc), StampZone::Given);
    match word.get(len) {
        Some(b':') if (3..=5).contains(&len) => {
            let (time, given) = named();
            return (time, given, end + 2 + len);
        }
        Some(b' ') if (3..=5).contains(&len) && (is_utc || has_weekday) => {
            let (time, given) = named();
            return (time, given, end + 1 + len);
        }
        _ => {}
    }
    match timestamp::numeric_zone(word) {
        Some((offset, taken)) if word.get(taken) == Some(&b' ') => {
            let time = time.map(|(time, resolution)| {
                (time.offset_by(-offset.saturating_mul(1_000_000)), resolution)
            });
            (time, StampZone::Given, end + 1 + taken)
        }
        _ => (time, given, end),
    }
}

fn space(line: &[u8], at: usize) -> Option<usize> {
    (line.get(at) == Some(&b' ')).then_some(at + 1)
}

/// Parses one to `most` digits.
fn number(line: &[u8], at: usize, most: usize) -> Option<(i64, usize)> {
    let len = line.get(at..)?.iter().take(most).take_while(|b| b.is_ascii_digit()).count();
    let value = timestamp::decimal(line.get(at..at + len)?)?;
    Some((i64::try_from(value).ok()?, at + len))
}

fn four_digits(line: &[u8], at: usize) -> Option<(i64, usize)> {
    let text = line.get(at..at + 4)?;
    let is_year =
        matches!(text, [b'1', b'9', ..] | [b'2', b'0', ..]) && line.get(at + 4) == Some(&b' ');
    if is_year { number(line, at, 4) } else { None }
}
