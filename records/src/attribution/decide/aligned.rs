//! Alignment: the probability that a line belongs to a mapping, by the share of all alignments of the group's
//! lines with its mappings. For servers that log in a known order.
//!
//! What speaks for a pair is the delay as learnt from pairs that are hardly in doubt; status and size, as often
//! as the server's lines agree in them; the User-Agent; and where the exchange ended against the exchange of
//! the line that was logged before. Mappings that are left over cost as much as they are rare at the server.

use super::lattice::refill;
use super::pair;
use super::window::{DecisionWindow, WindowLine, WindowMapping, WindowStanding};
use crate::attribution::costs;
use crate::attribution::learnt::Learnt;
use crate::attribution::learnt::end_order::SureEnd;
use crate::attribution::learnt::server::LearntServer;
use crate::attribution::line::{HeldLine, LineNumber};
use crate::attribution::memory::Memory;
use crate::attribution::memory::facts::ExchangeFacts;
use crate::attribution::memory::mappings::{GroupSlot, WaitingMapping};
use crate::attribution::queue::{EarlyVerdict, LineQueue};
use crate::attribution::verdict::LineVerdict;
use crate::time::{Resolution, Timestamp};

/// Decides the oldest held line by the shares of all alignments of the group's lines with its mappings.
pub(super) fn decide<T>(
    queue: &mut LineQueue<T>,
    memory: &mut Memory,
    learnt: &mut Learnt,
    window: &mut DecisionWindow,
    group: GroupSlot,
) -> LineVerdict {
    window.fill_in_order(queue, memory, learnt, group);
    let pairs = window.lines.iter().zip(&window.lines[1..]);
    let server = &mut learnt.servers[window.lines[0].line.server as usize];
    pairs.for_each(|(one, later)| server.stamped.learn_order(&one.line, &later.line));
    window.weigh_in_order(memory, learnt, group);
    let most = if window.is_crowded() { costs::LATTICE_DECIDED } else { 1 };
    window.lattice.solve(most);
    window.find_shares(most);
    let mut decided = 0;
    let first = window.decide_lines(queue, memory, most, |window, memory, place, next| {
        decided = place + 1;
        window.decide_line(memory, learnt, place, next)
    });
    if window.keeps {
        window.keep_reached(memory, decided);
    }
    first.verdict
}

impl DecisionWindow {
    /// Decides a line of the window, the first of the group, by the line's shares; `next` is the following line of the group.
    pub(super) fn decide_line(
        &mut self,
        memory: &mut Memory,
        learnt: &mut Learnt,
        place: usize,
        next: Option<LineNumber>,
    ) -> EarlyVerdict {
        let WindowLine { line, group, .. } = self.lines[place];
        let server = line.server as usize;
        learnt.servers[server].left_over.learn_line(self.nobody(place).clamp(0.0, 1.0));
        let shares = (0..self.mappings.len()).map(|it| (it, self.share(place, it)));
        let best = self.best(self.none_left(place), shares);
        let before = memory.mappings.count_stamp(group, line.time);
        let Some((chosen, share)) = best else {
            let verdict = self.leave_unmatched(memory, group, next);
            if self.keeps {
                self.claim_parts(memory, place);
            }
            return EarlyVerdict { verdict, ended: None };
        };
        let doubted =
            if self.keeps { share } else { learnt.servers[server].doubt_order(share, before) };
        let verdict = self.judge_share(memory, learnt, group, place, chosen, share);
        let verdict = if doubted < share { verdict.in_doubt(doubted) } else { verdict };
        let mapping = self.mappings[chosen];
        let is_ended = mapping.facts.is_some() && !mapping.deferred;
        let mut ended = None;
        if is_ended && share >= learnt.servers[server].teaches() {
            let life = mapping.facts.map(|it| memory.exchanges.get(it).life(mapping.time));
            ended = life.map(|life| SureEnd {
                ended: learnt.servers[server].stamped.place(life),
                asked: life.asked,
                group: Some(group),
                origin: line.origin,
                stamp: line.time,
            });
        }
        self.take_in_order(memory, (group, next), place, chosen);
        if let Some(ended) = ended.filter(|_| place == 0) {
            learnt.servers[server].advance_to(ended);
        }
        EarlyVerdict { verdict, ended }
    }

