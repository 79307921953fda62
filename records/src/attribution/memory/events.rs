//! Applies the balancer's records to what is remembered: opened, request, ended, closed.

use super::Memory;
use super::client::{ClientHash, RecordedClient};
use super::connections::ConnectionSlot;
use super::exchanges::request_key;
use super::facts::ExchangeFacts;
use super::request_ids::RequestIdRecord;
use super::signature::{LoggedFields, RequestSignature};
use super::tls::TlsExchange;
use crate::attribution::costs;
use crate::attribution::record::{ExchangeEvent, MappingEvent};
use crate::mapping::{BodyEnd, MappingKind, OpaqueTls};
use crate::time::Timestamp;

/// Status of a connection that changes its protocol. Web servers log the request when the connection is
/// over.
const SWITCHING_PROTOCOLS: u16 = 101;

/// Status of a request that never came whole. The balancer knows that it came only when it is answered; a
/// server may date it by its first line.
const REQUEST_TIMEOUT: u16 = 408;

impl Memory {
    /// Takes a record that names its connection; returns whether the server's mappings and lines are grouped by other
    /// fields now.
    pub(super) fn take_event(&mut self, record: &MappingEvent, event: &ExchangeEvent) -> bool {
        let server = record.server.0;
        let Some(known) = self.servers.get_mut(server as usize) else {
            self.count_unused(event);
            return false;
        };
        known.coarsest = known.coarsest.max(record.resolution);
        known.is_known = true;
        known.is_third_party |= event.is_third_party;
        known.is_ours |= !event.is_third_party;
        self.has_third_party |= event.is_third_party;
        known.has_nameless |= event.port.is_none();
        known.has_named |= event.port.is_some();
        let oldest = self.too_old();
        self.connections.tidy(oldest, self.most_mappings());
        let connection = self.connections.find_or_add(server, event, record.client, record.time);
        if record.is_unauthenticated {
            self.connections.get_mut(connection).is_unauthenticated = true;
        }
        let load = &mut self.servers[server as usize].load;
        match event.kind {
            MappingKind::Opened if event.is_third_party => load.pass_by(record.time),
            MappingKind::Opened => load.open(),
            MappingKind::Closed => load.close(record.time),
            MappingKind::Request | MappingKind::Ended => {}
        }
        let has_fields = event.kind == MappingKind::Request || !event.is_third_party;
        let fields = LoggedFields::of_record(event);
        let changes = has_fields && self.servers[server as usize].fields.take_record(fields);
        if changes {
            self.move_mappings(server);
        }
        match (event.kind, event.tls) {
            (MappingKind::Opened, _) => {}
            (MappingKind::Request, _) => self.take_request(record, event, connection),
            (MappingKind::Ended, Some(tls)) => self.take_tls(record, event, tls, connection),
            (MappingKind::Ended, None) => self.take_end(record, event, connection),
            (MappingKind::Closed, _) => self.take_close(connection, record.time),
        }
        changes
    }

    /// Counts a request that no line can match.
    fn count_unused(&mut self, event: &ExchangeEvent) {
        if event.kind == MappingKind::Request {
            self.counts.taken += 1;
            self.counts.evicted += 1;
        }
    }

    fn take_request(
        &mut self,
        record: &MappingEvent,
        event: &ExchangeEvent,
        connection: ConnectionSlot,
    ) {
        let Some(request) = record.request else { return self.count_unused(event) };
        self.counts.taken += 1;
        let server = record.server.0;
        let known = self.connections.get_mut(connection);
        if known.ended < known.asked {
            self.end_body_before(connection, event.nth, record.time);
        }
        let known = self.connections.get_mut(connection);
        known.asked = known.asked.max(event.nth);
        known.recorded = known.recorded.saturating_add(1);
        let key = request_key(known.serial, event.nth);
        let signature = RequestSignature::of_event(event);
        let place = (connection, event.nth);
        let facts = ExchangeFacts::new(key, place, record.time, request, signature);
        let facts = self.exchanges.add(facts);
        let fields = self.servers[server as usize].fields.key();
        let group = super::exchange_key(server, request, signature, fields);
        let group = self.exchange_group(group, server, request);
        self.take_id(record, event, key);
        let mapping = self.remember(group, record, Some(facts));
        // The mapping may be evicted already, where nothing is to be remembered.
        if self.mappings.get(mapping).facts == Some(facts) {
            self.exchanges.link(facts, mapping);
        }
    }

    /// Takes the id of a request, or notes that the record has none.
    fn take_id(&mut self, record: &MappingEvent, event: &ExchangeEvent, request_key: u64) {
        let server = record.server.0;
        let ids = &mut self.servers[server as usize].ids;
        ids.count(event.request_id.is_some());
        let Some(id) = event.request_id else { return };
        let (addr, is_unauthenticated) = (record.client, record.is_unauthenticated);
        let client = RecordedClient { addr, is_unauthenticated };
        let of_id = RequestIdRecord { client, request_key };
        if self.request_ids.take_record((server, id), of_id, self.now.max(record.time)) {
            ids.note_shared();
        }
        self.tidy_ids();
    }

