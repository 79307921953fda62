//! The socket to the collector: there or not, and never waited for without end.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use crate::destination::connect;
use crate::input::timeout;

pub(super) struct CollectorSocket {
    /// `None` if there is no address, or it could not be had.
    socket: Option<UdpSocket>,
    /// Where datagrams come from, if somebody cares.
    from: Option<IpAddr>,
}

/// What became of a datagram.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SendOutcome {
    Yes,
    /// This one has not gone out, and the one before it may not have arrived.
    Refused,
    /// It is too long for this road.
    Never,
}

/// What came.
pub(super) enum Received {
    Nothing,
    /// A datagram of that many bytes.
    Datagram(usize),
    /// What went out last was refused.
    Refusal,
}

impl CollectorSocket {
    pub(super) const fn new(from: Option<IpAddr>) -> Self {
        Self { socket: None, from }
    }

    /// Makes a socket to `addr`.
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

    /// To wait for what comes.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| socket.as_fd())
    }

    /// Sends a datagram, waiting for room in the socket's buffer.
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

    /// Takes what has come, if anything has.
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

    /// Until something comes, or a while has passed.
    pub(super) fn rest(&self, patience: Duration) {
        self.pause(PollFlags::POLLIN, patience);
    }

    fn pause(&self, until: PollFlags, patience: Duration) {
        if let Some(fd) = self.fd() {
            let _ = poll(&mut [PollFd::new(fd, until)], timeout(patience));
        }
    }
}
