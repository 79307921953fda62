//! Weighs all ways to give each line a mapping of its own, and finds the share of each pair.
//!
//! The weight of a way is the product of the weights of its pairs, of the lines that get none, and of the mappings
//! that are left over. To add up all ways takes time beyond all bounds (it is the permanent of a matrix), so the shares
//! are those of the fractional Bethe approximation (Chertkov and Yedidia, 2013): the shares of a line add up to one, and
//! so do those of a mapping; a pair that is nearly sure weighs more than its weight says.

use crate::attribution::costs;

/// e to the power of 1/2, the part of the correction for sure pairs that is taken: none makes shares too small where
/// lines and mappings are few, all of it makes them too large.
const ROOT_OF_E: f64 = 1.648_72;

/// Weights of lines, mappings and their pairs, and what follows from them.
#[derive(Default)]
pub(crate) struct Matching {
    lines: Vec<MatchingLine>,
    /// Line after line.
    pairs: Vec<MatchingPair>,
    mappings: Vec<MatchingMapping>,
}

/// A line of a matching.
struct MatchingLine {
    /// The weight of the line without any of the mappings.
    alone: f64,
    /// Where its pairs begin and end.
    start: usize,
    end: usize,
}

/// A mapping of a matching.
struct MatchingMapping {
    /// The weight of the mapping without any of the lines.
    left: f64,
    /// Likewise with the weights of the line's pairs, as far as added up.
    sum: f64,
    /// The factor that makes its shares add up to one.
    factor: f64,
}

/// A line and a mapping that it may have.
pub(crate) struct MatchingPair {
    pub(crate) mapping: usize,
    weight: f64,
    /// The weight by the share so far.
    scaled: f64,
    /// The probability that the line has the mapping; after [`Matching::solve`].
    pub(crate) share: f64,
}

impl Matching {
    /// Starts anew, with mappings of these weights without any of the lines; each is more than 0.
    pub(crate) fn reset(&mut self, left: impl Iterator<Item = f64>) {
        self.mappings.clear();
        self.mappings.extend(left.map(|left| MatchingMapping { left, sum: left, factor: 1.0 }));
        self.lines.clear();
        self.pairs.clear();
    }

    /// Adds a line with the mappings that it may have and their weights, and its weight without any of them, which is
    /// more than 0.
    pub(crate) fn add_line(&mut self, pairs: impl Iterator<Item = (usize, f64)>, alone: f64) {
        let start = self.pairs.len();
        for (mapping, weight) in pairs {
            let scaled = weight * ROOT_OF_E;
            self.mappings[mapping].sum += scaled;
            self.pairs.push(MatchingPair { mapping, weight, scaled, share: 0.0 });
        }
        self.lines.push(MatchingLine { alone, start, end: self.pairs.len() });
    }

    /// Weighs all ways.
    pub(crate) fn solve(&mut self) {
        for _ in 0..costs::MATCHING_ROUNDS {
            self.balance();
            if self.find_shares() < costs::MATCHING_CHANGE {
                break;
            }
        }
    }

    /// Makes the shares of each mapping add up to one.
    fn balance(&mut self) {
        for mapping in &mut self.mappings {
            mapping.factor = mapping.sum.recip();
            mapping.sum = mapping.left;
        }
    }

    /// Makes the shares of each line add up to one, and pairs weigh more, the surer they are; returns by how much the
    /// shares change at most.
    fn find_shares(&mut self) -> f64 {
        let mut most = 0.0_f64;
        for line in &self.lines {
            let pairs = &mut self.pairs[line.start..line.end];
            let mut all = line.alone;
            for pair in &mut *pairs {
                pair.scaled *= self.mappings[pair.mapping].factor;
                all += pair.scaled;
            }
            let of_line = all.recip();
            for pair in pairs {
                let found = pair.scaled * of_line;
                let change = (found - pair.share).abs();
                if change > most {
                    most = change;
                }
                pair.share = found;
                pair.scaled = pair.weight * surer(found);
                self.mappings[pair.mapping].sum += pair.scaled * of_line;
            }
        }
        most
    }

    /// Returns the number of a line's first pair among the pairs of all lines.
    pub(crate) fn first_pair(&self, line: usize) -> usize {
        self.lines[line].start
    }

    /// Returns the pairs of a line.
    pub(crate) fn pairs(&self, line: usize) -> &[MatchingPair] {
        &self.pairs[self.lines[line].start..self.lines[line].end]
    }

    /// Returns the probability that the line has the mapping; after [`Self::solve`].
    pub(crate) fn share(&self, line: usize, mapping: usize) -> f64 {
        let own = self.pairs(line).iter().find(|pair| pair.mapping == mapping);
        own.map_or(0.0, |pair| pair.share)
    }
}

/// Returns the factor of a pair with this share: the surer, the larger.
#[inline]
fn surer(share: f64) -> f64 {
    let root = if share < 0.1 {
        // The first terms of the series, which are faster.
        1.0 + share * (0.5 + share * (0.375 + share * 0.312_5))
    } else {
        (1.0 - share).max(costs::MATCHING_REST).sqrt().recip()
    };
    ROOT_OF_E * root
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
            let left = taken.iter().zip(&of.mappings).filter(|(taken, _)| !**taken);
            return (left.map(|(_, it)| it.left).product(), 0.0);
        }
        let (mut all, mut with) = by_trial(of, line + 1, taken, pair);
        let alone = of.lines[line].alone;
        (all, with) = (all * alone, with * alone);
        for &MatchingPair { mapping, weight, .. } in of.pairs(line) {
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
            matching.add_line([1.0, crossed].into_iter().enumerate(), 1e-9);
            matching.add_line([crossed, 1.0].into_iter().enumerate(), 1e-9);
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
                matching.add_line(row.iter().map(|cost| (-cost).exp()).enumerate(), alone);
            }
            matching.solve();
            for line in 0..3 {
                let mut sum = 0.0;
                for mapping in 0..4 {
                    let (all, with) = by_trial(&matching, 0, &mut vec![false; 4], (line, mapping));
                    let share = matching.share(line, mapping);
                    prop_assert!((share - with / all).abs() < 0.25, "{share} {}", with / all);
                    sum += share;
                }
                prop_assert!(sum < 1.02, "{sum}");
            }
        }
    }
}
