//! Whether a known difference of clocks still holds in a small sample.

use super::align::Window;
use super::gain::{CenterGain, GainTimes, middle};
use super::series::{self, Series};
use super::{ClockSample, SECOND};

/// How far the difference of a small sample may be from the one expected: the distance of centers in microseconds, and
/// their number on either side. Where both stamps are whole seconds, where those of lines are, and where neither is.
const COARSE: (i64, i64) = (SECOND / 4, 5);
const FINE: (i64, i64) = (SECOND / 20, 12);
const FINER: (i64, i64) = (SECOND / 50, 20);
/// The gain that is told from chance, in thousandths of a nat.
const CLEAR: u32 = 8_000;
/// The gain of a sample with which others of the same size can be compared.
const PLAIN: u32 = 20_000;
/// What lines usually gain together before less of it says that the center is wrong.
const TELLING: u64 = 16_000;
/// The part of it, in thousandths, that says so.
const ENOUGH_OF: u32 = 350;

/// Lines in whole seconds that span less do not say where in a second a center is: in microseconds.
const SHORT: i64 = 3 * SECOND;
/// Centers that are so many distances apart have nothing in common.
const FARTHEST: i64 = 1_000;

/// How well a sample agrees with a difference of clocks.
///
/// The *center* is the difference itself, if the balancer's stamps are finer than seconds. If not, it is the mean
/// difference of the stamps of equal requests, so the usual time of a request is part of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OffsetCheck {
    /// Lines that were compared.
    pub lines: u32,
    /// How much likelier the center is than chance: the logarithm, in thousandths.
    pub gain: u32,
    /// What the right center would gain about, in thousandths.
    pub possible: u32,
    /// The likeliest center near the one asked for, in microseconds.
    pub center: i64,
    /// The greatest likely error of the center.
    pub within: i64,
    /// What centers near it gain.
    pub curve: GainCurve,
}

/// What centers at equal distances gain over chance, in nats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GainCurve {
    /// The first center, in distances, and their distance in microseconds.
    first: i64,
    step: i64,
    nats: Vec<f64>,
}

/// A center that several samples have in common.
#[derive(Clone, Copy, Debug)]
pub struct CommonCenter {
    /// The center, in microseconds.
    pub center: i64,
    /// What all samples gain there.
    pub nats: f64,
    /// What they gain together, each at its own best center.
    pub most: f64,
}

impl GainCurve {
    /// Returns the center that suits all curves best; `None` without curves of one kind.
    #[must_use]
    pub fn common(curves: &[&Self]) -> Option<CommonCenter> {
        let step = curves.first()?.step;
        if step == 0 || curves.iter().any(|curve| curve.step != step) {
            return None;
        }
        let first = curves.iter().map(|curve| curve.first).min()?;
        let last = curves.iter().map(|curve| curve.last()).max()?;
        if last - first > FARTHEST {
            return None;
        }
        let sum = |at: i64| curves.iter().map(|curve| curve.at(at)).sum();
        let gains: Vec<_> =
            (first..=last).map(|at| CenterGain { center: at * step, nats: sum(at) }).collect();
        let (center, _, best) = middle(&gains, first * step);
        let most = curves.iter().map(|curve| curve.most()).sum();
        Some(CommonCenter { center, nats: best.nats, most })
    }

    /// Returns what all curves gain at a center together.
    #[must_use]
    pub fn sum(curves: &[&Self], center: i64) -> f64 {
        let at = |curve: &&Self| curve.at((center + curve.step / 2).div_euclid(curve.step.max(1)));
        curves.iter().map(at).sum()
    }

    fn last(&self) -> i64 {
        self.first + i64::try_from(self.nats.len()).unwrap_or(0)
    }

    fn most(&self) -> f64 {
        self.nats.iter().copied().fold(f64::MIN, f64::max)
    }

    /// The gain of a center; of one beyond both ends the least, and of one far beyond no more than by chance.
    fn at(&self, center: i64) -> f64 {
        let place = usize::try_from(center - self.first).ok();
        let known = place.and_then(|place| self.nats.get(place)).copied();
        known.unwrap_or_else(|| {
            let beyond = (self.first - center).max(center - self.last());
            let is_far = beyond > (self.last() - self.first) / 2;
            let least = self.nats.iter().copied().fold(f64::MAX, f64::min);
            if is_far { least.min(0.0) } else { least }
        })
    }
}

impl OffsetCheck {
    /// Returns what lines say for a center where there is no mapping.
    #[must_use]
    pub fn without_mappings(lines: u32, center: i64) -> Self {
        Self { lines, possible: lines.saturating_mul(1_000), center, ..Self::default() }
    }

    /// Whether the pairs are clearly no chance.
    #[must_use]
    pub const fn is_clear(&self) -> bool {
        self.gain >= CLEAR
    }

