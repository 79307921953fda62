//! Reassembles long lines of the C penlog, which sends 1,023 bytes of a long line as a datagram without a line feed, and
//! the rest as further datagrams.
//!
//! The rest may begin with anything that a visitor of the web site wrote into a header, a mapping for example. So a datagram
//! that follows a piece from the same socket continues the line and is never parsed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use pen_records::time::Timestamp;

use crate::peer::Peer;

/// Size in bytes of a piece that does not end its line.
const PIECE: usize = 1023;
/// Length limit of a reassembled line in bytes.
const LINE: usize = 64 * 1024;
/// Limit of unfinished lines.
const LINES: usize = 256;
/// How long a piece waits for the next one.
const WAIT: Duration = Duration::from_secs(1);

/// Unfinished lines by sender.
#[derive(Debug)]
pub(crate) struct Pieces {
    lines: HashMap<SocketAddr, UnfinishedLine>,
    /// Bytes of all unfinished lines, and their limit.
    bytes: usize,
    most: usize,
}

#[derive(Debug)]
struct UnfinishedLine {
    peer: Peer,
    bytes: Vec<u8>,
    since: Timestamp,
}

impl Pieces {
    /// Holds about `most` bytes; a line beyond the limit is passed on in parts.
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

    /// Starts a line if the datagram is a first piece. Returns whether it is.
    pub(crate) fn begin(&mut self, peer: Peer, datagram: &[u8], now: Timestamp) -> bool {
        // A syslog sender frames its lines and ends none of them.
        let first = datagram.len() == PIECE
            && !matches!(datagram.first(), Some(b'<'))
            && !datagram.contains(&b'\n')
            && self.lines.len() < LINES
            && self.bytes < self.most;
        if first {
            self.bytes += datagram.len();
            let line = UnfinishedLine { peer, bytes: datagram.to_vec(), since: now };
            self.lines.insert(peer.addr, line);
        }
        first
    }

    /// Adds a datagram to the sender's unfinished line.
    pub(crate) fn add(&mut self, from: SocketAddr, datagram: &[u8]) -> Added {
        let Some(line) = self.lines.get_mut(&from) else { return Added::NoPiece };
        line.bytes.extend_from_slice(datagram);
        self.bytes += datagram.len();
        let is_full = line.bytes.len() >= LINE || self.bytes >= self.most;
        if datagram.len() == PIECE && !datagram.ends_with(b"\n") && !is_full {
            return Added::More;
        }
        let Some(UnfinishedLine { bytes, .. }) = self.lines.remove(&from) else {
            return Added::More;
        };
        self.bytes -= bytes.len();
        Added::Whole(bytes)
    }

    /// Gives back the lines whose end did not come.
    pub(crate) fn overdue(&mut self, now: Timestamp) -> Vec<(Peer, Vec<u8>)> {
        if self.lines.is_empty() {
            return Vec::new();
        }
        let overdue = self.lines.extract_if(|_, line| line.since + WAIT <= now);
        overdue
            .map(|(_, line)| {
                self.bytes -= line.bytes.len();
                (line.peer, line.bytes)
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
