//! Datagrams: a client's go to one server, and that server's come back to it.
//!
//! ```text
//! worker   one thread: events, and the flows that it has
//! flow     one client's port and its server
//! flows    flows by client, and by when they were used last; owns no socket
//! port     where clients send to, many datagrams at a time
//! drops    what was lost there before anybody could take it
//! ```
//!
//! A flow has a socket of its own that is connected to the server, so that nobody else's datagrams come back
//! and a server that refuses is heard of. Clients share the socket that they send to: a flow takes
//! one descriptor. Nothing says that a flow is over but silence, and when there is room for no
//! more of them the one that was silent for the longest time goes.

mod clients;
pub mod drops;
mod flow;
mod flows;
pub mod port;

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;
use tracing::{debug, warn};

use self::flows::Flows;
use self::port::{DatagramBatch, UdpPort};
use crate::config::RuntimeSettings;
use crate::data::relay::jobs::{Job, Jobs};
use crate::data::relay::shared::{Mailbox, Shared};
use crate::data::relay::slab::SlabKey;
use crate::data::relay::tcp::connection::ConnectionStage;
use crate::data::relay::udp::flow::{Flow, ReportedFlow};
use crate::logs::sinks::RecordSinks;

/// Events taken at a time.
const EVENTS: usize = 256;
/// Datagrams taken from one server before others have their turn.
const FROM_SERVER: usize = 4;
/// Bytes of first datagrams that are kept in case their servers are not there.
const KEPT: usize = 4 << 20;
/// All slots.
const ALL: Range<u32> = 0..u32::MAX;
/// How often it is said that there are no descriptors.
const COMPLAIN: Duration = Duration::from_secs(5);

/// What an event is about, as it fits into the 64 bits that the kernel keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UdpToken {
    Waker,
    Port(u32),
    Flow(SlabKey),
}

impl UdpToken {
    const fn data(self) -> EventData {
        let (high, low, kind) = match self {
            Self::Waker => (0, 0, 0),
            Self::Port(number) => (0, number, 1),
            Self::Flow(SlabKey { slot, generation }) => (generation, slot, 2),
        };
        EventData::new_u64(((high as u64) << 32) | ((low as u64) << 2) | kind)
    }

    fn of(data: EventData) -> Self {
        let data = data.u64();
        let half = |value: u64| u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default();
        let low = half(data) >> 2;
        match data & 3 {
            0 => Self::Waker,
            1 => Self::Port(low),
            _ => Self::Flow(SlabKey { slot: low, generation: half(data >> 32) }),
        }
    }
}

/// A worker, before it runs.
#[derive(Debug)]
pub struct UdpWorker {
    epoll: OwnedFd,
    mailbox: Arc<Mailbox>,
    shared: Arc<Shared>,
    settings: Arc<RuntimeSettings>,
    version: u64,
    ports: Vec<UdpPort>,
    /// Datagrams taken from clients before servers have their turn.
    most: usize,
    flows: Flows<Flow>,
    /// Bytes of first datagrams that are kept.
    kept: usize,
    /// What others have asked for.
    jobs: Jobs,
    complained: Option<Instant>,
    sinks: RecordSinks,
    now: Instant,
    /// When to be gone.
    stop: Option<Instant>,
}

