//! Which line takes which mapping: the cheapest assignment of a group, bounded in size.
//!
//! The method is the shortest augmenting path form of the Hungarian method (Jonker and Volgenant,
//! 1987), with a column of its own for each line that takes no mapping at all.

/// The most lines that are decided together.
pub(super) const MAX_LINES: usize = 8;

/// The most mappings that they are decided over.
pub(super) const MAX_MAPPINGS: usize = 16;

/// The cost of a pair that cannot be.
pub(super) const IMPOSSIBLE: i64 = 1 << 40;

const COLUMNS: usize = MAX_MAPPINGS + MAX_LINES;

/// Costs of pairs: lower is better, [`IMPOSSIBLE`] never happens.
pub(super) struct Costs {
    /// `pair[line][mapping]`.
    pub(super) pair: [[i64; MAX_MAPPINGS]; MAX_LINES],
    /// Of leaving a line without a mapping.
    pub(super) unmatched: i64,
    /// How many lines there are.
    pub(super) lines: usize,
    /// How many mappings there are.
    pub(super) mappings: usize,
}

impl Costs {
    /// For each line the mapping that the cheapest assignment gives it.
    pub(super) fn solve(&self) -> [Option<usize>; MAX_LINES] {
        self.each_its_own().unwrap_or_else(|| self.cheapest())
    }

    /// If no two lines are best served by the same mapping, and each is better served by one than by
    /// none, nothing is cheaper than that.
    fn each_its_own(&self) -> Option<[Option<usize>; MAX_LINES]> {
        let mut chosen = [None; MAX_LINES];
        let mut taken = 0_u32;
        for (chosen, costs) in chosen.iter_mut().zip(&self.pair[..self.lines]) {
            let (best, &cost) =
                costs[..self.mappings].iter().enumerate().min_by_key(|&(_, cost)| cost)?;
            if cost >= self.unmatched || taken & 1 << best != 0 {
                return None;
            }
            taken |= 1 << best;
            *chosen = Some(best);
        }
        Some(chosen)
    }

    fn cheapest(&self) -> [Option<usize>; MAX_LINES] {
        const NOBODY: usize = usize::MAX;
        let columns = self.mappings + self.lines;
        let mut owner = [NOBODY; COLUMNS];
        let mut line_price = [0_i64; MAX_LINES];
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

        let mut chosen = [None; MAX_LINES];
        for (column, &line) in owner.iter().enumerate().take(self.mappings) {
            if line != NOBODY && self.pair[line][column] < IMPOSSIBLE {
                chosen[line] = Some(column);
            }
        }
        chosen
    }

    fn cost(&self, line: usize, column: usize) -> i64 {
        match column.checked_sub(self.mappings) {
            None => self.pair[line][column],
            Some(own) if own == line => self.unmatched,
            Some(_) => IMPOSSIBLE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The cheapest total, by trying everything.
    fn by_trial(costs: &Costs, line: usize, taken: u32) -> i64 {
        if line == costs.lines {
            return 0;
        }
        let alone = costs.unmatched + by_trial(costs, line + 1, taken);
        (0..costs.mappings)
            .filter(|mapping| taken & 1 << mapping == 0)
            .map(|mapping| {
                costs.pair[line][mapping] + by_trial(costs, line + 1, taken | 1 << mapping)
            })
            .fold(alone, i64::min)
    }

    fn costs(rows: &[Vec<i64>], unmatched: i64) -> Costs {
        let mut costs = Costs {
            pair: [[IMPOSSIBLE; MAX_MAPPINGS]; MAX_LINES],
            unmatched,
            lines: rows.len(),
            mappings: rows.first().map_or(0, Vec::len),
        };
        for (to, from) in costs.pair.iter_mut().zip(rows) {
            to[..from.len()].copy_from_slice(from);
        }
        costs
    }

    proptest! {
        #[test]
        fn no_assignment_is_cheaper(
            rows in (1..5_usize, 0..6_usize).prop_flat_map(|(lines, mappings)| {
                let cost = prop_oneof![9 => 0..50_i64, 1 => Just(IMPOSSIBLE)];
                proptest::collection::vec(proptest::collection::vec(cost, mappings), lines)
            }),
            unmatched in 0..60_i64,
        ) {
            let costs = costs(&rows, unmatched);
            let chosen = costs.solve();
            let mut taken = 0_u32;
            let mut total = 0;
            for (line, mapping) in chosen.iter().enumerate().take(costs.lines) {
                match mapping {
                    Some(mapping) => {
                        prop_assert_eq!(taken & 1 << mapping, 0, "a mapping was given twice");
                        taken |= 1 << mapping;
                        total += costs.pair[line][*mapping];
                    }
                    None => total += unmatched,
                }
            }
            prop_assert_eq!(total, by_trial(&costs, 0, 0));
        }
    }

    #[test]
    fn a_group_is_decided_together() {
        // The first line fits both mappings, the second only the first: so the first gives way.
        let chosen = costs(&[vec![1, 2], vec![1, IMPOSSIBLE]], 100).solve();
        assert_eq!(chosen[..2], [Some(1), Some(0)]);
    }
}
