//! Single-line match: the oldest line of a group by itself, where its own mapping is plain without weighing
//! what the group's other lines would get.
//!
//! It is the best mapping of those whose client usually has the line's User-Agent: lines with another
//! User-Agent have no better match with them, and lines with the same one take them in order. If no client has the User-Agent, the line takes the best mapping that is not
//! reserved for another waiting line.

use super::pair;
use crate::attribution::costs;
use crate::attribution::learnt::Learnt;
use crate::attribution::learnt::user_agents::AgentRarity;
use crate::attribution::line::HeldLine;
use crate::attribution::memory::Memory;
use crate::attribution::memory::client::{AgentHash, ClientHash};
use crate::attribution::memory::mappings::{GroupSlot, MappingSlot, WaitingMapping};
use crate::attribution::odds::weight;
use crate::attribution::queue::LineQueue;
use crate::attribution::verdict::{Certainty, LineVerdict, MatchConfidence, Reason};
use crate::time::{Resolution, Timestamp};

/// The candidates of the oldest line of a group; kept from line to line for their allocation.
#[derive(Default)]
pub(crate) struct SingleLineMatch {
    /// Fresh candidates in time order, then deferred ones.
    found: Vec<MatchCandidate>,
    /// Whether no candidate was left out.
    complete: bool,
    /// A deferred mapping outside the ordinary delays, if there is one.
    spare: Option<MappingSlot>,
}

/// A mapping that the line could have.
#[derive(Clone, Copy)]
struct MatchCandidate {
    mapping: MappingSlot,
    client_hash: ClientHash,
    /// The client's usual User-Agent, if known.
    usual: Option<AgentHash>,
    deferred: bool,
    contested: bool,
    /// Whether another waiting line has a better match with this mapping.
    is_reserved: bool,
    time: Timestamp,
    cost: i64,
}

/// Decides the oldest held line, which waits in `group`, if its mapping is plain.
pub(super) fn decide<T>(
    queue: &LineQueue<T>,
    memory: &mut Memory,
    learnt: &mut Learnt,
    single: &mut SingleLineMatch,
    group: GroupSlot,
) -> Option<LineVerdict> {
    let line = queue.front_line();
    let crossed = learnt.servers[line.server as usize].order.crossing_cost();
    line.user_agent?;
    let rarity = learnt.profiles.rarity(line.user_agent);
    single.find(memory, learnt, &line, group);
    if queue.first().get().is_multiple_of(costs::ORDER_WATCHED) {
        watch_order(queue, learnt, &line, single);
    }
    let best = single.best_by_agent(memory, learnt, &line, &rarity, crossed);
    let (chosen, basis) = if let Some(best) = best {
        (best, MatchBasis::UserAgent)
    } else if line.resolution == Resolution::Second {
        single.reserve(queue);
        match single.best_unreserved() {
            Some(best) => (best, MatchBasis::Unreserved),
            None => return take_spare(queue, memory, &line, single, group),
        }
    } else {
        return None;
    };
    Some(take(queue, memory, learnt, single, group, (chosen, basis)))
}

impl SingleLineMatch {
    /// Finds what the line could have.
    fn find(&mut self, memory: &Memory, learnt: &Learnt, line: &HeldLine, group: GroupSlot) {
        let (earliest, latest) = span_of_candidates(memory, learnt, line);
        self.found.clear();
        (self.complete, self.spare) = (true, None);
        let mut next = memory.mappings.first_fresh(group);
        for _ in 0..costs::GROUP_SCAN {
            let Some(mapping) = next else { break };
            let waiting = memory.mappings.get(mapping);
            if waiting.time > latest {
                // The mappings behind it are younger still.
                next = None;
                break;
            }
            if waiting.time >= earliest {
                if self.found.len() == costs::SINGLE_CANDIDATES {
                    break;
                }
                self.found.push(MatchCandidate::new(mapping, waiting, line.resolution));
            }
            next = waiting.after();
        }
        self.complete = next.is_none();
        next = memory.mappings.last_deferred(group);
        while let Some(mapping) = next {
            let waiting = memory.mappings.get(mapping);
            if waiting.time < earliest || waiting.time > latest {
                self.spare = Some(mapping);
                return;
            }
            if self.found.len() == costs::SINGLE_CANDIDATES {
                self.complete = false;
                return;
            }
            self.found.push(MatchCandidate::new(mapping, waiting, line.resolution));
            next = waiting.before();
        }
    }

    /// Weighs each candidate, and returns the best whose client usually has the line's User-Agent, if that
    /// candidate has no rival.
    fn best_by_agent(
        &mut self,
        memory: &mut Memory,
        learnt: &Learnt,
        line: &HeldLine,
        rarity: &AgentRarity,
        crossed: i64,
    ) -> Option<usize> {
        let chosen = self.weigh(memory, learnt, line, rarity, crossed)?;
        let best = self.found[chosen];
        let is_coarse = line.resolution == Resolution::Second;
        let is_rival = |other: &MatchCandidate| {
            let is_in_order = is_coarse && other.usual == rarity.agent;
            !is_in_order
                && other.cost < best.cost + costs::SINGLE_LEAD
                && other.client_hash != best.client_hash
        };
        (!self.found.iter().any(is_rival)).then_some(chosen)
    }

