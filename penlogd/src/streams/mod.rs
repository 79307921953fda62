//! Streams: senders that connect by TCP, at the same address and port as by UDP.
//!
//! An `epoll` instance watches all connections. Each readable connection is read once, at most [`CHUNK`] bytes, before
//! any is read again: none starves another. An unread connection pushes back on the sender.

mod counts;
mod holds;
mod listener;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use pen_records::shipment::{DiscoveryAnswer, MAGIC};
use pen_records::time::Timestamp;
use pen_stream::identity::Identity;
use pen_stream::link::{FramedLink, LinkError, LinkRead};
use pen_stream::tls::CollectorTls;

pub use self::counts::StreamCounts;
use self::holds::HeldStreams;
pub(crate) use self::listener::{StreamListener, bind};
use crate::warnings::{WarningCause, Warnings};

/// Bytes read from a connection at once.
const CHUNK: usize = 64 << 10;
/// Most events taken at once.
const EVENTS: usize = 64;
/// How long a new connection may send nothing.
const SILENCE: Duration = Duration::from_secs(10);
/// How long nothing is accepted after the system refused a descriptor.
const PAUSE: Duration = Duration::from_millis(200);
/// Most bytes of replies waiting for a sender.
const REPLIES: usize = 64 << 10;
/// Bit set in the tokens of listeners, and in no number of a connection.
const LISTENER: u64 = 1 << 63;

/// Number of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(u64);

/// The sender of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamSender<'a> {
    pub(crate) id: StreamId,
    pub(crate) addr: SocketAddr,
    /// The sender's key, or all names of its certificate, proved by the handshake; `None` without TLS.
    pub(crate) identity: Option<&'a [Identity]>,
    /// The connection has brought a datagram before.
    pub(crate) has_spoken: bool,
}

/// Fate of a connection after a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StreamFate {
    /// The connection goes on.
    Keep,
    /// The connection goes on, and is not read until then, but for what was read already.
    Hold(Instant),
    /// The connection is closed, for this reason.
    Close(String),
}

/// All listeners and connections.
pub(crate) struct Streams {
    epoll: Epoll,
    /// Settings of TLS; `None`: TLS is refused.
    tls: Option<Arc<CollectorTls>>,
    listeners: Vec<StreamListener>,
    /// Most connections.
    most: usize,
    connections: HashMap<StreamId, StreamConnection>,
    next: u64,
    /// New connections, by deadline of the first datagram.
    silent: VecDeque<(Instant, StreamId)>,
    held: HeldStreams,
    /// When to accept again.
    paused: Option<Instant>,
    /// Events may be left.
    is_pending: bool,
    events: Vec<EpollEvent>,
    scratch: Vec<u8>,
    counts: StreamCounts,
    warnings: Warnings,
}

struct StreamConnection {
    link: FramedLink,
    peer: SocketAddr,
    /// A whole datagram has come.
    has_spoken: bool,
    /// Nothing is read until then.
    held: Option<Instant>,
    /// The watched events.
    interest: EpollFlags,
}

