//! What became of connections.

use std::fmt;

/// Counters of streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCounts {
    /// Connections open now.
    pub open: u64,
    /// Connections accepted so far.
    pub accepted: u64,
    /// Connections closed because there were too many.
    pub too_many: u64,
    /// Connections closed for junk or a failed handshake.
    pub junk: u64,
    /// Connections closed because they sent nothing or took no replies.
    pub silent: u64,
    /// Connections reset, or ended within a frame.
    pub broken: u64,
    /// How often a connection had to wait for its sender's quota.
    pub held: u64,
}

impl StreamCounts {
    /// Returns each counter with a name.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u64); 7] {
        let Self { open, accepted, too_many, junk, silent, broken, held } = *self;
        [
            ("accepted", accepted),
            ("open", open),
            ("beyond the limit", too_many),
            ("closed for junk", junk),
            ("closed for silence", silent),
            ("broken", broken),
            ("waits for a quota", held),
        ]
    }
}

impl fmt::Display for StreamCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connections:")?;
        for (index, (name, count)) in self.named().iter().enumerate() {
            write!(f, "{} {count} {name}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}
