//! What a worker is told to do by others, and settings that have changed.

use std::ops::Range;

use super::TcpWorker;
use crate::data::relay::jobs::Job;
use crate::data::relay::slab::SlabKey;
use crate::data::relay::tcp::connection::Connection;

/// More clients than a kernel keeps waiting.
const ALL: u32 = 1 << 16;

impl TcpWorker {
    pub(super) fn obey(&mut self) {
        for command in self.mailbox.empty() {
            if let Some(deadline) = self.jobs.take(command) {
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
                self.jobs.add(Job::SetTimers);
            }
            self.tls = self.shared.tls();
            self.sinks.apply_settings(&self.settings);
        }
    }

    /// Goes on with what others have asked for, as far as traffic can wait.
    pub(super) fn run_job(&mut self) {
        let Some((mut job, slots)) = self.jobs.next() else { return };
        let next = slots.end;
        let done = match &mut job {
            Job::Report(job) => {
                job.add(self.connections.within(slots).map(|(_, it)| it), self.now);
                false
            }
            Job::Close(number, to) => {
                let found = self.those(slots, |it| it.number == *number).pop();
                found.is_some_and(|key| {
                    self.close(key);
                    // Whoever asked may have gone.
                    to.send(()).unwrap_or_default();
                    true
                })
            }
            Job::CloseAll(server, at) => {
                let is_there = |connection: &Connection| {
                    let found = connection.server.as_ref();
                    found.is_some_and(|it| it.lease.server() == *server && *it.addr == *at)
                };
                self.those(slots, is_there).into_iter().for_each(|key| self.close(key));
                false
            }
            Job::SetTimers => {
                for key in self.those(slots, |_| true) {
                    if let Some(connection) = self.connections.take(key) {
                        self.keep(key, connection);
                    }
                }
                false
            }
        };
        if !done && (next as usize) < self.connections.slots() {
            self.jobs.go_on(job, next);
        } else if let Job::Report(job) = job {
            job.answer();
        }
    }

    fn those(&self, slots: Range<u32>, is_one: impl Fn(&Connection) -> bool) -> Vec<SlabKey> {
        let found = self.connections.within(slots).filter(|(_, it)| is_one(it));
        found.map(|(key, _)| key).collect()
    }
}
