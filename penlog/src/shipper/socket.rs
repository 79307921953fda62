//! The UDP socket to the collector. No operation blocks without a time limit.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use crate::destination::connect;
use crate::input::timeout;

pub(super) struct CollectorSocket {
    /// `None` if there is no address or the socket could not be opened.
    socket: Option<UdpSocket>,
    /// Source address; `None`: the system chooses.
    from: Option<IpAddr>,
}

/// Outcome of a send.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SendOutcome {
    Yes,
    /// The datagram was not sent, and the previous one may not have arrived.
    Refused,
    /// The datagram is too long for this network path.
    Never,
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
    pub(super) const fn new(from: Option<IpAddr>) -> Self {
        Self { socket: None, from }
    }

    /// Opens a socket connected to `addr`.
    pub(super) fn open(&mut self, addr: SocketAddr) -> io::Result<()> {
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

    pub(super) fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Returns the descriptor to poll.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| socket.as_fd())
    }

    /// Sends a datagram; waits for room in the socket's buffer.
    pub(super) fn send(&self, datagram: &[u8]) -> SendOutcome {
        let Some(socket) = &self.socket else { return SendOutcome::Refused };
        loop {
            let Err(error) = socket.send(datagram) else { return SendOutcome::Yes };
            match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EINTR) => {}
                Some(Errno::EAGAIN) => self.pause(PollFlags::POLLOUT, Duration::from_millis(100)),
                Some(Errno::ENOBUFS | Errno::ENOMEM) => {
                    self.pause(PollFlags::POLLOUT, Duration::from_millis(1));
                }
                Some(Errno::EMSGSIZE) => return SendOutcome::Never,
                _ => return SendOutcome::Refused,
            }
        }
    }

    /// Receives a datagram, if there is one.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Received {
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

    /// Waits until a datagram arrives or `patience` has passed.
    pub(super) fn rest(&self, patience: Duration) {
        self.pause(PollFlags::POLLIN, patience);
    }

    fn pause(&self, until: PollFlags, patience: Duration) {
        if let Some(fd) = self.fd() {
            let _ = poll(&mut [PollFd::new(fd, until)], timeout(patience));
        }
    }
}
