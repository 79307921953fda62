//! How far the lines of a group have come, kept from decision to decision.
//!
//! A line in doubt does not take its most likely mapping. The front is kept: the weights of all alignments of the lines
//! so far, by the place where they end ([`ExchangeFacts::reached`]), and how likely each mapping is left for
//! other lines (`unclaimed` of the mapping). So one guess does not make the next one wrong.

use super::lattice::refill;
use super::window::{DecisionWindow, WindowStanding};
use crate::attribution::costs;
use crate::attribution::learnt::server::LearntServer;
use crate::attribution::line::LineNumber;
use crate::attribution::memory::Memory;
use crate::attribution::memory::facts::ExchangeFacts;
use crate::attribution::memory::mappings::{GroupSlot, MappingMark};
use crate::time::Timestamp;

impl DecisionWindow {
    /// Gives the line its mapping, or in doubt a part of each possible mapping.
    pub(super) fn take_in_order(
        &mut self,
        memory: &mut Memory,
        (group, next): (GroupSlot, Option<LineNumber>),
        row: usize,
        chosen: usize,
    ) {
        if !self.keeps {
            self.mappings[chosen].standing = WindowStanding::Taken;
            memory.consume(group, self.mappings[chosen].mapping, next);
            return;
        }
        self.mappings[chosen].named = true;
        memory.mappings.get_mut(self.mappings[chosen].mapping).mark = MappingMark::Named;
        self.claim_parts(memory, row);
        memory.leave_group(group, next);
    }

    /// Gives the line a part of each possible mapping.
    pub(super) fn claim_parts(&mut self, memory: &mut Memory, row: usize) {
        for place in 0..self.mappings.len() {
            let part = self.share(row, place);
            let mapping = &mut self.mappings[place];
            if part <= 0.0 || mapping.standing == WindowStanding::Taken {
                continue;
            }
            if memory.mappings.claim(mapping.mapping, part) < costs::CLAIMED_LEAST {
                mapping.standing = WindowStanding::Taken;
            }
        }
    }

    /// Keeps how likely the first lines have come past each mapping. A passed mapping of theirs belongs to no further line.
    /// Returns the end of the last exchange that lines have surely come past.
    pub(super) fn keep_reached(&mut self, memory: &mut Memory, lines: usize) -> Option<Timestamp> {
        let mut last = None;
        let mut ends = std::mem::take(&mut self.ends);
        let mut turned = std::mem::take(&mut self.turned);
        self.lattice.find_ends(lines, &mut ends, &mut turned);
        let total = ends.iter().chain(&turned).sum::<f64>();
        let (mut reached, mut is_next_gone) = (0.0, false);
        for place in (0..self.ordered).rev().filter(|_| total > 0.0) {
            reached += ends[place + 1] + turned[place + 1];
            let mapping = self.mappings[place].mapping;
            let share = reached / total;
            if share >= costs::REACHED && last.is_none() {
                last = Some(self.mappings[place].time);
            }
            // Without the next mapping, the line that is to have this one goes on behind it as others do.
            let turned = if is_next_gone { 0.0 } else { turned[place] / total };
            let waiting = memory.mappings.get(mapping);
            let unclaimed = waiting.unclaimed();
            if let Some(facts) = waiting.facts {
                memory.exchanges.get_mut(facts).reach(share, turned);
            }
            is_next_gone = unclaimed < costs::CLAIMED_LEAST
                || share >= costs::REACHED && unclaimed < costs::REACHED_LEFT;
            if is_next_gone {
                memory.claim(mapping, 1.0);
            }
        }
        // Nothing was found of the order where all weights are 0.
        let others = if total > 0.0 { self.ordered } else { 0 };
        for mapping in &self.mappings[others..] {
            if memory.mappings.get(mapping.mapping).unclaimed() < costs::CLAIMED_LEAST {
                memory.claim(mapping.mapping, 1.0);
            }
        }
        (self.ends, self.turned) = (ends, turned);
        last
    }

    /// Sets the weights of all pairs with mappings claimed or passed by earlier lines, and of lines without a mapping in
    /// order.
    pub(super) fn weigh_passed(&mut self, memory: &Memory, server: &LearntServer) {
        let alone_cost =
            if self.keeps { server.alone_in_order_cost() } else { server.alone_cost() };
        self.weigh_back(memory, server);
        let alone = self.lattice.weight(alone_cost);
        for row in 0..self.lines.len() {
            self.set_alone(row, alone);
        }
    }

