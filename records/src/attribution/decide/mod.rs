//! How the client of the oldest held line is decided.
//!
//! [`waiting`], [`late`] and [`unreadable`] are the entries, one for each state of the line. Which strategy
//! decides depends on what the line's group holds:
//!
//! - no mapping: `tls`, an exchange in passed-through TLS.
//! - one mapping and one line: `only`.
//! - more of either, and records that tell when an exchange ended: `aligned`, which weighs all alignments of lines
//!   and mappings by way of `lattice`. Where many lines or mappings are missing, `sequence` does so with those of all groups
//!   of the server.
//! - more of either, and records that tell only when a request was asked: `single`, the line by itself, and where that
//!   is not plain `asked`, which weighs all ways to give lines their mappings by way of `matching`.
//!
//! A line that names the balancer's port is decided by `port` first, and one with the id of its request by
//! `request_id`. `pair` judges one line with one
//! mapping, and `why` explains a decision.
//!
//! Strategies are functions over [`Memory`] and [`Learnt`]: they take the mapping that they choose out of
//! the memory, and learn from it.

mod aligned;
mod asked;
mod asked_costs;
mod chain;
mod close;
mod lattice;
mod matching;
mod only;
mod pair;
pub(crate) mod port;
mod reached;
pub(crate) mod request_id;
mod sequence;
mod single;
mod stranger;
mod tls;
pub(crate) mod why;
mod window;

use self::single::SingleLineMatch;
use self::window::DecisionWindow;
use super::costs;
use super::learnt::Learnt;
use super::line::HeldLine;
use super::memory::mappings::{GroupSlot, WaitingMapping};
use super::memory::{Memory, ServerMemory};
use super::queue::{LateLine, LineQueue};
use super::verdict::{Certainty, LineVerdict, MatchConfidence, Reason};
use crate::time::Resolution;

/// Buffers of decisions, kept from line to line for their allocations.
#[derive(Default)]
pub(crate) struct DecisionBuffers {
    single: SingleLineMatch,
    window: DecisionWindow,
}

/// Decides the oldest held line, which is `line` and waits in `group`.
///
/// Another balancer sends requests of many clients over one connection. There request and port together are
/// the key: the group has all exchanges that the line may belong to. Where the request does not help, the
/// port alone does.
pub(crate) fn waiting<T>(
    queue: &mut LineQueue<T>,
    memory: &mut Memory,
    learnt: &mut Learnt,
    buffers: &mut DecisionBuffers,
    (line, group): (&HeldLine, GroupSlot),
) -> LineVerdict {
    let Some(port) = port::shared_port(memory, line) else {
        return in_group(queue, memory, learnt, buffers, (line, group));
    };
    if memory.mappings.group(group).mappings > 1 {
        defer_old(memory, learnt, line, group);
        let in_order = port::in_order(memory, learnt, line, group, queue.next_of_front());
        if let Some(verdict) = in_order {
            return verdict;
        }
    }
    let is_guess =
        memory.mappings.only(group).is_some_and(|it| memory.mappings.get(it).is_contested());
    let verdict = in_group(queue, memory, learnt, buffers, (line, group));
    match verdict.client {
        None => port::alone(memory, learnt, line, port).unwrap_or(verdict),
        Some(_) if is_guess => {
            verdict.with(MatchConfidence::likely(Reason::Order, costs::SHARED_PORT_PROBABILITY))
        }
        Some(_) if verdict.candidates > 1 && verdict.certainty == Certainty::Likely => verdict,
        Some(_) => verdict.with(MatchConfidence::EXACT),
    }
}

