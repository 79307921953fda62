//! Delays of up to some seconds in equal steps: where stamps are coarse, the ends of their span matter.

use crate::attribution::costs;

/// Steps from -5 s to 5 s.
const STEPS: usize = 320;

/// The step of a delay of 0.
const ZERO: i64 = 160;

/// Microseconds of a step: a 32nd of a second.
const STEP: i64 = 31_250;

/// Steps on either side that are counted with a step.
const BLUR: usize = 1;

/// Counts of delays, and what follows from them.
pub(crate) struct DelaySteps {
    counts: Box<[u32; STEPS]>,
    /// See [`Self::dense_span`].
    dense: Option<(i64, i64)>,
    /// Costs, in thousandths of a natural logarithm above the best, once enough pairs are known.
    costs: Option<Box<[i64; STEPS]>>,
}

impl DelaySteps {
    pub(crate) fn new() -> Self {
        Self { counts: Box::new([0; STEPS]), dense: None, costs: None }
    }

    /// Counts a delay in microseconds.
    pub(crate) fn count(&mut self, delay: i64) {
        if let Some(count) = step(delay).and_then(|step| self.counts.get_mut(step)) {
            *count += 1;
        }
    }

    /// Halves all counts.
    pub(crate) fn fade(&mut self) {
        self.counts.iter_mut().for_each(|count| *count /= 2);
    }

    /// Finds anew what follows from the counts; `total` is how many delays are known, long ones included.
    pub(crate) fn rebuild(&mut self, total: u32) {
        self.dense =
            (total >= costs::DELAYS_SETTLED_AFTER).then(|| self.find_dense(total)).flatten();
        let is_known = self.dense.is_some() && total >= costs::STEPS_USED_AFTER;
        self.costs = is_known.then(|| self.find_costs());
    }

    /// Returns the span in which delays lie densely, if enough pairs are known and most delays are short. A few
    /// pairs that are wrong do not make the span longer.
    pub(crate) const fn dense_span(&self) -> Option<(i64, i64)> {
        self.dense
    }

    /// Returns the cost of a delay, if enough pairs are known.
    pub(crate) fn cost(&self, delay: i64) -> Option<i64> {
        self.costs.as_ref()?.get(step(delay)?).copied()
    }

    fn find_dense(&self, total: u32) -> Option<(i64, i64)> {
        let most = (0..STEPS).max_by_key(|&step| self.near(step))?;
        let is_dense = |&step: &usize| self.near(step) * costs::COARSE_SPARSE >= self.near(most);
        let first = (0..=most).rev().take_while(is_dense).last()?;
        let last = (most..STEPS).take_while(is_dense).last()?;
        let within: u32 = self.counts[first..=last].iter().sum();
        // A step is dense already if its neighbour is.
        let (first, last) = ((first + BLUR).min(most), (last - BLUR).max(most));
        (within * 2 > total).then(|| (start(first), start(last) + STEP))
    }

    fn find_costs(&self) -> Box<[i64; STEPS]> {
        let most = (0..STEPS).map(|step| self.near(step)).max().unwrap_or(1).max(1);
        Box::new(std::array::from_fn(|step| {
            let density = (f64::from(self.near(step)) + 0.5) / f64::from(most);
            thousandths(-density.ln()).max(0)
        }))
    }

    /// Returns the delays of a step and of those beside it.
    fn near(&self, step: usize) -> u32 {
        self.counts[step.saturating_sub(BLUR)..(step + BLUR + 1).min(STEPS)].iter().sum()
    }
}

fn step(delay: i64) -> Option<usize> {
    usize::try_from(delay.div_euclid(STEP) + ZERO).ok()
}

/// Returns the shortest delay of a step.
fn start(step: usize) -> i64 {
    (i64::try_from(step).unwrap_or(ZERO) - ZERO) * STEP
}

#[expect(clippy::cast_possible_truncation, reason = "a logarithm of a small number")]
fn thousandths(value: f64) -> i64 {
    (value * 1_000.0) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_wrong_pairs_do_not_make_the_span_longer() {
        let mut steps = DelaySteps::new();
        (0..1_000).for_each(|i| steps.count(-i * 1_000));
        (0..40).for_each(|i| steps.count(i * 100_000));
        steps.rebuild(1_040);
        let (first, last) = steps.dense_span().expect("there is enough");
        assert!((-1_040_000..=-960_000).contains(&first), "{first}");
        assert!((0..=63_000).contains(&last), "{last}");
        assert_eq!(steps.cost(-500_000).map(|cost| cost / 1_000), Some(0));
        assert!(steps.cost(2_000_000) > Some(3_000));
        assert_eq!(steps.cost(i64::MAX), None);
        assert_eq!(steps.cost(i64::MIN), None);
    }
}
