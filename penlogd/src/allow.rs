//! The senders that `--from` allows: mappings and access lines may each be limited to networks.

use std::fmt;
use std::net::IpAddr;
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
}
