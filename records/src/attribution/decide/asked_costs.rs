//! The cost of a line and a mapping that tells only when a request was asked: by the delay, and where order tells more
//! than delays, by their places in the server's order.

use std::cell::Cell;

use super::window::WindowMapping;
use crate::attribution::costs;
use crate::attribution::learnt::places::PlaceOrder;
use crate::attribution::learnt::server::LearntServer;
use crate::attribution::line::{HeldLine, OrderPlace};
use crate::attribution::memory::Memory;
use crate::attribution::memory::mappings::{GroupSlot, MappingMark, WaitingMapping};
use crate::time::{Resolution, Timestamp};

/// The cost of a pair that is out of the question.
pub(super) const IMPOSSIBLE: i64 = i64::MAX / 2;

/// A mapping that a line may have.
#[derive(Clone, Copy)]
pub(super) struct AskedCost {
    pub(super) mapping: usize,
    pub(super) cost: i64,
    /// The cost without the User-Agent's.
    pub(super) by_time: i64,
}

/// The costs of pairs of one group, without their User-Agents.
pub(super) struct AskedCosts<'a> {
    memory: &'a Memory,
    pub(super) server: &'a LearntServer,
    /// How many places lines come after their mappings; roughly, while that is not known.
    usual: i64,
    /// How many more lines than mappings there had been when that was so, and by how much that changes by chance.
    usual_lead: i64,
    lead_by_chance: i64,
    evidence: AskedEvidence,
    /// How many places the lines of the last mapping's time usually come after it: coarse stamps make most times equal.
    last: Cell<(Timestamp, i64)>,
}

/// What tells which line belongs to which mapping.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AskedEvidence {
    /// Delays, and if stamps are coarse, places among all of the same second: many lines or mappings are missing.
    PartOfSecond,
    /// The order of the group, if stamps are coarse.
    RoughPlace,
    /// Places, if stamps are coarse.
    CoarsePlace,
    /// Places, and with fine stamps delays, whichever speaks more against a pair.
    Place,
}

impl<'a> AskedCosts<'a> {
    pub(super) fn of(
        server: &'a LearntServer,
        memory: &'a Memory,
        group: GroupSlot,
        first: &HeldLine,
    ) -> Self {
        let known = server.places.usual();
        let evidence = match known {
            _ if server.flows.has_drift() => AskedEvidence::PartOfSecond,
            None => AskedEvidence::RoughPlace,
            Some(_) if server.places.is_in_order() => AskedEvidence::Place,
            Some(_) => AskedEvidence::CoarsePlace,
        };
        let usual = known.unwrap_or_else(|| {
            let mut fresh = memory.mappings.fresh(group).map(|it| memory.mappings.get(it));
            let next = fresh.find(|it| it.mark != MappingMark::Named);
            next.map_or(0, |it| first.place.after(it.place))
        });
        let usual_lead = server.places.usual_lead();
        let lead_by_chance = server.flows.lead_by_chance();
        let last = Cell::new((Timestamp::MIN, usual));
        Self { memory, server, usual, usual_lead, lead_by_chance, evidence, last }
    }

    /// Returns the cost of a line without a mapping, if lines have stamps as fine as this.
    pub(super) fn alone_cost(&self, group: GroupSlot, stamps: Resolution) -> i64 {
        match (self.evidence, stamps) {
            (AskedEvidence::PartOfSecond, Resolution::Second) => {
                self.server.alone_cost_by_place(group)
            }
            (AskedEvidence::PartOfSecond, _) => self.server.alone_cost_by_rate(group),
            _ => self.server.alone_cost(),
        }
    }

    /// Returns the cost of a mapping for the line between these two that most likely has it.
    pub(super) fn of_span(
        &self,
        waiting: &WaitingMapping,
        first: &HeldLine,
        last: &HeldLine,
    ) -> i64 {
        let beside = self.of_mapping(waiting, first.resolution);
        let is_coarse = first.resolution == Resolution::Second;
        if is_coarse && beside.behind(first) <= 0 && beside.behind(last) >= 0 {
            return beside.least();
        }
        beside.cost(self, first).min(self.of_pair(waiting, last))
    }

    /// Returns the cost of a pair.
    pub(super) fn of_pair(&self, waiting: &WaitingMapping, line: &HeldLine) -> i64 {
        self.of_mapping(waiting, line.resolution).cost(self, line)
    }

