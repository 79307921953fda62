//! Assigns mappings to the lines of a window at the lowest cost.
//!
//! Lines and mappings are both in time order. First the cheapest assignment without crossings is
//! found (as in sequence alignment: Needleman and Wunsch, 1970): a line may stay without a mapping
//! and a mapping may be skipped, each at a cost. Then two lines exchange their mappings wherever
//! that saves more than the crossing costs, until nothing is saved. Where a server answers in no
//! order at all, the cheapest assignment with crossings for free is taken instead.

use crate::attribution::costs;

const COLUMNS: usize = costs::WINDOW_MAPPINGS + costs::WINDOW_LINES;

/// Cost of an impossible pair.
const IMPOSSIBLE: i64 = 1 << 40;

/// Costs of all pairs of a window; a pair without a cost is impossible.
#[derive(Default)]
pub(crate) struct AssignmentCosts {
    /// The cost of each mapping, line after line.
    pairs: Vec<i64>,
    /// The cost of skipping each mapping although a later mapping is taken.
    skips: Vec<i64>,
    other: OtherCosts,
    lines: usize,
    mappings: usize,
}

/// Costs besides the pairs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OtherCosts {
    /// Cost of a line without a mapping.
    pub(crate) unmatched: i64,
    /// Cost of two lines with mappings in the wrong order.
    pub(crate) crossed: i64,
}

/// The mapping that each line takes.
pub(crate) type AssignedMappings = [Option<usize>; costs::WINDOW_LINES];

impl AssignmentCosts {
    /// Starts a new window of at most [`costs::WINDOW_LINES`] lines, with at most
    /// [`costs::WINDOW_MAPPINGS`] costs of skipped mappings.
    pub(crate) fn reset(
        &mut self,
        lines: usize,
        skips: impl Iterator<Item = i64>,
        other: OtherCosts,
    ) {
        self.skips.clear();
        self.skips.extend(skips);
        (self.lines, self.mappings, self.other) = (lines, self.skips.len(), other);
        self.pairs.clear();
        self.pairs.resize(lines * self.mappings, IMPOSSIBLE);
    }

    /// Sets the cost of a pair.
    pub(crate) fn set(&mut self, line: usize, mapping: usize, cost: i64) {
        self.pairs[line * self.mappings + mapping] = cost;
    }

    /// Returns the cost of each mapping for a line.
    pub(crate) fn of_line(&self, line: usize) -> &[i64] {
        &self.pairs[line * self.mappings..][..self.mappings]
    }

    /// Returns the cheapest assignment.
    pub(crate) fn solve(&self) -> AssignedMappings {
        if self.other.crossed < costs::ORDER_FREE {
            return self.each_its_own().unwrap_or_else(|| self.cheapest());
        }
        let mut chosen = self.along();
        self.exchange(&mut chosen);
        chosen
    }

    /// Returns the cheapest assignment without crossings. Mappings behind the last taken mapping
    /// cost nothing.
    fn along(&self) -> AssignedMappings {
        let width = self.mappings + 1;
        let unmatched = self.other.unmatched;
        // best[line][mapping]: the cheapest for so many lines over so many mappings.
        let mut best = [[0; costs::WINDOW_MAPPINGS + 1]; costs::WINDOW_LINES + 1];
        for mapping in 1..width {
            best[0][mapping] = best[0][mapping - 1] + self.skips[mapping - 1];
        }
        for line in 1..=self.lines {
            let costs = self.of_line(line - 1);
            best[line][0] = best[line - 1][0] + unmatched;
            for mapping in 1..width {
                best[line][mapping] = (best[line - 1][mapping - 1] + costs[mapping - 1])
                    .min(best[line][mapping - 1] + self.skips[mapping - 1])
                    .min(best[line - 1][mapping] + unmatched);
            }
        }
        let mut chosen = [None; costs::WINDOW_LINES];
        let ends = best[self.lines][..width].iter().enumerate();
        let mut mapping = ends.min_by_key(|&(_, cost)| cost).map_or(0, |(end, _)| end);
        let mut line = self.lines;
        while line > 0 {
            // Of two lines with equal costs, the later stays without a mapping.
            let here = best[line][mapping];
            if here == best[line - 1][mapping] + unmatched {
                line -= 1;
            } else if mapping > 0
                && here == best[line - 1][mapping - 1] + self.of_line(line - 1)[mapping - 1]
            {
                (line, mapping) = (line - 1, mapping - 1);
                chosen[line] = Some(mapping);
            } else {
                mapping -= 1;
            }
        }
        chosen
    }