    /// Takes the group's first lines into the window, its mappings in order, and some that are in no order.
    fn fill_in_order<T>(
        &mut self,
        queue: &LineQueue<T>,
        memory: &Memory,
        learnt: &Learnt,
        group: GroupSlot,
    ) {
        // Lines of different files are in no order.
        let origin = queue.front_line().origin;
        let lines = queue.lines_of_group(memory.mappings.group(group).first_line);
        self.lines.clear();
        self.groups.clear();
        self.others.clear();
        for (number, &line) in lines.take(costs::LATTICE_SCAN_LINES) {
            let is_alone = self.others.is_empty();
            let most = if is_alone { costs::LATTICE_LINES_KEPT } else { costs::LATTICE_LINES };
            if line.origin != origin && self.lines.len() <= costs::LATTICE_LINES {
                self.others.push(line);
            } else if line.origin == origin && self.lines.len() < most {
                self.lines.push(WindowLine { number, line, group });
            } else {
                break;
            }
        }
        self.mappings.clear();
        self.complete = true;
        let first = self.lines[0].line;
        let server = &learnt.servers[first.server as usize];
        let has_fresh = memory.mappings.first_fresh(group).is_some();
        // With fine stamps, delays tell more than what earlier lines reached. Lines of several files are in no order, and
        // among many lines without a mapping order tells little.
        self.keeps = has_fresh
            && first.resolution == Resolution::Second
            && self.others.is_empty()
            && server.logs_ends_in_order()
            && server.flows.alone_unexpected() < costs::ALONE_KEPT;
        let (lines, limit) = if self.keeps {
            (costs::LATTICE_LINES_KEPT, costs::LATTICE_MAPPINGS_KEPT)
        } else {
            (costs::LATTICE_LINES, costs::LATTICE_MAPPINGS)
        };
        self.lines.truncate(lines);
        self.most_lines = lines;
        let latest = self.lines.last().map_or(first, |last| last.line);
        self.ordered = 0;
        let oldest = first.time.offset_by(-server.longest_end(&first));
        let fresh = memory.mappings.fresh(group).take(costs::LATTICE_SCAN);
        let old = fresh.take_while(|&it| memory.mappings.get(it).time < oldest).count();
        let left_out = if has_fresh { old.saturating_sub(costs::LATTICE_OLD) } else { 0 };
        self.complete &= left_out == 0;
        let mut passed = std::mem::take(&mut self.passed);
        passed.clear();
        let candidates = memory.mappings.candidates(group).skip(left_out);
        for (step, mapping) in candidates.enumerate() {
            let waiting = memory.mappings.get(mapping);
            let is_ordered = !waiting.deferred || !has_fresh;
            let most = if is_ordered { limit } else { self.ordered + costs::LATTICE_OTHERS };
            if step == costs::GROUP_SCAN {
                self.complete = false;
                break;
            }
            if self.mappings.len() >= most {
                self.complete = false;
                if is_ordered {
                    continue;
                }
                break;
            }
            let facts = waiting.facts.filter(|_| self.keeps && is_ordered);
            if facts.is_some_and(|it| memory.exchanges.get(it).reached() >= costs::REACHED) {
                passed.push(mapping);
                continue;
            }
            let is_other = |it: &WindowLine| pair::differs(memory, server, waiting, &it.line);
            if memory.cannot_be(waiting, &latest) || self.lines.iter().all(is_other) {
                continue;
            }
            self.mappings.push(WindowMapping::new(mapping, waiting, first.resolution));
            self.ordered += usize::from(is_ordered);
        }
        self.sort_mappings(memory, server);
        for &mapping in passed.iter().rev().take(costs::LATTICE_OTHERS) {
            let waiting = memory.mappings.get(mapping);
            self.mappings.push(WindowMapping::new(mapping, waiting, first.resolution));
        }
        self.passed = passed;
        // Where the last mapping is too young for the first line, so are the mappings behind it.
        if let Some(last) = self.mappings[..self.ordered].last() {
            let delay = first.time.micros_since(last.time);
            self.complete |= delay < 0 && !server.is_ordinary(delay);
        }
    }