    /// Whether the pairs are so clearly no chance that other samples of the same size will show it, too.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.gain >= PLAIN
    }

    /// The gain of one line, in thousandths.
    #[must_use]
    pub fn each(&self) -> u32 {
        self.gain / self.lines.max(1)
    }

    /// Whether the center is right, where lines usually gain `usual` each for the right one.
    #[must_use]
    pub fn is_right(&self, usual: Option<u32>) -> bool {
        self.is_clear() && self.each() >= usual.map_or(0, enough_of)
    }

    /// Whether lines gain so little that another center is right.
    #[must_use]
    pub fn is_contradicted(&self, usual: Option<u32>) -> bool {
        let Some(usual) = usual else {
            return !self.is_clear() && u64::from(self.possible) >= TELLING;
        };
        u64::from(usual) * u64::from(self.lines) >= TELLING && self.each() < enough_of(usual)
    }

    /// The center nearest to `expected` that the pairs allow for.
    #[must_use]
    pub fn center_near(&self, expected: i64) -> i64 {
        expected.clamp(self.center - self.within, self.center + self.within)
    }
}

/// The least part of a usual gain.
const fn enough_of(usual: u32) -> u32 {
    usual.saturating_mul(ENOUGH_OF) / 1_000
}

/// Compares a sample of lines with the mappings around, under the center `at`.
#[must_use]
pub fn check(mappings: &ClockSample, lines: &ClockSample, at: i64) -> OffsetCheck {
    let pairs = Series::paired(mappings, lines);
    let window = Window::of(mappings.resolution, lines.resolution);
    let times = GainTimes::new(&pairs, mappings, window);
    let (step, most) = match window {
        Window::Requests => COARSE,
        Window::Ends => FINE,
        Window::Moments => FINER,
    };
    let first = at / step - most;
    let gains: Vec<_> =
        (first..=first + 2 * most).map(|place| times.rough_gain(place * step)).collect();
    let (center, error, best) = middle(&gains, at);
    // Lines of one second are equally likely under all centers that put them into it: which of them is best is chance.
    let is_short = lines.is_coarse() && lines.span() < SHORT;
    let error = if is_short { error.max(SECOND / 2) } else { error };
    let gain = part_of(1_000, times.gain(best.center).nats.max(0.0));
    let curve = GainCurve { first, step, nats: gains.iter().map(|it| it.nats).collect() };
    let lines = lines.requests();
    let unknown = lines.saturating_sub(series::count(&pairs));
    let possible = part_of(1_000, times.possible()).saturating_add(unknown.saturating_mul(1_000));
    OffsetCheck { lines, gain, possible, center, within: error + step / 2, curve }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "as saturates, and that is what is wanted"
)]
fn part_of(whole: u32, part: f64) -> u32 {
    (f64::from(whole) * part) as u32
}

#[cfg(test)]
mod tests {
    use super::super::tests::{requests, sample};
    use super::*;
    use crate::time::Resolution;

    #[test]
    fn centers_that_are_far_apart_have_nothing_in_common() {
        let curve = |first| GainCurve { first, step: 50_000, nats: vec![900.0; 25] };
        let (here, beside, far) = (curve(-12), curve(-2), curve(388));
        let lost = |curves: &[&GainCurve]| {
            let common = GainCurve::common(curves).expect("one step");
            common.most - common.nats
        };
        assert!(lost(&[&here, &beside]) < 1.0);
        assert!(lost(&[&here, &far]) > 800.0);
    }

    #[test]
    fn an_offset_holds_or_does_not() {
        let ahead = |by: i64| requests(100).map(move |(key, time)| (key, time + 3_000 + by));
        for stamps in [Resolution::Second, Resolution::Millisecond] {
            let mappings = sample(requests(100), Resolution::Microsecond);
            let lines = sample(ahead(5 * SECOND), stamps);
            let found = check(&mappings, &lines, 5 * SECOND);
            assert!(found.is_clear() && found.is_plain(), "{stamps:?} {found:?}");
            assert!((found.center - 5 * SECOND).abs() < 60_000, "{stamps:?} {found:?}");
            let wrong = check(&mappings, &lines, 0);
            assert!(!wrong.is_clear(), "{stamps:?} {wrong:?}");
        }
        let mappings = sample(requests(100), Resolution::Second);
        let lines = sample(ahead(-20 * SECOND), Resolution::Second);
        let found = check(&mappings, &lines, -20 * SECOND);
        assert!(found.is_clear() && (found.center + 20 * SECOND).abs() < 200_000, "{found:?}");
        let nothing = check(&sample(std::iter::empty(), Resolution::Second), &lines, 0);
        assert_eq!((nothing.gain, nothing.lines), (0, 100));
    }
}
