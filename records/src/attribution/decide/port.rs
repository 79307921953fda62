//! A line that names the balancer's own port: the port is a key to the connection, and so to the client.
//!
//! Ports are used again, so that the line's time decides which connection of the port it was; where that is
//! not enough, the request on the connection does. Wrong clocks do no harm: where the time fits no
//! connection, the request alone decides.

use std::num::NonZeroU16;

use super::{pair, stranger};
use crate::addr::ClientAddr;
use crate::attribution::costs;
use crate::attribution::learnt::Learnt;
use crate::attribution::learnt::ports::{PortEvidence, PortField, PortFinding};
use crate::attribution::line::{HeldLine, LineNumber, LoggedLine, ServerIndex};
use crate::attribution::memory::Memory;
use crate::attribution::memory::connections::{ConnectionSlot, KnownConnection};
use crate::attribution::memory::exchanges::request_key;
use crate::attribution::memory::mappings::{GroupSlot, MappingSlot};
use crate::attribution::memory::signature::LoggedFields;
use crate::attribution::queue::LateLine;
use crate::attribution::verdict::{LineVerdict, MatchConfidence, Reason};
use crate::time::Timestamp;

/// A connection that the line may have come by.
#[derive(Clone, Copy)]
pub(super) struct PortCandidate {
    pub(super) connection: ConnectionSlot,
    /// The mapping of the line's request on the connection, if there is one, and the request's number.
    pub(super) mapping: Option<(MappingSlot, u32)>,
    /// How far the line is outside the connection's life, in microseconds.
    pub(super) apart: i64,
    /// How long before the connection's opening the line was logged, in microseconds beyond its stamp's resolution.
    pub(super) early: i64,
    /// Whether the line names the connection's balancer.
    pub(super) named: bool,
    /// Whether lines of all requests of the connection have come.
    exhausted: bool,
}

/// Returns the probability of one of several equal candidates, in thousandths.
fn share_of(rivals: usize) -> u16 {
    let all = u16::try_from(rivals + 1).expect("at most as many as connections of a port");
    1_000 / all.min(1_000)
}

/// Returns the port that the line names, and the field: the one that the format names, or else the trailing number
/// that is known to be a port beyond doubt.
pub(crate) fn named(learnt: &Learnt, logged: &LoggedLine) -> Option<(PortField, u16)> {
    if let Some(port) = logged.peer_port {
        return Some((PortField { origin: logged.origin, place: (0, 0) }, port));
    }
    let ports = &learnt.servers.get(logged.server.0 as usize)?.ports;
    let best = trailing(logged).max_by_key(|&(field, _)| ports.weight(field))?;
    ports.is_port(best.0).then_some(best)
}

/// Whether so much is known of the line's port that lines need to teach only when they are decided.
pub(crate) fn is_settled(learnt: &Learnt, logged: &LoggedLine) -> bool {
    let Some(server) = learnt.servers.get(logged.server.0 as usize) else { return false };
    named(learnt, logged).is_some_and(|(field, _)| server.ports.is_settled(field))
}

/// Returns the numbers behind the known fields of the line, with their fields.
fn trailing(logged: &LoggedLine) -> impl Iterator<Item = (PortField, u16)> {
    let LoggedLine { origin, trailing, .. } = *logged;
    let count = trailing.count();
    trailing
        .iter()
        .map(move |(field, number)| (PortField { origin, place: (count, field) }, number))
}

/// Learns from a line that just came which of its fields may be ports; returns whether a port was found. A number
/// that is not found is judged when the line is decided: its record may still be on its way.
pub(crate) fn note_found(memory: &Memory, learnt: &mut Learnt, logged: &LoggedLine) -> bool {
    note(memory, learnt, logged, |ports, field, number, found| {
        if let Some(finding) = found {
            ports.found(field, number, finding);
        }
    })
}

/// Learns from a line that is being decided, if no port of it was found when it came.
pub(super) fn learn(memory: &Memory, learnt: &mut Learnt, late: &LateLine) {
    if late.is_found || late.logged.trailing.is_empty() || named(learnt, &late.logged).is_some() {
        return;
    }
    note_all(memory, learnt, &late.logged);
}

