//! Accepting clients, as long as the limits allow.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pen_records::addr::ClientAddr;
use rustix::event::epoll::{self, EventFlags};
use tracing::{debug, warn};

use super::connection::{Connection, ConnectionStage};
use super::{TcpToken, TcpWorker};
use crate::data::pool::Caller;
use crate::data::relay::pump::PumpOutcome;
use crate::data::relay::shared::Occupancy;
use crate::data::relay::socket::{Listener, Socket};
use crate::data::relay::worker::is_local_shortage;

/// More clients than a kernel keeps in a backlog.
pub(super) const WHOLE_BACKLOG: u32 = 1 << 16;
/// How long no client is accepted after a shortage of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// The least time between two warnings of a shortage.
const WARN_INTERVAL: Duration = Duration::from_secs(5);

/// The listeners of a worker, and whether and when to accept from them.
#[derive(Debug)]
pub(super) struct Acceptor {
    listeners: Vec<Listener>,
    multi_accept: u32,
    /// The listeners are in the epoll set.
    watched: bool,
    /// When to accept again after a shortage of descriptors.
    paused_until: Option<Instant>,
    /// When the oldest handshaking client may be evicted for a client that waits.
    evict_at: Option<Instant>,
    warned: Option<Instant>,
}

impl Acceptor {
    /// Creates an acceptor that takes up to `multi_accept` clients in a row from each listener.
    pub(super) fn new(listeners: Vec<Listener>, multi_accept: u32) -> Self {
        Self {
            listeners,
            multi_accept: multi_accept.max(1),
            watched: false,
            paused_until: None,
            evict_at: None,
            warned: None,
        }
    }

    pub(super) const fn multi_accept(&self) -> u32 {
        self.multi_accept
    }

    /// Returns when accepting or an eviction may be possible again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        [self.paused_until, self.evict_at].into_iter().flatten().min()
    }

    /// Watches the listeners for clients.
    pub(super) fn watch(&mut self, epoll: &OwnedFd) {
        self.evict_at = None;
        if std::mem::replace(&mut self.watched, true) {
            return;
        }
        for listener in &self.listeners {
            let flags = EventFlags::IN | EventFlags::EXCLUSIVE;
            let added = epoll::add(epoll, listener, TcpToken::Listeners.data(), flags);
            if let Err(error) = added {
                warn!(listener = %listener.endpoint(), %error, "cannot watch a listener");
            }
        }
    }

    /// Stops watching: clients wait in the kernel's backlog.
    fn unwatch(&mut self, epoll: &OwnedFd) {
        if std::mem::replace(&mut self.watched, false) {
            for listener in &self.listeners {
                let _ = epoll::delete(epoll, listener); // it fails if adding it has failed
            }
        }
    }

    /// Closes the listeners.
    pub(super) fn close(&mut self, epoll: &OwnedFd) {
        self.unwatch(epoll);
        self.listeners.clear();
        (self.paused_until, self.evict_at) = (None, None);
    }

    /// Pauses after an error that another attempt would meet again, and warns now and then.
    fn pause(&mut self, epoll: &OwnedFd, now: Instant, error: &io::Error) {
        self.unwatch(epoll);
        self.paused_until = Some(now + PAUSE);
        if self.warned.is_none_or(|then| now >= then + WARN_INTERVAL) {
            self.warned = Some(now);
            warn!(%error, "cannot accept clients, trying again");
        }
    }

    /// Ends a pause whose time is over. Returns whether accepting may be resumed.
    fn may_resume(&mut self, now: Instant) -> bool {
        if self.watched || self.paused_until.is_some_and(|until| now < until) {
            return false;
        }
        self.paused_until = None;
        true
    }
}

