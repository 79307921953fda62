//! Canonical addresses of clients and servers, as two types so that the compiler tells them apart.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::scan::{STEP, digits, equal};

/// The longest path of a Unix-domain socket that a mapping may name, in bytes. Linux allows 108
/// (`sun_path` in unix(7)), other systems up to 255.
pub(crate) const LONGEST_PATH: usize = 255;

/// The address of a client of the balancer. An IPv4 address mapped into IPv6 is stored as IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientAddr {
    /// A client on the network.
    Ip(IpAddr),
    /// A client on a Unix-domain socket of the balancer; such clients have no address to tell them
    /// apart.
    Unix,
}

impl ClientAddr {
    /// Parses an address as logs write it: IPv4, IPv6 with or without brackets, or `unix:`. Returns
    /// `None` for any other text; names are never resolved.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text == b"unix:" {
            return Some(Self::Unix);
        }
        parse_ip(text).map(Self::Ip)
    }

    /// Returns the IP address; `None` for a Unix-domain socket.
    #[must_use]
    pub const fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(ip),
            Self::Unix => None,
        }
    }

    /// Appends the address as a log line writes it.
    #[inline]
    pub fn write_to(self, out: &mut Vec<u8>) {
        match self {
            Self::Ip(IpAddr::V4(ip)) => write_v4(ip, out),
            Self::Ip(IpAddr::V6(ip)) => write_v6(ip, out),
            Self::Unix => out.extend_from_slice(b"unix:"),
        }
    }
}

impl From<IpAddr> for ClientAddr {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip.to_canonical())
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Unix => f.write_str("unix:"),
        }
    }
}

/// The address of a server: a machine to which the balancer forwards and which sends access lines.
/// The port, where known, is stored separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerAddr<'a> {
    /// A server on the network.
    Ip(IpAddr),
    /// The path of a Unix-domain socket.
    Unix(&'a [u8]),
}

impl<'a> ServerAddr<'a> {
    /// Parses an address as classic records write it: IPv4, IPv6 with or without brackets, or a
    /// path that contains `/`. Returns `None` for any other text.
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        if let Some(ip) = parse_ip(text) {
            return Some(Self::Ip(ip));
        }
        (text.contains(&b'/') && !text.iter().any(u8::is_ascii_whitespace))
            .then_some(Self::Unix(text))
    }
}

impl From<IpAddr> for ServerAddr<'_> {
    fn from(ip: IpAddr) -> Self {
        Self::Ip(ip.to_canonical())
    }
}

impl fmt::Display for ServerAddr<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Unix(path) => path.escape_ascii().fmt(f),
        }
    }
}

/// Parses an IPv4 or IPv6 address. IPv6 may be in brackets; mapped IPv4 becomes IPv4.
#[must_use]
pub fn parse_ip(text: &[u8]) -> Option<IpAddr> {
    if let Some(ip) = parse_v4(text) {
        return Some(IpAddr::V4(ip));
    }
    if !text.contains(&b':') {
        return None;
    }
    let bare = text.strip_prefix(b"[").and_then(|t| t.strip_suffix(b"]")).unwrap_or(text);
    let ip: Ipv6Addr = std::str::from_utf8(bare).ok()?.parse().ok()?;
    Some(IpAddr::V6(ip).to_canonical())
}

/// Parses an IPv4 address and the space behind it at the start of `text`; returns the address and
/// its length without the space. Returns `None` for any other text, and possibly near the end of
/// the text: the caller then falls back to [`parse_ip`].
///
/// The code has no branch on a byte of the address, because the length of an octet cannot be
/// predicted.
#[inline(always)]
pub(crate) fn v4_word(text: &[u8]) -> Option<(Ipv4Addr, usize)> {
    let chunk: &[u8; STEP] = text.first_chunk()?;
    let len = equal(chunk, b' ').trailing_zeros();
    let word = 1_u32.checked_shl(len)? - 1;
    let dots = equal(chunk, b'.') & word;
    let behind_first = dots & dots.wrapping_sub(1);
    let last = behind_first & behind_first.wrapping_sub(1);
    let is_three = last != 0 && last & (last - 1) == 0;
    if !is_three || digits(chunk) & word != dots ^ word {
        return None;
    }
    let first = dots.trailing_zeros();
    let second = behind_first.trailing_zeros();
    let third = last.trailing_zeros();
    let a = octet(chunk, 0, first)?;
    let b = octet(chunk, first + 1, second)?;
    let c = octet(chunk, second + 1, third)?;
    let d = octet(chunk, third + 1, len)?;
    Some((Ipv4Addr::new(a, b, c, d), len as usize))
}

/// The weights of one to three digits, and the sum of the ASCII codes of as many weighted zeros.
const WORTH: [([u32; 3], u32); 4] = [
    ([0, 0, 0], 256),
    ([1, 0, 0], b'0' as u32),
    ([10, 1, 0], 11 * b'0' as u32),
    ([100, 10, 1], 111 * b'0' as u32),
];

/// The octet in the digits `from..to`; `None` if they are more than three or above 255.
#[inline(always)]
fn octet(chunk: &[u8; STEP], from: u32, to: u32) -> Option<u8> {
    let (worth, zeros) = WORTH.get(to.wrapping_sub(from) as usize)?;
    let digit = |index: u32| u32::from(chunk[(from + index) as usize % STEP]);
    let sum = digit(0) * worth[0] + digit(1) * worth[1] + digit(2) * worth[2];
    u8::try_from(sum.wrapping_sub(*zeros)).ok()
}

