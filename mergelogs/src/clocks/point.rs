//! Places of a log at which the difference of clocks is known, and what lies between them.

use pen_records::clocks::GainCurve;

use super::SECOND;

/// Centers within this distance, plus their errors, count as equal.
pub(super) const SAME: i64 = SECOND / 4;
/// A clock that gains or loses more, in millionths, was set.
pub(super) const WORST_PACE: i64 = 500;
/// The greatest pace that is tried where none is known, in millionths.
pub(super) const LONG_PACE: i64 = 100;
/// The pace is taken from this many places before.
const PACED: usize = 3;
/// Less gained from one slice to the next does not matter, in microseconds.
const STEADY: i64 = SECOND / 20;
/// Slices that say together where a steady clock is: two to this power.
const TOGETHER: usize = 4;
/// The error of a center, beside its own, in microseconds: servers are not equally quick at all times.
const ERROR: i64 = SECOND / 50;
/// The greatest mean square of a center's distance from a line, in its own errors, where the clock keeps its pace.
const STRAIGHT: f64 = 2.5;
/// By how much the sum of these squares falls if a clock that seems steady gains or loses.
const SLOPING: f64 = 9.0;

/// A place at which the difference is known.
#[derive(Clone, Debug)]
pub(super) struct ClockPoint {
    /// The slice's offsets.
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) time: i64,
    pub(super) center: i64,
    /// The center that the slice alone says, and its likely error.
    pub(super) found: i64,
    pub(super) within: i64,
    pub(super) curve: GainCurve,
    /// What each line gains.
    pub(super) each: u32,
}

impl ClockPoint {
    /// The time by the balancer's clock.
    const fn balancers(&self) -> i64 {
        self.time - self.center
    }

    /// Whether the slice does not say where within a second its center is.
    const fn is_short(&self) -> bool {
        self.within >= SECOND / 2
    }

    pub(super) fn is_near(&self, center: i64, other: &Self) -> bool {
        (self.center - center).abs()
            <= SAME + self.within.min(SECOND / 4) + other.within.min(SECOND / 4)
    }

    /// Returns the pace from here to another place, in millionths; more than a clock can go wrong if it was set.
    pub(super) fn pace_to(&self, other: &Self) -> i64 {
        let time = other.time - self.time;
        if time <= 0 {
            return WORST_PACE + 1;
        }
        let pace = i128::from(other.center - self.center) * 1_000_000 / i128::from(time);
        i64::try_from(pace).unwrap_or(WORST_PACE + 1)
    }
}

/// Whether the clock was set behind the place with this index: at the pace from there to the next place, it would have
/// gone on in front and behind, and did not.
pub(super) fn is_step(points: &[ClockPoint], index: usize) -> bool {
    let Some(around) = index.checked_sub(1).and_then(|first| points.get(first..first + 4)) else {
        return false;
    };
    let pace = around[1].pace_to(&around[2]);
    let stood = |one: &ClockPoint, next: &ClockPoint| {
        let gained = (next.time - one.time) / 1_000_000 * pace;
        gained.abs() > 4 * SAME && next.is_near(one.center, one)
    };
    !around[2].is_near(around[1].center, &around[1])
        && stood(&around[0], &around[1])
        && stood(&around[2], &around[3])
}

/// Returns the center that the pace between the last places lets expect, and the pace in millionths.
pub(super) fn expected(before: &[ClockPoint], time: i64) -> (Option<i64>, i64) {
    let Some(last) = before.last() else { return (None, 0) };
    if (time - last.time) / 1_000_000 * LONG_PACE < STEADY {
        // No slice alone says much where requests repeat: together they do.
        let lately = (1..=TOGETHER).rev().filter_map(|count| {
            let lately = &before[before.len().checked_sub(1 << count)?..];
            common_center(lately)
        });
        return (Some(lately.into_iter().next().unwrap_or(last.center)), 0);
    }
    let reach = before.len().saturating_sub(PACED + 1)..before.len() - 1;
    let steady = before[reach].iter().find(|one| one.pace_to(last).abs() <= WORST_PACE);
    match steady.map(|one| one.pace_to(last)) {
        Some(pace) => (Some(last.center + (time - last.time) / 1_000_000 * pace), pace),
        None => (Some(last.center), 0),
    }
}

