//! How long a server takes from mapping to line, learnt from certain pairs.
//!
//! Delays are counted in buckets a quarter of an octave wide. A decision weighs two questions. How
//! common is the delay of a pair? And how strange would it be to leave the mapping over? Leaving
//! over is likely for a young mapping, whose line is still to come, and rare for an old mapping.
//! Where every request takes the same time, the oldest mapping is best. Where delays have a long
//! tail, young mappings may overtake. A mapping that no line ever answers is left over. Before
//! delays are learnt, order decides.

use super::steps::DelaySteps;
use crate::attribution::costs;
use crate::time::Resolution;

/// Buckets for delays of one sign: 100 us times 2^25 is close to an hour.
const SIDE: usize = 104;
const BUCKETS: usize = 2 * SIDE + 1;

/// The delays of one server.
pub(crate) struct ServerDelays {
    counts: [u32; BUCKETS],
    total: u32,
    /// All pairs, counted or not.
    seen: u32,
    until_rebuilt: u32,
    /// Cost of a delay in each bucket, in thousandths of a natural logarithm above the best.
    cost: [i64; BUCKETS],
    /// Cost saved by taking a mapping that has waited so long, by bucket.
    overdue: [i64; BUCKETS],
    /// The shortest and the longest ordinary delay, in microseconds.
    ordinary: (i64, i64),
    /// The shortest and the longest delay without one in 200 at either end, in microseconds.
    hull: (i64, i64),
    /// Where stamps are coarse, the ends of the span of delays matter.
    steps: DelaySteps,
    /// The highest density of delays, in parts per second.
    peak: f32,
    /// The coarsest resolution of all learnt pairs.
    resolution: Resolution,
}

impl ServerDelays {
    pub(crate) fn new() -> Self {
        Self {
            counts: [0; BUCKETS],
            total: 0,
            seen: 0,
            until_rebuilt: costs::DELAYS_USED_AFTER,
            cost: unlearnt(),
            overdue: [0; BUCKETS],
            ordinary: (i64::MIN, i64::MAX),
            hull: (0, 0),
            steps: DelaySteps::new(),
            peak: 1.0,
            resolution: Resolution::Microsecond,
        }
    }

    /// Learns the delay of a certain pair in microseconds, and its resolution.
    #[inline]
    pub(crate) fn learn(&mut self, delay: i64, resolution: Resolution) {
        self.seen = self.seen.wrapping_add(1);
        if self.total < costs::DELAYS_PLENTY || self.seen.is_multiple_of(costs::DELAYS_SAMPLE) {
            self.count(delay, resolution);
        }
    }

    fn count(&mut self, delay: i64, resolution: Resolution) {
        self.resolution = self.resolution.max(resolution);
        self.counts[bucket(delay)] += 1;
        self.steps.count(delay);
        self.total += 1;
        self.until_rebuilt -= 1;
        if self.until_rebuilt == 0 {
            self.rebuild();
        }
    }

    /// Learns an unusual delay, if it is unusual by one stamp of a whole second only.
    pub(crate) fn learn_next(&mut self, delay: i64) {
        let (step, (shortest, longest)) = (self.resolution.micros(), self.ordinary);
        let is_next =
            delay.saturating_add(step) >= shortest && delay.saturating_sub(step) <= longest;
        if self.resolution == Resolution::Second && is_next {
            self.learn(delay, self.resolution);
        }
    }

    /// Returns the shortest and the longest ordinary delay.
    pub(crate) const fn ordinary(&self) -> (i64, i64) {
        self.ordinary
    }

    /// Returns the cost of explaining a line by a mapping `delay` microseconds older.
    pub(crate) fn cost(&self, delay: i64) -> i64 {
        self.cost[bucket(delay)]
    }

    /// Lowers costs next to ordinary delays: a delay by stamps of whole seconds may be one second
    /// too long or too short.
    fn lend_to_next_stamps(&mut self) {
        let cost = self.cost;
        let step = self.resolution.micros();
        for (index, to) in self.cost.iter_mut().enumerate() {
            let (first, next) = (lower_bound(index), lower_bound((index + 1).min(BUCKETS - 1)));
            // The whole seconds of the bucket, or the nearest.
            let delay = (first.midpoint(next) + step / 2).div_euclid(step) * step;
            let nearer = delay - delay.signum() * step;
            *to = (*to)
                .min(cost[bucket(nearer)] + if delay == 0 { 0 } else { costs::DELAY_NEXT_STAMP });
        }
    }

    /// Returns the cost saved by taking a mapping that, at the end of the window, has waited
    /// `waited` microseconds.
    pub(crate) fn saved(&self, waited: i64) -> i64 {
        self.overdue[bucket(waited)]
    }

    /// Returns how much denser delays lie at best than equal requests come, as a cost.
    pub(crate) fn peak_cost(&self) -> i64 {
        self.peak_cost_over(costs::ALONE_RATE).max(0)
    }