impl Streams {
    /// Watches the listeners. At most `most` connections are open at once.
    pub(crate) fn new(listeners: Vec<StreamListener>, most: usize) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let this = Self {
            epoll,
            tls: None,
            listeners,
            most,
            connections: HashMap::new(),
            next: 0,
            silent: VecDeque::new(),
            held: HeldStreams::default(),
            paused: None,
            is_pending: false,
            events: vec![EpollEvent::empty(); EVENTS],
            scratch: vec![0; CHUNK],
            counts: StreamCounts::default(),
            warnings: Warnings::default(),
        };
        this.watch_listeners()?;
        Ok(this)
    }

    fn watch_listeners(&self) -> io::Result<()> {
        for (token, listener) in (LISTENER..).zip(&self.listeners) {
            self.epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        }
        Ok(())
    }

    /// Sets the known senders. Connections of senders that could not connect now are closed.
    pub(crate) fn set_tls(&mut self, tls: Arc<CollectorTls>) {
        let unknown = self.connections.iter().filter(|(_, it)| !it.link.is_admitted_by(&tls));
        let unknown: Vec<_> = unknown.map(|(id, _)| *id).collect();
        self.tls = Some(tls);
        unknown.into_iter().for_each(|id| self.close(id));
    }

    /// Returns a descriptor for waiting: readable when there is something to receive.
    pub(crate) fn watch(&self) -> io::Result<OwnedFd> {
        self.epoll.0.as_fd().try_clone_to_owned()
    }

    /// Whether the last [`Self::receive`] left something, or none has followed since [`Self::postpone`].
    pub(crate) const fn is_pending(&self) -> bool {
        self.is_pending
    }

    /// Leaves everything for a later [`Self::receive`]: the intake takes no more now.
    pub(crate) const fn postpone(&mut self) {
        self.is_pending = true;
    }

    pub(crate) fn counts(&self) -> StreamCounts {
        StreamCounts { open: self.connections.len() as u64, ..self.counts }
    }

    /// Accepts connections, and reads once from each readable connection, up to a number. Hands each
    /// datagram to `take`. Returns how many events there were.
    pub(crate) fn receive(
        &mut self,
        now: (Instant, Timestamp),
        mut take: impl FnMut(StreamSender<'_>, &[u8]) -> StreamFate,
    ) -> usize {
        let mut events = std::mem::take(&mut self.events);
        // Without a wait the call fails only for a closed descriptor.
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        for event in events.iter().take(count) {
            match event.data() {
                token if token & LISTENER != 0 => self.accept(token ^ LISTENER, now),
                id => self.serve(StreamId(id), event.events(), now.1, &mut take),
            }
        }
        self.events = events;
        self.is_pending = count > 0;
        count
    }

    fn accept(&mut self, listener: u64, (now, time): (Instant, Timestamp)) {
        let Some(listener) = usize::try_from(listener).ok().and_then(|at| self.listeners.get(at))
        else {
            return;
        };
        let (socket, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if is_of_peer(&error) => return,
            Err(error) => return self.pause(&error, now, time),
        };
        self.counts.accepted += 1;
        if self.connections.len() >= self.most && !self.drop_oldest_silent(time) {
            self.counts.too_many += 1;
            let what = format_args!(
                "the connection is closed: the limit of {} connections is reached (raise --memory)",
                self.most
            );
            return self.warnings.warn(WarningCause::Stream, peer, time, what);
        }
        let id = StreamId(self.next);
        self.next += 1;
        let interest = EpollFlags::EPOLLIN;
        let link = FramedLink::from_sender(socket, self.tls.clone());
        if let Err(error) = self.epoll.add(&link, EpollEvent::new(interest, id.0)) {
            return self.pause(&error.into(), now, time);
        }
        self.silent.push_back((now + SILENCE, id));
        let connection = StreamConnection { link, peer, has_spoken: false, held: None, interest };
        self.connections.insert(id, connection);
    }

    /// Closes the connection that has been silent for longest, to make room for a new one. A sender speaks at once; strangers
    /// who occupy connections do not. Returns `false` if all have spoken.
    fn drop_oldest_silent(&mut self, now: Timestamp) -> bool {
        while let Some((_, id)) = self.silent.pop_front() {
            let Some(connection) = self.connections.get(&id).filter(|it| !it.has_spoken) else {
                continue;
            };
            self.counts.too_many += 1;
            let what = format_args!(
                "the connection is closed: it has sent no datagram, and the limit of {} connections is reached (raise \
                 --memory)",
                self.most
            );
            self.warnings.warn(WarningCause::Stream, connection.peer, now, what);
            self.close(id);
            return true;
        }
        false
    }

    /// Accepts nothing for a while.
    fn pause(&mut self, error: &io::Error, now: Instant, time: Timestamp) {
        let Some(first) = self.listeners.first() else { return };
        self.warnings.warn(
            WarningCause::Stream,
            first.addr(),
            time,
            format_args!(
                "cannot accept connections: {error} (raise the limit of open files, LimitNOFILE)"
            ),
        );
        for listener in &self.listeners {
            // Not watched, if it was paused before.
            let _ = self.epoll.delete(listener);
        }
        self.paused = Some(now + PAUSE);
    }

    fn serve(
        &mut self,
        id: StreamId,
        events: EpollFlags,
        now: Timestamp,
        take: &mut impl FnMut(StreamSender<'_>, &[u8]) -> StreamFate,
    ) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if events.contains(EpollFlags::EPOLLOUT)
            && let Err(error) = connection.link.flush()
        {
            return self.drop_broken(id, &error, now);
        }
        if connection.held.is_some()
            && !events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
        {
            return self.watch_connection(id, now);
        }
        let (peer, mut fate) = (connection.peer, StreamFate::Keep);
        let mut has_spoken = connection.has_spoken;
        let read = connection.link.read(&mut self.scratch, |identity, datagram| {
            // What follows junk is not looked at.
            if !matches!(fate, StreamFate::Close(_)) {
                fate = match datagram.starts_with(&MAGIC) {
                    true => take(StreamSender { id, addr: peer, identity, has_spoken }, datagram),
                    false => StreamFate::Close(
                        "it sent a frame that holds no datagram of pen or penlog".into(),
                    ),
                };
                has_spoken = true;
            }
        });
        connection.has_spoken = has_spoken;
        match (fate, read) {
            (StreamFate::Close(why), _) => self.drop_junk(id, &why, now),
            (_, Ok(LinkRead::End)) => self.close(id),
            (_, Err(error)) => self.drop_broken(id, &error, now),
            (StreamFate::Keep, Ok(_)) => self.watch_connection(id, now),
            (StreamFate::Hold(until), Ok(_)) => self.hold(id, until, now),
        }
    }

    /// Sends replies, and watches the events needed next.
    fn watch_connection(&mut self, id: StreamId, now: Timestamp) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Err(error) = connection.link.flush() {
            return self.drop_broken(id, &error, now);
        }
        let mut interest = EpollFlags::empty();
        interest.set(EpollFlags::EPOLLIN, connection.held.is_none());
        interest.set(EpollFlags::EPOLLOUT, connection.link.wants_write());
        if interest != connection.interest {
            connection.interest = interest;
            let changed = self.epoll.modify(&connection.link, &mut EpollEvent::new(interest, id.0));
            if let Err(error) = changed {
                self.drop_broken(id, &LinkError::Socket(error.into()), now);
            }
        }
    }

    /// Sends a reply, or drops it: the sender asks again.
    pub(crate) fn answer(&mut self, id: StreamId, answer: &DiscoveryAnswer, now: Timestamp) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.link.queued() > REPLIES {
            let peer = connection.peer;
            self.counts.silent += 1;
            self.warnings.warn(
                WarningCause::Stream,
                peer,
                now,
                "the connection is closed: it takes no replies",
            );
            return self.close(id);
        }
        let mut bytes = Vec::with_capacity(DiscoveryAnswer::LEN);
        answer.write(&mut bytes);
        connection.link.queue(&bytes);
        self.watch_connection(id, now);
    }

    /// Returns when to call [`Self::expire`].
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let silent = self.silent.front().map(|&(due, _)| due);
        [silent, self.paused, self.held.next_due()].into_iter().flatten().min()
    }

    /// Closes new connections without a datagram, reads held ones again, and accepts again after a pause.
    pub(crate) fn expire(&mut self, (now, time): (Instant, Timestamp)) {
        self.release_held((now, time));
        while let Some(&(due, id)) = self.silent.front()
            && due <= now
        {
            self.silent.pop_front();
            if let Some(connection) = self.connections.get(&id)
                && !connection.has_spoken
            {
                let peer = connection.peer;
                self.counts.silent += 1;
                let what = format_args!(
                    "the connection is closed: it has sent nothing within {} s",
                    SILENCE.as_secs()
                );
                self.warnings.warn(WarningCause::Stream, peer, time, what);
                self.close(id);
            }
        }
        if self.paused.is_some_and(|until| until <= now) {
            self.paused = None;
            if let Err(error) = self.watch_listeners() {
                self.pause(&error, now, time);
            }
        }
    }

    fn drop_junk(&mut self, id: StreamId, why: &str, now: Timestamp) {
        let Some(connection) = self.connections.get(&id) else { return };
        self.counts.junk += 1;
        let what = format_args!("the connection is closed: {why}");
        self.warnings.warn(WarningCause::Stream, connection.peer, now, what);
        self.close(id);
    }

    fn drop_broken(&mut self, id: StreamId, error: &LinkError, now: Timestamp) {
        match error {
            LinkError::Socket(_) | LinkError::Cut => {
                self.counts.broken += 1;
                if let Some(connection) = self.connections.get(&id) {
                    tracing::debug!("from {}: the connection has ended: {error}", connection.peer);
                }
                self.close(id);
            }
            LinkError::Frame(_) | LinkError::Tls(..) | LinkError::NoKey => {
                self.drop_junk(id, &error.to_string(), now);
            }
        }
    }

    fn close(&mut self, id: StreamId) {
        if let Some(mut connection) = self.connections.remove(&id) {
            connection.link.close();
            // Closing the descriptor does the same.
            let _ = self.epoll.delete(&connection.link);
        }
    }
}

/// Whether a failed accept concerns a single peer.
fn is_of_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
    )
}

#[cfg(test)]
mod tests;
