//! An access line on its way to the join.

use std::net::SocketAddr;

use pen_records::time::Timestamp;

/// A line as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ArrivedLine<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) from: SocketAddr,
    /// When the line was read.
    pub(crate) read: Timestamp,
    /// Whether it came long after: its shipper is behind.
    pub(crate) is_behind: bool,
    /// How many lines came before.
    pub(crate) number: u64,
    /// Whether its sender needed no key, where others have one.
    pub(crate) is_unauthenticated: bool,
}

/// A line held before the join.
#[derive(Debug)]
pub(crate) struct HeldLine {
    pub(crate) text: Box<[u8]>,
    from: SocketAddr,
    pub(crate) read: Timestamp,
    is_behind: bool,
    number: u64,
    is_unauthenticated: bool,
}

impl From<ArrivedLine<'_>> for HeldLine {
    fn from(line: ArrivedLine<'_>) -> Self {
        let ArrivedLine { text, from, read, is_behind, number, is_unauthenticated } = line;
        Self { text: text.into(), from, read, is_behind, number, is_unauthenticated }
    }
}

impl HeldLine {
    /// Returns the line as it came.
    pub(crate) fn arrived(&self) -> ArrivedLine<'_> {
        let &Self { ref text, from, read, is_behind, number, is_unauthenticated } = self;
        ArrivedLine { text, from, read, is_behind, number, is_unauthenticated }
    }
}
