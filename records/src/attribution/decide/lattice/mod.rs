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
    /// The factor of each line by which its best weight is 1: so that many lines stay within the range of a float.
    scales: Vec<f64>,
    /// The weight of crossing a mapping with the next.
    crossed: Vec<CrossingWeight>,
    /// Whether a line and the next have one stamp.
    together: Vec<bool>,
    /// The weight of two or three lines that take mappings from a place on in each of the [`BLOCKS`], line after line.
    blocks: [Vec<f64>; BLOCKS.len()],
    /// The weight of three lines that do so in any order.
    threes: Vec<f64>,
    /// The weight of alignments whose first line takes no mapping before this place.
    start: Vec<f64>,
    /// The weight of alignments whose first line takes a mapping, as the line before took the next mapping.
    turned: Vec<f64>,
    /// Weight of all alignments of the lines before this line, with mappings before this place.
    before: Vec<f64>,
    /// The same, but the mappings up to this place are taken or left over.
    reached: Vec<f64>,
    /// Weight of all alignments of this line and later lines with mappings from this place on.
    after: Vec<f64>,
    /// The probability of each pair, for the first lines, line after line.
    shares: Vec<f64>,
    /// The probability of none of the mappings, for the first lines.
    shares_alone: Vec<f64>,
    /// Weights by cost, in steps of [`costs::LATTICE_STEP`].
    weights: Vec<f64>,
}

/// Orders in which lines may take neighbouring mappings: the mapping of each line, by its place.
const BLOCKS: [&[usize]; 4] = [&[1, 0], &[1, 2, 0], &[2, 0, 1], &[2, 1, 0]];

/// The weight of crossing two mappings: for lines of one stamp, and for others.
#[derive(Clone, Copy, Default)]
struct CrossingWeight {
    together: f64,
    apart: f64,
}

