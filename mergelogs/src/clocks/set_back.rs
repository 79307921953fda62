//! Mapping logs whose clock was set back.
//!
//! A mapping log is written in the order of time, but for a few lines. So where all times are earlier than those of the
//! lines before, the clock was set back, or summer time ended. If it stayed so, the records of two times would be
//! mixed. (A clock that is set forward mixes nothing, and is seen as one of the servers' clocks going back.)

use pen_records::clocks::{ClockKnot, KnotKind};
use pen_records::time::Timestamp;

use super::texts::SeekableText;
use super::{LATEST, SECOND};

/// Places of a log that are looked at, and the bytes of each.
const PLACES: u64 = 64;
const PLACE: (usize, usize) = (512, 4 << 10);
/// Smaller steps are not looked for: in microseconds.
const LEAST: i64 = 30 * SECOND;
/// Bytes that are looked through line by line.
const REGION: u64 = 64 << 10;
/// Lines compared before and behind a step.
const BESIDE: usize = 7;
/// A step that is so near to a whole number of hours is one.
const HOUR: i64 = 3_600 * SECOND;
const NEARLY: i64 = 2 * SECOND;

/// Returns the places at which the clock was set back, and how far it is behind the first from there on (as a negative
/// difference); nothing if it never was.
pub(super) fn find(
    text: &SeekableText,
    mut time: impl FnMut(&[u8]) -> Option<Timestamp>,
) -> Vec<ClockKnot> {
    let place = usize::try_from(text.len() / PLACES).unwrap_or(usize::MAX);
    let place = place.clamp(PLACE.0, PLACE.1);
    let last = text.len().saturating_sub(place as u64);
    let count = (text.len() / place as u64).clamp(1, PLACES);
    let places: Vec<(u64, i64)> = (0..count)
        .filter_map(|index| {
            let at = last * index / (count - 1).max(1);
            Some((at, middle(&times(text, at, place, &mut time))?))
        })
        .collect();
    let mut knots = Vec::new();
    let mut behind = 0_i64;
    for pair in places.windows(2) {
        if pair[1].1 < pair[0].1
            && let Some((byte, at, step)) = locate(text, (pair[0], pair[1]), &mut time)
        {
            if knots.is_empty() {
                let (byte, time) = (0, Timestamp::from_micros(pair[0].1));
                knots.push(ClockKnot { byte, time, ahead: 0, since: KnotKind::Drift });
            }
            behind = behind.saturating_add(step);
            let since = KnotKind::Step { from: byte, to: byte };
            knots.push(ClockKnot { byte, time: Timestamp::from_micros(at), ahead: -behind, since });
        }
    }
    knots
}

/// Returns the offset and the time of the first line behind a step between two places, and the step.
fn locate(
    text: &SeekableText,
    ((mut low, before), (mut high, _)): ((u64, i64), (u64, i64)),
    time: &mut impl FnMut(&[u8]) -> Option<Timestamp>,
) -> Option<(u64, i64, i64)> {
    while high - low > REGION {
        let at = low.midpoint(high);
        // Behind the step all is earlier than before it.
        match middle(&times(text, at, PLACE.1, time)) {
            Some(found) if found >= before => low = at,
            _ => high = at,
        }
    }
    let len = usize::try_from(high - low).unwrap_or(0) + 2 * PLACE.1;
    let lines = times(text, low, len, time);
    // A single late line is no step: the lines before and behind it are as always.
    let drop = |index: usize| {
        let (first, next) = (&lines[index - BESIDE..index], &lines[index..index + BESIDE]);
        Some(middle(first)? - middle(next)?)
    };
    let places = BESIDE..lines.len().saturating_sub(BESIDE);
    let lower = places.filter(|&index| drop(index).is_some_and(|drop| drop > 0));
    let at = lower.max_by_key(|&index| (drop(index), lines[index - 1].1 - lines[index].1))?;
    let mut gaps: Vec<i64> = lines.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
    gaps.sort_unstable();
    let gap = gaps[gaps.len() / 2].max(0);
    let step = lines[at - 1].1 - lines[at].1 + gap;
    let hours = (step + HOUR / 2) / HOUR * HOUR;
    let step = if (step - hours).abs() <= NEARLY + 2 * gap { hours } else { step };
    (step >= LEAST).then_some((lines[at].0, lines[at].1, step))
}

/// Returns the offsets and the times of the lines in a part of the text.
fn times(
    text: &SeekableText,
    from: u64,
    len: usize,
    time: &mut impl FnMut(&[u8]) -> Option<Timestamp>,
) -> Vec<(u64, i64)> {
    let part = text.part(from, len);
    let times = part.lines().filter_map(|(at, line)| Some((at, time(line)?.as_micros())));
    times.filter(|(_, time)| (-LATEST..LATEST).contains(time)).collect()
}

/// Returns the time in the middle.
fn middle(lines: &[(u64, i64)]) -> Option<i64> {
    let mut times: Vec<i64> = lines.iter().map(|(_, time)| *time).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines every `apart` seconds, some of them late; set back at line `at`.
    fn log(lines: i64, apart: i64, at: i64, back: i64) -> (SeekableText, u64) {
        let mut text = String::new();
        let mut byte = 0;
        for n in 0..lines {
            if n == at {
                byte = text.len() as u64;
            }
            let late = if n % 7 == 3 { 2 * apart } else { 0 };
            let time = 1_000_000 + n * apart - late - if n >= at { back } else { 0 };
            text += &format!("{time} and some text behind it\n");
        }
        (SeekableText::of_bytes(text.into_bytes()), byte)
    }

    fn time(line: &[u8]) -> Option<Timestamp> {
        let text = std::str::from_utf8(line).ok()?;
        Some(Timestamp::from_seconds(text.split(' ').next()?.parse().ok()?))
    }

    #[test]
    fn a_log_that_is_set_back_is_found_and_by_how_much() {
        for (lines, apart, at, back) in
            [(200, 60, 80, 3_600), (20_000, 1, 5_000, 3_600), (50_000, 2, 49_000, 7_200)]
        {
            let (text, byte) = log(lines, apart, at, back);
            let knots = find(&text, time);
            let found: Vec<_> = knots.iter().map(|knot| knot.ahead / SECOND).collect();
            assert_eq!(found, [0, -back], "{lines}");
            assert!(knots[1].byte.abs_diff(byte) <= 60, "{lines}: {} {byte}", knots[1].byte);
        }
        for (lines, apart) in [(200, 60), (50_000, 1), (1, 1), (0, 1)] {
            assert_eq!(find(&log(lines, apart, lines, 0).0, time), [], "{lines}");
        }
    }
}
