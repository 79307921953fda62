//! Whether a line that names a port of our balancer is of another balancer, whose port it was at that time.
//!
//! Such a balancer has no records. Its lines are known where they contradict the connection: by the request, by the time,
//! by the response, by the balancer's address. What contradicts nothing may still be a find by chance.

use super::port::PortCandidate;
use crate::attribution::costs;
use crate::attribution::learnt::Learnt;
use crate::attribution::learnt::named_balancers::NamedBalancers;
use crate::attribution::learnt::ports::PortEvidence;
use crate::attribution::line::{HeldLine, LoggedLine, low};
use crate::attribution::memory::Memory;
use crate::hash::mix;

/// Returns a hash of a line's request and of the second of its stamp, by which a copy of the line is known.
pub(super) fn copy_hash(memory: &Memory, line: &HeldLine, logged: &LoggedLine) -> u32 {
    let second = line.time.as_micros().div_euclid(1_000_000);
    low(mix(memory.request_hash(logged).into(), second.unsigned_abs()))
}

/// Whether the line names another balancer than the connection's, although lines name that one. Lines that name the
/// connection's teach it.
pub(super) fn names_another(
    memory: &Memory,
    balancers: &mut NamedBalancers,
    it: &PortCandidate,
    logged: &LoggedLine,
) -> bool {
    let connection = memory.connections.get(it.connection);
    let (Some(balancer), Some(_)) = (connection.balancer, logged.sender) else { return false };
    if it.named {
        balancers.named(logged.origin, balancer);
        return false;
    }
    if it.mapping.is_some() {
        balancers.named_another(logged.origin, balancer);
    }
    balancers.is_named(logged.origin, balancer)
}

/// Whether all requests of the connection are known, and the line's is none of them. A copy of a line has its request
/// taken already.
pub(super) fn lacks_request(memory: &Memory, it: &PortCandidate, copy: u32) -> bool {
    let known = memory.connections.get(it.connection);
    it.mapping.is_none() && known.has_all_requests() && known.taken != copy
}

/// Whether the line, whose request is none of the connection's, was logged outside the connection's life: it is of
/// another balancer. A copy of a line has its request taken already.
pub(super) fn is_certain(
    memory: &Memory,
    ports: &PortEvidence,
    best: &PortCandidate,
    line: &HeldLine,
    copy: u32,
) -> bool {
    let known = memory.connections.get(best.connection);
    let is_over = !known.is_open() && line.time.micros_since(known.closed) > 0;
    let is_before = best.early > 0 && ports.is_rarely_early();
    (is_over || is_before) && !known.is_third_party && known.taken != copy
}

/// Returns the probability, in thousandths, of the connection of a line that may have its port by chance; `None` without
/// such a doubt.
///
/// At a server with lines of another balancer a line is beyond doubt only if its request is one of the connection's, and
/// time and response are those of the exchange, or if it was logged while the connection was open, or at once behind.
pub(super) fn doubt(
    memory: &Memory,
    learnt: &Learnt,
    line: &HeldLine,
    best: &PortCandidate,
) -> Option<u16> {
    let server = &learnt.servers[line.server as usize];
    let unexplained = server.unexplained(line.origin);
    // A line of another balancer has the port of a connection near to it by chance.
    let near = i64::from(memory.servers[line.server as usize].load.near());
    let strangers = unexplained * near / i64::from(costs::PORTS_OF_A_BALANCER);
    if strangers < costs::PORT_CHANCE_TOLERATED {
        return None;
    }
    let own = 1_000_000 - unexplained.min(999_999);
    let share = |own: i64| {
        Some(u16::try_from(own * 1_000 / (own + strangers)).map_or(999, |it| it.min(999)))
    };
    if let Some((mapping, _)) = best.mapping {
        let ports = &server.ports;
        let is_odd_time =
            best.early > 0 && ports.is_rarely_early() || ports.is_too_late(best.apart, true);
        let facts = memory.mappings.get(mapping).facts.map(|facts| memory.exchanges.get(facts));
        let response = facts.map_or(0, |facts| server.agreement.cost(facts, line));
        let is_odd = is_odd_time || response > costs::ODD_RESPONSE;
        return if is_odd { share(own / costs::PORT_ODD_RARE) } else { None };
    }
    let known = memory.connections.get(best.connection);
    let last = line.time.offset_by(line.resolution.micros() - costs::PORT_LATE_UNIT);
    let is_within = line.time >= known.opened && last <= known.closed;
    if is_within { None } else { share(own) }
}
