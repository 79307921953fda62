//! A server for each client: chosen, connected to, and the next one if that fails.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use rustix::event::epoll;
use tracing::{debug, warn};

use super::{TcpToken, TcpWorker, WATCHED, is_ours};
use crate::data::relay::duplex::{Ready, Side};
use crate::data::relay::pump::PumpOutcome;
use crate::data::relay::slab::SlabKey;
use crate::data::relay::socket::Socket;
use crate::data::relay::tcp::connection::{Connection, ConnectionStage, Server};

impl TcpWorker {
    /// Begins to connect to the next server, until one attempt is under way or none is left.
    pub(super) fn connect(&mut self, key: SlabKey, mut connection: Box<Connection>) {
        let settings = self.settings.clone();
        loop {
            let choice = self.shared.pool().choose(
                &connection.caller,
                &mut connection.tried,
                self.now,
                |list| settings.acls.permits(list, connection.caller.addr),
            );
            let Some(choice) = choice else { return self.refuse(key, *connection) };
            let client = connection.caller.addr.ip();
            let attempt = Socket::connect(&choice.addr, &settings.tcp, client).and_then(|socket| {
                epoll::add(&self.epoll, &socket, TcpToken::Server(key).data(), WATCHED)?;
                Ok(socket)
            });
            match attempt {
                Ok(socket) => {
                    connection.active = self.now;
                    let (lease, addr) = (choice.lease, choice.addr);
                    connection.server = Some(Server { socket, lease, addr, local: None });
                    self.keep(key, connection);
                    return;
                }
                Err(error) => {
                    debug!("cannot connect to {}: {error}", choice.addr);
                    self.shared.counters.failed_attempts.fetch_add(1, Relaxed);
                    if is_ours(&error) {
                        self.shared.pool().leave(choice.lease);
                    } else {
                        self.shared.pool().failed(choice.lease, self.now);
                    }
                }
            }
        }
    }

    pub(super) fn refuse(&mut self, key: SlabKey, connection: Connection) {
        if connection.caller.admitted {
            self.shared.counters.refused.fetch_add(1, Relaxed);
        }
        connection.reset();
        self.forget(key, ConnectionStage::Connecting);
    }

    /// An attempt to connect has ended, well or not.
    pub(super) fn connected(
        &mut self,
        key: SlabKey,
        mut connection: Box<Connection>,
        result: io::Result<()>,
    ) {
        if let Err(error) = result {
            let Some(server) = connection.take_server() else {
                return self.refuse(key, *connection);
            };
            debug!("cannot connect to {}: {error}", server.addr);
            self.shared.counters.failed_attempts.fetch_add(1, Relaxed);
            self.shared.pool().failed(server.lease, self.now);
            drop(server.socket);
            connection.stage = ConnectionStage::Connecting;
            self.connect(key, connection);
            return;
        }
        let Some(server) = &mut connection.server else { return self.refuse(key, *connection) };
        self.shared.pool().connected(&server.lease);
        if connection.tried.is_second_choice() {
            self.shared.counters.failovers.fetch_add(1, Relaxed);
        }
        connection.stage = ConnectionStage::Open;
        connection.active = self.now;
        self.shared.opened();
        if let Err(error) = self.watch_client(key, &mut connection) {
            warn!("cannot watch a client: {error}");
            self.end(key, *connection, PumpOutcome::Reset);
            return;
        }
        connection.opened(&self.settings, &mut self.sinks, self.now);
        // It has most likely said something by now.
        connection.ready(Side::Client, Ready { readable: true, ..Ready::default() });
        if connection.is_encrypted(Side::Server) {
            // What it has said may have come with the end of the handshake.
            connection.ready(Side::Server, Ready { readable: true, ..Ready::default() });
        }
        self.pump(key, connection);
    }
}
