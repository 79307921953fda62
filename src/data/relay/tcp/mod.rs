//! A TCP worker: one thread with an `epoll` instance, listeners, and all connections accepted
//! there, until they end.
//!
//! ```text
//! acceptor       listeners, accepting, and evicting handshaking clients when the limit is reached
//! admission      reading the PROXY header, and the client access list
//! handshakes     TLS handshakes with clients
//! pending        the queue of known clients that wait until a connection to a server may be opened
//! connect        choosing a server, connecting, PROXY header and TLS handshake towards it
//! connection     one client and its server: forwarding, records, deadlines
//! timers         deadlines in order
//! ```
//!
//! Why no tasks of a runtime: with tokio each socket's registration alone takes 256 bytes, so that an idle
//! pair costs more than a kilobyte. Here a connection is one box of a few hundred bytes, nothing is allocated
//! while bytes pass, and what a connection does is decided by machines that tests drive without a
//! socket ([`super::duplex`], [`crate::data::pool`]).

mod acceptor;
mod admission;
mod connect;
mod connection;
mod handshakes;
mod pending;
#[cfg(test)]
mod tests;
mod timers;

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};
use tracing::debug;

use self::acceptor::Acceptor;
use self::connection::{Connection, ConnectionStage, DeadlineKind, PumpContext, ScratchBuffers};
use self::handshakes::Handshakes;
use self::pending::PendingConnects;
use self::timers::Timers;
use super::duplex::{Ready, Side};
use super::jobs::{Job, JobTarget, Jobs, run_slice};
use super::mailbox::Mailbox;
use super::pump::PumpOutcome;
use super::report::ReportJob;
use super::shared::Shared;
use super::socket::Listener;
use super::worker::{EVENTS, WorkerCore};
use crate::config::Endpoint;
use crate::config::PoolServerId;
use crate::data::slab::{Slab, SlabKey};
use crate::data::tls::Tls;
use crate::logs::sinks::RecordSinks;

/// Largest read, in bytes.
const BUFFER: usize = 64 * 1024;

/// The events for which a connection's sockets are watched.
const WATCHED: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

/// The source of an event, packed into the 64 bits that epoll keeps.
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
            // Slots are fewer than 2^30: each has a descriptor.
            Some(SlabKey { slot, generation }) => {
                ((generation as u64) << 32) | ((slot as u64) << 2)
            }
            None => 0,
        };
        EventData::new_u64(key | kind)
    }

    fn of(data: EventData) -> Self {
        let data = data.u64();
        let low = u32::try_from(data & u64::from(u32::MAX)).expect("masked to 32 bits");
        let high = u32::try_from(data >> 32).expect("shifted to 32 bits");
        let key = SlabKey { slot: low >> 2, generation: high };
        match data & 3 {
            0 => Self::Waker,
            1 => Self::Listeners,
            2 => Self::Client(key),
            _ => Self::Server(key),
        }
    }
}

/// A TCP worker. Routes events to the owners of the state.
#[derive(Debug)]
pub struct TcpWorker {
    core: WorkerCore,
    /// The TLS configuration in force.
    tls: Arc<Tls>,
    connections: Slab<Box<Connection>>,
    timers: Timers<SlabKey>,
    acceptor: Acceptor,
    handshakes: Handshakes,
    pending: PendingConnects,
    /// Connections with a used up I/O budget in this round.
    ready: Vec<SlabKey>,
    scratch: ScratchBuffers,
}

