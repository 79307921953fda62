//! Access lists: numbered lists of rules for clients, for the control port, for the status and for servers.
//!
//! The first rule that matches decides. If no rule matches, the default verdict of the list decides; a list
//! without a stated default decides the opposite of its last rule, as C pen does: `deny 10.0.0.1` alone permits
//! all other clients. An empty list permits. Clients on a Unix-domain socket are permitted unless a rule for
//! `unix` or a stated default denies them: the file mode of the socket protects it already.
//!
//! A lookup costs one hash for each *different mask* of a list, however many rules the list has.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};
use pen_records::addr::{ClientAddr, parse_ip};

use crate::config::countries::{Country, CountryDatabase};

/// The verdict of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AclVerdict {
    /// The client may connect.
    Permit,
    /// The client may not connect.
    Deny,
}

impl AclVerdict {
    /// Parses `permit` or `deny`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "permit" => Some(Self::Permit),
            "deny" => Some(Self::Deny),
            _ => None,
        }
    }

    fn opposite(self) -> Self {
        match self {
            Self::Permit => Self::Deny,
            Self::Deny => Self::Permit,
        }
    }
}

impl fmt::Display for AclVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permit => "permit",
            Self::Deny => "deny",
        })
    }
}

/// The clients that a rule matches. [`ClientMatcher::parse`] clears the address bits outside of the mask, so that
/// `10.1.2.3 255.0.0.0` means the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientMatcher {
    /// IPv4 addresses that equal the first address under the mask, the second. The mask may have gaps.
    V4(Ipv4Addr, Ipv4Addr),
    /// IPv6 addresses of a network.
    V6(Ipv6Net),
    /// Clients of a Unix-domain socket.
    Unix,
    /// Addresses of a country, according to the country database.
    Country(Country),
}

impl ClientMatcher {
    /// Parses the words of a rule after its verdict: `ADDR`, `ADDR/BITS`, `ADDR MASK`, `country CC` or `unix`.
    ///
    /// # Errors
    /// The words are none of these.
    pub fn parse(words: &[&str]) -> Result<Self, AclError> {
        match words {
            ["unix"] => Ok(Self::Unix),
            ["country", code] => Country::parse(code).map(Self::Country).ok_or(AclError::Country),
            [net] => Self::network(net),
            [addr, mask] => {
                let (Ok(addr), Ok(mask)) = (addr.parse(), mask.parse()) else {
                    return Err(AclError::Client);
                };
                Ok(Self::v4(addr, mask))
            }
            _ => Err(AclError::Client),
        }
    }

    fn network(text: &str) -> Result<Self, AclError> {
        let (addr, bits) = match text.split_once('/') {
            Some((addr, bits)) => (addr, Some(bits.parse::<u8>().map_err(|_| AclError::Bits)?)),
            None => (text, None),
        };
        // The family is the family as typed: `::ffff:10.0.0.0/104` counts its bits as IPv6 does.
        if addr.contains(':') {
            let addr: Ipv6Addr = addr.parse().map_err(|_| AclError::Client)?;
            let net = Ipv6Net::new(addr, bits.unwrap_or(128)).map_err(|_| AclError::Bits)?;
            return Ok(Self::v6(net));
        }
        let Some(IpAddr::V4(addr)) = parse_ip(addr.as_bytes()) else {
            return Err(AclError::Client);
        };
        let net = Ipv4Net::new(addr, bits.unwrap_or(32)).map_err(|_| AclError::Bits)?;
        Ok(Self::v4(addr, net.netmask()))
    }

    fn v4(addr: Ipv4Addr, mask: Ipv4Addr) -> Self {
        Self::V4(addr & mask, mask)
    }

    /// IPv4 mapped into IPv6 is IPv4.
    fn v6(net: Ipv6Net) -> Self {
        let v4 = net.addr().to_ipv4_mapped().zip(net.prefix_len().checked_sub(96));
        match v4.and_then(|(addr, bits)| Ipv4Net::new(addr, bits).ok()) {
            Some(v4) => Self::v4(v4.addr(), v4.netmask()),
            None => Self::V6(net.trunc()),
        }
    }

