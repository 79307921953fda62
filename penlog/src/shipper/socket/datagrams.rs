//! A UDP socket to the collector.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::PollFlags;

use super::{Received, SendOutcome, pause};
use crate::destination::connect;

pub(super) struct DatagramSocket {
    /// `None` if there is no address or the socket could not be opened.
    socket: Option<UdpSocket>,
    /// Source address; `None`: the system chooses.
    from: Option<IpAddr>,
}

impl DatagramSocket {
    /// Makes a closed socket.
    pub(super) const fn new(from: Option<IpAddr>) -> Self {
        Self { socket: None, from }
    }

    /// Opens a socket connected to `addr`.
    pub(super) fn open(&mut self, addr: SocketAddr) -> io::Result<()> {
        self.socket = None;
        self.socket = Some(connect(addr, self.from)?);
        Ok(())
    }

    pub(super) const fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| socket.as_fd())
    }

    /// Sends a datagram. Waits for room in the socket's buffer.
    pub(super) fn send(&self, datagram: &[u8]) -> SendOutcome {
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
}
