//! The path to the collector. No operation waits.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Outcome of sending a datagram.
#[derive(Debug)]
pub(super) enum LinkSend {
    /// The datagram was sent.
    Sent,
    /// The datagram was sent, but no process listened where the previous one went.
    PreviousRefused,
    /// The datagram was not sent.
    Failed(io::Error),
}

/// Outcome of a look for a reply.
#[derive(Debug)]
pub(super) enum LinkReply {
    Nothing,
    /// A datagram of so many bytes.
    Datagram(usize),
    /// No process listened where the last datagram went.
    Refused,
}

/// Returns a UDP socket connected to `addr` that never blocks.
pub(crate) fn connected_socket(addr: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match addr {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(addr)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A link by UDP.
#[derive(Debug)]
pub(super) struct DatagramLink(UdpSocket);

impl DatagramLink {
    pub(super) fn open(addr: SocketAddr) -> io::Result<Self> {
        connected_socket(addr).map(Self)
    }

    /// Sends a datagram. A refusal of the previous one is reported by the next send, which sends nothing: so it is
    /// repeated.
    pub(super) fn send(&mut self, datagram: &[u8]) -> LinkSend {
        match self.0.send(datagram) {
            Ok(_) => LinkSend::Sent,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                match self.0.send(datagram) {
                    Ok(_) => LinkSend::PreviousRefused,
                    Err(error) => LinkSend::Failed(error),
                }
            }
            Err(error) => LinkSend::Failed(error),
        }
    }

    pub(super) fn receive(&mut self, reply: &mut [u8]) -> LinkReply {
        match self.0.recv(reply) {
            Ok(len) => LinkReply::Datagram(len),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => LinkReply::Refused,
            Err(_) => LinkReply::Nothing,
        }
    }

    /// Whether the last datagram was refused, as far as is known.
    pub(super) fn is_refused(&self) -> bool {
        self.0.take_error().ok().flatten().is_some()
    }
}
