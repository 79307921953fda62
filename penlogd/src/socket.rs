//! The collector's sockets: many datagrams a call, a large buffer, and the kernel's own count of what
//! it had to drop.

use std::fs::File;
use std::io::{self, IoSliceMut, Read as _, Seek as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::cmsg_space;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, RxqOvfl};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, getsockopt, recvmmsg, setsockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

use pen_records::shipment::Answer;

/// The receive buffer that is asked for.
const BUFFER: usize = 32 << 20;

/// Datagrams of a batch.
pub const BATCH: usize = 64;

/// From one datagram's room to the next. Not a power of two: equal offsets in rooms of 64 KiB would
/// share a handful of cache lines, and short datagrams only use the first lines of each.
const STRIDE: usize = 64 * 1024 + 1088;

/// Where to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// This port on all addresses, IPv6 included where there is any.
    Everywhere(u16),
    /// This address only.
    At(SocketAddr),
}

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    addr: SocketAddr,
    /// Bytes the kernel gives to our buffer, its overhead included.
    buffer: usize,
    /// Datagrams dropped, as the last datagram told.
    told: u32,
    /// The kernel's table of sockets, and which line of it is ours.
    table: Option<(File, u64)>,
}

impl Listener {
    /// Binds.
    ///
    /// # Errors
    /// The address is in use, is none of ours, or needs rights.
    pub fn bind(listen: Listen) -> io::Result<Self> {
        let socket =
            match listen {
                Listen::At(addr) => bind(addr, addr.is_ipv6()),
                Listen::Everywhere(port) => bind((Ipv6Addr::UNSPECIFIED, port).into(), false)
                    .or_else(|error| match error.kind() {
                        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
                        // No IPv6 on this machine.
                        _ => bind((Ipv4Addr::UNSPECIFIED, port).into(), false),
                    }),
            }?;
        socket.set_nonblocking(true)?;
        let addr = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        if setsockopt(&socket, RcvBufForce, &BUFFER).is_err() {
            setsockopt(&socket, RcvBuf, &BUFFER)?;
        }
        let buffer = getsockopt(&socket, RcvBuf)?;
        setsockopt(&socket, RxqOvfl, &1)?;
        let table = if addr.is_ipv6() { "/proc/net/udp6" } else { "/proc/net/udp" };
        let inode = nix::sys::stat::fstat(&socket)?.st_ino;
        let table = File::open(table).ok().map(|table| (table, inode));
        Ok(Self { socket, addr, buffer, told: 0, table })
    }

    /// Where it is bound.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The same socket as the runtime sees it, to wait for what comes. A runtime must be there.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn watch(&self) -> io::Result<tokio::net::UdpSocket> {
        tokio::net::UdpSocket::from_std(self.socket.try_clone()?.into())
    }

    /// Bytes of payload that certainly fit into the buffer: the kernel counts its own overhead too.
    #[must_use]
    pub fn buffer(&self) -> usize {
        self.buffer / 2
    }

    /// Whether the buffer is as large as was asked for.
    #[must_use]
    pub fn is_buffer_granted(&self) -> bool {
        self.buffer / 2 >= BUFFER
    }

    /// Sends an answer; if it can't be sent now, the asker asks again.
    pub fn answer(&self, to: SocketAddr, answer: &Answer) {
        let mut bytes = Vec::with_capacity(Answer::LEN);
        answer.write(&mut bytes);
        if let Err(error) = self.socket.send_to(&bytes, &to.into()) {
            tracing::debug!("cannot answer {to}: {error}");
        }
    }

    /// Datagrams that the kernel has dropped so far because the buffer was full. The table knows of
    /// the last ones too; what came with a datagram does where there is no table.
    pub fn drops(&mut self) -> u64 {
        let told = u64::from(self.told);
        let read = self.table.as_mut().and_then(|(table, inode)| read_drops(table, *inode));
        read.map_or(told, |drops| drops.max(told))
    }
}

