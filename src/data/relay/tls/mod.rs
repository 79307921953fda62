//! TLS between an end of a pair and its socket.
//!
//! ```text
//! client ══ ciphertext ══ Layer ── plain text ── pump ── plain text ── Layer or socket ══ server
//! ```
//!
//! The pump and its duplex know nothing of it: what they read has been opened, and what they write
//! counts as written when its ciphertext is in the kernel. A connection without TLS has no
//! [`TlsLayers`], and pays for them with the question whether it has.

mod layer;
#[cfg(test)]
mod tests;

use std::io;

pub use layer::{TlsLayer, TlsTransport};

use super::duplex::Side;
use super::pump::Ends;

/// Of a worker's buffer, so much is for ciphertext: a whole record and its head fit in two reads.
pub(super) const SCRATCH: usize = 16 * 1024;

/// Which ends of a pair are encrypted.
#[derive(Debug, Default)]
pub struct TlsLayers([Option<Box<TlsLayer>>; 2]);

impl TlsLayers {
    /// Encrypts an end.
    pub fn put(&mut self, side: Side, layer: TlsLayer) {
        self.0[side as usize] = Some(Box::new(layer));
    }

    /// Encrypts an end no more: its socket is gone.
    pub fn take(&mut self, side: Side) {
        self.0[side as usize] = None;
    }

    /// The one of an end, if it is encrypted.
    pub fn of(&mut self, side: Side) -> Option<&mut TlsLayer> {
        self.0[side as usize].as_deref_mut()
    }

    /// The one of an end, to look at.
    #[must_use]
    pub fn get(&self, side: Side) -> Option<&TlsLayer> {
        self.0[side as usize].as_deref()
    }

    /// How much ciphertext was sent, to both.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.0.iter().flatten().map(|layer| layer.sent()).sum()
    }

    /// Whether an end is encrypted.
    #[must_use]
    pub const fn has(&self, side: Side) -> bool {
        self.0[side as usize].is_some()
    }
}

/// A pair of which at least one end is encrypted.
pub struct TlsEnds<'a, W> {
    /// The client's and the server's socket.
    pub transports: [&'a W; 2],
    /// What lies over them.
    pub layers: &'a mut TlsLayers,
    /// Room for ciphertext.
    pub scratch: &'a mut [u8],
}

impl<W> std::fmt::Debug for TlsEnds<'_, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedEnds").field("layers", &self.layers).finish_non_exhaustive()
    }
}

impl<W: TlsTransport> TlsEnds<'_, W> {
    /// Sends what was left over of answers that TLS gives by itself.
    pub fn flush(&mut self) {
        for side in [Side::Client, Side::Server] {
            let transport = self.transports[side as usize];
            if let Some(layer) = self.layers.of(side) {
                // A connection that is lost says so to whoever reads or writes next.
                layer.flush(transport).unwrap_or_default();
            }
        }
    }

    /// Gives back memory that only bytes under way need.
    pub fn trim(&mut self) {
        for side in [Side::Client, Side::Server] {
            self.layers.of(side).into_iter().for_each(TlsLayer::trim);
        }
    }
}

impl<W: TlsTransport> Ends for TlsEnds<'_, W> {
    fn read(&mut self, from: Side, buf: &mut [u8]) -> io::Result<usize> {
        let transport = self.transports[from as usize];
        match self.layers.of(from) {
            Some(layer) => layer.read(transport, self.scratch, buf),
            None => transport.read(buf),
        }
    }

    fn has_more(&mut self, from: Side) -> bool {
        self.layers.of(from).is_some_and(|layer| layer.has_more())
    }

    fn write(&mut self, to: Side, bytes: &[u8]) -> io::Result<usize> {
        let transport = self.transports[to as usize];
        match self.layers.of(to) {
            Some(layer) => layer.write(transport, bytes),
            None => transport.write(&[io::IoSlice::new(bytes)]),
        }
    }

    fn finish(&mut self, to: Side, _last: bool) -> io::Result<()> {
        let transport = self.transports[to as usize];
        match self.layers.of(to) {
            Some(layer) => layer.finish(transport),
            None => {
                transport.finish();
                Ok(())
            }
        }
    }
}
