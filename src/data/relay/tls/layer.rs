//! TLS over one non-blocking socket.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

/// Amount of plain text, in bytes, above which nothing more is decrypted until some is read.
const ENOUGH: usize = 16 * 1024;
/// Limit of socket reads in one call without plain text.
const PATIENCE: usize = 8;

/// Transport of the ciphertext. No call blocks.
pub trait TlsTransport {
    /// Reads; 0 means end of stream.
    ///
    /// # Errors
    /// As the socket.
    fn read(&self, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes.
    ///
    /// # Errors
    /// As the socket.
    fn write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Sends an end of stream.
    fn finish(&self);
}

/// How to treat an end without TLS's `close_notify` alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnannouncedEnd {
    /// As a truncation: an attacker may have cut the stream.
    Truncation,
    /// As an end: the peer has received our `close_notify`, and many programs then just close.
    Leave,
}

/// TLS at one end of a pair.
#[derive(Debug)]
pub struct TlsLayer {
    tls: Connection,
    /// Ciphertext read and not decrypted yet.
    backlog: Vec<u8>,
    /// The last byte of a write is encrypted, but some of its ciphertext is not in the kernel yet. Until then that byte counts
    /// as not written, so that the caller does not end the stream too early and at most one write is pending here.
    held: bool,
    /// Bytes of ciphertext sent so far.
    sent: u64,
    /// The socket may hold more bytes.
    full: bool,
    bare_end: UnannouncedEnd,
}

impl TlsLayer {
    /// Creates the layer towards a client.
    ///
    /// # Errors
    /// The configuration permits no connection.
    pub fn accept(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        ServerConnection::new(config).map(|tls| Self::new(tls.into()))
    }

    /// Creates the layer towards a server that must prove `name`.
    ///
    /// # Errors
    /// The configuration permits no connection.
    pub fn connect(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, rustls::Error> {
        ClientConnection::new(config, name).map(|tls| Self::new(tls.into()))
    }

    const fn new(tls: Connection) -> Self {
        let bare_end = UnannouncedEnd::Truncation;
        Self { tls, backlog: Vec::new(), held: false, sent: 0, full: false, bare_end }
    }

    /// Returns the protocol negotiated by ALPN.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    /// Returns the bytes of ciphertext sent.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Advances the handshake as far as possible; returns whether it is complete.
    ///
    /// # Errors
    /// The handshake failed. The peer was sent an alert, if the socket accepted it.
    pub fn continue_handshake(
        &mut self,
        transport: &impl TlsTransport,
        scratch: &mut [u8],
    ) -> io::Result<bool> {
        loop {
            match self.flush(transport) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                flushed => flushed?,
            }
            if !self.tls.is_handshaking() {
                return Ok(true);
            }
            match self.fill(transport, scratch) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "it ended")),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(false),
                    ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// Reads plain text; 0 means an end announced by `close_notify`.
    ///
    /// # Errors
    /// As the socket; an end without `close_notify` is reported as a reset.
    pub fn read(
        &mut self,
        transport: &impl TlsTransport,
        scratch: &mut [u8],
        buf: &mut [u8],
    ) -> io::Result<usize> {
        // Data left from an earlier read says nothing about new data in the socket.
        self.full = true;
        for _ in 0..PATIENCE {
            match self.tls.reader().read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return self.bare_end(),
                Ok(0) => return Ok(0),
                read => {
                    self.bare_end = UnannouncedEnd::Truncation;
                    return read;
                }
            }
            self.fill(transport, scratch)?;
        }
        // Other pairs are served before the next call.
        Err(ErrorKind::Interrupted.into())
    }

    fn bare_end(&self) -> io::Result<usize> {
        match self.bare_end {
            UnannouncedEnd::Truncation => {
                Err(io::Error::new(ErrorKind::ConnectionReset, "it ended without saying so"))
            }
            UnannouncedEnd::Leave => Ok(0),
        }
    }

    /// Returns whether plain text can be read, whatever the socket reports.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.full || !self.backlog.is_empty() || !self.tls.wants_read()
    }

    /// Reads ciphertext from the socket once, or takes what is left of it; 0 means the socket's end of stream.
    fn fill(&mut self, transport: &impl TlsTransport, scratch: &mut [u8]) -> io::Result<usize> {
        if !self.backlog.is_empty() {
            let backlog = std::mem::take(&mut self.backlog);
            self.open(transport, &backlog)?;
            return Ok(backlog.len());
        }
        self.full = false;
        let read = transport.read(scratch)?;
        self.full = read == scratch.len();
        if read == 0 {
            self.tls.read_tls(&mut io::empty())?;
        }
        self.open(transport, &scratch[..read])?;
        Ok(read)
    }

    fn open(&mut self, transport: &impl TlsTransport, mut sealed: &[u8]) -> io::Result<()> {
        while !sealed.is_empty() {
            if self.tls.read_tls(&mut sealed)? == 0 {
                // After `close_notify` nothing counts.
                break;
            }
            match self.tls.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() >= ENOUGH => {
                    self.backlog.extend_from_slice(sealed);
                    break;
                }
                Ok(_) => {}
                Err(error) => {
                    // Sends the alert; a full socket is not waited for.
                    let _ = self.flush(transport);
                    return Err(io::Error::new(ErrorKind::InvalidData, error));
                }
            }
        }
        // Sends TLS's own replies; if the socket is full, they go before the next bytes. A lost connection is reported by the next
        // read or write.
        let _ = self.flush(transport);
        Ok(())
    }

    /// Encrypts and writes. Bytes not accepted must be passed again first.
    ///
    /// # Errors
    /// As the socket.
    pub fn write(&mut self, transport: &impl TlsTransport, bytes: &[u8]) -> io::Result<usize> {
        self.flush(transport)?;
        let mut sealed = usize::from(std::mem::take(&mut self.held));
        while sealed < bytes.len() {
            sealed += self.tls.writer().write(&bytes[sealed..])?;
            match self.flush(transport) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.held = true;
                    return Ok(sealed - 1);
                }
                flushed => flushed?,
            }
        }
        Ok(sealed)
    }

    /// Writes the pending ciphertext.
    ///
    /// # Errors
    /// As the socket.
    pub fn flush(&mut self, transport: &impl TlsTransport) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut TransportWriter(transport)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                written => self.sent += written? as u64,
            }
        }
        Ok(())
    }

    /// Sends `close_notify`, then an end of stream.
    ///
    /// # Errors
    /// The socket accepts nothing at the moment: call again.
    pub fn finish(&mut self, transport: &impl TlsTransport) -> io::Result<()> {
        if self.tls.is_handshaking() {
            transport.finish();
            return Ok(());
        }
        self.tls.send_close_notify();
        self.bare_end = UnannouncedEnd::Leave;
        self.flush(transport)?;
        transport.finish();
        Ok(())
    }

    /// Frees buffers that are needed only with bytes in transit.
    pub fn trim(&mut self) {
        // Shrinks its buffer before it asks for bytes.
        let _ = self.tls.read_tls(&mut WouldBlockReader); // it always would block
    }
}

/// Adapts the transport to rustls's traits.
struct TransportWriter<'a, W>(&'a W);

impl<W: TlsTransport> Write for TransportWriter<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A transport without bytes for now.
struct WouldBlockReader;

impl Read for WouldBlockReader {
    fn read(&mut self, _buf: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
}
