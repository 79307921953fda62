//! Who may connect: numbered lists of rules, for clients, for the control port and for servers.
//!
//! The first rule that fits decides. If none does, the list's own default decides, and a list that
//! states none does the opposite of its last rule, as pen always did: `deny 10.0.0.1` alone permits
//! everybody else. An empty list permits. Clients on a Unix-domain socket are permitted unless a
//! rule for `unix` or a stated default says otherwise: the socket's file mode guards it already.
//!
//! A lookup costs one hash for each *different mask* of a list, however many rules there are.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use pen_records::addr::{ClientAddr, parse_ip};

use crate::config::countries::{Country, CountryDatabase};

/// What a rule says of those it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AclVerdict {
    /// May connect.
    Permit,
    /// May not.
    Deny,
}

impl AclVerdict {
    /// Reads `permit` or `deny`.
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

/// Whom a rule fits. Bits outside of a mask are zero: [`ClientMatcher::parse`] sees to it, so that
/// `10.1.2.3 255.0.0.0` means the network and not nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientMatcher {
    /// IPv4 addresses that equal the first under the second, the mask.
    V4(Ipv4Addr, Ipv4Addr),
    /// IPv6 addresses whose first bits, so many, are those of this one.
    V6(Ipv6Addr, u8),
    /// Clients of a Unix-domain socket.
    Unix,
    /// Addresses of a country, where a database tells.
    Country(Country),
}

impl ClientMatcher {
    /// Reads the words of a rule behind its verdict: `ADDR`, `ADDR/BITS`, `ADDR MASK`, `country
    /// CC` or `unix`.
    ///
    /// # Errors
    /// Says what was expected.
    pub fn parse(words: &[&str]) -> Result<Self, AclError> {
        match words {
            ["unix"] => Ok(Self::Unix),
            ["country", code] => Country::parse(code).map(Self::Country).ok_or(AclError::Country),
            [net] => Self::net(net),
            [addr, mask] => {
                let (Ok(addr), Ok(mask)) = (addr.parse(), mask.parse()) else {
                    return Err(AclError::Who);
                };
                Ok(Self::v4(addr, mask))
            }
            _ => Err(AclError::Who),
        }
    }

    fn net(text: &str) -> Result<Self, AclError> {
        let (addr, bits) = match text.split_once('/') {
            Some((addr, bits)) => (addr, Some(bits.parse::<u8>().map_err(|_| AclError::Bits)?)),
            None => (text, None),
        };
        // The family is that of the spelling: `::ffff:10.0.0.0/104` counts its bits as IPv6 does.
        if addr.contains(':') {
            let addr: Ipv6Addr = addr.parse().map_err(|_| AclError::Who)?;
            return Self::v6(addr, bits.unwrap_or(128));
        }
        let Some(IpAddr::V4(addr)) = parse_ip(addr.as_bytes()) else { return Err(AclError::Who) };
        Ok(Self::v4(addr, v4_mask(bits.unwrap_or(32))?))
    }

    fn v4(addr: Ipv4Addr, mask: Ipv4Addr) -> Self {
        Self::V4(addr & mask, mask)
    }

    /// IPv4 mapped into IPv6 is IPv4, wherever it comes from.
    fn v6(addr: Ipv6Addr, bits: u8) -> Result<Self, AclError> {
        let mask = v6_mask(bits)?;
        match addr.to_ipv4_mapped() {
            Some(v4) if bits >= 96 => Ok(Self::v4(v4, v4_mask(bits - 96)?)),
            _ => Ok(Self::V6(addr & mask, bits)),
        }
    }

    /// Whether it is `client` that is meant, who is of this country.
    #[must_use]
    pub fn fits(self, client: ClientAddr, country: Option<Country>) -> bool {
        match (self, client) {
            (Self::Country(one), _) => country == Some(one),
            (Self::Unix, ClientAddr::Unix) => true,
            (Self::V4(net, mask), ClientAddr::Ip(IpAddr::V4(addr))) => addr & mask == net,
            (Self::V6(net, bits), ClientAddr::Ip(IpAddr::V6(addr))) => {
                v6_mask(bits).is_ok_and(|mask| addr & mask == net)
            }
            _ => false,
        }
    }
}

fn v4_mask(bits: u8) -> Result<Ipv4Addr, AclError> {
    let zeros = 32_u32.checked_sub(bits.into()).ok_or(AclError::Bits)?;
    Ok(Ipv4Addr::from_bits(u32::MAX.checked_shl(zeros).unwrap_or(0)))
}

fn v6_mask(bits: u8) -> Result<Ipv6Addr, AclError> {
    let zeros = 128_u32.checked_sub(bits.into()).ok_or(AclError::Bits)?;
    Ok(Ipv6Addr::from_bits(u128::MAX.checked_shl(zeros).unwrap_or(0)))
}

