//! Privacy of clients in the output: addresses cut to their network, or keyed pseudonyms. The join
//! works with the real addresses; only the output changes.
//!
//! A pseudonym is an HMAC-SHA-256 of the address in the form of a unique local IPv6 address (RFC
//! 4193). Every log reader takes it for an address, and no client on the network has such an
//! address: `fd04:…` stands for IPv4, `fd06:…` for IPv6, `fd00:…` for a name. 112 bits of the hash
//! are kept, so that pseudonyms do not collide. An owner of the key can find an IPv4 address by
//! trying all; without the key nobody can.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::addr::{ClientAddr, parse_ip};

/// The fewest bytes of a key.
pub const SHORTEST_KEY: usize = 16;

/// Pseudonyms in the cache, because clients come back.
const KEPT: usize = 1 << 12;

/// The privacy option as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrivacyMode {
    /// Keep this many bits of IPv4 and IPv6 addresses and set the rest to 0.
    Cut {
        /// Bits of IPv4 addresses.
        v4: u8,
        /// Bits of IPv6 addresses.
        v6: u8,
    },
    /// Pseudonyms by the key in this file.
    Key(String),
}

impl FromStr for PrivacyMode {
    type Err = PrivacyModeError;

    /// Parses `cut`, `cut=24,48`, or `key=FILE`.
    fn from_str(text: &str) -> Result<Self, PrivacyModeError> {
        let bits = |text: &str, most: u8| {
            let bits = text.strip_prefix('/').unwrap_or(text);
            bits.parse().ok().filter(|&bits| bits <= most).ok_or(PrivacyModeError)
        };
        match text.split_once('=') {
            None if text == "cut" => Ok(Self::Cut { v4: 24, v6: 48 }),
            Some(("cut", both)) => {
                let (v4, v6) = both.split_once(',').ok_or(PrivacyModeError)?;
                Ok(Self::Cut { v4: bits(v4, 32)?, v6: bits(v6, 128)? })
            }
            Some(("key", path)) if !path.is_empty() => Ok(Self::Key(path.to_owned())),
            _ => Err(PrivacyModeError),
        }
    }
}

/// The option is neither `cut` nor `key=FILE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrivacyModeError;

impl fmt::Display for PrivacyModeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected cut, cut=V4,V6 with the bits that stay as in cut=24,48, or key=FILE")
    }
}

impl std::error::Error for PrivacyModeError {}

/// The key is too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrivacyKeyError;

impl fmt::Display for PrivacyKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "expected a key of at least {SHORTEST_KEY} bytes, as `head -c 32 /dev/urandom | base64` makes one"
        )
    }
}

impl std::error::Error for PrivacyKeyError {}

/// Replaces client addresses in the output.
#[derive(Clone)]
pub struct Privacy(PrivacyMethod);

#[derive(Clone)]
enum PrivacyMethod {
    Cut { v4: u8, v6: u8 },
    Keyed(Box<KeyedPrivacy>),
}

#[derive(Clone)]
struct KeyedPrivacy {
    mac: Hmac<Sha256>,
    kept: Vec<Option<(IpAddr, Ipv6Addr)>>,
}

/// A debug message must not show the key.
impl fmt::Debug for Privacy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            PrivacyMethod::Cut { v4, v6 } => write!(f, "Privacy(cut to {v4}, {v6})"),
            PrivacyMethod::Keyed(_) => f.write_str("Privacy(keyed)"),
        }
    }
}

impl Privacy {
    /// Sets all but the first bits of addresses to 0. More bits than an address has keep the whole
    /// address.
    #[must_use]
    pub const fn cut(v4: u8, v6: u8) -> Self {
        Self(PrivacyMethod::Cut { v4, v6 })
    }

    /// Replaces addresses with pseudonyms by a key; surrounding white space is not part of the key.
    ///
    /// # Errors
    /// The key is shorter than [`SHORTEST_KEY`].
    pub fn keyed(key: &[u8]) -> Result<Self, PrivacyKeyError> {
        let key = key.trim_ascii();
        if key.len() < SHORTEST_KEY {
            return Err(PrivacyKeyError);
        }
        let mac = Hmac::new_from_slice(key).map_err(|_| PrivacyKeyError)?;
        Ok(Self(PrivacyMethod::Keyed(Box::new(KeyedPrivacy { mac, kept: vec![None; KEPT] }))))
    }

    /// Returns the address to write for a client. A client on a Unix-domain socket stays as it is:
    /// it has no address.
    pub fn client(&mut self, client: ClientAddr) -> ClientAddr {
        match client {
            ClientAddr::Ip(ip) => ClientAddr::Ip(self.ip(ip)),
            ClientAddr::Unix => ClientAddr::Unix,
        }
    }

    /// Appends the replacement for a client field that keeps its value, which may be a client's
    /// address. A name becomes a pseudonym as a whole; `-` and text that names no machine stay.
    pub fn write_field(&mut self, field: &[u8], out: &mut Vec<u8>) {
        if let Some(ip) = parse_ip(field) {
            return ClientAddr::Ip(self.ip(ip)).write_to(out);
        }
        if matches!(field, b"-" | b"" | b"unix:") {
            return out.extend_from_slice(field);
        }
        match &self.0 {
            PrivacyMethod::Cut { .. } => out.push(b'-'),
            PrivacyMethod::Keyed(keyed) => {
                ClientAddr::Ip(keyed.hash(0, field).into()).write_to(out);
            }
        }
    }

    fn ip(&mut self, ip: IpAddr) -> IpAddr {
        let ip = ip.to_canonical();
        match &mut self.0 {
            PrivacyMethod::Cut { v4, v6 } => match ip {
                IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & mask_v4(*v4)).into(),
                IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & mask_v6(*v6)).into(),
            },
            PrivacyMethod::Keyed(keyed) => keyed.ip(ip).into(),
        }
    }
}

