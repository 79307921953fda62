//! A connection: frames in, frames out, with or without TLS. No operation waits.

use std::fmt;
use std::io::{self, BufRead as _, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use pen_records::frames::{FrameError, FrameReader, write_frame};
use rustls::server::{AcceptedAlert, Acceptor};
use rustls::{ClientConnection, Connection, Error};

use crate::identity::Identity;
use crate::tls::{CollectorTls, SenderProof, collector_says};

/// How a TLS connection begins: type of the record and major version. No frame is as long as these bytes, read as a length,
/// would say.
const TLS: [u8; 3] = [0x16, 0x03, 0x01];

/// A connection.
#[derive(Debug)]
pub struct FramedLink {
    socket: TcpStream,
    layer: LinkLayer,
    frames: FrameReader,
    /// Frames to be sent, from `sent` on.
    out: Vec<u8>,
    sent: usize,
}

/// The layer between frames and the socket.
#[derive(Debug)]
enum LinkLayer {
    Plain,
    Tls(Box<TlsLayer>),
    /// An accepted connection: the first bytes, and the settings for TLS.
    Unknown(Vec<u8>, Option<Arc<CollectorTls>>),
    /// An accepted connection, whose sender has not said yet whether it has a key or a certificate.
    Hello(Box<FirstMessage>, Arc<CollectorTls>),
}

/// What has come of a sender's first message in TLS.
#[derive(Default)]
struct FirstMessage(Acceptor);

impl fmt::Debug for FirstMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FirstMessage")
    }
}

/// TLS, and who the peer is.
#[derive(Debug)]
struct TlsLayer {
    connection: Connection,
    /// How a sender proves who it is; `None` for a collector, whose handshake fails if it is not the expected one.
    proof: Option<SenderProof>,
    /// The sender, once the handshake has proved it.
    sender: Option<Box<[Identity]>>,
}

/// Outcome of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkRead {
    /// Nothing is there now.
    Nothing,
    /// So many bytes of the socket.
    Bytes(usize),
    /// The peer has closed the connection.
    End,
}

impl FramedLink {
    /// Takes a connected or connecting non-blocking socket of a sender.
    #[must_use]
    pub fn to_collector(socket: TcpStream, tls: Option<ClientConnection>) -> Self {
        let layer = match tls {
            Some(tls) => LinkLayer::Tls(Box::new(TlsLayer::new(tls.into(), None))),
            None => LinkLayer::Plain,
        };
        Self::new(socket, layer)
    }

    /// Takes an accepted non-blocking socket. The first bytes tell TLS from frames.
    #[must_use]
    pub fn from_sender(socket: TcpStream, tls: Option<Arc<CollectorTls>>) -> Self {
        Self::new(socket, LinkLayer::Unknown(Vec::new(), tls))
    }

    fn new(socket: TcpStream, layer: LinkLayer) -> Self {
        Self { socket, layer, frames: FrameReader::default(), out: Vec::new(), sent: 0 }
    }

    /// Returns who the sender is, proved by the handshake: its key, or all names of its certificate.
    #[must_use]
    pub fn sender(&self) -> Option<&[Identity]> {
        match &self.layer {
            LinkLayer::Tls(tls) => tls.sender.as_deref(),
            LinkLayer::Plain | LinkLayer::Unknown(..) | LinkLayer::Hello(..) => None,
        }
    }

    /// Returns whether a collector with other settings would take the connection; one whose sender has proved nothing yet it
    /// takes.
    #[must_use]
    pub fn is_admitted_by(&self, settings: &CollectorTls) -> bool {
        match &self.layer {
            LinkLayer::Tls(tls) if tls.sender.is_some() => {
                let presented = tls.connection.peer_certificates().unwrap_or_default();
                tls.proof.as_ref().is_none_or(|proof| settings.admits(proof, presented))
            }
            _ => true,
        }
    }

