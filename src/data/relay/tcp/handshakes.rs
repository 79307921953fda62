//! Handshakes of TLS: with a client before a server is chosen for it, with a server before the client is
//! listened to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::event::epoll;
use rustls::ServerConfig;
use tracing::{debug, warn};

use super::{TcpToken, TcpWorker, WATCHED};
use crate::data::relay::duplex::Side;
use crate::data::relay::pump::PumpOutcome;
use crate::data::relay::slab::SlabKey;
use crate::data::relay::tcp::connection::{Connection, ConnectionStage};
use crate::data::relay::tls::TlsLayer;

/// How long handshakes may take in one round before everybody else gets their turn: each costs as
/// much as hundreds of forwards.
const HANDSHAKES: Duration = Duration::from_millis(2);

impl TcpWorker {
    /// Begins a handshake with a client.
    pub(super) fn receive(
        &mut self,
        key: SlabKey,
        mut connection: Box<Connection>,
        config: Arc<ServerConfig>,
    ) {
        connection.stage = ConnectionStage::ClientHandshake;
        let layer = TlsLayer::accept(config).map_err(io::Error::other);
        // There is an event at once, as it can be written to.
        match layer.and_then(|layer| Ok((layer, self.watch_client(key, &mut connection)?))) {
            Ok((layer, ())) => {
                connection.encrypt(Side::Client, layer);
                self.keep(key, connection);
            }
            Err(error) => {
                warn!("cannot receive a client: {error}");
                self.end(key, *connection, PumpOutcome::Reset);
            }
        }
    }

    /// Has all events of a client told, from what is the case now.
    pub(super) fn watch_client(&self, key: SlabKey, connection: &mut Connection) -> io::Result<()> {
        let data = TcpToken::Client(key).data();
        if connection.watched {
            // What became of it meanwhile is told again.
            epoll::modify(&self.epoll, &connection.client, data, WATCHED)?;
        } else {
            epoll::add(&self.epoll, &connection.client, data, WATCHED)?;
            connection.watched = true;
        }
        Ok(())
    }

    /// Goes on with handshakes, as long as the others can wait.
    pub(super) fn agree(&mut self) {
        let start = self.now;
        while let Some(key) = self.agreeing.pop_front() {
            if let Some(connection) = self.connections.take(key) {
                if connection.stage == ConnectionStage::ClientHandshake {
                    self.continue_handshake(key, connection);
                } else {
                    self.connections.put(key, connection);
                }
            }
            if start.elapsed() >= HANDSHAKES {
                break;
            }
        }
    }

    fn continue_handshake(&mut self, key: SlabKey, mut connection: Box<Connection>) {
        match connection.continue_handshake(Side::Client, &mut self.room.read) {
            Ok(true) => {
                self.shared.counters.handshakes.fetch_add(1, Relaxed);
                self.line_up(key, connection);
            }
            Ok(false) => self.keep(key, connection),
            Err(error) => {
                debug!("no handshake with {}: {error}", connection.caller.addr);
                self.shared.counters.failed_handshakes.fetch_add(1, Relaxed);
                // An alert that is under way would be lost if something were left unread.
                connection.client.finish();
                connection.client.read(&mut self.room.read).map(drop).unwrap_or_default();
                self.end(key, *connection, PumpOutcome::Close);
            }
        }
    }

    /// A server has taken the connection: it is told who the client is, and agreed with on how to encrypt,
    /// as far as that is asked for.
    pub(super) fn reached(&mut self, key: SlabKey, mut connection: Box<Connection>) {
        let begun = match connection.stage {
            ConnectionStage::Connecting => self.begin(&mut connection),
            _ => Ok(()),
        };
        match begun.and_then(|()| connection.continue_handshake(Side::Server, &mut self.room.read))
        {
            Ok(true) => self.connected(key, connection, Ok(())),
            Ok(false) => self.keep(key, connection),
            Err(error) => self.connected(key, connection, Err(error)),
        }
    }

    fn begin(&self, connection: &mut Connection) -> io::Result<()> {
        let Some(server) = &connection.server else { return Ok(()) };
        self.introduce(connection, server)?;
        let Some(towards) = &self.tls.servers else { return Ok(()) };
        let state = self.shared.pool().state(server.lease.server()).map(|it| it.config.clone());
        let config = state.ok_or(io::ErrorKind::NotConnected)?;
        let name = towards.name(&config).map_err(io::Error::other)?;
        let config = towards.config(connection.alpn());
        let layer = TlsLayer::connect(config, name).map_err(io::Error::other)?;
        connection.encrypt(Side::Server, layer);
        connection.stage = ConnectionStage::ServerHandshake;
        Ok(())
    }
}