/// Parses four decimal octets; by hand, because every record has two addresses.
fn parse_v4(text: &[u8]) -> Option<Ipv4Addr> {
    if text.len() < 7 || text.len() > 15 {
        return None;
    }
    let (mut octets, mut index, mut value, mut digits) = ([0_u8; 4], 0, 0_u16, 0);
    for &byte in text {
        match byte {
            b'0'..=b'9' if digits < 3 => {
                value = value * 10 + u16::from(byte - b'0');
                digits += 1;
            }
            b'.' if digits > 0 && index < 3 => {
                octets[index] = u8::try_from(value).ok()?;
                (index, value, digits) = (index + 1, 0, 0);
            }
            _ => return None,
        }
    }
    if index != 3 || digits == 0 {
        return None;
    }
    octets[3] = u8::try_from(value).ok()?;
    Some(Ipv4Addr::from(octets))
}

/// The decimal digits of each octet with a dot behind, and their length.
static OCTETS: [([u8; 4], u8); 256] = octets();

#[expect(clippy::cast_possible_truncation, reason = "counts to 255")]
const fn octets() -> [([u8; 4], u8); 256] {
    let mut octets = [([0; 4], 0); 256];
    let mut octet = 0;
    while octet < 256 {
        let digits =
            [b'0' + (octet / 100) as u8, b'0' + (octet / 10 % 10) as u8, b'0' + (octet % 10) as u8];
        octets[octet] = match octet {
            0..10 => ([digits[2], b'.', 0, 0], 2),
            10..100 => ([digits[1], digits[2], b'.', 0], 3),
            _ => ([digits[0], digits[1], digits[2], b'.'], 4),
        };
        octet += 1;
    }
    octets
}

/// Appends bytes of fixed number and takes back those that are too many, because every written line has an address.
#[inline]
fn write_v4(ip: Ipv4Addr, out: &mut Vec<u8>) {
    let mut text = [0; 16];
    let mut len = 0;
    for octet in ip.octets() {
        let (digits, count) = OCTETS[usize::from(octet)];
        text[len..len + 4].copy_from_slice(&digits);
        len += usize::from(count);
    }
    let end = out.len() + len - 1;
    out.extend_from_slice(&text);
    out.truncate(end);
}

#[cold]
fn write_v6(ip: Ipv6Addr, out: &mut Vec<u8>) {
    use std::io::Write as _;
    write!(out, "{ip}").expect("writing to a Vec does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_and_write_back_canonically() {
        for (text, canonical) in [
            ("127.0.0.1", "127.0.0.1"),
            ("203.0.113.255", "203.0.113.255"),
            ("10.20.30.40", "10.20.30.40"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:0db8:85a3:0000:0000:8a2e:0370:7334", "2001:db8:85a3::8a2e:370:7334"),
            ("unix:", "unix:"),
        ] {
            let addr = ClientAddr::parse(text.as_bytes()).expect(text);
            let mut out = Vec::new();
            addr.write_to(&mut out);
            assert_eq!(String::from_utf8_lossy(&out), canonical, "{text}");
            assert_eq!(addr.to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn every_octet_is_written_as_the_standard_library_does() {
        for octet in 0..=255 {
            let ip = Ipv4Addr::from([octet, 255 - octet, octet, octet / 7]);
            let mut out = Vec::new();
            write_v4(ip, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), ip.to_string());
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "1.2.3", "1.2.3.4.5", "1.2.3.256", "1..2.3", "1.2.3.", "localhost", "a:b"]
        {
            assert_eq!(ClientAddr::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_word_is_read_as_an_address_is() {
        let octets =
            ["0", "7", "10", "99", "100", "192", "255", "256", "999", "1000", "", "a", "01"];
        let mut read = 0;
        for a in octets {
            for b in octets {
                for c in octets {
                    for end in ["1", "300", "12", "", "255", "255.", "x"] {
                        let word = format!("{a}.{b}.{c}.{end}");
                        let text = format!("{word} 10.0.0.1 and more");
                        let expected = parse_v4(word.as_bytes()).map(|ip| (ip, word.len()));
                        assert_eq!(v4_word(text.as_bytes()), expected, "{text}");
                        read += u32::from(expected.is_some());
                    }
                }
            }
        }
        assert!(read > 1_000);
        for text in
            ["", " ", "1.2.3.4 ", "1.2.3.4", "1 2.3.4.5 and more behind", "192.168.100.200x"]
        {
            assert_eq!(v4_word(text.as_bytes()), None, "{text}");
        }
        assert!(v4_word(b"192.168.100.200 ").is_some());
    }

    #[test]
    fn a_server_may_be_a_path() {
        assert_eq!(ServerAddr::parse(b"/run/app"), Some(ServerAddr::Unix(b"/run/app")));
        assert_eq!(ServerAddr::parse(b"name"), None);
        assert_eq!(
            ServerAddr::parse(b"127.0.0.2").map(|s| s.to_string()),
            Some("127.0.0.2".into())
        );
    }
}
