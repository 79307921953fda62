//! A group of one line and one mapping: the mapping explains the line if time allows. The line is
//! certain unless the evidence contradicts that.

use super::pair;
use crate::attribution::costs;
use crate::attribution::learnt::Learnt;
use crate::attribution::learnt::end_order::SureEnd;
use crate::attribution::learnt::user_agents::AgentFit;
use crate::attribution::line::HeldLine;
use crate::attribution::memory::Memory;
use crate::attribution::memory::facts::FactsSlot;
use crate::attribution::memory::mappings::{GroupSlot, MappingMark, MappingSlot, WaitingMapping};
use crate::attribution::verdict::{LineVerdict, MatchConfidence, Reason};

/// Whether no other line may have the only mapping of a group, or the records tell when its exchange ended.
pub(super) fn is_plain(
    memory: &Memory,
    learnt: &Learnt,
    line: &HeldLine,
    group: GroupSlot,
) -> bool {
    let only = memory.mappings.only(group).map(|mapping| memory.mappings.get(mapping));
    let is_sole = |it: &WaitingMapping| it.is_unclaimed() && !it.is_contested();
    only.is_none_or(|it| match it.facts {
        Some(_) => it.is_unclaimed(),
        None => is_sole(it) && !is_doubtful(memory, learnt, line),
    })
}

/// Decides the only line of a group with at most one mapping.
pub(super) fn decide(
    memory: &mut Memory,
    learnt: &mut Learnt,
    line: &HeldLine,
    group: GroupSlot,
) -> LineVerdict {
    let possible = memory.mappings.only(group).filter(|&mapping| {
        let server = &learnt.servers[line.server as usize];
        !pair::cannot_be(memory, server, memory.mappings.get(mapping), line)
    });
    let Some(mapping) = possible else {
        memory.leave_group(group, None);
        return LineVerdict::unmatched(Reason::NoMapping);
    };
    let verdict = match memory.mappings.get(mapping).facts {
        Some(facts) => judge_exchange(memory, learnt, line, mapping, facts),
        None => judge(memory, learnt, line, mapping),
    };
    memory.consume_both(group, mapping);
    verdict
}

/// Judges a mapping without facts that no other line may have, by delay and User-Agent.
fn judge(
    memory: &Memory,
    learnt: &mut Learnt,
    line: &HeldLine,
    mapping: MappingSlot,
) -> LineVerdict {
    let waiting = memory.mappings.get(mapping);
    let WaitingMapping { resolution, client_hash, .. } = *waiting;
    let client = waiting.recorded_client();
    let delay = line.time.micros_since(waiting.time_beside(line.resolution));
    let server = &mut learnt.servers[line.server as usize];
    let confidence = if server.delays.is_unusual(delay) {
        // So that the delays follow a clock that drifts.
        server.delays.learn_next(delay);
        let probability = pair::doubtful_probability(learnt, client_hash, None, line);
        MatchConfidence::likely(Reason::Doubtful, probability)
    } else {
        let fit = learnt.profiles.fit(client_hash, line.user_agent);
        // Where no mapping is missing, a client with a User-Agent of its others is learnt to have several.
        let is_strange = fit == AgentFit::Other;
        if fit != AgentFit::Unknown {
            server.calibration.learn_plain(is_strange);
        }
        let is_early = server.delays.is_early_at_first(delay);
        server.delays.learn(delay, line.resolution.max(resolution));
        server.learn_place(waiting, line);
        learnt.profiles.learn(client_hash, line.user_agent, costs::PROFILE_CERTAIN);
        if is_strange {
            MatchConfidence::likely(Reason::Doubtful, costs::GUESS_CEILING)
        } else if is_early || server.delays.is_far_at_first(delay) {
            MatchConfidence::likely(Reason::Doubtful, server.calibration.judge(None))
        } else {
            MatchConfidence::certain(Reason::Only)
        }
    };
    LineVerdict::matched(client, confidence, 1, Some(delay))
}

/// Judges a mapping with facts, by delay, status and size.
fn judge_exchange(
    memory: &Memory,
    learnt: &mut Learnt,
    line: &HeldLine,
    mapping: MappingSlot,
    facts: FactsSlot,
) -> LineVerdict {
    let waiting = memory.mappings.get(mapping);
    let WaitingMapping { time, client_hash, deferred, mark, .. } = *waiting;
    let (client, contested) = (waiting.recorded_client(), waiting.is_contested());
    let facts = memory.exchanges.get(facts);
    let delay = line.time.micros_since(time);
    let server = &learnt.servers[line.server as usize];
    let life = facts.life(time);
    let ended = server.stamped.place(life);
    let (asked, origin, stamp) = (life.asked, line.origin, line.time);
    let end = SureEnd { ended, asked, group: None, origin, stamp };
    let is_late = facts.ended && !facts.is_cut();
    // A line does not come before its request.
    let early = facts.asked.micros_since(line.time) - line.resolution.micros();
    let is_unusual =
        if is_late { server.is_unusual_end(line, life) } else { early > costs::ASKED_AFTER };
    let is_contradicted = server.agreement.cost(facts, line) > costs::ODD_RESPONSE;
    let is_doubtful = is_doubtful(memory, learnt, line);
    let is_plain = !contested && !is_unusual && !is_doubtful;
    let is_far = is_late && server.delays.is_far_at_first(delay);
    // The line of the mapping would have come by now: an earlier line may have taken another's in its place.
    let is_overdue = deferred && facts.ended;
    let confidence = if is_plain && is_far {
        let probability = learnt.servers[line.server as usize].calibration.judge(None);
        MatchConfidence::likely(Reason::Doubtful, probability)
    } else if is_plain && !is_contradicted && !is_overdue && mark == MappingMark::Close {
        MatchConfidence::likely(Reason::Order, costs::GUESS_CEILING)
    } else if is_plain && !is_contradicted && !is_overdue {
        MatchConfidence::certain(Reason::Only)
    } else {
        let probability = pair::doubtful_probability(learnt, client_hash, Some(facts), line);
        MatchConfidence::likely(Reason::Doubtful, probability)
    };
    if is_plain || !(contested || is_unusual || is_contradicted) {
        pair::learn_exchange(memory, learnt, mapping, line);
        if is_late {
            learnt.servers[line.server as usize].advance_to(end);
        }
    } else if is_unusual && !contested {
        learnt.servers[line.server as usize].delays.learn_next(delay);
    }
    if is_late && !contested && !is_contradicted {
        learnt.servers[line.server as usize].stamped.learn(life, line);
    }
    LineVerdict::matched(client, confidence, 1, Some(delay))
}

/// Whether the line's own mapping may be another one, or missing.
fn is_doubtful(memory: &Memory, learnt: &Learnt, line: &HeldLine) -> bool {
    let server = line.server as usize;
    pair::may_be_tls(memory, line)
        || learnt.servers[server].misses_mappings(&memory.servers[server])
}
