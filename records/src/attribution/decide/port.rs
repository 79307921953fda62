//! A line that names the balancer's own port: a key to the connection, and so to the client.
//!
//! Ports are used again, so the line's time decides which of the connections of a port it was, and where
//! that leaves it open, whether the request was asked on it. Clocks that are wrong do no harm: where the time
//! fits none, the request alone decides.

use crate::attribution::costs;
use crate::attribution::decide::nothing;
use crate::attribution::line::{HeldLine, LoggedLine, ServerIndex};
use crate::attribution::memory::connections::KnownConnection;
use crate::attribution::memory::exchanges::request_key;
use crate::attribution::memory::mappings::NIL;
use crate::attribution::queue::Attributor;
use crate::attribution::verdict::{Certainty, LineVerdict, Reason};

/// A connection that the line may have come by.
#[derive(Clone, Copy)]
struct PortCandidate {
    connection: u32,
    /// The mapping of the line's request on it, if that has come, and the request's number.
    mapping: Option<(u32, u32)>,
    /// How far out of its life the line is, in microseconds.
    apart: i64,
    /// Whether the line names this balancer.
    named: bool,
    /// Whether lines of all its requests have come.
    exhausted: bool,
}

/// What one of equals is worth, in thousandths.
fn share_of(rivals: usize) -> u16 {
    1_000 / u16::try_from(rivals + 1).unwrap_or(1_000).min(1_000)
}

impl<T> Attributor<T> {
    /// Decides the oldest held line, which is in no group, by its port. `None` if no such connection is
    /// known.
    pub(crate) fn decide_by_port(&mut self, line: &LoggedLine, port: u16) -> Option<LineVerdict> {
        let asked = self.held[0].asked;
        let group = self.own_group_of(line);
        let mut found: [Option<PortCandidate>; costs::PORT_CONNECTIONS] =
            [None; costs::PORT_CONNECTIONS];
        let mut count = 0_u32;
        for (index, place) in self.connections.of_port(asked.server, port).zip(&mut found) {
            let connection = self.connections.get(index);
            *place = self.candidate(line, &asked, index, connection, group);
            count += u32::from(place.is_some());
        }
        // The oldest comes first, and of equals the first is taken: its lines come first, too.
        let candidates = || found.iter().rev().flatten();
        let rank = |it: &&PortCandidate| (it.apart, !it.named, it.mapping.is_none(), it.exhausted);
        let best = *candidates().min_by_key(rank)?;
        let KnownConnection { client, guessed, .. } = *self.connections.get(best.connection);
        let is_other = |it: &PortCandidate| self.connections.get(it.connection).client != client;
        // After one guess the rest of what it was made among is a guess, too.
        let is_rival = |it: &&PortCandidate| {
            let same = if guessed { it.apart == best.apart } else { rank(it) == rank(&&best) };
            same && is_other(it)
        };
        let rivals = candidates().filter(is_rival).count();
        let is_guess = rivals > 0;
        let certainty = if is_guess { Certainty::Likely } else { Certainty::Exact };
        if is_guess {
            for candidate in found.iter().flatten().filter(|it| it.apart == best.apart) {
                self.connections.get_mut(candidate.connection).guessed = true;
            }
        }
        let known = self.connections.get_mut(best.connection);
        known.next = best.mapping.map_or(known.next, |(_, nth)| nth).saturating_add(1);
        let delay = best.mapping.map(|(mapping, _)| self.take_by_port(mapping, &asked));
        Some(LineVerdict {
            client: Some(client),
            certainty,
            candidates: count,
            reason: Reason::Port,
            delay,
            probability: if is_guess { share_of(rivals) } else { 1_000 },
        })
    }

    /// `None` if the line came long before the connection or long after it.
    fn candidate(
        &self,
        line: &LoggedLine,
        asked: &HeldLine,
        index: u32,
        connection: &KnownConnection,
        group: Option<u32>,
    ) -> Option<PortCandidate> {
        if line.server_port.is_some_and(|port| port != connection.server_port) {
            return None;
        }
        let mapping = self.own_mapping(line, connection, group);
        let slack = self.wait + asked.resolution.micros();
        let early = connection.opened.micros_since(asked.time);
        let late = asked.time.micros_since(connection.closed);
        if mapping.is_none() && (early > slack || late > self.window) {
            return None;
        }
        let apart = early.max(late).saturating_sub(slack).max(0);
        let named = line.sender == Some(connection.balancer);
        let exhausted = connection.asked > 0 && connection.next > connection.asked;
        Some(PortCandidate { connection: index, mapping, apart, named, exhausted })
    }

