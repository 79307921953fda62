//! Weighs all alignments of the lines of a group with its mappings, and finds the share of each pair.
//!
//! Lines and mappings are both in time order. An alignment gives each line a mapping or none, in order;
//! mappings between two taken ones are left over. Two or three neighbours may be crossed: they take as many
//! neighbouring mappings in another order. The weight of an alignment is the product of the weights of its parts.
//! So the share of a pair among all alignments is its probability: the method is the forward-backward
//! algorithm for pairs of sequences (Durbin, Eddy, Krogh and Mitchison, 1998, chapter 4).

use crate::attribution::costs;

/// Weights of the parts of an alignment, and what follows from them.
pub(crate) struct Lattice {
    lines: usize,
    mappings: usize,
    /// The weight of each pair, line after line.
    pairs: Vec<f64>,
    /// The weight of a mapping that is left over although a later mapping is taken.
    left: Vec<f64>,
    /// The weight of a mapping behind the last taken mapping: its line may be still to come.
    open: Vec<f64>,
    /// The weight of a line without any of these mappings.
    alone: Vec<f64>,
    /// The weight of crossing a mapping with the next.
    crossed: Vec<f64>,
    /// The weight of two or three lines that take mappings from a place on in another order.
    blocks: Vec<[f64; BLOCKS.len()]>,
    /// Weight of all alignments of the lines before this line, with mappings before this place.
    before: Vec<f64>,
    /// The same, but the mappings up to this place are taken or left over.
    reached: Vec<f64>,
    /// Weight of all alignments of this line and later lines with mappings from this place on.
    after: Vec<f64>,
    /// Weight of all alignments.
    total: f64,
    /// Weights by cost, in steps of [`costs::LATTICE_STEP`].
    weights: Vec<f64>,
}

/// Orders in which lines may take neighbouring mappings, and how many of them are crossed.
const BLOCKS: [(&[usize], i32); 4] =
    [(&[1, 0], 1), (&[1, 2, 0], 2), (&[2, 0, 1], 2), (&[2, 1, 0], 3)];

impl Default for Lattice {
    #[expect(clippy::cast_precision_loss, reason = "costs are small numbers")]
    fn default() -> Self {
        let weight = |step: i64| (-((step * costs::LATTICE_STEP) as f64) / 1_000.0).exp();
        Self {
            lines: 0,
            mappings: 0,
            pairs: Vec::new(),
            left: Vec::new(),
            open: Vec::new(),
            alone: Vec::new(),
            crossed: Vec::new(),
            blocks: Vec::new(),
            before: Vec::new(),
            reached: Vec::new(),
            after: Vec::new(),
            total: 0.0,
            weights: (0..=costs::LATTICE_WORST / costs::LATTICE_STEP).map(weight).collect(),
        }
    }
}

impl Lattice {
    /// Starts a new alignment; all pairs are impossible until they are set.
    pub(crate) fn reset(&mut self, lines: usize, mappings: usize) {
        (self.lines, self.mappings) = (lines, mappings);
        refill(&mut self.pairs, lines * mappings, 0.0);
        refill(&mut self.left, mappings, 1.0);
        refill(&mut self.open, mappings, 1.0);
        refill(&mut self.alone, lines, 0.0);
        refill(&mut self.crossed, mappings, 0.0);
    }

    /// Returns the weight of a cost: e to the power of minus `cost` thousandths.
    pub(crate) fn weight(&self, cost: i64) -> f64 {
        let step = cost.clamp(0, costs::LATTICE_WORST) / costs::LATTICE_STEP;
        self.weights[usize::try_from(step).unwrap_or(0)]
    }

    pub(crate) fn set_pair(&mut self, line: usize, mapping: usize, cost: i64) {
        self.pairs[line * self.mappings + mapping] = self.weight(cost);
    }

    /// Sets the weights of a mapping that is left over, and of one behind the last taken mapping.
    pub(crate) fn set_mapping(&mut self, mapping: usize, left: f64, open: f64) {
        (self.left[mapping], self.open[mapping]) = (left, open);
    }