impl KeyedPrivacy {
    fn ip(&mut self, ip: IpAddr) -> Ipv6Addr {
        let number = match ip {
            IpAddr::V4(ip) => u128::from(ip.to_bits()),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835) >> 116;
        let slot = usize::try_from(mixed).unwrap_or(0) % KEPT;
        if let Some((kept, pseudonym)) = self.kept[slot]
            && kept == ip
        {
            return pseudonym;
        }
        let pseudonym = match ip {
            IpAddr::V4(ip) => self.hash(4, &ip.octets()),
            IpAddr::V6(ip) => self.hash(6, &ip.octets()),
        };
        self.kept[slot] = Some((ip, pseudonym));
        pseudonym
    }

    fn hash(&self, kind: u8, bytes: &[u8]) -> Ipv6Addr {
        let hash =
            self.mac.clone().chain_update([kind]).chain_update(bytes).finalize().into_bytes();
        let mut octets = [0; 16];
        octets.copy_from_slice(&hash[..16]);
        (octets[0], octets[1]) = (0xFD, kind);
        Ipv6Addr::from(octets)
    }
}

fn mask_v4(bits: u8) -> u32 {
    u32::MAX.checked_shl(32_u32.saturating_sub(bits.into())).unwrap_or(0)
}

fn mask_v6(bits: u8) -> u128 {
    u128::MAX.checked_shl(128_u32.saturating_sub(bits.into())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &[u8] = b"0123456789abcdef";

    fn field(privacy: &mut Privacy, text: &str) -> String {
        let mut out = Vec::new();
        privacy.write_field(text.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn addresses_are_cut_to_their_network() {
        for (v4, v6, text, expected) in [
            (24, 48, "192.0.2.77", "192.0.2.0"),
            (16, 48, "192.0.2.77", "192.0.0.0"),
            (32, 128, "192.0.2.77", "192.0.2.77"),
            (0, 0, "192.0.2.77", "0.0.0.0"),
            (24, 48, "2001:db8:1:2:3::9", "2001:db8:1::"),
            (24, 32, "2001:db8:1:2:3::9", "2001:db8::"),
            (24, 0, "2001:db8::9", "::"),
            (24, 128, "2001:db8::9", "2001:db8::9"),
            (24, 48, "::ffff:192.0.2.77", "192.0.2.0"),
            (24, 48, "[2001:db8:1:2::9]", "2001:db8:1::"),
            (24, 48, "unix:", "unix:"),
            (24, 48, "-", "-"),
            (24, 48, "dsl-77.example.net", "-"),
        ] {
            assert_eq!(field(&mut Privacy::cut(v4, v6), text), expected, "{text} /{v4} /{v6}");
        }
    }

    #[test]
    fn a_pseudonym_is_an_address_that_depends_on_client_and_key() {
        let mut one = Privacy::keyed(KEY).unwrap();
        let mut other = Privacy::keyed(b"another key of some length").unwrap();
        let first = field(&mut one, "192.0.2.77");
        // HMAC-SHA-256 of 04 C0 00 02 4D, computed by another implementation.
        assert_eq!(first, "fd04:5c74:37c6:7906:1b59:a51e:c7f9:ee75");
        assert_eq!(field(&mut one, "::ffff:192.0.2.77"), first);
        assert_eq!(field(&mut Privacy::keyed(b"0123456789abcdef\n").unwrap(), "192.0.2.77"), first);
        assert_ne!(field(&mut other, "192.0.2.77"), first);
        assert_ne!(field(&mut one, "192.0.2.78"), first);
        assert!(field(&mut one, "2001:db8::1").starts_with("fd06:"));
        assert!(field(&mut one, "dsl.example.net").starts_with("fd00:"));
        assert_eq!(field(&mut one, "unix:"), "unix:");
        assert_eq!(one.client(ClientAddr::Unix), ClientAddr::Unix);
        assert!(!format!("{one:?}").contains("0123"));
        assert!(Privacy::keyed(b" short   \n").is_err());
    }

    #[test]
    fn what_is_asked_for_is_understood_or_refused() {
        for (text, expected) in [
            ("cut", Ok(PrivacyMode::Cut { v4: 24, v6: 48 })),
            ("cut=16,32", Ok(PrivacyMode::Cut { v4: 16, v6: 32 })),
            ("cut=/16,/32", Ok(PrivacyMode::Cut { v4: 16, v6: 32 })),
            ("key=/etc/pen/key", Ok(PrivacyMode::Key("/etc/pen/key".into()))),
            ("cut=33,48", Err(PrivacyModeError)),
            ("cut=24", Err(PrivacyModeError)),
            ("cut=24,129", Err(PrivacyModeError)),
            ("key=", Err(PrivacyModeError)),
            ("hash", Err(PrivacyModeError)),
            ("", Err(PrivacyModeError)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn visitors_stay_apart_and_come_again(addrs in proptest::collection::vec(any::<u32>(), 1..200)) {
            let mut privacy = Privacy::keyed(KEY).unwrap();
            let of = |privacy: &mut Privacy, bits| privacy.client(ClientAddr::Ip(Ipv4Addr::from_bits(bits).into()));
            let first: Vec<_> = addrs.iter().map(|&bits| of(&mut privacy, bits)).collect();
            for (a, x) in addrs.iter().zip(&first) {
                prop_assert_eq!(of(&mut privacy, *a), *x);
                for (b, y) in addrs.iter().zip(&first) {
                    prop_assert_eq!(a == b, x == y);
                }
            }
        }
    }
}
