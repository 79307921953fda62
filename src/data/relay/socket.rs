//! Sockets: connected ones and those that listen. Nothing here ever waits.

use std::io::{self, ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrAny,
    SocketAddrUnix, SocketFlags, SocketType, acceptfrom_with, bind, connect, getsockname, listen,
    recv, send, sendmsg, shutdown, socket_with, sockopt,
};
use socket2::SockRef;
use tracing::debug;

use super::tls::TlsTransport;
use crate::config::{Endpoint, TcpOptions};

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// A connection to a client or a server.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Begins to connect for a client. The socket becomes writable when that is done, or fails.
    ///
    /// # Errors
    /// What can be said at once: a refusal on this machine, or that no socket can be had.
    pub fn connect(
        to: &Endpoint,
        options: &TcpOptions,
        client: Option<IpAddr>,
    ) -> io::Result<Self> {
        let addr = match to {
            Endpoint::Ip(addr) => addr,
            Endpoint::Unix(path) => {
                let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
                let connecting = connect(&fd, &SocketAddrUnix::new(path.as_path())?);
                return Self::under_way(fd, connecting);
            }
        };
        // Servers of the other family cannot be reached from there.
        let fits = |ip: &IpAddr| ip.is_ipv4() == addr.is_ipv4();
        let source = options.source.filter(fits).map(Source::Own);
        let client = client.filter(|_| options.transparent).map(|ip| ip.to_canonical());
        let client = client.filter(fits).map(Source::Client);
        match (source, client) {
            // Some addresses cannot be had, such as loopback's towards another machine.
            (None, Some(client)) => {
                Self::connect_from(*addr, options, Some(client)).or_else(|error| {
                    debug!("cannot connect to {addr} from the client's address: {error}");
                    Self::connect_from(*addr, options, None)
                })
            }
            (source, _) => Self::connect_from(*addr, options, source),
        }
    }

    fn connect_from(
        to: SocketAddr,
        options: &TcpOptions,
        source: Option<Source>,
    ) -> io::Result<Self> {
        let fd = socket_with(family(to.ip()), SocketType::STREAM, FLAGS, None)?;
        if options.nodelay {
            sockopt::set_tcp_nodelay(&fd, true)?;
        }
        if options.keepalive {
            sockopt::set_socket_keepalive(&fd, true)?;
        }
        if let Some(source) = source {
            let ip = match source {
                Source::Own(ip) => ip,
                Source::Client(ip) => {
                    set_transparent(&fd, ip)?;
                    ip
                }
            };
            // The port is chosen with the server's in mind, so that more than one
            // connection of this machine can have it.
            setsockopt(&fd, IpBindAddressNoPort, &true).map_err(io::Error::from)?;
            bind(&fd, &SocketAddr::new(ip, 0))?;
        }
        let connecting = connect(&fd, &to);
        Self::under_way(fd, connecting)
    }

    fn under_way(fd: OwnedFd, connecting: Result<(), Errno>) -> io::Result<Self> {
        match connecting {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(Self(fd)),
            Err(error) => Err(error.into()),
        }
    }

    /// Why connecting failed, or `Ok` if it did not.
    ///
    /// # Errors
    /// That is the answer.
    pub fn connected(&self) -> io::Result<()> {
        Ok(sockopt::socket_error(&self.0)??)
    }

    /// Our own address; `None` for a Unix-domain socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        let addr: SocketAddr = getsockname(&self.0).ok()?.try_into().ok()?;
        Some(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
    }

    /// Reads; 0 is the end.
    ///
    /// # Errors
    /// As `recv` does.
    pub fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(recv(&self.0, buf, RecvFlags::empty())?.0)
    }

    /// Looks at what could be read, and leaves it there.
    ///
    /// # Errors
    /// As `recv` does.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(recv(&self.0, buf, RecvFlags::PEEK)?.0)
    }

    /// Writes.
    ///
    /// # Errors
    /// As `send` does; never with a signal.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(&self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    /// Says that no more will be written.
    pub fn finish(&self) {
        // It fails if the connection is lost, and that is heard of otherwise.
        shutdown(&self.0, Shutdown::Write).unwrap_or_default();
    }

    /// Closes so that the other end sees a reset.
    pub fn reset(self) {
        // Where that is impossible (Unix-domain sockets) a close has to do.
        sockopt::set_socket_linger(&self.0, Some(std::time::Duration::ZERO)).unwrap_or_default();
    }
}