    /// Sets the weight of crossing a mapping with the next.
    pub(crate) fn set_crossed(&mut self, mapping: usize, weight: f64) {
        self.crossed[mapping] = weight;
    }

    /// Sets the weight of a line that takes none of the mappings.
    pub(crate) fn set_alone(&mut self, line: usize, weight: f64) {
        self.alone[line] = weight;
    }

    /// Returns the weight of a line that takes none of the mappings.
    pub(crate) fn alone_weight(&self, line: usize) -> f64 {
        self.alone[line]
    }

    fn pair(&self, line: usize, mapping: usize) -> f64 {
        self.pairs[line * self.mappings + mapping]
    }

    /// Returns the weight of lines from `line` on that take mappings from `mapping` on in this order.
    fn crossing(&self, line: usize, mapping: usize, (order, crossings): (&[usize], i32)) -> f64 {
        if line + order.len() > self.lines || mapping + order.len() > self.mappings {
            return 0.0;
        }
        let pairs = order.iter().enumerate();
        let pairs: f64 =
            pairs.map(|(step, place)| self.pair(line + step, mapping + place)).product();
        pairs * self.crossed[mapping].powi(crossings)
    }

    fn block(&self, line: usize, mapping: usize, kind: usize) -> f64 {
        self.blocks[line * self.mappings + mapping][kind]
    }

    /// Weighs all alignments.
    pub(crate) fn solve(&mut self) {
        let (lines, mappings) = (self.lines, self.mappings);
        let width = mappings + 1;
        self.blocks.clear();
        for line in 0..lines {
            for mapping in 0..mappings {
                let blocks = BLOCKS.map(|block| self.crossing(line, mapping, block));
                self.blocks.push(blocks);
            }
        }
        let mut before = std::mem::take(&mut self.before);
        let mut reached = std::mem::take(&mut self.reached);
        let mut after = std::mem::take(&mut self.after);
        for of in [&mut before, &mut reached, &mut after] {
            of.clear();
            of.resize((lines + 3) * width, 0.0);
        }
        before[0] = 1.0;
        for line in 0..=lines {
            let row = line * width;
            reached[row] = before[row];
            for place in 1..width {
                reached[row + place] =
                    before[row + place] + reached[row + place - 1] * self.left[place - 1];
            }
            if line == lines {
                break;
            }
            for place in 0..width {
                before[row + width + place] += before[row + place] * self.alone[line];
                if place < mappings {
                    before[row + width + place + 1] +=
                        reached[row + place] * self.pair(line, place);
                }
                if place + 1 < mappings {
                    for (kind, (order, _)) in BLOCKS.iter().enumerate() {
                        let weight = self.block(line, place, kind);
                        if weight > 0.0 {
                            before[row + order.len() * width + place + order.len()] +=
                                reached[row + place] * weight;
                        }
                    }
                }
            }
        }
        let last = lines * width;
        after[last + mappings] = 1.0;
        for place in (0..mappings).rev() {
            after[last + place] = after[last + place + 1] * self.open[place];
        }
        for line in (0..lines).rev() {
            let row = line * width;
            // Weight of all that begins with a pair from this place on.
            let mut taken = 0.0;
            for place in (0..width).rev() {
                if place < mappings {
                    taken = taken * self.left[place]
                        + self.pair(line, place) * after[row + width + place + 1];
                    for (kind, (order, _)) in BLOCKS.iter().enumerate() {
                        let weight = self.block(line, place, kind);
                        if weight > 0.0 {
                            taken +=
                                weight * after[row + order.len() * width + place + order.len()];
                        }
                    }
                }
                after[row + place] = taken + self.alone[line] * after[row + width + place];
            }
        }
        (self.before, self.reached, self.after) = (before, reached, after);
        self.total = self.after[0];
    }

