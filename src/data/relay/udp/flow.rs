//! A flow: a client's address and port, and the server.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::time::Instant;

use pen_records::mapping::{Mapping, MappingKind};

use super::port::{DatagramMeta, FlowSocket};
use crate::config::{Endpoint, PoolServerId};
use crate::logs::sinks::RecordSinks;

use crate::data::pool::{Caller, ServerLease, Traffic, Tried};
use crate::data::relay::records::mapping;
use crate::data::relay::report::Reportable;
use crate::data::snapshot::{ConnectionSnapshot, ConnectionStatus};

/// A flow.
#[derive(Debug)]
pub(super) struct Flow {
    /// Unique while pen runs.
    pub(super) number: u64,
    pub(super) caller: Caller,
    /// Where the server's datagrams go.
    pub(super) back: DatagramMeta,
    pub(super) socket: FlowSocket,
    pub(super) lease: ServerLease,
    pub(super) addr: Arc<Endpoint>,
    pub(super) tried: Tried,
    /// The socket's own address, if the opening was recorded.
    pub(super) recorded: Option<OpenRecord>,
    /// The first datagram, as long as the server may still refuse it.
    pub(super) first: Option<Box<[u8]>>,
    /// Whether the client has sent something since the server did.
    pub(super) waits: bool,
    pub(super) traffic: Traffic,
    pub(super) opened: Instant,
    /// When the last datagram came.
    pub(super) active: Instant,
}

/// The record that a flow was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenRecord {
    /// The socket's own address.
    local: Option<SocketAddr>,
}

impl Flow {
    /// Records that the flow was opened.
    pub(super) fn record_opened(&mut self, sinks: &mut RecordSinks, now: Instant) {
        let local = self.socket.local_addr();
        self.recorded = Some(OpenRecord { local });
        sinks.record(
            &mapping(MappingKind::Opened, self.number, &self.caller, &self.addr, local),
            now,
        );
    }

    /// Records the end of the flow, if the opening was recorded.
    pub(super) fn record_closed(&self, sinks: &mut RecordSinks, now: Instant) {
        let Some(OpenRecord { local }) = self.recorded else { return };
        let closed = Mapping {
            to_server: Some(self.traffic.to_server),
            to_client: Some(self.traffic.to_client),
            ..mapping(MappingKind::Closed, self.number, &self.caller, &self.addr, local)
        };
        sinks.record(&closed, now);
    }
}

/// A flow, and the descriptor of the port of its client's datagrams.
pub(super) struct ReportedFlow<'a>(pub(super) &'a Flow, pub(super) i32);

impl Reportable for ReportedFlow<'_> {
    fn number(&self) -> u64 {
        self.0.number
    }

    fn descriptors(&self) -> (i32, Option<i32>) {
        (self.1, Some(self.0.socket.as_fd().as_raw_fd()))
    }

    fn server(&self) -> Option<PoolServerId> {
        Some(self.0.lease.server())
    }

    fn traffic(&self) -> Traffic {
        self.0.traffic
    }

    fn describe(&self, now: Instant) -> ConnectionSnapshot {
        let Self(flow, _) = self;
        let (client_fd, server_fd) = self.descriptors();
        ConnectionSnapshot {
            number: flow.number,
            client: flow.back.client.to_string(),
            client_fd,
            server: self.server(),
            server_fd,
            stage: ConnectionStatus::Open,
            age: now.saturating_duration_since(flow.opened),
            to_server: flow.traffic.to_server,
            to_client: flow.traffic.to_client,
        }
    }
}
