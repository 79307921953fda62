//! A worker: one thread, one `epoll`, its own listeners and the connections it accepted, to their end.
//!
//! Why no tasks of a runtime: with tokio each socket's registration alone takes 256 bytes, so that a silent
//! pair costs more than a kilobyte. Here it is one box of a few hundred bytes, nothing is allocated
//! while bytes pass, and what a connection does is decided by machines that tests drive without a
//! socket ([`super::duplex`], [`crate::data::pool`]).

mod acceptor;
mod commands;
mod connect;
pub(super) mod connection;
mod handshakes;
mod proxy_header;
mod timers;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;
use tracing::{debug, warn};

use self::connection::{Connection, ConnectionStage, DeadlineKind, Room, Turn};
use self::timers::Timers;
use super::duplex::{Ready, Side};
use super::jobs::Jobs;
use super::pump::PumpOutcome;
use super::shared::{Mailbox, Shared};
use super::slab::{Slab, SlabKey};
use super::socket::Listener;
use crate::config::RuntimeSettings;
use crate::data::tls::Tls;
use crate::logs::sinks::RecordSinks;

/// Bytes read at a time.
const BUFFER: usize = 64 * 1024;
/// Events taken at a time.
const EVENTS: usize = 256;

/// What is told of a socket.
const WATCHED: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

/// What an event or a timer is about, as it fits into the 64 bits that the kernel keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TcpToken {
    Waker,
    Listeners,
    Client(SlabKey),
    Server(SlabKey),
}

impl TcpToken {
    const fn data(self) -> EventData {
        let (key, kind) = match self {
            Self::Waker => (None, 0),
            Self::Listeners => (None, 1),
            Self::Client(key) => (Some(key), 2),
            Self::Server(key) => (Some(key), 3),
        };
        let key = match key {
            // There are fewer than 2^30 descriptors.
            Some(SlabKey { slot, generation }) => {
                ((generation as u64) << 32) | ((slot as u64) << 2)
            }
            None => 0,
        };
        EventData::new_u64(key | kind)
    }

    fn of(data: EventData) -> Self {
        let data = data.u64();
        let half = |value: u64| u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default();
        let key = SlabKey { slot: half(data) >> 2, generation: half(data >> 32) };
        match data & 3 {
            0 => Self::Waker,
            1 => Self::Listeners,
            2 => Self::Client(key),
            _ => Self::Server(key),
        }
    }
}

/// A worker, before it runs.
#[derive(Debug)]
pub struct TcpWorker {
    epoll: OwnedFd,
    mailbox: Arc<Mailbox>,
    shared: Arc<Shared>,
    settings: Arc<RuntimeSettings>,
    tls: Arc<Tls>,
    version: u64,
    listeners: Vec<Listener>,
    multi_accept: u32,
    /// Whether the listeners are watched.
    accepting: bool,
    /// When to accept again, after a failure.
    pause: Option<Instant>,
    /// When one of the strangers may have to give way to who waits.
    next_look: Option<Instant>,
    complained: Option<Instant>,
    connections: Slab<Connection>,
    timers: Timers<SlabKey>,
    /// Those that may not be opened yet, in the order in which they asked.
    patient: VecDeque<SlabKey>,
    /// Those with more to do than their turn allowed.
    again: Vec<SlabKey>,
    /// Clients with whom a handshake goes on.
    agreeing: VecDeque<SlabKey>,
    /// Those that had to introduce themselves, in the order in which they came. Some are none any more.
    strangers: VecDeque<SlabKey>,
    /// What others have asked for.
    jobs: Jobs,
    room: Room,
    sinks: RecordSinks,
    now: Instant,
    /// When to be gone.
    stop: Option<Instant>,
}

