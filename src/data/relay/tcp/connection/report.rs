//! What the status tells about a connection.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Instant;

use pen_records::addr::ClientAddr;

use super::{Connection, ConnectionStage};
use crate::config::PoolServerId;
use crate::data::pool::Traffic;
use crate::data::relay::report::Reportable;
use crate::data::snapshot::{ConnectionSnapshot, ConnectionStatus};

impl Reportable for &Connection {
    fn number(&self) -> u64 {
        self.number
    }

    fn descriptors(&self) -> (i32, Option<i32>) {
        let server = self.server.as_ref().map(|server| server.socket.as_fd().as_raw_fd());
        (self.client.as_fd().as_raw_fd(), server)
    }

    fn server(&self) -> Option<PoolServerId> {
        self.server.as_ref().map(|server| server.lease.server())
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }

    fn describe(&self, now: Instant) -> ConnectionSnapshot {
        let stage = match self.stage {
            ConnectionStage::ProxyHeader | ConnectionStage::ClientHandshake => {
                ConnectionStatus::Handshake
            }
            ConnectionStage::Pending
            | ConnectionStage::Connecting
            | ConnectionStage::ServerHandshake => ConnectionStatus::Connecting,
            ConnectionStage::Open if self.duplex.is_half_closed() => ConnectionStatus::HalfClosed,
            ConnectionStage::Open => ConnectionStatus::Open,
        };
        let client = match self.caller.addr {
            ClientAddr::Ip(ip) => SocketAddr::new(ip, self.caller.port).to_string(),
            unix @ ClientAddr::Unix => unix.to_string(),
        };
        let (client_fd, server_fd) = self.descriptors();
        ConnectionSnapshot {
            number: self.number,
            client,
            client_fd,
            server: self.server(),
            server_fd,
            stage,
            age: now.saturating_duration_since(self.accepted),
            to_server: self.traffic.to_server,
            to_client: self.traffic.to_client,
        }
    }
}