    /// Returns how much denser delays lie at best than so many lines a second, as a cost.
    pub(crate) fn peak_cost_over(&self, rate: f32) -> i64 {
        thousandths((self.peak / rate).ln())
    }

    /// Whether the delay is not ordinary.
    pub(crate) const fn is_unusual(&self, delay: i64) -> bool {
        delay < self.ordinary.0 || delay > self.ordinary.1
    }

    /// Whether the delay is ordinary or not far from that.
    pub(crate) const fn is_close(&self, delay: i64) -> bool {
        delay >= self.ordinary.0.saturating_sub(costs::ENDS_CLOSE)
            && delay <= self.ordinary.1.saturating_add(costs::ENDS_CLOSE)
    }

    /// Whether the delay is far from any that could be expected, while too few pairs are known to tell.
    pub(crate) const fn is_far_at_first(&self, delay: i64) -> bool {
        let (shortest, longest) = costs::DELAY_AT_FIRST;
        !self.is_settled() && (delay < shortest || delay > longest)
    }

    /// Whether the delay is far below all known delays, before enough are known.
    pub(crate) fn is_early_at_first(&self, delay: i64) -> bool {
        let is_told = self.total >= costs::DELAYS_TELL_EARLY && !self.is_settled();
        is_told && delay < lower_bound(self.quantile(0.0)) - costs::EARLY_AT_FIRST
    }

    /// Whether any pair is known.
    pub(crate) const fn is_any_known(&self) -> bool {
        self.total > 0
    }

    /// Whether enough pairs are known for a delay alone to rule a mapping out.
    pub(crate) const fn is_settled(&self) -> bool {
        self.total >= costs::DELAYS_SETTLED_AFTER
    }

    /// Returns the shortest and the longest delay without the rarest, if at least `enough` pairs
    /// are known.
    pub(crate) fn hull(&self, enough: u32) -> Option<(i64, i64)> {
        (self.total >= enough).then_some(self.hull)
    }

    /// Returns the delays in equal steps.
    pub(crate) const fn steps(&self) -> &DelaySteps {
        &self.steps
    }

    /// Returns the median delay in microseconds, once enough pairs are known.
    pub(crate) fn median(&self) -> Option<i64> {
        (self.total >= costs::DELAYS_USED_AFTER).then(|| lower_bound(self.quantile(0.5)))
    }

    /// Returns the span of all but one in 1,000 pairs and two octaves beyond; with stamps of whole
    /// seconds, one second more at the long end.
    fn find_ordinary(&self) -> (i64, i64) {
        let (first, last) = (self.quantile(0.0005), self.quantile(0.9995));
        let step = if self.resolution == Resolution::Second { self.resolution.micros() } else { 0 };
        let shortest = match first.checked_sub(costs::DELAY_MARGIN) {
            Some(bucket) => lower_bound(bucket),
            None => i64::MIN,
        };
        let longest = match last + costs::DELAY_MARGIN + 1 {
            bucket if bucket < BUCKETS => lower_bound(bucket).saturating_add(step),
            _ => i64::MAX,
        };
        (shortest, longest)
    }

    fn quantile(&self, share: f32) -> usize {
        let mut left = share * to_f32(self.total);
        for (bucket, &count) in self.counts.iter().enumerate() {
            left -= to_f32(count);
            if left < 0.0 {
                return bucket;
            }
        }
        BUCKETS - 1
    }

    #[cold]
    fn rebuild(&mut self) {
        if self.total > costs::DELAYS_FADE_AT {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.steps.fade();
            self.total = self.counts.iter().sum();
        }
        self.until_rebuilt = (self.total / 3).max(costs::DELAYS_USED_AFTER);
        self.ordinary = self.find_ordinary();
        let end = |bucket: usize| lower_bound((bucket + 1).min(BUCKETS - 1));
        self.hull = (lower_bound(self.quantile(0.005)), end(self.quantile(0.995)));

        // Neighbouring buckets share counts, so that a bucket empty by chance does not count as
        // impossible.
        let total = to_f32(self.total);
        let share = |bucket: usize| {
            let at = |i: usize| to_f32(self.counts.get(i).copied().unwrap_or(0));
            let near = at(bucket.wrapping_sub(1)) + at(bucket + 1);
            let far = at(bucket.wrapping_sub(2)) + at(bucket + 2);
            (at(bucket) * 0.4 + near * 0.2 + far * 0.1) / total + 1e-6
        };
        // A stamp of whole seconds does not tell when in its second the line was logged.
        let step = to_f32(u32::try_from(self.resolution.micros()).unwrap_or(u32::MAX));
        let mut density = [0.0_f32; BUCKETS];
        let mut left = 1.0_f32;
        for (bucket, (density, overdue)) in density.iter_mut().zip(&mut self.overdue).enumerate() {
            let mass = share(bucket);
            *density = mass / width(bucket).max(step);
            *overdue = thousandths(-(left.max(0.0) + costs::DELAY_ORPHANS).ln()).max(0);
            left -= mass;
        }
        let best = density.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        self.peak = best * 1e6;
        self.steps.rebuild(self.total);
        for (cost, density) in self.cost.iter_mut().zip(density) {
            *cost = thousandths((best / density).ln()).clamp(0, costs::DELAY_WORST);
        }
        if self.resolution == Resolution::Second {
            self.lend_to_next_stamps();
        }
    }
}

