//! Lines of the C shipper put together again: it sends 1,023 bytes of a long line as a datagram
//! without a line end, and the rest as further datagrams.
//!
//! The rest may begin with anything that a visitor of the web site wrote into a header, a mapping
//! for example. So what follows a piece, from the same socket, belongs to it and is nothing else.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use pen_records::time::Timestamp;

/// Bytes of a piece that is not the last of its line.
const PIECE: usize = 1023;
/// Bytes of the longest line that is put together.
const LINE: usize = 64 * 1024;
/// The most lines in the making.
const LINES: usize = 256;
/// How long a piece waits for the next.
const WAIT: Duration = Duration::from_secs(1);

/// Lines in the making.
#[derive(Debug)]
pub(crate) struct Pieces {
    lines: HashMap<SocketAddr, Unfinished>,
    /// Bytes of all of them, and the most there may be.
    bytes: usize,
    most: usize,
}

#[derive(Debug)]
struct Unfinished {
    bytes: Vec<u8>,
    since: Timestamp,
}

impl Pieces {
    /// Holds about `most` bytes at most: a line that would be more goes out in pieces.
    pub(crate) fn new(most: usize) -> Self {
        Self { lines: HashMap::new(), bytes: 0, most }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether this is the first piece of a line: then it is taken.
    pub(crate) fn begin(&mut self, from: SocketAddr, datagram: &[u8], now: Timestamp) -> bool {
        // A syslog sender frames its lines and ends none of them.
        let first = datagram.len() == PIECE
            && !matches!(datagram.first(), Some(b'<'))
            && !datagram.contains(&b'\n')
            && self.lines.len() < LINES
            && self.bytes < self.most;
        if first {
            self.bytes += datagram.len();
            self.lines.insert(from, Unfinished { bytes: datagram.to_vec(), since: now });
        }
        first
    }

    /// Adds what follows a piece. Gives back the line if this was its end.
    pub(crate) fn add(&mut self, from: SocketAddr, datagram: &[u8]) -> Added {
        let Some(line) = self.lines.get_mut(&from) else { return Added::NoPiece };
        line.bytes.extend_from_slice(datagram);
        self.bytes += datagram.len();
        let is_full = line.bytes.len() >= LINE || self.bytes >= self.most;
        if datagram.len() == PIECE && !datagram.ends_with(b"\n") && !is_full {
            return Added::More;
        }
        let Some(Unfinished { bytes, .. }) = self.lines.remove(&from) else { return Added::More };
        self.bytes -= bytes.len();
        Added::Whole(bytes)
    }

    /// Gives back the lines whose end did not come.
    pub(crate) fn overdue(&mut self, now: Timestamp) -> Vec<(SocketAddr, Vec<u8>)> {
        if self.lines.is_empty() {
            return Vec::new();
        }
        let overdue = self.lines.extract_if(|_, line| line.since + WAIT <= now);
        overdue
            .map(|(from, line)| {
                self.bytes -= line.bytes.len();
                (from, line.bytes)
            })
            .collect()
    }

    /// When the next of them is overdue.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        self.lines.values().map(|line| line.since + WAIT).min()
    }
}

/// What a datagram was to the pieces before it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// Nothing: there are none from there.
    NoPiece,
    /// A further piece; the line is not whole.
    More,
    /// The last piece of this line.
    Whole(Vec<u8>),
}
