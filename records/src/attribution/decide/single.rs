//! The oldest line of a group by itself: where it is plain which mapping is its own, that one is taken
//! without weighing what the other lines of the group would have.
//!
//! It is plain in two ways. Where a server answers equal requests in order, the first mapping in turn
//! is the line's if nothing speaks against it. Elsewhere it is the best of those whose client is known
//! by the line's User-Agent: nobody is wronged by that, since a line with another one has no better
//! claim to them, and lines with the same one take their turns. And where nobody is known by it, it
//! is the best of those that no other waiting line has such a claim to.

use crate::attribution::costs;
use crate::attribution::learnt::user_agents::{AgentRarity, ClientHash, NONE};
use crate::attribution::line::HeldLine;
use crate::attribution::memory::mappings::{NIL, WaitingMapping};
use crate::attribution::odds::weight;
use crate::attribution::queue::{Attributor, LAST};
use crate::attribution::verdict::{Certainty, LineVerdict, Reason};
use crate::time::{Resolution, Timestamp};

/// What the oldest line of a group could have; kept from line to line for its memory.
#[derive(Default)]
pub(crate) struct SingleLineMatch {
    found: Vec<MatchCandidate>,
    /// Whether none was left out.
    complete: bool,
    /// A mapping that was set aside as too old, if there is one.
    spare: Option<u32>,
}

/// A mapping that the line could have.
#[derive(Clone, Copy)]
struct MatchCandidate {
    mapping: u32,
    tag: ClientHash,
    /// Its client's usual User-Agent, or [`NONE`].
    usual: u32,
    stale: bool,
    tainted: bool,
    /// Whether another line is known to have a better claim.
    is_spoken_for: bool,
    time: Timestamp,
    cost: i64,
}

impl<T> Attributor<T> {
    /// Decides the oldest held line, which waits in `group`, if it is plain.
    pub(crate) fn decide_by_claim(&mut self, group: u32) -> Option<LineVerdict> {
        let mut claim = std::mem::take(&mut self.claim);
        let verdict = self.decide_claim(group, &mut claim);
        self.claim = claim;
        verdict
    }

    fn decide_claim(&mut self, group: u32, claim: &mut SingleLineMatch) -> Option<LineVerdict> {
        let asked = self.held[0].asked;
        let crossed = self.states[asked.server as usize].turns.crossing_cost();
        if asked.user_agent == NONE && crossed < costs::IN_ORDER {
            return None;
        }
        let rarity = self.habits.rarity(asked.user_agent);
        self.look_for_candidates(group, &asked, claim);
        if self.first_held.is_multiple_of(costs::ORDER_WATCHED) {
            self.watch_turns_of(&asked, claim);
        }
        if crossed >= costs::IN_ORDER {
            if !self.suits_in_turn(group, &asked, &rarity, claim.found.first()?) {
                return None;
            }
            let telling = rarity.is_telling();
            return Some(self.take_claimed(
                group,
                &asked,
                claim,
                0,
                MatchBasis::InTurn { telling },
            ));
        }
        let best = self.weigh_claim(&asked, &rarity, crossed, claim);
        let is_coarse = asked.resolution == Resolution::Second;
        if let Some(chosen) = best {
            let best = claim.found[chosen];
            let is_rival = |other: &MatchCandidate| {
                let takes_turns = is_coarse && other.usual == rarity.agent;
                !takes_turns && other.cost < best.cost + costs::SINGLE_LEAD && other.tag != best.tag
            };
            if !claim.found.iter().any(is_rival) {
                return Some(self.take_claimed(group, &asked, claim, chosen, MatchBasis::ByAgent));
            }
        }
        if is_coarse { self.decide_unclaimed(group, &asked, claim) } else { None }
    }

    /// Finds what the line could have, in time order, those set aside last.
    fn look_for_candidates(&self, group: u32, asked: &HeldLine, claim: &mut SingleLineMatch) {
        let (earliest, latest) = self.span_of_candidates(asked);
        claim.found.clear();
        (claim.complete, claim.spare) = (true, None);
        let mut next = self.outstanding.first_fresh(group);
        for _ in 0..costs::GROUP_SCAN {
            if next == NIL {
                break;
            }
            let waiting = self.outstanding.get(next);
            if waiting.time > latest {
                // And those behind it are younger still.
                next = NIL;
                break;
            }
            if waiting.time >= earliest {
                if claim.found.len() == costs::SINGLE_CANDIDATES {
                    break;
                }
                claim.found.push(MatchCandidate::new(next, waiting));
            }
            next = waiting.after();
        }
        claim.complete = next == NIL;
        next = self.outstanding.last_stale(group);
        while next != NIL {
            let waiting = self.outstanding.get(next);
            if waiting.time < earliest || waiting.time > latest {
                claim.spare = Some(next);
                return;
            }
            if claim.found.len() == costs::SINGLE_CANDIDATES {
                claim.complete = false;
                return;
            }
            claim.found.push(MatchCandidate::new(next, waiting));
            next = waiting.before();
        }
    }

