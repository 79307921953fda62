//! The collector's sockets: many datagrams per call, a large buffer, and the kernel's count of dropped datagrams.

use std::fs::File;
use std::io::{self, IoSliceMut, Read as _, Seek as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::cmsg_space;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, RxqOvfl};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrIn, SockaddrIn6, SockaddrLike,
    getsockopt, recvmmsg, setsockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

use pen_records::shipment::DiscoveryAnswer;

/// Receive buffer to request, in bytes.
const BUFFER: usize = 32 << 20;

/// Largest number of datagrams received per call.
pub const BATCH: usize = 64;

/// Distance between two datagram buffers. Not a power of two: equal offsets in buffers of 64 KiB would share a handful
/// of cache lines, and short datagrams use only the first lines of each.
const STRIDE: usize = 64 * 1024 + 1088;

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenTarget {
    /// On this port of all addresses, IPv6 included if the machine has it.
    Everywhere(u16),
    /// On this address only.
    At(SocketAddr),
}

/// A bound socket.
#[derive(Debug)]
pub struct UdpListener {
    socket: Socket,
    addr: SocketAddr,
    /// Bytes of the kernel's receive buffer, its overhead included.
    buffer: usize,
    /// Number of dropped datagrams according to the last received datagram.
    told: u32,
    /// The kernel's table of sockets and this socket's inode; `None` if the table cannot be read.
    table: Option<(File, u64)>,
}

impl UdpListener {
    /// Binds a socket.
    ///
    /// # Errors
    /// The address is in use, does not belong to this machine, or needs privileges.
    pub fn bind(listen: ListenTarget) -> io::Result<Self> {
        let socket = match listen {
            ListenTarget::At(addr) => bind(addr, addr.is_ipv6()),
            ListenTarget::Everywhere(port) => bind((Ipv6Addr::UNSPECIFIED, port).into(), false)
                .or_else(|error| match error.kind() {
                    io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
                    // This machine has no IPv6.
                    _ => bind((Ipv4Addr::UNSPECIFIED, port).into(), false),
                }),
        }?;
        socket.set_nonblocking(true)?;
        let addr = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        if setsockopt(&socket, RcvBufForce, &BUFFER).is_err() {
            setsockopt(&socket, RcvBuf, &BUFFER)?;
        }
        let buffer = getsockopt(&socket, RcvBuf)?;
        let table = if addr.is_ipv6() { "/proc/net/udp6" } else { "/proc/net/udp" };
        let inode = nix::sys::stat::fstat(&socket)?.st_ino;
        let table = File::open(table).ok().map(|table| (table, inode));
        let mut listener = Self { socket, addr, buffer, told: 0, table };
        if listener.read_table().is_none() {
            listener.ask_datagrams()?;
        }
        Ok(listener)
    }

    /// Makes each datagram carry the number of dropped ones, which adds about a twentieth to the cost of receiving.
    fn ask_datagrams(&mut self) -> io::Result<()> {
        self.table = None;
        setsockopt(&self.socket, RxqOvfl, &1)?;
        Ok(())
    }

    /// Returns the bound address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Registers a duplicate of the socket with the current runtime, to wait for datagrams.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn watch(&self) -> io::Result<tokio::net::UdpSocket> {
        tokio::net::UdpSocket::from_std(self.socket.try_clone()?.into())
    }

    /// Returns how many bytes of payload certainly fit into the buffer; the kernel also counts its overhead.
    #[must_use]
    pub fn buffer(&self) -> usize {
        self.buffer / 2
    }

    /// Returns whether the kernel granted the whole buffer.
    #[must_use]
    pub fn is_buffer_granted(&self) -> bool {
        self.buffer / 2 >= BUFFER
    }

    /// Sends a reply. A reply that cannot be sent now is dropped: the shipper asks again.
    pub fn answer(&self, to: SocketAddr, answer: &DiscoveryAnswer) {
        let mut bytes = Vec::with_capacity(DiscoveryAnswer::LEN);
        answer.write(&mut bytes);
        if let Err(error) = self.socket.send_to(&bytes, &to.into()) {
            tracing::debug!("cannot answer {to}: {error}");
        }
    }

    /// Returns how many datagrams the kernel has dropped because the buffer was full. Without the kernel's table, the count comes
    /// from received datagrams, and drops after the last one are unknown.
    pub fn drops(&mut self) -> u64 {
        let told = u64::from(self.told);
        self.read_table().map_or(told, |drops| drops.max(told))
    }

    fn read_table(&mut self) -> Option<u64> {
        self.table.as_mut().and_then(|(table, inode)| read_drops(table, *inode))
    }
}

impl std::os::fd::AsFd for UdpListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn bind(addr: SocketAddr, only_v6: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}

/// Grammar of a table row: `sl local remote st queues timer retransmits uid timeout inode ref pointer drops`.
fn read_drops(table: &mut File, inode: u64) -> Option<u64> {
    let mut text = String::new();
    table.rewind().ok()?;
    table.read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.nth(9)?.parse() == Ok(inode)).then(|| words.nth(2)?.parse().ok())?
    })
}

/// Buffers for a batch of datagrams, reused for each batch.
pub struct DatagramBatch {
    /// One header set per address family: an address of the family's own size is parsed fastest.
    v4: MultiHeaders<SockaddrIn>,
    v6: MultiHeaders<SockaddrIn6>,
    memory: Vec<u8>,
}

