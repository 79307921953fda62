//! Sends packets again, and those that have waited for their turn.

use std::io;
use std::time::{Duration, Instant};

use pen_records::mapping::packet::restamp_packet;

use super::super::clock::ClockReading;
use super::RecordRun;

/// Packets that are sent again at once, and the pause between two such bursts.
const BURST: usize = 64;
const PAUSE: Duration = Duration::from_millis(5);
/// Most bytes that are sent again without an answer.
const WINDOW: usize = 4 << 20;

impl RecordRun {
    pub(super) fn may_send_again(&self) -> bool {
        let is_wanted = self.again.is_some() || self.sent < self.end();
        self.is_synced && is_wanted && self.under_way < WINDOW
    }

    /// Sends packets, those that are sent again first, until `send` takes no more. Returns whether one was sent.
    pub(in crate::logs::road) fn send_burst(
        &mut self,
        reading: ClockReading,
        now: Instant,
        mut send: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<bool> {
        if !self.may_send_again() || self.burst.is_some_and(|burst| now < burst) {
            return Ok(false);
        }
        self.burst = Some(now + PAUSE);
        for nth in 0..BURST {
            let Some((first, end, len)) = self.send_next(reading, &mut send)? else {
                return Ok(nth > 0);
            };
            self.under_way += len;
            match &mut self.again {
                Some((from, upto)) if first < *upto => {
                    *from = end;
                    if end >= *upto {
                        self.again = None;
                    }
                }
                _ => {}
            }
            self.sent = self.sent.max(end);
            self.since.get_or_insert(now);
            if self.under_way >= WINDOW || !self.may_send_again() {
                // The answer says how to go on.
                (self.is_curious, self.burst) = (true, None);
                break;
            }
        }
        Ok(true)
    }

    /// Sends the next packet. Returns its numbers and its length; `None` if there is none, or it was not taken.
    fn send_next(
        &mut self,
        reading: ClockReading,
        send: &mut impl FnMut(&[u8]) -> bool,
    ) -> io::Result<Option<(u64, u64, usize)>> {
        let from = self.again.map_or(self.sent, |(from, _)| from);
        let in_memory = self.memory.front().is_some_and(|packet| packet.first <= from);
        if !in_memory
            && let Some(disk) = &mut self.disk
            && let Some(packet) = disk.next(from)?
            && self.memory.front().is_none_or(|kept| packet.first < kept.first)
        {
            self.clock.set_ahead(packet.ahead);
            let mut bytes = packet.bytes.clone();
            restamp_packet(&mut bytes, self.clock.at(reading));
            let numbers = (packet.first, packet.end, bytes.len());
            if self.rules.is_earlier {
                self.add_hole(from, numbers.0);
            }
            return Ok(send(&bytes).then_some(numbers));
        }
        let at = self.memory.partition_point(|packet| packet.end <= from);
        let Some(packet) = self.memory.get_mut(at) else {
            // The rest cannot be read any more.
            let end = self.end();
            self.add_hole(from, end);
            (self.again, self.sent, self.is_curious) = (None, end, true);
            return Ok(None);
        };
        restamp_packet(&mut packet.bytes, self.clock.at(reading));
        let numbers = (packet.first, packet.end, packet.bytes.len());
        Ok(send(&packet.bytes).then_some(numbers))
    }
}
