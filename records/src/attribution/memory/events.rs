//! What the engine makes of our own balancer's records: opened, request, ended, closed.

use crate::attribution::costs;
use crate::attribution::line::LoggedLine;
use crate::attribution::memory::exchanges::request_key;
use crate::attribution::memory::facts::ExchangeFacts;
use crate::attribution::memory::mappings::NIL;
use crate::attribution::memory::signature::{LoggedFields, RequestSignature};
use crate::attribution::queue::{Attributor, exchange_key};
use crate::attribution::record::{ExchangeEvent, MappingEvent};
use crate::mapping::MappingKind;
use crate::time::Timestamp;

/// The connection is somebody else's from then on; it is logged when that is over.
const SWITCHING: u16 = 101;

impl<T> Attributor<T> {
    /// Takes a record that names its connection.
    pub(crate) fn note_exchange(&mut self, record: &MappingEvent) {
        let Some(exchange) = &record.exchange else { return };
        let server = record.server.0;
        let Some(state) = self.states.get_mut(server as usize) else {
            self.count_unused(exchange);
            return;
        };
        state.coarsest = state.coarsest.max(record.resolution);
        (state.is_known, state.has_exchanges) = (true, true);
        state.is_foreign |= exchange.is_foreign;
        let shape = state.shape;
        let oldest = self.now.offset_by(-self.window);
        self.connections.tidy(oldest, self.most_remembered());
        let connection = self.connections.find_or_add(server, exchange, record.client, record.time);
        if exchange.kind == MappingKind::Request || !exchange.is_foreign {
            let known = shape.of_record(exchange);
            if known != shape {
                self.narrow(server, known);
            }
        }
        match exchange.kind {
            MappingKind::Opened => {}
            MappingKind::Request => self.note_request(record, exchange, connection),
            MappingKind::Ended if exchange.sealed.is_some() => self.note_sealed(record, connection),
            MappingKind::Ended if exchange.status == SWITCHING => {}
            MappingKind::Ended => self.note_ended(connection, exchange, record.time),
            MappingKind::Closed => self.note_closed(connection, record.time),
        }
    }

    /// A request that no line can match is a mapping all the same.
    fn count_unused(&mut self, exchange: &ExchangeEvent) {
        if exchange.kind == MappingKind::Request {
            self.counts.mappings += 1;
            self.counts.evicted += 1;
        }
    }

    fn note_request(&mut self, record: &MappingEvent, exchange: &ExchangeEvent, connection: u32) {
        let Some(request) = record.request else { return self.count_unused(exchange) };
        self.counts.mappings += 1;
        let server = record.server.0;
        let known = self.connections.get_mut(connection);
        known.asked = known.asked.max(exchange.nth);
        let key = request_key(known.serial, exchange.nth);
        let manner = RequestSignature::of_exchange(exchange);
        let facts = self.exchanges.add(ExchangeFacts::new(key, record.time, request, manner));
        let shape = self.states[server as usize].shape;
        let group = self.exchange_group(exchange_key(server, request, manner, shape), server);
        let mapping = self.remember(group, record, facts);
        // It may be gone already, if nothing is to be remembered.
        if self.outstanding.get(mapping).facts == facts {
            self.exchanges.link(facts, mapping);
        }
    }

    fn note_ended(&mut self, connection: u32, exchange: &ExchangeEvent, time: Timestamp) {
        let known = self.connections.get_mut(connection);
        known.ended = known.ended.max(exchange.nth);
        let key = request_key(known.serial, exchange.nth);
        if let Some(mapping) = self.exchanges.find(key) {
            let facts = self.exchanges.get_mut(self.outstanding.get(mapping).facts);
            (facts.status, facts.bytes, facts.ended) = (exchange.status, exchange.bytes, true);
            self.outstanding.end(mapping, time);
        }
    }

    /// What was asked and not answered ends with its connection.
    fn note_closed(&mut self, connection: u32, time: Timestamp) {
        let known = self.connections.get_mut(connection);
        known.closed = known.closed.min(time);
        let (serial, ended) = (known.serial, known.ended);
        let last = known.asked.min(ended.saturating_add(costs::CLOSED_REQUESTS));
        for nth in ended.saturating_add(1)..=last {
            if let Some(mapping) = self.exchanges.find(request_key(serial, nth)) {
                self.exchanges.get_mut(self.outstanding.get(mapping).facts).ended = true;
                self.outstanding.end(mapping, time);
            }
        }
    }

    /// The group with this key, whose mappings have facts.
    pub(crate) fn exchange_group(&mut self, key: u64, server: u32) -> u32 {
        let group = self.outstanding.find_or_add(key, server);
        self.outstanding.group_mut(group).of_exchanges = true;
        group
    }

    /// By what a line is compared with our own balancer's records, if its server has any.
    pub(crate) fn exchange_key_of(&self, line: &LoggedLine) -> Option<u64> {
        let state = self.states.get(line.server.0 as usize).filter(|state| state.has_exchanges)?;
        let request = line.whole.or(line.long)?;
        Some(exchange_key(line.server.0, request, RequestSignature::of_line(line), state.shape))
    }

    /// The group of our own balancer's records that a line belongs to, if it has any.
    pub(crate) fn own_group_of(&self, line: &LoggedLine) -> Option<u32> {
        self.exchange_key_of(line).and_then(|key| self.outstanding.find(key))
    }

    /// A mapping is about to go: so are its facts.
    pub(crate) fn forget_facts(&mut self, mapping: u32) {
        let facts = self.outstanding.get(mapping).facts;
        if facts != NIL {
            self.exchanges.remove(facts, mapping);
        }
    }

    /// A line that lacks what others have is compared without it, and so are all others of its server.
    pub(crate) fn learn_shape(&mut self, line: &LoggedLine) {
        let Some(state) = self.states.get(line.server.0 as usize) else { return };
        let shape = state.shape.of(line);
        // What was not understood says nothing.
        if shape != state.shape && line.long.is_some() {
            self.narrow(line.server.0, shape);
        }
    }

    /// Compares lines and mappings of a server by less from now on.
    pub(crate) fn narrow(&mut self, server: u32, shape: LoggedFields) {
        let Some(state) = self.states.get_mut(server as usize) else { return };
        if state.shape == shape {
            return;
        }
        state.shape = shape;
        for mapping in self.outstanding.with_facts(server) {
            let waiting = self.outstanding.get(mapping);
            let (facts, time) = (*self.exchanges.get(waiting.facts), waiting.time);
            let key = exchange_key(server, facts.request, facts.manner, shape);
            let group = self.exchange_group(key, server);
            let from = self.outstanding.group_of(mapping);
            if group == from {
                continue;
            }
            let members = self.outstanding.group(from);
            if members.lines >= members.mappings {
                self.states[server as usize].short += 1;
            }
            self.outstanding.move_to(mapping, group);
            if facts.ended {
                self.outstanding.end(mapping, time);
            }
            self.fill_want(group);
            self.outstanding.note_if_empty(from);
        }
    }
}
