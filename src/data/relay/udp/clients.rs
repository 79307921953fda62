//! Datagrams from clients to servers, and the opening of flows.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pen_records::addr::ClientAddr;
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use tracing::{debug, warn};

use super::flow::Flow;
use super::port::{BATCH, DatagramMeta, FlowSocket, UdpBatch};
use super::{UdpToken, UdpWorker};
use crate::config::{Endpoint, RuntimeSettings};
use crate::data::pool::{Caller, Traffic, Tried};
use crate::data::relay::shared::Occupancy;
use crate::data::relay::worker::is_local_shortage;
use crate::data::slab::SlabKey;

/// Limit of the bytes kept of first datagrams, in case a server refuses.
const KEPT: usize = 4 << 20;
/// The least time between two warnings of a shortage.
const WARN_INTERVAL: Duration = Duration::from_secs(5);

impl UdpWorker {
    /// Receives and forwards what clients have sent to a port, up to the budget of a round.
    pub(super) fn receive(&mut self, number: u32, inward: &mut UdpBatch) {
        let mut taken = 0;
        while taken < self.multi_accept {
            let received = match inward.receive(number, &self.ports[number as usize]) {
                Ok(received) => received,
                Err(error) => {
                    if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) {
                        let port = self.ports[number as usize].addr();
                        debug!(%port, %error, "cannot receive datagrams");
                    }
                    return;
                }
            };
            for (meta, datagram) in inward.datagrams() {
                // Port 0 cannot be answered: the sender's address is forged or missing.
                if meta.client.port() != 0 {
                    self.forward(meta, datagram);
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
        let now = self.core.now;
        let Some(flow) = self.flows.get_mut(key) else { return };
        // The client may have sent to another address of this host than before.
        flow.back.own = back.own;
        match flow.socket.send(datagram) {
            Ok(()) => {
                flow.traffic.to_server += datagram.len() as u64;
                flow.waits = true;
                flow.active = now;
                // The server would have refused the first datagram by now.
                let first = flow.first.take();
                self.kept -= first.map_or(0, |first| first.len());
                self.flows.touch(key);
            }
            Err(error) => self.not_sent(key, &error, Some(datagram)),
        }
    }

    /// Handles a failed send, or the network's report that an earlier datagram did not arrive.
    pub(super) fn not_sent(&mut self, key: SlabKey, error: &io::Error, datagram: Option<&[u8]>) {
        let counters = &self.core.shared.counters;
        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
            || is_local_shortage(error)
        {
            counters.lost_datagrams.fetch_add(u64::from(datagram.is_some()), Relaxed);
            return;
        }
        // The datagram is too long for the path; the server is not at fault.
        if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) {
            counters.lost_datagrams.fetch_add(1, Relaxed);
            return;
        }
        self.fail(key, error, datagram);
    }

    /// Ends the flow to a server that refuses or is unreachable, and sends the unanswered datagrams
    /// to the next server.
    fn fail(&mut self, key: SlabKey, error: &io::Error, datagram: Option<&[u8]>) {
        let Some(flow) = self.take_out(key) else { return };
        debug!(connection = flow.number, server = %flow.addr, %error, "cannot send datagrams");
        self.core.shared.counters.failed_attempts.fetch_add(1, Relaxed);
        {
            let mut pool = self.core.shared.pool();
            pool.count(&flow.lease, flow.caller.addr, flow.traffic);
            pool.failed(flow.lease, self.core.now);
        }
        self.core.shared.leave(Occupancy::Established);
        let (back, tried, first) = (flow.back, flow.tried, flow.first);
        match (first.as_deref(), datagram) {
            // The next datagram begins a new flow.
            (None, None) => {}
            (Some(only), None) | (None, Some(only)) => {
                self.core.shared.counters.failovers.fetch_add(1, Relaxed);
                self.open(back, tried, None, only);
            }
            (Some(first), Some(datagram)) => {
                self.core.shared.counters.failovers.fetch_add(1, Relaxed);
                self.open(back, tried, Some(first), datagram);
            }
        }
    }

    /// Opens a flow and sends its first datagrams: `before`, if there is one, and then `datagram`.
    fn open(
        &mut self,
        back: DatagramMeta,
        mut tried: Tried,
        before: Option<&[u8]>,
        datagram: &[u8],
    ) {
        let lost = 1 + u64::from(before.is_some());
        if self.core.stop.is_some() || !self.make_room() {
            self.core.shared.counters.lost_datagrams.fetch_add(lost, Relaxed);
            return;
        }
        let settings = self.core.settings.clone();
        let addr = ClientAddr::from(back.client.ip());
        let admitted = self.core.admits(addr);
        let caller = Caller { addr, port: back.client.port(), admitted };
        loop {
            let choice =
                self.core.shared.pool().choose(&caller, &mut tried, self.core.now, |list| {
                    settings.acls.permits(list, caller.addr)
                });
            let Some(choice) = choice else {
                self.core.shared.counters.refused.fetch_add(1, Relaxed);
                self.core.shared.leave(Occupancy::Established);
                return;
            };
            let socket = match connect(&choice.addr, &settings) {
                Ok(socket) => socket,
                Err(error) => {
                    debug!(server = %choice.addr, %error, "cannot open a flow");
                    self.core.shared.counters.failed_attempts.fetch_add(1, Relaxed);
                    if is_local_shortage(&error) {
                        self.core.shared.pool().leave(choice.lease);
                        self.warn_of_shortage(&error);
                    } else {
                        self.core.shared.pool().failed(choice.lease, self.core.now);
                    }
                    continue;
                }
            };
            self.core.shared.pool().connected(&choice.lease);
            let flow = Flow {
                number: self.core.shared.accepted.fetch_add(1, Relaxed) + 1,
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
                opened: self.core.now,
                active: self.core.now,
            };
            return self.begin(flow, before, datagram);
        }
    }

    fn begin(&mut self, mut flow: Flow, before: Option<&[u8]>, datagram: &[u8]) {
        if self.core.settings.log.is_some() {
            flow.record_opened(&mut self.core.sinks, self.core.now);
        }
        let from = (flow.back.port, flow.back.client);
        let key = self.flows.insert(from, flow);
        let Some(flow) = self.flows.get_mut(key) else { return };
        let data = UdpToken::Flow(key).data();
        if let Err(error) = epoll::add(&self.core.epoll, &flow.socket, data, EventFlags::IN) {
            warn!(%error, "cannot watch a flow");
            return self.end(key);
        }
        // Kept before anything is sent: a server on this host refuses at once.
        let first = before.unwrap_or(datagram);
        if self.kept + first.len() <= KEPT {
            self.kept += first.len();
            flow.first = Some(first.into());
        }
        for datagram in before.into_iter().chain([datagram]) {
            if let Err(error) = flow.socket.send(datagram) {
                // The flow keeps the first datagram.
                let datagram = before.is_some().then_some(datagram);
                return self.not_sent(key, &error, datagram);
            }
            flow.traffic.to_server += datagram.len() as u64;
        }
    }

    /// Counts one more flow against the limit, and closes the flow silent for the longest time if the limit is
    /// reached.
    fn make_room(&mut self) -> bool {
        if self.core.shared.enter_flow(&self.core.settings) {
            return true;
        }
        let Some((oldest, _)) = self.flows.oldest() else { return false };
        self.end(oldest);
        // Another worker may have been faster; the client's next datagram tries again.
        self.core.shared.enter_flow(&self.core.settings)
    }

    fn warn_of_shortage(&mut self, error: &io::Error) {
        self.core.shared.counters.accept_failures.fetch_add(1, Relaxed);
        let now = self.core.now;
        if self.warned.is_none_or(|then| now >= then + WARN_INTERVAL) {
            self.warned = Some(now);
            warn!(%error, "cannot open flows, trying again");
        }
    }
}

fn connect(to: &Endpoint, settings: &RuntimeSettings) -> io::Result<FlowSocket> {
    match to {
        Endpoint::Ip(addr) => {
            let source = settings.tcp.source.filter(|source| is_same_family(addr, *source));
            FlowSocket::connect(*addr, source)
        }
        // The configuration rejects such servers for datagrams.
        Endpoint::Unix(_) => Err(ErrorKind::Unsupported.into()),
    }
}

fn is_same_family(addr: &SocketAddr, source: IpAddr) -> bool {
    addr.is_ipv4() == source.is_ipv4()
}
