//! The option `--server NAME=ADDR[:PORT]` of `penlogd` and `mergelogs`: other names and addresses of a
//! server.
//!
//! NAME is whatever else stands for the server: a second address (also the source address of its log
//! lines), the path of a Unix-domain socket, the name in a third-party balancer's log, the name in
//! shipments, or the host in a syslog envelope.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::addr::{ServerAddr, parse_ip};
use crate::shipment::ShipmentServer;

/// Address and port of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerKey {
    /// Address by which the balancer knows the server.
    pub addr: IpAddr,
    /// `None` if unknown.
    pub port: Option<u16>,
}

impl ServerKey {
    /// Parses `ADDR`, `ADDR:PORT` or `[ADDR]:PORT`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let server = ShipmentServer::parse(text)?;
        Some(Self { addr: server.addr?.to_canonical(), port: server.port })
    }
}

/// The port follows the address as usual: `[::1]:80`.
impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.addr, port).fmt(f),
            None => self.addr.fmt(f),
        }
    }
}

/// The NAME that stands for whatever server a third-party balancer's log names, or does not name.
pub const ANY_SERVER: &[u8] = b"*";

/// What else stands for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownAs {
    /// Another address.
    Addr(IpAddr),
    /// The path of a Unix-domain socket.
    Path(Box<[u8]>),
    /// A name. Names of hosts are compared without regard to case.
    Name(Box<str>),
}

impl fmt::Display for KnownAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => addr.fmt(f),
            Self::Path(path) => path.escape_ascii().fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// The value of one option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAlias {
    /// The part before the equals sign.
    pub known_as: KnownAs,
    /// The part after the equals sign.
    pub server: ServerKey,
}

impl ServerAlias {
    /// Returns whether the option only gives the port of an address, as in 10.0.0.1=10.0.0.1:80. Such an option says
    /// whose lines come from that address, and nothing about mappings: they may be of several servers there.
    fn is_of_itself(&self) -> bool {
        self.known_as == KnownAs::Addr(self.server.addr)
    }

    /// Returns whether the option may be about the host in a syslog envelope.
    #[must_use]
    pub fn may_be_host(&self) -> bool {
        match &self.known_as {
            KnownAs::Addr(_) => true,
            KnownAs::Path(_) => false,
            // With a slash it is a balancer's name.
            KnownAs::Name(name) => !name.contains('/') && name.as_bytes() != ANY_SERVER,
        }
    }

    /// Returns whether the option gives another address for `addr`.
    fn leads_from(&self, addr: IpAddr) -> bool {
        self.known_as == KnownAs::Addr(addr) && !self.is_of_itself()
    }
}

impl fmt::Display for ServerAlias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.known_as, self.server)
    }
}

impl FromStr for ServerAlias {
    type Err = ServerAliasError;

    fn from_str(text: &str) -> Result<Self, ServerAliasError> {
        let (name, addr) = text.split_once('=').ok_or(ServerAliasError::Malformed)?;
        let server = ServerKey::parse(addr).ok_or_else(|| {
            if ServerKey::parse(name).is_some() && !addr.is_empty() {
                ServerAliasError::Reversed(text.into())
            } else {
                ServerAliasError::Malformed
            }
        })?;
        let known_as = match parse_ip(name.as_bytes()) {
            _ if name.is_empty() => return Err(ServerAliasError::Malformed),
            Some(addr) => KnownAs::Addr(addr),
            None if ServerKey::parse(name).is_some() => return Err(ServerAliasError::PortInName),
            None if name.starts_with('/') => KnownAs::Path(name.as_bytes().into()),
            None => KnownAs::Name(name.into()),
        };
        Ok(Self { known_as, server })
    }
}

/// Errors of the option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAliasError {
    /// No `NAME=ADDR`.
    Malformed,
    /// The address in front of the equals sign, and the name behind it: the whole text.
    Reversed(Box<str>),
    /// The part before the equals sign is an address with a port.
    PortInName,
    /// The same NAME stands for two servers.
    Twice(KnownAs),
    /// Options that name each other in a circle.
    Circle(KnownAs),
}

