//! Datagram sockets, many datagrams at a time: ports that clients send to, and sockets towards
//! servers. No call waits.

use std::array;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::sockopt::{IpBindAddressNoPort, Ipv4PacketInfo, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg,
    sendmmsg, setsockopt,
};
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags, SocketType, bind, connect, getsockname, send, sockopt};

use crate::data::relay::socket::family;

/// Datagrams received or sent by one system call.
pub(super) const BATCH: usize = 32;
/// The longest datagram possible, rounded up.
const LONGEST: usize = 64 * 1024;
/// Requested size of the kernel's receive buffer, large enough for a burst.
const WAITING: usize = 4 << 20;

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// A listening datagram socket: each worker has a socket at the same address, and the kernel sends
/// the datagrams of a client always to the same socket.
#[derive(Debug)]
pub struct UdpPort {
    fd: OwnedFd,
    addr: SocketAddr,
}

impl UdpPort {
    /// Binds `count` sockets to `addr`. Fails if another pen has the address.
    ///
    /// # Errors
    /// The address is in use, not local, or not allowed.
    pub fn bind(addr: SocketAddr, count: usize) -> io::Result<Vec<Self>> {
        let mut ports: Vec<Self> = Vec::with_capacity(count);
        for _ in 0..count.max(1) {
            let fd = rustix::net::socket_with(family(addr.ip()), SocketType::DGRAM, FLAGS, None)?;
            // The kernel may grant less; then it drops in smaller bursts.
            let _ = sockopt::set_socket_recv_buffer_size(&fd, WAITING);
            if addr.is_ipv6() {
                let _ = sockopt::set_ipv6_v6only(&fd, false); // a host without IPv4 has no such option
            }
            // A reply has to come from the address that its client sent to, which the kernel
            // reports with each datagram.
            if addr.ip().is_unspecified() {
                let told = match addr {
                    SocketAddr::V4(_) => setsockopt(&fd, Ipv4PacketInfo, &true),
                    SocketAddr::V6(_) => setsockopt(&fd, Ipv6RecvPacketInfo, &true),
                };
                told.map_err(io::Error::from)?;
            }
            // As with listeners: the first socket is bound without sharing, and shared afterwards.
            if let Some(first) = ports.first() {
                sockopt::set_socket_reuseport(&fd, true)?;
                bind(&fd, &first.addr)?;
            } else {
                bind(&fd, &addr)?;
                sockopt::set_socket_reuseport(&fd, true)?;
            }
            let addr = getsockname(&fd)?.try_into()?;
            ports.push(Self { fd, addr });
        }
        Ok(ports)
    }

    /// Returns the number by which the kernel's table lists the socket.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(File::from(self.fd.try_clone()?).metadata()?.ino())
    }

    /// Returns the address, with the port that the kernel has chosen.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl AsFd for UdpPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A socket connected to a server.
#[derive(Debug)]
pub(super) struct FlowSocket(OwnedFd);

impl FlowSocket {
    /// Connects, which sends no datagram.
    ///
    /// # Errors
    /// No route leads to the address, or no socket is available.
    pub(super) fn connect(to: SocketAddr, source: Option<IpAddr>) -> io::Result<Self> {
        let fd = rustix::net::socket_with(family(to.ip()), SocketType::DGRAM, FLAGS, None)?;
        if let Some(source) = source {
            setsockopt(&fd, IpBindAddressNoPort, &true).map_err(io::Error::from)?;
            bind(&fd, &SocketAddr::new(source, 0))?;
        }
        connect(&fd, &to)?;
        Ok(Self(fd))
    }