/// Returns the center at a time if it lies on a straight line through two others.
pub(super) fn between(one: &ClockPoint, other: &ClockPoint, time: i64) -> i64 {
    let whole = i128::from(other.time - one.time);
    if whole <= 0 {
        return one.center;
    }
    let part = i128::from(time - one.time) * i128::from(other.center - one.center) / whole;
    one.center + i64::try_from(part).unwrap_or(0)
}

/// Drops points between others of one center, if the clock would have gone back with them by the time of the balancer:
/// lines are written in order. Requests that come again at equal distances, or a part of a mapping log that is
/// missing, look so.
pub(super) fn drop_disordered(points: &mut Vec<ClockPoint>) {
    let mut start = 1;
    while start < points.len() {
        let first = &points[start];
        let run = points[start..].iter().take_while(|it| it.is_near(first.center, first)).count();
        let (before, it, end) = (&points[start - 1], &points[start + run / 2], start + run);
        let is_odd = !first.is_near(before.center, before);
        let is_between = points.get(end).is_some_and(|next| {
            // A slice in which the clock was set has times of both kinds, its neighbour has not.
            let earlier = &points[start.saturating_sub(2)..start];
            let later = &points[end..points.len().min(end + 2)];
            let since = earlier.iter().map(ClockPoint::balancers).min();
            let until = later.iter().map(ClockPoint::balancers).max();
            let is_back = until.is_some_and(|until| it.balancers() > until + DISORDER)
                || since.is_some_and(|since| since > it.balancers() + DISORDER);
            is_back && next.is_near(before.center, before)
        });
        if is_odd && is_between {
            points.drain(start..end);
        } else {
            start = end;
        }
    }
}

/// Drops single points that both neighbours contradict, if their lines gain less than usual.
pub(super) fn drop_outliers(points: &mut Vec<ClockPoint>, usual: u32) {
    let mut index = 1;
    while index + 1 < points.len() {
        let (before, it, next) = (&points[index - 1], &points[index], &points[index + 1]);
        let is_odd = !it.is_near(between(before, next, it.time), before)
            && !it.is_near(before.center, before)
            && !it.is_near(next.center, next);
        if is_odd && it.each < usual * 8 / 10 {
            points.remove(index);
        } else {
            index += 1;
        }
    }
}

/// Lines are written in order but for this, in microseconds.
const DISORDER: i64 = 60 * SECOND;
/// How much less the slices of a steady clock gain at their common center than at their own: in nats, at all and each.
const IN_COMMON: (f64, f64) = (5.0, 1.5);
/// Or this part of what they gain: of 64 slices of less than a second each up to a tenth was seen.
const IN_COMMON_OF: f64 = 0.15;
/// The same of slices within a second, and the least of it: more of that is chance.
const SHORT_OF: f64 = 0.35;
const SHORT_LEAST: f64 = 60.0;

/// Returns the center of a clock that is steady, if it is.
fn common_center(points: &[ClockPoint]) -> Option<i64> {
    let curves: Vec<&GainCurve> = points.iter().map(|point| &point.curve).collect();
    let count = as_float(i64::try_from(points.len()).unwrap_or(i64::MAX));
    let common = GainCurve::common(&curves)?;
    let allowed = (IN_COMMON.0 + IN_COMMON.1 * count).max(IN_COMMON_OF * common.most);
    // Slices within a second do not say which of the centers that put them into it is right.
    let known = points.first().filter(|_| points.iter().all(ClockPoint::is_short));
    let known = known.map(|first| first.center);
    let holds = |center: &i64| {
        common.most - GainCurve::sum(&curves, *center) <= SHORT_OF * common.most.max(SHORT_LEAST)
    };
    known.filter(holds).or_else(|| (common.most - common.nats <= allowed).then_some(common.center))
}

