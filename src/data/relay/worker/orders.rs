//! What a worker is told to do by others, and settings that have changed.

use std::ops::Range;

use super::Worker;
use crate::data::relay::connection::Connection;
use crate::data::relay::errands::Errand;
use crate::data::relay::table::Key;

/// More clients than a kernel keeps waiting.
const ALL: u32 = 1 << 16;

impl Worker {
    pub(super) fn obey(&mut self) {
        for order in self.mailbox.empty() {
            if let Some(deadline) = self.errands.take(order) {
                // Who waits already is served.
                self.accept(ALL);
                self.stop_watching();
                self.listeners.clear();
                (self.pause, self.next_look) = (None, None);
                self.stop = Some(deadline);
            }
        }
        if self.shared.version() != self.version {
            self.version = self.shared.version();
            let before = std::mem::replace(&mut self.settings, self.shared.settings());
            if before.timeouts != self.settings.timeouts {
                self.errands.add(Errand::SetTimers);
            }
            self.tls = self.shared.tls();
            self.books.turn_to(&self.settings);
        }
    }

    /// Goes on with what others have asked for, as far as traffic can wait.
    pub(super) fn run_errand(&mut self) {
        let Some((mut errand, slots)) = self.errands.next() else { return };
        let next = slots.end;
        let done = match &mut errand {
            Errand::Report(inquiry) => {
                inquiry.add(self.connections.within(slots).map(|(_, it)| it), self.now);
                false
            }
            Errand::Close(number, to) => {
                let found = self.those(slots, |it| it.number == *number).pop();
                found.is_some_and(|key| {
                    self.close(key);
                    // Whoever asked may have gone.
                    to.send(()).unwrap_or_default();
                    true
                })
            }
            Errand::CloseAll(server, at) => {
                let is_there = |connection: &Connection| {
                    let found = connection.server.as_ref();
                    found.is_some_and(|it| it.seat.server() == *server && *it.addr == *at)
                };
                self.those(slots, is_there).into_iter().for_each(|key| self.close(key));
                false
            }
            Errand::SetTimers => {
                for key in self.those(slots, |_| true) {
                    if let Some(connection) = self.connections.take(key) {
                        self.keep(key, connection);
                    }
                }
                false
            }
        };
        if !done && (next as usize) < self.connections.slots() {
            self.errands.go_on(errand, next);
        } else if let Errand::Report(inquiry) = errand {
            inquiry.answer();
        }
    }

    fn those(&self, slots: Range<u32>, is_one: impl Fn(&Connection) -> bool) -> Vec<Key> {
        let found = self.connections.within(slots).filter(|(_, it)| is_one(it));
        found.map(|(key, _)| key).collect()
    }
}
