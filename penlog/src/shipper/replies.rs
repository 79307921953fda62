//! Handles replies, refusals and silence of the collector.

use std::hash::BuildHasher as _;
use std::time::Instant;

use pen_records::shipment::{
    DiscoveryAnswer, DiscoveryQuestion, ReceivedShipments, SendStamp, Shipment, StreamList,
};

use super::socket::{Received, SendOutcome, Way, refuses_streams};
use super::{Shipper, shipped_lines};
use crate::link_state::{ReplyOutcome, SendMode};
use crate::report::ShipperCounts;

impl Shipper {
    /// Receives replies and refusals.
    pub(super) fn hear(&mut self, now: Instant) {
        let mut buffer = [0; 512];
        loop {
            match self.socket.receive(&mut buffer) {
                (Received::Datagram(len), way) => {
                    if let Some(Ok(answer)) = buffer.get(..len).map(DiscoveryAnswer::parse)
                        && self.state.is_reply(&answer)
                        && self.socket.replied(way)
                    {
                        self.answered(&answer, now);
                    }
                }
                (Received::Nothing, _) => return,
                (Received::Refusal, _) => return self.refused(now),
            }
        }
    }

    fn answered(&mut self, answer: &DiscoveryAnswer, now: Instant) {
        let outcome = self.state.answered(answer, now);
        if matches!(outcome, ReplyOutcome::Confirmed(_)) {
            self.queue.positions.answered(&answer.positions);
        }
        match outcome {
            ReplyOutcome::Stray => {}
            ReplyOutcome::Confirmed(mark) => self.confirm(mark, answer.received),
            ReplyOutcome::Ours => {
                self.destination.succeeded();
                self.queue.set_ours();
                self.silent = None;
                if let Some(addr) = self.destination.current() {
                    self.limit_datagrams(addr, answer.datagram);
                    let (kind, way) = match self.socket.way() {
                        Some(Way::Datagrams) => ("by UDP", "UDP"),
                        Some(Way::Stream) | None => ("by TCP", "TCP"),
                    };
                    self.report.say(kind, now, || format!("shipping to {addr} by {way}"));
                }
                self.again_from_the_start();
                // Lines refused one by one are few: they return to the backlog.
                let first: Vec<u8> = self.again.drain(..).flatten().collect();
                if !first.is_empty() {
                    self.backlog.put_back(first, self.queue.clock());
                }
            }
        }
    }

    fn confirm(&mut self, mark: u64, received: Option<ReceivedShipments>) {
        let (consumed, is_missing) = self.unconfirmed.confirm(mark, received);
        if let Some(consumed) = consumed {
            self.queue.set_done(consumed);
        }
        if is_missing {
            self.again_from_the_start();
        }
    }

    /// Schedules every unconfirmed shipment to be sent again.
    pub(super) fn again_from_the_start(&mut self) {
        self.unconfirmed.rewind();
        self.state.rewind();
    }

    pub(super) fn ask(&mut self, now: Instant) {
        let nonce = self.state.nonce(self.random.hash_one((self.origin.id, now)));
        let question = DiscoveryQuestion {
            nonce,
            origin: self.origin,
            shipments: self.writer.shipments(),
            lines: self.writer.lines(),
            streams: match self.state.mode(now) {
                // Who is there is answered at once; how far files have come, when the lines are safe.
                SendMode::Ship => self.queue.positions.next(),
                SendMode::Hold | SendMode::Classic => StreamList::default(),
            },
        };
        let mut bytes = Vec::with_capacity(DiscoveryQuestion::LEN);
        question.write(&mut bytes);
        if !self.socket.is_open() {
            self.open(now);
        }
        self.state.asked(nonce, now);
        match self.socket.ask(&bytes) {
            SendOutcome::Refused => self.refused(now),
            // From here on a refusal concerns the question.
            SendOutcome::Yes | SendOutcome::Never | SendOutcome::Full => self.last.clear(),
        }
    }

    /// Handles silence: tries the next address; if none replies, the collector is away, or a classic one.
    pub(super) fn silence(&mut self, now: Instant) {
        if self.socket.is_open() {
            self.silent = self.silent.or_else(|| self.destination.current());
        }
        let all = self.destination.next();
        if !all {
            self.open(now);
            return self.state.begin(now);
        }
        let Some(addr) = self.silent.take() else { return self.refused(now) };
        self.destination.choose(addr);
        self.open(now);
        let has_stream_only = self.socket.has_stream_only();
        if !self.state.silent(now, !has_stream_only && refuses_streams(addr)) {
            let hint = match has_stream_only {
                true => " (only a penlogd of this package has streams)",
                false => {
                    ", neither to UDP nor to TCP, or where a penlogd of this package has been (for a classic \
                     penlogd, start with --classic)"
                }
            };
            return self.report.say("away", now, || {
                format!("no reply from {addr}{hint}: holding lines until it replies")
            });
        }
        self.queue.positions.give_up();
        self.report.say("classic", now, || {
            format!("no reply from {addr}: sending single lines, as to a classic penlogd")
        });
        self.unpack();
    }

    /// Turns unconfirmed shipments back into lines. Pieces of long lines are lost.
    fn unpack(&mut self) {
        let mut lines = Vec::new();
        let mut unpack = |datagram: &[u8], counts: &mut ShipperCounts| {
            let Ok(shipment) = Shipment::parse(datagram) else { return };
            let ended = shipped_lines(datagram);
            counts.shipped -= counts.shipped.min(ended);
            counts.lost += if shipment.piece().is_some() { ended } else { 0 };
            for line in shipment.lines() {
                lines.push([line, b"\n"].concat());
            }
        };
        for shipment in self.unconfirmed.take() {
            unpack(&shipment, &mut self.counts);
        }
        let counts = &mut self.counts;
        let _ = self.writer.finish(SendStamp::default(), |datagram| {
            counts.shipped += shipped_lines(datagram);
            unpack(datagram, counts);
        });
        self.gathered = None;
        self.again.extend(lines);
    }

    /// Handles a refused or unreachable destination.
    pub(super) fn refused(&mut self, now: Instant) {
        let all = self.destination.next();
        if let Some(addr) = self.destination.current() {
            let (kind, why) = self.socket.trouble();
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            self.report.say(kind, now, || {
                format!("cannot reach {addr}{why}: holding lines until that changes")
            });
        }
        if !self.last.is_empty() {
            self.again.push_front(std::mem::take(&mut self.last));
            self.counts.classic -= 1;
        }
        self.again_from_the_start();
        self.open(now);
        if all { self.state.refused(now) } else { self.state.begin(now) }
    }
}
