//! TLS between an end of a connection and its socket.
//!
//! ```text
//! client ══ ciphertext ══ Layer ── plain text ── pump ── plain text ── Layer or socket ══ server
//! ```
//!
//! The pump and its duplex see plain text only: a read returns decrypted bytes, and a write counts once its ciphertext is in the
//! kernel. A connection without TLS has no [`TlsLayers`] and pays one branch for them.

mod layer;
#[cfg(test)]
mod tests;

use std::io;

pub use layer::{TlsLayer, TlsTransport};

use super::duplex::Side;
use super::pump::Ends;

/// Part of a worker's buffer for ciphertext: a whole record with its header fits in two reads.
pub(super) const SCRATCH: usize = 16 * 1024;

/// The encrypted ends of a pair.
#[derive(Debug, Default)]
pub struct TlsLayers([Option<Box<TlsLayer>>; 2]);

impl TlsLayers {
    /// Encrypts an end.
    pub fn put(&mut self, side: Side, layer: TlsLayer) {
        self.0[side as usize] = Some(Box::new(layer));
    }

    /// Removes the encryption of an end whose socket is gone.
    pub fn take(&mut self, side: Side) {
        self.0[side as usize] = None;
    }

    /// Returns the layer of an end, if encrypted.
    pub fn of(&mut self, side: Side) -> Option<&mut TlsLayer> {
        self.0[side as usize].as_deref_mut()
    }

    /// Returns the layer of an end for reading its state.
    #[must_use]
    pub fn get(&self, side: Side) -> Option<&TlsLayer> {
        self.0[side as usize].as_deref()
    }

    /// Returns the bytes of ciphertext sent to both ends.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.0.iter().flatten().map(|layer| layer.sent()).sum()
    }

    /// Returns whether an end is encrypted.
    #[must_use]
    pub const fn has(&self, side: Side) -> bool {
        self.0[side as usize].is_some()
    }
}

/// A pair with at least one encrypted end.
pub struct TlsEnds<'a, W> {
    /// Sockets of client and server.
    pub transports: [&'a W; 2],
    /// Layers over the sockets.
    pub layers: &'a mut TlsLayers,
    /// Buffer for ciphertext.
    pub scratch: &'a mut [u8],
}

impl<W> std::fmt::Debug for TlsEnds<'_, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedEnds").field("layers", &self.layers).finish_non_exhaustive()
    }
}

impl<W: TlsTransport> TlsEnds<'_, W> {
    /// Sends pending replies of TLS itself.
    pub fn flush(&mut self) {
        for side in [Side::Client, Side::Server] {
            let transport = self.transports[side as usize];
            if let Some(layer) = self.layers.of(side) {
                // A lost connection is reported by the next read or write.
                let _ = layer.flush(transport);
            }
        }
    }

    /// Frees buffers that are needed only with bytes in transit.
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