    /// Exchanges mappings as long as an exchange saves costs, for at most [`costs::WINDOW_LINES`]
    /// rounds.
    fn exchange(&self, chosen: &mut AssignedMappings) {
        for _ in 0..costs::WINDOW_LINES {
            let mut changed = false;
            for first in 0..self.lines {
                for second in first + 1..self.lines {
                    changed |= self.exchange_two(chosen, first, second);
                }
                changed |= chosen[first].is_none() && self.find_free(chosen, first);
            }
            if !changed {
                return;
            }
        }
    }

    /// Gives a line without a mapping a free mapping, or the mapping of a line that takes a free
    /// one instead.
    fn find_free(&self, chosen: &mut AssignedMappings, line: usize) -> bool {
        let free = (0..self.mappings).filter(|&mapping| !chosen.contains(&Some(mapping)));
        let costs = self.of_line(line);
        let mut best = (self.other.unmatched - self.other.crossed, None);
        for mapping in free {
            if costs[mapping] < best.0 {
                best = (costs[mapping], Some((line, mapping)));
            }
            for (other, taken) in chosen.iter().enumerate().take(self.lines) {
                let Some(taken) = *taken else { continue };
                let theirs = self.of_line(other);
                let cost = costs[taken] + theirs[mapping] - theirs[taken];
                if cost < best.0 {
                    best = (cost, Some((other, mapping)));
                }
            }
        }
        let Some((mover, mapping)) = best.1 else { return false };
        let left = chosen[mover].replace(mapping);
        if mover != line {
            chosen[line] = left;
        }
        true
    }

    fn exchange_two(&self, chosen: &mut AssignedMappings, first: usize, second: usize) -> bool {
        let (Some(a), Some(b)) = (chosen[first], chosen[second]) else { return false };
        let straight = self.of_line(first)[a] + self.of_line(second)[b];
        let exchanged = self.of_line(first)[b] + self.of_line(second)[a];
        // Exchanging neighbours makes one crossing; lines between them are crossed twice.
        let crossings = i64::try_from(2 * (second - first) - 1).unwrap_or(1) * self.other.crossed;
        let price = if a < b { crossings } else { -crossings };
        if exchanged + price >= straight {
            return false;
        }
        chosen.swap(first, second);
        true
    }

    /// Returns the best mapping of each line, if these are all different and cheaper than no
    /// mapping: then no assignment is cheaper.
    fn each_its_own(&self) -> Option<AssignedMappings> {
        let mut chosen = [None; costs::WINDOW_LINES];
        let mut taken = 0_u32;
        for (line, chosen) in chosen.iter_mut().enumerate().take(self.lines) {
            let costs = self.of_line(line).iter().enumerate();
            let (best, &cost) = costs.min_by_key(|&(_, cost)| cost)?;
            if cost >= self.other.unmatched || taken & 1 << best != 0 {
                return None;
            }
            taken |= 1 << best;
            *chosen = Some(best);
        }
        Some(chosen)
    }