    /// Takes the end of a response, or of an exchange that changed the protocol.
    fn take_end(
        &mut self,
        record: &MappingEvent,
        event: &ExchangeEvent,
        connection: ConnectionSlot,
    ) {
        let has_status = |of| event.status.is_some_and(|status| status.get() == of);
        if has_status(SWITCHING_PROTOCOLS) {
            return;
        }
        let known = self.connections.get_mut(connection);
        let opened = known.opened;
        if event.body_end != Some(BodyEnd::Pending) {
            known.ended = known.ended.max(event.nth);
        }
        let key = request_key(known.serial, event.nth);
        let Some(mapping) = self.exchanges.find(key) else { return };
        if record.is_unauthenticated {
            self.mappings.distrust(mapping);
        }
        let Some(facts) = self.mappings.get(mapping).facts else { return };
        if has_status(REQUEST_TIMEOUT) {
            let facts = self.exchanges.get_mut(facts);
            facts.asked = facts.asked.min(opened);
        }
        let dated_by = self.servers[record.server.0 as usize].dated_by;
        if self.exchanges.get_mut(facts).end_response(event, record.time, dated_by) {
            self.mappings.end(mapping, record.time);
        }
    }

    /// Ends the exchange before a new request of its connection, if the record of its body's end was lost.
    fn end_body_before(&mut self, connection: ConnectionSlot, nth: u32, time: Timestamp) {
        let known = self.connections.get_mut(connection);
        let key = request_key(known.serial, nth.saturating_sub(1));
        let Some(mapping) = self.exchanges.find(key) else { return };
        let Some(facts) = self.mappings.get(mapping).facts else { return };
        let facts = self.exchanges.get_mut(facts);
        if facts.is_body_pending() {
            facts.ended = true;
            self.mappings.end(mapping, time);
        }
    }

    /// Takes the end of a connection, which ends all unanswered requests on it.
    fn take_close(&mut self, connection: ConnectionSlot, time: Timestamp) {
        let known = self.connections.get_mut(connection);
        known.closed = known.closed.min(time);
        let (serial, ended) = (known.serial, known.ended);
        let last = known.asked.min(ended.saturating_add(costs::CLOSED_REQUESTS));
        for nth in ended.saturating_add(1)..=last {
            let Some(mapping) = self.exchanges.find(request_key(serial, nth)) else { continue };
            let Some(facts) = self.mappings.get(mapping).facts else { continue };
            self.exchanges.get_mut(facts).ended = true;
            self.mappings.end(mapping, time);
        }
    }

    /// Takes the end of an exchange in passed-through TLS.
    fn take_tls(
        &mut self,
        record: &MappingEvent,
        event: &ExchangeEvent,
        tls: OpaqueTls,
        connection: ConnectionSlot,
    ) {
        let known = self.connections.get_mut(connection);
        let (serial, rested) = (known.serial, known.rested);
        known.rested = (record.time, event.nth);
        known.sealed = known.sealed.saturating_add(tls.requests.max(1));
        let exchange = TlsExchange {
            client: record.client,
            client_hash: ClientHash::of(record.client),
            connection: serial,
            nth: event.nth,
            began: record.time.offset_by(-i64::from(tls.took)),
            ended: record.time,
            balancer: event.balancer,
            server_port: event.server_port,
            asked: tls.asked,
            answered: tls.answered,
            requests: tls.requests.max(1),
            lines: 0,
            is_unauthenticated: record.is_unauthenticated,
        };
        let too_old = self.too_old();
        let server = &mut self.servers[record.server.0 as usize];
        server.tls.get_or_insert_default().add(exchange, rested, too_old);
    }

    /// Moves the server's mappings to the groups that follow from a change of the server's fields.
    pub(super) fn move_mappings(&mut self, server: u32) {
        let fields = self.servers[server as usize].fields.key();
        for mapping in self.mappings.with_facts(server) {
            let waiting = self.mappings.get(mapping);
            let (Some(facts), time) = (waiting.facts, waiting.time) else { continue };
            let facts = *self.exchanges.get(facts);
            let key = super::exchange_key(server, facts.request, facts.signature, fields);
            let group = self.exchange_group(key, server, facts.request);
            let from = self.mappings.group_of(mapping);
            if group == from {
                continue;
            }
            let members = self.mappings.group(from);
            if members.lines >= members.mappings {
                self.servers[server as usize].short += 1;
            }
            self.mappings.move_to(mapping, group);
            if facts.ended {
                self.mappings.end(mapping, time);
            }
            self.count_joined(group);
            self.mappings.note_if_empty(from);
        }
    }
}
