//! Networks, and who is believed.

use std::fmt;
use std::net::IpAddr;

use pen_records::addr::{ClientAddr, parse_ip};

/// Who is believed about whom it speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedPeer {
    /// Whoever connects from there.
    Network(Network),
    /// Whoever connects to a Unix-domain socket.
    Unix,
}

impl TrustedPeer {
    /// Parses a network, an address or `unix`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "unix" { Some(Self::Unix) } else { Network::parse(text).map(Self::Network) }
    }

    /// Whether that is who connects from `addr`.
    #[must_use]
    pub fn fits(&self, addr: ClientAddr) -> bool {
        match (self, addr) {
            (Self::Network(network), ClientAddr::Ip(ip)) => network.contains(ip),
            (Self::Unix, ClientAddr::Unix) => true,
            (Self::Network(_), ClientAddr::Unix) | (Self::Unix, ClientAddr::Ip(_)) => false,
        }
    }
}

/// An address and how many of its first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The address.
    pub addr: IpAddr,
    /// At most 32 or 128.
    pub bits: u8,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (addr, bits) = match text.split_once('/') {
            Some((addr, bits)) => (addr, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let addr: IpAddr = parse_ip(addr.as_bytes())?;
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { addr, bits })
    }

    /// Whether `ip` is part of it; an IPv4 address mapped into IPv6 is that IPv4 address.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.addr.to_canonical(), ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let differing = u32::from(net) ^ u32::from(ip);
                differing.checked_shr(32 - u32::from(self.bits.min(32))).unwrap_or(0) == 0
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let differing = u128::from(net) ^ u128::from(ip);
                differing.checked_shr(128 - u32::from(self.bits.min(128))).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl fmt::Display for TrustedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => write!(f, "{}/{}", network.addr, network.bits),
            Self::Unix => f.write_str("unix"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_the_addresses_that_share_its_first_bits() {
        for (net, bits, ip, expected) in [
            ("10.0.0.0", 8, "10.255.0.1", true),
            ("10.0.0.0", 8, "11.0.0.1", false),
            ("10.0.0.5", 24, "10.0.0.77", true),
            ("10.0.0.5", 32, "10.0.0.5", true),
            ("10.0.0.5", 32, "10.0.0.4", false),
            ("0.0.0.0", 0, "203.0.113.9", true),
            ("0.0.0.0", 0, "2001:db8::1", false),
            ("::", 0, "2001:db8::1", true),
            ("2001:db8::", 32, "2001:db8:ffff::1", true),
            ("2001:db8::", 32, "2001:db9::1", false),
            ("127.0.0.1", 32, "::ffff:127.0.0.1", true),
        ] {
            let network = Network { addr: net.parse().unwrap(), bits };
            assert_eq!(network.contains(ip.parse().unwrap()), expected, "{net}/{bits} {ip}");
        }
    }
}