    /// Returns the cheapest assignment with crossings for free: the shortest augmenting path form
    /// of the Hungarian method (Jonker and Volgenant, 1987), with an extra column for each line
    /// that takes no mapping.
    fn cheapest(&self) -> AssignedMappings {
        const NOBODY: usize = usize::MAX;
        let columns = self.mappings + self.lines;
        let mut owner = [NOBODY; COLUMNS];
        let mut line_price = [0_i64; costs::WINDOW_LINES];
        let mut column_price = [0_i64; COLUMNS];

        for newcomer in 0..self.lines {
            let mut distance = [i64::MAX; COLUMNS];
            let mut before = [NOBODY; COLUMNS];
            let mut settled = [false; COLUMNS];
            let (mut line, mut reached, mut via) = (newcomer, 0, NOBODY);
            let last = loop {
                let mut nearest = NOBODY;
                for column in 0..columns {
                    if settled[column] {
                        continue;
                    }
                    let step = self.cost(line, column) - line_price[line] - column_price[column];
                    if reached + step < distance[column] {
                        distance[column] = reached + step;
                        before[column] = via;
                    }
                    if nearest == NOBODY || distance[column] < distance[nearest] {
                        nearest = column;
                    }
                }
                settled[nearest] = true;
                reached = distance[nearest];
                via = nearest;
                if owner[nearest] == NOBODY {
                    break nearest;
                }
                line = owner[nearest];
            };
            line_price[newcomer] += reached;
            for column in 0..columns {
                if settled[column] && column != last {
                    let slack = reached - distance[column];
                    column_price[column] -= slack;
                    line_price[owner[column]] += slack;
                }
            }
            let mut column = last;
            while before[column] != NOBODY {
                owner[column] = owner[before[column]];
                column = before[column];
            }
            owner[column] = newcomer;
        }

        let mut chosen = [None; costs::WINDOW_LINES];
        for (column, &line) in owner.iter().enumerate().take(self.mappings) {
            if line != NOBODY && self.of_line(line)[column] < IMPOSSIBLE {
                chosen[line] = Some(column);
            }
        }
        chosen
    }