    /// Returns the local address.
    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        let addr: SocketAddr = getsockname(&self.0).ok()?.try_into().ok()?;
        Some(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// As `send` does. A refusal concerns an earlier datagram; the present datagram was not sent.
    pub(super) fn send(&self, datagram: &[u8]) -> io::Result<()> {
        Ok(send(&self.0, datagram, SendFlags::NOSIGNAL).map(drop)?)
    }

    /// Takes the error that the network has reported for earlier datagrams.
    ///
    /// # Errors
    /// The error.
    pub(super) fn take_error(&self) -> io::Result<()> {
        Ok(sockopt::socket_error(&self.0)??)
    }
}

impl AsFd for FlowSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Where a datagram came from or goes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct DatagramMeta {
    /// Number of the port.
    pub(super) port: u32,
    /// Address of the client.
    pub(super) client: SocketAddr,
    /// Local address that the client sent to; `None` if the port has one address only.
    pub(super) own: Option<IpAddr>,
    /// Bytes of the datagram.
    pub(super) len: usize,
}

/// Buffers for a batch of datagrams. Pages that were never used take no memory.
pub(super) struct UdpBatch {
    bytes: Vec<u8>,
    envelopes: Vec<DatagramMeta>,
    headers: MultiHeaders<SockaddrStorage>,
    with_addresses: [MultiHeaders<SockaddrStorage>; 2],
}

impl UdpBatch {
    pub(super) fn new() -> Self {
        let headers = |control| MultiHeaders::preallocate(BATCH, control);
        Self {
            bytes: vec![0; BATCH * LONGEST],
            envelopes: Vec::with_capacity(BATCH),
            headers: headers(None),
            with_addresses: [
                headers(Some(cmsg_space!(in_pktinfo))),
                headers(Some(cmsg_space!(in6_pktinfo))),
            ],
        }
    }

    /// Returns the datagrams in the batch.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (DatagramMeta, &[u8])> {
        let bytes = self.bytes.chunks(LONGEST);
        self.envelopes
            .iter()
            .zip(bytes)
            .map(|(envelope, bytes)| (*envelope, &bytes[..envelope.len]))
    }

    /// Returns how many more datagrams fit.
    pub(super) fn room(&self) -> usize {
        BATCH - self.envelopes.len()
    }

    /// Receives datagrams from a port, up to a full batch, in place of the datagrams before.
    ///
    /// # Errors
    /// As `recvmmsg` does.
    pub(super) fn receive(&mut self, number: u32, port: &UdpPort) -> io::Result<usize> {
        self.envelopes.clear();
        let headers = match port.addr {
            addr if !addr.ip().is_unspecified() => &mut self.headers,
            SocketAddr::V4(_) => &mut self.with_addresses[0],
            SocketAddr::V6(_) => &mut self.with_addresses[1],
        };
        let mut chunks = self.bytes.chunks_mut(LONGEST);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        let flags = MsgFlags::MSG_DONTWAIT;
        let received = recvmmsg(port.fd.as_raw_fd(), headers, slices.iter_mut(), flags, None)?;
        for message in received {
            let own = message.cmsgs().ok().and_then(|mut all| all.find_map(|told| own(&told)));
            // A datagram without an address cannot be answered; it is skipped as one of port 0.
            let client = message.address.as_ref().and_then(socket_addr);
            let len = if client.is_some() { message.bytes } else { 0 };
            let nobody = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
            let client = client.unwrap_or(nobody);
            self.envelopes.push(DatagramMeta { port: number, client, own, len });
        }
        Ok(self.envelopes.len())
    }

