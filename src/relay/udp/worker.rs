//! A worker for datagrams: one thread, one `epoll`, its own ports and the flows of those who send there.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pen_records::addr::ClientAddr;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;
use tracing::{debug, warn};

use super::flow::{At, Flow};
use super::flows::Flows;
use super::port::{BATCH, Batch, Envelope, Line, Port};
use crate::config::{Endpoint, Settings};
use crate::mapping_log::Notes;
use crate::pool::{Caller, Traffic, Tried};
use crate::relay::connection::Stage;
use crate::relay::errands::{Errand, Errands};
use crate::relay::report::Inquiry;
use crate::relay::shared::{Mailbox, Order, Shared};
use crate::relay::table::Key;
use crate::relay::worker::is_ours;

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
enum About {
    Bell,
    Port(u32),
    Flow(Key),
}

impl About {
    const fn data(self) -> EventData {
        let (high, low, kind) = match self {
            Self::Bell => (0, 0, 0),
            Self::Port(number) => (0, number, 1),
            Self::Flow(Key { slot, life }) => (life, slot, 2),
        };
        EventData::new_u64(((high as u64) << 32) | ((low as u64) << 2) | kind)
    }

    fn of(data: EventData) -> Self {
        let data = data.u64();
        let half = |value: u64| u32::try_from(value & u64::from(u32::MAX)).unwrap_or_default();
        let low = half(data) >> 2;
        match data & 3 {
            0 => Self::Bell,
            1 => Self::Port(low),
            _ => Self::Flow(Key { slot: low, life: half(data >> 32) }),
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
    version: u64,
    ports: Vec<Port>,
    /// Datagrams taken from clients before servers have their turn.
    most: usize,
    flows: Flows<Flow>,
    /// Bytes of first datagrams that are kept.
    kept: usize,
    /// What others have asked for.
    errands: Errands,
    complained: Option<Instant>,
    notes: Notes,
    now: Instant,
    /// When to be gone.
    stop: Option<Instant>,
}

impl Worker {
    /// One for what is sent to these ports.
    ///
    /// # Errors
    /// There are no descriptors.
    pub fn new(
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        ports: Vec<Port>,
        multi_accept: u32,
        notes: Notes,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, mailbox.bell(), About::Bell.data(), EventFlags::IN)?;
        for (number, port) in (0..).zip(&ports) {
            epoll::add(&epoll, port, About::Port(number).data(), EventFlags::IN)?;
        }
        Ok(Self {
            epoll,
            mailbox,
            version: shared.version(),
            settings: shared.settings(),
            shared,
            ports,
            most: usize::try_from(multi_accept).unwrap_or(usize::MAX),
            flows: Flows::default(),
            kept: 0,
            errands: Errands::default(),
            complained: None,
            notes,
            now: Instant::now(),
            stop: None,
        })
    }

    /// Works until it is told to stop.
    pub fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        let (mut inward, mut outward) = (Batch::new(), Batch::new());
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
                match About::of(data) {
                    About::Bell => self.obey(),
                    About::Port(number) => self.take(number, &mut inward),
                    About::Flow(key) => self.flow_event(key, flags, &mut outward),
                }
            }
            self.send(&mut outward);
            self.run_errand();
            self.expire();
            self.notes.settle(self.now);
        }
        debug!("a worker ends");
    }

    fn timeout(&self) -> Option<Timespec> {
        if !self.errands.is_empty() {
            return Some(Timespec { tv_sec: 0, tv_nsec: 0 });
        }
        let silence = self.flows.oldest().map(|(_, flow)| flow.active + self.idle());
        let due = [silence, self.notes.next_due(), self.stop].into_iter().flatten().min()?;
        let wait = due.saturating_duration_since(self.now);
        // The kernel waits for whole milliseconds, and rounds up.
        Timespec::try_from(wait).ok()
    }

    fn idle(&self) -> Duration {
        self.settings.timeouts.flow_idle()
    }

    fn obey(&mut self) {
        for order in self.mailbox.empty() {
            match order {
                Order::Stop { deadline } => {
                    self.stop = Some(deadline);
                    // Who has its answer has all that it asked for.
                    self.end_those(ALL, |flow| !flow.waits);
                }
                Order::Close(number, to) => self.errands.add(Errand::Close(number, to)),
                Order::CloseAll(server, at) => self.errands.add(Errand::CloseAll(server, at)),
                #[cfg(test)]
                Order::Fall => panic!("as it was told"),
                Order::Report(question) => {
                    self.errands.add(Errand::Report(Inquiry::new(question)));
                }
            }
        }
        if self.shared.version() != self.version {
            self.version = self.shared.version();
            self.settings = self.shared.settings();
        }
    }

    /// Goes on with what others have asked for, as far as traffic can wait.
    fn run_errand(&mut self) {
        let Some((mut errand, slots)) = self.errands.next() else { return };
        let next = slots.end;
        let done = match &mut errand {
            Errand::Report(inquiry) => {
                let fd = |flow: &Flow| self.ports[flow.back.port as usize].as_fd().as_raw_fd();
                let flows = self.flows.within(slots).map(|(_, flow)| At(flow, fd(flow)));
                inquiry.add(flows, self.now);
                false
            }
            Errand::Close(number, to) => {
                let found = self.end_those(slots, |flow| flow.number == *number);
                if found {
                    // Whoever asked may have gone.
                    to.send(()).unwrap_or_default();
                }
                found
            }
            Errand::CloseAll(server, at) => {
                let is_there = |flow: &Flow| flow.seat.server() == *server && *flow.addr == *at;
                self.end_those(slots, is_there);
                false
            }
            // Flows have none: they end in the order of their last use.
            Errand::SetTimers => true,
        };
        if !done && (next as usize) < self.flows.slots() {
            self.errands.go_on(errand, next);
        } else if let Errand::Report(inquiry) = errand {
            inquiry.answer();
        }
    }

    // From clients to servers.

    /// Takes what clients have sent, but not without end.
    fn take(&mut self, number: u32, inward: &mut Batch) {
        let mut taken = 0;
        while taken < self.most {
            let received = match inward.receive(number, &self.ports[number as usize]) {
                Ok(received) => received,
                Err(error) => {
                    if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) {
                        debug!("cannot receive at {}: {error}", self.ports[number as usize].addr());
                    }
                    return;
                }
            };
            for (envelope, datagram) in inward.datagrams() {
                // What has no sender has come from nowhere.
                if envelope.client.port() != 0 {
                    self.forward(envelope, datagram);
                }
            }
            taken += received;
            if received < BATCH {
                return;
            }
        }
    }

    fn forward(&mut self, back: Envelope, datagram: &[u8]) {
        let Some(key) = self.flows.find((back.port, back.client)) else {
            return self.open(back, Tried::default(), None, datagram);
        };
        let now = self.now;
        let Some(flow) = self.flows.get_mut(key) else { return };
        // It may have sent to another address of ours than before.
        flow.back.own = back.own;
        match flow.line.send(datagram) {
            Ok(()) => {
                flow.traffic.to_server += datagram.len() as u64;
                flow.waits = true;
                flow.active = now;
                // The server would have refused the first one by now.
                let first = flow.first.take();
                self.kept -= first.map_or(0, |first| first.len());
                self.flows.touch(key);
            }
            Err(error) => self.unsent(key, &error, Some(datagram)),
        }
    }

    /// A datagram could not be sent, or an earlier one has not arrived.
    fn unsent(&mut self, key: Key, error: &io::Error, datagram: Option<&[u8]>) {
        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) || is_ours(error)
        {
            self.shared.counters.lost_datagrams.fetch_add(u64::from(datagram.is_some()), Relaxed);
            return;
        }
        // It is the datagram's fault, not the server's.
        if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) {
            self.shared.counters.lost_datagrams.fetch_add(1, Relaxed);
            return;
        }
        self.fail(key, error, datagram);
    }

    /// A server refuses, or is out of reach: what it has not answered goes to the next one.
    fn fail(&mut self, key: Key, error: &io::Error, datagram: Option<&[u8]>) {
        let Some((_, flow)) = self.flows.remove(key) else { return };
        debug!("{} does not take datagrams: {error}", flow.addr);
        flow.note_closed(&mut self.notes, self.now);
        self.kept -= flow.first.as_ref().map_or(0, |first| first.len());
        self.shared.counters.failed_attempts.fetch_add(1, Relaxed);
        {
            let mut pool = self.shared.pool();
            pool.count(&flow.seat, flow.caller.addr, flow.traffic);
            pool.failed(flow.seat, self.now);
        }
        self.shared.leave(Stage::Open);
        let (back, tried, first) = (flow.back, flow.tried, flow.first);
        match (first.as_deref(), datagram) {
            // The next datagram begins a new flow.
            (None, None) => {}
            (Some(only), None) | (None, Some(only)) => {
                self.shared.counters.failovers.fetch_add(1, Relaxed);
                self.open(back, tried, None, only);
            }
            (Some(first), Some(datagram)) => {
                self.shared.counters.failovers.fetch_add(1, Relaxed);
                self.open(back, tried, Some(first), datagram);
            }
        }
    }

    /// Begins a flow and sends its first datagrams.
    fn open(&mut self, back: Envelope, mut tried: Tried, before: Option<&[u8]>, datagram: &[u8]) {
        let lost = 1 + u64::from(before.is_some());
        if self.stop.is_some() || !self.make_room() {
            self.shared.counters.lost_datagrams.fetch_add(lost, Relaxed);
            return;
        }
        let settings = self.settings.clone();
        let addr = ClientAddr::from(back.client.ip());
        let admitted = settings.acls.permits(settings.client_acl, addr);
        let caller = Caller { addr, port: back.client.port(), admitted };
        if !admitted {
            self.shared.counters.denied.fetch_add(1, Relaxed);
        }
        loop {
            let choice = self.shared.pool().choose(&caller, &mut tried, self.now, |list| {
                settings.acls.permits(list, caller.addr)
            });
            let Some(choice) = choice else {
                self.shared.counters.refused.fetch_add(1, Relaxed);
                self.shared.leave(Stage::Open);
                return;
            };
            let line = match connect(&choice.addr, &settings) {
                Ok(line) => line,
                Err(error) => {
                    debug!("cannot send to {}: {error}", choice.addr);
                    self.shared.counters.failed_attempts.fetch_add(1, Relaxed);
                    if is_ours(&error) {
                        self.shared.pool().leave(choice.seat);
                        self.complain(&error);
                    } else {
                        self.shared.pool().failed(choice.seat, self.now);
                    }
                    continue;
                }
            };
            self.shared.pool().connected(&choice.seat);
            let flow = Flow {
                number: self.shared.accepted.fetch_add(1, Relaxed) + 1,
                caller,
                back,
                line,
                seat: choice.seat,
                addr: choice.addr,
                tried,
                noted: None,
                first: None,
                waits: true,
                traffic: Traffic::default(),
                opened: self.now,
                active: self.now,
            };
            return self.begin(flow, before, datagram);
        }
    }

    fn begin(&mut self, mut flow: Flow, before: Option<&[u8]>, datagram: &[u8]) {
        if self.settings.log.is_some() {
            flow.note_opened(&mut self.notes, self.now);
        }
        let from = (flow.back.port, flow.back.client);
        let key = self.flows.insert(from, flow);
        let Some(flow) = self.flows.get_mut(key) else { return };
        let data = About::Flow(key).data();
        if let Err(error) = epoll::add(&self.epoll, &flow.line, data, EventFlags::IN) {
            warn!("cannot watch a flow: {error}");
            return self.end(key);
        }
        // Before anything is sent: on this machine a refusal is there at once.
        let first = before.unwrap_or(datagram);
        if self.kept + first.len() <= KEPT {
            self.kept += first.len();
            flow.first = Some(first.into());
        }
        for datagram in before.into_iter().chain([datagram]) {
            if let Err(error) = flow.line.send(datagram) {
                // The first one is kept.
                let datagram = before.is_some().then_some(datagram);
                return self.unsent(key, &error, datagram);
            }
            flow.traffic.to_server += datagram.len() as u64;
        }
    }

    /// Takes room for a flow, if need be that of another one.
    fn make_room(&mut self) -> bool {
        if self.shared.enter_flow(&self.settings) {
            return true;
        }
        let Some((oldest, _)) = self.flows.oldest() else { return false };
        self.end(oldest);
        // Another worker may have been faster; then the next datagram tries again.
        self.shared.enter_flow(&self.settings)
    }

    fn complain(&mut self, error: &io::Error) {
        self.shared.counters.accept_failures.fetch_add(1, Relaxed);
        if self.complained.is_none_or(|then| self.now >= then + COMPLAIN) {
            self.complained = Some(self.now);
            warn!("cannot begin flows for now: {error}");
        }
    }

    // From servers to clients.

    fn flow_event(&mut self, key: Key, flags: EventFlags, outward: &mut Batch) {
        if flags.contains(EventFlags::IN) {
            if outward.room() < FROM_SERVER {
                self.send(outward);
            }
            self.answer(key, outward);
        }
        if flags.contains(EventFlags::ERR) {
            let Some(flow) = self.flows.get_mut(key) else { return };
            if let Err(error) = flow.line.verdict() {
                self.unsent(key, &error, None);
            }
        }
    }

    fn answer(&mut self, key: Key, outward: &mut Batch) {
        let (now, stops) = (self.now, self.stop.is_some());
        let Some(flow) = self.flows.get_mut(key) else { return };
        match outward.add::<FROM_SERVER>(&flow.line, flow.back) {
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

    fn send(&mut self, outward: &mut Batch) {
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

    fn end(&mut self, key: Key) {
        let Some((_, flow)) = self.flows.remove(key) else { return };
        flow.note_closed(&mut self.notes, self.now);
        self.kept -= flow.first.as_ref().map_or(0, |first| first.len());
        let mut pool = self.shared.pool();
        pool.count(&flow.seat, flow.caller.addr, flow.traffic);
        pool.leave(flow.seat);
        drop(pool);
        self.shared.leave(Stage::Open);
    }
}

fn connect(to: &Endpoint, settings: &Settings) -> io::Result<Line> {
    match to {
        Endpoint::Ip(addr) => {
            Line::connect(*addr, settings.tcp.source.filter(|source| alike(addr, *source)))
        }
        // Refused when it is configured.
        Endpoint::Unix(_) => Err(ErrorKind::Unsupported.into()),
    }
}

fn alike(addr: &SocketAddr, source: std::net::IpAddr) -> bool {
    addr.is_ipv4() == source.is_ipv4()
}
