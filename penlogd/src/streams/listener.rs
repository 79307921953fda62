//! Listening by TCP.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

/// Most connections waiting to be accepted: after a restart all senders connect at once.
const BACKLOG: i32 = 1_024;

/// A listening socket.
#[derive(Debug)]
pub(crate) struct StreamListener {
    socket: TcpListener,
    addr: SocketAddr,
}

/// Listens at `addr`, by IPv6 and IPv4 if it is the unspecified IPv6 address and `is_dual`.
pub(crate) fn bind(addr: SocketAddr, is_dual: bool) -> io::Result<StreamListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(!is_dual)?;
    }
    // Connections of an earlier life that linger do not matter.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    let socket = TcpListener::from(socket);
    let addr = socket.local_addr()?;
    Ok(StreamListener { socket, addr })
}

impl StreamListener {
    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Takes the next connection, without blocking.
    pub(super) fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, peer) = self.socket.accept()?;
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Ok((socket, peer))
    }
}

impl AsFd for StreamListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
