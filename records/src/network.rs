//! Networks in CIDR notation, as options and settings name them.

use std::net::IpAddr;

pub use ipnet::IpNet;

use crate::addr::parse_ip;

/// Parses `ADDRESS` or `ADDRESS/BITS`. A single address is a network of all its bits. IPv4 mapped into IPv6
/// is IPv4, and has at most 32 bits.
#[must_use]
pub fn parse(text: &str) -> Option<IpNet> {
    let (addr, bits) = match text.split_once('/') {
        Some((addr, bits)) => (addr, Some(bits.parse().ok()?)),
        None => (text, None),
    };
    let addr = parse_ip(addr.as_bytes())?;
    IpNet::new(addr, bits.unwrap_or_else(|| if addr.is_ipv4() { 32 } else { 128 })).ok()
}

/// Returns whether `addr` is in `network`. IPv4 mapped into IPv6 is IPv4.
#[must_use]
pub fn contains(network: &IpNet, addr: IpAddr) -> bool {
    network.contains(&addr.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_the_addresses_that_share_its_first_bits() {
        for (net, addr, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.5/24", "10.0.0.77", true),
            ("10.0.0.5/32", "10.0.0.5", true),
            ("10.0.0.5", "10.0.0.4", false),
            ("10.1.2.3", "::ffff:10.1.2.3", true),
            ("10.1.2.3", "::10.1.2.3", false),
            ("::ffff:10.1.2.3", "10.1.2.3", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "1.2.3.4", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
        ] {
            let network = parse(net).expect(net);
            assert_eq!(contains(&network, addr.parse().unwrap()), expected, "{net} {addr}");
        }
    }

    #[test]
    fn other_text_is_not_a_network() {
        for text in
            ["", "10.0.0.0/33", "::/129", "host", "10.0.0.0/x", "10/8", "::ffff:10.0.0.0/104"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