/// Moves the centers of a piece, in which a clock was not set, to where all slices together say that they are: each
/// has an error of its own.
pub(super) fn settle(piece: &mut [ClockPoint]) {
    if let Some(center) = common_center(piece) {
        piece.iter_mut().for_each(|point| point.center = center);
        return;
    }
    let steady = PieceLine::through(piece, false);
    let sloping = PieceLine::through(piece, true);
    let count = as_float(i64::try_from(piece.len()).unwrap_or(i64::MAX));
    let line = if steady.squares - sloping.squares > SLOPING { sloping } else { steady };
    if line.squares <= STRAIGHT * count {
        piece.iter_mut().for_each(|point| point.center = line.at(point.time));
        return;
    }
    // Half way to the straight line between the neighbours.
    let old = piece.to_vec();
    for (point, near) in piece[1.min(old.len())..].iter_mut().zip(old.windows(3)) {
        point.center = point.center.midpoint(between(&near[0], &near[2], point.time));
    }
}

/// A straight line through the centers of a piece.
struct PieceLine {
    /// The mean time and center, in microseconds.
    middle: (i64, i64),
    mean: f64,
    /// Microseconds of the center in each microsecond.
    slope: f64,
    /// The sum of the squares of what centers are apart from the line, in their own errors.
    squares: f64,
}

impl PieceLine {
    fn through(piece: &[ClockPoint], may_slope: bool) -> Self {
        let first = piece.first().map_or((0, 0), |first| (first.time, first.found));
        let points = || {
            piece.iter().map(|point| {
                let error = as_float((point.within / 2).max(0) + ERROR);
                let apart = (as_float(point.time - first.0), as_float(point.found - first.1));
                (apart, 1.0 / (error * error))
            })
        };
        let sum: f64 = points().map(|(_, weight)| weight).sum();
        let time = points().map(|((time, _), weight)| time * weight).sum::<f64>() / sum;
        let mean = points().map(|((_, center), weight)| center * weight).sum::<f64>() / sum;
        let spread: f64 = points().map(|((at, _), weight)| (at - time).powi(2) * weight).sum();
        let common: f64 =
            points().map(|((at, center), weight)| (at - time) * (center - mean) * weight).sum();
        let slope = if may_slope && spread > 0.0 { common / spread } else { 0.0 };
        let apart = |(at, center): (f64, f64)| center - mean - (at - time) * slope;
        let squares = points().map(|(point, weight)| apart(point).powi(2) * weight).sum();
        Self { middle: (first.0 + as_whole(time), first.1), mean, slope, squares }
    }

    fn at(&self, time: i64) -> i64 {
        self.middle.1 + as_whole(self.mean + as_float(time - self.middle.0) * self.slope)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a hundred years of microseconds are below 2^52")]
const fn as_float(value: i64) -> f64 {
    value as f64
}

#[expect(clippy::cast_possible_truncation, reason = "as saturates, and that is what is wanted")]
const fn as_whole(value: f64) -> i64 {
    value as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places at equal distances.
    fn points(apart: i64, centers: &[i64]) -> Vec<ClockPoint> {
        let point = |(&seconds, index): (&i64, i64)| ClockPoint {
            from: 0,
            to: 0,
            time: index * apart * SECOND,
            center: seconds * SECOND,
            found: seconds * SECOND,
            within: SECOND / 20,
            curve: GainCurve::default(),
            each: 1,
        };
        centers.iter().zip(0..).map(point).collect()
    }

    #[test]
    fn a_clock_that_stood_before_and_after_was_set() {
        let week = 7 * 86_400;
        let steps = |centers| {
            let points = points(week, centers);
            (0..points.len()).filter(|&index| is_step(&points, index)).collect::<Vec<_>>()
        };
        assert_eq!(steps(&[0, 0, 0, 20, 20, 20]), [2]);
        assert_eq!(steps(&[0, 20, 40, 60, 80]), [0; 0], "a drift");
        assert_eq!(steps(&[0, 0, 20, 40, 60]), [0; 0], "a drift that begins");
        assert_eq!(steps(&[0, 0, 0, 20]), [0; 0], "nothing is known behind");
    }
}
