//! A UDP worker: one thread with an `epoll` instance, ports, and the flows of the clients that send
//! there.
//!
//! ```text
//! clients  datagrams from clients, and the flows that begin with them
//! flow     one client's port and its server
//! flows    the table of flows, by client and by last use; owns no socket
//! port     sockets that clients send to and sockets towards servers, many datagrams at a time
//! drops    datagrams that the kernel dropped because a buffer was full
//! ```
//!
//! A flow has its own socket, connected to the server, so that no other datagrams arrive there and
//! a refusal is reported. Clients share the socket that they send to: a flow takes one descriptor.
//! Only silence ends a flow; at the limit of flows, the least recently used flow is closed for a
//! new flow.

mod clients;
pub mod drops;
mod flow;
mod flows;
pub mod port;

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use tracing::debug;

use self::flow::{Flow, ReportedFlow};
use self::flows::FlowTable;
use self::port::{UdpBatch, UdpPort};
use super::jobs::{JobTarget, Jobs, run_slice};
use super::mailbox::Mailbox;
use super::report::ReportJob;
use super::shared::{Occupancy, Shared};
use super::worker::{EVENTS, WorkerCore};
use crate::config::Endpoint;
use crate::config::PoolServerId;
use crate::data::slab::SlabKey;
use crate::logs::sinks::RecordSinks;

/// Datagrams taken from a server in a row, before the next socket is served.
const FROM_SERVER: usize = 4;
/// All slots.
const ALL: Range<u32> = 0..u32::MAX;

/// The source of an event, packed into the 64 bits that epoll keeps.
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
        let low = u32::try_from(data & u64::from(u32::MAX)).expect("masked to 32 bits") >> 2;
        let high = u32::try_from(data >> 32).expect("shifted to 32 bits");
        match data & 3 {
            0 => Self::Waker,
            1 => Self::Port(low),
            _ => Self::Flow(SlabKey { slot: low, generation: high }),
        }
    }
}

/// A UDP worker.
#[derive(Debug)]
pub struct UdpWorker {
    core: WorkerCore,
    ports: Vec<UdpPort>,
    /// Datagrams taken from clients before servers are served.
    multi_accept: usize,
    flows: FlowTable<Flow>,
    /// Bytes of first datagrams that flows keep.
    kept: usize,
    /// When a shortage of descriptors was last logged.
    warned: Option<Instant>,
}

