//! The header of the PROXY protocol, with which a load balancer in front of pen names the client of
//! a connection. Specified by HAProxy's `proxy-protocol.txt`.
//!
//! ```text
//! version 1   PROXY TCP4|TCP6 SP client SP to SP client's port SP port CR LF      at most 107 bytes
//!             PROXY UNKNOWN anything CR LF
//! version 2   CR LF CR LF NUL CR LF "QUIT" LF
//!             version and command, family and protocol, length (2)                16 bytes
//!             addresses: 12, 36 or 216 bytes; then fields of type (1), length (2), value
//! ```
//!
//! A header may come in any number of pieces. It contains its own length, so that no byte behind it
//! has to be read.

mod checksum;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::ProxyVersion;

/// Length limit of a header in bytes. The protocol allows longer fields behind the addresses; no field in use comes near this.
pub const MAX: usize = 4_096;
/// Length limit of a version 1 header in bytes.
const MAX_LINE: usize = 107;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Length of signature, command, family and length.
const FIXED: usize = 16;
/// Type of the checksum field.
const CRC32C: u8 = 3;

/// Content of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The connection is forwarded for a client.
    Forwarded {
        /// The client's address.
        client: SocketAddr,
        /// The address that the client connected to.
        to: SocketAddr,
    },
    /// The connection is the proxy's own, or the client is unknown: the socket's addresses hold.
    Own,
}

/// Reason why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// They begin like neither version.
    Start,
    /// The line has no addresses of its family.
    Line,
    /// Unknown version, or unknown command.
    Version,
    /// Unknown family or protocol.
    Family,
    /// Too few bytes for addresses or fields.
    Short,
    /// Longer than [`MAX`], or than version 1 allows.
    Long,
    /// The checksum is wrong.
    Checksum,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "no PROXY header at the beginning",
            Self::Line => "expected PROXY TCP4, TCP6 or UNKNOWN, two addresses and two ports",
            Self::Version => "expected version 2 and the command LOCAL or PROXY",
            Self::Family => "expected a family from 0 to 3 and a protocol from 0 to 2",
            Self::Short => "it is too short for its addresses or fields",
            Self::Long => "it is too long",
            Self::Checksum => "its checksum does not fit",
        })
    }
}

impl std::error::Error for HeaderError {}

type ParsedHeader = Result<Option<(Header, usize)>, HeaderError>;

impl Header {
    /// Parses the header at the start of `bytes` and returns its length; `None` if it is incomplete.
    ///
    /// # Errors
    /// The bytes are no header, whatever follows. Any input is safe.
    pub fn parse(bytes: &[u8]) -> ParsedHeader {
        let is_like = |start: &[u8]| bytes.iter().zip(start).all(|(byte, start)| byte == start);
        if is_like(b"PROXY ") {
            line(bytes)
        } else if is_like(SIGNATURE) {
            binary(bytes)
        } else {
            Err(HeaderError::Start)
        }
    }

    /// Writes a header.
    pub fn write(&self, version: ProxyVersion, out: &mut Vec<u8>) {
        let ends = match *self {
            Self::Forwarded { client, to } => Some(one_family(client, to)),
            Self::Own => None,
        };
        match version {
            ProxyVersion::V1 => write_line(ends, out),
            ProxyVersion::V2 => write_binary(ends, out),
        }
    }
}

/// The local address may be of another family if a proxy in between is.
fn one_family(client: SocketAddr, to: SocketAddr) -> (SocketAddr, SocketAddr) {
    let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
    let six = |addr: SocketAddr| match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
        IpAddr::V6(_) => addr,
    };
    let (client, to) = (canonical(client), canonical(to));
    if client.is_ipv4() == to.is_ipv4() { (client, to) } else { (six(client), six(to)) }
}

fn line(bytes: &[u8]) -> ParsedHeader {
    let Some(end) = memchr::memchr(b'\n', bytes).map(|at| at + 1) else {
        return if bytes.len() < MAX_LINE { Ok(None) } else { Err(HeaderError::Long) };
    };
    if end > MAX_LINE {
        return Err(HeaderError::Long);
    }
    let text = bytes[..end].strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok());
    let header = text.and_then(line_header).ok_or(HeaderError::Line)?;
    Ok(Some((header, end)))
}