impl TcpWorker {
    /// Accepts up to `most` clients from each listener, as long as the limits allow. All others wait in the
    /// kernel's backlog.
    pub(super) fn accept(&mut self, most: u32) {
        for index in 0..self.acceptor.listeners.len() {
            for _ in 0..most {
                if !self.core.shared.enter(&self.core.settings) && !self.enter_by_eviction() {
                    // The end of this round looks whether a client can be evicted later.
                    if self.core.shared.is_full(&self.core.settings) {
                        self.core.shared.ask_for_eviction();
                    }
                    self.acceptor.unwatch(&self.core.epoll);
                    return;
                }
                match self.acceptor.listeners[index].accept() {
                    Ok((client, peer)) => {
                        self.core.shared.take_eviction();
                        let number = self.core.shared.accepted.fetch_add(1, Relaxed) + 1;
                        self.accepted(number, client, peer);
                    }
                    Err(error) => {
                        self.core.shared.leave(Occupancy::Pending);
                        if error.kind() == ErrorKind::WouldBlock {
                            break;
                        }
                        if is_local_shortage(&error) {
                            self.core.shared.counters.accept_failures.fetch_add(1, Relaxed);
                            self.acceptor.pause(&self.core.epoll, self.core.now, &error);
                            return;
                        }
                        debug!(%error, "a client closed before it was accepted");
                    }
                }
            }
        }
    }

    /// Begins with a new client: a PROXY header, a TLS handshake or a connection to a server comes first,
    /// as the settings ask for.
    fn accepted(&mut self, number: u64, client: Socket, peer: Option<SocketAddr>) {
        let addr = peer.map_or(ClientAddr::Unix, |peer| peer.ip().into());
        let caller = Caller { addr, port: peer.map_or(0, |peer| peer.port()), admitted: false };
        let new = Connection::new(number, client, caller, &self.core.settings, self.core.now);
        let _span = new.enter_span();
        // Drops finished handshakes from the front of the list, so that it stays short.
        self.handshakes.oldest(&self.connections);
        let (key, mut new) = (self.connections.reserve(), Box::new(new));
        if self.core.settings.speaks_for_others(addr) {
            // A client that sends no header must not use up the limit of pending connections.
            new.stage = ConnectionStage::ProxyHeader;
            self.core.shared.established();
            self.handshakes.begin(key);
            return self.read_proxy_header(key, new, false);
        }
        new.caller.admitted = self.core.admits(addr);
        match self.tls.clients.clone() {
            Some(config) => {
                self.core.shared.established();
                self.handshakes.begin(key);
                self.begin_client_handshake(key, new, config);
            }
            None => self.connect(key, new),
        }
    }

    /// Watches the listeners again once the limits allow, or once a client can be evicted.
    pub(super) fn resume_accepting(&mut self) {
        if self.core.stop.is_some() || !self.acceptor.may_resume(self.core.now) {
            return;
        }
        if self.core.shared.wait_for_room(&self.core.settings) {
            return self.acceptor.watch(&self.core.epoll);
        }
        self.acceptor.evict_at = self.handshakes.oldest(&self.connections).map(|(_, due)| due);
        if self.acceptor.evict_at.is_some_and(|due| due <= self.core.now) {
            self.acceptor.watch(&self.core.epoll);
        }
    }

    /// Evicts the oldest handshaking client if the limit of connections is reached, and takes the
    /// place. Otherwise thousands of silent clients would keep all new clients out until a timeout.
    fn enter_by_eviction(&mut self) -> bool {
        if !self.core.shared.is_full(&self.core.settings) {
            return false;
        }
        self.evict_oldest() && self.core.shared.enter(&self.core.settings)
    }

    /// Evicts a handshaking client if another worker has asked for an eviction.
    pub(super) fn evict_for_others(&mut self) {
        if !self.core.shared.wants_eviction() {
            if self.acceptor.watched {
                self.acceptor.evict_at = None;
            }
            return;
        }
        match self.handshakes.oldest(&self.connections) {
            Some((_, due)) if due <= self.core.now => {
                if self.core.shared.take_eviction() {
                    self.evict_oldest();
                }
            }
            oldest => self.acceptor.evict_at = oldest.map(|(_, due)| due),
        }
    }

    /// Resets the oldest handshaking client if the grace time is over. Returns whether a client was
    /// reset.
    fn evict_oldest(&mut self) -> bool {
        let oldest = self.handshakes.oldest(&self.connections);
        let Some((key, _)) = oldest.filter(|(_, due)| *due <= self.core.now) else { return false };
        let Some(connection) = self.connections.take(key) else { return false };
        let _span = connection.enter_span();
        debug!("evicted for a waiting client");
        let counters = &self.core.shared.counters;
        counters.timeouts.fetch_add(1, Relaxed);
        let in_tls = u64::from(connection.stage == ConnectionStage::ClientHandshake);
        counters.failed_handshakes.fetch_add(in_tls, Relaxed);
        self.end(key, *connection, PumpOutcome::Reset);
        true
    }
}
