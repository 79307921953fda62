//! One line and one mapping: the probability of a doubtful pair, and learning from a pair.

use crate::attribution::costs;
use crate::attribution::learnt::Learnt;
use crate::attribution::learnt::server::LearntServer;
use crate::attribution::learnt::user_agents::AgentFit;
use crate::attribution::line::HeldLine;
use crate::attribution::memory::Memory;
use crate::attribution::memory::client::ClientHash;
use crate::attribution::memory::facts::ExchangeFacts;
use crate::attribution::memory::mappings::{MappingSlot, WaitingMapping};
use crate::attribution::memory::tls::TlsExchange;

/// Returns the probability, in thousandths, that a line belongs to its only candidate although that is not
/// certain, and learns from the evidence of the pair.
pub(super) fn doubtful_probability(
    learnt: &mut Learnt,
    client: ClientHash,
    facts: Option<&ExchangeFacts>,
    line: &HeldLine,
) -> u16 {
    let agrees = match facts {
        Some(facts) => learnt.servers[line.server as usize].agreement.confirms(facts, line),
        None => match learnt.profiles.fit(client, line.user_agent) {
            AgentFit::Unknown => None,
            AgentFit::Same => Some(true),
            AgentFit::Other => Some(false),
        },
    };
    learnt.servers[line.server as usize].calibration.judge(agrees)
}

/// Whether a mapping is out of the question for a line, by time, headers, ports or Host.
pub(super) fn cannot_be(
    memory: &Memory,
    server: &LearntServer,
    waiting: &WaitingMapping,
    line: &HeldLine,
) -> bool {
    memory.cannot_be(waiting, line) || differs(memory, server, waiting, line)
}

/// Whether line and mapping have different headers, ports or Hosts, as far as their group does not tell.
pub(super) fn differs(
    memory: &Memory,
    server: &LearntServer,
    waiting: &WaitingMapping,
    line: &HeldLine,
) -> bool {
    let Some(facts) = waiting.facts else { return false };
    let facts = memory.exchanges.get(facts);
    memory.differ(facts, line) || server.hosts.differs(facts.signature.host, line)
}

/// Whether a mapping, and so each later one of the group, comes too late for a line.
pub(super) fn is_too_young(
    memory: &Memory,
    server: &LearntServer,
    waiting: &WaitingMapping,
    line: &HeldLine,
) -> bool {
    let delay = line.time.micros_since(waiting.time_beside(line.resolution));
    let is_impossible = memory.is_impossible((waiting.time, waiting.resolution), line);
    delay < 0 && (is_impossible || !server.is_ordinary(delay))
}

/// Learns delay and User-Agent from a line and the mapping that it is about to take.
pub(super) fn learn(
    memory: &Memory,
    learnt: &mut Learnt,
    mapping: MappingSlot,
    line: &HeldLine,
    weight: u8,
) {
    learn_asked(memory, learnt, mapping, line);
    let waiting = memory.mappings.get(mapping);
    learnt.profiles.learn(waiting.client_hash, line.user_agent, weight);
}

/// Learns delay and place from a line and the mapping that it is about to take.
pub(super) fn learn_asked(
    memory: &Memory,
    learnt: &mut Learnt,
    mapping: MappingSlot,
    line: &HeldLine,
) {
    let waiting = memory.mappings.get(mapping);
    let delay = line.time.micros_since(waiting.time_beside(line.resolution));
    let server = &mut learnt.servers[line.server as usize];
    server.delays.learn(delay, line.resolution.max(waiting.resolution));
    server.learn_place(waiting, line);
}

/// Learns delay, status and size from a line and the exchange that is surely its own; returns the delay.
pub(super) fn learn_exchange(
    memory: &Memory,
    learnt: &mut Learnt,
    mapping: MappingSlot,
    line: &HeldLine,
) -> i64 {
    let delay = learn_end(memory, learnt, mapping, line);
    let facts = memory.mappings.get(mapping).facts.map(|facts| memory.exchanges.get(facts));
    let server = &mut learnt.servers[line.server as usize];
    if let Some(facts) = facts {
        server.logged_end.learn(facts, line);
        server.hosts.learn(facts.signature.host, line);
    }
    delay
}

/// Takes the mapping of the exchange that is surely the line's own; returns the delay.
pub(super) fn take(
    memory: &mut Memory,
    learnt: &mut Learnt,
    mapping: MappingSlot,
    line: &HeldLine,
) -> i64 {
    let delay = learn_exchange(memory, learnt, mapping, line);
    memory.remove(mapping);
    memory.counts.used += 1;
    delay
}

/// Learns delay, status and size of a line whose exchange is hardly in doubt; returns the delay.
pub(super) fn learn_end(
    memory: &Memory,
    learnt: &mut Learnt,
    mapping: MappingSlot,
    line: &HeldLine,
) -> i64 {
    let WaitingMapping { time, resolution, facts, .. } = *memory.mappings.get(mapping);
    let delay = line.time.micros_since(time);
    let facts = facts.map(|facts| memory.exchanges.get(facts));
    if let Some(facts) = facts.filter(|facts| facts.ended && !facts.is_cut()) {
        let server = &mut learnt.servers[line.server as usize];
        // The end is known finely, so that delays are no whole seconds even where stamps are.
        server.delays.learn(delay, resolution);
        server.agreement.learn(facts, line);
    }
    delay
}

/// Whether the line may as well belong to an exchange in passed-through TLS that ended about then. If so, a
/// mapping of plain traffic at the same address is not its only candidate.
pub(super) fn may_be_tls(memory: &Memory, line: &HeldLine) -> bool {
    let Some(exchanges) = &memory.servers[line.server as usize].tls else { return false };
    let from = line.time.offset_by(-costs::TLS_LATEST);
    let to = line.time.offset_by(memory.wait + line.resolution.micros());
    let mut near = exchanges.within(from, to).take(costs::TLS_SCAN);
    near.any(|(_, exchange)| exchange.lines < exchange.requests && has_port_of(exchange, line))
}

/// Whether line and exchange may have the same server port, as far as both are known.
pub(super) fn has_port_of(exchange: &TlsExchange, line: &HeldLine) -> bool {
    line.server_port.is_none()
        || exchange.server_port.is_none()
        || line.server_port == exchange.server_port
}