impl TcpWorker {
    /// Creates a worker for these listeners, with up to `multi_accept` clients in a row from each
    /// listener.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn new(
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        listeners: Vec<Listener>,
        multi_accept: u32,
        sinks: RecordSinks,
    ) -> io::Result<Self> {
        let core = WorkerCore::new(shared, mailbox, sinks, TcpToken::Waker.data())?;
        Ok(Self {
            tls: core.shared.tls(),
            core,
            connections: Slab::default(),
            timers: Timers::default(),
            acceptor: Acceptor::new(listeners, multi_accept),
            handshakes: Handshakes::default(),
            pending: PendingConnects::default(),
            ready: Vec::new(),
            scratch: ScratchBuffers::new(BUFFER),
        })
    }

    /// Serves until the worker is told to stop and its last connection has ended.
    pub fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        self.acceptor.watch(&self.core.epoll);
        while !self.is_done() {
            let due = self.next_due();
            self.core.wait(&mut events, due);
            for event in &events {
                let (flags, data) = (event.flags, event.data);
                self.event(TcpToken::of(data), flags);
            }
            self.pump_ready();
            self.continue_handshakes();
            run_slice(&mut self);
            self.run_timers();
            self.open_pending();
            self.resume_accepting();
            self.evict_for_others();
            if self.core.settings.is_classic_collector() {
                self.core.sinks.flush();
            }
            self.core.sinks.flush_due(self.core.now);
        }
    }

    fn is_done(&self) -> bool {
        self.core.stop.is_some() && self.connections.is_empty()
    }

    /// Returns when the next round has to begin if no event comes; `None` if only an event matters.
    fn next_due(&self) -> Option<Instant> {
        if !self.ready.is_empty() || self.handshakes.has_ready() || !self.core.jobs.is_empty() {
            return Some(self.core.now);
        }
        [self.timers.next(), self.core.next_due(), self.acceptor.next_due()]
            .into_iter()
            .flatten()
            .min()
    }

    fn event(&mut self, token: TcpToken, flags: EventFlags) {
        match token {
            TcpToken::Waker => self.handle_commands(),
            TcpToken::Listeners => self.accept(self.acceptor.multi_accept()),
            TcpToken::Client(key) => self.socket_event(key, Side::Client, flags),
            TcpToken::Server(key) => self.socket_event(key, Side::Server, flags),
        }
    }

    fn handle_commands(&mut self) {
        if self.core.take_commands() {
            // Clients in the backlog are still served.
            self.accept(acceptor::WHOLE_BACKLOG);
            self.acceptor.close(&self.core.epoll);
        }
        if let Some(before) = self.core.take_settings() {
            if before.timeouts != self.core.settings.timeouts {
                self.core.jobs.add(Job::SetTimers);
            }
            self.tls = self.core.shared.tls();
        }
    }

    // Forwarding.

    fn socket_event(&mut self, key: SlabKey, side: Side, flags: EventFlags) {
        let Some(mut connection) = self.connections.take(key) else { return };
        let _span = connection.enter_span();
        match connection.stage {
            ConnectionStage::Open => {
                connection.ready(side, ready(flags));
                self.pump(key, connection);
            }
            ConnectionStage::ProxyHeader => {
                self.read_proxy_header(key, connection, ready(flags).ended);
            }
            _ if side == Side::Server => {
                let failed = flags.intersects(EventFlags::ERR | EventFlags::HUP);
                let server = connection.server.as_ref().filter(|_| failed);
                let result = server.map_or(Ok(()), |server| server.socket.connected());
                match result {
                    Ok(()) => {
                        connection.ready(Side::Server, ready(flags));
                        self.server_reached(key, connection);
                    }
                    failed @ Err(_) => self.connect_ended(key, connection, failed),
                }
            }
            stage => {
                if stage == ConnectionStage::ClientHandshake {
                    self.handshakes.mark_ready(key);
                }
                self.keep(key, connection);
            }
        }
    }

    fn pump_context(&mut self) -> PumpContext<'_> {
        PumpContext {
            scratch: &mut self.scratch,
            sinks: &mut self.core.sinks,
            counters: &self.core.shared.counters,
            now: self.core.now,
        }
    }

    fn pump(&mut self, key: SlabKey, mut connection: Box<Connection>) {
        match connection.pump(self.pump_context()) {
            PumpOutcome::Wait => self.keep(key, connection),
            PumpOutcome::Budget => {
                // Listed once, or a busy connection would get more rounds than the rest.
                if !std::mem::replace(&mut connection.is_listed, true) {
                    self.ready.push(key);
                }
                self.keep(key, connection);
            }
            end @ (PumpOutcome::Close | PumpOutcome::Reset) => self.end(key, *connection, end),
        }
    }

    /// Pumps the connections on the ready list.
    fn pump_ready(&mut self) {
        for key in std::mem::take(&mut self.ready) {
            if let Some(mut connection) = self.connections.take(key) {
                let _span = connection.enter_span();
                connection.is_listed = false;
                self.pump(key, connection);
            }
        }
    }

    /// Puts a connection back into its slot, and sets a timer for the next deadline.
    fn keep(&mut self, key: SlabKey, mut connection: Box<Connection>) {
        let due = connection.due(&self.core.settings).map(|(due, _)| due);
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

    // Deadlines.

    fn run_timers(&mut self) {
        while let Some((due, key)) = self.timers.pop(self.core.now) {
            self.timer(key, due);
        }
        if self.core.drain_is_over() {
            for key in self.connections.keys().collect::<Vec<_>>() {
                self.close(key);
            }
        }
    }

    fn timer(&mut self, key: SlabKey, timer: Instant) {
        let Some(mut connection) = self.connections.take(key) else { return };
        let _span = connection.enter_span();
        if connection.timer == Some(timer) {
            connection.timer = None;
        }
        match connection.due(&self.core.settings) {
            Some((due, deadline)) if due <= self.core.now => match deadline {
                DeadlineKind::ProxyHeader => {
                    self.reject_header(key, *connection, &"no header in time");
                }
                DeadlineKind::ClientHandshake => {
                    debug!("timed out ({deadline})");
                    self.core.shared.counters.timeouts.fetch_add(1, Relaxed);
                    self.core.shared.counters.failed_handshakes.fetch_add(1, Relaxed);
                    self.end(key, *connection, PumpOutcome::Close);
                }
                DeadlineKind::Connect => {
                    self.connect_ended(key, connection, Err(ErrorKind::TimedOut.into()));
                }
                DeadlineKind::Quiet => {
                    connection.record_quiet_exchange(&mut self.core.sinks, self.core.now);
                    self.keep(key, connection);
                }
                DeadlineKind::Idle | DeadlineKind::HalfClosed => {
                    self.end_idle(key, connection, deadline);
                }
            },
            _ => self.keep(key, connection),
        }
    }

    /// Ends a connection on which no byte passed for too long, unless a receiver still takes bytes.
    fn end_idle(&mut self, key: SlabKey, mut connection: Box<Connection>, deadline: DeadlineKind) {
        let idle_since = connection.active;
        let outcome = connection.pump_again(self.pump_context());
        let end = match outcome {
            PumpOutcome::Wait | PumpOutcome::Budget if connection.active == self.core.now => {
                return self.keep(key, connection);
            }
            // A close amid a response would look like its end.
            PumpOutcome::Wait | PumpOutcome::Budget
                if deadline == DeadlineKind::HalfClosed || connection.has_unsent() =>
            {
                PumpOutcome::Reset
            }
            PumpOutcome::Wait | PumpOutcome::Budget => PumpOutcome::Close,
            end @ (PumpOutcome::Close | PumpOutcome::Reset) => end,
        };
        let idle = self.core.now.saturating_duration_since(idle_since).as_secs();
        debug!("timed out ({deadline}, idle {idle} s)");
        self.core.shared.counters.timeouts.fetch_add(1, Relaxed);
        self.end(key, *connection, end);
    }

    // Ending.

    /// Resets a connection.
    fn close(&mut self, key: SlabKey) {
        let Some(connection) = self.connections.take(key) else { return };
        let _span = connection.enter_span();
        self.end(key, *connection, PumpOutcome::Reset);
    }

    /// Ends a connection: writes its last records, closes or resets the sockets, and frees the
    /// slot.
    fn end(&mut self, key: SlabKey, mut connection: Connection, how: PumpOutcome) {
        connection.record_closed(&mut self.core.sinks, self.core.now);
        let (caller, traffic) = (connection.caller, connection.traffic);
        let stage = connection.stage;
        debug!(to_server = traffic.to_server, to_client = traffic.to_client, ?how, "closed");
        let lease = if how == PumpOutcome::Reset {
            self.core.shared.counters.resets.fetch_add(1, Relaxed);
            connection.reset()
        } else {
            connection.send_close_notify();
            connection.server.map(|server| server.lease)
        };
        if let Some(lease) = lease {
            let mut pool = self.core.shared.pool();
            pool.count(&lease, caller.addr, traffic);
            pool.leave(lease);
        }
        self.forget(key, stage);
    }

    /// Frees the slot of a connection that has been taken out.
    fn forget(&mut self, key: SlabKey, stage: ConnectionStage) {
        self.connections.release(key);
        self.core.shared.leave(stage.occupancy());
    }

    /// Returns the keys of the connections in `slots` that `matches` accepts.
    fn matching(&self, slots: Range<u32>, matches: impl Fn(&Connection) -> bool) -> Vec<SlabKey> {
        let found = self.connections.within(slots).filter(|(_, it)| matches(it));
        found.map(|(key, _)| key).collect()
    }

    /// Watches all events of a client's socket. Watching a second time reports the present state
    /// again.
    fn watch_client(&self, key: SlabKey, connection: &mut Connection) -> io::Result<()> {
        let data = TcpToken::Client(key).data();
        if connection.watched {
            epoll::modify(&self.core.epoll, &connection.client, data, WATCHED)?;
        } else {
            epoll::add(&self.core.epoll, &connection.client, data, WATCHED)?;
            connection.watched = true;
        }
        Ok(())
    }
}

