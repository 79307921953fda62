//! Connected and listening sockets. No call blocks.

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
    /// Starts to connect to a server. The socket becomes writable when connected or failed.
    ///
    /// # Errors
    /// The errors known at once: a refusal on this machine, or no descriptor left.
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
        // A server of the other address family cannot be reached from this address.
        let fits = |ip: &IpAddr| ip.is_ipv4() == addr.is_ipv4();
        let source = options.source.filter(fits).map(BindSource::Own);
        let client = client.filter(|_| options.transparent).map(|ip| ip.to_canonical());
        let client = client.filter(fits).map(BindSource::Client);
        match (source, client) {
            // Some source addresses cannot be used, such as loopback towards another machine.
            (None, Some(client)) => {
                Self::connect_from(*addr, options, Some(client)).or_else(|error| {
                    debug!(server = %addr, %error, "cannot connect from the client's address");
                    Self::connect_from(*addr, options, None)
                })
            }
            (source, _) => Self::connect_from(*addr, options, source),
        }
    }

    fn connect_from(
        to: SocketAddr,
        options: &TcpOptions,
        source: Option<BindSource>,
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
                BindSource::Own(ip) => ip,
                BindSource::Client(ip) => {
                    set_transparent(&fd, ip)?;
                    ip
                }
            };
            // The kernel chooses the port per destination, so several connections can share one.
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

    /// Returns `Ok` if the connection was established.
    ///
    /// # Errors
    /// The reason why it was not.
    pub fn connected(&self) -> io::Result<()> {
        Ok(sockopt::socket_error(&self.0)??)
    }

    /// Returns the local address; `None` for a Unix socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        let addr: SocketAddr = getsockname(&self.0).ok()?.try_into().ok()?;
        Some(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
    }

    /// Reads; 0 means end of stream.
    ///
    /// # Errors
    /// As `recv`.
    pub fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(recv(&self.0, buf, RecvFlags::empty())?.0)
    }

    /// Reads without consuming.
    ///
    /// # Errors
    /// As `recv`.
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(recv(&self.0, buf, RecvFlags::PEEK)?.0)
    }

    /// Writes.
    ///
    /// # Errors
    /// As `send`; never raises SIGPIPE.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(&self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    /// Sends an end of stream.
    pub fn finish(&self) {
        // Fails if the connection is lost, which an event reports.
        let _ = shutdown(&self.0, Shutdown::Write);
    }

    /// Closes with a reset.
    pub fn reset(self) {
        // Unix sockets have no reset: they are closed.
        let _ = sockopt::set_socket_linger(&self.0, Some(std::time::Duration::ZERO));
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

/// Source address of connections to servers.
#[derive(Clone, Copy)]
enum BindSource {
    /// An address of this host.
    Own(IpAddr),
    /// The client's own address (transparent mode).
    Client(IpAddr),
}

fn set_transparent(fd: &OwnedFd, ip: IpAddr) -> io::Result<()> {
    match ip {
        IpAddr::V4(_) => SockRef::from(fd).set_ip_transparent_v4(true),
        IpAddr::V6(_) => SockRef::from(fd).set_ip_transparent_v6(true),
    }
}

/// The privilege that [`may_be_transparent`] checks, for messages.
pub const NEEDS_RIGHTS: &str =
    "to connect from clients' addresses takes the capability CAP_NET_ADMIN";

/// Checks that this process may connect from foreign addresses.
///
/// # Errors
/// The privilege is missing.
pub fn may_be_transparent() -> io::Result<()> {
    let fd = socket_with(AddressFamily::INET, SocketType::STREAM, FLAGS, None)?;
    set_transparent(&fd, IpAddr::V4(std::net::Ipv4Addr::LOCALHOST))
}

/// A listening address: several sockets at the same address, one per worker, among which the kernel distributes clients.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    endpoint: Endpoint,
}

impl Listener {
    /// Listens at `endpoint` with one socket per worker. No other process may share the address: neither this pen nor another
    /// one can start on it by mistake.
    ///
    /// # Errors
    /// The address is in use, not on this machine, or not permitted.
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
                let _ = sockopt::set_ipv6_v6only(&fd, false); // a host without IPv4 has no such option
            }
            sockopt::set_socket_reuseaddr(&fd, true)?;
            // Accepted sockets inherit these options.
            sockopt::set_tcp_nodelay(&fd, options.nodelay)?;
            sockopt::set_socket_keepalive(&fd, true)?;
            // The first socket is bound without sharing, so that binding fails if the address is in use; then sharing is enabled. With
            // port 0 the other sockets get the port of the first.
            if let Some(first) = listeners.first() {
                sockopt::set_socket_reuseport(&fd, true)?;
                let Endpoint::Ip(first) = first.endpoint else { continue };
                bind(&fd, &first)?;
            } else {
                bind(&fd, &addr)?;
                sockopt::set_socket_reuseport(&fd, true)?;
            }
            let bound: SocketAddr = getsockname(&fd)?.try_into()?;
            listeners.push(Self { fd, endpoint: Endpoint::Ip(bound) });
        }
        for listener in &listeners {
            listen(&listener.fd, backlog)?;
        }
        Ok(listeners)
    }

    /// Removes a file only if it is a socket without a listener.
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

    /// Returns the address, with the actual port.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Accepts the next client. Returns socket and address; a Unix-domain client has no address.
    ///
    /// # Errors
    /// As `accept`.
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

/// Returns the family of an address.
pub(super) const fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    }
}
