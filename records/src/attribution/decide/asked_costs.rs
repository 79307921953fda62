//! The cost of a line and a mapping that tells only when a request was asked: by the delay, and where order tells more
//! than delays, by their places in the server's order.

use crate::attribution::costs;
use crate::attribution::learnt::server::LearntServer;
use crate::attribution::line::HeldLine;
use crate::attribution::memory::Memory;
use crate::attribution::memory::mappings::{GroupSlot, WaitingMapping};
use crate::time::{Resolution, Timestamp};

/// The costs of pairs of one group, without their User-Agents.
pub(super) struct AskedCosts<'a> {
    memory: &'a Memory,
    server: &'a LearntServer,
    /// How many places lines come after their mappings; roughly, while that is not known.
    usual: i64,
    /// How many more lines than mappings there had been when that was so, and by how much that changes by chance.
    usual_lead: i64,
    lead_by_chance: i64,
    evidence: AskedEvidence,
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
            _ if server.flows.left().max(server.flows.alone()) > costs::PLACES_DRIFT => {
                AskedEvidence::PartOfSecond
            }
            None => AskedEvidence::RoughPlace,
            Some(_) if server.places.is_in_order() => AskedEvidence::Place,
            Some(_) => AskedEvidence::CoarsePlace,
        };
        let usual = known.unwrap_or_else(|| {
            let mut fresh = memory.mappings.fresh(group).map(|it| memory.mappings.get(it));
            let next = fresh.find(|it| !it.named);
            next.map_or(0, |it| first.place.after(it.place))
        });
        let usual_lead = server.places.usual_lead();
        let lead_by_chance = server.flows.lead_by_chance();
        Self { memory, server, usual, usual_lead, lead_by_chance, evidence }
    }

    /// Returns the cost of a mapping for the line between these two that most likely has it.
    pub(super) fn of_span(
        &self,
        waiting: &WaitingMapping,
        first: &HeldLine,
        last: &HeldLine,
    ) -> i64 {
        let mut costs = self.of_mapping(waiting);
        let is_coarse = first.resolution == Resolution::Second;
        if is_coarse && costs.behind(first) <= 0 && costs.behind(last) >= 0 {
            return 0;
        }
        costs.cost(first).min(costs.cost(last))
    }

    /// Returns the cost of a pair.
    pub(super) fn of_pair(&self, waiting: &WaitingMapping, line: &HeldLine) -> i64 {
        self.of_mapping(waiting).cost(line)
    }

    /// Returns the costs of a mapping.
    pub(super) fn of_mapping<'b>(&'b self, waiting: &'b WaitingMapping) -> MappingCosts<'b> {
        let (usual, spread) = self.usual_of(waiting);
        MappingCosts {
            pairs: self,
            waiting,
            stamps: None,
            time: waiting.time,
            order: OrderEvidence::None,
            possible: (waiting.time, waiting.time),
            usual,
            spread,
            last: (Timestamp::MIN, 0),
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
                let moved = flows.lead(waiting.time) - self.usual_lead;
                let is_chance = moved.abs() <= self.lead_by_chance;
                (if is_chance { self.usual } else { self.usual + moved }, None)
            }
        }
    }

    /// Returns the cost of a delay, where stamps are as fine as this and places tell so much.
    fn of_delay(&self, delay: i64, resolution: Resolution, order: OrderEvidence) -> i64 {
        // A line just after the turn of a second has the next stamp; places tell whether it is that.
        let is_placed = matches!(order, OrderEvidence::Added | OrderEvidence::Spread(_));
        let is_next = resolution == Resolution::Second && delay == resolution.micros();
        let delay = if is_placed && is_next { 0 } else { delay };
        match order {
            OrderEvidence::Added | OrderEvidence::Most => self.server.delays.cost(delay),
            _ => self.server.asked_cost(delay, resolution),
        }
    }
}

