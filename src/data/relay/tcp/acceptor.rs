//! Clients that come, as long as there is room for them.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pen_records::addr::ClientAddr;
use rustix::event::epoll::{self, EventFlags};
use tracing::{debug, warn};

use super::{TcpToken, TcpWorker, is_ours};
use crate::data::pool::Caller;
use crate::data::relay::pump::PumpOutcome;
use crate::data::relay::slab::SlabKey;
use crate::data::relay::socket::Socket;
use crate::data::relay::tcp::connection::{Connection, ConnectionStage};

/// How long no client is accepted when there are no descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// How often that is said.
const COMPLAIN: Duration = Duration::from_secs(5);
/// For how long a client may keep others out by saying nothing.
const GRACE: Duration = Duration::from_secs(1);

impl TcpWorker {
    pub(super) fn watch_listeners(&mut self) {
        self.next_look = None;
        if std::mem::replace(&mut self.accepting, true) {
            return;
        }
        for listener in &self.listeners {
            let flags = EventFlags::IN | EventFlags::EXCLUSIVE;
            let added = epoll::add(&self.epoll, listener, TcpToken::Listeners.data(), flags);
            if let Err(error) = added {
                warn!("cannot watch the listener at {}: {error}", listener.endpoint());
            }
        }
    }

    pub(super) fn stop_watching(&mut self) {
        if std::mem::replace(&mut self.accepting, false) {
            for listener in &self.listeners {
                // It is not watched if that failed before.
                epoll::delete(&self.epoll, listener).unwrap_or_default();
            }
        }
    }

    /// Accepts who waits, so many at each address, as long as there is room. Who finds none waits in
    /// the kernel.
    pub(super) fn accept(&mut self, most: u32) {
        for index in 0..self.listeners.len() {
            for _ in 0..most {
                if !self.shared.enter(&self.settings) && !self.enter_instead() {
                    // Looked at again at the end of this round.
                    if self.shared.is_full(&self.settings) {
                        self.shared.ask_for_room();
                    }
                    self.stop_watching();
                    return;
                }
                match self.listeners[index].accept() {
                    Ok((client, peer)) => {
                        self.shared.had_crowd();
                        let number = self.shared.accepted.fetch_add(1, Relaxed) + 1;
                        self.admit(number, client, peer);
                    }
                    Err(error) => {
                        self.shared.leave(ConnectionStage::Connecting);
                        if error.kind() == ErrorKind::WouldBlock {
                            break;
                        }
                        if is_ours(&error) {
                            return self.cannot_accept(&error);
                        }
                        debug!("a client is gone already: {error}");
                    }
                }
            }
        }
    }

    fn admit(&mut self, number: u64, client: Socket, peer: Option<SocketAddr>) {
        let addr = peer.map_or(ClientAddr::Unix, |peer| peer.ip().into());
        let caller = Caller { addr, port: peer.map_or(0, |peer| peer.port()), admitted: false };
        let new = Connection::new(number, client, caller, &self.settings, self.now);
        // Those who are none any more are forgotten.
        self.oldest_stranger();
        let (key, mut new) = (self.connections.reserve(), Box::new(new));
        if self.settings.speaks_for_others(addr) {
            // As long as it says nothing, it keeps nobody from being served.
            new.stage = ConnectionStage::ProxyHeader;
            self.shared.opened();
            self.strangers.push_back(key);
            return self.greet(key, new, false);
        }
        self.judge(&mut new);
        match self.tls.clients.clone() {
            Some(config) => {
                self.shared.opened();
                self.strangers.push_back(key);
                self.receive(key, new, config);
            }
            None => self.connect(key, new),
        }
    }

    fn cannot_accept(&mut self, error: &io::Error) {
        self.shared.counters.accept_failures.fetch_add(1, Relaxed);
        self.stop_watching();
        self.pause = Some(self.now + PAUSE);
        if self.complained.is_none_or(|then| self.now >= then + COMPLAIN) {
            self.complained = Some(self.now);
            warn!("cannot accept clients for now: {error}");
        }
    }

    pub(super) fn accept_again(&mut self) {
        if self.accepting || self.stop.is_some() {
            return;
        }
        if self.pause.is_some_and(|until| self.now < until) {
            return;
        }
        self.pause = None;
        if self.shared.wait_for_room(&self.settings) {
            return self.watch_listeners();
        }
        self.next_look = self.oldest_stranger().map(|(_, due)| due);
        if self.next_look.is_some_and(|due| due <= self.now) {
            self.watch_listeners();
        }
    }

    /// Where there is room for no more connections, those give way that have not said for whom they
    /// come or have not agreed on how to encrypt, the oldest first. Thousands of silent ones would
    /// keep everybody out for as long as that may take otherwise.
    fn enter_instead(&mut self) -> bool {
        if !self.shared.is_full(&self.settings) {
            return false;
        }
        self.cut_stranger() && self.shared.enter(&self.settings)
    }

    /// Who waits at another worker may need the room of a stranger of this one.
    pub(super) fn give_way(&mut self) {
        if !self.shared.is_crowded() {
            if self.accepting {
                self.next_look = None;
            }
            return;
        }
        match self.oldest_stranger() {
            Some((_, due)) if due <= self.now => {
                if self.shared.had_crowd() {
                    self.cut_stranger();
                }
            }
            oldest => self.next_look = oldest.map(|(_, due)| due),
        }
    }

    /// Cuts the oldest one, if it has had its time.
    fn cut_stranger(&mut self) -> bool {
        let oldest = self.oldest_stranger().filter(|(_, due)| *due <= self.now);
        let Some((key, _)) = oldest else { return false };
        let Some(connection) = self.connections.take(key) else { return false };
        self.shared.counters.timeouts.fetch_add(1, Relaxed);
        let agreeing = u64::from(connection.stage == ConnectionStage::ClientHandshake);
        self.shared.counters.failed_handshakes.fetch_add(agreeing, Relaxed);
        self.end(key, *connection, PumpOutcome::Reset);
        true
    }

    /// The one that came first of those who have not introduced themselves, and when it has to give way.
    fn oldest_stranger(&mut self) -> Option<(SlabKey, Instant)> {
        while let Some(&key) = self.strangers.front() {
            let found = self.connections.get(key);
            if let Some(found) = found.filter(|it| it.stage.is_handshaking()) {
                return Some((key, found.accepted + GRACE));
            }
            self.strangers.pop_front();
        }
        None
    }
}
