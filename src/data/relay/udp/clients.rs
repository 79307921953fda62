//! From clients to servers, and the flows that begin by that.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;

use pen_records::addr::ClientAddr;
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use tracing::{debug, warn};

use super::{COMPLAIN, KEPT, UdpToken, UdpWorker};
use crate::config::{Endpoint, RuntimeSettings};
use crate::data::pool::{Caller, Traffic, Tried};
use crate::data::relay::slab::SlabKey;
use crate::data::relay::tcp::connection::ConnectionStage;
use crate::data::relay::tcp::is_ours;
use crate::data::relay::udp::flow::Flow;
use crate::data::relay::udp::port::{BATCH, DatagramBatch, DatagramMeta, FlowSocket};

impl UdpWorker {
    /// Takes what clients have sent, but not without end.
    pub(super) fn take(&mut self, number: u32, inward: &mut DatagramBatch) {
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

    fn forward(&mut self, back: DatagramMeta, datagram: &[u8]) {
        let Some(key) = self.flows.find((back.port, back.client)) else {
            return self.open(back, Tried::default(), None, datagram);
        };
        let now = self.now;
        let Some(flow) = self.flows.get_mut(key) else { return };
        // It may have sent to another address of ours than before.
        flow.back.own = back.own;
        match flow.socket.send(datagram) {
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
    pub(super) fn unsent(&mut self, key: SlabKey, error: &io::Error, datagram: Option<&[u8]>) {
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
    fn fail(&mut self, key: SlabKey, error: &io::Error, datagram: Option<&[u8]>) {
        let Some((_, flow)) = self.flows.remove(key) else { return };
        debug!("{} does not take datagrams: {error}", flow.addr);
        flow.record_closed(&mut self.sinks, self.now);
        self.kept -= flow.first.as_ref().map_or(0, |first| first.len());
        self.shared.counters.failed_attempts.fetch_add(1, Relaxed);
        {
            let mut pool = self.shared.pool();
            pool.count(&flow.lease, flow.caller.addr, flow.traffic);
            pool.failed(flow.lease, self.now);
        }
        self.shared.leave(ConnectionStage::Open);
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
    fn open(
        &mut self,
        back: DatagramMeta,
        mut tried: Tried,
        before: Option<&[u8]>,
        datagram: &[u8],
    ) {
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
                self.shared.leave(ConnectionStage::Open);
                return;
            };
            let socket = match connect(&choice.addr, &settings) {
                Ok(socket) => socket,
                Err(error) => {
                    debug!("cannot send to {}: {error}", choice.addr);
                    self.shared.counters.failed_attempts.fetch_add(1, Relaxed);
                    if is_ours(&error) {
                        self.shared.pool().leave(choice.lease);
                        self.complain(&error);
                    } else {
                        self.shared.pool().failed(choice.lease, self.now);
                    }
                    continue;
                }
            };
            self.shared.pool().connected(&choice.lease);
            let flow = Flow {
                number: self.shared.accepted.fetch_add(1, Relaxed) + 1,
                caller,
                back,
                socket,
                lease: choice.lease,
                addr: choice.addr,
                tried,
                recorded: None,
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
            flow.record_opened(&mut self.sinks, self.now);
        }
        let from = (flow.back.port, flow.back.client);
        let key = self.flows.insert(from, flow);
        let Some(flow) = self.flows.get_mut(key) else { return };
        let data = UdpToken::Flow(key).data();
        if let Err(error) = epoll::add(&self.epoll, &flow.socket, data, EventFlags::IN) {
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
            if let Err(error) = flow.socket.send(datagram) {
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
}

fn connect(to: &Endpoint, settings: &RuntimeSettings) -> io::Result<FlowSocket> {
    match to {
        Endpoint::Ip(addr) => {
            FlowSocket::connect(*addr, settings.tcp.source.filter(|source| alike(addr, *source)))
        }
        // Refused when it is configured.
        Endpoint::Unix(_) => Err(ErrorKind::Unsupported.into()),
    }
}

fn alike(addr: &SocketAddr, source: IpAddr) -> bool {
    addr.is_ipv4() == source.is_ipv4()
}
