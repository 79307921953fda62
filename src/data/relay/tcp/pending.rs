//! Pending connections: clients that are known, and wait until a connection to a server may be opened.

use std::collections::VecDeque;

use super::TcpWorker;
use super::connection::{Connection, ConnectionStage};
use crate::config::RuntimeSettings;
use crate::data::relay::shared::Shared;
use crate::data::slab::SlabKey;

/// The queue of pending connections, in the order of admission. A queued connection may have ended.
#[derive(Debug, Default)]
pub(super) struct PendingConnects(VecDeque<SlabKey>);

impl PendingConnects {
    fn push(&mut self, key: SlabKey) {
        self.0.push_back(key);
    }

    /// Takes the first connection, if the limit of pending connections allows; the connection
    /// counts against the limit from then on.
    fn next(&mut self, shared: &Shared, settings: &RuntimeSettings) -> Option<SlabKey> {
        if self.0.is_empty() || !shared.enter_pending(settings) {
            return None;
        }
        self.0.pop_front()
    }
}

impl TcpWorker {
    /// Queues a connection whose client is known, and opens as many as the limit allows.
    pub(super) fn queue_connect(&mut self, key: SlabKey, mut connection: Box<Connection>) {
        connection.stage = ConnectionStage::Pending;
        self.keep(key, connection);
        self.pending.push(key);
        self.open_pending();
    }

    /// Begins to connect for queued connections, as many as the limit allows.
    pub(super) fn open_pending(&mut self) {
        while let Some(key) = self.pending.next(&self.core.shared, &self.core.settings) {
            let Some(mut connection) = self.connections.take(key) else {
                // It has ended while it was queued.
                self.core.shared.established();
                continue;
            };
            let _span = connection.enter_span();
            connection.stage = ConnectionStage::Connecting;
            self.connect(key, connection);
        }
    }
}