    /// Receives up to `most` datagrams from a server, for the client of `to`. Returns the number of
    /// datagrams and bytes.
    ///
    /// # Errors
    /// As `recvmmsg` does.
    pub(super) fn add<const MOST: usize>(
        &mut self,
        socket: &FlowSocket,
        to: DatagramMeta,
    ) -> io::Result<(usize, u64)> {
        let mut chunks = self.bytes.chunks_mut(LONGEST).skip(self.envelopes.len());
        let mut slices: [[IoSliceMut<'_>; 1]; MOST] =
            array::from_fn(|_| [IoSliceMut::new(chunks.next().unwrap_or_default())]);
        let most = MOST.min(BATCH - self.envelopes.len());
        let slices = slices.iter_mut().take(most);
        let flags = MsgFlags::MSG_DONTWAIT;
        let received = recvmmsg(socket.0.as_raw_fd(), &mut self.headers, slices, flags, None)?;
        let (mut count, mut bytes) = (0, 0);
        for message in received {
            self.envelopes.push(DatagramMeta { len: message.bytes, ..to });
            count += 1;
            bytes += message.bytes as u64;
        }
        Ok((count, bytes))
    }

    /// Sends the batch from the named ports, and empties the batch. Returns the number of unsent
    /// datagrams.
    pub(super) fn send(&mut self, ports: &[UdpPort]) -> u64 {
        let mut failed = 0;
        let mut first = 0;
        while let Some(one) = self.envelopes.get(first) {
            let alike = |other: &&DatagramMeta| (other.port, other.own) == (one.port, one.own);
            let count = self.envelopes[first..].iter().take_while(alike).count();
            failed += self.send_alike(&ports[one.port as usize], first, count);
            first += count;
        }
        self.envelopes.clear();
        failed
    }

    /// Sends datagrams by one port from one local address.
    fn send_alike(&mut self, port: &UdpPort, mut first: usize, count: usize) -> u64 {
        let (end, mut failed) = (first + count, 0);
        while first < end {
            match self.send_some(port, first, end) {
                // Never 0: that would be an error.
                Ok(sent) => first += sent.max(1),
                Err(Errno::INTR) => {}
                Err(_) => {
                    first += 1;
                    failed += 1;
                }
            }
        }
        failed
    }

    fn send_some(&mut self, port: &UdpPort, first: usize, end: usize) -> Result<usize, Errno> {
        let envelopes = &self.envelopes[first..end];
        let none: &[u8] = &[];
        let mut parts = envelopes.iter().zip(self.bytes.chunks(LONGEST).skip(first));
        let slices: [[IoSlice<'_>; 1]; BATCH] = array::from_fn(|_| {
            [IoSlice::new(parts.next().map_or(none, |(envelope, bytes)| &bytes[..envelope.len]))]
        });
        let addrs: [Option<SockaddrStorage>; BATCH] =
            array::from_fn(|at| envelopes.get(at).map(|envelope| envelope.client.into()));
        let (four, six);
        let (headers, control) = match envelopes[0].own {
            None => (&mut self.headers, None),
            Some(IpAddr::V4(ip)) => {
                four = pktinfo_v4(ip);
                (&mut self.with_addresses[0], Some(ControlMessage::Ipv4PacketInfo(&four)))
            }
            Some(IpAddr::V6(ip)) => {
                six = pktinfo_v6(ip);
                (&mut self.with_addresses[1], Some(ControlMessage::Ipv6PacketInfo(&six)))
            }
        };
        let slices = slices.iter().take(envelopes.len());
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let sent = sendmmsg(port.fd.as_raw_fd(), headers, slices, addrs, control.as_slice(), flags);
        sent.map(Iterator::count).map_err(|error| Errno::from_raw_os_error(error as i32))
    }
}

fn own(told: &ControlMessageOwned) -> Option<IpAddr> {
    match told {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::from(info.ipi6_addr.s6_addr)),
        _ => None,
    }
}

fn pktinfo_v4(ip: Ipv4Addr) -> in_pktinfo {
    let own = in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
    in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: own, ipi_addr: in_addr { s_addr: 0 } }
}

fn pktinfo_v6(ip: Ipv6Addr) -> in6_pktinfo {
    in6_pktinfo { ipi6_addr: in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 }
}

fn socket_addr(addr: &SockaddrStorage) -> Option<SocketAddr> {
    let four = addr.as_sockaddr_in().map(|addr| SocketAddr::from(*addr));
    four.or_else(|| addr.as_sockaddr_in6().map(|addr| SocketAddr::from(*addr)))
}