impl TlsTransport for Socket {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.read(buf)
    }

    fn write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        let nothing = &mut SendAncillaryBuffer::default();
        Ok(sendmsg(&self.0, bytes, nothing, SendFlags::NOSIGNAL)?)
    }

    fn finish(&self) {
        self.finish();
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What a connection to a server comes from.
#[derive(Clone, Copy)]
enum Source {
    /// An address of this machine.
    Own(IpAddr),
    /// The client's address, which is none of ours.
    Client(IpAddr),
}

fn set_transparent(fd: &OwnedFd, ip: IpAddr) -> io::Result<()> {
    match ip {
        IpAddr::V4(_) => SockRef::from(fd).set_ip_transparent_v4(true),
        IpAddr::V6(_) => SockRef::from(fd).set_ip_transparent_v6(true),
    }
}

/// What [`may_be_transparent`] asks for, for people.
pub const NEEDS_RIGHTS: &str =
    "to connect from clients' addresses takes the capability CAP_NET_ADMIN";

/// Whether this process may connect from addresses that are not its own.
///
/// # Errors
/// Says that it may not.
pub fn may_be_transparent() -> io::Result<()> {
    let fd = socket_with(AddressFamily::INET, SocketType::STREAM, FLAGS, None)?;
    set_transparent(&fd, IpAddr::V4(std::net::Ipv4Addr::LOCALHOST))
}

/// Where clients connect to: one of several sockets at the same address, one for each worker, among
/// which the kernel spreads clients.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    endpoint: Endpoint,
}

impl Listener {
    /// Listens at `endpoint` with so many sockets, and nobody else does: another pen at the same
    /// address is an error, here or there.
    ///
    /// # Errors
    /// The address is in use, not ours, or not allowed.
    pub fn bind(
        endpoint: &Endpoint,
        count: usize,
        backlog: u32,
        options: &TcpOptions,
    ) -> io::Result<Vec<Self>> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        match endpoint {
            Endpoint::Ip(addr) => Self::bind_tcp(*addr, count, backlog, options),
            Endpoint::Unix(path) => Self::bind_unix(path, count, backlog),
        }
    }

    fn bind_tcp(
        addr: SocketAddr,
        count: usize,
        backlog: i32,
        options: &TcpOptions,
    ) -> io::Result<Vec<Self>> {
        let mut listeners: Vec<Self> = Vec::with_capacity(count);
        for _ in 0..count.max(1) {
            let fd = socket_with(family(addr.ip()), SocketType::STREAM, FLAGS, None)?;
            if addr.is_ipv6() {
                sockopt::set_ipv6_v6only(&fd, false).unwrap_or_default();
            }
            sockopt::set_socket_reuseaddr(&fd, true)?;
            // Accepted sockets inherit these.
            sockopt::set_tcp_nodelay(&fd, options.nodelay)?;
            sockopt::set_socket_keepalive(&fd, true)?;
            // The first is bound without sharing, and so fails if anybody else is there, and is
            // shared afterwards. With port 0, the others get the port that the first one got.
            if let Some(first) = listeners.first() {
                SockRef::from(&fd).set_reuse_port(true)?;
                let Endpoint::Ip(first) = first.endpoint else { continue };
                bind(&fd, &first)?;
            } else {
                bind(&fd, &addr)?;
                SockRef::from(&fd).set_reuse_port(true)?;
            }
            let bound: SocketAddr = getsockname(&fd)?.try_into()?;
            listeners.push(Self { fd, endpoint: Endpoint::Ip(bound) });
        }
        for listener in &listeners {
            listen(&listener.fd, backlog)?;
        }
        Ok(listeners)
    }

    /// A file is only replaced if it is a socket that nobody listens at any more.
    fn bind_unix(path: &Path, count: usize, backlog: i32) -> io::Result<Vec<Self>> {
        let addr = SocketAddrUnix::new(path)?;
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
        if let Err(error) = bind(&fd, &addr) {
            if error != Errno::ADDRINUSE || !is_left_over(path)? {
                return Err(error.into());
            }
            std::fs::remove_file(path)?;
            bind(&fd, &addr)?;
        }
        listen(&fd, backlog)?;
        let endpoint = Endpoint::Unix(path.into());
        (0..count.max(1))
            .map(|_| Ok(Self { fd: fd.try_clone()?, endpoint: endpoint.clone() }))
            .collect()
    }

    /// Where it listens; the port is the real one.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Takes the next client that waits, and its address, if it has one.
    ///
    /// # Errors
    /// As `accept` does.
    pub fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        let (fd, addr) = acceptfrom_with(&self.fd, FLAGS)?;
        let addr = addr.and_then(|addr: SocketAddrAny| SocketAddr::try_from(addr).ok());
        Ok((Socket(fd), addr))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn is_left_over(path: &Path) -> io::Result<bool> {
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return Ok(false);
    }
    match Socket::connect(&Endpoint::Unix(path.into()), &TcpOptions::default(), None) {
        Err(error) => Ok(error.kind() == ErrorKind::ConnectionRefused),
        Ok(_) => Ok(false),
    }
}

/// The family of an address.
pub(super) const fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    }
}
