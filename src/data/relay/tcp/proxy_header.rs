//! Who the client is, said by the PROXY protocol: heard before a server is chosen, told before the
//! client is listened to.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering::Relaxed;

use rustix::event::epoll::{self, EventFlags};
use tracing::{debug, warn};

use super::{TcpToken, TcpWorker};
use crate::data::relay::proxy::{self, Header};
use crate::data::relay::pump::PumpOutcome;
use crate::data::relay::slab::SlabKey;
use crate::data::relay::tcp::connection::{Connection, ConnectionStage, Server};

impl TcpWorker {
    /// Finds out whether its client is let in, which is known by now.
    pub(super) fn judge(&self, connection: &mut Connection) {
        let caller = &mut connection.caller;
        caller.admitted = self.settings.acls.permits(self.settings.client_acl, caller.addr);
        if !caller.admitted {
            self.shared.counters.denied.fetch_add(1, Relaxed);
        }
    }

    /// Reads for whom a client connects: that and not a byte more, as what follows is not ours.
    /// `ended` says that no more will come.
    pub(super) fn greet(&mut self, key: SlabKey, mut connection: Box<Connection>, ended: bool) {
        let buf = &mut self.room.read[..proxy::MAX];
        let found = match connection.client.peek(buf) {
            // It has looked whether somebody is there, and has seen it.
            Ok(0) => return self.end(key, *connection, PumpOutcome::Close),
            Ok(bytes) => Header::parse(&buf[..bytes]),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(None),
                _ => return self.end(key, *connection, PumpOutcome::Reset),
            },
        };
        let (header, len) = match found {
            Ok(Some(found)) => found,
            Ok(None) if ended => return self.rebuff(key, *connection, &"it ends too early"),
            Ok(None) => return self.await_greeting(key, connection),
            Err(error) => return self.rebuff(key, *connection, &error),
        };
        if !matches!(connection.client.read(&mut self.room.read[..len]), Ok(read) if read == len) {
            return self.end(key, *connection, PumpOutcome::Reset);
        }
        if let Header::Forwarded { client, to } = header {
            connection.caller.addr = client.ip().into();
            connection.caller.port = client.port();
            connection.to = Some(to);
        }
        self.judge(&mut connection);
        match self.tls.clients.clone() {
            Some(config) => self.receive(key, connection, config),
            None => self.line_up(key, connection),
        }
    }

    /// One whose client is known waits until a connection to a server may be opened.
    pub(super) fn line_up(&mut self, key: SlabKey, mut connection: Box<Connection>) {
        connection.stage = ConnectionStage::Pending;
        self.keep(key, connection);
        self.patient.push_back(key);
        self.open_patient();
    }

    fn await_greeting(&mut self, key: SlabKey, mut connection: Box<Connection>) {
        if !connection.watched {
            let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
            let data = TcpToken::Client(key).data();
            if let Err(error) = epoll::add(&self.epoll, &connection.client, data, flags) {
                warn!("cannot watch a client: {error}");
                return self.end(key, *connection, PumpOutcome::Reset);
            }
            connection.watched = true;
        }
        self.keep(key, connection);
    }

    /// Cuts one that was to say for whom it connects, and did not.
    pub(super) fn rebuff(&mut self, key: SlabKey, connection: Connection, why: &dyn fmt::Display) {
        debug!("a bad PROXY header from {}: {why}", connection.caller.addr);
        self.shared.counters.bad_headers.fetch_add(1, Relaxed);
        self.end(key, connection, PumpOutcome::Reset);
    }

    /// Opens those that have waited for it, as many as may be.
    pub(super) fn open_patient(&mut self) {
        while !self.patient.is_empty() && self.shared.open_now(&self.settings) {
            let key = self.patient.pop_front();
            let Some((key, mut connection)) =
                key.and_then(|key| Some((key, self.connections.take(key)?)))
            else {
                // It is gone by now.
                self.shared.opened();
                continue;
            };
            connection.stage = ConnectionStage::Connecting;
            self.connect(key, connection);
        }
    }

    /// Tells the server first who the client is, if it is to be told. As nothing of the client has been read,
    /// nothing is lost if that fails.
    pub(super) fn introduce(&self, connection: &Connection, server: &Server) -> io::Result<()> {
        let Some(version) = self.settings.send_proxy else { return Ok(()) };
        let mut header = Vec::with_capacity(108);
        connection.header().write(version, &mut header);
        // A connection that was just opened takes as little as this at once.
        let written = server.socket.write(&header)?;
        if written < header.len() { Err(ErrorKind::WriteZero.into()) } else { Ok(()) }
    }
}