    /// Reads once from the socket, at most as much as `scratch` holds, and hands each whole datagram to `take`,
    /// with the sender as [`Self::sender`] returns it.
    ///
    /// # Errors
    /// The connection is broken, or the peer does not speak the protocol: drop the connection.
    pub fn read(
        &mut self,
        scratch: &mut [u8],
        mut take: impl FnMut(Option<&[Identity]>, &[u8]),
    ) -> Result<LinkRead, LinkError> {
        let len = loop {
            match self.socket.read(scratch) {
                Ok(len) => break len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(LinkRead::Nothing);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(LinkError::Socket(error)),
            }
        };
        if len == 0 {
            return if self.frames.is_within_frame() {
                Err(LinkError::Cut)
            } else {
                Ok(LinkRead::End)
            };
        }
        let has_ended = self.take(scratch.get(..len).unwrap_or_default(), &mut take)?;
        Ok(if has_ended { LinkRead::End } else { LinkRead::Bytes(len) })
    }

    /// Takes bytes of the socket. Returns whether the peer has ended the stream.
    fn take(
        &mut self,
        bytes: &[u8],
        take: &mut impl FnMut(Option<&[Identity]>, &[u8]),
    ) -> Result<bool, LinkError> {
        match &mut self.layer {
            LinkLayer::Plain => self
                .frames
                .feed(bytes, |it| take(None, it))
                .map(|()| false)
                .map_err(LinkError::Frame),
            LinkLayer::Tls(tls) => {
                let taken = tls.take(&mut self.frames, bytes, take);
                if taken.is_err() {
                    // The alert tells the peer why. It may have gone away.
                    let _ = tls.connection.write_tls(&mut self.socket);
                }
                taken
            }
            LinkLayer::Unknown(first, config) => {
                first.extend_from_slice(bytes);
                if first.len() < TLS.len() && TLS.starts_with(first) {
                    return Ok(false);
                }
                let is_tls = first.starts_with(&TLS);
                let (first, config) = (std::mem::take(first), config.take());
                self.layer = match (is_tls, config) {
                    (false, _) => LinkLayer::Plain,
                    (true, Some(config)) => LinkLayer::Hello(Box::default(), config),
                    (true, None) => return Err(LinkError::NoKey),
                };
                self.take(&first, take)
            }
            LinkLayer::Hello(..) => self.take_hello(bytes, take),
        }
    }

    /// Takes bytes of a sender's first message in TLS, as [`Self::take`].
    fn take_hello(
        &mut self,
        mut bytes: &[u8],
        take: &mut impl FnMut(Option<&[Identity]>, &[u8]),
    ) -> Result<bool, LinkError> {
        let LinkLayer::Hello(acceptor, settings) = &mut self.layer else { return Ok(false) };
        while !bytes.is_empty() {
            acceptor.0.read_tls(&mut bytes).map_err(LinkError::Socket)?;
            let accepted = match acceptor.0.accept() {
                Ok(Some(accepted)) => accepted,
                Ok(None) => continue,
                Err((error, alert)) => return Err(self.refuse(error, alert, None)),
            };
            let (config, proof) =
                settings.settings_for(&accepted.client_hello()).map_err(LinkError::tls)?;
            let connection = match accepted.into_connection(config) {
                Ok(connection) => connection,
                Err((error, alert)) => return Err(self.refuse(error, alert, Some(&proof))),
            };
            self.layer = LinkLayer::Tls(Box::new(TlsLayer::new(connection.into(), Some(proof))));
            return self.take(bytes, take);
        }
        Ok(false)
    }

    /// Tells the sender why its first message is refused.
    fn refuse(
        &mut self,
        error: Error,
        mut alert: AcceptedAlert,
        proof: Option<&SenderProof>,
    ) -> LinkError {
        // It may have gone away.
        let _ = alert.write_all(&mut self.socket);
        LinkError::Tls(collector_says(&error, proof), error)
    }

    /// Puts a datagram into the queue of frames to send; [`Self::flush`] sends it. Returns `false` for a datagram of a wrong length.
    pub fn queue(&mut self, datagram: &[u8]) -> bool {
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
        write_frame(datagram, &mut self.out)
    }