fn line_header(text: &str) -> Option<Header> {
    let mut words = text.strip_prefix("PROXY ")?.split(' ');
    let is_family: fn(&IpAddr) -> bool = match words.next()? {
        "TCP4" => IpAddr::is_ipv4,
        "TCP6" => IpAddr::is_ipv6,
        "UNKNOWN" => return Some(Header::Own),
        _ => return None,
    };
    let mut ip = || words.next()?.parse().ok().filter(is_family);
    let ips: [IpAddr; 2] = [ip()?, ip()?];
    let mut port = || {
        let word = words.next()?;
        // Rust accepts a sign and leading zeros, the protocol does not.
        let is_plain = word == "0" || !word.starts_with(['0', '+']);
        word.parse().ok().filter(|_| is_plain)
    };
    let ports: [u16; 2] = [port()?, port()?];
    let [client, to] = [0, 1].map(|at| SocketAddr::new(ips[at].to_canonical(), ports[at]));
    words.next().is_none().then_some(Header::Forwarded { client, to })
}

fn binary(bytes: &[u8]) -> ParsedHeader {
    let local = match bytes.get(12) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(HeaderError::Version),
    };
    let Some(&[family, high, low]) = bytes.get(13..FIXED) else { return Ok(None) };
    let addresses = match (family >> 4, family & 15) {
        (_, 3..) | (4.., _) => return Err(HeaderError::Family),
        (0, _) => 0,
        (1, _) => 12,
        (2, _) => 36,
        (_, _) => 216,
    };
    let len = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if len > MAX {
        return Err(HeaderError::Long);
    }
    // The addresses of a LOCAL header are skipped, whatever their family.
    if !local && len < FIXED + addresses {
        return Err(HeaderError::Short);
    }
    let Some(whole) = bytes.get(..len) else { return Ok(None) };
    // Without addresses the start of the fields is undefined.
    if !local && addresses > 0 {
        fields(whole, FIXED + addresses)?;
    }
    let header = match family {
        _ if local => Header::Own,
        0x11 => forwarded(&whole[FIXED..], |bytes| Ipv4Addr::from(*bytes).into()),
        0x21 => forwarded(&whole[FIXED..], |bytes| Ipv6Addr::from(*bytes).into()),
        _ => Header::Own,
    };
    Ok(Some((header, len)))
}

/// Two addresses, then two ports.
fn forwarded<const N: usize>(bytes: &[u8], ip: fn(&[u8; N]) -> IpAddr) -> Header {
    let ip = |at| bytes[at..].first_chunk().map(ip).expect("the length was looked at");
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let addr = |at, port| SocketAddr::new(IpAddr::to_canonical(&ip(at)), port);
    Header::Forwarded { client: addr(0, port(2 * N)), to: addr(N, port(2 * N + 2)) }
}

/// Checks the length of the fields, and the checksum if there is one.
fn fields(whole: &[u8], mut at: usize) -> Result<(), HeaderError> {
    while at < whole.len() {
        let Some(&[kind, high, low]) = whole.get(at..at + 3) else {
            return Err(HeaderError::Short);
        };
        let end = at + 3 + usize::from(u16::from_be_bytes([high, low]));
        let value = whole.get(at + 3..end).ok_or(HeaderError::Short)?;
        if kind == CRC32C && !checksum::fits(whole, at + 3, value) {
            return Err(HeaderError::Checksum);
        }
        at = end;
    }
    Ok(())
}

fn write_line(ends: Option<(SocketAddr, SocketAddr)>, out: &mut Vec<u8>) {
    let written = match ends {
        None => write!(out, "PROXY UNKNOWN\r\n"),
        Some((client, to)) => {
            let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, at) = (client.ip(), to.ip());
            write!(out, "PROXY {family} {from} {at} {} {}\r\n", client.port(), to.port())
        }
    };
    written.expect("writing to a Vec does not fail");
}

fn write_binary(ends: Option<(SocketAddr, SocketAddr)>, out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    let Some((client, to)) = ends else {
        // Forwarded from a place without addresses.
        return out.extend_from_slice(&[0x21, 0, 0, 0]);
    };
    match (client.ip(), to.ip()) {
        (IpAddr::V4(client), IpAddr::V4(to)) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            out.extend_from_slice(&client.octets());
            out.extend_from_slice(&to.octets());
        }
        (client, to) => {
            let six = |ip| match ip {
                IpAddr::V4(ip) => Ipv4Addr::to_ipv6_mapped(&ip).octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            out.extend_from_slice(&six(client));
            out.extend_from_slice(&six(to));
        }
    }
    out.extend_from_slice(&client.port().to_be_bytes());
    out.extend_from_slice(&to.port().to_be_bytes());
}