    /// Whether nothing speaks against the mapping whose turn it is.
    fn suits_in_turn(
        &self,
        group: u32,
        asked: &HeldLine,
        rarity: &AgentRarity,
        first: &MatchCandidate,
    ) -> bool {
        let members = self.outstanding.group(group);
        let delays = &self.states[asked.server as usize].delays;
        !first.stale
            && members.lines <= members.mappings
            && delays.cost(asked.time.micros_since(first.time)) <= costs::IN_ORDER_DELAY
            && self.habits.known(first.tag).cost(rarity) <= costs::IN_ORDER_AGENT
    }

    /// What each candidate would cost; returns the best of those known by the line's User-Agent.
    fn weigh_claim(
        &mut self,
        asked: &HeldLine,
        rarity: &AgentRarity,
        crossed: i64,
        claim: &mut SingleLineMatch,
    ) -> Option<usize> {
        let Self { states, habits, outstanding, .. } = self;
        let delays = &states[asked.server as usize].delays;
        let now = self.now.max(asked.time);
        let price = if crossed < costs::ORDER_FREE { 0 } else { crossed };
        let (mut last, mut last_cost, mut turns) = (Timestamp::MIN, 0, 0);
        let (mut best, mut least) = (None, i64::MAX);
        for (place, candidate) in claim.found.iter_mut().enumerate() {
            // Coarse stamps make most times of a group the same one.
            if candidate.time != last {
                last = candidate.time;
                last_cost = delays.cost(asked.time.micros_since(last))
                    - delays.saved(now.micros_since(last));
            }
            if candidate.usual == NONE {
                candidate.usual = habits.usual(candidate.tag);
                outstanding.get_mut(candidate.mapping).usual = candidate.usual;
            }
            candidate.cost = last_cost + turns;
            if candidate.usual == rarity.agent {
                if candidate.cost < least {
                    (best, least) = (Some(place), candidate.cost);
                }
                turns += if candidate.stale { 0 } else { price };
            } else if candidate.usual == NONE {
                candidate.cost += i64::from(habits.known(candidate.tag).cost(rarity));
                turns += if candidate.stale { 0 } else { price };
            } else {
                candidate.cost += costs::OTHER_AGENT + i64::from(rarity.surprise);
            }
        }
        best
    }

    /// The line's User-Agent does not settle it: it takes the best of what no other line has a better
    /// claim to. Of what an earlier mistake left behind that is often the oldest, so that one mistake
    /// does not bring about the next.
    fn decide_unclaimed(
        &mut self,
        group: u32,
        asked: &HeldLine,
        claim: &mut SingleLineMatch,
    ) -> Option<LineVerdict> {
        let mut next = self.held[0].next;
        for _ in 0..costs::SINGLE_CANDIDATES {
            if next == LAST {
                break;
            }
            let other = &self.held[usize::try_from(next - self.first_held).ok()?];
            next = other.next;
            if other.asked.user_agent == asked.user_agent {
                continue;
            }
            let theirs = claim
                .found
                .iter_mut()
                .find(|it| it.usual == other.asked.user_agent && !it.is_spoken_for);
            if let Some(theirs) = theirs {
                theirs.is_spoken_for = true;
            }
        }
        let free = claim.found.iter().enumerate().filter(|(_, candidate)| !candidate.is_spoken_for);
        if let Some((chosen, _)) = free.min_by_key(|(_, candidate)| candidate.cost) {
            return Some(self.take_claimed(group, asked, claim, chosen, MatchBasis::Unclaimed));
        }
        let WaitingMapping { client, time, .. } = *self.outstanding.get(claim.spare?);
        self.consume(group, claim.spare?, self.held[0].next);
        Some(LineVerdict {
            client: Some(client),
            certainty: Certainty::Likely,
            candidates: u32::try_from(claim.found.len() + 1).unwrap_or(u32::MAX),
            reason: Reason::Order,
            delay: Some(asked.time.micros_since(time)),
            probability: costs::LEFTOVER_PROBABILITY,
        })
    }

    /// Learns from the first two lines and mappings of a group whether equal requests are answered in
    /// order, if the User-Agents leave no doubt which is whose.
    fn watch_turns_of(&mut self, asked: &HeldLine, claim: &SingleLineMatch) {
        let ([a, b, ..], next) = (&*claim.found, self.held[0].next) else { return };
        let Ok(second) = usize::try_from(next.wrapping_sub(self.first_held)) else { return };
        let Some(second) = self.held.get(second).map(|held| held.asked) else { return };
        if second.user_agent == asked.user_agent || a.tag == b.tag {
            return;
        }
        let (ours, theirs) = (self.habits.usual(a.tag), self.habits.usual(b.tag));
        let is_straight = (ours, theirs) == (asked.user_agent, second.user_agent);
        let is_crossed = (theirs, ours) == (asked.user_agent, second.user_agent);
        let is_known = ours != NONE && theirs != NONE && (is_straight || is_crossed);
        if !is_known || a.stale || b.stale || b.time > asked.time {
            return;
        }
        let state = &mut self.states[asked.server as usize];
        let delay = |line: &HeldLine, mapping: &MatchCandidate| {
            state.delays.cost(line.time.micros_since(mapping.time))
        };
        let against = delay(asked, b) + delay(&second, a) - delay(asked, a) - delay(&second, b);
        state.turns.learn(is_crossed, against);
    }