impl Default for DatagramBatch {
    fn default() -> Self {
        Self { v4: headers(), v6: headers(), memory: vec![0; BATCH * STRIDE] }
    }
}

fn headers<S: SockaddrLike + Copy>() -> MultiHeaders<S> {
    MultiHeaders::preallocate(BATCH, Some(cmsg_space!(u32)))
}

impl DatagramBatch {
    /// Receives at most [`BATCH`] datagrams and hands each to `take` with its sender. Returns how many there were.
    ///
    /// # Errors
    /// `WouldBlock` if no datagram is there.
    pub fn receive(
        &mut self,
        listener: &mut UdpListener,
        take: impl FnMut(SocketAddr, &[u8]),
    ) -> io::Result<usize> {
        if listener.addr.is_ipv6() {
            receive(&mut self.v6, &mut self.memory, listener, sender_v6, take)
        } else {
            receive(&mut self.v4, &mut self.memory, listener, sender_v4, take)
        }
    }
}

fn receive<S: SockaddrLike + Copy>(
    headers: &mut MultiHeaders<S>,
    memory: &mut [u8],
    listener: &mut UdpListener,
    sender: impl Fn(S) -> SocketAddr,
    mut take: impl FnMut(SocketAddr, &[u8]),
) -> io::Result<usize> {
    let mut places = memory.chunks_exact_mut(STRIDE);
    let mut rooms: [[IoSliceMut<'_>; 1]; BATCH] =
        std::array::from_fn(|_| [IoSliceMut::new(places.next().unwrap_or_default())]);
    let fd = listener.socket.as_raw_fd();
    let messages = recvmmsg(fd, headers, rooms.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
    // Parse every header first, then process the datagrams. Interleaved, the processor would wait at each header for memory that the
    // work on the previous datagram had just written: 0.1 us per datagram.
    let mut heads = [const { None }; BATCH];
    let (mut count, mut no_room) = (0, false);
    for (message, head) in messages.zip(&mut heads) {
        count += 1;
        no_room |= message.flags.contains(MsgFlags::MSG_CTRUNC);
        *head = message.address.map(|from| (sender(from), message.bytes));
        if listener.table.is_none() {
            listener.told = drops_told(&message).unwrap_or(listener.told);
        }
    }
    if no_room {
        // The kernel reports in each header how much control space it used: none before the first drop. From now on
        // every datagram carries the count.
        *headers = self::headers();
    }
    for (head, place) in heads.iter().take(count).zip(memory.chunks_exact(STRIDE)) {
        let Some((from, len)) = head else { continue };
        take(*from, place.get(..*len).unwrap_or_default());
    }
    Ok(count)
}

/// Returns the number of dropped datagrams that a datagram carries.
fn drops_told<S>(message: &RecvMsg<'_, '_, S>) -> Option<u32> {
    message.cmsgs().into_iter().flatten().find_map(|control| match control {
        ControlMessageOwned::RxqOvfl(drops) => Some(drops),
        _ => None,
    })
}

fn sender_v4(addr: SockaddrIn) -> SocketAddr {
    SocketAddr::from((addr.ip(), addr.port()))
}

fn sender_v6(addr: SockaddrIn6) -> SocketAddr {
    SocketAddr::from((addr.ip().to_canonical(), addr.port()))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn datagrams_come_in_batches_with_their_senders() {
        let mut listener =
            UdpListener::bind(ListenTarget::At("127.0.0.1:0".parse().unwrap())).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for number in 0..100_u8 {
            sender.send_to(&[number], listener.addr()).unwrap();
        }
        let (mut batch, mut got) = (DatagramBatch::default(), Vec::new());
        while let Ok(count) = batch.receive(&mut listener, |from, datagram| {
            assert_eq!(from, sender.local_addr().unwrap());
            got.extend_from_slice(datagram);
        }) {
            assert!(count <= BATCH);
        }
        assert_eq!(got, (0..100).collect::<Vec<u8>>());
        assert_eq!(listener.drops(), 0);
    }

    /// Sends more than fits, three times; gives back what came and what is said to have been dropped.
    fn overflow(listener: &mut UdpListener) -> (u64, u64) {
        setsockopt(&*listener, RcvBuf, &2048).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (mut batch, mut got) = (DatagramBatch::default(), 0);
        for _ in 0..3 {
            for _ in 0..100 {
                sender.send_to(&[b'x'; 500], listener.addr()).unwrap();
            }
            while let Ok(count) = batch.receive(listener, |_, _| {}) {
                got += count as u64;
            }
        }
        (got, listener.drops())
    }

    #[test]
    fn what_the_kernel_drops_is_known_to_its_table() {
        let mut listener =
            UdpListener::bind(ListenTarget::At("127.0.0.1:0".parse().unwrap())).unwrap();
        assert!(listener.table.is_some(), "these tests need /proc");
        let (got, drops) = overflow(&mut listener);
        assert_eq!(got + drops, 300);
    }

    #[test]
    fn what_the_kernel_drops_is_told_by_datagrams_where_there_is_no_table() {
        let mut listener =
            UdpListener::bind(ListenTarget::At("127.0.0.1:0".parse().unwrap())).unwrap();
        listener.ask_datagrams().unwrap();
        let (got, drops) = overflow(&mut listener);
        assert!(drops > 0 && got + drops <= 300, "{got} came, {drops} dropped");
    }
}
