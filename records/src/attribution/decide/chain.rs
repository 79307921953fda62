//! The shares of all alignments of lines and slots in which a line takes a slot.
//!
//! Lines and slots are both in time order, and most lines take their slots in this order. So all alignments are
//! added up as with a pair hidden Markov model (Durbin, Eddy, Krogh, Mitchison, 1998, chapter 4), forward from
//! the first line and backward from the last. A line may also take a slot out of order, near its place: such a
//! line leaves the place where it is. All weights are relative.

/// Weights of an alignment. A *place* `p` is behind the slots before number `p`.
#[derive(Clone, Debug, Default)]
pub(super) struct AlignmentWeights {
    /// Of each line's pairs, slot after slot.
    pub(super) pairs: Vec<f64>,
    /// Of skipping each slot.
    pub(super) skips: Vec<f64>,
    /// Of each place before the first line.
    pub(super) start: Vec<f64>,
    /// Of a line without a slot.
    pub(super) unmatched: f64,
    /// Of taking a slot out of order, at the place itself.
    pub(super) crossed: f64,
    /// By which factor the weight out of order falls from the slot before to each slot.
    pub(super) near: Vec<f64>,
}

/// Shares of one line, which add up to 1 with that of no slot at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LineShares {
    /// The share of each slot, in order or not.
    pub(super) slots: Vec<f64>,
    /// The share of slots taken out of order.
    pub(super) crossed: f64,
}

impl LineShares {
    /// Returns the slot with the greatest share; `None` if no slot has any.
    pub(super) fn best(&self) -> Option<usize> {
        let each = self.slots.iter().enumerate().filter(|&(_, &share)| share > 0.0);
        each.max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(slot, _)| slot)
    }
}

impl AlignmentWeights {
    fn slots(&self) -> usize {
        self.skips.len()
    }

    fn lines(&self) -> usize {
        self.pairs.len().checked_div(self.slots()).unwrap_or(0)
    }

    /// Returns the weights of a line's pairs.
    pub(super) fn of_line(&self, line: usize) -> &[f64] {
        &self.pairs[line * self.slots()..][..self.slots()]
    }

    /// Returns the shares of a line; `None` if nothing has any weight.
    pub(super) fn shares(&self, line: usize) -> Option<LineShares> {
        let mut before = self.start.clone();
        for earlier in 0..line {
            before = self.after(earlier, &before);
        }
        let mut behind = vec![1.0; self.slots() + 1];
        for later in (line + 1..self.lines()).rev() {
            behind = self.before(later, &behind);
        }
        self.combine(line, &before, &behind)
    }

    /// Returns the weights of places after a line, from those before.
    fn after(&self, line: usize, before: &[f64]) -> Vec<f64> {
        let pairs = self.of_line(line);
        let aside = self.aside(pairs);
        let mut after: Vec<f64> =
            before.iter().zip(&aside).map(|(weight, aside)| weight * aside).collect();
        let mut passed = 0.0;
        for slot in 0..self.slots() {
            passed += before[slot];
            after[slot + 1] += passed * pairs[slot];
            passed *= self.skips[slot];
        }
        scaled(after)
    }

    /// Returns the weights of places before a line, from those after.
    fn before(&self, line: usize, after: &[f64]) -> Vec<f64> {
        let pairs = self.of_line(line);
        let aside = self.aside(pairs);
        let mut before: Vec<f64> =
            after.iter().zip(&aside).map(|(weight, aside)| weight * aside).collect();
        let mut ahead = 0.0;
        for slot in (0..self.slots()).rev() {
            ahead = ahead * self.skips[slot] + pairs[slot] * after[slot + 1];
            before[slot] += ahead;
        }
        scaled(before)
    }

    /// Returns, for each place, the weight of a line that leaves the place where it is: one without a slot or
    /// with a slot out of order.
    fn aside(&self, pairs: &[f64]) -> Vec<f64> {
        let slots = self.slots();
        let mut aside = vec![self.unmatched; slots + 1];
        let mut ahead = 0.0;
        for slot in (0..slots).rev() {
            ahead = self.near[slot] * (pairs[slot] + ahead);
            aside[slot] += self.crossed * ahead;
        }
        let mut behind = 0.0;
        // The slot before a place is taken by the line before.
        for place in 2..=slots {
            behind = self.near[place - 1] * (pairs[place - 2] + behind);
            aside[place] += self.crossed * behind;
        }
        aside
    }

