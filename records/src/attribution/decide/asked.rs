//! Lines of which many are missing, and mappings that tell only when a request was asked: the probability that a line
//! belongs to a mapping, by the share of all ways to give each line of the group a mapping of its own.
//!
//! What speaks for a pair is the delay, as learnt from certain pairs, and the User-Agent; order tells nothing. A mapping is
//! not taken at once by the line that most likely has it: it stays a candidate of later lines, as likely as it is left.

use super::pair;
use super::window::{
    DecisionWindow, WindowLine, WindowMapping, WindowStanding, confidence, is_doubtful,
};
use crate::attribution::costs;
use crate::attribution::learnt::Learnt;
use crate::attribution::learnt::server::LearntServer;
use crate::attribution::learnt::user_agents::guess_weight;
use crate::attribution::line::{HeldLine, LineNumber};
use crate::attribution::memory::Memory;
use crate::attribution::memory::mappings::{GroupSlot, MappingSlot, WaitingMapping};
use crate::attribution::queue::{EarlyVerdict, LineQueue};
use crate::attribution::verdict::LineVerdict;
use crate::time::{Resolution, Timestamp};

/// Decides the oldest held line, which waits in `group`; where more lines wait than are weighed together, some more.
pub(super) fn decide<T>(
    queue: &mut LineQueue<T>,
    memory: &mut Memory,
    learnt: &mut Learnt,
    window: &mut DecisionWindow,
    group: GroupSlot,
) -> LineVerdict {
    window.fill_asked(queue, memory, learnt, group);
    window.weigh_asked(memory, learnt);
    window.matching.solve();
    let most = if window.has_more { window.lines.len().div_ceil(2) } else { window.due(memory) };
    let first = window.decide_lines(queue, memory, most, |window, memory, place, next| {
        let nobody = window.nobody_asked(place);
        let alone = if nobody > costs::ALONE_CLEARLY { 1.0 } else { 0.0 };
        let server = window.lines[place].line.server as usize;
        learnt.servers[server].left_over.learn_line(alone);
        let best = window.best(nobody, |mapping| window.matching.share(place, mapping));
        let verdict = match best {
            Some((chosen, share)) => {
                let verdict = window.judge_asked(memory, learnt, group, (place, chosen), share);
                window.teach(memory, learnt, place, chosen);
                window.claim(memory, (group, next), place, chosen);
                verdict
            }
            None => window.leave_unmatched(memory, group, next),
        };
        EarlyVerdict { verdict, ended: None }
    });
    first.verdict
}

impl DecisionWindow {
    /// Takes the group's first lines into the window, and the mappings that they could have.
    fn fill_asked<T>(
        &mut self,
        queue: &LineQueue<T>,
        memory: &Memory,
        learnt: &Learnt,
        group: GroupSlot,
    ) {
        let lines = queue.lines_of_group(memory.mappings.group(group).first_line);
        let lines = lines.take(costs::LATTICE_LINES);
        self.lines.clear();
        self.lines.extend(lines.map(|(number, &line)| WindowLine { number, line }));
        self.mappings.clear();
        self.elsewhere = 0.0;
        let first = self.lines[0].line;
        let latest = self.lines.last().map_or(first, |last| last.line);
        let server = &learnt.servers[first.server as usize];
        let mut older = std::mem::take(&mut self.older);
        older.clear();
        let mut scanned = true;
        for (step, mapping) in memory.mappings.fresh(group).enumerate() {
            if step == costs::LATTICE_SCAN {
                scanned = false;
                break;
            }
            let waiting = memory.mappings.get(mapping);
            if is_too_young(memory, server, waiting, &latest) {
                break;
            }
            if waiting.time <= first.time {
                older.push((asked_cost(server, waiting, &first), mapping));
            } else if self.mappings.len() < costs::ASKED_YOUNGER {
                self.mappings.push(WindowMapping::new(mapping, waiting, Resolution::Microsecond));
            } else {
                self.drop_lines_after(waiting.time);
                break;
            }
        }
        let mut next = memory.mappings.last_deferred(group);
        for _ in 0..costs::LATTICE_OTHERS {
            let Some(mapping) = next else { break };
            let waiting = memory.mappings.get(mapping);
            older.push((asked_cost(server, waiting, &first), mapping));
            next = waiting.before();
        }
        self.complete = scanned && next.is_none();
        self.take_older(memory, &first, &mut older);
        self.older = older;
        self.mappings.sort_by_key(|mapping| mapping.time);
        self.has_more = self.lines.len() < memory.mappings.group(group).lines as usize;
    }