    /// Returns the costs of a mapping beside lines with stamps as fine as this.
    fn of_mapping(&self, waiting: &WaitingMapping, stamps: Resolution) -> MappingCosts {
        let (usual, spread) = self.usual_of(waiting);
        let step = stamps.max(waiting.resolution);
        let order = match (self.evidence, step == Resolution::Second) {
            (AskedEvidence::RoughPlace, true) => OrderEvidence::Rough,
            (AskedEvidence::CoarsePlace | AskedEvidence::Place, true) => OrderEvidence::Added,
            (AskedEvidence::Place, false) => OrderEvidence::Most,
            (AskedEvidence::PartOfSecond, true) => {
                spread.map_or(OrderEvidence::Anywhere, OrderEvidence::Spread)
            }
            (_, false) => OrderEvidence::None,
        };
        let earliest = waiting.time.offset_by(1 - self.memory.wait - step.micros());
        MappingCosts {
            time: waiting.time_beside(stamps),
            step,
            possible: (earliest, waiting.time.offset_by(self.memory.window)),
            expected: waiting.place.later(usual),
            order,
            by_delay: 0,
        }
    }

    /// Returns how many places a mapping's line usually comes after it, and where that is by parts of a second, the
    /// variance. Where lines or mappings are missing since the last certain pair, places moved.
    fn usual_of(&self, waiting: &WaitingMapping) -> (i64, Option<f64>) {
        let flows = &self.server.flows;
        match self.evidence {
            AskedEvidence::RoughPlace => (self.usual, None),
            AskedEvidence::PartOfSecond => flows
                .spread(waiting.time, waiting.place)
                .map_or((0, None), |(usual, spread)| (usual, Some(spread))),
            AskedEvidence::CoarsePlace | AskedEvidence::Place => {
                (self.usual_at(waiting.time), None)
            }
        }
    }

    /// Returns how many places after its mapping a line usually comes, by the mapping's time.
    fn usual_at(&self, time: Timestamp) -> i64 {
        let (last, usual) = self.last.get();
        if last == time {
            return usual;
        }
        let moved = self.server.flows.lead(time) - self.usual_lead;
        let is_chance = moved.abs() <= self.lead_by_chance;
        let usual = if is_chance { self.usual } else { self.usual + moved };
        self.last.set((time, usual));
        usual
    }

    /// Returns the cost of a delay, where stamps are as fine as this and places tell so much.
    fn of_delay(&self, delay: i64, resolution: Resolution, order: OrderEvidence) -> i64 {
        // A line just after the turn of a second has the next stamp; places tell whether it is that.
        let is_next = resolution == Resolution::Second && delay == resolution.micros();
        let delay = if order.is_placed() && is_next { 0 } else { delay };
        match order {
            OrderEvidence::Added | OrderEvidence::Most => self.server.delays.cost(delay),
            _ => self.server.asked_cost(delay, resolution),
        }
    }
}

/// The costs of a mapping beside lines with stamps as fine as some.
struct MappingCosts {
    /// The time of the mapping beside such stamps.
    time: Timestamp,
    /// How fine the stamps of both are.
    step: Resolution,
    /// The first and the last time of a line that is not out of the question.
    possible: (Timestamp, Timestamp),
    /// The usual place of its line.
    expected: OrderPlace,
    /// What the order tells.
    order: OrderEvidence,
    /// The cost of the delay of the line in question.
    by_delay: i64,
}

/// What places tell beside delays.
#[derive(Clone, Copy)]
enum OrderEvidence {
    None,
    /// Nothing of few lines of a second, or while it is not over, where others are told by parts of a second.
    Anywhere,
    /// Something, while usual places are not known.
    Rough,
    /// Something of their own.
    Added,
    /// As much as delays or more.
    Most,
    /// Something of their own, with this variance.
    Spread(f64),
}

impl OrderEvidence {
    /// Whether places tell something of their own, and well.
    const fn is_placed(self) -> bool {
        matches!(self, Self::Added | Self::Spread(_))
    }
}

impl MappingCosts {
    /// Returns how many places a line is behind the usual place.
    #[inline]
    fn behind(&self, line: &HeldLine) -> i64 {
        line.place.after(self.expected)
    }

    /// Returns the cost of the mapping for a line, whether time allows the pair or not.
    fn cost(&self, pairs: &AskedCosts<'_>, line: &HeldLine) -> i64 {
        let by_delay = self.cost_of_delay(pairs, line.time);
        self.with_place(&pairs.server.places, line, by_delay)
    }