impl UdpWorker {
    /// One for what is sent to these ports.
    ///
    /// # Errors
    /// There are no descriptors.
    pub fn new(
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        ports: Vec<UdpPort>,
        multi_accept: u32,
        mut sinks: RecordSinks,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, mailbox.waker(), UdpToken::Waker.data(), EventFlags::IN)?;
        for (number, port) in (0..).zip(&ports) {
            epoll::add(&epoll, port, UdpToken::Port(number).data(), EventFlags::IN)?;
        }
        let settings = shared.settings();
        sinks.apply_settings(&settings);
        Ok(Self {
            epoll,
            mailbox,
            version: shared.version(),
            settings,
            shared,
            ports,
            most: usize::try_from(multi_accept).unwrap_or(usize::MAX),
            flows: Flows::default(),
            kept: 0,
            jobs: Jobs::default(),
            complained: None,
            sinks,
            now: Instant::now(),
            stop: None,
        })
    }

    /// Works until it is told to stop.
    pub fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        let (mut inward, mut outward) = (DatagramBatch::new(), DatagramBatch::new());
        while !(self.stop.is_some() && self.flows.is_empty()) {
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
                match UdpToken::of(data) {
                    UdpToken::Waker => self.obey(),
                    UdpToken::Port(number) => self.take(number, &mut inward),
                    UdpToken::Flow(key) => self.flow_event(key, flags, &mut outward),
                }
            }
            self.send(&mut outward);
            self.run_job();
            self.expire();
            self.sinks.flush_due(self.now);
        }
        debug!("a worker ends");
    }

    fn timeout(&self) -> Option<Timespec> {
        if !self.jobs.is_empty() {
            return Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        }
        let silence = self.flows.oldest().map(|(_, flow)| flow.active + self.idle());
        let due = [silence, self.sinks.next_due(), self.stop].into_iter().flatten().min()?;
        let wait = due.saturating_duration_since(self.now);
        // The kernel waits for whole milliseconds, and rounds up.
        Timespec::try_from(wait).ok()
    }

    fn idle(&self) -> Duration {
        self.settings.timeouts.flow_idle()
    }

    fn obey(&mut self) {
        for command in self.mailbox.empty() {
            if let Some(deadline) = self.jobs.take(command) {
                self.stop = Some(deadline);
                // Who has its answer has all that it asked for.
                self.end_those(ALL, |flow| !flow.waits);
            }
        }
        if self.shared.version() != self.version {
            self.version = self.shared.version();
            self.settings = self.shared.settings();
            self.sinks.apply_settings(&self.settings);
        }
    }

    /// Goes on with what others have asked for, as far as traffic can wait.
    fn run_job(&mut self) {
        let Some((mut job, slots)) = self.jobs.next() else { return };
        let next = slots.end;
        let done = match &mut job {
            Job::Report(job) => {
                let fd = |flow: &Flow| self.ports[flow.back.port as usize].as_fd().as_raw_fd();
                let flows = self.flows.within(slots).map(|(_, flow)| ReportedFlow(flow, fd(flow)));
                job.add(flows, self.now);
                false
            }
            Job::Close(number, to) => {
                let found = self.end_those(slots, |flow| flow.number == *number);
                if found {
                    // Whoever asked may have gone.
                    to.send(()).unwrap_or_default();
                }
                found
            }
            Job::CloseAll(server, at) => {
                let is_there = |flow: &Flow| flow.lease.server() == *server && *flow.addr == *at;
                self.end_those(slots, is_there);
                false
            }
            // Flows have none: they end in the order of their last use.
            Job::SetTimers => true,
        };
        if !done && (next as usize) < self.flows.slots() {
            self.jobs.go_on(job, next);
        } else if let Job::Report(job) = job {
            job.answer();
        }
    }

    // From servers to clients.

    fn flow_event(&mut self, key: SlabKey, flags: EventFlags, outward: &mut DatagramBatch) {
        if flags.contains(EventFlags::IN) {
            if outward.room() < FROM_SERVER {
                self.send(outward);
            }
            self.answer(key, outward);
        }
        if flags.contains(EventFlags::ERR) {
            let Some(flow) = self.flows.get_mut(key) else { return };
            if let Err(error) = flow.socket.verdict() {
                self.unsent(key, &error, None);
            }
        }
    }

    fn answer(&mut self, key: SlabKey, outward: &mut DatagramBatch) {
        let (now, stops) = (self.now, self.stop.is_some());
        let Some(flow) = self.flows.get_mut(key) else { return };
        match outward.add::<FROM_SERVER>(&flow.socket, flow.back) {
            Ok((_, bytes)) => {
                flow.traffic.to_client += bytes;
                flow.waits = false;
                flow.active = now;
                let first = flow.first.take();
                self.kept -= first.map_or(0, |first| first.len());
                self.flows.touch(key);
                if stops {
                    self.end(key);
                }
            }
            Err(error) => self.unsent(key, &error, None),
        }
    }

    fn send(&mut self, outward: &mut DatagramBatch) {
        let lost = outward.send(&self.ports);
        if lost > 0 {
            self.shared.counters.lost_datagrams.fetch_add(lost, Relaxed);
        }
    }

    // Ending.

    fn expire(&mut self) {
        let idle = self.idle();
        while let Some((key, flow)) = self.flows.oldest()
            && self.now >= flow.active + idle
        {
            self.shared.counters.timeouts.fetch_add(1, Relaxed);
            self.end(key);
        }
        if self.stop.is_some_and(|deadline| self.now >= deadline) {
            self.end_those(ALL, |_| true);
        }
    }

    /// Ends those in these slots that are meant; whether there were any.
    fn end_those(&mut self, slots: Range<u32>, is_one: impl Fn(&Flow) -> bool) -> bool {
        let found = self.flows.within(slots).filter(|(_, flow)| is_one(flow));
        let found: Vec<_> = found.map(|(key, _)| key).collect();
        found.iter().for_each(|key| self.end(*key));
        !found.is_empty()
    }

    fn end(&mut self, key: SlabKey) {
        let Some((_, flow)) = self.flows.remove(key) else { return };
        flow.record_closed(&mut self.sinks, self.now);
        self.kept -= flow.first.as_ref().map_or(0, |first| first.len());
        let mut pool = self.shared.pool();
        pool.count(&flow.lease, flow.caller.addr, flow.traffic);
        pool.leave(flow.lease);
        drop(pool);
        self.shared.leave(ConnectionStage::Open);
    }
}
