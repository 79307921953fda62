//! Whether the lines of a server name the addresses that records have for their balancer.

use std::num::NonZeroU32;

use crate::attribution::costs;
use crate::attribution::line::LineOrigin;

/// The balancers' addresses in records, and whether lines with their ports name them.
///
/// Where lines name a balancer's address, a line with another address came by another balancer, whatever its port. On
/// the way of another balancer addresses may be translated, and a log may name the client itself; so each address
/// and each log is known by itself.
#[derive(Default)]
pub(crate) struct NamedBalancers {
    known: Vec<NamedBalancer>,
}

/// A balancer's address that lines of a log name.
struct NamedBalancer {
    /// The log, and the hash of the address.
    key: (LineOrigin, NonZeroU32),
    /// Lines with a port and a request of its connections that named another, since the last that named it.
    others: u8,
}

impl NamedBalancers {
    /// Whether lines name this address.
    pub(crate) fn is_named(&self, origin: LineOrigin, address: NonZeroU32) -> bool {
        let is_meant = |it: &NamedBalancer| it.key == (origin, address);
        self.known.iter().any(|it| is_meant(it) && it.others < costs::BALANCER_TRANSLATED)
    }

    /// Learns that a line with a port of the address's connections named it.
    pub(crate) fn named(&mut self, origin: LineOrigin, address: NonZeroU32) {
        let key = (origin, address);
        match self.known.iter_mut().find(|it| it.key == key) {
            Some(known) => known.others = 0,
            None => {
                if self.known.len() == costs::BALANCERS {
                    self.known.remove(0);
                }
                self.known.push(NamedBalancer { key, others: 0 });
            }
        }
    }

    /// Learns that a line with a port and a request of the address's connections named another.
    pub(crate) fn named_another(&mut self, origin: LineOrigin, address: NonZeroU32) {
        if let Some(known) = self.known.iter_mut().find(|it| it.key == (origin, address)) {
            known.others = known.others.saturating_add(1);
        }
    }
}
