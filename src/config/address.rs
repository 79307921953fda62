//! Addresses as typed: addresses to listen on, and server arguments.
//!
//! ```text
//! listen = port | host ":" port | path                  ; host and port part at the last colon
//! server = host [":" port [":" soft [":" hard [":" weight [":" prio]]]]]
//! host   = IPv4 | "[" IPv6 "]" | IPv6 | name | path     ; a path has a "/" in it
//! ```
//!
//! Host names stay names here; the code that connects looks names up.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use pen_records::addr::parse_ip;

/// The longest path in the address of a Unix-domain socket, in bytes.
pub const MAX_UNIX_PATH: usize = 107;

/// A host, or a Unix-domain socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An address; IPv4 mapped into IPv6 is IPv4.
    Ip(IpAddr),
    /// A host name.
    Name(String),
    /// A Unix-domain socket.
    Unix(PathBuf),
}

impl Host {
    /// Parses a host. IPv6 may have brackets.
    ///
    /// # Errors
    /// The text is not an address of this form.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.contains('/') {
            return unix(text).map(Self::Unix);
        }
        if let Some(ip) = parse_ip(text.as_bytes()) {
            return Ok(Self::Ip(ip));
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        // Digits and dots that are not an address are a typing mistake, not a name.
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if text.is_empty() || text.len() > 253 || is_number || !text.bytes().all(is_name) {
            return Err(AddressError::Host);
        }
        Ok(Self::Name(text.to_owned()))
    }

    fn is_v6(&self) -> bool {
        matches!(self, Self::Ip(IpAddr::V6(_)))
    }
}

fn unix(text: &str) -> Result<PathBuf, AddressError> {
    if text.len() > MAX_UNIX_PATH { Err(AddressError::LongPath) } else { Ok(PathBuf::from(text)) }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenAddr {
    /// A host and a port.
    Port(Host, u16),
    /// A Unix-domain socket.
    Unix(PathBuf),
}

impl ListenAddr {
    /// Parses `port`, `host:port` or a path. The host ends at the last colon, so IPv6 needs no brackets. Without a
    /// host, the address is `0.0.0.0`. Port 0 means any free port.
    ///
    /// # Errors
    /// The text is not an address of this form.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.contains('/') {
            return unix(text).map(Self::Unix);
        }
        let (host, service) = match text.rsplit_once(':') {
            Some((host, service)) => (Host::parse(host)?, service),
            None => (Host::Ip(Ipv4Addr::UNSPECIFIED.into()), text),
        };
        Ok(Self::Port(host, port(service)?))
    }

    /// Returns the port; `None` for a Unix-domain socket.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Port(_, port) => Some(*port),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(host, port) if host.is_v6() => write!(f, "[{host}]:{port}"),
            Self::Port(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The destination of mapping records, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTargetArg {
    /// A file.
    File(PathBuf),
    /// A collector.
    Collector(Host, u16),
}

/// A server as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerArg {
    /// The host.
    pub host: Host,
    /// The port; `None` for the port that pen listens on.
    pub port: Option<u16>,
    /// The soft limit of connections; `None` for no limit.
    pub soft: Option<NonZeroU32>,
    /// The hard limit of connections, for known clients; `None` for the soft limit.
    pub hard: Option<NonZeroU32>,
    /// The weight; 1 by default.
    pub weight: u32,
    /// The priority; 0 by default.
    pub prio: u32,
}

impl ServerArg {
    /// Parses a server.
    ///
    /// # Errors
    /// The error names the first wrong field.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (host, rest) = split_host(text)?;
        if rest.is_none() && !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AddressError::PortAlone);
        }
        let host = Host::parse(host)?;
        let mut fields = rest.into_iter().flat_map(|rest| rest.split(':'));
        let mut next = || fields.next().filter(|field| !field.is_empty());
        let port = next().map(port).transpose()?.filter(|&port| port != 0);
        let mut number = |error| next().map(|field| field.parse().map_err(|_| error)).transpose();
        let soft = number(AddressError::Soft)?.and_then(NonZeroU32::new);
        let hard = number(AddressError::Hard)?.and_then(NonZeroU32::new);
        let weight = number(AddressError::Weight)?.unwrap_or(1);
        let prio = number(AddressError::Prio)?.unwrap_or(0);
        if fields.next().is_some() {
            return Err(AddressError::Fields);
        }
        Ok(Self { host, port, soft, hard, weight, prio })
    }
}

/// Splits the text into the host and the fields after its colon.
fn split_host(text: &str) -> Result<(&str, Option<&str>), AddressError> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or(AddressError::Bracket)?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(AddressError::Host);
        }
        return match (rest.strip_prefix(':'), rest) {
            (Some(rest), _) => Ok((host, Some(rest))),
            (None, "") => Ok((host, None)),
            (None, _) => Err(AddressError::Bracket),
        };
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok((text, None));
    }
    Ok(text.split_once(':').map_or((text, None), |(host, rest)| (host, Some(rest))))
}

impl fmt::Display for ServerArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.is_v6() { ("[", "]") } else { ("", "") };
        let limit = |limit: Option<NonZeroU32>| limit.map_or(0, NonZeroU32::get);
        write!(f, "{open}{}{close}:{}", self.host, self.port.unwrap_or(0))?;
        write!(f, ":{}:{}", limit(self.soft), limit(self.hard))?;
        write!(f, ":{}:{}", self.weight, self.prio)
    }
}

