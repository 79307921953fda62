//! What a worker is told to do by others, and settings that have changed.

use super::Worker;
use crate::relay::connection::Connection;
use crate::relay::shared::Order;

/// More clients than a kernel keeps waiting.
const ALL: u32 = 1 << 16;

impl Worker {
    pub(super) fn obey(&mut self) {
        for order in self.mailbox.empty() {
            match order {
                Order::Stop { deadline } => {
                    // Who waits already is served.
                    self.accept(ALL);
                    self.stop_watching();
                    self.listeners.clear();
                    self.pause = None;
                    self.stop = Some(deadline);
                }
                Order::Close(number) => {
                    let found = self.connections.iter().find(|(_, c)| c.number == number);
                    if let Some((key, _)) = found {
                        self.close(key);
                    }
                }
                Order::CloseAll(server, at) => {
                    let is_there = |connection: &Connection| {
                        let found = connection.server.as_ref();
                        found.is_some_and(|it| it.seat.server() == server && *it.addr == at)
                    };
                    let all = self.connections.iter().filter(|(_, it)| is_there(it));
                    let all: Vec<_> = all.map(|(key, _)| key).collect();
                    all.into_iter().for_each(|key| self.close(key));
                }
                #[cfg(test)]
                Order::Fall => panic!("as it was told"),
                Order::Report(question) => {
                    question.answer(self.connections.iter().map(|(_, it)| it), self.now);
                }
            }
        }
        if self.shared.version() != self.version {
            self.version = self.shared.version();
            let before = std::mem::replace(&mut self.settings, self.shared.settings());
            if before.timeouts != self.settings.timeouts {
                self.set_timers();
            }
            self.tls = self.shared.tls();
        }
    }

    /// For all, as times have changed.
    fn set_timers(&mut self) {
        for key in self.connections.keys().collect::<Vec<_>>() {
            if let Some(connection) = self.connections.take(key) {
                self.keep(key, connection);
            }
        }
    }
}