    /// Returns whether `client`, an address of `country`, matches.
    #[must_use]
    pub fn matches(self, client: ClientAddr, country: Option<Country>) -> bool {
        match (self, client) {
            (Self::Country(one), _) => country == Some(one),
            (Self::Unix, ClientAddr::Unix) => true,
            (Self::V4(net, mask), ClientAddr::Ip(IpAddr::V4(addr))) => addr & mask == net,
            (Self::V6(net), ClientAddr::Ip(IpAddr::V6(addr))) => net.contains(&addr),
            _ => false,
        }
    }
}

impl fmt::Display for ClientMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(addr, mask) => match ipnet::ipv4_mask_to_prefix(*mask) {
                Ok(32) => write!(f, "{addr}"),
                Ok(bits) => write!(f, "{addr}/{bits}"),
                Err(_) => write!(f, "{addr} {mask}"),
            },
            Self::V6(net) if net.prefix_len() == 128 => write!(f, "{}", net.addr()),
            Self::V6(net) => write!(f, "{net}"),
            Self::Unix => f.write_str("unix"),
            Self::Country(country) => write!(f, "country {country}"),
        }
    }
}

/// A rule of an access list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AclRule {
    /// Whether these clients may connect.
    pub verdict: AclVerdict,
    /// The clients that the rule matches.
    pub matcher: ClientMatcher,
}

impl fmt::Display for AclRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verdict, self.matcher)
    }
}

/// An ordered list of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessList {
    rules: Vec<AclRule>,
    /// The stated default; `None` for the opposite of the last rule.
    default: Option<AclVerdict>,
    index: RuleIndex,
}

impl AccessList {
    /// Appends a rule.
    pub fn push(&mut self, rule: AclRule) {
        self.index.add(self.rules.len(), rule.matcher);
        self.rules.push(rule);
    }

    /// Removes all rules equal to `rule`. Returns whether the list had such a rule.
    pub fn remove(&mut self, rule: AclRule) -> bool {
        let before = self.rules.len();
        self.rules.retain(|&one| one != rule);
        self.index = RuleIndex::default();
        self.rules.iter().enumerate().for_each(|(at, rule)| self.index.add(at, rule.matcher));
        self.rules.len() < before
    }

    /// Sets the verdict for clients that match no rule; `None` for the opposite of the last rule.
    pub fn set_default(&mut self, verdict: Option<AclVerdict>) {
        self.default = verdict;
    }

    /// Returns the stated default.
    #[must_use]
    pub fn stated_default(&self) -> Option<AclVerdict> {
        self.default
    }

    /// Returns the rules in their order.
    #[must_use]
    pub fn rules(&self) -> &[AclRule] {
        &self.rules
    }

    /// Returns the verdict for an address that matches no rule.
    #[must_use]
    pub fn default_verdict(&self) -> AclVerdict {
        let last = self.rules.last().map(|rule| rule.verdict.opposite());
        self.default.or(last).unwrap_or(AclVerdict::Permit)
    }

    /// Returns the verdict for `client`. `country` is called only if the list has rules for countries.
    #[must_use]
    pub fn judge(
        &self,
        client: ClientAddr,
        country: impl FnOnce() -> Option<Country>,
    ) -> AclVerdict {
        match self.index.first(client, country) {
            Some(at) => self.rules[at].verdict,
            None => self.otherwise(client),
        }
    }

    /// Returns whether the list has rules for countries.
    #[must_use]
    pub fn has_countries(&self) -> bool {
        !self.index.countries.is_empty()
    }

    fn otherwise(&self, client: ClientAddr) -> AclVerdict {
        match client {
            ClientAddr::Unix => self.default.unwrap_or(AclVerdict::Permit),
            ClientAddr::Ip(_) => self.default_verdict(),
        }
    }
}

/// The access lists by their numbers. A list that was never mentioned is empty and permits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acls {
    lists: BTreeMap<u8, AccessList>,
    /// The database for rules by country.
    pub countries: Option<Arc<CountryDatabase>>,
}

