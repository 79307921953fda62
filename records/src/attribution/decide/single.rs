//! Single-line match: the oldest line of a group by itself, where its own mapping is plain without weighing
//! what the group's other lines would get: of all clients whose mappings the line could have, only one usually has the
//! line's User-Agent, and nothing speaks for another.

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
}

/// A mapping that the line could have.
#[derive(Clone, Copy)]
struct MatchCandidate {
    mapping: MappingSlot,
    client_hash: ClientHash,
    /// The client's usual User-Agent, if known.
    usual: Option<AgentHash>,
    contested: bool,
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
    line.user_agent?;
    let rarity = learnt.profiles.rarity(line.user_agent);
    single.find(memory, learnt, &line, group);
    let best = single.best_by_agent(memory, learnt, &line, &rarity)?;
    Some(take(queue, memory, learnt, single, group, best))
}

impl SingleLineMatch {
    /// Finds what the line could have.
    fn find(&mut self, memory: &Memory, learnt: &Learnt, line: &HeldLine, group: GroupSlot) {
        let (earliest, latest) = span_of_candidates(memory, learnt, line);
        self.found.clear();
        let mut next = memory.mappings.first_fresh(group);
        for _ in 0..costs::GROUP_SCAN {
            let Some(mapping) = next else { break };
            let waiting = memory.mappings.get(mapping);
            let time = waiting.time_beside(line.resolution);
            if time > latest {
                // The mappings behind it are younger still.
                next = None;
                break;
            }
            if time >= earliest {
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
            let time = waiting.time_beside(line.resolution);
            if time < earliest || time > latest {
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
    ) -> Option<usize> {
        let chosen = self.weigh(memory, learnt, line, rarity)?;
        let best = self.found[chosen];
        let placed = learnt.servers[line.server as usize].places.is_known();
        let is_rival = |other: &MatchCandidate| {
            let is_alike = placed && other.usual == best.usual;
            let lead = if is_alike { costs::SINGLE_LEAD_ALIKE } else { costs::SINGLE_LEAD };
            other.cost < best.cost + lead && other.client_hash != best.client_hash
        };
        let is_plain = memory.mappings.get(best.mapping).is_unclaimed();
        (is_plain && !self.found.iter().any(is_rival)).then_some(chosen)
    }

    /// Sets the cost of each candidate; returns the best whose client usually has the line's User-Agent.
    fn weigh(
        &mut self,
        memory: &mut Memory,
        learnt: &Learnt,
        line: &HeldLine,
        rarity: &AgentRarity,
    ) -> Option<usize> {
        let delays = &learnt.servers[line.server as usize].delays;
        let profiles = &learnt.profiles;
        let now = memory.now.max(line.time);
        let (mut last, mut last_cost) = (Timestamp::MIN, 0);
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
            candidate.cost = last_cost;
            if candidate.usual == rarity.agent {
                if candidate.cost < least {
                    (best, least) = (Some(place), candidate.cost);
                }
            } else if candidate.usual.is_none() {
                let known = profiles.known(candidate.client_hash);
                candidate.cost += i64::from(profiles.cost(&known, rarity));
            } else {
                candidate.cost += costs::OTHER_AGENT + i64::from(rarity.surprise);
            }
        }
        best
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

/// Takes the chosen candidate, and judges how sure it is.
fn take<T>(
    queue: &LineQueue<T>,
    memory: &mut Memory,
    learnt: &mut Learnt,
    single: &SingleLineMatch,
    group: GroupSlot,
    place: usize,
) -> LineVerdict {
    let line = &queue.front_line();
    let found = &*single.found;
    let chosen = found[place];
    let client = memory.mappings.get(chosen.mapping).recorded_client();
    let members = memory.mappings.group(group);
    let short = members.lines > members.mappings;
    let same = (single.complete || !members.mixed)
        && found.iter().enumerate().all(|(other, candidate)| {
            candidate.client_hash == chosen.client_hash
                && (other == place || !candidate.contested)
                && memory.mappings.get(candidate.mapping).client == client.addr
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
        (false, _) => MatchConfidence::likely(Reason::UserAgent, probability(found, chosen)),
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
            contested: waiting.is_contested(),
            time: waiting.time_beside(resolution),
            cost: 0,
        }
    }
}

/// Returns the probability of the choice among several clients, in thousandths: the share of the evidence for the chosen
/// client.
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