    /// Sets the cost of each candidate; returns the best whose client usually has the line's User-Agent.
    fn weigh(
        &mut self,
        memory: &mut Memory,
        learnt: &Learnt,
        line: &HeldLine,
        rarity: &AgentRarity,
        crossed: i64,
    ) -> Option<usize> {
        let delays = &learnt.servers[line.server as usize].delays;
        let profiles = &learnt.profiles;
        let now = memory.now.max(line.time);
        let price = if crossed < costs::ORDER_FREE { 0 } else { crossed };
        let (mut last, mut last_cost, mut skipped) = (Timestamp::MIN, 0, 0);
        let (mut best, mut least) = (None, i64::MAX);
        for (place, candidate) in self.found.iter_mut().enumerate() {
            // Coarse stamps make most times of a group equal.
            if candidate.time != last {
                last = candidate.time;
                last_cost = delays.cost(line.time.micros_since(last))
                    - delays.saved(now.micros_since(last));
            }
            if candidate.usual.is_none() {
                candidate.usual = profiles.usual(candidate.client_hash);
                memory.mappings.get_mut(candidate.mapping).usual = candidate.usual;
            }
            candidate.cost = last_cost + skipped;
            if candidate.usual == rarity.agent {
                if candidate.cost < least {
                    (best, least) = (Some(place), candidate.cost);
                }
                skipped += if candidate.deferred { 0 } else { price };
            } else if candidate.usual.is_none() {
                candidate.cost += i64::from(profiles.known(candidate.client_hash).cost(rarity));
                skipped += if candidate.deferred { 0 } else { price };
            } else {
                candidate.cost += costs::OTHER_AGENT + i64::from(rarity.surprise);
            }
        }
        best
    }

    /// Reserves candidates for other lines of the group, by the usual User-Agents of their clients.
    fn reserve<T>(&mut self, queue: &LineQueue<T>) {
        let own = queue.front_line().user_agent;
        let others = queue.lines_of_group(queue.next_of_front()).take(costs::SINGLE_CANDIDATES);
        for (_, other) in others.filter(|(_, other)| other.user_agent != own) {
            let theirs =
                self.found.iter_mut().find(|it| it.usual == other.user_agent && !it.is_reserved);
            if let Some(theirs) = theirs {
                theirs.is_reserved = true;
            }
        }
    }

    /// Returns the best candidate that is not reserved. Among the leftovers of an earlier mistake
    /// the best is often the oldest, so that one mistake does not bring about the next.
    fn best_unreserved(&self) -> Option<usize> {
        let open = self.found.iter().enumerate().filter(|(_, candidate)| !candidate.is_reserved);
        open.min_by_key(|(_, candidate)| candidate.cost).map(|(place, _)| place)
    }
}

/// Returns the earliest and the latest time of a mapping that the line could have, and that its delay does
/// not rule out.
fn span_of_candidates(memory: &Memory, learnt: &Learnt, line: &HeldLine) -> (Timestamp, Timestamp) {
    let server = line.server as usize;
    let delays = &learnt.servers[server].delays;
    let step = line.resolution.max(memory.servers[server].coarsest).micros();
    let (mut shortest, mut longest) = (1 - memory.wait - step, memory.window);
    if delays.is_settled() {
        let ordinary = delays.ordinary();
        (shortest, longest) = (shortest.max(ordinary.0), longest.min(ordinary.1));
    }
    (line.time.offset_by(-longest), line.time.offset_by(-shortest))
}

/// Takes the deferred mapping that is left over when all candidates are reserved.
fn take_spare<T>(
    queue: &LineQueue<T>,
    memory: &mut Memory,
    line: &HeldLine,
    single: &SingleLineMatch,
    group: GroupSlot,
) -> Option<LineVerdict> {
    let spare = single.spare?;
    let waiting = memory.mappings.get(spare);
    let (client, time) = (waiting.client, waiting.time_beside(line.resolution));
    memory.consume(group, spare, queue.next_of_front());
    let confidence = MatchConfidence::likely(Reason::Order, costs::LEFTOVER_PROBABILITY);
    let delay = Some(line.time.micros_since(time));
    Some(LineVerdict::matched(client, confidence, count(single.found.len() + 1), delay))
}

