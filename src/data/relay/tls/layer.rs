//! TLS over one socket that never blocks.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

/// Plain text from which on no more ciphertext is opened before some of it was taken.
const ENOUGH: usize = 16 * 1024;
/// Reads from a socket in one go that bring no plain text.
const PATIENCE: usize = 8;

/// What the ciphertext goes over. Nothing here waits.
pub trait TlsTransport {
    /// Reads; 0 is the end.
    ///
    /// # Errors
    /// As a socket does.
    fn read(&self, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes.
    ///
    /// # Errors
    /// As a socket does.
    fn write(&self, bytes: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Says that no more will be written.
    fn finish(&self);
}

/// How an end without the alert that TLS has for it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnannouncedEnd {
    /// Somebody may have cut the stream.
    Truncation,
    /// The other end was told of our end and had nothing more to say: many programs just leave then.
    Leave,
}

/// TLS on one end of a pair.
#[derive(Debug)]
pub struct TlsLayer {
    tls: Connection,
    /// Ciphertext that was read and not opened yet.
    backlog: Vec<u8>,
    /// The last byte that was to be written is sealed, with others before it, and some of that is not
    /// in the kernel yet. Until it is, that byte counts as not written: so nobody believes that all is
    /// said while something is left here, and what is left is never more than one write.
    held: bool,
    /// Bytes of ciphertext that were sent so far.
    sent: u64,
    /// The socket may have more than was read.
    full: bool,
    bare_end: UnannouncedEnd,
}

impl TlsLayer {
    /// Towards a client.
    ///
    /// # Errors
    /// The configuration allows nothing.
    pub fn accept(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        ServerConnection::new(config).map(|tls| Self::new(tls.into()))
    }

    /// Towards a server that has to be that one.
    ///
    /// # Errors
    /// The configuration allows nothing.
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

    /// The protocol that was agreed on.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    /// How much ciphertext was sent.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Goes on with the handshake as far as it gets; whether it is done.
    ///
    /// # Errors
    /// It failed. The other end has been told, as far as that was possible at once.
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

    /// Reads plain text; 0 is an end that the other side has announced.
    ///
    /// # Errors
    /// As a socket does; an end that was not announced is a reset.
    pub fn read(
        &mut self,
        transport: &impl TlsTransport,
        scratch: &mut [u8],
        buf: &mut [u8],
    ) -> io::Result<usize> {
        // What is left of an earlier read says nothing of what has come since.
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
        // Others get their turn before this one is asked again.
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

    /// Whether there is something to read, whatever the socket says.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.full || !self.backlog.is_empty() || !self.tls.wants_read()
    }

    /// Takes ciphertext from the socket once, or what is left of it; 0 is the socket's end.
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
                // Behind the announced end nothing counts.
                break;
            }
            match self.tls.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() >= ENOUGH => {
                    self.backlog.extend_from_slice(sealed);
                    break;
                }
                Ok(_) => {}
                Err(error) => {
                    // The alert. If it cannot be sent now it is not worth waiting for.
                    self.flush(transport).unwrap_or_default();
                    return Err(io::Error::new(ErrorKind::InvalidData, error));
                }
            }
        }
        // What TLS has to say to that; if the socket is full, it is said before the next bytes.
        // A connection that is lost says so to the next read or write.
        self.flush(transport).unwrap_or_default();
        Ok(())
    }

    /// Seals and writes. What was not taken has to be handed over again, first of all.
    ///
    /// # Errors
    /// As a socket does.
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

    /// Writes the ciphertext that is left over.
    ///
    /// # Errors
    /// As a socket does.
    pub fn flush(&mut self, transport: &impl TlsTransport) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut TransportWriter(transport)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                written => self.sent += written? as u64,
            }
        }
        Ok(())
    }

    /// Says that no more will come, to the other end's TLS and to its socket.
    ///
    /// # Errors
    /// The socket takes nothing at the moment: it has to be called again.
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

    /// Gives back memory that only bytes under way need.
    pub fn trim(&mut self) {
        // It makes its buffer small before it asks for bytes.
        self.tls.read_tls(&mut WouldBlockReader).map(drop).unwrap_or_default();
    }
}

/// A wire as rustls wants it.
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

/// Has no bytes for now.
struct WouldBlockReader;

impl Read for WouldBlockReader {
    fn read(&mut self, _buf: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
}
