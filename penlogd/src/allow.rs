//! Who may send what: mappings and lines may be limited to networks, each on its own.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use pen_records::addr::parse_ip;

/// The networks from which each kind is taken; an empty list means everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Who may say which client asked what.
    pub mappings: Vec<Net>,
    /// Who may send access lines, in whatever wrapping.
    pub lines: Vec<Net>,
}

impl Allow {
    /// Takes a `--from` into account.
    pub fn add(&mut self, from: From) {
        if from.kind != Some(Kind::Lines) {
            self.mappings.push(from.net);
        }
        if from.kind != Some(Kind::Mappings) {
            self.lines.push(from.net);
        }
    }

    /// Whether mappings of `sender` are taken.
    #[must_use]
    pub fn mappings_of(&self, sender: IpAddr) -> bool {
        contains(&self.mappings, sender)
    }

    /// Whether lines of `sender` are taken.
    #[must_use]
    pub fn lines_of(&self, sender: IpAddr) -> bool {
        contains(&self.lines, sender)
    }
}

fn contains(nets: &[Net], addr: IpAddr) -> bool {
    nets.is_empty() || nets.iter().any(|net| net.contains(addr))
}

/// A network, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    addr: IpAddr,
    /// Leading bits that count.
    bits: u8,
}

impl Net {
    /// Whether `addr` is in it. IPv4 in IPv6 is IPv4.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        let shift = |width: u8| u32::from(width - self.bits);
        match (self.addr, addr.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(addr)) => {
                let differs = net.to_bits() ^ addr.to_bits();
                differs.checked_shr(shift(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(net), IpAddr::V6(addr)) => {
                let differs = net.to_bits() ^ addr.to_bits();
                differs.checked_shr(shift(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Net {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        let (addr, bits) = match text.split_once('/') {
            Some((addr, bits)) => (addr, Some(bits.parse::<u8>().map_err(|_| NetError)?)),
            None => (text, None),
        };
        let addr = parse_ip(addr.as_bytes()).ok_or(NetError)?;
        let width = if addr.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        if bits > width { Err(NetError) } else { Ok(Self { addr, bits }) }
    }
}

/// What a network may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Mappings.
    Mappings,
    /// Access lines.
    Lines,
}

/// One `--from`: `NET`, `mappings=NET` or `lines=NET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct From {
    /// `None` for both.
    pub kind: Option<Kind>,
    /// Who.
    pub net: Net,
}

impl FromStr for From {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        let (kind, net) = match text.split_once('=') {
            Some(("mappings", net)) => (Some(Kind::Mappings), net),
            Some(("lines", net)) => (Some(Kind::Lines), net),
            Some(_) => return Err(NetError),
            None => (None, text),
        };
        Ok(Self { kind, net: net.parse()? })
    }
}

/// Text that is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetError;

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an address or a network, as in 10.1.0.0/16, lines=10.1.0.7 or mappings=2001:db8::/32")
    }
}

impl std::error::Error for NetError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        for (net, inside, outside) in [
            ("10.1.0.0/16", "10.1.255.3", "10.2.0.1"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("10.1.2.3", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("0.0.0.0/0", "1.2.3.4", "::1"),
            ("::/0", "::1", "1.2.3.4"),
        ] {
            let parsed: Net = net.parse().expect(net);
            assert!(parsed.contains(inside.parse().unwrap()), "{net} {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{net} {outside}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "::/129", "host", "10.0.0.0/x", "junk=10.0.0.1", "10/8"] {
            assert_eq!(text.parse::<From>(), Err(NetError), "{text}");
        }
    }

    #[test]
    fn each_kind_is_limited_on_its_own() {
        let mut allow = Allow::default();
        allow.add("mappings=10.0.0.1".parse().unwrap());
        let other = "10.0.0.2".parse().unwrap();
        assert!(!allow.mappings_of(other));
        assert!(allow.lines_of(other));
        allow.add("10.0.0.2".parse().unwrap());
        assert!(allow.mappings_of(other));
    }
}