    /// Puts mappings in the order of their lines. Where lines come by their stamps, and stamps name starts, exchanges
    /// are in the order of the seconds in which they began.
    fn sort_mappings(&mut self, memory: &Memory, server: &LearntServer) {
        let mappings = &mut self.mappings[..self.ordered];
        if !server.stamped.orders_starts() {
            mappings.sort_by_key(|mapping| mapping.time);
            return;
        }
        let step = Resolution::Second.micros();
        mappings.sort_by_key(|mapping| {
            let asked = mapping.facts.map(|facts| memory.exchanges.get(facts).asked);
            (asked.unwrap_or(mapping.time).as_micros().div_euclid(step), mapping.time)
        });
    }

    /// Whether the window has as many lines as it can hold.
    const fn is_full(&self) -> bool {
        self.lines.len() >= self.most_lines
    }

    /// Whether several lines are decided at once: the first of the group, without any between them.
    fn is_crowded(&self) -> bool {
        self.is_full() && self.others.is_empty()
    }

    /// Sets the weights of all parts of an alignment.
    fn weigh_in_order(&mut self, memory: &Memory, learnt: &Learnt, group: GroupSlot) {
        let server = &learnt.servers[self.lines[0].line.server as usize];
        self.reset_weights();
        self.weigh_pairs(memory, learnt, group);
        self.weigh_mappings(memory, server);
        self.weigh_passed(memory, server);
    }

    /// Starts a new alignment of the lines and mappings.
    pub(super) fn reset_weights(&mut self) {
        let cells = self.lines.len() * self.mappings.len();
        refill(&mut self.costs, cells, costs::LATTICE_WORST);
        self.lattice.reset(self.lines.len(), self.ordered);
        for (row, pair) in self.lines.windows(2).enumerate() {
            self.lattice.set_together(row, pair[0].line.time == pair[1].line.time);
        }
    }

    fn weigh_pairs(&mut self, memory: &Memory, learnt: &Learnt, group: GroupSlot) {
        let server = &learnt.servers[self.lines[0].line.server as usize];
        let has_fresh = memory.mappings.first_fresh(group).is_some();
        for place in 0..self.mappings.len() {
            let mapping = self.mappings[place];
            let waiting = memory.mappings.get(mapping.mapping);
            let left = mapping.deferred && is_ended(memory, waiting);
            let more = if left { costs::DEFERRED } else { 0 };
            let Some(facts) = mapping.facts.map(|facts| memory.exchanges.get(facts)) else {
                continue;
            };
            for row in 0..self.lines.len() {
                let line = &self.lines[row].line;
                if pair::cannot_be(memory, server, waiting, line) {
                    continue;
                }
                let cost = if facts.ended || has_fresh {
                    cost_of_end(server, facts, line, mapping.time)
                        + advance_cost(server, facts, line, &mapping, row == 0)
                } else {
                    server.agreement.cost(facts, line)
                };
                self.set_cost(row, place, cost + more);
            }
        }
    }

    pub(super) fn set_cost(&mut self, row: usize, place: usize, cost: i64) {
        self.costs[row * self.mappings.len() + place] = cost;
        if place < self.ordered {
            self.lattice.set_pair(row, place, cost);
        }
    }