/// Decides the oldest held line, whose key is found only now.
pub(crate) fn late<T>(
    queue: &mut LineQueue<T>,
    memory: &mut Memory,
    learnt: &mut Learnt,
    buffers: &mut DecisionBuffers,
    late: &LateLine,
) -> LineVerdict {
    let logged = &late.logged;
    // Nothing was known of the server when the line came.
    let server = memory.servers.get(logged.server.0 as usize);
    if late.group.is_none()
        && server.is_some_and(ServerMemory::has_exchanges)
        && memory.take_fields(logged)
    {
        queue.regroup(memory, logged.server.0);
    }
    port::learn(memory, learnt, late);
    if let Some((_, port)) = port::named(learnt, logged) {
        queue.set_front_peer(port);
        memory.expect_peers(logged.server.0);
    }
    let line = queue.front_line();
    let by_key = port::decide_late(memory, learnt, &line, late)
        .or_else(|| request_id::decide(memory, learnt, &line, late));
    match (by_key, late.group) {
        (Some(verdict), Some(group)) => {
            memory.leave_group(group, queue.next_of_front());
            return verdict;
        }
        (Some(verdict), None) => return verdict,
        (None, Some(group)) => return waiting(queue, memory, learnt, buffers, (&line, group)),
        (None, None) => {}
    }
    let Some(group) = memory.group_of(logged) else {
        return LineVerdict::unmatched(Reason::NoRequest);
    };
    queue.join_group_first(memory, group);
    let verdict = waiting(queue, memory, learnt, buffers, (&line, group));
    if request_id::is_key(memory, learnt, logged) {
        // Lines with ids are in no group, so that lines of this one may be missing.
        return verdict.in_doubt(costs::ID_MISSING_PROBABILITY);
    }
    verdict
}

/// Decides a line whose request could not be read.
pub(crate) fn unreadable(memory: &mut Memory, learnt: &mut Learnt, line: &HeldLine) -> LineVerdict {
    port::shared_port(memory, line)
        .and_then(|port| port::alone(memory, learnt, line, port))
        .unwrap_or(LineVerdict::unmatched(Reason::NoRequest))
}

/// Decides the oldest held line by its group alone.
fn in_group<T>(
    queue: &mut LineQueue<T>,
    memory: &mut Memory,
    learnt: &mut Learnt,
    buffers: &mut DecisionBuffers,
    (line, group): (&HeldLine, GroupSlot),
) -> LineVerdict {
    // Without others, a line is told by its own mappings alone.
    if sequence::is_used(memory, learnt, line, group)
        && queue.behind_front().any(|other| other.line.server == line.server)
    {
        return sequence::decide(queue, memory, learnt, &mut buffers.window, (line, group));
    }
    let members = memory.mappings.group(group);
    match (members.mappings, members.lines) {
        (0, _) => {
            memory.leave_group(group, queue.next_of_front());
            tls::decide(queue, memory, learnt, line)
        }
        (1, 1) if only::is_plain(memory, learnt, line, group) => {
            only::decide(memory, learnt, line, group)
        }
        _ => {
            defer_old(memory, learnt, line, group);
            let of_exchanges = memory.mappings.group(group).of_exchanges;
            if of_exchanges {
                return aligned::decide(queue, memory, learnt, &mut buffers.window, group);
            }
            let plain = single::decide(queue, memory, learnt, &mut buffers.single, group);
            plain
                .unwrap_or_else(|| asked::decide(queue, memory, learnt, &mut buffers.window, group))
        }
    }
}

/// Defers the group's mappings that are far older than the server's delays.
fn defer_old(memory: &mut Memory, learnt: &mut Learnt, line: &HeldLine, group: GroupSlot) {
    let server = &learnt.servers[line.server as usize];
    let delays = &server.delays;
    let is_known = delays.is_settled();
    let (_, longest) = costs::DELAY_AT_FIRST;
    let is_coarse = line.resolution == Resolution::Second;
    let deferred = if memory.mappings.group(group).of_exchanges {
        let span = server.span_of_ends(line);
        let exchanges = &memory.exchanges;
        let place = |waiting: &WaitingMapping| {
            let life = waiting.facts.map(|facts| exchanges.get(facts).life(waiting.time));
            life.map_or(waiting.time, |life| server.stamped.place(life))
        };
        memory.mappings.defer_while(group, |waiting| {
            let delay = line.time.micros_since(waiting.time);
            let is_overdue = if is_coarse {
                delay > 0 && span.is_overdue(delay)
            } else {
                delay > 0 && (delays.is_unusual(delay) || !is_known && delay > longest)
            };
            is_overdue || server.is_passed(line, place(waiting))
        })
    } else {
        memory.mappings.defer_while(group, |waiting| {
            let delay = line.time.micros_since(waiting.time_beside(line.resolution));
            let is_overdue = is_coarse && is_known && delays.cost(delay) >= costs::OVERDUE_COARSE;
            delay > 0 && (is_overdue || delays.is_unusual(delay) || !is_known && delay > longest)
        })
    };
    if deferred > 0.0 {
        learnt.servers[line.server as usize].left_over.learn_left(deferred);
    }
}
