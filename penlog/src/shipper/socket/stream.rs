//! A stream to the collector.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags};
use pen_stream::client::{StreamClient, StreamError, StreamSend};

use super::{Received, SendOutcome};

pub(super) struct StreamSocket {
    client: StreamClient,
    /// Why the last connection failed, with a word for the kind of failure.
    trouble: Option<(&'static str, String)>,
    /// Connections that failed since the socket was opened.
    failures: u32,
}

impl StreamSocket {
    /// Makes a stream without a connection.
    pub(super) const fn new(client: StreamClient) -> Self {
        Self { client, trouble: None, failures: 0 }
    }

    /// Sets the address. The stream connects when there is something to send.
    pub(super) fn open(&mut self, addr: SocketAddr) {
        self.client.set_addr(addr);
        self.failures = 0;
    }

    pub(super) fn close(&mut self) {
        self.client.close();
    }

    /// Lets the next [`Self::send`] connect at once, also after a failure.
    pub(super) const fn hurry(&mut self) {
        self.client.hurry();
    }

    pub(super) const fn is_open(&self) -> bool {
        self.client.is_open()
    }

    /// Whether it takes no more now.
    pub(super) fn is_full(&self) -> bool {
        self.client.is_full()
    }

    pub(super) const fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns a word for the kind of the last failure, and the reason.
    pub(super) fn trouble(&self) -> Option<(&'static str, &str)> {
        self.trouble.as_ref().map(|(kind, why)| (*kind, why.as_str()))
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.client.fd()
    }

    /// Returns the descriptor and events to wait for.
    pub(super) fn poll_fd(&self) -> Option<PollFd<'_>> {
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, self.client.wants_write());
        Some(PollFd::new(self.fd()?, events))
    }

    /// Sends a datagram; connects first if there is no connection.
    pub(super) fn send(&mut self, datagram: &[u8]) -> SendOutcome {
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

    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Received {
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
            self.failures += 1;
        }
    }
}