    /// Sets the weight of a line outside the order, from the weight `alone` of a line without a mapping.
    pub(super) fn set_alone(&mut self, row: usize, alone: f64) {
        let others = (0..self.mappings.len()).map(|place| self.outside(row, place));
        let weight = others.sum::<f64>() + alone;
        self.lattice.set_alone(row, weight);
    }

    /// Finds where the first line begins, and how likely mappings that are not in order have a line to come.
    pub(super) fn weigh_back(&mut self, memory: &Memory, server: &LearntServer) {
        refill(&mut self.back, self.ordered, 0.0);
        self.back.resize(self.mappings.len(), 1.0);
        if self.keeps {
            self.begin(memory);
            self.find_passed(memory, server);
        }
    }

    /// Sets where the first line begins.
    fn begin(&mut self, memory: &Memory) {
        for mapping in &mut self.mappings {
            let facts = mapping.facts.map(|facts| memory.exchanges.get(facts));
            mapping.reached = facts.map_or(0.0, ExchangeFacts::reached);
            mapping.turned = facts.map_or(0.0, ExchangeFacts::turned);
        }
        let mut after = 0.0_f64;
        for mapping in self.mappings[..self.ordered].iter_mut().rev() {
            after = after.max(mapping.reached);
            mapping.reached = after;
        }
        let mut before = 1.0;
        for (place, mapping) in self.mappings[..self.ordered].iter().enumerate() {
            self.lattice.set_start(place, (before - mapping.reached - mapping.turned).max(0.0));
            self.lattice.set_turned(place, mapping.turned);
            before = mapping.reached;
        }
        self.lattice.set_start(self.ordered, before);
    }

    /// Finds how likely mappings that were passed still have a line to come.
    fn find_passed(&mut self, memory: &Memory, server: &LearntServer) {
        let in_order = &self.mappings[..self.ordered];
        let next = in_order.iter().find(|it| it.reached < 0.5).or_else(|| in_order.last());
        let Some(other) = next.and_then(|it| it.facts) else { return };
        let time = next.map_or(Timestamp::MIN, |it| it.time);
        let asked = |facts| memory.exchanges.get(facts).asked;
        for (place, mapping) in self.mappings.iter().enumerate().skip(self.ordered) {
            let Some(one) = mapping.facts.filter(|_| mapping.reached > 0.0) else { continue };
            let gap = time.micros_since(mapping.time);
            let crossed = server.end_order.crossed(gap, asked(other) < asked(one)).min(1.0);
            let unclaimed = memory.mappings.get(mapping.mapping).unclaimed();
            self.back[place] = mapping.reached * unclaimed * crossed;
        }
    }

    /// Returns the weight of a pair out of order.
    fn outside(&self, row: usize, place: usize) -> f64 {
        let back = self.back[place];
        if back <= 0.0 { 0.0 } else { self.weight(row, place) * back }
    }

    /// Finds the shares of the first lines.
    pub(super) fn find_shares(&mut self, lines: usize) {
        let width = self.mappings.len();
        refill(&mut self.shares, self.lines.len() * width, 0.0);
        for row in 0..lines.min(self.lines.len()) {
            let alone = self.lattice.share_alone(row) / self.lattice.alone_weight(row);
            for place in 0..width {
                let in_order =
                    if place < self.ordered { self.lattice.share(row, place) } else { 0.0 };
                self.shares[row * width + place] = in_order + self.outside(row, place) * alone;
            }
        }
    }

    /// Returns the probability that a line, one of the first, takes a mapping.
    pub(super) fn share(&self, row: usize, place: usize) -> f64 {
        self.shares[row * self.mappings.len() + place]
    }

    /// Returns the probability that a line has no mapping.
    pub(super) fn nobody(&self, row: usize) -> f64 {
        let alone = self.lattice.share_alone(row);
        let others = (0..self.mappings.len()).map(|place| self.outside(row, place));
        alone * (1.0 - others.sum::<f64>() / self.lattice.alone_weight(row))
    }
}
