//! A worker: one thread, one `epoll`, its own listeners and the connections it accepted, to their end.
//!
//! Why no tasks of a runtime: with tokio each socket's registration alone takes 256 bytes, so that a silent
//! pair costs more than a kilobyte. Here it is one box of a few hundred bytes, nothing is allocated
//! while bytes pass, and what a connection does is decided by machines that tests drive without a
//! socket ([`super::duplex`], [`crate::pool`]).

mod encrypt;
mod greet;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pen_records::addr::ClientAddr;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;
use tracing::{debug, warn};

use super::connection::{Connection, Due, Room, Server, Stage, Turn};
use super::duplex::{Ready, Side};
use super::pump::Pause;
use super::shared::{Mailbox, Order, Shared};
use super::socket::{Listener, Socket};
use super::table::{Key, Table};
use super::timers::Timers;
use crate::books::Books;
use crate::config::Settings;
use crate::pool::Caller;
use crate::tls::Tls;

/// Bytes read at a time.
const BUFFER: usize = 64 * 1024;
/// Events taken at a time.
const EVENTS: usize = 256;
/// How long no client is accepted when there are no descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// More clients than a kernel keeps waiting.
const ALL: u32 = 1 << 16;
/// How often that is said.
const COMPLAIN: Duration = Duration::from_secs(5);

/// What is told of a socket.
const WATCHED: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

/// What an event or a timer is about, as it fits into the 64 bits that the kernel keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Bell,
    Listeners,
    Client(Key),
    Server(Key),
}

impl About {
    const fn data(self) -> EventData {
        let (key, kind) = match self {
            Self::Bell => (None, 0),
            Self::Listeners => (None, 1),
            Self::Client(key) => (Some(key), 2),
            Self::Server(key) => (Some(key), 3),
        };
        let key = match key {
            // There are fewer than 2^30 descriptors.
            Some(Key { slot, life }) => ((life as u64) << 32) | ((slot as u64) << 2),
            None => 0,
        };
        EventData::new_u64(key | kind)
    }

    fn of(data: EventData) -> Self {
        let data = data.u64();
        let half = |value: u64| u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default();
        let key = Key { slot: half(data) >> 2, life: half(data >> 32) };
        match data & 3 {
            0 => Self::Bell,
            1 => Self::Listeners,
            2 => Self::Client(key),
            _ => Self::Server(key),
        }
    }
}

/// A worker, before it runs.
#[derive(Debug)]
pub struct Worker {
    epoll: OwnedFd,
    mailbox: Arc<Mailbox>,
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    tls: Arc<Tls>,
    version: u64,
    listeners: Vec<Listener>,
    multi_accept: u32,
    /// Whether the listeners are watched.
    accepting: bool,
    /// When to accept again, after a failure.
    pause: Option<Instant>,
    complained: Option<Instant>,
    connections: Table<Connection>,
    timers: Timers<Key>,
    /// Those that may not be opened yet, in the order in which they asked.
    patient: VecDeque<Key>,
    /// Those with more to do than their turn allowed.
    again: Vec<Key>,
    /// Clients with whom a handshake goes on.
    agreeing: VecDeque<Key>,
    room: Room,
    books: Books,
    now: Instant,
    /// When to be gone.
    stop: Option<Instant>,
}

