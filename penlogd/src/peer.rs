//! The sender and the path of a datagram.

use std::net::SocketAddr;

/// The sender of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Source address.
    pub addr: SocketAddr,
    /// Whether the datagram came by a stream.
    pub is_stream: bool,
    /// Whether lines belong to the server of the shipment, whatever a syslog envelope says: the sender may not speak for
    /// every server.
    pub is_bound: bool,
    /// Whether anyone could have sent the datagram: senders have keys, but this one needs none.
    pub is_unauthenticated: bool,
}

/// A sender of UDP datagrams.
impl From<SocketAddr> for Peer {
    fn from(addr: SocketAddr) -> Self {
        Self { addr, is_stream: false, is_bound: false, is_unauthenticated: false }
    }
}