impl JobTarget for TcpWorker {
    fn jobs(&mut self) -> &mut Jobs {
        &mut self.core.jobs
    }

    fn slots(&self) -> usize {
        self.connections.slots()
    }

    fn report(&self, slots: Range<u32>, job: &mut ReportJob) {
        job.add(self.connections.within(slots).map(|(_, it)| &**it), self.core.now);
    }

    fn close_number(&mut self, slots: Range<u32>, number: u64) -> bool {
        let found = self.matching(slots, |it| it.number == number).pop();
        found.map(|key| self.close(key)).is_some()
    }

    fn close_server(&mut self, slots: Range<u32>, server: PoolServerId, addr: &Endpoint) {
        let is_there = |connection: &Connection| {
            let found = connection.server.as_ref();
            found.is_some_and(|it| it.lease.server() == server && *it.addr == *addr)
        };
        self.matching(slots, is_there).into_iter().for_each(|key| self.close(key));
    }

    fn set_timers(&mut self, slots: Range<u32>) {
        for key in self.matching(slots, |_| true) {
            if let Some(connection) = self.connections.take(key) {
                self.keep(key, connection);
            }
        }
    }
}

impl Drop for TcpWorker {
    fn drop(&mut self) {
        debug!(connections = self.connections.len(), "worker ends");
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