impl Acls {
    /// Returns the list with this number, to change it.
    pub fn list_mut(&mut self, number: u8) -> &mut AccessList {
        self.lists.entry(number).or_default()
    }

    /// Returns the list with this number; `None` for an empty list.
    #[must_use]
    pub fn list(&self, number: u8) -> Option<&AccessList> {
        self.lists.get(&number)
    }

    /// Removes all rules and the stated default of a list.
    pub fn clear(&mut self, number: u8) {
        self.lists.remove(&number);
    }

    /// Drops a list without rules and without a stated default.
    pub fn tidy(&mut self, number: u8) {
        if self.lists.get(&number).is_some_and(|list| *list == AccessList::default()) {
            self.lists.remove(&number);
        }
    }

    /// Returns all lists that are not empty, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &AccessList)> {
        self.lists.iter().map(|(&number, list)| (number, list))
    }

    /// Returns whether the list with this number permits `client`.
    #[must_use]
    pub fn permits(&self, number: u8, client: ClientAddr) -> bool {
        let country = || client.ip().and_then(|ip| self.countries.as_ref()?.of(ip));
        let list = self.lists.get(&number);
        list.is_none_or(|list| list.judge(client, country) == AclVerdict::Permit)
    }
}

/// For each mask the networks under the mask, each with the index of the first rule for this network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RuleIndex {
    v4: Vec<(Ipv4Addr, HashMap<Ipv4Addr, usize>)>,
    v6: Vec<(Ipv6Addr, HashMap<Ipv6Addr, usize>)>,
    unix: Option<usize>,
    countries: HashMap<Country, usize>,
}

impl RuleIndex {
    fn add(&mut self, at: usize, matcher: ClientMatcher) {
        match matcher {
            ClientMatcher::V4(net, mask) => add(&mut self.v4, mask, net, at),
            ClientMatcher::V6(net) => add(&mut self.v6, net.netmask(), net.network(), at),
            ClientMatcher::Unix => self.unix = self.unix.or(Some(at)),
            ClientMatcher::Country(country) => _ = self.countries.entry(country).or_insert(at),
        }
    }

    fn first(
        &self,
        client: ClientAddr,
        country: impl FnOnce() -> Option<Country>,
    ) -> Option<usize> {
        let by_address = self.first_by_address(client);
        if self.countries.is_empty() {
            return by_address;
        }
        let by_country = country().and_then(|country| self.countries.get(&country).copied());
        [by_address, by_country].into_iter().flatten().min()
    }

    fn first_by_address(&self, client: ClientAddr) -> Option<usize> {
        match client {
            ClientAddr::Unix => self.unix,
            ClientAddr::Ip(IpAddr::V4(addr)) => {
                self.v4.iter().filter_map(|(mask, nets)| nets.get(&(addr & *mask)).copied()).min()
            }
            ClientAddr::Ip(IpAddr::V6(addr)) => {
                self.v6.iter().filter_map(|(mask, nets)| nets.get(&(addr & *mask)).copied()).min()
            }
        }
    }
}

fn add<A: Copy + Eq + std::hash::Hash>(
    index: &mut Vec<(A, HashMap<A, usize>)>,
    mask: A,
    net: A,
    at: usize,
) {
    let found = index.iter().position(|(one, _)| *one == mask);
    let place = found.unwrap_or_else(|| {
        index.push((mask, HashMap::new()));
        index.len() - 1
    });
    index[place].1.entry(net).or_insert(at);
}

/// An error in the words of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclError {
    /// Not an address, a network or `unix`.
    Client,
    /// Not a number of bits, or more bits than an address has.
    Bits,
    /// Not a country.
    Country,
}

impl fmt::Display for AclError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => {
                "expected an address, a network (10.0.0.0/8, 10.0.0.0 255.0.0.0, 2001:db8::/32) or unix"
            }
            Self::Bits => "expected at most 32 bits behind an IPv4 and 128 behind an IPv6 address",
            Self::Country => "expected a country's two letters, as in SE",
        })
    }
}

impl std::error::Error for AclError {}