    /// Returns the probability that the line takes the mapping; after [`Self::solve`].
    pub(crate) fn share(&self, line: usize, mapping: usize) -> f64 {
        let width = self.mappings + 1;
        let at = |of: &[f64], line: usize, place: usize| of[line * width + place];
        let mut sum = at(&self.reached, line, mapping)
            * self.pair(line, mapping)
            * at(&self.after, line + 1, mapping + 1);
        for (kind, (order, _)) in BLOCKS.iter().enumerate() {
            for (step, place) in order.iter().enumerate() {
                let (Some(line), Some(mapping)) =
                    (line.checked_sub(step), mapping.checked_sub(*place))
                else {
                    continue;
                };
                let weight = self.block(line, mapping, kind);
                if weight > 0.0 {
                    sum += weight
                        * at(&self.reached, line, mapping)
                        * at(&self.after, line + order.len(), mapping + order.len());
                }
            }
        }
        if self.total > 0.0 { sum / self.total } else { 0.0 }
    }

    /// Returns the probability that the line takes none of the mappings.
    pub(crate) fn share_alone(&self, line: usize) -> f64 {
        let width = self.mappings + 1;
        let (row, next) = (line * width, (line + 1) * width);
        let sum: f64 =
            (0..width).map(|place| self.before[row + place] * self.after[next + place]).sum();
        if self.total > 0.0 { sum * self.alone[line] / self.total } else { 1.0 }
    }
}

/// Makes all values these.
pub(super) fn refill(of: &mut Vec<f64>, len: usize, with: f64) {
    of.clear();
    of.resize(len, with);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All alignments from this line and mapping on: the taken mappings, and the weight.
    fn by_trial(
        lattice: &Lattice,
        line: usize,
        mapping: usize,
        taken: &mut Vec<Option<usize>>,
        weight: f64,
        out: &mut Vec<(Vec<Option<usize>>, f64)>,
    ) {
        if line == lattice.lines {
            let open: f64 = lattice.open[mapping..].iter().product();
            out.push((taken.clone(), weight * open));
            return;
        }
        taken.push(None);
        by_trial(lattice, line + 1, mapping, taken, weight * lattice.alone[line], out);
        taken.pop();
        let mut skipped = 1.0;
        for next in mapping..lattice.mappings {
            let weight = weight * skipped;
            taken.push(Some(next));
            by_trial(lattice, line + 1, next + 1, taken, weight * lattice.pair(line, next), out);
            taken.pop();
            for block in BLOCKS {
                let crossing = weight * lattice.crossing(line, next, block);
                if crossing > 0.0 {
                    let len = block.0.len();
                    taken.extend(block.0.iter().map(|place| Some(next + place)));
                    by_trial(lattice, line + len, next + len, taken, crossing, out);
                    taken.truncate(taken.len() - len);
                }
            }
            skipped *= lattice.left[next];
        }
    }

    proptest! {
        #[test]
        fn shares_are_those_of_all_alignments(
            rows in (1..5_usize, 0..5_usize).prop_flat_map(|(lines, mappings)| {
                proptest::collection::vec(proptest::collection::vec(0..9_000_i64, mappings), lines)
            }),
            left in 0.001..1.0_f64, open in 0.001..1.0_f64, crossed in 0.0..1.0_f64,
        ) {
            let mut lattice = Lattice::default();
            let mappings = rows[0].len();
            lattice.reset(rows.len(), mappings);
            for (line, row) in rows.iter().enumerate() {
                lattice.set_alone(line, 0.01);
                for (mapping, &cost) in row.iter().enumerate() {
                    lattice.set_pair(line, mapping, cost);
                    lattice.set_mapping(mapping, left, open);
                    lattice.set_crossed(mapping, crossed);
                }
            }
            lattice.solve();
            let mut all = Vec::new();
            by_trial(&lattice, 0, 0, &mut Vec::new(), 1.0, &mut all);
            let total: f64 = all.iter().map(|(_, weight)| weight).sum();
            for line in 0..rows.len() {
                let share = |mapping| {
                    let of = all.iter().filter(|(taken, _)| taken[line] == mapping);
                    of.map(|(_, weight)| weight).sum::<f64>() / total
                };
                prop_assert!((lattice.share_alone(line) - share(None)).abs() < 1e-9);
                for mapping in 0..mappings {
                    let found = lattice.share(line, mapping);
                    prop_assert!((found - share(Some(mapping))).abs() < 1e-9);
                }
            }
        }
    }
}
