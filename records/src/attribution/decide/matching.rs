//! Weighs all ways to give each line a mapping of its own, and finds the share of each pair.
//!
//! The weight of a way is the product of the weights of its pairs, of the lines that get none, and of the mappings
//! that are left over. To add up all ways takes time beyond all bounds (it is the permanent of a matrix), so the shares
//! are those of the fractional Bethe approximation (Chertkov and Yedidia, 2013): the shares of a line add up to one, and
//! so do those of a mapping; a pair that is nearly sure weighs more than its weight says.

use super::lattice::refill;
use crate::attribution::costs;

/// e to the power of 3/4, the part of the correction for sure pairs that is taken: none makes shares too small where
/// lines and mappings are few, all of it makes them too large.
const POWER_OF_E: f64 = 2.117;

/// Weights of lines, mappings and their pairs, and what follows from them.
#[derive(Default)]
pub(crate) struct Matching {
    lines: usize,
    mappings: usize,
    /// The weight of each pair, line after line.
    pairs: Vec<f64>,
    /// The weight of a line without any of these mappings.
    alone: Vec<f64>,
    /// The weight of a mapping without any of these lines.
    left: Vec<f64>,
    /// The share of each pair.
    shares: Vec<f64>,
    /// The weight of each pair, by its share so far.
    scaled: Vec<f64>,
    of_line: Vec<f64>,
    of_mapping: Vec<f64>,
}

impl Matching {
    /// Starts anew; all pairs are impossible until they are set.
    pub(crate) fn reset(&mut self, lines: usize, mappings: usize) {
        (self.lines, self.mappings) = (lines, mappings);
        refill(&mut self.pairs, lines * mappings, 0.0);
        refill(&mut self.shares, lines * mappings, 0.0);
        refill(&mut self.scaled, lines * mappings, 0.0);
        refill(&mut self.alone, lines, costs::ALONE_LEAST);
        refill(&mut self.left, mappings, 1.0);
        refill(&mut self.of_line, lines, 1.0);
        refill(&mut self.of_mapping, mappings, 1.0);
    }

    pub(crate) fn set_pair(&mut self, line: usize, mapping: usize, weight: f64) {
        self.pairs[line * self.mappings + mapping] = weight;
    }

    /// Sets the weight of a line without any of the mappings, which is more than 0.
    pub(crate) fn set_alone(&mut self, line: usize, weight: f64) {
        self.alone[line] = weight;
    }

    /// Sets the weight of a mapping without any of the lines, which is more than 0.
    pub(crate) fn set_left(&mut self, mapping: usize, weight: f64) {
        self.left[mapping] = weight;
    }

    /// Weighs all ways.
    pub(crate) fn solve(&mut self) {
        for _ in 0..costs::MATCHING_ROUNDS {
            self.scale();
            self.balance();
            self.balance();
            for line in 0..self.lines {
                for mapping in 0..self.mappings {
                    let at = line * self.mappings + mapping;
                    let found = self.of_line[line] * self.scaled[at] * self.of_mapping[mapping];
                    self.shares[at] = f64::midpoint(self.shares[at], found.clamp(0.0, 1.0));
                }
            }
        }
    }

    /// Makes pairs weigh more, the surer they are.
    fn scale(&mut self) {
        for ((scaled, &pair), &share) in self.scaled.iter_mut().zip(&self.pairs).zip(&self.shares) {
            if pair > 0.0 {
                let root = (1.0 - share).max(costs::MATCHING_REST).sqrt();
                *scaled = pair * POWER_OF_E / (root * root.sqrt());
            }
        }
    }

    /// Makes the shares of each mapping add up to one, and then those of each line.
    fn balance(&mut self) {
        self.of_mapping.copy_from_slice(&self.left);
        for (row, &of_line) in self.scaled.chunks_exact(self.mappings.max(1)).zip(&self.of_line) {
            for (of_mapping, &scaled) in self.of_mapping.iter_mut().zip(row) {
                *of_mapping += of_line * scaled;
            }
        }
        self.of_mapping.iter_mut().for_each(|of_mapping| *of_mapping = of_mapping.recip());
        let rows = self.scaled.chunks_exact(self.mappings.max(1));
        for ((of_line, row), &alone) in self.of_line.iter_mut().zip(rows).zip(&self.alone) {
            let all = row.iter().zip(&self.of_mapping).map(|(scaled, of)| scaled * of).sum::<f64>();
            *of_line = (all + alone).recip();
        }
    }

    /// Returns the probability that the line has the mapping; after [`Self::solve`].
    pub(crate) fn share(&self, line: usize, mapping: usize) -> f64 {
        self.shares[line * self.mappings + mapping]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The weight of all ways for the lines from this one on, and of those that give `pair.0` the mapping `pair.1`.
    fn by_trial(
        of: &Matching,
        line: usize,
        taken: &mut Vec<bool>,
        pair: (usize, usize),
    ) -> (f64, f64) {
        if line == of.lines {
            let left = taken.iter().zip(&of.left).filter(|(taken, _)| !**taken);
            return (left.map(|(_, left)| left).product(), 0.0);
        }
        let (mut all, mut with) = by_trial(of, line + 1, taken, pair);
        (all, with) = (all * of.alone[line], with * of.alone[line]);
        for mapping in 0..of.mappings {
            if !taken[mapping] {
                taken[mapping] = true;
                let weight = of.pairs[line * of.mappings + mapping];
                let rest = by_trial(of, line + 1, taken, pair);
                all += weight * rest.0;
                with += weight * if pair == (line, mapping) { rest.0 } else { rest.1 };
                taken[mapping] = false;
            }
        }
        (all, with)
    }

    #[test]
    fn two_lines_share_two_mappings_as_all_ways_do() {
        for crossed in [1.0, 0.5, 0.1] {
            let mut matching = Matching::default();
            matching.reset(2, 2);
            for at in 0..2 {
                matching.set_alone(at, 1e-9);
                matching.set_left(at, 1e-9);
                matching.set_pair(at, at, 1.0);
                matching.set_pair(at, 1 - at, crossed);
            }
            matching.solve();
            let exact = 1.0 / (1.0 + crossed * crossed);
            assert!((matching.share(0, 0) - exact).abs() < 0.12, "{}", matching.share(0, 0));
        }
    }

    proptest! {
        #[test]
        fn shares_are_about_those_of_all_ways(
            weights in proptest::collection::vec(proptest::collection::vec(0.0..7.0_f64, 4), 3),
            left in 0.01..1.0_f64, alone in 0.001..0.1_f64,
        ) {
            let mut matching = Matching::default();
            matching.reset(3, 4);
            for (line, row) in weights.iter().enumerate() {
                matching.set_alone(line, alone);
                for (mapping, &cost) in row.iter().enumerate() {
                    matching.set_pair(line, mapping, (-cost).exp());
                    matching.set_left(mapping, left);
                }
            }
            matching.solve();
            for line in 0..3 {
                let mut sum = 0.0;
                for mapping in 0..4 {
                    let (all, with) = by_trial(&matching, 0, &mut vec![false; 4], (line, mapping));
                    let share = matching.share(line, mapping);
                    prop_assert!((share - with / all).abs() < 0.2, "{share} {}", with / all);
                    sum += share;
                }
                prop_assert!(sum < 1.02, "{sum}");
            }
        }
    }
}
