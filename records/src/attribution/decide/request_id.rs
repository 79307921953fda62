//! A line with the id that the balancer gave the request: the id is a key to the record.
//!
//! The key is only as good as the ids. Where clients choose them, a client may send the id of another client's
//! request. So an id gives `exact` only if the balancer gives nearly each request one, no two clients had the same, no other
//! line has this one, and request and delay are those of the record.

use super::pair;
use crate::attribution::costs;
use crate::attribution::learnt::Learnt;
use crate::attribution::line::{HeldLine, LoggedLine, LoggedRequestId};
use crate::attribution::memory::Memory;
use crate::attribution::memory::mappings::MappingSlot;
use crate::attribution::memory::request_ids::{RequestIdRecord, RequestIdUse};
use crate::attribution::queue::LateLine;
use crate::attribution::verdict::{LineVerdict, MatchConfidence, Reason};

/// Whether lines of this source are decided by their ids.
pub(crate) fn is_key(memory: &Memory, learnt: &Learnt, logged: &LoggedLine) -> bool {
    let index = logged.server.0 as usize;
    let (Some(server), Some(learnt)) = (memory.servers.get(index), learnt.servers.get(index))
    else {
        return false;
    };
    logged.request_id != LoggedRequestId::NotLogged
        && server.ids.are_keys()
        && learnt.request_ids.carries(logged.origin)
}

/// Counts a line that just came, and learns that a record with its id is there; returns whether there is one. A line
/// without such a record is judged when it is decided: the record may still be on its way.
pub(crate) fn note_found(memory: &mut Memory, learnt: &mut Learnt, logged: &LoggedLine) -> bool {
    let is_found = memory.take_line_id(logged);
    if let Some(server) = learnt.servers.get_mut(logged.server.0 as usize).filter(|_| is_found) {
        server.request_ids.learn(logged.origin, true);
    }
    is_found
}

/// Decides the oldest held line by its id; `None` if the id does not decide.
pub(super) fn decide(
    memory: &mut Memory,
    learnt: &mut Learnt,
    line: &HeldLine,
    late: &LateLine,
) -> Option<LineVerdict> {
    let logged = &late.logged;
    let ids = memory.servers.get(line.server as usize)?.ids;
    if !ids.has_any() || logged.request_id == LoggedRequestId::NotLogged {
        return None;
    }
    let found = match logged.request_id {
        LoggedRequestId::Given(id) => memory.request_ids.find(line.server, id),
        LoggedRequestId::Absent | LoggedRequestId::NotLogged => None,
    };
    let record = found.and_then(|found| Some((found, found.record?)));
    if logged.request_id != LoggedRequestId::Absent && !late.is_id_found {
        let evidence = &mut learnt.servers[line.server as usize].request_ids;
        evidence.learn(logged.origin, record.is_some());
    }
    let unknown = || LineVerdict::unmatched(Reason::UnknownId);
    let is_key = is_key(memory, learnt, logged);
    let Some((found, record)) = record else {
        return (is_key && ids.are_complete()).then(unknown);
    };
    if found.is_shared {
        return None;
    }
    let mapping = memory.exchanges.find(record.request_key);
    let pair = IdPair::new(memory, learnt, line, logged, mapping);
    if found.lines <= 1 && mapping.is_some() {
        let evidence = &mut learnt.servers[line.server as usize].request_ids;
        evidence.learn_request(pair.is_same_request);
    } else if found.lines > 1 && !pair.is_same_request {
        // A request within the request, or a copy of its line.
        return is_key.then(unknown);
    }
    let confidence = confidence(memory, learnt, line, &found, &pair);
    let delay = mapping.map(|mapping| pair::take(memory, learnt, mapping, line));
    let RequestIdRecord { client, .. } = record;
    Some(LineVerdict::matched(client, confidence, 1, delay))
}

/// A line and the record with its id.
#[derive(Clone, Copy)]
struct IdPair {
    /// Whether both have the same request.
    is_same_request: bool,
    /// Whether the line came so long after the record as lines do.
    is_in_time: bool,
}

impl IdPair {
    fn new(
        memory: &Memory,
        learnt: &Learnt,
        line: &HeldLine,
        logged: &LoggedLine,
        mapping: Option<MappingSlot>,
    ) -> Self {
        let Some(mapping) = mapping else {
            return Self { is_same_request: false, is_in_time: false };
        };
        let waiting = memory.mappings.get(mapping);
        let delays = &learnt.servers[line.server as usize].delays;
        let delay = line.time.micros_since(waiting.time);
        let is_usual = !delays.is_settled() || !delays.is_unusual(delay);
        Self {
            is_same_request: memory.own_group_of(logged) == Some(memory.mappings.group_of(mapping)),
            is_in_time: is_usual && !memory.cannot_be(waiting, line),
        }
    }
}

fn confidence(
    memory: &Memory,
    learnt: &Learnt,
    line: &HeldLine,
    found: &RequestIdUse,
    pair: &IdPair,
) -> MatchConfidence {
    let evidence = &learnt.servers[line.server as usize].request_ids;
    let are_keys = memory.servers[line.server as usize].ids.are_keys();
    let is_only = are_keys && found.lines <= 1;
    if is_only && pair.is_same_request && pair.is_in_time {
        return MatchConfidence { reason: Reason::RequestId, ..MatchConfidence::EXACT };
    }
    if is_only && (pair.is_same_request || evidence.are_requests_rewritten()) {
        return MatchConfidence::certain(Reason::RequestId);
    }
    MatchConfidence::likely(Reason::RequestId, costs::ID_PROBABILITY)
}