    fn cost(&self, line: usize, column: usize) -> i64 {
        match column.checked_sub(self.mappings) {
            None => self.pairs[line * self.mappings + column],
            Some(own) if own == line => self.other.unmatched,
            Some(_) => IMPOSSIBLE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The cheapest total without crossing, by trying everything.
    fn by_trial(costs: &AssignmentCosts, line: usize, mapping: usize) -> i64 {
        if line == costs.lines {
            return 0;
        }
        let mut best = costs.other.unmatched + by_trial(costs, line + 1, mapping);
        for taken in mapping..costs.mappings {
            let skipped = costs.skips[mapping..taken].iter().sum::<i64>();
            let rest = by_trial(costs, line + 1, taken + 1);
            best = best.min(skipped + costs.of_line(line)[taken] + rest);
        }
        best
    }

    fn costs(rows: &[Vec<i64>], skipped: i64, other: OtherCosts) -> AssignmentCosts {
        let mut costs = AssignmentCosts::default();
        let mappings = rows.first().map_or(0, Vec::len);
        costs.reset(rows.len(), std::iter::repeat_n(skipped, mappings), other);
        for (line, row) in rows.iter().enumerate() {
            for (mapping, &cost) in row.iter().enumerate() {
                costs.set(line, mapping, cost);
            }
        }
        costs
    }

    /// What a choice without crossing costs.
    fn total(costs: &AssignmentCosts, chosen: &AssignedMappings) -> i64 {
        let (mut total, mut next) = (0, 0);
        for (line, mapping) in chosen.iter().enumerate().take(costs.lines) {
            total += match *mapping {
                Some(mapping) => {
                    let skipped = costs.skips[next..mapping].iter().sum::<i64>();
                    next = mapping + 1;
                    costs.of_line(line)[mapping] + skipped
                }
                None => costs.other.unmatched,
            };
        }
        total
    }

    fn rows() -> impl Strategy<Value = Vec<Vec<i64>>> {
        (1..5_usize, 0..6_usize).prop_flat_map(|(lines, mappings)| {
            let cost = prop_oneof![9 => 0..50_i64, 1 => Just(IMPOSSIBLE)];
            proptest::collection::vec(proptest::collection::vec(cost, mappings), lines)
        })
    }

    proptest! {
        #[test]
        fn nothing_without_crossing_is_cheaper(
            rows in rows(), unmatched in 0..60_i64, skipped in 0..20_i64,
        ) {
            let costs = costs(&rows, skipped, OtherCosts { unmatched, crossed: 0 });
            let chosen = costs.along();
            prop_assert_eq!(total(&costs, &chosen), by_trial(&costs, 0, 0));
        }

        #[test]
        fn no_mapping_is_given_twice_and_no_pair_is_impossible(
            rows in rows(), unmatched in 0..60_i64, skipped in 0..20_i64, crossed in 0..2_000_i64,
        ) {
            let costs = costs(&rows, skipped, OtherCosts { unmatched, crossed });
            let chosen = costs.solve();
            let mut taken = 0_u32;
            for (line, mapping) in chosen.iter().enumerate() {
                let Some(mapping) = *mapping else { continue };
                prop_assert_eq!(taken & 1 << mapping, 0, "a mapping was given twice");
                taken |= 1 << mapping;
                prop_assert!(costs.of_line(line)[mapping] < IMPOSSIBLE);
            }
        }
    }

    /// The cheapest assignment, by trying everything.
    fn any_order(costs: &AssignmentCosts, line: usize, taken: u32) -> i64 {
        if line == costs.lines {
            return 0;
        }
        let alone = costs.other.unmatched + any_order(costs, line + 1, taken);
        (0..costs.mappings)
            .filter(|mapping| taken & 1 << mapping == 0)
            .map(|mapping| {
                costs.of_line(line)[mapping] + any_order(costs, line + 1, taken | 1 << mapping)
            })
            .fold(alone, i64::min)
    }

    proptest! {
        #[test]
        fn where_order_means_nothing_no_assignment_is_cheaper(
            rows in rows(), unmatched in 0..60_i64,
        ) {
            let costs = costs(&rows, 0, OtherCosts { unmatched, crossed: 0 });
            let chosen = costs.solve();
            let total: i64 = (0..costs.lines)
                .map(|line| chosen[line].map_or(unmatched, |mapping| costs.of_line(line)[mapping]))
                .sum();
            prop_assert_eq!(total, any_order(&costs, 0, 0));
        }
    }

    const SKIPPED: i64 = 10_000;
    const OTHER: OtherCosts = OtherCosts { unmatched: 100_000, crossed: 5_000 };

    #[test]
    fn a_group_is_decided_together() {
        // The first line fits both mappings, the second only the first: so the first gives way.
        let chosen = costs(&[vec![1_000, 2_000], vec![1_000, IMPOSSIBLE]], SKIPPED, OTHER).solve();
        assert_eq!(chosen[..2], [Some(1), Some(0)]);
    }

    #[test]
    fn where_all_is_equal_the_first_come_are_first_served() {
        let chosen = costs(&[vec![3; 5], vec![3; 5], vec![3; 5]], SKIPPED, OTHER).solve();
        assert_eq!(chosen[..3], [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn a_mapping_that_suits_nobody_is_skipped_once_for_all() {
        let chosen = costs(&[vec![9_000, 0, 9_000], vec![9_000, 9_000, 0]], SKIPPED, OTHER).solve();
        assert_eq!(chosen[..2], [Some(1), Some(2)]);
    }

    #[test]
    fn lines_cross_only_for_good_reason() {
        let little = costs(&[vec![2_000, 0], vec![0, 2_000]], SKIPPED, OTHER).solve();
        assert_eq!(little[..2], [Some(0), Some(1)]);
        let much = costs(&[vec![9_000, 0], vec![0, 9_000]], SKIPPED, OTHER).solve();
        assert_eq!(much[..2], [Some(1), Some(0)]);
    }
}
