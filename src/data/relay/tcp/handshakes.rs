//! Handshaking clients: clients that owe a PROXY header or their part of a TLS handshake.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tracing::{debug, warn};

use super::TcpWorker;
use super::connection::{Connection, ConnectionStage};
use crate::data::relay::duplex::Side;
use crate::data::relay::pump::PumpOutcome;
use crate::data::relay::tls::TlsLayer;
use crate::data::slab::{Slab, SlabKey};

/// Time for TLS handshakes in one round, before the next connections are served: a handshake costs
/// as much as hundreds of forwards.
const BUDGET: Duration = Duration::from_millis(2);
/// How long a handshaking client is not evicted, even if other clients wait.
const GRACE: Duration = Duration::from_secs(1);

/// The handshaking clients of a worker.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    /// All handshaking clients, oldest first. May contain finished handshakes, but not at the front
    /// after [`Self::oldest`].
    clients: VecDeque<SlabKey>,
    /// Clients with a TLS handshake whose socket had an event.
    ready: VecDeque<SlabKey>,
}

impl Handshakes {
    /// Adds a client, which is the newest.
    pub(super) fn begin(&mut self, key: SlabKey) {
        self.clients.push_back(key);
    }

    /// Has a client's TLS handshake continued in this round.
    pub(super) fn mark_ready(&mut self, key: SlabKey) {
        self.ready.push_back(key);
    }

    /// Returns whether a TLS handshake can be continued.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Returns the oldest handshaking client, and when it may be evicted.
    pub(super) fn oldest(
        &mut self,
        connections: &Slab<Box<Connection>>,
    ) -> Option<(SlabKey, Instant)> {
        while let Some(&key) = self.clients.front() {
            let found = connections.get(key);
            if let Some(found) = found.filter(|it| it.stage.is_handshaking()) {
                return Some((key, found.accepted + GRACE));
            }
            self.clients.pop_front();
        }
        None
    }
}

impl TcpWorker {
    /// Begins a TLS handshake with a client.
    pub(super) fn begin_client_handshake(
        &mut self,
        key: SlabKey,
        mut connection: Box<Connection>,
        config: Arc<ServerConfig>,
    ) {
        connection.stage = ConnectionStage::ClientHandshake;
        let layer = TlsLayer::accept(config).map_err(io::Error::other);
        // The socket is writable, so that there is an event at once.
        match layer.and_then(|layer| Ok((layer, self.watch_client(key, &mut connection)?))) {
            Ok((layer, ())) => {
                connection.encrypt(Side::Client, layer);
                self.keep(key, connection);
            }
            Err(error) => {
                warn!(client = %connection.caller.addr, %error, "cannot begin a TLS handshake");
                self.end(key, *connection, PumpOutcome::Reset);
            }
        }
    }

    /// Continues TLS handshakes with clients, within the time for handshakes in one round.
    pub(super) fn continue_handshakes(&mut self) {
        let start = self.core.now;
        while let Some(key) = self.handshakes.ready.pop_front() {
            if let Some(connection) = self.connections.take(key) {
                let _span = connection.enter_span();
                if connection.stage == ConnectionStage::ClientHandshake {
                    self.continue_client_handshake(key, connection);
                } else {
                    self.connections.put(key, connection);
                }
            }
            if start.elapsed() >= BUDGET {
                break;
            }
        }
    }

    fn continue_client_handshake(&mut self, key: SlabKey, mut connection: Box<Connection>) {
        match connection.continue_handshake(Side::Client, &mut self.scratch.read) {
            Ok(true) => {
                self.core.shared.counters.handshakes.fetch_add(1, Relaxed);
                self.queue_connect(key, connection);
            }
            Ok(false) => self.keep(key, connection),
            Err(error) => {
                debug!(%error, "TLS handshake with the client failed");
                self.core.shared.counters.failed_handshakes.fetch_add(1, Relaxed);
                // Bytes left unread would turn the close into a reset, which takes back the alert on its way.
                connection.client.finish();
                let _ = connection.client.read(&mut self.scratch.read); // only to empty the buffer
                self.end(key, *connection, PumpOutcome::Close);
            }
        }
    }
}