impl std::os::fd::AsFd for Listener {
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

/// A line of the table: `sl local remote st queues timer retransmits uid timeout inode ref pointer drops`.
fn read_drops(table: &mut File, inode: u64) -> Option<u64> {
    let mut text = String::new();
    table.rewind().ok()?;
    table.read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.nth(9)?.parse() == Ok(inode)).then(|| words.nth(2)?.parse().ok())?
    })
}

/// Room for a batch of datagrams, used again for each.
pub struct Batch {
    headers: MultiHeaders<SockaddrStorage>,
    memory: Vec<u8>,
}

impl Default for Batch {
    fn default() -> Self {
        Self { headers: headers(), memory: vec![0; BATCH * STRIDE] }
    }
}

fn headers() -> MultiHeaders<SockaddrStorage> {
    MultiHeaders::preallocate(BATCH, Some(cmsg_space!(u32)))
}

impl Batch {
    /// Receives what is there, [`BATCH`] datagrams at most, and hands each to `take` with its sender.
    /// Says how many there were.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there.
    pub fn receive(
        &mut self,
        listener: &mut Listener,
        mut take: impl FnMut(&Listener, SocketAddr, &[u8]),
    ) -> io::Result<usize> {
        let mut rooms: Vec<[IoSliceMut<'_>; 1]> =
            self.memory.chunks_exact_mut(STRIDE).map(|room| [IoSliceMut::new(room)]).collect();
        let fd = listener.socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        let messages = recvmmsg(fd, &mut self.headers, rooms.iter_mut(), flags, None)?;
        let (mut count, mut no_room) = (0, false);
        for message in messages {
            count += 1;
            no_room |= message.flags.contains(MsgFlags::MSG_CTRUNC);
            for control in message.cmsgs().into_iter().flatten() {
                if let ControlMessageOwned::RxqOvfl(drops) = control {
                    listener.told = drops;
                }
            }
            let Some(from) = message.address.as_ref().and_then(sender) else { continue };
            take(listener, from, message.iovs().next().unwrap_or_default());
        }
        if no_room {
            // The kernel leaves in each header how much of its control room was used, and that was
            // none before the first drop. From now on every datagram brings the count.
            self.headers = headers();
        }
        Ok(count)
    }
}

fn sender(addr: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = addr.as_sockaddr_in() {
        return Some(SocketAddr::from((v4.ip(), v4.port())));
    }
    let v6 = addr.as_sockaddr_in6()?;
    Some(SocketAddr::from((v6.ip().to_canonical(), v6.port())))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn datagrams_come_in_batches_with_their_senders() {
        let mut listener = Listener::bind(Listen::At("127.0.0.1:0".parse().unwrap())).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for number in 0..100_u8 {
            sender.send_to(&[number], listener.addr()).unwrap();
        }
        let (mut batch, mut got) = (Batch::default(), Vec::new());
        while let Ok(count) = batch.receive(&mut listener, |_, from, datagram| {
            assert_eq!(from, sender.local_addr().unwrap());
            got.extend_from_slice(datagram);
        }) {
            assert!(count <= BATCH);
        }
        assert_eq!(got, (0..100).collect::<Vec<u8>>());
        assert_eq!(listener.drops(), 0);
    }

    #[test]
    fn what_the_kernel_drops_is_known() {
        let mut listener = Listener::bind(Listen::At("127.0.0.1:0".parse().unwrap())).unwrap();
        setsockopt(&listener, RcvBuf, &2048).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (mut batch, mut got) = (Batch::default(), 0);
        for _ in 0..3 {
            for _ in 0..100 {
                sender.send_to(&[b'x'; 500], listener.addr()).unwrap();
            }
            while let Ok(count) = batch.receive(&mut listener, |_, _, _| {}) {
                got += count as u64;
            }
        }
        assert_eq!(got + listener.drops(), 300);
        listener.table = None;
        assert!(listener.drops() > 0, "told by the datagrams themselves");
    }
}