    fn cost_of_delay(&self, pairs: &AskedCosts<'_>, time: Timestamp) -> i64 {
        pairs.of_delay(time.micros_since(self.time), self.step, self.order)
    }

    /// Returns the cost of the mapping for a line in its usual place.
    fn least(&self) -> i64 {
        match self.order {
            OrderEvidence::Spread(variance) => spread_cost(0, variance),
            OrderEvidence::Anywhere => costs::PLACES_FEW,
            _ => 0,
        }
    }

    /// Adds what the line's place tells to the cost of its delay.
    #[inline]
    fn with_place(&self, places: &PlaceOrder, line: &HeldLine, by_delay: i64) -> i64 {
        match self.order {
            OrderEvidence::Added => by_delay + places.cost(self.behind(line)),
            OrderEvidence::None => by_delay,
            OrderEvidence::Anywhere => by_delay + costs::PLACES_FEW,
            OrderEvidence::Rough => {
                let by_place = self.behind(line).abs() * costs::PLACE_AT_FIRST;
                by_delay + by_place.min(costs::PLACE_AT_FIRST_MOST)
            }
            OrderEvidence::Spread(variance) => by_delay + spread_cost(self.behind(line), variance),
            OrderEvidence::Most => by_delay.max(places.cost(self.behind(line))),
        }
    }
}

/// The costs of the mappings of a window beside one line after the other; what is the same for most lines is found once.
#[derive(Default)]
pub(crate) struct WindowCosts {
    mappings: Vec<MappingCosts>,
    /// Whether places tell something of their own beside each of them.
    are_placed: bool,
    /// The stamp of the last line.
    stamp: Option<(Timestamp, Resolution)>,
}

impl WindowCosts {
    /// Starts anew, with other mappings.
    pub(super) fn reset(&mut self) {
        self.stamp = None;
    }

    /// Returns the cost of each mapping for a line, by delay and place: [`IMPOSSIBLE`] or more if time puts the pair out
    /// of the question.
    #[inline]
    pub(super) fn beside(
        &mut self,
        pairs: &AskedCosts<'_>,
        mappings: &[WindowMapping],
        line: &HeldLine,
    ) -> impl Iterator<Item = i64> {
        if self.stamp != Some((line.time, line.resolution)) {
            self.turn_to(pairs, mappings, line);
        }
        let (places, are_placed) = (&pairs.server.places, self.are_placed);
        self.mappings.iter().map(move |it| {
            if are_placed {
                it.by_delay + places.cost(it.behind(line))
            } else {
                it.with_place(places, line, it.by_delay)
            }
        })
    }

    /// Finds what is the same for all lines with this stamp.
    fn turn_to(&mut self, pairs: &AskedCosts<'_>, mappings: &[WindowMapping], line: &HeldLine) {
        let before = self.stamp.replace((line.time, line.resolution));
        if before.is_none_or(|(_, resolution)| resolution != line.resolution) {
            self.mappings.clear();
            let waiting = mappings.iter().map(|it| pairs.memory.mappings.get(it.mapping));
            self.mappings.extend(waiting.map(|it| pairs.of_mapping(it, line.resolution)));
            let is_placed = |it: &MappingCosts| matches!(it.order, OrderEvidence::Added);
            self.are_placed = self.mappings.iter().all(is_placed);
        }
        self.find_delays(pairs, line.time);
    }

    /// Finds the costs of the delays of lines of this time. Coarse stamps make most times of a group equal.
    fn find_delays(&mut self, pairs: &AskedCosts<'_>, time: Timestamp) {
        let (mut stamp, mut by_delay) = (None, IMPOSSIBLE);
        for mapping in &mut self.mappings {
            let own = (mapping.time, mapping.possible, mapping.order.is_placed());
            if stamp.replace(own) != Some(own) {
                let (first, last) = mapping.possible;
                let is_possible = time >= first && time <= last;
                by_delay =
                    if is_possible { mapping.cost_of_delay(pairs, time) } else { IMPOSSIBLE };
            }
            mapping.by_delay = by_delay;
        }
    }
}

/// Returns the cost of a line so many places behind the expected one, by the variance of these places.
#[expect(clippy::cast_possible_truncation, reason = "a number within bounds")]
fn spread_cost(behind: i64, variance: f64) -> i64 {
    let behind = behind as f64;
    let variance = variance + costs::PLACES_SPREAD;
    let cost = 500.0 * behind * behind / variance;
    (cost.min(costs::PLACES_LOST as f64) + 500.0 * (std::f64::consts::TAU * variance).ln()) as i64
}
