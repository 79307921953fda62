//! Clients as records name them, and short hashes of clients and of User-Agents.

use std::net::IpAddr;
use std::num::NonZeroU32;

use crate::addr::ClientAddr;
use crate::hash::mix;

/// A client named by a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordedClient {
    pub(crate) addr: ClientAddr,
    /// See [`MappingEvent::is_unauthenticated`](crate::attribution::MappingEvent::is_unauthenticated).
    pub(crate) is_unauthenticated: bool,
}

/// A client's hash, by which its User-Agent profile is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientHash(NonZeroU32);

impl ClientHash {
    /// Hashes a client; cheap, since it is made for each mapping.
    pub(crate) fn of(client: ClientAddr) -> Self {
        let low = |bits: u128| {
            u64::try_from(bits & u128::from(u64::MAX)).expect("the mask leaves 64 bits")
        };
        let bits = match client {
            ClientAddr::Ip(IpAddr::V4(ip)) => u64::from(ip.to_bits()),
            ClientAddr::Ip(IpAddr::V6(ip)) => {
                low(ip.to_bits() >> 64).wrapping_mul(0xA076_1D64_78BD_642F) ^ low(ip.to_bits())
            }
            ClientAddr::Unix => u64::MAX,
        };
        let half = u32::try_from(mix(bits, 0) >> 32).expect("the upper half has 32 bits");
        Self(NonZeroU32::new(half).unwrap_or(NonZeroU32::MIN))
    }

    /// Returns the upper 15 bits.
    pub(crate) const fn slot(self) -> usize {
        (self.0.get() >> 17) as usize
    }
}

/// Hash of a User-Agent; a line without one, or with a hash of 0, has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AgentHash(NonZeroU32);

impl AgentHash {
    pub(crate) const fn new(hash: u32) -> Option<Self> {
        match NonZeroU32::new(hash) {
            Some(hash) => Some(Self(hash)),
            None => None,
        }
    }

    pub(crate) const fn get(self) -> u32 {
        self.0.get()
    }
}
