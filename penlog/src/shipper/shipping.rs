//! Sending to a collector of this package: shipments, within its window.

use std::time::Instant;

use pen_records::shipment::{GATHER, Push, SendStamp};

use super::socket::SendOutcome;
use super::{Shipper, shipped_lines};

impl Shipper {
    /// Sends queued lines as shipments, as far as the window allows. Returns whether it sent any.
    pub(super) fn ship(&mut self, now: Instant) -> bool {
        if !self.ship_again(now) {
            return false;
        }
        let level = self.queue.level();
        let waiting = level.len + self.backlog.len();
        if waiting + self.writer.len() >= self.limit() {
            self.gathered = None;
        } else {
            if waiting == 0 && self.writer.is_empty() {
                return false;
            }
            let ready = *self.gathered.get_or_insert(now + GATHER);
            if now < ready && !level.closed {
                return false;
            }
        }
        let mut busy = false;
        while self.state.has_room(self.limit()) {
            if !self.backlog.fill(&self.queue) {
                if self.is_gathered(now) {
                    busy |= self.finish(now);
                }
                return busy;
            }
            if !self.ship_line(now) {
                return busy;
            }
            busy = true;
            // At half a window the collector is asked for a confirmation.
            if self.state.due(now) <= now {
                return true;
            }
        }
        busy
    }

    pub(super) fn limit(&self) -> usize {
        self.writer.limit()
    }

    /// Returns whether to send a shipment that is not full.
    fn is_gathered(&self, now: Instant) -> bool {
        self.gathered.is_some_and(|ready| now >= ready) || self.queue.level().closed
    }

    /// Fills a shipment from the backlog and sends it when full. Returns `false` if the send was refused.
    fn ship_line(&mut self, now: Instant) -> bool {
        while let Some(line) = self.backlog.next_to_ship() {
            let len = line.bytes.len();
            match self.writer.push_line(&line) {
                Push::Taken => self.backlog.pass(len + 1),
                Push::Long if self.writer.is_empty() => return self.ship_pieces(now),
                Push::Long | Push::Full => return self.finish(now),
            }
        }
        self.backlog.end();
        if self.gathered.is_none() && !self.writer.is_empty() {
            self.gathered = Some(now + GATHER);
        }
        true
    }

    /// Sends the shipment that is being filled.
    fn finish(&mut self, now: Instant) -> bool {
        self.gathered = None;
        let stamp = self.stamp();
        let mut bytes = self.unconfirmed.buffer();
        let finished = self.writer.finish(stamp, |datagram| {
            bytes.extend_from_slice(datagram);
            shipped_lines(datagram)
        });
        match finished {
            None => true,
            Some(lines) => {
                self.counts.shipped += lines;
                self.keep_and_send(bytes, now)
            }
        }
    }

    /// Sends the next line, which is longer than a shipment, in pieces.
    fn ship_pieces(&mut self, now: Instant) -> bool {
        let stamp = self.stamp();
        let before = self.backlog.consumed();
        let Some(line) = self.backlog.next_to_ship() else { return true };
        let len = line.bytes.len() + 1;
        let consumed = before + len as u64;
        let mut next = Some(0);
        // Pieces beyond the window are kept, too, and sent later.
        while let Some(offset) = next {
            let (rest, bytes) = self.writer.piece(&line, offset, stamp, <[u8]>::to_vec);
            self.unconfirmed.keep(bytes, self.writer.shipments() - 1, consumed);
            next = rest;
        }
        self.backlog.pass(len);
        self.counts.shipped += 1;
        self.ship_again(now)
    }

    /// Sends kept shipments that are due, for the first time or again. Returns whether all are sent.
    fn ship_again(&mut self, now: Instant) -> bool {
        while let Some(bytes) = self.unconfirmed.next() {
            if !self.state.has_room(bytes.len()) {
                return false;
            }
            match self.socket.send(bytes) {
                SendOutcome::Yes => {}
                SendOutcome::Never => {
                    // Its number has to arrive all the same, or nothing after it would be confirmed.
                    self.counts.lost += shipped_lines(bytes);
                    self.unconfirmed.hollow();
                    continue;
                }
                SendOutcome::Full => return false,
                SendOutcome::Refused => {
                    self.refused(now);
                    return false;
                }
            }
            self.unconfirmed.sent(self.state.sent(bytes.len(), now));
        }
        true
    }

    fn keep_and_send(&mut self, bytes: Vec<u8>, now: Instant) -> bool {
        self.unconfirmed.keep(bytes, self.writer.shipments() - 1, self.backlog.consumed());
        self.ship_again(now)
    }

    fn stamp(&mut self) -> SendStamp {
        let level = self.queue.level();
        let now = self.queue.clock();
        SendStamp { sent: self.clock.now(), now, dropped: level.dropped, cut: level.cut }
    }
}
