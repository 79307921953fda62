//! Connecting to a server: the choice, PROXY header and TLS handshake, and the next server if an
//! attempt fails.

use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering::Relaxed;

use rustix::event::epoll;
use tracing::{debug, warn};

use super::connection::{Connection, ConnectionStage, ServerEnd};
use super::{TcpToken, TcpWorker, WATCHED};
use crate::data::relay::duplex::{Ready, Side};
use crate::data::relay::pump::PumpOutcome;
use crate::data::relay::socket::Socket;
use crate::data::relay::tls::TlsLayer;
use crate::data::relay::worker::is_local_shortage;
use crate::data::slab::SlabKey;

impl TcpWorker {
    /// Begins to connect to the next server, until one attempt is under way or no server is left.
    pub(super) fn connect(&mut self, key: SlabKey, mut connection: Box<Connection>) {
        let settings = self.core.settings.clone();
        loop {
            let choice = self.core.shared.pool().choose(
                &connection.caller,
                &mut connection.tried,
                self.core.now,
                |list| settings.acls.permits(list, connection.caller.addr),
            );
            let Some(choice) = choice else { return self.refuse(key, *connection) };
            let client = connection.caller.addr.ip();
            let attempt = Socket::connect(&choice.addr, &settings.tcp, client).and_then(|socket| {
                epoll::add(&self.core.epoll, &socket, TcpToken::Server(key).data(), WATCHED)?;
                Ok(socket)
            });
            match attempt {
                Ok(socket) => {
                    connection.active = self.core.now;
                    let (lease, addr) = (choice.lease, choice.addr);
                    connection.server = Some(ServerEnd { socket, lease, addr, local: None });
                    self.keep(key, connection);
                    return;
                }
                Err(error) => {
                    debug!(server = %choice.addr, %error, "cannot connect");
                    self.core.shared.counters.failed_attempts.fetch_add(1, Relaxed);
                    if is_local_shortage(&error) {
                        self.core.shared.pool().leave(choice.lease);
                    } else {
                        self.core.shared.pool().failed(choice.lease, self.core.now);
                    }
                }
            }
        }
    }

    /// Resets a client that gets no server.
    fn refuse(&mut self, key: SlabKey, connection: Connection) {
        if connection.caller.admitted {
            self.core.shared.counters.refused.fetch_add(1, Relaxed);
        }
        debug!(admitted = connection.caller.admitted, "refused: no server");
        connection.reset();
        self.forget(key, ConnectionStage::Connecting);
    }

    /// Goes on with a server that has accepted the connection: PROXY header and TLS handshake, as the settings
    /// ask for.
    pub(super) fn server_reached(&mut self, key: SlabKey, mut connection: Box<Connection>) {
        let begun = match connection.stage {
            ConnectionStage::Connecting => self.begin_server_handshake(&mut connection),
            _ => Ok(()),
        };
        let done = begun
            .and_then(|()| connection.continue_handshake(Side::Server, &mut self.scratch.read));
        match done {
            Ok(true) => self.connect_ended(key, connection, Ok(())),
            Ok(false) => self.keep(key, connection),
            Err(error) => self.connect_ended(key, connection, Err(error)),
        }
    }

    fn begin_server_handshake(&self, connection: &mut Connection) -> io::Result<()> {
        let Some(server) = &connection.server else { return Ok(()) };
        self.send_proxy_header(connection, server)?;
        let Some(upstream) = &self.tls.servers else { return Ok(()) };
        let state =
            self.core.shared.pool().state(server.lease.server()).map(|it| it.config.clone());
        let config = state.ok_or(ErrorKind::NotConnected)?;
        let name = upstream.name(&config).map_err(io::Error::other)?;
        let config = upstream.config(connection.alpn());
        let layer = TlsLayer::connect(config, name).map_err(io::Error::other)?;
        connection.encrypt(Side::Server, layer);
        connection.stage = ConnectionStage::ServerHandshake;
        Ok(())
    }

    /// Sends the server a PROXY header, if the settings ask for one. Nothing of the client has been
    /// read yet, so that the next server can be tried after a failure.
    fn send_proxy_header(&self, connection: &Connection, server: &ServerEnd) -> io::Result<()> {
        let Some(version) = self.core.settings.send_proxy else { return Ok(()) };
        let mut header = Vec::with_capacity(108);
        connection.header().write(version, &mut header);
        // The send buffer of a new connection has room for so few bytes.
        let written = server.socket.write(&header)?;
        if written < header.len() { Err(ErrorKind::WriteZero.into()) } else { Ok(()) }
    }

    /// Handles the end of an attempt to connect: forwarding begins, or the next server is tried.
    pub(super) fn connect_ended(
        &mut self,
        key: SlabKey,
        mut connection: Box<Connection>,
        result: io::Result<()>,
    ) {
        if let Err(error) = result {
            let Some(server) = connection.take_server() else {
                return self.refuse(key, *connection);
            };
            debug!(server = %server.addr, %error, "cannot connect");
            self.core.shared.counters.failed_attempts.fetch_add(1, Relaxed);
            self.core.shared.pool().failed(server.lease, self.core.now);
            drop(server.socket);
            connection.stage = ConnectionStage::Connecting;
            self.connect(key, connection);
            return;
        }
        let Some(server) = &mut connection.server else { return self.refuse(key, *connection) };
        debug!(server = %server.addr, "connected");
        self.core.shared.pool().connected(&server.lease);
        if connection.tried.is_second_choice() {
            self.core.shared.counters.failovers.fetch_add(1, Relaxed);
        }
        connection.stage = ConnectionStage::Open;
        connection.active = self.core.now;
        self.core.shared.established();
        if let Err(error) = self.watch_client(key, &mut connection) {
            warn!(client = %connection.caller.addr, %error, "cannot watch a client");
            self.end(key, *connection, PumpOutcome::Reset);
            return;
        }
        connection.open(&self.core.settings, &mut self.core.sinks, self.core.now);
        // The client has most likely sent something by now.
        connection.ready(Side::Client, Ready { readable: true, ..Ready::default() });
        if connection.is_encrypted(Side::Server) {
            // Bytes of the server may have come with the end of the handshake.
            connection.ready(Side::Server, Ready { readable: true, ..Ready::default() });
        }
        self.pump(key, connection);
    }
}
