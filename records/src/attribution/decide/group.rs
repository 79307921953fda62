//! Assignment window: the cheapest assignment of mappings to the first lines of a group, for servers that
//! answer in no order.

use super::assign::OtherCosts;
use super::pair;
use super::window::{
    DecisionWindow, WindowLine, WindowMapping, WindowStanding, is_doubtful, learn, probability,
};
use crate::attribution::costs;
use crate::attribution::learnt::Learnt;
use crate::attribution::learnt::server::LearntServer;
use crate::attribution::learnt::user_agents::AgentFit;
use crate::attribution::memory::Memory;
use crate::attribution::memory::mappings::{GroupSlot, WaitingMapping};
use crate::attribution::queue::{EarlyVerdict, LineQueue};
use crate::attribution::verdict::{LineVerdict, MatchConfidence, Reason};

/// Decides the oldest held line, which waits in `group`, by the cheapest assignment. Where the group has more
/// lines than the window holds, the first lines are decided at once.
pub(super) fn decide<T>(
    queue: &mut LineQueue<T>,
    memory: &mut Memory,
    learnt: &mut Learnt,
    window: &mut DecisionWindow,
    group: GroupSlot,
) -> LineVerdict {
    window.fill(queue, memory, learnt, group);
    window.weigh(memory, learnt, group);
    window.watch_order(learnt);
    let chosen = window.costs.solve();
    let crowded = window.lines.len() < memory.mappings.group(group).lines as usize;
    let most = if crowded { costs::WINDOW_DECIDED } else { 1 };
    let first = window.decide_lines(queue, memory, most, |window, memory, place, next| {
        let verdict = if let Some(chosen) = chosen[place] {
            let verdict = window.judge(memory, learnt, group, place, chosen);
            memory.consume(group, window.mappings[chosen].mapping, next);
            verdict
        } else {
            window.leave_unmatched(memory, group, next)
        };
        EarlyVerdict { verdict, ended: None }
    });
    first.verdict
}

impl DecisionWindow {
    /// Takes the group's first lines into the window, and the first mappings that these could have. Mappings
    /// with a well-known unusual delay are left out, unless there are no others.
    fn fill<T>(
        &mut self,
        queue: &LineQueue<T>,
        memory: &Memory,
        learnt: &Learnt,
        group: GroupSlot,
    ) {
        let line = queue.front_line();
        let server = &learnt.servers[line.server as usize];
        let delays = &server.delays;
        let lines = queue.lines_of_group(memory.mappings.group(group).first_line);
        let lines = lines.take(costs::WINDOW_LINES);
        self.lines.clear();
        self.lines.extend(lines.map(|(number, &line)| WindowLine { number, line }));
        self.mappings.clear();
        if delays.is_settled() {
            self.fill_mappings(memory, server, group, |waiting| {
                let delay = line.time.micros_since(waiting.time_beside(line.resolution));
                delay <= 0 || !delays.is_unusual(delay)
            });
        }
        if self.mappings.is_empty() {
            self.fill_mappings(memory, server, group, |_| true);
        }
        // Deferred mappings came last, and are older.
        self.mappings.sort_by_key(|mapping| mapping.time);
    }

    fn fill_mappings(
        &mut self,
        memory: &Memory,
        server: &LearntServer,
        group: GroupSlot,
        suits: impl Fn(&WaitingMapping) -> bool,
    ) {
        let first = self.lines[0].line;
        let latest = self.lines.last().map_or(first, |last| last.line);
        self.complete = true;
        for (step, mapping) in memory.mappings.candidates(group).enumerate() {
            if self.mappings.len() == costs::WINDOW_MAPPINGS || step == costs::GROUP_SCAN {
                self.complete = false;
                break;
            }
            let waiting = memory.mappings.get(mapping);
            let is_other = |it: &WindowLine| pair::differs(memory, server, waiting, &it.line);
            if memory.cannot_be(waiting, &latest)
                || !suits(waiting)
                || self.lines.iter().all(is_other)
            {
                continue;
            }
            self.mappings.push(WindowMapping::new(mapping, waiting, first.resolution));
        }
        // Where the last mapping is too young for the first line, so are the mappings behind it.
        if let Some(last) = self.mappings.last() {
            let delay = first.time.micros_since(last.time);
            self.complete |= delay < 0 && !server.is_ordinary(delay);
        }
    }