impl fmt::Display for ClientMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(addr, Ipv4Addr::BROADCAST) => write!(f, "{addr}"),
            Self::V4(addr, mask) => {
                let bits = mask.to_bits().leading_ones();
                if mask.to_bits().count_ones() == bits {
                    write!(f, "{addr}/{bits}")
                } else {
                    write!(f, "{addr} {mask}")
                }
            }
            Self::V6(addr, 128) => write!(f, "{addr}"),
            Self::V6(addr, bits) => write!(f, "{addr}/{bits}"),
            Self::Unix => f.write_str("unix"),
            Self::Country(country) => write!(f, "country {country}"),
        }
    }
}

/// One entry of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AclRule {
    /// What happens to them.
    pub verdict: AclVerdict,
    /// To whom.
    pub who: ClientMatcher,
}

impl fmt::Display for AclRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verdict, self.who)
    }
}

/// An ordered list of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessList {
    rules: Vec<AclRule>,
    /// As stated; `None` for the opposite of the last rule.
    default: Option<AclVerdict>,
    index: RuleIndex,
}

impl AccessList {
    /// Adds a rule behind the others.
    pub fn push(&mut self, rule: AclRule) {
        self.index.add(self.rules.len(), rule.who);
        self.rules.push(rule);
    }

    /// Takes out all rules equal to this one; whether there was any.
    pub fn remove(&mut self, rule: AclRule) -> bool {
        let before = self.rules.len();
        self.rules.retain(|&one| one != rule);
        self.index = RuleIndex::default();
        self.rules.iter().enumerate().for_each(|(at, rule)| self.index.add(at, rule.who));
        self.rules.len() < before
    }

    /// States what happens to those that no rule fits; `None` for the opposite of the last rule.
    pub fn set_default(&mut self, verdict: Option<AclVerdict>) {
        self.default = verdict;
    }

    /// The stated default.
    #[must_use]
    pub fn stated_default(&self) -> Option<AclVerdict> {
        self.default
    }

    /// The rules in their order.
    #[must_use]
    pub fn rules(&self) -> &[AclRule] {
        &self.rules
    }

    /// What happens to an address that no rule fits.
    #[must_use]
    pub fn default_verdict(&self) -> AclVerdict {
        let last = self.rules.last().map(|rule| rule.verdict.opposite());
        self.default.or(last).unwrap_or(AclVerdict::Permit)
    }

    /// What happens to `client`, whose country `country` finds out if that matters.
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

    /// Whether any rule is of a country.
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

/// The lists, each by its number; those that were never mentioned are empty and permit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acls {
    lists: BTreeMap<u8, AccessList>,
    /// What tells where clients are.
    pub countries: Option<Arc<CountryDatabase>>,
}

impl Acls {
    /// The list of this number, for changing it.
    pub fn list_mut(&mut self, number: u8) -> &mut AccessList {
        self.lists.entry(number).or_default()
    }

    /// The list of this number, if it holds anything.
    #[must_use]
    pub fn list(&self, number: u8) -> Option<&AccessList> {
        self.lists.get(&number)
    }

    /// Empties a list.
    pub fn clear(&mut self, number: u8) {
        self.lists.remove(&number);
    }

    /// Forgets a list that holds nothing.
    pub fn tidy(&mut self, number: u8) {
        if self.lists.get(&number).is_some_and(|list| *list == AccessList::default()) {
            self.lists.remove(&number);
        }
    }

    /// All lists that hold anything, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &AccessList)> {
        self.lists.iter().map(|(&number, list)| (number, list))
    }

    /// Whether the list of this number lets `client` connect.
    #[must_use]
    pub fn permits(&self, number: u8, client: ClientAddr) -> bool {
        let country = || client.ip().and_then(|ip| self.countries.as_ref()?.of(ip));
        let list = self.lists.get(&number);
        list.is_none_or(|list| list.judge(client, country) == AclVerdict::Permit)
    }
}

/// For each mask the networks under it, each with the number of the first rule that has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RuleIndex {
    v4: Vec<(Ipv4Addr, HashMap<Ipv4Addr, usize>)>,
    v6: Vec<(Ipv6Addr, HashMap<Ipv6Addr, usize>)>,
    unix: Option<usize>,
    countries: HashMap<Country, usize>,
}

impl RuleIndex {
    fn add(&mut self, at: usize, who: ClientMatcher) {
        match who {
            ClientMatcher::V4(net, mask) => add(&mut self.v4, mask, net, at),
            // A rule holds no other number of bits than those that have a mask.
            ClientMatcher::V6(net, bits) => {
                add(&mut self.v6, v6_mask(bits).unwrap_or(net), net, at);
            }
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

/// Words that are no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclError {
    /// No address, network or `unix`.
    Who,
    /// More bits than an address has, or no number.
    Bits,
    /// No country.
    Country,
}

impl fmt::Display for AclError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Who => {
                "expected an address, a network (10.0.0.0/8, 10.0.0.0 255.0.0.0, 2001:db8::/32) or unix"
            }
            Self::Bits => "expected at most 32 bits behind an IPv4 and 128 behind an IPv6 address",
            Self::Country => "expected a country's two letters, as in SE",
        })
    }
}

impl std::error::Error for AclError {}