/// Returns the costs before delays are learnt: a mapping comes before its line.
const fn unlearnt() -> [i64; BUCKETS] {
    let mut costs = [0; BUCKETS];
    let (mut bucket, mut cost) = (SIDE, costs::DELAY_BEFORE);
    while bucket > 0 {
        bucket -= 1;
        costs[bucket] = cost;
        cost += costs::DELAY_BEFORE_STEP;
    }
    costs
}

/// Returns the bucket of a delay: [`SIDE`] for none, lower buckets for lines that came before their
/// mapping.
fn bucket(delay: i64) -> usize {
    let steps = quarter_octaves(delay.unsigned_abs() / costs::DELAY_UNIT).min(SIDE);
    if delay < 0 { SIDE - steps } else { SIDE + steps }
}

/// Returns four times the logarithm to base 2 of `n + 1`, with the mantissa cut to two bits.
fn quarter_octaves(n: u64) -> usize {
    let n = n.saturating_add(1);
    let octave = n.ilog2();
    let quarter = if octave >= 2 { n >> (octave - 2) & 3 } else { n << (2 - octave) & 3 };
    octave as usize * 4 + usize::try_from(quarter).unwrap_or(0)
}

/// Returns the shortest delay of a bucket, with its sign.
fn lower_bound(bucket: usize) -> i64 {
    let steps = bucket.abs_diff(SIDE);
    let (octave, quarter) = (steps / 4, steps % 4);
    let n = ((4 + quarter as u64) << octave >> 2).saturating_sub(1);
    let delay = i64::try_from(n * costs::DELAY_UNIT).unwrap_or(i64::MAX);
    if bucket < SIDE { -delay } else { delay }
}

/// Returns the width of a bucket in microseconds.
#[expect(clippy::cast_precision_loss, reason = "a width needs no more precision than a float has")]
fn width(bucket: usize) -> f32 {
    let octave = bucket.abs_diff(SIDE) / 4;
    ((costs::DELAY_UNIT << octave) as f32 / 4.0).max(costs::DELAY_UNIT as f32)
}

#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^24")]
fn to_f32(count: u32) -> f32 {
    count as f32
}

#[expect(clippy::cast_possible_truncation, reason = "as saturates, and that is what is wanted")]
pub(crate) fn thousandths(value: f32) -> i64 {
    (value * 1000.0) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_grow_with_the_delay_and_start_where_they_say() {
        let delays =
            [-5_000_000, -1_000, -100, 0, 99, 100, 250, 1_000, 50_000, 1_000_000, i64::MAX];
        for pair in delays.windows(2) {
            assert!(bucket(pair[0]) <= bucket(pair[1]), "{pair:?}");
        }
        for index in SIDE + 8..BUCKETS - 1 {
            assert_eq!(bucket(lower_bound(index)), index);
        }
        assert!(bucket(1_000_000) < bucket(2_000_000));
    }

    #[test]
    fn nothing_learnt_means_no_preference() {
        let delays = ServerDelays::new();
        assert_eq!(delays.cost(0), delays.cost(1_000_000_000));
        assert_eq!(delays.saved(0), delays.saved(1_000_000_000));
        assert!(delays.cost(-200) > delays.cost(0), "a mapping comes before its line");
        assert!(!delays.is_unusual(-5_000_000));
        assert_eq!(delays.median(), None);
    }

    #[test]
    fn a_steady_delay_makes_the_overdue_mapping_the_best_and_an_ancient_one_the_worst() {
        let mut delays = ServerDelays::new();
        (0..1_000).for_each(|i| delays.learn(50_000 + i % 100, Resolution::Microsecond));
        let cost = |delay| delays.cost(delay) - delays.saved(delay + 1_000);
        assert!(cost(51_000) < cost(10_000));
        assert!(cost(51_000) < cost(60_000_000));
        assert!(delays.is_unusual(60_000_000));
        assert!(!delays.is_unusual(60_000));
        let median = delays.median().expect("there is enough");
        assert!((40_000..=51_000).contains(&median), "{median}");
    }

    #[test]
    fn a_server_that_changes_is_learnt_anew() {
        let mut delays = ServerDelays::new();
        (0..20_000).for_each(|_| delays.learn(1_000, Resolution::Microsecond));
        (0..60_000).for_each(|_| delays.learn(3_000_000, Resolution::Microsecond));
        assert!(delays.cost(3_000_000) < delays.cost(1_000));
    }
}