    /// The mapping of the line's request on a connection: the one it numbers, or else the first that
    /// is alike.
    fn own_mapping(
        &self,
        line: &LoggedLine,
        connection: &KnownConnection,
        group: Option<u32>,
    ) -> Option<(u32, u32)> {
        let group = group?;
        let numbers = match line.nth {
            Some(nth) if !connection.is_foreign => nth..=nth,
            _ => {
                connection.next
                    ..=connection
                        .asked
                        .min(connection.next.saturating_add(costs::PORT_REQUESTS_AHEAD))
            }
        };
        numbers.into_iter().find_map(|nth| {
            let mapping = self.exchanges.find(request_key(connection.serial, nth))?;
            (self.outstanding.group_of(mapping) == group).then_some((mapping, nth))
        })
    }

    fn take_by_port(&mut self, mapping: u32, asked: &HeldLine) -> i64 {
        let delay = self.learn_exchange(mapping, asked);
        self.take(mapping);
        self.count_used();
        delay
    }

    /// Decides the oldest held line, which is in no group yet.
    pub(crate) fn decide_late(&mut self, line: &LoggedLine) -> LineVerdict {
        // Nothing was known of the server when the line came.
        if self.states.get(line.server.0 as usize).is_some_and(|state| state.has_exchanges) {
            self.learn_shape(line);
        }
        if let Some(port) = line.peer_port
            && let Some(verdict) = self.decide_by_port(line, port)
        {
            return verdict;
        }
        let Some(group) = self.group_of(line) else { return nothing(Reason::NoRequest) };
        self.enter_group_first(group);
        self.decide_waiting(group)
    }

    /// Decides the oldest held line, which waits in `group`.
    ///
    /// Another balancer sends requests of many clients over one connection. There request and port together
    /// are the key, and their group has all exchanges that the line may be; where the request does not help,
    /// the port alone does.
    pub(crate) fn decide_waiting(&mut self, group: u32) -> LineVerdict {
        let Some(port) = self.foreign_peer() else { return self.decide(group) };
        if let Some(verdict) = self.decide_in_turn(group) {
            return verdict;
        }
        let verdict = self.decide(group);
        match verdict.client {
            None => self.decide_by_port_alone(port).unwrap_or(verdict),
            Some(_) if verdict.candidates > 1 && verdict.certainty == Certainty::Likely => verdict,
            Some(_) => LineVerdict {
                certainty: Certainty::Exact,
                reason: Reason::Port,
                probability: 1_000,
                ..verdict
            },
        }
    }

    /// Decides the oldest held line where several exchanges of its port have its request: one connection
    /// carries one after the other, and so come the lines. `None` if there are not several.
    fn decide_in_turn(&mut self, group: u32) -> Option<LineVerdict> {
        if self.outstanding.group(group).mappings < 2 {
            return None;
        }
        self.set_stale_aside(group);
        let asked = self.held[0].asked;
        let agreement = self.states[asked.server as usize].agreement;
        let (mut first, mut suits) = (None, None);
        let (mut count, mut is_guess) = (0_u32, false);
        for mapping in self.outstanding.candidates(group).take(costs::GROUP_SCAN) {
            let waiting = self.outstanding.get(mapping);
            if waiting.facts == NIL || self.cannot_be(waiting, &asked) {
                continue;
            }
            count += 1;
            let found = (mapping, waiting.client);
            is_guess |= first.get_or_insert(found).1 != waiting.client;
            let facts = self.exchanges.get(waiting.facts);
            if suits.is_none() && agreement.cost(facts, &asked) <= costs::ODD_RESPONSE {
                suits = Some(found);
            }
        }
        let (mapping, client) = suits.or(first)?;
        let delay = Some(self.learn_exchange(mapping, &asked));
        self.consume(group, mapping, self.held[0].next);
        let (certainty, reason, probability) = if is_guess {
            (Certainty::Likely, Reason::Order, costs::SHARED_PORT_PROBABILITY)
        } else {
            (Certainty::Exact, Reason::Port, 1_000)
        };
        let (client, candidates) = (Some(client), count);
        Some(LineVerdict { client, certainty, candidates, reason, delay, probability })
    }

    /// Decides the oldest held line, whose request is not known.
    pub(crate) fn decide_unreadable(&mut self) -> LineVerdict {
        let known = self.foreign_peer().and_then(|port| self.decide_by_port_alone(port));
        known.unwrap_or(nothing(Reason::NoRequest))
    }

    /// The port in the oldest held line, if another balancer's records name it.
    fn foreign_peer(&self) -> Option<u16> {
        let asked = self.held.front()?.asked;
        let state = self.states.get(asked.server as usize)?;
        let peer =
            (asked.peer != 0 && state.has_exchanges && state.shape.peer).then_some(asked.peer);
        peer.filter(|_| !self.connections.is_empty())
    }

    fn decide_by_port_alone(&mut self, port: u16) -> Option<LineVerdict> {
        let asked = self.held[0].asked;
        let line = LoggedLine::unread(ServerIndex(asked.server), (asked.time, asked.resolution));
        let line = LoggedLine { sender: asked.sender, ..line };
        self.decide_by_port(&line, port)
    }
}