impl TcpWorker {
    /// One that accepts from these listeners.
    ///
    /// # Errors
    /// There are no descriptors.
    pub fn new(
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        listeners: Vec<Listener>,
        multi_accept: u32,
        mut sinks: RecordSinks,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, mailbox.waker(), TcpToken::Waker.data(), EventFlags::IN)?;
        let settings = shared.settings();
        sinks.apply_settings(&settings);
        Ok(Self {
            epoll,
            mailbox,
            version: shared.version(),
            tls: shared.tls(),
            settings,
            shared,
            listeners,
            multi_accept: multi_accept.max(1),
            accepting: false,
            pause: None,
            next_look: None,
            complained: None,
            connections: Slab::default(),
            timers: Timers::default(),
            patient: VecDeque::new(),
            again: Vec::new(),
            agreeing: VecDeque::new(),
            strangers: VecDeque::new(),
            jobs: Jobs::default(),
            room: Room::new(BUFFER),
            sinks,
            now: Instant::now(),
            stop: None,
        })
    }

    /// Works until it is told to stop.
    pub fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        self.watch_listeners();
        while !self.is_done() {
            let timeout = self.timeout();
            events.clear();
            let waited = epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref());
            self.now = Instant::now();
            if let Err(error) = waited
                && error != Errno::INTR
            {
                warn!("cannot wait for events: {error}");
            }
            for event in &events {
                let (flags, data) = (event.flags, event.data);
                self.event(TcpToken::of(data), flags);
            }
            self.go_on();
            self.agree();
            self.run_job();
            self.call_due();
            self.open_patient();
            self.accept_again();
            self.give_way();
            if self.settings.is_classic_collector() {
                self.sinks.flush();
            }
            self.sinks.flush_due(self.now);
        }
    }

    fn is_done(&self) -> bool {
        self.stop.is_some() && self.connections.is_empty()
    }

    fn timeout(&self) -> Option<Timespec> {
        if !self.again.is_empty() || !self.agreeing.is_empty() || !self.jobs.is_empty() {
            return Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        }
        let own = [self.pause, self.next_look, self.stop];
        let due = [self.timers.next(), self.sinks.next_due()].into_iter().chain(own);
        let due = due.flatten().min()?;
        let wait = due.saturating_duration_since(self.now);
        Timespec::try_from(wait).ok()
    }

    fn event(&mut self, about: TcpToken, flags: EventFlags) {
        match about {
            TcpToken::Waker => self.obey(),
            TcpToken::Listeners => self.accept(self.multi_accept),
            TcpToken::Client(key) => self.socket_event(key, Side::Client, flags),
            TcpToken::Server(key) => self.socket_event(key, Side::Server, flags),
        }
    }

    // Forwarding.

    fn socket_event(&mut self, key: SlabKey, side: Side, flags: EventFlags) {
        let Some(mut connection) = self.connections.take(key) else { return };
        if connection.is_open() {
            connection.ready(side, ready(flags));
            self.pump(key, connection);
        } else if connection.stage == ConnectionStage::ProxyHeader {
            self.greet(key, connection, ready(flags).ended);
        } else if side == Side::Server {
            let failed = flags.intersects(EventFlags::ERR | EventFlags::HUP);
            let server = connection.server.as_ref().filter(|_| failed);
            let result = server.map_or(Ok(()), |server| server.socket.connected());
            match result {
                Ok(()) => {
                    connection.ready(Side::Server, ready(flags));
                    self.reached(key, connection);
                }
                failed @ Err(_) => self.connected(key, connection, failed),
            }
        } else {
            if connection.stage == ConnectionStage::ClientHandshake {
                self.agreeing.push_back(key);
            }
            self.keep(key, connection);
        }
    }

    fn turn(&mut self) -> Turn<'_> {
        let (room, sinks, counters) = (&mut self.room, &mut self.sinks, &self.shared.counters);
        Turn { room, sinks, counters, now: self.now }
    }

    fn pump(&mut self, key: SlabKey, mut connection: Box<Connection>) {
        match connection.pump(self.turn()) {
            PumpOutcome::Wait => self.keep(key, connection),
            PumpOutcome::Budget => {
                // Once, or a busy one would get more turns than others.
                if !std::mem::replace(&mut connection.queued, true) {
                    self.again.push(key);
                }
                self.keep(key, connection);
            }
            end @ (PumpOutcome::Close | PumpOutcome::Reset) => self.end(key, *connection, end),
        }
    }

    /// Gives those their turn again who had more to do.
    fn go_on(&mut self) {
        for key in std::mem::take(&mut self.again) {
            if let Some(mut connection) = self.connections.take(key) {
                connection.queued = false;
                self.pump(key, connection);
            }
        }
    }

    fn keep(&mut self, key: SlabKey, mut connection: Box<Connection>) {
        let due = connection.due(&self.settings).map(|(due, _)| due);
        let Some(due) = due.filter(|due| connection.timer.is_none_or(|timer| *due < timer)) else {
            return self.connections.put(key, connection);
        };
        connection.timer = Some(due);
        self.timers.add(due, key);
        self.connections.put(key, connection);
        let connections = &self.connections;
        self.timers.tidy(connections.len(), |due, key| {
            connections.get(*key).is_some_and(|connection| connection.timer == Some(due))
        });
    }

    fn call_due(&mut self) {
        while let Some((due, key)) = self.timers.pop(self.now) {
            self.call(key, due);
        }
        if self.stop.is_some_and(|deadline| self.now >= deadline) {
            for key in self.connections.keys().collect::<Vec<_>>() {
                self.close(key);
            }
        }
    }

    fn call(&mut self, key: SlabKey, timer: Instant) {
        let Some(mut connection) = self.connections.take(key) else { return };
        if connection.timer == Some(timer) {
            connection.timer = None;
        }
        match connection.due(&self.settings) {
            Some((due, what)) if due <= self.now => match what {
                DeadlineKind::ProxyHeader => {
                    self.rebuff(key, *connection, &"it did not come in time");
                }
                DeadlineKind::ClientHandshake => {
                    self.shared.counters.timeouts.fetch_add(1, Relaxed);
                    self.shared.counters.failed_handshakes.fetch_add(1, Relaxed);
                    self.end(key, *connection, PumpOutcome::Close);
                }
                DeadlineKind::Connect => {
                    debug!("connection {}: {what:?} took too long", connection.number);
                    self.connected(key, connection, Err(ErrorKind::TimedOut.into()));
                }
                DeadlineKind::Quiet => {
                    connection.record_quiet_exchange(&mut self.sinks, self.now);
                    self.keep(key, connection);
                }
                DeadlineKind::Idle | DeadlineKind::HalfClosed => {
                    self.end_silent(key, connection, what);
                }
            },
            _ => self.keep(key, connection),
        }
    }

    /// Ends a connection on which nothing was said for too long, unless bytes still are taken.
    fn end_silent(&mut self, key: SlabKey, mut connection: Box<Connection>, what: DeadlineKind) {
        let pause = connection.pump_again(self.turn());
        let end = match pause {
            PumpOutcome::Wait | PumpOutcome::Budget if connection.active == self.now => {
                return self.keep(key, connection);
            }
            // An end in the midst of what was said would be taken for a whole answer.
            PumpOutcome::Wait | PumpOutcome::Budget
                if what == DeadlineKind::HalfClosed || connection.has_left() =>
            {
                PumpOutcome::Reset
            }
            PumpOutcome::Wait | PumpOutcome::Budget => PumpOutcome::Close,
            end @ (PumpOutcome::Close | PumpOutcome::Reset) => end,
        };
        debug!("connection {}: {what:?} took too long", connection.number);
        self.shared.counters.timeouts.fetch_add(1, Relaxed);
        self.end(key, *connection, end);
    }

    // Ending.

    /// Cuts a connection.
    fn close(&mut self, key: SlabKey) {
        let Some(connection) = self.connections.take(key) else { return };
        self.end(key, *connection, PumpOutcome::Reset);
    }

    fn end(&mut self, key: SlabKey, mut connection: Connection, how: PumpOutcome) {
        connection.closed(&mut self.sinks, self.now);
        let (caller, traffic) = (connection.caller, connection.traffic);
        let stage = connection.stage;
        let lease = if how == PumpOutcome::Reset {
            self.shared.counters.resets.fetch_add(1, Relaxed);
            connection.reset()
        } else {
            connection.part();
            connection.server.map(|server| server.lease)
        };
        if let Some(lease) = lease {
            let mut pool = self.shared.pool();
            pool.count(&lease, caller.addr, traffic);
            pool.leave(lease);
        }
        self.forget(key, stage);
    }

    fn forget(&mut self, key: SlabKey, stage: ConnectionStage) {
        self.connections.release(key);
        self.shared.leave(stage);
    }
}

impl Drop for TcpWorker {
    fn drop(&mut self) {
        debug!("a worker ends with {} connections", self.connections.len());
    }
}

fn ready(flags: EventFlags) -> Ready {
    Ready {
        readable: flags.contains(EventFlags::IN),
        writable: flags.contains(EventFlags::OUT),
        ended: flags.intersects(EventFlags::RDHUP | EventFlags::HUP),
        failed: flags.contains(EventFlags::ERR),
    }
}

/// Whether it is our own want that an attempt failed for, and not the server's fault.
pub(super) fn is_ours(error: &io::Error) -> bool {
    let Some(error) = error.raw_os_error().map(Errno::from_raw_os_error) else { return false };
    // No descriptors, no memory, no room in epoll; no local port.
    let wants = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::NOSPC];
    wants.contains(&error)
        || error == Errno::ADDRNOTAVAIL
        // A Unix-domain socket whose queue is full: busy is not broken.
        || error == Errno::AGAIN
}
