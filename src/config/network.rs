//! Peers that may name the address of a client: by the PROXY protocol or in `X-Forwarded-For`.

use std::fmt;

use pen_records::addr::ClientAddr;
use pen_records::network::{self, IpNet};

/// A trusted peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedPeer {
    /// All addresses of this network.
    Network(IpNet),
    /// All clients of a Unix-domain socket.
    Unix,
}

impl TrustedPeer {
    /// Parses a network, an address or `unix`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "unix" { Some(Self::Unix) } else { network::parse(text).map(Self::Network) }
    }

    /// Returns whether `addr` is the address of this peer.
    #[must_use]
    pub fn matches(&self, addr: ClientAddr) -> bool {
        match (self, addr) {
            (Self::Network(network), ClientAddr::Ip(ip)) => network::contains(network, ip),
            (Self::Unix, ClientAddr::Unix) => true,
            (Self::Network(_), ClientAddr::Unix) | (Self::Unix, ClientAddr::Ip(_)) => false,
        }
    }
}

impl fmt::Display for TrustedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}
