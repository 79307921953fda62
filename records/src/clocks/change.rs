//! Finds where in a log the difference of clocks changes.

use super::align::Window;
use super::gain::LineGains;
use super::{ClockSample, SECOND};
use crate::time::Resolution;

/// Largest deviation of a stamp's jump from the change, in microseconds.
const JUMP: i64 = SECOND;
/// What that says, in nats: elsewhere stamps seldom jump so.
const JUMPED: f64 = 6.0;
/// A place so much less likely than the best one may still be the right one, in nats.
const DOUBTFUL: f64 = 9.0;

/// Where a difference of clocks changes, as indexes of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetChange {
    /// The first line behind the change.
    pub at: usize,
    /// The first line that may be behind it.
    pub from: usize,
    /// The first line that surely is.
    pub to: usize,
}

/// Lines in the order of their log with the key and time of each, beside the mappings of the same time.
///
/// Finds the line at which the center changes from `before` to `after`: the lines in front of it agree best with the
/// one, all others with the other.
#[must_use]
pub fn find_change(
    mappings: &ClockSample,
    lines: &[(u64, i64)],
    (before, after): (i64, i64),
) -> OffsetChange {
    let gains = LineGains::new(mappings, Window::of(mappings.resolution, Resolution::Second));
    let is_jump = |index: usize| {
        let [one, next] = [index.checked_sub(1), Some(index)].map(|at| lines.get(at?));
        let gap = one.zip(next).map(|((_, one), (_, next))| next - one);
        gap.is_some_and(|gap| (gap - (after - before)).abs() <= JUMP)
    };
    // How likely it is that the change is before each line, and behind the last one.
    let mut sum = 0.0;
    let mut sums = vec![0.0];
    for line in lines {
        sum += gains.gain(*line, before) - gains.gain(*line, after);
        sums.push(sum);
    }
    for (_, sum) in sums.iter_mut().enumerate().filter(|(index, _)| is_jump(*index)) {
        *sum += JUMPED;
    }
    let best = sums.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    let (at, most) = best.map_or((0, 0.0), |(at, most)| (at, *most));
    let may_be = |sum: &f64| *sum >= most - DOUBTFUL;
    let from = sums.iter().position(may_be).unwrap_or(at);
    let to = sums.iter().rposition(may_be).unwrap_or(at);
    OffsetChange { at, from, to }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{requests, sample};
    use super::*;

    #[test]
    fn the_line_is_found_at_which_a_clock_was_set() {
        for (stamps, records) in [
            (Resolution::Second, Resolution::Microsecond),
            (Resolution::Millisecond, Resolution::Microsecond),
            (Resolution::Second, Resolution::Second),
        ] {
            for ahead in [-3_600, -5, 2, 60] {
                let mappings = sample(requests(200), records);
                let lines: Vec<_> = requests(200)
                    .enumerate()
                    .map(|(n, (key, time))| {
                        let time = time + 3_000 + if n < 77 { 0 } else { ahead * SECOND };
                        (key, time.div_euclid(stamps.micros()) * stamps.micros())
                    })
                    .collect();
                let change = find_change(&mappings, &lines, (0, ahead * SECOND));
                assert_eq!(change.at, 77, "{stamps:?} {ahead}");
                assert!(change.from <= 77 && change.to >= 77, "{ahead}: {change:?}");
            }
        }
    }
}