/// Parses a port number, or the name of a service in `/etc/services`.
///
/// # Errors
/// The text is neither a port nor a service.
pub fn port(text: &str) -> Result<u16, AddressError> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| AddressError::Port);
    }
    let services = std::fs::read_to_string("/etc/services").unwrap_or_default();
    service(&services, text).ok_or(AddressError::Port)
}

fn service(services: &str, name: &str) -> Option<u16> {
    services.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let (first, port) = (words.next()?, words.next()?);
        let named = first == name || words.any(|alias| alias == name);
        if named { port.split_once('/')?.0.parse().ok() } else { None }
    })
}

/// An error in an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// Not an address, a host name or a path.
    Host,
    /// An unclosed bracket, or text right after a closing bracket.
    Bracket,
    /// A port where a server is expected.
    PortAlone,
    /// Not a port number or a service.
    Port,
    /// A path too long for a Unix-domain socket.
    LongPath,
    /// Not a soft limit.
    Soft,
    /// Not a hard limit.
    Hard,
    /// Not a weight.
    Weight,
    /// Not a priority.
    Prio,
    /// Too many fields.
    Fields,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "expected an address, a host name, or a path with a / in it",
            Self::PortAlone => {
                "expected a server as HOST:PORT, found a port alone: where to listen stands before the servers"
            }
            Self::Bracket => "expected [IPv6] and then nothing or a colon",
            Self::Port => "expected a port from 0 to 65535 or a service of /etc/services",
            Self::LongPath => "expected a path of at most 107 bytes",
            Self::Soft => "expected a number of connections as the soft limit (third field)",
            Self::Hard => "expected a number of connections as the hard limit (fourth field)",
            Self::Weight => "expected a number as the weight (fifth field)",
            Self::Prio => "expected a number as the priority (sixth field)",
            Self::Fields => {
                "expected at most host:port:soft:hard:weight:prio; IPv6 goes in brackets"
            }
        })
    }
}

impl std::error::Error for AddressError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn listen_arguments_are_read_as_pen_always_did() {
        for (text, expected) in [
            ("8080", "0.0.0.0:8080"),
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            (":::8080", "[::]:8080"),
            ("::1:8080", "[::1]:8080"),
            ("[::1]:8080", "[::1]:8080"),
            ("localhost:0", "localhost:0"),
            ("/run/pen.sock", "/run/pen.sock"),
            ("./pen.sock", "./pen.sock"),
        ] {
            assert_eq!(ListenAddr::parse(text).expect(text).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn servers_have_fields_and_those_left_out_are_none() {
        for (text, expected) in [
            ("10.0.0.1", "10.0.0.1:0:0:0:1:0"),
            ("10.0.0.1:80", "10.0.0.1:80:0:0:1:0"),
            ("web1:80:10", "web1:80:10:0:1:0"),
            ("web1:80:10:12:3:4", "web1:80:10:12:3:4"),
            ("web1:80:::0:1", "web1:80:0:0:0:1"),
            ("[2001:db8::1]:80:1", "[2001:db8::1]:80:1:0:1:0"),
            ("[::1]", "[::1]:0:0:0:1:0"),
            ("2001:db8::1", "[2001:db8::1]:0:0:0:1:0"),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1:80:0:0:1:0"),
            ("/run/web.sock", "/run/web.sock:0:0:0:1:0"),
            ("/run/web.sock:0:5", "/run/web.sock:0:5:0:1:0"),
        ] {
            assert_eq!(ServerArg::parse(text).expect(text).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_server_is_refused_by_its_field() {
        for (text, expected) in [
            ("", AddressError::Host),
            (":80", AddressError::Host),
            ("10.0.0.300:80", AddressError::Host),
            ("10.0.0:80", AddressError::Host),
            ("we b:80", AddressError::Host),
            ("[10.0.0.1]:80", AddressError::Host),
            ("[::1", AddressError::Bracket),
            ("[::1]80", AddressError::Bracket),
            ("web:65536", AddressError::Port),
            ("web:no-such-service", AddressError::Port),
            ("web:80:x", AddressError::Soft),
            ("web:80:1:-1", AddressError::Hard),
            ("web:80:1:1:x", AddressError::Weight),
            ("web:80:1:1:1:x", AddressError::Prio),
            ("web:80:1:1:1:1:1", AddressError::Fields),
        ] {
            assert_eq!(ServerArg::parse(text), Err(expected), "{text}");
        }
        let long = format!("/{}", "x".repeat(MAX_UNIX_PATH));
        assert_eq!(ServerArg::parse(&long), Err(AddressError::LongPath));
    }

    #[test]
    fn services_have_names_and_aliases() {
        let services = "# a comment\nhttp 80/tcp www # WWW\nsmtp\t25/tcp mail\nbad\n";
        for (name, expected) in [
            ("http", Some(80)),
            ("www", Some(80)),
            ("mail", Some(25)),
            ("bad", None),
            ("WWW", None),
        ] {
            assert_eq!(service(services, name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error(text in "[\\[\\]0-9a-f:./x-]{0,40}|\\PC{0,40}") {
            if let Ok(server) = ServerArg::parse(&text) {
                prop_assert_eq!(ServerArg::parse(&server.to_string()), Ok(server));
            }
            if let Ok(listen) = ListenAddr::parse(&text) {
                prop_assert_eq!(ListenAddr::parse(&listen.to_string()), Ok(listen));
            }
        }
    }
}
