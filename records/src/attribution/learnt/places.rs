//! How far lines are from the places of their mappings, where stamps of whole seconds hide the delays.
//!
//! Mappings and lines of a server are numbered as they come. If the server wrote each line at once, line and mapping
//! would always be the same number of places apart. A slow response puts a line behind others, and each line before
//! it one place ahead. Certain pairs tell how many places lines are off, and how often.

use crate::attribution::costs;
use crate::attribution::line::OrderPlace;

/// Places that are counted one by one on either side.
const NEAR: usize = 64;
/// Octaves of places beyond them.
const FAR: usize = 12;
const BINS: usize = 2 * (NEAR + FAR) + 1;
/// The bin of a line in its own place.
const OWN: usize = NEAR + FAR;
/// Gaps by octaves of places.
const GAPS: usize = 20;

/// How many places lines are off.
pub(crate) struct PlaceOrder {
    /// Places between mapping and line of the last certain pairs.
    apart: RecentMedian<{ costs::PLACES_RECENT }>,
    /// Their median not long ago.
    usual_lately: i64,
    /// How many more lines than mappings there had been at these.
    leads: RecentMedian<{ costs::PLACES_RECENT }>,
    counts: Box<[u32; BINS]>,
    total: u32,
    until_rebuilt: u32,
    /// Costs of places, in thousandths of a natural logarithm above the best.
    costs: Box<[i64; BINS]>,
    /// The last certain pair.
    last: Option<(OrderPlace, OrderPlace)>,
    /// Pairs of certain pairs by octaves of the places between their mappings: lines in that order, and in the reverse
    /// order.
    straight: [f64; GAPS],
    crossed: [f64; GAPS],
}

impl PlaceOrder {
    pub(crate) fn new() -> Self {
        let mut order = Self {
            apart: RecentMedian::new(),
            usual_lately: 0,
            leads: RecentMedian::new(),
            counts: Box::new([0; BINS]),
            total: 0,
            until_rebuilt: costs::PLACES_REBUILT_AFTER,
            costs: Box::new([0; BINS]),
            last: None,
            straight: [costs::PLACES_STRAIGHT_AT_FIRST; GAPS],
            crossed: [0.0; GAPS],
        };
        let mut some = costs::PLACES_CROSSED_AT_FIRST;
        for crossed in &mut order.crossed {
            *crossed = some;
            some *= std::f64::consts::FRAC_1_SQRT_2;
        }
        order.rebuild();
        order
    }

    /// Learns from a certain pair, before which there were `lead` more lines than mappings.
    pub(crate) fn learn(&mut self, mapping: OrderPlace, line: OrderPlace, lead: i64) {
        self.learn_order(mapping, line);
        let apart = line.after(mapping);
        if self.is_known() {
            self.counts[bin(apart - self.usual_lately)] += 1;
            self.total += 1;
            self.until_rebuilt -= 1;
            if self.until_rebuilt == 0 {
                self.rebuild();
            }
        }
        self.apart.push(apart);
        if self.apart.numbers.is_multiple_of(costs::PLACES_MEDIAN_AFTER) {
            self.usual_lately = self.apart.median();
        }
        self.leads.push(lead);
    }

    /// Learns from a certain pair and the one before it whether lines are in the order of mappings.
    fn learn_order(&mut self, mapping: OrderPlace, line: OrderPlace) {
        let Some((last_mapping, last_line)) = self.last.replace((mapping, line)) else { return };
        let later = mapping.after(last_mapping);
        let is_crossed = (later < 0) != (line.after(last_line) < 0);
        let gap = gap(later);
        let count = if is_crossed { &mut self.crossed } else { &mut self.straight };
        count[gap] += 1.0;
        if self.straight[gap] + self.crossed[gap] > costs::END_ORDER_FADE_AT {
            self.straight[gap] /= 2.0;
            self.crossed[gap] /= 2.0;
        }
    }

    /// Whether lines are so much in the order of their mappings that order tells more than fine stamps.
    pub(crate) fn is_in_order(&self) -> bool {
        let gap = gap(costs::PLACES_STRICT);
        self.crossed[gap] < self.straight[gap] * costs::PLACES_CROSSED_STRICTLY
    }

    /// Returns how many places lines usually come after their mappings, once enough pairs are known.
    pub(crate) fn usual(&self) -> Option<i64> {
        self.is_known().then(|| self.apart.median())
    }

    /// Returns how many more lines than mappings there had been at the last certain pairs.
    pub(crate) fn usual_lead(&self) -> i64 {
        self.leads.median()
    }

    /// Whether enough pairs are known for places to tell something.
    pub(crate) const fn is_known(&self) -> bool {
        self.apart.numbers >= costs::PLACES_KNOWN_AFTER
    }

    /// Returns the cost of a line so many places behind the usual place; not more than [`costs::PLACES_LOST`].
    #[inline]
    pub(crate) fn cost(&self, behind: i64) -> i64 {
        self.costs[bin(behind)]
    }

