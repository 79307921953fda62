//! Weighs all ways to give each line a mapping of its own, and finds the share of each pair.
//!
//! The weight of a way is the product of the weights of its pairs, of the lines that get none, and of the mappings
//! that are left over. To add up all ways takes time beyond all bounds (it is the permanent of a matrix), so the shares
//! are those of the fractional Bethe approximation (Chertkov and Yedidia, 2013): the shares of a line add up to one, and
//! so do those of a mapping; a pair that is nearly sure weighs more than its weight says.

use super::lattice::refill;
use crate::attribution::costs;

/// e to the power of 1/2, the part of the correction for sure pairs that is taken: none makes shares too small where
/// lines and mappings are few, all of it makes them too large.
const ROOT_OF_E: f64 = 1.648_72;

/// Weights of lines, mappings and their pairs, and what follows from them.
#[derive(Default)]
pub(crate) struct Matching {
    mappings: usize,
    lines: Vec<MatchingLine>,
    /// Line after line.
    pairs: Vec<MatchingPair>,
    /// The weight of each mapping without any of the lines.
    left: Vec<f64>,
    /// The factor of each mapping that makes its shares add up to one.
    of_mapping: Vec<f64>,
    /// The share of each pair, line after line.
    shares: Vec<f64>,
}

/// A line of a matching.
struct MatchingLine {
    /// The weight of the line without any of the mappings.
    alone: f64,
    /// The factor that makes its shares add up to one.
    factor: f64,
    /// Where its pairs end.
    end: usize,
}

/// A line and a mapping that it may have.
struct MatchingPair {
    mapping: usize,
    weight: f64,
    /// The weight by the share so far.
    scaled: f64,
    share: f64,
}

impl Matching {
    /// Starts anew, with mappings of these weights without any of the lines; each is more than 0.
    pub(crate) fn reset(&mut self, left: impl Iterator<Item = f64>) {
        self.left.clear();
        self.left.extend(left);
        self.mappings = self.left.len();
        self.lines.clear();
        self.pairs.clear();
    }

    /// Adds a line with the weights of its pairs, and its weight without any of the mappings, which is more than 0.
    pub(crate) fn add_line(&mut self, weights: &[f64], alone: f64) {
        let most = weights.iter().copied().fold(0.0, f64::max);
        let least = most * costs::MATCHING_LEAST;
        let pairs = weights.iter().enumerate().filter(|(_, weight)| **weight > least);
        self.pairs.extend(pairs.map(|(mapping, &weight)| MatchingPair {
            mapping,
            weight,
            scaled: 0.0,
            share: 0.0,
        }));
        self.lines.push(MatchingLine { alone, factor: 1.0, end: self.pairs.len() });
    }

    /// Weighs all ways.
    pub(crate) fn solve(&mut self) {
        refill(&mut self.of_mapping, self.mappings, 1.0);
        for _ in 0..costs::MATCHING_ROUNDS {
            self.scale();
            self.balance();
            if self.find_shares() < costs::MATCHING_CHANGE {
                break;
            }
        }
        refill(&mut self.shares, self.lines.len() * self.mappings, 0.0);
        let mut start = 0;
        for (line, row) in self.lines.iter().zip(self.shares.chunks_exact_mut(self.mappings.max(1)))
        {
            self.pairs[start..line.end].iter().for_each(|pair| row[pair.mapping] = pair.share);
            start = line.end;
        }
    }

    /// Makes pairs weigh more, the surer they are.
    fn scale(&mut self) {
        for pair in &mut self.pairs {
            let root = (1.0 - pair.share).max(costs::MATCHING_REST).sqrt();
            pair.scaled = pair.weight * ROOT_OF_E / root;
        }
    }

    /// Makes the shares of each mapping add up to one, and then those of each line.
    fn balance(&mut self) {
        self.of_mapping.copy_from_slice(&self.left);
        let mut start = 0;
        for line in &self.lines {
            for pair in &self.pairs[start..line.end] {
                self.of_mapping[pair.mapping] += line.factor * pair.scaled;
            }
            start = line.end;
        }
        self.of_mapping.iter_mut().for_each(|of_mapping| *of_mapping = of_mapping.recip());
        start = 0;
        for line in &mut self.lines {
            let pairs = self.pairs[start..line.end].iter();
            let all = pairs.map(|pair| pair.scaled * self.of_mapping[pair.mapping]).sum::<f64>();
            line.factor = (all + line.alone).recip();
            start = line.end;
        }
    }

    /// Finds each share from the factors; returns by how much the shares change at most.
    fn find_shares(&mut self) -> f64 {
        let (mut start, mut most) = (0, 0.0_f64);
        for line in &self.lines {
            for pair in &mut self.pairs[start..line.end] {
                let found = line.factor * pair.scaled * self.of_mapping[pair.mapping];
                let share = found.clamp(0.0, 1.0);
                most = most.max((share - pair.share).abs());
                pair.share = share;
            }
            start = line.end;
        }
        most
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
        if line == of.lines.len() {
            let left = taken.iter().zip(&of.left).filter(|(taken, _)| !**taken);
            return (left.map(|(_, left)| left).product(), 0.0);
        }
        let (mut all, mut with) = by_trial(of, line + 1, taken, pair);
        let MatchingLine { alone, end, .. } = of.lines[line];
        let start = if line == 0 { 0 } else { of.lines[line - 1].end };
        (all, with) = (all * alone, with * alone);
        for &MatchingPair { mapping, weight, .. } in &of.pairs[start..end] {
            if !taken[mapping] {
                taken[mapping] = true;
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
            matching.reset([1e-9, 1e-9].into_iter());
            matching.add_line(&[1.0, crossed], 1e-9);
            matching.add_line(&[crossed, 1.0], 1e-9);
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
            matching.reset([left; 4].into_iter());
            for row in &weights {
                let row: Vec<f64> = row.iter().map(|cost| (-cost).exp()).collect();
                matching.add_line(&row, alone);
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
