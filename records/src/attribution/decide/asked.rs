//! Lines and mappings that tell only when a request was asked: the probability that a line belongs to a mapping, by
//! the share of all ways to give each line of the group a mapping of its own.
//!
//! What speaks for a pair is the delay, as learnt from certain pairs; where stamps are too coarse to tell it, the places of
//! line and mapping in the server's order; and the User-Agent. A mapping is not taken at once by the line that most
//! likely has it: it stays a candidate of later lines, as likely as it is left.

use super::asked_costs::{AskedCost, AskedCosts, IMPOSSIBLE};
use super::pair;
use super::window::{DecisionWindow, WindowLine, WindowMapping, WindowStanding, thousandths};
use crate::attribution::costs;
use crate::attribution::learnt::Learnt;
use crate::attribution::learnt::user_agents::{UserAgentProfiles, guess_weight};
use crate::attribution::line::{HeldLine, LineNumber, OrderPlace};
use crate::attribution::memory::Memory;
use crate::attribution::memory::mappings::{GroupSlot, MappingMark, MappingSlot};
use crate::attribution::queue::{EarlyVerdict, LineQueue};
use crate::attribution::verdict::{Certainty, LineVerdict, MatchConfidence};
use crate::time::Timestamp;

/// Decides the oldest held line, which waits in `group`; where more lines wait than are weighed together, some more.
pub(super) fn decide<T>(
    queue: &mut LineQueue<T>,
    memory: &mut Memory,
    learnt: &mut Learnt,
    window: &mut DecisionWindow,
    group: GroupSlot,
) -> LineVerdict {
    let line = queue.front_line();
    let server = &learnt.servers[line.server as usize];
    let pairs = AskedCosts::of(server, memory, group, &line);
    window.fill_asked(queue, memory, &pairs, group);
    window.weigh_asked(memory, learnt, &pairs, group);
    window.matching.solve();
    let most = window.decided(memory);
    let first = window.decide_lines(queue, memory, most, |window, memory, place, next| {
        let line = window.lines[place].line;
        let nobody = window.nobody_asked(place);
        let alone = if nobody > costs::ALONE_CLEARLY { 1.0 } else { 0.0 };
        learnt.servers[line.server as usize].left_over.learn_line(alone);
        let pairs = window.matching.pairs(place).iter();
        let best = window.best(nobody, pairs.map(|pair| (pair.mapping, pair.share)));
        let verdict = if let Some((chosen, share)) = best {
            let verdict = window.judge_share(memory, learnt, group, place, chosen, share);
            window.teach(memory, learnt, place, chosen);
            window.claim(memory, (group, next), place, chosen);
            verdict
        } else {
            window.leave_unmatched(memory, group, next)
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
        pairs: &AskedCosts<'_>,
        group: GroupSlot,
    ) {
        let lines = queue.lines_of_group(memory.mappings.group(group).first_line);
        let lines = lines.take(costs::ASKED_LINES);
        self.lines.clear();
        self.lines.extend(lines.map(|(number, &line)| WindowLine { number, line, group }));
        // Later lines tell little about those that are decided now.
        self.lines.truncate(self.due(memory) + costs::ASKED_AHEAD);
        self.mappings.clear();
        self.elsewhere = 0.0;
        let first = self.lines[0].line;
        let latest = self.lines.last().map_or(first, |last| last.line);
        let mut older = std::mem::take(&mut self.older);
        older.clear();
        let mut scanned = true;
        for (step, mapping) in memory.mappings.fresh(group).enumerate() {
            if step == costs::LATTICE_SCAN {
                scanned = false;
                break;
            }
            let waiting = memory.mappings.get(mapping);
            if pair::is_too_young(memory, pairs.server, waiting, &latest) {
                break;
            }
            let time = waiting.time_beside(first.resolution);
            if time <= first.time {
                if memory.cannot_be(waiting, &first) {
                    continue;
                }
                older.push((pairs.of_span(waiting, &first, &latest), mapping));
            } else if self.mappings.len() < costs::ASKED_YOUNGER {
                self.mappings.push(WindowMapping::new(mapping, waiting, first.resolution));
            } else {
                self.drop_lines_after(time);
                break;
            }
        }
        let mut next = memory.mappings.last_deferred(group);
        for _ in 0..costs::LATTICE_OTHERS {
            let Some(mapping) = next else { break };
            let waiting = memory.mappings.get(mapping);
            if !memory.cannot_be(waiting, &first) {
                older.push((pairs.of_pair(waiting, &first), mapping));
            }
            next = waiting.before();
        }
        self.complete = scanned && next.is_none();
        self.take_older(memory, &first, &mut older);
        self.older = older;
        self.mappings.sort_by_key(|mapping| mapping.time);
        self.has_more = self.lines.len() < memory.mappings.group(group).lines as usize;
    }

    /// Takes the likeliest mappings of the first line into the window, of the earlier ones.
    fn take_older(
        &mut self,
        memory: &Memory,
        first: &HeldLine,
        older: &mut Vec<(i64, MappingSlot)>,
    ) {
        let possible = older.len();
        let least = older.iter().map(|&(cost, _)| cost).min().unwrap_or(0);
        let dear = costs::ASKED_DEAR.max(least + costs::ASKED_DEARER);
        older.retain(|&(cost, _)| cost < dear);
        self.complete &= older.len() == possible;
        if older.len() > costs::ASKED_OLDER {
            older.sort_unstable_by_key(|&(cost, _)| cost);
        }
        for (place, &(cost, mapping)) in older.iter().enumerate() {
            let waiting = memory.mappings.get(mapping);
            if place < costs::ASKED_OLDER {
                self.mappings.push(WindowMapping::new(mapping, waiting, first.resolution));
            } else {
                self.complete = false;
                self.elsewhere += self.lattice.weight(cost) * waiting.unclaimed();
            }
        }
    }

    /// Leaves lines to later windows that may have mappings from this time on; not the first.
    fn drop_lines_after(&mut self, time: Timestamp) {
        let before = self.lines.iter().take_while(|it| it.line.time < time).count();
        self.lines.truncate(before.max(1));
    }

    /// Returns how many lines are decided together, at most.
    fn decided(&self, memory: &Memory) -> usize {
        let due = self.due(memory);
        if self.lines.len() == costs::ASKED_LINES { due.min(costs::ASKED_DECIDED) } else { due }
    }

    /// Sets the weights of all pairs, and of lines and mappings that are left over.
    fn weigh_asked(
        &mut self,
        memory: &Memory,
        learnt: &Learnt,
        pairs: &AskedCosts<'_>,
        group: GroupSlot,
    ) {
        self.rarities.clear();
        let agents = self.lines.iter().map(|it| it.line.user_agent);
        self.rarities.extend(agents.map(|agent| learnt.profiles.rarity(agent)));
        self.profiles.clear();
        let clients = self.mappings.iter().map(|it| it.client_hash);
        self.profiles.extend(clients.map(|client| learnt.profiles.known(client)));
        self.unclaimed.clear();
        let unclaimed = self.mappings.iter().map(|it| memory.mappings.get(it.mapping).unclaimed());
        self.unclaimed.extend(unclaimed);
        let last = self.lines[self.lines.len() - 1].line;
        let now = if self.has_more { last.time } else { memory.now.max(last.time) };
        let left_over = pairs.server.left_over();
        self.matching.reset(self.mappings.iter().zip(&self.unclaimed).map(|(it, unclaimed)| {
            let waited = now.micros_since(it.time);
            let later = self.lattice.weight(pairs.server.delays.saved(waited));
            let left = left_over + (1.0 - left_over) * later;
            1.0 - unclaimed + unclaimed * left
        }));
        let alone = pairs.alone_cost(group, self.lines[0].line.resolution);
        self.window_costs.reset();
        self.by_time.clear();
        let decided = self.decided(memory);
        for row in 0..self.lines.len() {
            let dear = self.find_asked_costs(pairs, &learnt.profiles, row);
            let by_time = (row < decided).then_some(alone);
            self.find_shares_by_time(row, dear, by_time);
            let surprise = i64::from(self.rarities[row].surprise);
            let elsewhere = self.elsewhere * self.lattice.weight(surprise);
            let weight = self.lattice.weight(alone + surprise);
            let near = self.asked_costs.iter().filter(|it| it.cost < dear);
            let near = near.map(|it| {
                let unclaimed = self.unclaimed[it.mapping];
                (it.mapping, self.lattice.weight(it.cost) * unclaimed * (1.0 - left_over))
            });
            self.matching.add_line(near, weight + elsewhere);
        }
        self.alone = self.lattice.weight(alone);
    }

    /// Finds the mappings that a line may have, with their costs, and returns from which cost on they are too dear beside
    /// the cheapest.
    fn find_asked_costs(
        &mut self,
        pairs: &AskedCosts<'_>,
        profiles: &UserAgentProfiles,
        row: usize,
    ) -> i64 {
        let (line, rarity) = (&self.lines[row].line, &self.rarities[row]);
        self.asked_costs.clear();
        let mut dear = IMPOSSIBLE;
        let costs = self.window_costs.beside(pairs, &self.mappings, line);
        for (mapping, (by_time, client)) in costs.zip(&self.profiles).enumerate() {
            // No User-Agent makes a pair cheaper.
            if by_time >= dear {
                continue;
            }
            let cost = by_time + i64::from(profiles.cost(client, rarity));
            self.asked_costs.push(AskedCost { mapping, cost, by_time });
            dear = dear.min(cost + costs::MATCHING_DEAR);
        }
        dear
    }

    /// Finds the share of each pair of a line by times and places alone, beside this cost of a line without a mapping; for a
    /// line that is not decided yet, or has no User-Agent, there is none to be known.
    fn find_shares_by_time(&mut self, row: usize, dear: i64, alone: Option<i64>) {
        let near = self.asked_costs.iter().filter(|it| it.cost < dear);
        let Some(alone) = alone.filter(|_| self.lines[row].line.user_agent.is_some()) else {
            self.by_time.extend(near.map(|_| 0.0));
            return;
        };
        let weight = |it: &AskedCost| self.lattice.weight(it.by_time) * self.unclaimed[it.mapping];
        let all = self.asked_costs.iter().map(weight).sum::<f64>();
        let all = all + self.lattice.weight(alone) + self.elsewhere;
        self.by_time.extend(near.map(|it| weight(it) / all));
    }

    /// Learns the User-Agent of the chosen client, as far as times and places tell of the pair: what only the User-Agent
    /// tells would confirm itself.
    pub(super) fn learn_profile(
        &self,
        learnt: &mut Learnt,
        row: usize,
        chosen: usize,
        (confidence, share): (MatchConfidence, u16),
    ) {
        let weight = match confidence.certainty {
            Certainty::Certain => costs::PROFILE_CERTAIN,
            _ => guess_weight(share.min(self.share_by_time(row, chosen))),
        };
        if weight > 0 {
            let client = self.mappings[chosen].client_hash;
            learnt.profiles.learn(client, self.lines[row].line.user_agent, weight);
        }
    }

    /// Returns how likely the line has the client of a mapping by times and places alone, in thousandths.
    fn share_by_time(&self, row: usize, chosen: usize) -> u16 {
        let client = self.mappings[chosen].client;
        let shares = &self.by_time[self.matching.first_pair(row)..];
        let of_client = self.matching.pairs(row).iter().zip(shares);
        let of_client = of_client.filter(|(pair, _)| self.mappings[pair.mapping].client == client);
        thousandths(of_client.map(|(_, share)| share).sum())
    }

    /// Returns the probability that a line has no mapping, not even one that is not in the window.
    fn nobody_asked(&self, row: usize) -> f64 {
        let shares = self.matching.pairs(row).iter().map(|pair| pair.share);
        let rest = (1.0 - shares.sum::<f64>()).clamp(0.0, 1.0);
        rest * self.alone / (self.alone + self.elsewhere)
    }

    /// Learns from a pair that nothing but the request tells to be one.
    fn teach(&self, memory: &Memory, learnt: &mut Learnt, row: usize, chosen: usize) {
        let line = &self.lines[row].line;
        let taken = &self.mappings[chosen];
        let is_sole = self.lines.len() == 1
            && self.complete
            && self.unclaimed_beside(memory, chosen) <= costs::TEACHES_BESIDE;
        let is_sure = || {
            self.matching.share(row, chosen) >= costs::FAR_TEACHES
                && self.is_far(memory, row, chosen)
        };
        if is_sole || is_sure() {
            pair::learn_asked(memory, learnt, taken.mapping, line);
            return;
        }
        if self.matching.share(row, chosen) >= costs::DELAYS_GUESSED {
            let delay = line.time.micros_since(taken.time);
            let resolution = line.resolution.max(taken.resolution);
            let server = &mut learnt.servers[line.server as usize];
            server.guess_delay(delay, resolution);
        }
    }

    /// Returns how many other mappings the line could have, and how much of the chosen one is another line's.
    fn unclaimed_beside(&self, memory: &Memory, chosen: usize) -> f64 {
        let taken = self.mappings[chosen].mapping;
        let is_other =
            |it: &&WindowMapping| it.standing == WindowStanding::Possible && it.mapping != taken;
        let others = self.mappings.iter().filter(is_other);
        let beside = others.map(|it| memory.mappings.get(it.mapping).unclaimed()).sum::<f64>();
        beside + 1.0 - memory.mappings.get(taken).unclaimed()
    }

    /// Whether line and mapping are far from all others of the group.
    fn is_far(&self, memory: &Memory, row: usize, chosen: usize) -> bool {
        let is_apart = |one: OrderPlace, other: OrderPlace| {
            one == other || one.after(other).unsigned_abs() >= costs::PLACES_FAR
        };
        let line = self.lines[row].line.place;
        let place = |it: &WindowMapping| memory.mappings.get(it.mapping).place;
        let own = place(&self.mappings[chosen]);
        let open = self.mappings.iter().enumerate();
        let mut open =
            open.filter(|(at, it)| *at == chosen || it.standing != WindowStanding::Taken);
        self.lines[row..].iter().all(|it| is_apart(it.line.place, line))
            && open.all(|(_, it)| is_apart(place(it), own))
    }

    /// Gives the line its mapping, or where that is in doubt, a part of each mapping that the line may have.
    fn claim(
        &mut self,
        memory: &mut Memory,
        (group, next): (GroupSlot, Option<LineNumber>),
        row: usize,
        chosen: usize,
    ) {
        self.mappings[chosen].named = true;
        memory.mappings.get_mut(self.mappings[chosen].mapping).mark = MappingMark::Named;
        if self.matching.share(row, chosen) >= costs::CLAIMED_WHOLE {
            self.mappings[chosen].standing = WindowStanding::Taken;
            memory.consume(group, self.mappings[chosen].mapping, next);
            return;
        }
        for pair in self.matching.pairs(row) {
            let mapping = &mut self.mappings[pair.mapping];
            let is_open = mapping.standing != WindowStanding::Taken;
            if is_open && pair.share > 0.0 && memory.claim(mapping.mapping, pair.share) {
                mapping.standing = WindowStanding::Taken;
            }
        }
        memory.leave_group(group, next);
    }
}
