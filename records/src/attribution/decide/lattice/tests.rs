//! The shares of alignments against the shares found by trying everything.

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
        by_trial(
            lattice,
            line + 1,
            next + 1,
            taken,
            weight * lattice.pairs[line * lattice.mappings + next],
            out,
        );
        taken.pop();
        for (order, crossings) in BLOCKS.into_iter().zip([1, 2, 2, 3]) {
            let len = order.len();
            if line + len <= lattice.lines && next + len <= lattice.mappings {
                let pairs = order.iter().enumerate();
                let pairs = pairs.map(|(step, place)| {
                    lattice.pairs[(line + step) * lattice.mappings + next + place]
                });
                let together = lattice.together[line..line + len - 1].iter().all(|it| *it);
                let crossed = lattice.crossed[next].of(together);
                let crossing = weight * pairs.product::<f64>() * crossed.powi(crossings);
                taken.extend(order.iter().map(|place| Some(next + place)));
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
        together in any::<[bool; 4]>(),
        start in any::<[u8; 5]>(), turned in any::<[u8; 4]>(),
    ) {
        let mut lattice = Lattice::default();
        let mappings = rows[0].len();
        lattice.reset(rows.len(), mappings);
        for (line, row) in rows.iter().enumerate() {
            lattice.set_together(line, together[line]);
            lattice.set_alone(line, 0.01);
            for (mapping, &cost) in row.iter().enumerate() {
                lattice.set_pair(line, mapping, cost);
                lattice.set_mapping(mapping, left, open);
                lattice.set_crossed(mapping, crossed, crossed / 2.0);
            }
        }
        lattice.set_start(0, 1.0 + f64::from(start[0]));
        for place in 0..mappings {
            lattice.set_start(place + 1, f64::from(start[place + 1]));
            lattice.set_turned(place, f64::from(turned[place]));
        }
        lattice.solve(rows.len());
        let mut all = Vec::new();
        for place in 0..=mappings {
            let weight = lattice.start[place];
            by_trial(&lattice, 0, place, &mut Vec::new(), weight, &mut all);
        }
        for place in 0..mappings.saturating_sub(1) {
            let weight = lattice.turned[place] * lattice.pairs[place];
            by_trial(&lattice, 1, place + 2, &mut vec![Some(place)], weight, &mut all);
        }
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

    #[test]
    fn lines_have_the_same_shares_after_the_first_is_decided(
        rows in proptest::collection::vec(proptest::collection::vec(0..9_000_i64, 2), 2..5),
        left in 0.001..1.0_f64, open in 0.001..1.0_f64, crossed in 0.0..1.0_f64,
    ) {
        let filled = |rows: &[Vec<i64>]| {
            let mut lattice = Lattice::default();
            lattice.reset(rows.len(), 2);
            for (line, row) in rows.iter().enumerate() {
                lattice.set_alone(line, 0.01);
                for (mapping, &cost) in row.iter().enumerate() {
                    lattice.set_pair(line, mapping, cost);
                    lattice.set_mapping(mapping, left, open);
                    lattice.set_crossed(mapping, crossed, crossed);
                }
            }
            lattice
        };
        let mut whole = filled(&rows);
        whole.solve(rows.len());
        let (mut ends, mut turned) = (Vec::new(), Vec::new());
        whole.find_ends(1, &mut ends, &mut turned);
        let mut rest = filled(&rows[1..]);
        for place in 0..3 {
            rest.set_start(place, ends[place]);
            rest.set_turned(place, turned[place]);
        }
        rest.solve(rows.len() - 1);
        for line in 1..rows.len() {
            for mapping in 0..2 {
                let (one, other) = (whole.share(line, mapping), rest.share(line - 1, mapping));
                prop_assert!((one - other).abs() < 1e-9, "{one} {other}");
            }
        }
    }
}