impl Worker {
    /// One that accepts from these listeners.
    ///
    /// # Errors
    /// There are no descriptors.
    pub fn new(
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        listeners: Vec<Listener>,
        multi_accept: u32,
        books: Books,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, mailbox.bell(), About::Bell.data(), EventFlags::IN)?;
        let settings = shared.settings();
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
            complained: None,
            connections: Table::default(),
            timers: Timers::default(),
            patient: VecDeque::new(),
            again: Vec::new(),
            agreeing: VecDeque::new(),
            room: Room::new(BUFFER),
            books,
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
                self.event(About::of(data), flags);
            }
            self.go_on();
            self.agree();
            self.call_due();
            self.open_patient();
            self.accept_again();
            if self.settings.is_classic_collector() {
                self.books.notes.flush();
            }
            self.books.settle(self.now);
        }
    }

    fn is_done(&self) -> bool {
        self.stop.is_some() && self.connections.is_empty()
    }

    fn timeout(&self) -> Option<Timespec> {
        if !self.again.is_empty() || !self.agreeing.is_empty() {
            return Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        }
        let due = [self.timers.next(), self.books.next_due(), self.pause, self.stop];
        let due = due.into_iter().flatten().min()?;
        let wait = due.saturating_duration_since(self.now);
        Timespec::try_from(wait).ok()
    }

    fn event(&mut self, about: About, flags: EventFlags) {
        match about {
            About::Bell => self.obey(),
            About::Listeners => self.accept(self.multi_accept),
            About::Client(key) => self.socket_event(key, Side::Client, flags),
            About::Server(key) => self.socket_event(key, Side::Server, flags),
        }
    }

    fn obey(&mut self) {
        for order in self.mailbox.empty() {
            match order {
                Order::Stop { deadline } => {
                    // Who waits already is served.
                    self.accept(ALL);
                    self.stop_watching();
                    self.listeners.clear();
                    self.pause = None;
                    self.stop = Some(deadline);
                }
                Order::Close(number) => {
                    let found = self.connections.iter().find(|(_, c)| c.number == number);
                    if let Some((key, _)) = found {
                        self.close(key);
                    }
                }
                Order::CloseAll(server, at) => {
                    let is_there = |connection: &Connection| {
                        let found = connection.server.as_ref();
                        found.is_some_and(|it| it.seat.server() == server && *it.addr == at)
                    };
                    let all = self.connections.iter().filter(|(_, it)| is_there(it));
                    let all: Vec<_> = all.map(|(key, _)| key).collect();
                    all.into_iter().for_each(|key| self.close(key));
                }
                #[cfg(test)]
                Order::Fall => panic!("as it was told"),
                Order::Report(question) => {
                    question.answer(self.connections.iter().map(|(_, it)| it), self.now);
                }
            }
        }
        if self.shared.version() != self.version {
            self.version = self.shared.version();
            let before = std::mem::replace(&mut self.settings, self.shared.settings());
            if before.timeouts != self.settings.timeouts {
                self.set_timers();
            }
            self.tls = self.shared.tls();
        }
    }

    // Accepting.

    fn watch_listeners(&mut self) {
        if std::mem::replace(&mut self.accepting, true) {
            return;
        }
        for listener in &self.listeners {
            let flags = EventFlags::IN | EventFlags::EXCLUSIVE;
            let added = epoll::add(&self.epoll, listener, About::Listeners.data(), flags);
            if let Err(error) = added {
                warn!("cannot watch the listener at {}: {error}", listener.endpoint());
            }
        }
    }

    fn stop_watching(&mut self) {
        if std::mem::replace(&mut self.accepting, false) {
            for listener in &self.listeners {
                // It is not watched if that failed before.
                epoll::delete(&self.epoll, listener).unwrap_or_default();
            }
        }
    }

    /// Accepts who waits, so many at each address, as long as there is room. Who finds none waits in
    /// the kernel.
    fn accept(&mut self, most: u32) {
        for index in 0..self.listeners.len() {
            for _ in 0..most {
                if !self.shared.enter(&self.settings) {
                    // Looked at again at the end of this round.
                    self.stop_watching();
                    return;
                }
                match self.listeners[index].accept() {
                    Ok((client, peer)) => {
                        let number = self.shared.accepted.fetch_add(1, Relaxed) + 1;
                        self.admit(number, client, peer);
                    }
                    Err(error) => {
                        self.shared.leave(Stage::Connecting);
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
        let (key, mut new) = (self.connections.reserve(), Box::new(new));
        if self.settings.speaks_for_others(addr) {
            // As long as it says nothing, it keeps nobody from being served.
            new.stage = Stage::Greeting;
            self.shared.opened();
            return self.greet(key, new, false);
        }
        self.judge(&mut new);
        match self.tls.clients.clone() {
            Some(config) => {
                self.shared.opened();
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

    fn accept_again(&mut self) {
        if self.accepting || self.stop.is_some() {
            return;
        }
        if self.pause.is_some_and(|until| self.now < until) {
            return;
        }
        self.pause = None;
        if self.shared.wait_for_room(&self.settings) {
            self.watch_listeners();
        }
    }

    // Connecting.

    /// Begins to connect to the next server, until one attempt is under way or none is left.
    fn connect(&mut self, key: Key, mut connection: Box<Connection>) {
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
                epoll::add(&self.epoll, &socket, About::Server(key).data(), WATCHED)?;
                Ok(socket)
            });
            match attempt {
                Ok(socket) => {
                    connection.active = self.now;
                    let (seat, addr) = (choice.seat, choice.addr);
                    connection.server = Some(Server { socket, seat, addr, local: None });
                    self.keep(key, connection);
                    return;
                }
                Err(error) => {
                    debug!("cannot connect to {}: {error}", choice.addr);
                    self.shared.counters.failed_attempts.fetch_add(1, Relaxed);
                    if is_ours(&error) {
                        self.shared.pool().leave(choice.seat);
                    } else {
                        self.shared.pool().failed(choice.seat, self.now);
                    }
                }
            }
        }
    }

    fn refuse(&mut self, key: Key, connection: Connection) {
        if connection.caller.admitted {
            self.shared.counters.refused.fetch_add(1, Relaxed);
        }
        connection.reset();
        self.forget(key, Stage::Connecting);
    }

    /// An attempt to connect has ended, well or not.
    fn connected(&mut self, key: Key, mut connection: Box<Connection>, result: io::Result<()>) {
        if let Err(error) = result {
            let Some(server) = connection.take_server() else {
                return self.refuse(key, *connection);
            };
            debug!("cannot connect to {}: {error}", server.addr);
            self.shared.counters.failed_attempts.fetch_add(1, Relaxed);
            self.shared.pool().failed(server.seat, self.now);
            drop(server.socket);
            connection.stage = Stage::Connecting;
            self.connect(key, connection);
            return;
        }
        let Some(server) = &mut connection.server else { return self.refuse(key, *connection) };
        self.shared.pool().connected(&server.seat);
        if connection.tried.is_second_choice() {
            self.shared.counters.failovers.fetch_add(1, Relaxed);
        }
        connection.stage = Stage::Open;
        connection.active = self.now;
        self.shared.opened();
        if let Err(error) = self.watch_client(key, &mut connection) {
            warn!("cannot watch a client: {error}");
            self.end(key, *connection, Pause::Reset);
            return;
        }
        connection.opened(&self.settings, &mut self.books.notes, self.now);
        // It has most likely said something by now.
        connection.ready(Side::Client, Ready { readable: true, ..Ready::default() });
        if connection.is_encrypted(Side::Server) {
            // What it has said may have come with the end of the handshake.
            connection.ready(Side::Server, Ready { readable: true, ..Ready::default() });
        }
        self.pump(key, connection);
    }

    // Forwarding.

    fn socket_event(&mut self, key: Key, side: Side, flags: EventFlags) {
        let Some(mut connection) = self.connections.take(key) else { return };
        if connection.is_open() {
            connection.ready(side, ready(flags));
            self.pump(key, connection);
        } else if connection.stage == Stage::Greeting {
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
            if connection.stage == Stage::Agreeing {
                self.agreeing.push_back(key);
            }
            self.keep(key, connection);
        }
    }

    fn turn(&mut self) -> Turn<'_> {
        let (room, books, counters) = (&mut self.room, &mut self.books, &self.shared.counters);
        Turn { room, books, counters, now: self.now }
    }

    fn pump(&mut self, key: Key, mut connection: Box<Connection>) {
        match connection.pump(self.turn()) {
            Pause::Wait => self.keep(key, connection),
            Pause::Again => {
                // Once, or a busy one would get more turns than others.
                if !std::mem::replace(&mut connection.queued, true) {
                    self.again.push(key);
                }
                self.keep(key, connection);
            }
            end @ (Pause::Close | Pause::Reset) => self.end(key, *connection, end),
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

    /// For all, as times have changed.
    fn set_timers(&mut self) {
        for key in self.connections.keys().collect::<Vec<_>>() {
            if let Some(connection) = self.connections.take(key) {
                self.keep(key, connection);
            }
        }
    }

    fn keep(&mut self, key: Key, mut connection: Box<Connection>) {
        if let Some((due, _)) = connection.due(&self.settings)
            && connection.timer.is_none_or(|timer| due < timer)
        {
            connection.timer = Some(due);
            self.timers.add(due, key);
        }
        self.connections.put(key, connection);
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

    fn call(&mut self, key: Key, timer: Instant) {
        let Some(mut connection) = self.connections.take(key) else { return };
        if connection.timer == Some(timer) {
            connection.timer = None;
        }
        match connection.due(&self.settings) {
            Some((due, what)) if due <= self.now => match what {
                Due::Greeting => self.rebuff(key, *connection, &"it did not come in time"),
                Due::Agreeing => {
                    self.shared.counters.timeouts.fetch_add(1, Relaxed);
                    self.shared.counters.failed_handshakes.fetch_add(1, Relaxed);
                    self.end(key, *connection, Pause::Close);
                }
                Due::Connect => {
                    debug!("connection {}: {what:?} took too long", connection.number);
                    self.connected(key, connection, Err(ErrorKind::TimedOut.into()));
                }
                Due::Rest => {
                    connection.rest(&mut self.books, self.now);
                    self.keep(key, connection);
                }
                Due::Silence | Due::Linger => self.end_silent(key, connection, what),
            },
            _ => self.keep(key, connection),
        }
    }

    /// Ends a connection on which nothing was said for too long, unless bytes still are taken.
    fn end_silent(&mut self, key: Key, mut connection: Box<Connection>, what: Due) {
        let pause = connection.pump_again(self.turn());
        let end = match pause {
            Pause::Wait | Pause::Again if connection.active == self.now => {
                return self.keep(key, connection);
            }
            // An end in the midst of what was said would be taken for a whole answer.
            Pause::Wait | Pause::Again if what == Due::Linger || connection.has_left() => {
                Pause::Reset
            }
            Pause::Wait | Pause::Again => Pause::Close,
            end @ (Pause::Close | Pause::Reset) => end,
        };
        debug!("connection {}: {what:?} took too long", connection.number);
        self.shared.counters.timeouts.fetch_add(1, Relaxed);
        self.end(key, *connection, end);
    }

    // Ending.

    /// Cuts a connection.
    fn close(&mut self, key: Key) {
        let Some(connection) = self.connections.take(key) else { return };
        self.end(key, *connection, Pause::Reset);
    }

    fn end(&mut self, key: Key, mut connection: Connection, how: Pause) {
        connection.closed(&mut self.books, self.now);
        let (caller, traffic) = (connection.caller, connection.traffic);
        let stage = connection.stage;
        let seat = if how == Pause::Reset {
            self.shared.counters.resets.fetch_add(1, Relaxed);
            connection.reset()
        } else {
            connection.part();
            connection.server.map(|server| server.seat)
        };
        if let Some(seat) = seat {
            let mut pool = self.shared.pool();
            pool.count(&seat, caller.addr, traffic);
            pool.leave(seat);
        }
        self.forget(key, stage);
    }

    fn forget(&mut self, key: Key, stage: Stage) {
        self.connections.release(key);
        self.shared.leave(stage);
    }
}

impl Drop for Worker {
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
