//! The socket to the collector: UDP, or a stream. No operation blocks without a time limit.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use pen_stream::client::{StreamClient, StreamError, StreamSend};

use crate::destination::connect;
use crate::input::timeout;

/// The path to the collector.
pub(super) enum CollectorSocket {
    Datagrams(DatagramSocket),
    Stream(Box<StreamSocket>),
}

pub(super) struct DatagramSocket {
    /// `None` if there is no address or the socket could not be opened.
    socket: Option<UdpSocket>,
    /// Source address; `None`: the system chooses.
    from: Option<IpAddr>,
}

pub(super) struct StreamSocket {
    client: StreamClient,
    /// Why the last connection failed, with a word for the kind of failure.
    trouble: Option<(&'static str, String)>,
}

/// Outcome of a send.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SendOutcome {
    Yes,
    /// The datagram was not sent, and the previous one may not have arrived.
    Refused,
    /// The datagram is too long for this network path.
    Never,
    /// The stream takes no more now, and will be writable again.
    Full,
}

/// Outcome of a receive.
pub(super) enum Received {
    Nothing,
    /// A datagram of this many bytes.
    Datagram(usize),
    /// The last sent datagram was refused.
    Refusal,
}

impl CollectorSocket {
    /// Makes a closed UDP socket.
    pub(super) const fn datagrams(from: Option<IpAddr>) -> Self {
        Self::Datagrams(DatagramSocket { socket: None, from })
    }

    /// Makes an unconnected stream.
    pub(super) fn stream(client: StreamClient) -> Self {
        Self::Stream(Box::new(StreamSocket { client, trouble: None }))
    }

    /// Opens a socket connected to `addr`. A stream connects when there is something to send.
    pub(super) fn open(&mut self, addr: SocketAddr) -> io::Result<()> {
        match self {
            Self::Datagrams(it) => it.open(addr),
            Self::Stream(it) => {
                it.client.set_addr(addr);
                Ok(())
            }
        }
    }

    pub(super) const fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    pub(super) const fn is_open(&self) -> bool {
        match self {
            Self::Datagrams(it) => it.socket.is_some(),
            Self::Stream(it) => it.client.is_open(),
        }
    }

    /// Whether a stream takes no more now.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Stream(it) if it.client.is_full())
    }

    /// Returns a word for the kind of the last failure, and if known, the reason.
    pub(super) fn trouble(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Stream(it) => match &it.trouble {
                Some((kind, why)) => (kind, Some(why)),
                None => ("refused", None),
            },
            Self::Datagrams(_) => ("refused", None),
        }
    }

    /// Returns the descriptor and events to wait for.
    pub(super) fn poll_fd(&self) -> Option<PollFd<'_>> {
        let fd = self.fd()?;
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, matches!(self, Self::Stream(it) if it.client.wants_write()));
        Some(PollFd::new(fd, events))
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Datagrams(it) => it.fd(),
            Self::Stream(it) => it.client.fd(),
        }
    }

    /// Sends a datagram; by UDP, waits for room in the socket's buffer.
    pub(super) fn send(&mut self, datagram: &[u8]) -> SendOutcome {
        match self {
            Self::Datagrams(it) => it.send(datagram),
            Self::Stream(it) => it.send(datagram),
        }
    }

    /// Receives a datagram, if there is one.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Received {
        match self {
            Self::Datagrams(it) => it.receive(buffer),
            Self::Stream(it) => it.receive(buffer),
        }
    }

    /// Waits until a datagram arrives or `patience` has passed.
    pub(super) fn rest(&self, patience: Duration) {
        pause(self.fd(), PollFlags::POLLIN, patience);
    }
}

impl DatagramSocket {
    fn open(&mut self, addr: SocketAddr) -> io::Result<()> {
        match connect(addr, self.from) {
            Ok(socket) => {
                self.socket = Some(socket);
                Ok(())
            }
            Err(error) => {
                self.socket = None;
                Err(error)
            }
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| socket.as_fd())
    }

    fn send(&self, datagram: &[u8]) -> SendOutcome {
        let Some(socket) = &self.socket else { return SendOutcome::Refused };
        loop {
            let Err(error) = socket.send(datagram) else { return SendOutcome::Yes };
            match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EINTR) => {}
                Some(Errno::EAGAIN) => {
                    pause(self.fd(), PollFlags::POLLOUT, Duration::from_millis(100));
                }
                Some(Errno::ENOBUFS | Errno::ENOMEM) => {
                    pause(self.fd(), PollFlags::POLLOUT, Duration::from_millis(1));
                }
                Some(Errno::EMSGSIZE) => return SendOutcome::Never,
                _ => return SendOutcome::Refused,
            }
        }
    }

    fn receive(&self, buffer: &mut [u8]) -> Received {
        let Some(socket) = &self.socket else { return Received::Nothing };
        loop {
            match socket.recv(buffer) {
                Ok(len) => return Received::Datagram(len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Received::Nothing;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Received::Refusal,
            }
        }
    }
}

impl StreamSocket {
    fn send(&mut self, datagram: &[u8]) -> SendOutcome {
        match self.client.send(datagram, Instant::now()) {
            Ok(StreamSend::Taken) => SendOutcome::Yes,
            Ok(StreamSend::Full) => SendOutcome::Full,
            Ok(StreamSend::TooLong) => SendOutcome::Never,
            Err(error) => {
                self.note(&error);
                SendOutcome::Refused
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Received {
        match self.client.receive(Instant::now()) {
            Ok(None) => Received::Nothing,
            Ok(Some(reply)) => {
                let len = reply.len().min(buffer.len());
                buffer[..len].copy_from_slice(&reply[..len]);
                Received::Datagram(len)
            }
            Err(error) => {
                self.note(&error);
                Received::Refusal
            }
        }
    }

    fn note(&mut self, error: &StreamError) {
        if error.is_new() {
            self.trouble = Some((error.kind(), error.to_string()));
        }
    }
}

/// How long to wait for a connection that only shows whether there is one.
const TRIAL: Duration = Duration::from_millis(500);

/// Whether a TCP connection to `addr` is refused. Where a classic penlogd runs, it is: nobody listens there. A penlogd of
/// this package accepts it even while it is busy. Where nothing comes back at all, nobody knows.
pub(super) fn refuses_streams(addr: SocketAddr) -> bool {
    TcpStream::connect_timeout(&addr, TRIAL)
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn pause(fd: Option<BorrowedFd<'_>>, until: PollFlags, patience: Duration) {
    if let Some(fd) = fd {
        // An interruption by a signal ends the pause, too.
        let _ = poll(&mut [PollFd::new(fd, until)], timeout(patience));
    }
}