fn note_all(memory: &Memory, learnt: &mut Learnt, logged: &LoggedLine) {
    note(memory, learnt, logged, |ports, field, number, found| match found {
        Some(finding) => ports.found(field, number, finding),
        None => ports.missed(field),
    });
}

fn note(
    memory: &Memory,
    learnt: &mut Learnt,
    logged: &LoggedLine,
    mut note: impl FnMut(&mut PortEvidence, PortField, u16, Option<PortFinding>),
) -> bool {
    let line = HeldLine::new(logged);
    let group = memory.own_group_of(logged);
    let Some(server) = learnt.servers.get_mut(line.server as usize) else { return false };
    let named =
        logged.peer_port.map(|port| (PortField { origin: logged.origin, place: (0, 0) }, port));
    let mut any = false;
    for (field, number) in named.into_iter().chain(trailing(logged)) {
        let found = find(memory, &line, logged, group, number);
        any |= found.is_some();
        note(&mut server.ports, field, number, found);
    }
    any
}

/// Finds a number among the ports of the server's connections that suit the line.
fn find(
    memory: &Memory,
    line: &HeldLine,
    logged: &LoggedLine,
    group: Option<GroupSlot>,
    number: u16,
) -> Option<PortFinding> {
    let server = memory.servers.get(line.server as usize)?;
    if let Some(group) = group.filter(|_| server.is_third_party) {
        let mut mappings = memory.mappings.candidates(group).take(costs::GROUP_SCAN);
        let facts = |mapping| memory.mappings.get(mapping).facts.map(|it| memory.exchanges.get(it));
        if mappings.any(|mapping| facts(mapping).is_some_and(|it| it.signature.has_peer(number))) {
            let rivals = memory.mappings.group(group).mappings;
            return Some(PortFinding { rivals, by_request: true });
        }
    }
    let candidates = memory.connections.of_port(line.server, number);
    let best = candidates
        .filter_map(|connection| candidate(memory, line, logged, connection, group))
        .min_by_key(|it| (it.mapping.is_none(), it.apart))?;
    if best.mapping.is_some() {
        let rivals = group.map_or(1, |group| memory.mappings.group(group).mappings);
        return Some(PortFinding { rivals, by_request: true });
    }
    let connection = memory.connections.get(best.connection);
    // The requests of the connection are known, and this is none of them; or a connection of long ago.
    let is_other = connection.asked > 0 && logged.long.is_some();
    let age = line.time.micros_since(connection.opened);
    let is_old =
        best.apart > costs::PORT_RECENT || connection.is_third_party && age > costs::PORT_RECENT;
    let rivals = server.load.near();
    (!is_other && !is_old).then_some(PortFinding { rivals, by_request: false })
}

/// Decides the oldest held line by its port; `None` if the line names none, or no connection has it.
///
/// A line whose port no connection has came by another balancer, or its records are lost: where ports are known to be
/// keys, no mapping of another port is its own.
pub(super) fn decide_late(
    memory: &mut Memory,
    learnt: &mut Learnt,
    line: &HeldLine,
    late: &LateLine,
) -> Option<LineVerdict> {
    let logged = &late.logged;
    let (field, port) = named(learnt, logged)?;
    let verdict = decide(memory, learnt, line, logged, port);
    let ports = &mut learnt.servers[line.server as usize].ports;
    match verdict {
        Some(verdict) if !late.is_found => {
            let by_request = verdict.delay.is_some();
            let near = memory.servers[line.server as usize].load.near();
            let rivals = if by_request { 1 } else { near };
            ports.found(field, port, PortFinding { rivals, by_request });
        }
        Some(_) => {}
        None => ports.missed(field),
    }
    let is_key = ports.is_port(field) && memory.has_own_ports(line.server);
    if verdict.is_none() && memory.servers[line.server as usize].is_third_party && !late.is_found {
        note_all(memory, learnt, logged);
    }
    verdict.or_else(|| is_key.then_some(LineVerdict::unmatched(Reason::NoMapping)))
}