    /// Returns how many bytes of frames wait to be sent.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Sends as much as the socket takes.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn flush(&mut self) -> Result<(), LinkError> {
        while self.wants_write() {
            let unsent = self.out.get(self.sent..).unwrap_or_default();
            let done = match &mut self.layer {
                LinkLayer::Plain | LinkLayer::Unknown(..) => self.socket.write(unsent),
                LinkLayer::Hello(..) => break,
                LinkLayer::Tls(tls) if tls.connection.wants_write() => {
                    tls.connection.write_tls(&mut self.socket).map(|_| 0)
                }
                LinkLayer::Tls(tls) => tls.connection.writer().write(unsent),
            };
            match done {
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(LinkError::Socket(error)),
            }
        }
        if self.queued() == 0 {
            self.out = Vec::new();
            self.sent = 0;
        }
        Ok(())
    }

    /// Returns whether [`Self::flush`] should be called when the socket takes bytes again.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        match &self.layer {
            LinkLayer::Tls(tls) => {
                let tls = &tls.connection;
                tls.wants_write() || (!tls.is_handshaking() && self.queued() > 0)
            }
            LinkLayer::Plain | LinkLayer::Unknown(..) => self.queued() > 0,
            LinkLayer::Hello(..) => false,
        }
    }

    /// Tells the peer that nothing follows.
    pub fn close(&mut self) {
        if let LinkLayer::Tls(tls) = &mut self.layer {
            tls.connection.send_close_notify();
        }
        // The peer sees the end in any case.
        let _ = self.flush();
    }
}

impl TlsLayer {
    const fn new(connection: Connection, proof: Option<SenderProof>) -> Self {
        Self { connection, proof, sender: None }
    }

    /// Takes bytes of TLS, as [`FramedLink::take`].
    fn take(
        &mut self,
        frames: &mut FrameReader,
        mut bytes: &[u8],
        take: &mut impl FnMut(Option<&[Identity]>, &[u8]),
    ) -> Result<bool, LinkError> {
        let tls = &mut self.connection;
        // An accepted connection may hold bytes already.
        loop {
            if !bytes.is_empty() {
                tls.read_tls(&mut bytes).map_err(LinkError::Socket)?;
            }
            let state = tls.process_new_packets().map_err(|error| {
                LinkError::Tls(collector_says(&error, self.proof.as_ref()), error)
            })?;
            let proof = self.proof.as_ref().filter(|_| !tls.is_handshaking());
            if let (None, Some(proof)) = (&self.sender, proof) {
                self.sender = tls.peer_certificates().map(|it| proof.identities(it));
            }
            let mut left = state.plaintext_bytes_to_read();
            let mut reader = tls.reader();
            while left > 0 {
                let chunk = reader.fill_buf().map_err(LinkError::Socket)?;
                let len = chunk.len();
                let sender = self.sender.as_deref();
                frames.feed(chunk, |it| take(sender, it)).map_err(LinkError::Frame)?;
                reader.consume(len);
                left = left.saturating_sub(len.max(1));
            }
            if state.peer_has_closed() {
                return Ok(true);
            }
            if bytes.is_empty() {
                return Ok(false);
            }
        }
    }
}

impl AsFd for FramedLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Why a connection cannot be used any longer.
#[derive(Debug)]
pub enum LinkError {
    /// The system reports a fault.
    Socket(io::Error),
    /// The peer sends no frames.
    Frame(FrameError),
    /// The connection ended within a frame.
    Cut,
    /// The handshake failed, or a TLS record is damaged: in words for the operator of a collector, and as the library says.
    Tls(String, Error),
    /// The peer speaks TLS, and this end has no key.
    NoKey,
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(error) => error.fmt(f),
            Self::Frame(error) => error.fmt(f),
            Self::Cut => f.write_str("the connection ended within a frame"),
            Self::Tls(text, _) => f.write_str(text),
            Self::NoKey => {
                f.write_str("the sender speaks TLS, and this collector has no key (see --key)")
            }
        }
    }
}

impl LinkError {
    fn tls(error: Error) -> Self {
        Self::Tls(collector_says(&error, None), error)
    }
}

impl std::error::Error for LinkError {}
