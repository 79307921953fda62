//! The servers that mappings name, by address and by their spellings in mapping logs.

use std::collections::HashMap;
use std::net::IpAddr;

use pen_records::addr::ServerAddr;
use pen_records::attribution::ServerIndex;
use pen_records::mapping::MappingError;
use pen_records::mapping::classic::FileLine;
use pen_records::server_alias::{KnownAs, ServerAliases};

/// The servers with access logs, and the offsets of their clocks from the balancer's clock.
#[derive(Clone, Default)]
pub(crate) struct NamedServers {
    ips: Vec<(IpAddr, KnownServer)>,
    paths: HashMap<Vec<u8>, KnownServer>,
}

/// A server with access logs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownServer {
    pub(crate) id: ServerIndex,
    /// Microseconds the server's clock is ahead of the balancer's.
    pub(crate) ahead: i64,
    /// The pass over the mapping logs that yields the server's records.
    pub(crate) pass: usize,
    /// Whether a format of its logs lacks the protocol of requests, so that requests are compared without.
    pub(crate) lacks_protocol: bool,
    /// The option `--server` by which the mapping log's spelling leads here.
    pub(crate) option: Option<OptionPlace>,
}

/// An option `--server`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OptionPlace {
    /// Its place among the options.
    pub(crate) place: usize,
    /// The server's port, in place of the port in the mapping.
    pub(crate) port: Option<u16>,
}

impl KnownServer {
    pub(crate) fn new(id: ServerIndex, ahead: i64, pass: usize) -> Self {
        Self { id, ahead, pass, lacks_protocol: false, option: None }
    }
}

impl NamedServers {
    pub(crate) fn insert(&mut self, addr: ServerAddr<'_>, known: KnownServer) {
        match addr {
            ServerAddr::Ip(ip) => match self.ips.binary_search_by_key(&ip, |&(ip, _)| ip) {
                Ok(at) => self.ips[at].1 = known,
                Err(at) => self.ips.insert(at, (ip, known)),
            },
            ServerAddr::Unix(path) => {
                self.paths.insert(path.to_vec(), known);
            }
        }
    }

    pub(crate) fn find(&self, addr: ServerAddr<'_>) -> Option<KnownServer> {
        match addr {
            ServerAddr::Ip(ip) => {
                let at = self.ips.binary_search_by_key(&ip, |&(ip, _)| ip).ok()?;
                Some(self.ips[at].1)
            }
            ServerAddr::Unix(path) => self.paths.get(path).copied(),
        }
    }
}

impl NamedServers {
    /// Adds the other names of servers by the options `--server`. Whichever side of an option has access logs takes the
    /// mappings of the other side.
    pub(crate) fn add_names(&mut self, options: &ServerAliases) {
        for (place, alias) in options.iter().enumerate() {
            let server = ServerAddr::Ip(alias.server.addr);
            let other = match &alias.known_as {
                KnownAs::Addr(addr) => ServerAddr::Ip(*addr),
                KnownAs::Path(path) => ServerAddr::Unix(path),
                KnownAs::Name(name) => ServerAddr::Unix(name.as_bytes()),
            };
            let option = |port| Some(OptionPlace { place, port });
            match (self.find(server), self.find(other)) {
                (Some(known), None) => {
                    let known = KnownServer { option: option(alias.server.port), ..known };
                    self.insert(other, known);
                }
                (None, Some(known)) => {
                    self.insert(server, KnownServer { option: option(None), ..known });
                }
                _ => {}
            }
        }
    }
}

/// A cache of the last spellings of servers, so that addresses are not parsed for each mapping.
pub(crate) struct SpellingCache {
    /// One spelling per slot; a new spelling replaces the old one.
    slots: Vec<(Vec<u8>, Option<KnownServer>)>,
}

impl Default for SpellingCache {
    fn default() -> Self {
        Self { slots: vec![(Vec::new(), None); 1 << SLOT_BITS] }
    }
}

const SLOT_BITS: u32 = 6;

impl SpellingCache {
    /// Returns the server; `None` for a server without access logs.
    #[inline]
    pub(crate) fn find(
        &mut self,
        line: &FileLine<'_>,
        servers: &NamedServers,
    ) -> Result<Option<&KnownServer>, MappingError> {
        let text = line.server_text;
        let slot = &mut self.slots[Self::slot(text)];
        if text != slot.0.as_slice() || text.is_empty() {
            Self::replace(slot, line, servers)?;
        }
        Ok(slot.1.as_ref())
    }

    #[cold]
    fn replace(
        (spelling, known): &mut (Vec<u8>, Option<KnownServer>),
        line: &FileLine<'_>,
        servers: &NamedServers,
    ) -> Result<(), MappingError> {
        *known = servers.find(line.server()?);
        spelling.clear();
        spelling.extend_from_slice(line.server_text);
        Ok(())
    }

    /// Returns the slot of a spelling. Addresses of servers mostly differ in their last bytes.
    #[inline]
    fn slot(text: &[u8]) -> usize {
        let last = text.last_chunk().map_or(0, |last| u64::from_le_bytes(*last));
        (last.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - SLOT_BITS)) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_side_of_an_option_may_have_the_access_logs() {
        let options = ["10.0.0.2=10.0.0.1:81", "web3=10.0.0.3", "10.0.0.4=10.0.0.5"];
        let options = options.iter().map(|text| text.parse().unwrap()).collect();
        let mut servers = NamedServers::default();
        let ip = |last| ServerAddr::Ip([10, 0, 0, last].into());
        servers.insert(ip(1), KnownServer::new(ServerIndex(0), 0, 0));
        servers.insert(ServerAddr::Unix(b"web3"), KnownServer::new(ServerIndex(1), 0, 0));
        servers.add_names(&ServerAliases::new(options).unwrap());
        let find = |addr| servers.find(addr).map(|known| (known.id.0, known.option));
        let option = |place, port| Some(OptionPlace { place, port });
        assert_eq!(find(ip(1)), Some((0, None)));
        assert_eq!(find(ip(2)), Some((0, option(0, Some(81)))));
        assert_eq!(find(ip(3)), Some((1, option(1, None))));
        assert_eq!((find(ip(4)), find(ip(5))), (None, None));
    }
}