/// Decides a line by its port; `None` if no connection with the port is known.
fn decide(
    memory: &mut Memory,
    learnt: &mut Learnt,
    line: &HeldLine,
    logged: &LoggedLine,
    port: u16,
) -> Option<LineVerdict> {
    let group = memory.own_group_of(logged);
    let mut found: [Option<PortCandidate>; costs::PORT_CONNECTIONS] =
        [None; costs::PORT_CONNECTIONS];
    let mut count = 0_u32;
    let balancers = &mut learnt.servers[line.server as usize].named_balancers;
    for (connection, place) in memory.connections.of_port(line.server, port).zip(&mut found) {
        *place = candidate(memory, line, logged, connection, group)
            .filter(|it| !stranger::names_another(memory, balancers, it, logged));
        count += u32::from(place.is_some());
    }
    // The oldest first: of equals the first is taken, and its lines come first, too.
    let candidates = || found.iter().rev().flatten();
    let copy = stranger::copy_hash(memory, line, logged);
    let ports = &learnt.servers[line.server as usize].ports;
    let names_request = logged.long.is_some() && ports.names_requests();
    let lacks = |it: &PortCandidate| names_request && stranger::lacks_request(memory, it, copy);
    let rank =
        |it: &&PortCandidate| (lacks(it), it.apart, !it.named, it.mapping.is_none(), it.exhausted);
    let best = *candidates().min_by_key(rank)?;
    let is_without = logged.long.is_some() && stranger::lacks_request(memory, &best, copy);
    let lacks_request = names_request && is_without;
    let ports = &mut learnt.servers[line.server as usize].ports;
    let has_requests = memory.connections.get(best.connection).asked > 0 && logged.long.is_some();
    if best.mapping.is_some() || !has_requests {
        ports.came_late(best.apart, memory.now);
        ports.came_early(best.early, memory.now);
    }
    if ports.is_too_early(best.early) {
        return None;
    }
    if best.mapping.is_none()
        && (ports.is_too_late(best.apart, has_requests)
            || has_requests
                && ports.has_requests()
                && stranger::is_certain(memory, ports, &best, line, copy))
    {
        ports.learn_request(false);
        return None;
    }
    if has_requests {
        ports.learn_request(best.mapping.is_some());
        ports.learn_without_request(is_without);
    }
    let known = memory.connections.get(best.connection);
    let (client, guessed) = (known.recorded_client(), known.guessed);
    let has_other =
        |it: &PortCandidate| memory.connections.get(it.connection).client != client.addr;
    // After one guess the other candidates of that guess are guesses, too.
    let is_rival = |it: &&PortCandidate| {
        let same = if guessed { it.apart == best.apart } else { rank(it) == rank(&&best) };
        same && has_other(it) && !ports.is_too_early(it.early)
    };
    let rivals = candidates().filter(is_rival).count();
    if rivals > 0 {
        for candidate in found.iter().flatten().filter(|it| it.apart == best.apart) {
            memory.connections.get_mut(candidate.connection).guessed = true;
        }
    }
    let doubt = match rivals {
        0 if lacks_request => Some(costs::PORT_WITHOUT_REQUEST_PROBABILITY),
        0 => stranger::doubt(memory, learnt, line, &best),
        _ => Some(share_of(rivals)),
    };
    let known = memory.connections.get_mut(best.connection);
    known.taken = if best.mapping.is_some() { copy } else { known.taken };
    known.next = best.mapping.map_or(known.next, |(_, nth)| nth).saturating_add(1);
    let delay = best.mapping.map(|(mapping, _)| pair::take(memory, learnt, mapping, line));
    let confidence =
        doubt.map_or(MatchConfidence::EXACT, |share| MatchConfidence::likely(Reason::Port, share));
    Some(LineVerdict::matched(client, confidence, count, delay))
}

/// Returns the connection as a candidate; `None` if the line came long before it or long after it.
fn candidate(
    memory: &Memory,
    line: &HeldLine,
    logged: &LoggedLine,
    slot: ConnectionSlot,
    group: Option<GroupSlot>,
) -> Option<PortCandidate> {
    let connection = memory.connections.get(slot);
    let server_port = connection.server_port.map_or(0, NonZeroU16::get);
    if logged.server_port.is_some_and(|port| port != server_port) {
        return None;
    }
    let mapping = mapping_on(memory, logged, connection, group);
    let slack = memory.wait + line.resolution.micros();
    let early = connection.opened.micros_since(line.time);
    let late = line.time.micros_since(connection.closed);
    if mapping.is_none() && (early > slack || late > memory.window) {
        return None;
    }
    let apart = early.max(late).saturating_sub(slack).max(0);
    let named =
        logged.sender.is_some_and(|sender| connection.balancer.map_or(0, u32::from) == sender);
    let exhausted = connection.is_exhausted();
    let early = early.saturating_sub(line.resolution.micros()).max(0);
    Some(PortCandidate { connection: slot, mapping, apart, early, named, exhausted })
}