    fn rebuild(&mut self) {
        if self.total > costs::PLACES_FADE_AT {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
        self.until_rebuilt = (self.total / 3).max(costs::PLACES_REBUILT_AFTER);
        let (pairs, apart) = costs::PLACES_AT_FIRST;
        // What is expected while nothing was seen: lines near their own places.
        let expected = |bin: usize| {
            let off = f64::from(u32::try_from(bin.abs_diff(OWN)).unwrap_or(u32::MAX));
            pairs * (-off / apart).exp() / (2.0 * apart)
        };
        let total = f64::from(self.total) + (0..BINS).map(expected).sum::<f64>();
        let seen = |bin: usize| self.counts.get(bin).map_or(0.0, |&count| f64::from(count));
        let at = |bin: usize| seen(bin) + expected(bin);
        let near = |bin: usize| {
            let beside = at(bin.wrapping_sub(1)) + at(bin + 1);
            // The middle is known well, and narrow.
            let beside_part = if bin.abs_diff(OWN) <= 2 { 0.0 } else { 0.25 };
            at(bin) * (1.0 - 2.0 * beside_part) + beside * beside_part + costs::PLACES_UNSEEN
        };
        let density: [f64; BINS] = std::array::from_fn(|bin| near(bin) / total / width(bin));
        let peak = density.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        *self.costs = density.map(|it| thousandths((peak / it).ln()).min(costs::PLACES_LOST));
    }
}

/// The median of the last numbers.
pub(crate) struct RecentMedian<const RECENT: usize> {
    recent: [i64; RECENT],
    /// Numbers so far.
    numbers: usize,
}

impl<const RECENT: usize> RecentMedian<RECENT> {
    pub(crate) const fn new() -> Self {
        Self { recent: [i64::MAX; RECENT], numbers: 0 }
    }

    pub(crate) fn push(&mut self, number: i64) {
        self.recent[self.numbers % RECENT] = number;
        self.numbers += 1;
    }

    /// Returns how many numbers there were so far.
    pub(crate) const fn numbers(&self) -> usize {
        self.numbers
    }

    /// Returns the median; 0 before there is any number.
    pub(crate) fn median(&self) -> i64 {
        self.median_by(|number| number)
    }

    /// Returns the median distance from a number; 0 before there is any number.
    pub(crate) fn distance(&self, from: i64) -> i64 {
        self.median_by(|number| number.saturating_sub(from).abs())
    }

    fn median_by(&self, of: impl Fn(i64) -> i64) -> i64 {
        if self.numbers == 0 {
            return 0;
        }
        let numbers = self.numbers.min(RECENT);
        let mut sorted = self.recent;
        sorted[..numbers].iter_mut().for_each(|number| *number = of(*number));
        *sorted[..numbers].select_nth_unstable(numbers / 2).1
    }
}

fn gap(places: i64) -> usize {
    ((places.unsigned_abs() + 1).ilog2() as usize).min(GAPS - 1)
}

#[inline]
fn bin(behind: i64) -> usize {
    // Most places are near: each has a bin of its own.
    let near = usize::try_from(behind.saturating_add_unsigned(NEAR as u64)).unwrap_or(usize::MAX);
    if near <= 2 * NEAR { FAR + near } else { far_bin(behind) }
}

fn far_bin(behind: i64) -> usize {
    let steps = steps_to_far(usize::try_from(behind.unsigned_abs()).unwrap_or(usize::MAX));
    if behind < 0 { OWN - steps } else { OWN + steps }
}

#[inline]
fn steps_to_far(places: usize) -> usize {
    let octave = usize::BITS - (places - NEAR).leading_zeros();
    NEAR + (octave as usize).min(FAR)
}

/// Returns how many places a bin has.
fn width(bin: usize) -> f64 {
    match bin.abs_diff(OWN).checked_sub(NEAR) {
        None | Some(0) => 1.0,
        Some(octave) => f64::from(1_u32 << (octave - 1)),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a logarithm of a small number")]
fn thousandths(value: f64) -> i64 {
    (value * 1_000.0) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(order: &mut PlaceOrder, mapping: u32, line: u32) {
        order.learn(OrderPlace(mapping), OrderPlace(line), 0);
    }

    #[test]
    fn bins_lie_one_after_the_other() {
        for behind in -5_000..5_000_i64 {
            let (this, next) = (bin(behind), bin(behind + 1));
            assert!(next == this || next == this + 1, "{behind}");
        }
        assert!(bin(i64::MIN) < BINS && bin(i64::MAX) < BINS);
    }

    #[test]
    fn a_server_that_keeps_order_makes_other_places_dear() {
        let mut order = PlaceOrder::new();
        (0..2_000).for_each(|i| learn(&mut order, i, i.wrapping_add(40)));
        assert_eq!((order.usual(), order.cost(0)), (Some(40), 0));
        assert!(order.cost(1) > 5_000 && order.cost(-1) > 5_000);
        assert!(order.is_in_order());
    }

    #[test]
    fn slow_lines_come_behind_and_lost_lines_move_the_usual_place() {
        let mut order = PlaceOrder::new();
        for i in 0..1_000 {
            learn(&mut order, i, if i % 5 == 0 { i + 9 } else { i });
        }
        assert!(order.cost(9) < 2_300 && order.cost(5) > 3_000);
        assert!(!order.is_in_order());
        (1_000..1_020).for_each(|i| learn(&mut order, i, i.wrapping_sub(300)));
        assert_eq!(order.usual(), Some(-300));
    }

    #[test]
    fn numbers_may_wrap() {
        let (mapping, line) = (OrderPlace(u32::MAX), OrderPlace(u32::MAX).next().next());
        assert_eq!(line.after(mapping), 2);
    }
}