    /// Sets the cost of each pair in the window.
    fn weigh(&mut self, memory: &Memory, learnt: &Learnt, group: GroupSlot) {
        let horizon = self.horizon(memory, group);
        let Self { lines, mappings, costs: pairs, rarities, .. } = self;
        let server = &learnt.servers[lines[0].line.server as usize];
        let other = OtherCosts {
            unmatched: server.unmatched_cost(),
            crossed: server.order.crossing_cost(),
        };
        let skips = mappings
            .iter()
            .map(|mapping| if mapping.deferred { 0 } else { costs::MAPPING_SKIPPED });
        pairs.reset(lines.len(), skips, other);
        rarities.clear();
        rarities.extend(lines.iter().map(|it| learnt.profiles.rarity(it.line.user_agent)));
        // Coarse stamps make most delays of a group equal.
        let (mut last_delay, mut last_cost) = (0, server.delays.cost(0));
        let mut turn = 0;
        for (place, mapping) in mappings.iter().enumerate() {
            // Where a server keeps order, a line takes a mapping near its own place.
            let near = if other.crossed < costs::ORDER_FREE || mapping.deferred {
                0..lines.len()
            } else {
                turn += 1;
                usize::saturating_sub(turn, costs::PLACES_AHEAD).min(lines.len())
                    ..lines.len().min(turn + costs::PLACES_BEHIND)
            };
            if near.is_empty() {
                continue;
            }
            let known = learnt.profiles.known(mapping.client_hash);
            let waited = horizon.micros_since(mapping.time);
            let saved = server.delays.saved(waited);
            for row in near {
                let (line, rarity) = (&lines[row].line, &rarities[row]);
                let delay = line.time.micros_since(mapping.time);
                if pair::cannot_be(memory, server, memory.mappings.get(mapping.mapping), line) {
                    continue;
                }
                if delay != last_delay {
                    (last_delay, last_cost) = (delay, server.delays.cost(delay));
                }
                pairs.set(row, place, last_cost - saved + i64::from(known.cost(rarity)));
            }
        }
    }

    /// Judges how sure the chosen mapping of a line is, learns from the pair, and marks the other candidates.
    fn judge(
        &mut self,
        memory: &mut Memory,
        learnt: &mut Learnt,
        group: GroupSlot,
        row: usize,
        chosen: usize,
    ) -> LineVerdict {
        let line = self.lines[row].line;
        let (total, same) = self.find_possible(memory, learnt, group, &line, chosen);
        let taken = self.mappings[chosen];
        let delay = line.time.micros_since(taken.time);
        let fit = learnt.profiles.fit(taken.client_hash, line.user_agent);
        let is_doubtful = is_doubtful(memory, learnt, group, &line, &taken, fit);

        // What is learnt about clients rests on the pair alone; order counts for the choice only.
        let mut by_pair = None;
        let confidence = match (same, is_doubtful) {
            (true, false) if total == 1 => MatchConfidence::certain(Reason::Only),
            (true, false) => MatchConfidence::certain(Reason::SameClient),
            (true, true) => {
                let client = taken.client_hash;
                let probability = pair::doubtful_probability(learnt, client, None, &line);
                MatchConfidence::likely(Reason::Doubtful, probability)
            }
            (false, _) => {
                let is_by_agent = fit == AgentFit::Same;
                let reason = if is_by_agent { Reason::UserAgent } else { Reason::Order };
                let order = &learnt.servers[line.server as usize].order;
                let step = order.crossing_cost();
                let pairs = self.costs.of_line(row);
                by_pair = Some(probability(chosen, &self.mappings, pairs, 0));
                MatchConfidence::likely(reason, probability(chosen, &self.mappings, pairs, step))
            }
        };
        let by_pair = by_pair.unwrap_or(confidence.probability);
        learn(memory, learnt, &line, &taken, confidence, by_pair);
        if !same {
            self.contest_others(memory, chosen);
            self.pass_over(memory, group, chosen);
        }
        self.mappings[chosen].standing = WindowStanding::Taken;
        LineVerdict::matched(taken.client, confidence, total.max(1), Some(delay))
    }
}