impl fmt::Display for ServerAliasError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str(
                "expected NAME=ADDR or NAME=ADDR:PORT, as in 192.0.2.7=10.0.0.1 or app/web1=10.0.0.1:80",
            ),
            Self::Reversed(text) => {
                let (addr, name) = text.split_once('=').unwrap_or_default();
                write!(f, "expected NAME=ADDR: write {name}={addr}")
            }
            Self::PortInName => {
                f.write_str("expected no port in front of the equals sign, as in 192.0.2.7=10.0.0.1:80")
            }
            Self::Twice(name) => write!(f, "{name} is given as two servers"),
            Self::Circle(name) => write!(f, "{name} is given as itself"),
        }
    }
}

impl std::error::Error for ServerAliasError {}

/// All options of a command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerAliases {
    aliases: Vec<ServerAlias>,
}

impl ServerAliases {
    /// Checks the options together. Where one leads to another, as in A=B and B=C, A is C.
    ///
    /// # Errors
    /// A name stands for two servers, or for itself.
    pub fn new(mut aliases: Vec<ServerAlias>) -> Result<Self, ServerAliasError> {
        for (index, alias) in aliases.iter().enumerate() {
            let is_other =
                |it: &ServerAlias| it.known_as == alias.known_as && it.server != alias.server;
            if aliases[..index].iter().any(is_other) {
                return Err(ServerAliasError::Twice(alias.known_as.clone()));
            }
        }
        let typed = aliases.clone();
        for alias in &mut aliases {
            let next = |addr| typed.iter().find(|it| it.leads_from(addr));
            // Each step takes another option, or there is a circle.
            for _ in 0..typed.len() {
                let Some(next) = next(alias.server.addr) else { break };
                alias.server = next.server;
            }
            let is_idle = alias.is_of_itself() && alias.server.port.is_none();
            if is_idle || next(alias.server.addr).is_some() {
                return Err(ServerAliasError::Circle(alias.known_as.clone()));
            }
        }
        Ok(Self { aliases })
    }

    /// Returns the options in the order of the command line, each with the server that it leads to.
    pub fn iter(&self) -> std::slice::Iter<'_, ServerAlias> {
        self.aliases.iter()
    }

    /// Returns whether an option may be about the host in a syslog envelope.
    #[must_use]
    pub fn has_hosts(&self) -> bool {
        self.aliases.iter().any(ServerAlias::may_be_host)
    }

    /// Returns the place of the option for a server's address in a mapping.
    #[must_use]
    pub fn of_mapped(&self, addr: ServerAddr<'_>) -> Option<usize> {
        self.aliases.iter().position(|it| match (&it.known_as, addr) {
            (KnownAs::Addr(_), ServerAddr::Ip(ip)) => it.leads_from(ip),
            (KnownAs::Path(known), ServerAddr::Unix(path)) => **known == *path,
            _ => false,
        })
    }

    /// Returns the place of the option for the source address of lines.
    #[must_use]
    pub fn of_sender(&self, addr: IpAddr) -> Option<usize> {
        self.aliases.iter().position(|it| it.known_as == KnownAs::Addr(addr))
    }

    /// Returns the place of the option for a name in a shipment or in a third-party log.
    #[must_use]
    pub fn of_name(&self, name: &[u8]) -> Option<usize> {
        let is_it = |it: &ServerAlias| matches!(&it.known_as, KnownAs::Name(known) if known.as_bytes() == name);
        self.aliases.iter().position(is_it)
    }

    /// Returns the place of the option for the host in a syslog envelope, a name or an address.
    #[must_use]
    pub fn of_host(&self, host: &[u8]) -> Option<usize> {
        if let Some(addr) = parse_ip(host) {
            return self.of_sender(addr);
        }
        let is_it = |it: &ServerAlias| matches!(&it.known_as, KnownAs::Name(known) if known.as_bytes().eq_ignore_ascii_case(host));
        self.aliases.iter().position(is_it)
    }

    /// Returns the server of the option at a place.
    #[must_use]
    pub fn server(&self, place: usize) -> ServerKey {
        self.aliases[place].server
    }
}

impl std::ops::Index<usize> for ServerAliases {
    type Output = ServerAlias;