    /// Takes the chosen one, and says how sure that is.
    fn take_claimed(
        &mut self,
        group: u32,
        asked: &HeldLine,
        claim: &SingleLineMatch,
        place: usize,
        choice: MatchBasis,
    ) -> LineVerdict {
        let found = &*claim.found;
        let chosen = found[place];
        let client = self.outstanding.get(chosen.mapping).client;
        let members = self.outstanding.group(group);
        let short = members.lines > members.mappings;
        let same = (claim.complete || !members.mixed)
            && found.iter().enumerate().all(|(other, candidate)| {
                candidate.tag == chosen.tag
                    && (other == place || !candidate.tainted)
                    && self.outstanding.get(candidate.mapping).client == client
            });
        let delay = asked.time.micros_since(chosen.time);
        let state = &self.states[asked.server as usize];
        let doubt = short || chosen.tainted || state.misses_mappings() || self.may_be_sealed(asked);
        let (certainty, reason, probability) = match (same, doubt) {
            (true, false) if found.len() == 1 => (Certainty::Certain, Reason::Only, 1_000),
            (true, false) => (Certainty::Certain, Reason::SameClient, 1_000),
            (true, true) => {
                let probability = self.judge_doubtful(chosen.tag, None, asked);
                (Certainty::Likely, Reason::Doubtful, probability)
            }
            (false, _) => (Certainty::Likely, choice.reason(), choice.probability(found, chosen)),
        };
        if !same {
            for candidate in found.iter().filter(|candidate| !candidate.tainted) {
                self.outstanding.get_mut(candidate.mapping).tainted = true;
            }
        }
        self.learn_claimed(&chosen, asked, certainty, probability, choice);
        self.consume(group, chosen.mapping, self.held[0].next);
        LineVerdict {
            client: Some(client),
            certainty,
            candidates: u32::try_from(found.len()).unwrap_or(u32::MAX),
            reason,
            delay: Some(delay),
            probability,
        }
    }

    /// What is not sure teaches little: what is taken in turn nothing about delays unless the
    /// User-Agent confirms it, what is a mere guess nothing at all.
    fn learn_claimed(
        &mut self,
        chosen: &MatchCandidate,
        asked: &HeldLine,
        certainty: Certainty,
        probability: u16,
        choice: MatchBasis,
    ) {
        if certainty == Certainty::Certain {
            self.learn(chosen.mapping, asked, costs::PROFILE_CERTAIN);
        } else if probability >= costs::GUESS_TEACHES {
            match choice {
                MatchBasis::InTurn { telling: false } => {
                    self.habits.learn(chosen.tag, asked.user_agent, costs::PROFILE_CERTAIN / 2);
                }
                _ => self.learn(chosen.mapping, asked, costs::PROFILE_CERTAIN / 2),
            }
        }
    }
}

impl MatchCandidate {
    const fn new(mapping: u32, waiting: &WaitingMapping) -> Self {
        Self {
            mapping,
            tag: waiting.tag,
            usual: waiting.usual,
            stale: waiting.stale,
            tainted: waiting.tainted,
            is_spoken_for: false,
            time: waiting.time,
            cost: 0,
        }
    }
}

/// What a choice rests on.
#[derive(Clone, Copy)]
enum MatchBasis {
    /// It was its turn; whether the line's User-Agent is rare enough to confirm that.
    InTurn { telling: bool },
    /// The client is known by the line's User-Agent.
    ByAgent,
    /// No other line has a better claim.
    Unclaimed,
}

impl MatchBasis {
    const fn reason(self) -> Reason {
        match self {
            Self::ByAgent => Reason::UserAgent,
            Self::InTurn { .. } | Self::Unclaimed => Reason::Order,
        }
    }

    /// How sure the choice is among several clients, in thousandths: the share of the evidence that
    /// speaks for the chosen one's.
    fn probability(self, found: &[MatchCandidate], chosen: MatchCandidate) -> u16 {
        if let Self::InTurn { .. } = self {
            return costs::IN_ORDER_PROBABILITY;
        }
        let (mut all, mut ours) = (0, 0);
        for candidate in found {
            let weight = weight(candidate.cost - chosen.cost);
            all += weight;
            ours += if candidate.tag == chosen.tag { weight } else { 0 };
        }
        u16::try_from(ours * 1_000 / all.max(1)).unwrap_or(1_000).clamp(1, costs::GUESS_CEILING)
    }
}