/// Learns from the first two lines and mappings of a group whether equal requests are answered in order, if
/// the User-Agents show which mapping is whose.
fn watch_order<T>(
    queue: &LineQueue<T>,
    learnt: &mut Learnt,
    line: &HeldLine,
    single: &SingleLineMatch,
) {
    let [a, b, ..] = &*single.found else { return };
    let Some((_, second)) = queue.lines_of_group(queue.next_of_front()).next() else { return };
    if second.user_agent == line.user_agent || a.client_hash == b.client_hash {
        return;
    }
    let usual = |it: &MatchCandidate| learnt.profiles.usual(it.client_hash);
    let (first_usual, second_usual) = (usual(a), usual(b));
    let is_straight = (first_usual, second_usual) == (line.user_agent, second.user_agent);
    let is_crossed = (second_usual, first_usual) == (line.user_agent, second.user_agent);
    let is_known = first_usual.is_some() && second_usual.is_some() && (is_straight || is_crossed);
    if !is_known || a.deferred || b.deferred || b.time > line.time {
        return;
    }
    let server = &mut learnt.servers[line.server as usize];
    let delay = |line: &HeldLine, mapping: &MatchCandidate| {
        server.delays.cost(line.time.micros_since(mapping.time))
    };
    let against = delay(line, b) + delay(second, a) - delay(line, a) - delay(second, b);
    server.order.learn(is_crossed, against);
}

/// Takes the chosen candidate, and judges how sure it is.
fn take<T>(
    queue: &LineQueue<T>,
    memory: &mut Memory,
    learnt: &mut Learnt,
    single: &SingleLineMatch,
    group: GroupSlot,
    (place, basis): (usize, MatchBasis),
) -> LineVerdict {
    let line = &queue.front_line();
    let found = &*single.found;
    let chosen = found[place];
    let client = memory.mappings.get(chosen.mapping).client;
    let members = memory.mappings.group(group);
    let short = members.lines > members.mappings;
    let same = (single.complete || !members.mixed)
        && found.iter().enumerate().all(|(other, candidate)| {
            candidate.client_hash == chosen.client_hash
                && (other == place || !candidate.contested)
                && memory.mappings.get(candidate.mapping).client == client
        });
    let delay = line.time.micros_since(chosen.time);
    let server = line.server as usize;
    let is_doubtful = short
        || chosen.contested
        || learnt.servers[server].misses_mappings(&memory.servers[server])
        || pair::may_be_tls(memory, line);
    let confidence = match (same, is_doubtful) {
        (true, false) if found.len() == 1 => MatchConfidence::certain(Reason::Only),
        (true, false) => MatchConfidence::certain(Reason::SameClient),
        (true, true) => {
            let probability = pair::doubtful_probability(learnt, chosen.client_hash, None, line);
            MatchConfidence::likely(Reason::Doubtful, probability)
        }
        (false, _) => {
            MatchConfidence::likely(basis.reason(), MatchBasis::probability(found, chosen))
        }
    };
    if !same {
        for candidate in found.iter().filter(|candidate| !candidate.contested) {
            memory.mappings.contest(candidate.mapping);
        }
    }
    learn(memory, learnt, line, &chosen, confidence);
    memory.consume(group, chosen.mapping, queue.next_of_front());
    LineVerdict::matched(client, confidence, count(found.len()), Some(delay))
}

/// Learns from the chosen candidate; an improbable match teaches nothing.
fn learn(
    memory: &Memory,
    learnt: &mut Learnt,
    line: &HeldLine,
    chosen: &MatchCandidate,
    confidence: MatchConfidence,
) {
    let half = costs::PROFILE_CERTAIN / 2;
    if confidence.certainty == Certainty::Certain {
        pair::learn(memory, learnt, chosen.mapping, line, costs::PROFILE_CERTAIN);
    } else if confidence.probability >= costs::GUESS_TEACHES {
        pair::learn(memory, learnt, chosen.mapping, line, half);
    }
}

fn count(candidates: usize) -> u32 {
    u32::try_from(candidates).expect("bounded by SINGLE_CANDIDATES")
}

impl MatchCandidate {
    const fn new(mapping: MappingSlot, waiting: &WaitingMapping, resolution: Resolution) -> Self {
        Self {
            mapping,
            client_hash: waiting.client_hash,
            usual: waiting.usual,
            deferred: waiting.deferred,
            contested: waiting.contested,
            is_reserved: false,
            time: waiting.time_beside(resolution),
            cost: 0,
        }
    }
}

/// What a match rests on.
#[derive(Clone, Copy)]
enum MatchBasis {
    /// The client usually has the line's User-Agent.
    UserAgent,
    /// No other line has a better match with the mapping.
    Unreserved,
}

impl MatchBasis {
    const fn reason(self) -> Reason {
        match self {
            Self::UserAgent => Reason::UserAgent,
            Self::Unreserved => Reason::Order,
        }
    }

    /// Returns the probability of the choice among several clients, in thousandths: the share of the
    /// evidence for the chosen client.
    fn probability(found: &[MatchCandidate], chosen: MatchCandidate) -> u16 {
        let (mut all, mut chosen_client) = (0, 0);
        for candidate in found {
            let weight = weight(candidate.cost - chosen.cost);
            all += weight;
            chosen_client += if candidate.client_hash == chosen.client_hash { weight } else { 0 };
        }
        let share = u16::try_from(chosen_client * 1_000 / all.max(1));
        share.expect("a part of the whole").clamp(1, costs::GUESS_CEILING)
    }
}