impl UdpWorker {
    /// Creates a worker for these ports, with up to `multi_accept` datagrams in a row from each
    /// port.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn new(
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        ports: Vec<UdpPort>,
        multi_accept: u32,
        sinks: RecordSinks,
    ) -> io::Result<Self> {
        let core = WorkerCore::new(shared, mailbox, sinks, UdpToken::Waker.data())?;
        for (number, port) in (0..).zip(&ports) {
            epoll::add(&core.epoll, port, UdpToken::Port(number).data(), EventFlags::IN)?;
        }
        Ok(Self {
            core,
            ports,
            multi_accept: usize::try_from(multi_accept).unwrap_or(usize::MAX),
            flows: FlowTable::default(),
            kept: 0,
            warned: None,
        })
    }

    /// Serves until the worker is told to stop and its last flow has ended.
    pub fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        let (mut inward, mut outward) = (UdpBatch::new(), UdpBatch::new());
        while !(self.core.stop.is_some() && self.flows.is_empty()) {
            let due = self.next_due();
            self.core.wait(&mut events, due);
            for event in &events {
                let (flags, data) = (event.flags, event.data);
                match UdpToken::of(data) {
                    UdpToken::Waker => self.handle_commands(),
                    UdpToken::Port(number) => self.receive(number, &mut inward),
                    UdpToken::Flow(key) => self.flow_event(key, flags, &mut outward),
                }
            }
            self.send(&mut outward);
            run_slice(&mut self);
            self.expire();
            self.core.sinks.flush_due(self.core.now);
        }
        debug!("worker ends");
    }

    /// Returns when the next round has to begin if no event comes; `None` if only an event matters.
    fn next_due(&self) -> Option<Instant> {
        if !self.core.jobs.is_empty() {
            return Some(self.core.now);
        }
        let idle = self.flows.oldest().map(|(_, flow)| flow.active + self.idle_time());
        [idle, self.core.next_due()].into_iter().flatten().min()
    }

    fn idle_time(&self) -> Duration {
        self.core.settings.timeouts.flow_idle()
    }

    fn handle_commands(&mut self) {
        if self.core.take_commands() {
            // A client that has its answer needs nothing more.
            self.end_matching(ALL, |flow| !flow.waits);
        }
        let _ = self.core.take_settings(); // flows need nothing of the settings before
    }

    // From servers to clients.

    fn flow_event(&mut self, key: SlabKey, flags: EventFlags, outward: &mut UdpBatch) {
        if flags.contains(EventFlags::IN) {
            if outward.room() < FROM_SERVER {
                self.send(outward);
            }
            self.answer(key, outward);
        }
        if flags.contains(EventFlags::ERR) {
            let Some(flow) = self.flows.get_mut(key) else { return };
            if let Err(error) = flow.socket.take_error() {
                self.not_sent(key, &error, None);
            }
        }
    }

    /// Takes a server's datagrams into the batch for clients.
    fn answer(&mut self, key: SlabKey, outward: &mut UdpBatch) {
        let (now, stops) = (self.core.now, self.core.stop.is_some());
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
            Err(error) => self.not_sent(key, &error, None),
        }
    }

    /// Sends a batch to clients.
    fn send(&mut self, outward: &mut UdpBatch) {
        let lost = outward.send(&self.ports);
        if lost > 0 {
            self.core.shared.counters.lost_datagrams.fetch_add(lost, Relaxed);
        }
    }

    // Ending.

    /// Ends the flows that were silent for too long, and all flows when the drain is over.
    fn expire(&mut self) {
        let idle = self.idle_time();
        while let Some((key, flow)) = self.flows.oldest()
            && self.core.now >= flow.active + idle
        {
            self.core.shared.counters.timeouts.fetch_add(1, Relaxed);
            self.end(key);
        }
        if self.core.drain_is_over() {
            self.end_matching(ALL, |_| true);
        }
    }

    /// Ends the flows in `slots` that `matches` accepts. Returns whether there were any.
    fn end_matching(&mut self, slots: Range<u32>, matches: impl Fn(&Flow) -> bool) -> bool {
        let found = self.flows.within(slots).filter(|(_, flow)| matches(flow));
        let found: Vec<_> = found.map(|(key, _)| key).collect();
        found.iter().for_each(|key| self.end(*key));
        !found.is_empty()
    }

    fn end(&mut self, key: SlabKey) {
        let Some(flow) = self.take_out(key) else { return };
        let mut pool = self.core.shared.pool();
        pool.count(&flow.lease, flow.caller.addr, flow.traffic);
        pool.leave(flow.lease);
        drop(pool);
        self.core.shared.leave(Occupancy::Established);
    }

    /// Takes a flow out of the table and records the end. The server lease is still held.
    fn take_out(&mut self, key: SlabKey) -> Option<Flow> {
        let (_, flow) = self.flows.remove(key)?;
        flow.record_closed(&mut self.core.sinks, self.core.now);
        self.kept -= flow.first.as_ref().map_or(0, |first| first.len());
        Some(flow)
    }
}

impl JobTarget for UdpWorker {
    fn jobs(&mut self) -> &mut Jobs {
        &mut self.core.jobs
    }

    fn slots(&self) -> usize {
        self.flows.slots()
    }

    fn report(&self, slots: Range<u32>, job: &mut ReportJob) {
        let fd = |flow: &Flow| self.ports[flow.back.port as usize].as_fd().as_raw_fd();
        let flows = self.flows.within(slots).map(|(_, flow)| ReportedFlow(flow, fd(flow)));
        job.add(flows, self.core.now);
    }

    fn close_number(&mut self, slots: Range<u32>, number: u64) -> bool {
        self.end_matching(slots, |flow| flow.number == number)
    }

    fn close_server(&mut self, slots: Range<u32>, server: PoolServerId, addr: &Endpoint) {
        self.end_matching(slots, |flow| flow.lease.server() == server && *flow.addr == *addr);
    }

    /// Flows have no timers, and expire in the order of last use.
    fn set_timers(&mut self, _slots: Range<u32>) {}
}