    /// Takes those mappings into the window that the first line most likely has, of those that came before it.
    fn take_older(
        &mut self,
        memory: &Memory,
        first: &HeldLine,
        older: &mut Vec<(i64, MappingSlot)>,
    ) {
        let is_possible = |mapping| !memory.cannot_be(memory.mappings.get(mapping), first);
        older.retain(|&(_, mapping)| is_possible(mapping));
        let possible = older.len();
        older.retain(|&(cost, _)| cost < costs::ASKED_DEAR);
        self.complete &= older.len() == possible;
        if older.len() > costs::ASKED_OLDER {
            older.sort_unstable_by_key(|&(cost, _)| cost);
        }
        for (place, &(cost, mapping)) in older.iter().enumerate() {
            let waiting = memory.mappings.get(mapping);
            if place < costs::ASKED_OLDER {
                self.mappings.push(WindowMapping::new(mapping, waiting, Resolution::Microsecond));
            } else {
                self.complete = false;
                self.elsewhere += self.lattice.weight(cost) * f64::from(waiting.unclaimed);
            }
        }
    }

    /// Leaves lines to later windows that may have mappings from this time on; not the first.
    fn drop_lines_after(&mut self, time: Timestamp) {
        let before = self.lines.iter().take_while(|it| it.line.time < time).count();
        self.lines.truncate(before.max(1));
    }

    /// Sets the weights of all pairs, and of lines and mappings that are left over.
    fn weigh_asked(&mut self, memory: &Memory, learnt: &Learnt) {
        let server = &learnt.servers[self.lines[0].line.server as usize];
        self.matching.reset(self.lines.len(), self.mappings.len());
        self.rarities.clear();
        let agents = self.lines.iter().map(|it| it.line.user_agent);
        self.rarities.extend(agents.map(|agent| learnt.profiles.rarity(agent)));
        let last = self.lines[self.lines.len() - 1].line;
        let now = if self.has_more { last.time } else { memory.now.max(last.time) };
        let left_over = server.left_over();
        for (place, mapping) in self.mappings.iter().enumerate() {
            let waiting = memory.mappings.get(mapping.mapping);
            let known = learnt.profiles.known(mapping.client_hash);
            let unclaimed = f64::from(waiting.unclaimed);
            for (row, (it, rarity)) in self.lines.iter().zip(&self.rarities).enumerate() {
                if pair::cannot_be(memory, server, waiting, &it.line) {
                    continue;
                }
                let cost = asked_cost(server, waiting, &it.line) + i64::from(known.cost(rarity));
                let weight = self.lattice.weight(cost) * unclaimed * (1.0 - left_over);
                self.matching.set_pair(row, place, weight);
            }
            let waited = now.micros_since(mapping.time);
            let later = self.lattice.weight(server.delays.saved(waited));
            let left = left_over + (1.0 - left_over) * later;
            self.matching.set_left(place, 1.0 - unclaimed + unclaimed * left);
        }
        let alone = server.left_over.alone_cost(server.flows.alone()) + server.delays.peak_cost();
        for (row, rarity) in self.rarities.iter().enumerate() {
            let elsewhere = self.elsewhere * self.lattice.weight(i64::from(rarity.surprise));
            let weight = self.lattice.weight(alone + i64::from(rarity.surprise));
            self.matching.set_alone(row, weight + elsewhere);
        }
        self.alone = self.lattice.weight(alone);
    }

