//! Admission of a client: reading the PROXY header, if one is required, and the client access list.

use std::fmt;
use std::io::ErrorKind;
use std::sync::atomic::Ordering::Relaxed;

use rustix::event::epoll::{self, EventFlags};
use tracing::{debug, warn};

use super::connection::Connection;
use super::{TcpToken, TcpWorker};
use crate::data::relay::proxy::{self, Header};
use crate::data::relay::pump::PumpOutcome;
use crate::data::slab::SlabKey;

impl TcpWorker {
    /// Reads the PROXY header, and not a byte more: later bytes are for the server. `ended`: the
    /// client will send nothing more.
    pub(super) fn read_proxy_header(
        &mut self,
        key: SlabKey,
        mut connection: Box<Connection>,
        ended: bool,
    ) {
        let buf = &mut self.scratch.read[..proxy::MAX];
        let found = match connection.client.peek(buf) {
            // A load balancer's health check connects and closes without a header.
            Ok(0) => return self.end(key, *connection, PumpOutcome::Close),
            Ok(bytes) => Header::parse(&buf[..bytes]),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(None),
                _ => return self.end(key, *connection, PumpOutcome::Reset),
            },
        };
        let (header, len) = match found {
            Ok(Some(found)) => found,
            Ok(None) if ended => {
                return self.reject_header(key, *connection, &"it ends too early");
            }
            Ok(None) => return self.await_header(key, connection),
            Err(error) => return self.reject_header(key, *connection, &error),
        };
        let read = connection.client.read(&mut self.scratch.read[..len]);
        if !matches!(read, Ok(read) if read == len) {
            return self.end(key, *connection, PumpOutcome::Reset);
        }
        if let Header::Forwarded { client, to } = header {
            connection.forwarded_from(client, to);
        }
        connection.caller.admitted = self.core.admits(connection.caller.addr);
        match self.tls.clients.clone() {
            Some(config) => self.begin_client_handshake(key, connection, config),
            None => self.queue_connect(key, connection),
        }
    }

    /// Waits for the rest of a header.
    fn await_header(&mut self, key: SlabKey, mut connection: Box<Connection>) {
        if !connection.watched {
            let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
            let data = TcpToken::Client(key).data();
            if let Err(error) = epoll::add(&self.core.epoll, &connection.client, data, flags) {
                warn!(client = %connection.caller.addr, %error, "cannot watch a client");
                return self.end(key, *connection, PumpOutcome::Reset);
            }
            connection.watched = true;
        }
        self.keep(key, connection);
    }

    /// Resets a connection whose PROXY header is missing or malformed.
    pub(super) fn reject_header(
        &mut self,
        key: SlabKey,
        connection: Connection,
        why: &dyn fmt::Display,
    ) {
        debug!("PROXY header rejected: {why}");
        self.core.shared.counters.bad_headers.fetch_add(1, Relaxed);
        self.end(key, connection, PumpOutcome::Reset);
    }
}