/// The costs of a mapping beside the lines/// The costs of a mapping beside the lines of its group; what is the same for most lines is found once.
pub(super) struct MappingCosts<'a> {
    pairs: &'a AskedCosts<'a>,
    waiting: &'a WaitingMapping,
    /// How fine the stamps of the last line were.
    stamps: Option<Resolution>,
    /// The time of the mapping beside such stamps.
    time: Timestamp,
    /// What the order tells beside such stamps.
    order: OrderEvidence,
    /// The first and the last time of such a line that is not out of the question.
    possible: (Timestamp, Timestamp),
    /// How many places its line usually comes after it.
    usual: i64,
    /// The variance of that, if it is by parts of a second.
    spread: Option<f64>,
    /// The time of the last line, and the cost of its delay.
    last: (Timestamp, i64),
}

/// What places tell beside delays.
#[derive(Clone, Copy)]
enum OrderEvidence {
    None,
    /// Something, while usual places are not known.
    Rough,
    /// Something of their own.
    Added,
    /// As much as delays or more.
    Most,
    /// Something of their own, with this variance.
    Spread(f64),
}

impl MappingCosts<'_> {
    /// Returns how many places a line is behind the usual place.
    #[inline]
    fn behind(&self, line: &HeldLine) -> i64 {
        line.place.after(self.waiting.place) - self.usual
    }

    /// Returns the cost of the mapping for a line; `None` if time puts the pair out of the question.
    #[inline]
    pub(super) fn beside(&mut self, line: &HeldLine) -> Option<i64> {
        self.prepare(line.resolution);
        let (first, last) = self.possible;
        (line.time >= first && line.time <= last).then(|| self.cost_prepared(line))
    }

    fn cost(&mut self, line: &HeldLine) -> i64 {
        self.prepare(line.resolution);
        self.cost_prepared(line)
    }

    #[inline]
    fn cost_prepared(&mut self, line: &HeldLine) -> i64 {
        if line.time != self.last.0 {
            let resolution = line.resolution.max(self.waiting.resolution);
            let delay = line.time.micros_since(self.time);
            self.last = (line.time, self.pairs.of_delay(delay, resolution, self.order));
        }
        let by_delay = self.last.1;
        let places = &self.pairs.server.places;
        match self.order {
            OrderEvidence::None => by_delay,
            OrderEvidence::Rough => {
                let by_place = self.behind(line).abs() * costs::PLACE_AT_FIRST;
                by_delay + by_place.min(costs::PLACE_AT_FIRST_MOST)
            }
            OrderEvidence::Added => by_delay + places.cost(self.behind(line)),
            OrderEvidence::Spread(variance) => by_delay + spread_cost(self.behind(line), variance),
            OrderEvidence::Most => by_delay.max(places.cost(self.behind(line))),
        }
    }

    /// Finds what is the same for all lines with stamps as fine as this.
    #[inline]
    fn prepare(&mut self, stamps: Resolution) {
        if self.stamps != Some(stamps) {
            self.prepare_anew(stamps);
        }
    }

    fn prepare_anew(&mut self, stamps: Resolution) {
        let WaitingMapping { time, resolution, .. } = *self.waiting;
        let memory = self.pairs.memory;
        let step = stamps.max(resolution);
        self.stamps = Some(stamps);
        self.order = match (self.pairs.evidence, step == Resolution::Second) {
            (AskedEvidence::RoughPlace, true) => OrderEvidence::Rough,
            (AskedEvidence::CoarsePlace | AskedEvidence::Place, true) => OrderEvidence::Added,
            (AskedEvidence::Place, false) => OrderEvidence::Most,
            (AskedEvidence::PartOfSecond, true) => {
                self.spread.map_or(OrderEvidence::None, OrderEvidence::Spread)
            }
            (_, false) => OrderEvidence::None,
        };
        self.time = self.waiting.time_beside(stamps);
        let earliest = time.offset_by(1 - memory.wait - step.micros());
        self.possible = (earliest, time.offset_by(memory.window));
        self.last = (Timestamp::MIN, 0);
    }
}

/// Returns the cost of a line so many places behind the expected one, by the variance of these places.
#[expect(clippy::cast_possible_truncation, reason = "a number within bounds")]
fn spread_cost(behind: i64, variance: f64) -> i64 {
    let behind = behind as f64;
    let cost = 500.0 * behind * behind / (variance + costs::PLACES_SPREAD);
    cost.min(costs::PLACES_LOST as f64) as i64
}