    /// Returns the probability that a line has no mapping, not even one that is not in the window.
    fn nobody_asked(&self, row: usize) -> f64 {
        let shares = (0..self.mappings.len()).map(|mapping| self.matching.share(row, mapping));
        let rest = (1.0 - shares.sum::<f64>()).clamp(0.0, 1.0);
        rest * self.alone / (self.alone + self.elsewhere)
    }

    /// Learns from a pair that nothing but the request tells to be one.
    fn teach(&self, memory: &Memory, learnt: &mut Learnt, row: usize, chosen: usize) {
        let line = &self.lines[row].line;
        let taken = &self.mappings[chosen];
        let is_other = |it: &&WindowMapping| {
            it.standing == WindowStanding::Possible && it.mapping != taken.mapping
        };
        let others = self.mappings.iter().filter(is_other);
        let beside = others.map(|it| memory.mappings.get(it.mapping).unclaimed).sum::<f32>();
        let own = memory.mappings.get(taken.mapping).unclaimed;
        if self.lines.len() == 1 && self.complete && beside + 1.0 - own <= costs::TEACHES_BESIDE {
            pair::learn(memory, learnt, taken.mapping, line, costs::PROFILE_CERTAIN);
        }
    }

    /// Judges how sure the chosen mapping of a line is, learns from the pair, and marks the other candidates.
    fn judge_asked(
        &mut self,
        memory: &mut Memory,
        learnt: &mut Learnt,
        group: GroupSlot,
        (row, chosen): (usize, usize),
        share: u16,
    ) -> LineVerdict {
        let line = self.lines[row].line;
        let (total, same) = self.find_possible(memory, learnt, group, &line, chosen);
        let taken = self.mappings[chosen];
        let fit = learnt.profiles.fit(taken.client_hash, line.user_agent);
        let is_doubtful = is_doubtful(memory, learnt, group, &line, &taken, fit);
        let confidence = confidence((total, same), is_doubtful, fit, share);
        // The best of many guesses teaches a little: wrong ones are spread over all User-Agents.
        learnt.profiles.learn(taken.client_hash, line.user_agent, guess_weight(share).max(1));
        if !same {
            self.contest_others(memory, chosen);
        }
        let delay = line.time.micros_since(taken.time);
        LineVerdict::matched(taken.client, confidence, total.max(1), Some(delay))
    }

    /// Gives the line its mapping, or where that is in doubt, a part of each mapping that the line may have.
    fn claim(
        &mut self,
        memory: &mut Memory,
        (group, next): (GroupSlot, Option<LineNumber>),
        row: usize,
        chosen: usize,
    ) {
        if self.matching.share(row, chosen) >= costs::CLAIMED_WHOLE {
            self.mappings[chosen].standing = WindowStanding::Taken;
            memory.consume(group, self.mappings[chosen].mapping, next);
            return;
        }
        for (place, mapping) in self.mappings.iter_mut().enumerate() {
            if mapping.standing == WindowStanding::Taken {
                continue;
            }
            let part = self.matching.share(row, place);
            if part > 0.0 && memory.claim(mapping.mapping, part) {
                mapping.standing = WindowStanding::Taken;
            }
        }
        memory.leave_group(group, next);
    }
}

/// Returns the cost of a line so long after its request.
fn asked_cost(server: &LearntServer, waiting: &WaitingMapping, line: &HeldLine) -> i64 {
    let resolution = line.resolution.max(waiting.resolution);
    server.unordered_cost(line.time.micros_since(waiting.time), resolution)
}

/// Whether a mapping, and so each later one of the group, comes too late for a line.
fn is_too_young(
    memory: &Memory,
    server: &LearntServer,
    waiting: &WaitingMapping,
    line: &HeldLine,
) -> bool {
    let delay = line.time.micros_since(waiting.time);
    let is_impossible = memory.is_impossible((waiting.time, waiting.resolution), line);
    delay < 0 && (is_impossible || !server.is_ordinary(delay))
}
