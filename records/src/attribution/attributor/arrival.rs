//! The state of a line that has just come: in which group it waits, or by which key it is decided later.

use super::Attributor;
use crate::attribution::decide::{port, request_id};
use crate::attribution::learnt::server::LearntServer;
use crate::attribution::line::{HeldLine, LoggedLine, LoggedRequestId};
use crate::attribution::memory::Memory;
use crate::attribution::memory::signature::LoggedFields;
use crate::attribution::queue::{LateLine, LineState};

impl<T> Attributor<T> {
    /// Returns the line with the port that is known to be in it, where clients share the balancer's connections: there
    /// the port is part of the group. `None` elsewhere.
    #[inline]
    pub(super) fn with_shared_port(&self, logged: &LoggedLine) -> Option<LoggedLine> {
        let server = self.memory.servers.get(logged.server.0 as usize);
        if logged.trailing.is_empty() || server.is_none_or(|server| !server.is_third_party) {
            return None;
        }
        let peer_port = port::named(&self.learnt, logged).map(|(_, port)| port);
        Some(LoggedLine { peer_port, ..*logged })
    }

    /// Returns the first state of a line. A line with a group joins the group.
    #[inline]
    pub(super) fn state_of(&mut self, logged: &LoggedLine, line: &HeldLine) -> LineState {
        let Self { queue, memory, learnt, .. } = self;
        let index = logged.server.0 as usize;
        let Some(server) = memory.servers.get_mut(index) else { return LineState::Unreadable };
        server.held += 1;
        if server.has_exchanges() && memory.take_fields(logged) {
            queue.regroup(memory, logged.server.0);
        }
        let server = &memory.servers[index];
        let is_known = server.is_known;
        let has_id =
            logged.request_id != LoggedRequestId::NotLogged && (server.is_third_party || !is_known);
        let shares_ports = server.has_exchanges() && server.fields.key().has(LoggedFields::PEER);
        let senders = &mut learnt.servers[index].senders;
        if logged.sender.is_some_and(|sender| senders.is_direct(sender)) {
            return LineState::Direct;
        }
        if learnt.servers[index].sender_flows.count_line(line.time, logged.sender) {
            return LineState::Unrecorded;
        }
        let has_number = logged.peer_port.is_some() || !logged.trailing.is_empty();
        let is_id_found = has_id && request_id::note_found(memory, learnt, logged);
        let late = || LateLine { logged: *logged, group: None, is_found: false, is_id_found };
        if has_number && !memory.connections.is_empty() {
            return self.state_by_number(late(), shares_ports);
        }
        if has_id && is_known {
            return self.state_by_id(late(), line);
        }
        // A line that needs no mapping must not look as if one were missing while it waits.
        if !is_known || is_orphan(memory, &learnt.servers[index], logged, line) {
            return queue.keep_late(late());
        }
        let Some(group) = memory.group_of(logged) else { return LineState::Unreadable };
        queue.join_group(memory, group);
        let learnt = &mut learnt.servers[index];
        let has_exchanges = memory.servers[index].has_exchanges();
        if learnt.flows.has_drift() || has_exchanges && learnt.is_lossy() {
            learnt.rates.count(group, memory.servers[index].lines);
        }
        LineState::Waits(group)
    }

    /// Returns the first state of a line with numbers that may be the balancer's port. Until a field is known to be
    /// the port, the line waits in its group.
    fn state_by_number(&mut self, late: LateLine, shares_ports: bool) -> LineState {
        let Self { queue, memory, learnt, .. } = self;
        let logged = late.logged;
        let named = port::named(learnt, &logged);
        let is_found =
            !port::is_settled(learnt, &logged) && port::note_found(memory, learnt, &logged);
        let server = &memory.servers[logged.server.0 as usize];
        let is_known = server.is_known;
        // Where no record has a port, the line's is no key.
        let names_port = named.is_some() && !shares_ports && server.has_named;
        let group = if names_port || !is_known { None } else { memory.group_of(&logged) };
        if let Some(group) = group {
            queue.join_group(memory, group);
            if logged.trailing.is_empty() && logged.request_id == LoggedRequestId::NotLogged {
                return LineState::Waits(group);
            }
        }
        queue.keep_late(LateLine { group, is_found, ..late })
    }

    /// Returns the first state of a line with an id. Where lines are known to have the balancer's ids, no group decides.
    fn state_by_id(&mut self, late: LateLine, line: &HeldLine) -> LineState {
        let Self { queue, memory, learnt, .. } = self;
        let logged = &late.logged;
        let is_alone = request_id::is_key(memory, learnt, logged)
            || learnt.servers[line.server as usize].orphans.has(line);
        let group = if is_alone { None } else { memory.group_of(logged) };
        if let Some(group) = group {
            queue.join_group(memory, group);
        }
        queue.keep_late(LateLine { group, ..late })
    }
}

/// Whether no mapping is expected for a line. Where many are missing, lines of a request that has some may only seem so.
#[inline]
fn is_orphan(memory: &Memory, learnt: &LearntServer, logged: &LoggedLine, line: &HeldLine) -> bool {
    learnt.orphans.has(line)
        && !(learnt.is_lossy()
            && memory.own_group_of(logged).is_some_and(|it| memory.mappings.group(it).mappings > 0))
}
