//! Numbers of servers in the engine, by the addresses of sources and by what mappings name.

use std::collections::HashMap;
use std::net::IpAddr;

use pen_records::addr::ServerAddr;
use pen_records::attribution::{Attributor, ServerIndex};
use pen_records::server_alias::ServerAliases;
use pen_records::time::Timestamp;

/// Length limit of a socket path in bytes, above what the system permits.
const PATH: usize = 255;

/// The servers that lines come from or that mappings name.
#[derive(Debug)]
pub(crate) struct ServerTable {
    /// Limit of servers that only mappings name.
    most: usize,
    /// Number of servers that only mappings name.
    only_mapped: usize,
    by_addr: HashMap<IpAddr, ServerIndex>,
    /// Servers that mappings name, by the address in the mapping.
    mapped: HashMap<IpAddr, MappedServer>,
    last_mapped: Option<(IpAddr, MappedServer)>,
    paths: HashMap<Box<[u8]>, MappedServer>,
    /// Whether a mapping named the server, by its number.
    is_mapped: Vec<bool>,
    /// When the first line without protocol came, by the server's number.
    lacks_protocol: Vec<Option<Timestamp>>,
}

/// A server that a mapping names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MappedServer {
    pub(crate) index: ServerIndex,
    /// The port by `--server`; `None`: the port in the mapping is right.
    pub(crate) port: Option<u16>,
}

impl ServerTable {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            only_mapped: 0,
            by_addr: HashMap::new(),
            mapped: HashMap::new(),
            last_mapped: None,
            paths: HashMap::new(),
            is_mapped: Vec::new(),
            lacks_protocol: Vec::new(),
        }
    }

    /// Takes notice of a line of the server whose request lacks the protocol. From then on the server's requests are
    /// compared without.
    #[cold]
    pub(crate) fn ignore_protocol(&mut self, server: ServerIndex, now: Timestamp) {
        let index = server.0 as usize;
        if self.lacks_protocol.len() <= index {
            self.lacks_protocol.resize(index + 1, None);
        }
        self.lacks_protocol[index].get_or_insert(now);
    }

    /// Returns since when the server's requests are compared without the protocol, if they are.
    pub(crate) fn ignores_protocol(&self, server: ServerIndex) -> Option<Timestamp> {
        self.lacks_protocol.get(server.0 as usize).copied().flatten()
    }

    /// Returns the server at an address that lines come from.
    pub(crate) fn of_lines<T>(&mut self, addr: IpAddr, engine: &mut Attributor<T>) -> ServerIndex {
        *self.by_addr.entry(addr).or_insert_with(|| engine.server(ServerAddr::Ip(addr)))
    }

    /// Returns the server that a mapping names, if a mapping named it before.
    pub(crate) fn known(&mut self, addr: ServerAddr<'_>) -> Option<MappedServer> {
        let ip = match addr {
            ServerAddr::Ip(ip) => ip,
            ServerAddr::Unix(path) => return self.paths.get(path).copied(),
        };
        if let Some((last, server)) = self.last_mapped
            && last == ip
        {
            return Some(server);
        }
        let server = self.mapped.get(&ip).copied()?;
        self.last_mapped = Some((ip, server));
        Some(server)
    }

    /// Remembers a server that a mapping names for the first time. Returns the server and the place of the option that names it;
    /// `None` beyond the limit.
    pub(crate) fn first_mapped<T>(
        &mut self,
        addr: ServerAddr<'_>,
        aliases: &ServerAliases,
        engine: &mut Attributor<T>,
    ) -> Option<(MappedServer, Option<usize>)> {
        if matches!(addr, ServerAddr::Unix(path) if path.len() > PATH) {
            return None;
        }
        let option = aliases.of_mapped(addr);
        let other = option.map(|option| aliases.server(option));
        let ip = match (other, addr) {
            (Some(key), _) => Some(key.addr),
            (None, ServerAddr::Ip(ip)) => Some(ip),
            (None, ServerAddr::Unix(_)) => None,
        };
        let known = ip.and_then(|ip| self.by_addr.get(&ip).copied());
        if known.is_none() && self.only_mapped >= self.most {
            return None;
        }
        let index = known.unwrap_or_else(|| {
            self.only_mapped += 1;
            let index = engine.server(ip.map_or(addr, ServerAddr::Ip));
            ip.map(|ip| self.by_addr.insert(ip, index));
            index
        });
        let place = index.0 as usize;
        if self.is_mapped.len() <= place {
            self.is_mapped.resize(place + 1, false);
        }
        self.is_mapped[place] = true;
        let server = MappedServer { index, port: other.and_then(|key| key.port) };
        match addr {
            ServerAddr::Ip(ip) => self.mapped.insert(ip, server),
            ServerAddr::Unix(path) => self.paths.insert(path.into(), server),
        };
        Some((server, option))
    }

    /// Returns whether a mapping named the server.
    pub(crate) fn is_mapped(&self, server: ServerIndex) -> bool {
        self.is_mapped.get(server.0 as usize).is_some_and(|it| *it)
    }

    /// Returns whether lines came from this address, or a mapping named it.
    pub(crate) fn has(&self, addr: IpAddr) -> bool {
        self.by_addr.contains_key(&addr)
    }

    /// Returns whether a mapping named this address.
    pub(crate) fn has_mapped(&self, addr: IpAddr) -> bool {
        self.mapped.contains_key(&addr)
    }

    /// Returns the addresses that mappings name, in order, each with its server.
    pub(crate) fn mapped(&self) -> Vec<(IpAddr, ServerIndex)> {
        let mut mapped: Vec<_> =
            self.mapped.iter().map(|(addr, server)| (*addr, server.index)).collect();
        mapped.sort_unstable();
        mapped
    }
}