    /// Sets the weights of mappings that are left over, still open, or crossed.
    pub(super) fn weigh_mappings(&mut self, memory: &Memory, server: &LearntServer) {
        let first = self.lines[0].line;
        let is_coarse = first.resolution == Resolution::Second;
        // Delays say in what order lines of different stamps are.
        let is_fine = !is_coarse && server.delays.is_settled();
        // More lines of the window's last stamp may follow.
        let step = if self.is_full() { first.resolution.micros() } else { 0 };
        let horizon = if self.is_full() {
            self.lines.last().map_or(first.time, |last| last.line.time)
        } else {
            memory.now.max(first.time)
        };
        let horizon = horizon.offset_by(-step);
        let usual = if self.keeps { server.left_over_at(first.time) } else { server.left_over() };
        let count = |lines: usize| f64::from(u32::try_from(lines).unwrap_or(u32::MAX));
        let to_others = count(self.others.len()) / count(self.others.len() + self.lines.len());
        for place in 0..self.ordered {
            let mapping = &self.mappings[place];
            let waited = horizon.micros_since(mapping.time);
            let saved = if is_coarse {
                server.span_of_ends(&first).saved(waited)
            } else {
                server.delays.saved(waited)
            };
            let waiting = memory.mappings.get(mapping.mapping);
            // The mapping may belong to a line of another file.
            let is_others = |it: &HeldLine| !pair::differs(memory, server, waiting, it);
            let left = if self.others.iter().any(is_others) { usual.max(to_others) } else { usual };
            let open = self.lattice.weight(saved).max(left);
            let is_ended = is_ended(memory, waiting);
            let (left, open) = match (mapping.deferred, is_ended) {
                (false, _) => (left, open),
                (true, true) => (1.0, 1.0),
                (true, false) => (left, 1.0),
            };
            self.lattice.set_mapping(place, left, open);
            if place + 1 < self.ordered {
                let crossed = self.crossed(memory, server, place);
                let apart = if is_fine && crossed > 0.0 { costs::CROSSED_FINE } else { crossed };
                self.lattice.set_crossed(place, crossed, apart);
            }
        }
    }

    /// Returns the weight of crossing a mapping with the next.
    fn crossed(&self, memory: &Memory, server: &LearntServer, place: usize) -> f64 {
        let (one, other) = (&self.mappings[place], &self.mappings[place + 1]);
        let (Some(first), Some(second)) = (one.facts, other.facts) else {
            return 0.0;
        };
        let asked = |facts| memory.exchanges.get(facts).asked;
        let gap = other.time.micros_since(one.time);
        let crossed = server.end_order.crossed(gap, asked(second) < asked(first));
        let more =
            if self.groups.is_empty() { costs::CROSSED_MORE } else { costs::CROSSED_IN_SEQUENCE };
        if self.keeps { crossed * more } else { crossed }
    }

    /// Returns the weight of a pair by itself.
    pub(super) fn weight(&self, row: usize, place: usize) -> f64 {
        let cost = self.costs[row * self.mappings.len() + place];
        if cost < costs::LATTICE_WORST { self.lattice.weight(cost) } else { 0.0 }
    }

    /// Returns the probability that a line has none of the mappings that earlier lines left.
    fn none_left(&self, row: usize) -> f64 {
        let open = self.mappings.iter().enumerate();
        let open = open.filter(|(_, it)| it.standing != WindowStanding::Taken);
        1.0 - open.map(|(place, _)| self.share(row, place)).sum::<f64>()
    }
}

/// Returns the cost of a line beside an exchange that ended then, with this status and size.
pub(super) fn cost_of_end(
    server: &LearntServer,
    facts: &ExchangeFacts,
    line: &HeldLine,
    ended: Timestamp,
) -> i64 {
    let delay =
        if !facts.ended { costs::END_UNSEEN } else { server.end_cost(line, facts.life(ended)) };
    let delay = if facts.is_cut() { delay.min(costs::END_UNSEEN) } else { delay };
    // A line does not come before its request.
    let early = facts.asked.micros_since(line.time) - line.resolution.micros();
    let delay = if early > costs::ASKED_AFTER { delay + costs::ASKED_TOO_LATE } else { delay };
    delay + server.agreement.cost(facts, line)
}

/// Returns the cost of the end of an exchange against the end of the exchange of the line logged before.
fn advance_cost(
    server: &LearntServer,
    facts: &ExchangeFacts,
    line: &HeldLine,
    mapping: &WindowMapping,
    is_next: bool,
) -> i64 {
    if facts.ended && !facts.is_cut() {
        server.advance_cost(line, server.stamped.place(facts.life(mapping.time)), is_next)
    } else {
        0
    }
}

/// Whether the exchange of a mapping has ended, or nothing is known of it.
fn is_ended(memory: &Memory, waiting: &WaitingMapping) -> bool {
    waiting.facts.is_none_or(|facts| memory.exchanges.get(facts).ended)
}