/// Returns the mapping of the line's request on a connection, and the request's number: the number that the
/// line logs, or else the first request that is equal.
fn mapping_on(
    memory: &Memory,
    logged: &LoggedLine,
    connection: &KnownConnection,
    group: Option<GroupSlot>,
) -> Option<(MappingSlot, u32)> {
    let group = group?;
    let numbers = match logged.nth {
        Some(nth) if !connection.is_third_party => nth..=nth,
        _ => {
            let last = connection.next.saturating_add(costs::PORT_REQUESTS_AHEAD);
            connection.next..=connection.asked.min(last)
        }
    };
    numbers.into_iter().find_map(|nth| {
        let mapping = memory.exchanges.find(request_key(connection.serial, nth))?;
        (memory.mappings.group_of(mapping) == group).then_some((mapping, nth))
    })
}

/// Decides a line with several equal exchanges on the port by order: a connection carries one
/// request after the other, and lines come in the same order. `None` if no exchange is possible.
///
/// A line may be missing, so that the order is a guess. Then the other exchanges are guesses, too.
pub(super) fn in_order(
    memory: &mut Memory,
    learnt: &mut Learnt,
    line: &HeldLine,
    group: GroupSlot,
    next: Option<LineNumber>,
) -> Option<LineVerdict> {
    let server = &learnt.servers[line.server as usize];
    let mut best: Option<((bool, bool, Timestamp), MappingSlot, ClientAddr)> = None;
    let mut possible = [None; costs::SHARED_PORT_RIVALS];
    let (mut count, mut is_guess) = (0_u32, false);
    for mapping in memory.mappings.candidates(group).take(costs::GROUP_SCAN) {
        let waiting = memory.mappings.get(mapping);
        let Some(facts) = waiting.facts else { continue };
        if pair::cannot_be(memory, server, waiting, line) {
            continue;
        }
        let facts = memory.exchanges.get(facts);
        let is_odd = server.agreement.cost(facts, line) > costs::ODD_RESPONSE;
        let rank = (is_odd, server.is_left_behind(line, facts.life(waiting.time)), waiting.time);
        is_guess |=
            waiting.is_contested() || best.is_some_and(|(.., client)| client != waiting.client);
        if best.is_none_or(|(least, ..)| rank < least) {
            best = Some((rank, mapping, waiting.client));
        }
        if let Some(place) = possible.get_mut(count as usize) {
            *place = Some(mapping);
        }
        count += 1;
    }
    let (_, mapping, _) = best?;
    let client = memory.mappings.get(mapping).recorded_client();
    if is_guess {
        possible.into_iter().flatten().for_each(|mapping| memory.mappings.contest(mapping));
    }
    let delay = pair::learn_exchange(memory, learnt, mapping, line);
    memory.consume(group, mapping, next);
    let confidence = if is_guess {
        MatchConfidence::likely(Reason::Order, costs::SHARED_PORT_PROBABILITY)
    } else {
        MatchConfidence::EXACT
    };
    Some(LineVerdict::matched(client, confidence, count, Some(delay)))
}

/// Returns the balancer's port in the line, if the records of another balancer name that port.
pub(super) fn shared_port(memory: &Memory, line: &HeldLine) -> Option<NonZeroU16> {
    let server = memory.servers.get(line.server as usize)?;
    let peer = line
        .peer
        .filter(|_| server.has_exchanges() && server.fields.compared().has(LoggedFields::PEER));
    peer.filter(|_| !memory.connections.is_empty())
}

/// Decides a line by its port, without its request.
pub(super) fn alone(
    memory: &mut Memory,
    learnt: &mut Learnt,
    line: &HeldLine,
    port: NonZeroU16,
) -> Option<LineVerdict> {
    let logged = LoggedLine::unread(ServerIndex(line.server), (line.time, line.resolution));
    let logged = LoggedLine { sender: line.sender, ..logged };
    decide(memory, learnt, line, &logged, port.get())
}
