//! The senders that `--from` allows: mappings and access lines may each be limited to networks.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use pen_records::network::{self, IpNet};

/// The networks from which mappings and access lines are accepted; an empty list accepts all senders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// The networks that may send mappings.
    pub mappings: Vec<IpNet>,
    /// The networks that may send access lines, in any envelope.
    pub lines: Vec<IpNet>,
}

impl Allow {
    /// Adds the network of a `--from`.
    pub fn add(&mut self, from: FromArg) {
        if from.kind != Some(SenderKind::Lines) {
            self.mappings.push(from.network);
        }
        if from.kind != Some(SenderKind::Mappings) {
            self.lines.push(from.network);
        }
    }

    /// Adds the process that the collector, which listens at `listen`, is embedded in: its records come from this machine.
    pub fn add_owner(&mut self, listen: IpAddr) {
        let owner = match listen {
            ip if !ip.is_unspecified() => ip.to_canonical(),
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        if !self.mappings.is_empty() {
            self.mappings.push(IpNet::from(owner));
        }
    }

    /// Returns whether mappings of `sender` are accepted.
    #[must_use]
    pub fn mappings_of(&self, sender: IpAddr) -> bool {
        contains(&self.mappings, sender)
    }

    /// Returns whether lines of `sender` are accepted.
    #[must_use]
    pub fn lines_of(&self, sender: IpAddr) -> bool {
        contains(&self.lines, sender)
    }
}

fn contains(networks: &[IpNet], addr: IpAddr) -> bool {
    networks.is_empty() || networks.iter().any(|network| network::contains(network, addr))
}

/// The datagrams that a network may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderKind {
    /// Mappings.
    Mappings,
    /// Access lines.
    Lines,
}

/// The value of a `--from`: `NET`, `mappings=NET` or `lines=NET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FromArg {
    /// `None` for mappings and lines.
    pub kind: Option<SenderKind>,
    /// The network of the senders.
    pub network: IpNet,
}

impl fmt::Display for FromArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Some(SenderKind::Mappings) => "mappings=",
            Some(SenderKind::Lines) => "lines=",
            None => "",
        };
        write!(f, "{kind}{}", self.network)
    }
}

impl FromStr for FromArg {
    type Err = FromArgError;

    fn from_str(text: &str) -> Result<Self, FromArgError> {
        let (kind, text) = match text.split_once('=') {
            Some(("mappings", text)) => (Some(SenderKind::Mappings), text),
            Some(("lines", text)) => (Some(SenderKind::Lines), text),
            Some(_) => return Err(FromArgError),
            None => (None, text),
        };
        let network = network::parse(text).ok_or(FromArgError)?;
        Ok(Self { kind, network })
    }
}

/// A value of `--from` that is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FromArgError;

impl fmt::Display for FromArgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an address or a network, as in 10.1.0.0/16, lines=10.1.0.7 or mappings=2001:db8::/32")
    }
}

impl std::error::Error for FromArgError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "::/129", "host", "10.0.0.0/x", "junk=10.0.0.1", "10/8"] {
            assert_eq!(text.parse::<FromArg>(), Err(FromArgError), "{text}");
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

    #[test]
    fn the_owner_of_an_embedded_collector_may_always_send_mappings() {
        for (listen, owner) in [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("192.0.2.9", "192.0.2.9")]
        {
            let mut allow = Allow::default();
            allow.add("10.0.0.0/8".parse().unwrap());
            let owner: IpAddr = owner.parse().unwrap();
            assert!(!allow.mappings_of(owner));
            allow.add_owner(listen.parse().unwrap());
            assert!(allow.mappings_of(owner) && !allow.lines_of(owner), "{listen}");
        }
        let mut all = Allow::default();
        all.add_owner("0.0.0.0".parse().unwrap());
        assert!(all.mappings_of("10.0.0.1".parse().unwrap()));
    }
}