impl CrossingWeight {
    const fn of(self, together: bool) -> f64 {
        if together { self.together } else { self.apart }
    }
}

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
            scales: Vec::new(),
            crossed: Vec::new(),
            together: Vec::new(),
            blocks: Default::default(),
            threes: Vec::new(),
            start: Vec::new(),
            turned: Vec::new(),
            before: Vec::new(),
            reached: Vec::new(),
            after: Vec::new(),
            shares: Vec::new(),
            shares_alone: Vec::new(),
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
        refill(&mut self.scales, lines, 1.0);
        refill(&mut self.crossed, mappings, CrossingWeight::default());
        refill(&mut self.together, lines, true);
        refill(&mut self.start, mappings + 1, 0.0);
        refill(&mut self.turned, mappings + 1, 0.0);
        self.start[0] = 1.0;
    }

    /// Returns the weight of a cost: e to the power of minus `cost` thousandths.
    pub(crate) fn weight(&self, cost: i64) -> f64 {
        let step = cost.clamp(0, costs::LATTICE_WORST) / costs::LATTICE_STEP;
        self.weights[usize::try_from(step).unwrap_or(0)]
    }

    pub(crate) fn set_pair(&mut self, line: usize, mapping: usize, cost: i64) {
        self.pairs[line * self.mappings + mapping] = self.weight(cost);
    }

    /// Sets the weight of alignments whose first line takes no mapping before a place.
    pub(crate) fn set_start(&mut self, place: usize, weight: f64) {
        self.start[place] = weight;
    }

    /// Sets the weight of alignments whose first line takes a mapping, as the line before took the next mapping.
    pub(crate) fn set_turned(&mut self, place: usize, weight: f64) {
        self.turned[place] = weight;
    }

    /// Sets the weights of a mapping that is left over, and of one behind the last taken mapping.
    pub(crate) fn set_mapping(&mut self, mapping: usize, left: f64, open: f64) {
        (self.left[mapping], self.open[mapping]) = (left, open);
    }

    /// Sets the weight of crossing a mapping with the next, for lines of one stamp, and for others.
    pub(crate) fn set_crossed(&mut self, mapping: usize, together: f64, apart: f64) {
        self.crossed[mapping] = CrossingWeight { together, apart };
    }

    /// Sets whether a line and the next have one stamp.
    pub(crate) fn set_together(&mut self, line: usize, together: bool) {
        self.together[line] = together;
    }

    /// Sets the weight of a line that takes none of the mappings.
    pub(crate) fn set_alone(&mut self, line: usize, weight: f64) {
        self.alone[line] = weight;
    }

    /// Returns the weight of a line that takes none of the mappings.
    pub(crate) fn alone_weight(&self, line: usize) -> f64 {
        self.alone[line] / self.scales[line]
    }

    /// Weighs all alignments, and finds the shares of so many of the first lines.
    pub(crate) fn solve(&mut self, shared: usize) {
        self.scale();
        self.find_blocks();
        self.find_before();
        self.find_after();
        self.find_shares(shared.min(self.lines));
    }

    fn scale(&mut self) {
        for line in 0..self.lines {
            let row = &mut self.pairs[line * self.mappings..][..self.mappings];
            let best = row.iter().copied().fold(self.alone[line], f64::max);
            if best > 0.0 {
                row.iter_mut().for_each(|weight| *weight /= best);
                self.alone[line] /= best;
                self.scales[line] = best.recip();
            }
        }
    }

    /// Finds the weights of lines that take neighbouring mappings in another order.
    fn find_blocks(&mut self) {
        let (lines, mappings) = (self.lines, self.mappings);
        let cells = lines * mappings;
        self.blocks.iter_mut().for_each(|block| refill(block, cells, 0.0));
        refill(&mut self.threes, cells, 0.0);
        let [swaps, ..] = &mut self.blocks;
        for line in 0..lines.saturating_sub(1) {
            let (row, next) = self.pairs[line * mappings..][..2 * mappings].split_at(mappings);
            let swaps = &mut swaps[line * mappings..];
            let together = self.together[line];
            for place in 1..mappings {
                let crossed = self.crossed[place - 1].of(together);
                swaps[place - 1] = crossed * row[place] * next[place - 1];
            }
        }
        let [_, last_first, first_last, reversed] = &mut self.blocks;
        for line in 0..lines.saturating_sub(2) {
            let start = line * mappings;
            let (row, rest) = self.pairs[start..][..3 * mappings].split_at(mappings);
            let (next, third) = rest.split_at(mappings);
            let together = self.together[line] && self.together[line + 1];
            for place in 2..mappings {
                let at = start + place - 2;
                let once = self.crossed[place - 2].of(together);
                let twice = once * once;
                last_first[at] = twice * row[place - 1] * next[place] * third[place - 2];
                first_last[at] = twice * row[place] * next[place - 2] * third[place - 1];
                reversed[at] = twice * once * row[place] * next[place - 1] * third[place - 2];
                self.threes[at] = last_first[at] + first_last[at] + reversed[at];
            }
        }
    }

    /// Finds the weights of what comes before each line and place.
    fn find_before(&mut self) {
        let (lines, mappings) = (self.lines, self.mappings);
        let width = mappings + 1;
        // Three lines more, so that every block has an end.
        refill(&mut self.before, (lines + 3) * width, 0.0);
        refill(&mut self.reached, (lines + 1) * width, 0.0);
        self.before[..width].copy_from_slice(&self.start);
        for line in 0..=lines {
            let (own, later) = self.before[line * width..].split_at_mut(width);
            let reached = &mut self.reached[line * width..][..width];
            let mut sum = own[0];
            reached[0] = sum;
            for place in 1..width {
                sum = own[place] + sum * self.left[place - 1];
                reached[place] = sum;
            }
            if line == lines {
                return;
            }
            let cells = line * mappings..(line + 1) * mappings;
            let (one, later) = later.split_at_mut(width);
            let (two, later) = later.split_at_mut(width);
            let three = &mut later[..width];
            for (to, of) in one.iter_mut().zip(&*own) {
                *to += of * self.alone[line];
            }
            add_products(&mut one[1..], reached, &self.pairs[cells.clone()]);
            if line == 0 && mappings > 1 {
                add_products(&mut one[2..], &self.turned, &self.pairs[cells.clone()]);
            }
            if mappings > 1 {
                add_products(&mut two[2..], reached, &self.blocks[0][cells.clone()]);
            }
            if mappings > 2 {
                add_products(&mut three[3..], reached, &self.threes[cells]);
            }
        }
    }

    /// Finds the weights of what comes from each line and place on.
    fn find_after(&mut self) {
        let (lines, mappings) = (self.lines, self.mappings);
        let width = mappings + 1;
        refill(&mut self.after, (lines + 3) * width, 0.0);
        let last = lines * width;
        self.after[last + mappings] = 1.0;
        for place in (0..mappings).rev() {
            self.after[last + place] = self.after[last + place + 1] * self.open[place];
        }
        for line in (0..lines).rev() {
            let cells = line * mappings..(line + 1) * mappings;
            let (own, later) = self.after[line * width..].split_at_mut(width);
            let (one, later) = later.split_at(width);
            let (two, later) = later.split_at(width);
            add_products(own, &one[1..], &self.pairs[cells.clone()]);
            if mappings > 1 {
                add_products(own, &two[2..], &self.blocks[0][cells.clone()]);
            }
            if mappings > 2 {
                add_products(own, &later[3..width], &self.threes[cells]);
            }
            // Weight of all that begins with a pair from this place on.
            let mut taken = 0.0;
            for place in (0..width).rev() {
                if place < mappings {
                    taken = taken * self.left[place] + own[place];
                }
                own[place] = taken + self.alone[line] * one[place];
            }
        }
    }

    /// Finds the shares of the first lines.
    fn find_shares(&mut self, lines: usize) {
        let (mappings, width) = (self.mappings, self.mappings + 1);
        refill(&mut self.shares, lines * mappings, 0.0);
        refill(&mut self.shares_alone, lines, 1.0);
        let started = self.start.iter().zip(&self.after).map(|(start, after)| start * after);
        let mut total = started.sum::<f64>();
        for place in 0..mappings.saturating_sub(1) {
            if lines > 0 && self.turned[place] > 0.0 {
                total += self.turned[place] * self.pairs[place] * self.after[width + place + 2];
            }
        }
        if total <= 0.0 {
            return;
        }
        let part = total.recip();
        for line in 0..lines {
            let reached = &self.reached[line * width..][..width];
            let pairs = &self.pairs[line * mappings..][..mappings];
            let after = &self.after[(line + 1) * width..][..width];
            let shares = &mut self.shares[line * mappings..];
            for place in 0..mappings {
                shares[place] += reached[place] * part * pairs[place] * after[place + 1];
            }
            if line == 0 {
                for place in 0..mappings.saturating_sub(1) {
                    shares[place] += self.turned[place] * part * pairs[place] * after[place + 2];
                }
            }
            let before = &self.before[line * width..][..width];
            let alone: f64 = before.iter().zip(after).map(|(before, after)| before * after).sum();
            self.shares_alone[line] = alone * part * self.alone[line];
            for (order, weights) in BLOCKS.into_iter().zip(&self.blocks) {
                let len = order.len();
                if line + len > self.lines {
                    continue;
                }
                let weights = &weights[line * mappings..][..mappings];
                let after = &self.after[(line + len) * width..][..width];
                for place in 0..width.saturating_sub(len) {
                    let share = reached[place] * part * weights[place] * after[place + len];
                    for (step, mapping) in order.iter().enumerate().take(lines - line) {
                        self.shares[(line + step) * mappings + place + mapping] += share;
                    }
                }
            }
        }
    }

    /// Finds the weight of all alignments of the first lines by the place where the next line begins, and of alignments
    /// whose last line has the mapping behind the next line's, by the place of the latter.
    pub(crate) fn find_ends(&self, lines: usize, ends: &mut Vec<f64>, turned: &mut Vec<f64>) {
        let (mappings, width) = (self.mappings, self.mappings + 1);
        ends.clear();
        ends.extend_from_slice(&self.before[lines * width..][..width]);
        refill(turned, width, 0.0);
        if lines == 0 || lines == self.lines {
            return;
        }
        let pair = |line: usize, place: usize| self.pairs[line * mappings + place];
        let crossed = |line: usize, len: usize, place: usize| {
            self.crossed[place].of(self.together[line..line + len - 1].iter().all(|it| *it))
        };
        let line = lines - 1;
        let swapped = turned.iter_mut().take(mappings.saturating_sub(1)).enumerate();
        for (place, weight) in swapped {
            let swap = crossed(line, 2, place) * pair(line, place + 1);
            *weight += self.reached[line * width + place] * swap;
        }
        if lines < 2 {
            return;
        }
        for place in 0..mappings.saturating_sub(2) {
            let line = lines - 2;
            let twice = crossed(line, 3, place).powi(2);
            let pairs = pair(line, place + 2) * pair(line + 1, place);
            turned[place + 1] += self.reached[line * width + place] * twice * pairs;
        }
    }

    /// Returns the probability that the line, one of the first, takes the mapping; after [`Self::solve`].
    pub(crate) fn share(&self, line: usize, mapping: usize) -> f64 {
        self.shares[line * self.mappings + mapping]
    }

    /// Returns the probability that the line, one of the first, takes none of the mappings.
    pub(crate) fn share_alone(&self, line: usize) -> f64 {
        self.shares_alone[line]
    }
}

/// Adds the products of two rows, place by place.
fn add_products(to: &mut [f64], one: &[f64], other: &[f64]) {
    for ((to, one), other) in to.iter_mut().zip(one).zip(other) {
        *to += one * other;
    }
}

/// Makes all values these.
pub(super) fn refill<T: Clone>(of: &mut Vec<T>, len: usize, with: T) {
    of.clear();
    of.resize(len, with);
}

#[cfg(test)]
mod tests;
