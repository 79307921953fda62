//! Shipments of penlog, and its questions for a collector.

use std::net::SocketAddr;

use pen_records::attribution::BalancerId;
use pen_records::shipment::{
    DiscoveryAnswer, DiscoveryQuestion, Shipment, ShipmentOutcome, StreamList,
};
use pen_records::time::Timestamp;

use super::intake::LineArrival;
use super::{Collector, Peer};
use crate::third_party::ReaderId;
use crate::warnings::WarningCause;

/// Largest UDP payload, in bytes.
const DATAGRAM: u32 = 65_507;
/// Bytes that a shipper keeps unconfirmed on a stream, where TCP limits what is under way.
const STREAM_WINDOW: u32 = 8 << 20;

impl Collector {
    /// Takes a shipment of access lines, or of a third-party balancer's log.
    pub(super) fn shipment(&mut self, from: SocketAddr, shipment: &Shipment<'_>, now: Timestamp) {
        let name = shipment.server.name;
        if let Some(reader) = self.third_party.of_sender(from.ip().to_canonical(), name) {
            return self.shipped_third_party_lines(reader, from, shipment, now);
        }
        let Some(sender) = self.line_sender(from, now) else { return };
        self.intake.received.shipments += 1;
        let intake = &mut self.intake;
        let source = intake.sources.of_shipment(sender, &shipment.server, &mut intake.engine);
        if !self.senders.knows(&shipment.origin) {
            intake.catch_up(source, shipment.sent.micros_since(now));
        }
        let forgotten = self.senders.forgotten();
        let arrival = self.senders.receive(shipment, now, |line, read| {
            intake.line(source, line, LineArrival::new(from, read, now));
        });
        self.has_taken = arrival.outcome == ShipmentOutcome::New;
        if self.senders.forgotten() > forgotten {
            let limit = self.settings.senders;
            let what = format_args!(
                "a shipper more than the limit of {limit}: one that was quiet is forgotten, and what it sends again is \
                 written twice (raise --memory)"
            );
            self.intake.warnings.warn(WarningCause::Senders, from, now, what);
        }
        if arrival.first {
            let line = shipment.first_line;
            let what = format_args!("a shipper, from its line {line} on");
            self.intake.warnings.warn(WarningCause::Began, from, now, what);
        }
    }

    /// Takes a shipment with the log of a third-party balancer.
    fn shipped_third_party_lines(
        &mut self,
        reader: ReaderId,
        from: SocketAddr,
        shipment: &Shipment<'_>,
        now: Timestamp,
    ) {
        if !self.settings.allow.mappings_of(from.ip()) {
            return self.refuse(from, now, "a balancer's lines");
        }
        self.intake.received.shipments += 1;
        let mut lines = Vec::new();
        let arrival =
            self.senders.receive(shipment, now, |line, read| lines.push((line.to_vec(), read)));
        self.has_taken = arrival.outcome == ShipmentOutcome::New;
        for (line, read) in lines {
            self.third_party_line(reader, &line, from, read);
        }
        if arrival.first {
            let line = shipment.first_line;
            let what = format_args!("a shipper of a balancer's log, from its line {line} on");
            self.intake.warnings.warn(WarningCause::Began, from, now, what);
        }
    }

    /// Replies to a shipper that asks for a collector: what has come, and how many bytes it may send without a
    /// confirmation. A balancer asks likewise which of its records have come.
    pub(super) fn question(
        &mut self,
        peer: Peer,
        question: &DiscoveryQuestion,
        now: Timestamp,
    ) -> Option<DiscoveryAnswer> {
        let from = peer.addr;
        let allow = &self.settings.allow;
        if !allow.lines_of(from.ip()) && !allow.mappings_of(from.ip()) {
            self.refuse(from, now, "questions");
            return None;
        }
        self.intake.received.questions += 1;
        let (nonce, datagram) = (question.nonce, DATAGRAM);
        if let Some(received) = self.origins.asked(question, now) {
            if let Some((balancer, missing)) = self.origins.missing_of(&question.origin) {
                self.watermarks.asked(BalancerId(balancer), missing, now);
            }
            let received = Some(received);
            let positions = StreamList::default();
            return Some(DiscoveryAnswer { nonce, window: 0, datagram, received, positions });
        }
        self.senders.asked(question, now);
        // One that has sent something and no line is a balancer.
        let is_shipper = question.shipments == 0 || question.lines > 0;
        let window = match (is_shipper, peer.is_stream) {
            (false, _) => 0,
            (true, true) => STREAM_WINDOW,
            (true, false) => self.windows.ask(question.origin, now),
        };
        let received = Some(self.senders.received(question));
        let positions = self.senders.positions(&question.streams);
        Some(DiscoveryAnswer { nonce, window, datagram, received, positions })
    }
}