    fn combine(&self, line: usize, before: &[f64], behind: &[f64]) -> Option<LineShares> {
        let (pairs, count) = (self.of_line(line), self.slots());
        let stays: Vec<f64> = before.iter().zip(behind).map(|(one, other)| one * other).collect();
        let mut aside = vec![0.0; count];
        let mut near = 0.0;
        for slot in 0..count {
            near = self.near[slot] * (stays[slot] + near);
            aside[slot] += near;
        }
        near = 0.0;
        for slot in (0..count.saturating_sub(1)).rev() {
            near = self.near[slot + 1] * (stays[slot + 2] + near);
            aside[slot] += near;
        }
        let unmatched = self.unmatched * stays.iter().sum::<f64>();
        let mut shares = LineShares { slots: Vec::with_capacity(count), crossed: 0.0 };
        let (mut passed, mut all) = (0.0, unmatched);
        for slot in 0..count {
            passed += before[slot];
            let in_order = passed * pairs[slot] * behind[slot + 1];
            let out_of_order = self.crossed * aside[slot] * pairs[slot];
            shares.slots.push(in_order + out_of_order);
            shares.crossed += out_of_order;
            all += in_order + out_of_order;
            passed *= self.skips[slot];
        }
        if all <= 0.0 || !all.is_finite() {
            return None;
        }
        shares.slots.iter_mut().for_each(|share| *share /= all);
        shares.crossed /= all;
        Some(shares)
    }
}

/// Returns the weights with 1 as their sum, unless all are 0.
fn scaled(mut weights: Vec<f64>) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    if sum > 0.0 {
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Adds up all alignments of the lines from `line` on, by trial, and for each slot those in which the line
    /// number `asked` takes it.
    fn by_trial(it: &AlignmentWeights, asked: usize) -> (f64, Vec<f64>) {
        fn walk(
            it: &AlignmentWeights,
            (line, place, weight): (usize, usize, f64),
            (asked, choice): (usize, Option<usize>),
            out: &mut (f64, Vec<f64>),
        ) {
            if line == it.lines() {
                out.0 += weight;
                if let Some(slot) = choice {
                    out.1[slot] += weight;
                }
                return;
            }
            let mut step = |place, factor: f64, slot| {
                let choice = if line == asked { slot } else { choice };
                walk(it, (line + 1, place, weight * factor), (asked, choice), out);
            };
            step(place, it.unmatched, None);
            let mut skipped = 1.0;
            for slot in 0..it.slots() {
                let pair = it.of_line(line)[slot];
                if slot >= place {
                    step(slot + 1, skipped * pair, Some(slot));
                    skipped *= it.skips[slot];
                }
                let between = if slot >= place { place..slot + 1 } else { slot + 1..place };
                if !between.is_empty() {
                    let near: f64 = it.near[between].iter().product();
                    step(place, it.crossed * near * pair, Some(slot));
                }
            }
        }
        let mut out = (0.0, vec![0.0; it.slots()]);
        for (place, &weight) in it.start.iter().enumerate() {
            walk(it, (0, place, weight), (asked, None), &mut out);
        }
        out
    }

    proptest! {
        #[test]
        fn shares_are_those_of_all_alignments(
            slots in 1_usize..4,
            lines in 1_usize..4,
            numbers in proptest::collection::vec(0.0_f64..1.0, 40),
            asked in 0_usize..3,
        ) {
            let asked = asked.min(lines - 1);
            let it = AlignmentWeights {
                pairs: numbers[..slots * lines].to_vec(),
                skips: numbers[20..20 + slots].to_vec(),
                start: numbers[24..=24 + slots].to_vec(),
                unmatched: 0.01 + numbers[30] / 10.0,
                crossed: numbers[31],
                near: numbers[32..32 + slots].to_vec(),
            };
            let (all, each) = by_trial(&it, asked);
            let shares = it.shares(asked).expect("no line has to have a slot");
            for (share, weight) in shares.slots.iter().zip(each) {
                prop_assert!((share - weight / all).abs() < 1e-9, "{} {}", share, weight / all);
            }
        }
    }

    #[test]
    fn a_run_of_equal_pairs_is_told_by_its_ends() {
        // Three lines, four slots, no line like the last slot: each takes its own.
        let mut pairs = vec![0.1; 12];
        for line in 0..3 {
            pairs[line * 4 + 3] = 0.0;
        }
        let it = AlignmentWeights {
            pairs,
            skips: vec![0.01; 4],
            start: vec![1.0, 0.0, 0.0, 0.0, 0.0],
            unmatched: 1e-6,
            crossed: 0.001,
            near: vec![0.5; 4],
        };
        for line in 0..3 {
            assert!(it.shares(line).unwrap().slots[line] > 0.95);
        }
    }
}