    fn index(&self, place: usize) -> &ServerAlias {
        &self.aliases[place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aliases(texts: &[&str]) -> Result<ServerAliases, ServerAliasError> {
        ServerAliases::new(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn a_name_is_an_address_a_path_or_a_word() {
        let addr = |text: &str| KnownAs::Addr(text.parse().unwrap());
        for (text, known_as, server, port) in [
            ("192.0.2.7=10.0.0.1", addr("192.0.2.7"), "10.0.0.1", None),
            ("2001:db8::1=192.0.2.1", addr("2001:db8::1"), "192.0.2.1", None),
            ("[2001:db8::1]=192.0.2.1", addr("2001:db8::1"), "192.0.2.1", None),
            ("::ffff:192.0.2.7=10.0.0.1:80", addr("192.0.2.7"), "10.0.0.1", Some(80)),
            ("w1=[2001:db8::1]:80", KnownAs::Name("w1".into()), "2001:db8::1", Some(80)),
            ("app/w1=10.0.0.1", KnownAs::Name("app/w1".into()), "10.0.0.1", None),
            ("/run/a.sock=127.0.0.1", KnownAs::Path(b"/run/a.sock"[..].into()), "127.0.0.1", None),
        ] {
            let server = ServerKey { addr: server.parse().unwrap(), port };
            assert_eq!(text.parse(), Ok(ServerAlias { known_as, server }), "{text}");
        }
        let reversed = "10.0.0.1=w1".parse::<ServerAlias>().unwrap_err();
        assert_eq!(reversed.to_string(), "expected NAME=ADDR: write w1=10.0.0.1");
        for text in ["", "w1", "w1=", "=10.0.0.1", "w1=there", "10.0.0.1="] {
            assert_eq!(text.parse::<ServerAlias>(), Err(ServerAliasError::Malformed), "{text}");
        }
        for text in ["10.0.0.2:80=10.0.0.1", "[2001:db8::1]:80=10.0.0.1"] {
            assert_eq!(text.parse::<ServerAlias>(), Err(ServerAliasError::PortInName), "{text}");
        }
    }

    #[test]
    fn options_may_lead_to_options_but_not_in_a_circle() {
        let three = aliases(&["web1=10.0.0.2", "10.0.0.2=10.0.0.3", "10.0.0.3=10.0.0.4:80"]);
        let end = ServerKey::parse("10.0.0.4:80").unwrap();
        assert!(three.unwrap().iter().all(|it| it.server == end));
        for texts in [
            &["10.0.0.1=10.0.0.1"][..],
            &["10.0.0.1=10.0.0.2", "10.0.0.2=10.0.0.1"],
            &["web1=10.0.0.1", "10.0.0.1=10.0.0.2", "10.0.0.2=10.0.0.3", "10.0.0.3=10.0.0.1"],
        ] {
            assert!(matches!(aliases(texts), Err(ServerAliasError::Circle(_))), "{texts:?}");
        }
        assert!(matches!(
            aliases(&["web1=10.0.0.1", "web1=10.0.0.2"]),
            Err(ServerAliasError::Twice(_))
        ));
        assert!(aliases(&["web1=10.0.0.1", "web1=10.0.0.1"]).is_ok());
    }

    #[test]
    fn a_port_may_be_given_to_a_sender_without_a_word_on_mappings() {
        let addr: IpAddr = "10.0.0.1".parse().unwrap();
        let all = aliases(&["10.0.0.1=10.0.0.1:8080", "web1=10.0.0.1"]).unwrap();
        assert_eq!((all.of_sender(addr), all.of_mapped(addr.into())), (Some(0), None));
        assert_eq!(all.server(1).port, None);
    }

    #[test]
    fn options_are_found_by_what_a_record_or_a_line_says() {
        let all = ["192.0.2.7=10.0.0.1", "/run/a.sock=10.0.0.2", "Web1=10.0.0.3", "a/w=10.0.0.4"];
        let all = aliases(&all).unwrap();
        let ip = |text: &str| ServerAddr::Ip(text.parse().unwrap());
        assert_eq!(all.of_mapped(ip("192.0.2.7")), Some(0));
        assert_eq!(all.of_mapped(ip("10.0.0.1")), None);
        assert_eq!(all.of_mapped(ServerAddr::Unix(b"/run/a.sock")), Some(1));
        assert_eq!((all.of_name(b"Web1"), all.of_name(b"web1")), (Some(2), None));
        assert_eq!(all.of_name(b"a/w"), Some(3));
        assert_eq!((all.of_host(b"wEB1"), all.of_host(b"192.0.2.7")), (Some(2), Some(0)));
        assert_eq!((all.of_host(b"web2"), all.of_host(b"10.0.0.1")), (None, None));
    }
}
