//! Sources of lines: each server has its own format and its own number in the engine.

use std::collections::HashMap;
use std::net::IpAddr;

use pen_records::access::{Parser, Spec};
use pen_records::addr::ServerAddr;
use pen_records::attribution::{Attributor, ServerIndex};
use pen_records::mapping::third_party_log::ThirdPartySpec;
use pen_records::rewrite::OutcomeCounts;
use pen_records::server_alias::{ServerAliases, ServerKey};
use pen_records::shipment::ShipmentServer;

use crate::clocks::ServerClock;

/// Length limit of a socket path in bytes, above what the system permits.
const PATH: usize = 255;

/// A sender by address or name, as given to `--mapping-format`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineSender {
    /// Source address of the datagrams.
    Addr(IpAddr),
    /// Name in the shipments.
    Name(Vec<u8>),
}

/// Formats and addresses of servers, as given by the user.
#[derive(Clone, Debug, Default)]
pub struct SenderSettings {
    /// Format of servers without one of their own.
    pub format: Spec,
    /// Formats of single servers; without a port, of every server at that address.
    pub formats: Vec<(ServerKey, Spec)>,
    /// Other addresses and names of servers.
    pub servers: ServerAliases,
    /// Addresses that names of `servers` resolve to, and the place of each name's option.
    pub resolved: Vec<(IpAddr, usize)>,
    /// Senders that send the log of a third-party balancer, and its format.
    pub balancers: Vec<(LineSender, ThirdPartySpec)>,
}

/// A server that sends lines.
#[derive(Debug)]
pub(crate) struct LineSource {
    pub(crate) key: ServerKey,
    pub(crate) server: ServerIndex,
    pub(crate) parser: Parser,
    pub(crate) clock: ServerClock,
    /// Counters of decided lines.
    pub(crate) counts: OutcomeCounts,
}

/// All sources.
#[derive(Debug)]
pub(crate) struct LineSources {
    known: SenderSettings,
    /// Limit of servers that send lines (further ones share one source), and of servers that only mappings name. Separate
    /// limits, so that a flood of mappings cannot displace servers that send lines.
    most: usize,
    /// Number of servers that only mappings name.
    only_named: usize,
    sources: Vec<LineSource>,
    by_key: HashMap<ServerKey, u32>,
    /// Source by sender address, for lines that name no server.
    by_sender: HashMap<IpAddr, u32>,
    last_sender: Option<(IpAddr, u32)>,
    last_key: Option<(ServerKey, u32)>,
    servers: HashMap<IpAddr, ServerIndex>,
    /// Servers that mappings name, by the address in the mapping.
    mapped: HashMap<IpAddr, MappedServer>,
    last_mapped: Option<(IpAddr, MappedServer)>,
    paths: HashMap<Box<[u8]>, MappedServer>,
    others: Option<u32>,
}

/// A server that a mapping names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MappedServer {
    pub(crate) index: ServerIndex,
    /// The port by `--server`; `None`: the port in the mapping is right.
    pub(crate) port: Option<u16>,
}

impl LineSources {
    pub(crate) fn new(known: SenderSettings, most: usize) -> Self {
        Self {
            known,
            most: most.max(1),
            only_named: 0,
            sources: Vec::new(),
            by_key: HashMap::new(),
            by_sender: HashMap::new(),
            last_sender: None,
            last_key: None,
            servers: HashMap::new(),
            mapped: HashMap::new(),
            last_mapped: None,
            paths: HashMap::new(),
            others: None,
        }
    }

    pub(crate) fn get_mut(&mut self, source: u32) -> Option<&mut LineSource> {
        self.sources.get_mut(source as usize)
    }

    /// Returns the limit of servers that are told apart.
    pub(crate) const fn limit(&self) -> usize {
        self.most
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &LineSource> {
        self.sources.iter()
    }

    /// Returns the server that a mapping names; `None` beyond the limit.
    pub(crate) fn server<T>(
        &mut self,
        addr: ServerAddr<'_>,
        engine: &mut Attributor<T>,
    ) -> Option<MappedServer> {
        let known = match addr {
            ServerAddr::Ip(ip) => {
                if let Some((last, server)) = self.last_mapped
                    && last == ip
                {
                    return Some(server);
                }
                let server = self.mapped.get(&ip).copied();
                self.last_mapped = server.map(|server| (ip, server)).or(self.last_mapped);
                server
            }
            ServerAddr::Unix(path) => self.paths.get(path).copied(),
        };
        known.or_else(|| self.first_mapped(addr, engine))
    }

    /// Remembers a server that a mapping names for the first time.
    fn first_mapped<T>(
        &mut self,
        addr: ServerAddr<'_>,
        engine: &mut Attributor<T>,
    ) -> Option<MappedServer> {
        let option = self.known.servers.of_mapped(addr);
        let other = option.map(|option| self.known.servers.server(option));
        let ip = match (other, addr) {
            (Some(key), _) => Some(key.addr),
            (None, ServerAddr::Ip(ip)) => Some(ip),
            (None, ServerAddr::Unix(_)) => None,
        };
        let index = ip.and_then(|ip| self.servers.get(&ip).copied());
        let index = match index {
            Some(index) => index,
            None if self.only_named >= self.most => return None,
            None => {
                self.only_named += 1;
                let index = engine.server(ip.map_or(addr, ServerAddr::Ip));
                ip.map(|ip| self.servers.insert(ip, index));
                index
            }
        };
        let server = MappedServer { index, port: other.and_then(|key| key.port) };
        match addr {
            ServerAddr::Ip(ip) => {
                self.mapped.insert(ip, server);
            }
            ServerAddr::Unix(path) if path.len() > PATH => return None,
            ServerAddr::Unix(path) => {
                self.paths.insert(path.into(), server);
            }
        }
        Some(server)
    }

    /// Returns the source of lines that `sender` sends without naming a server.
    pub(crate) fn of_sender<T>(&mut self, sender: IpAddr, engine: &mut Attributor<T>) -> u32 {
        if let Some((last, source)) = self.last_sender
            && last == sender
        {
            return source;
        }
        let source = match self.by_sender.get(&sender) {
            Some(&source) => source,
            None => {
                let option = self.option_of(sender);
                let key = option.map_or(ServerKey { addr: sender, port: None }, |option| {
                    self.known.servers.server(option)
                });
                let source = self.of_key(key, engine);
                if self.by_sender.len() < self.most {
                    self.by_sender.insert(sender, source);
                }
                source
            }
        };
        self.last_sender = Some((sender, source));
        source
    }

    /// Returns the source of lines in a shipment. A `--server` option for the sender takes precedence over the server that the
    /// shipment names.
    pub(crate) fn of_shipment<T>(
        &mut self,
        sender: IpAddr,
        server: &ShipmentServer<'_>,
        engine: &mut Attributor<T>,
    ) -> u32 {
        let by_name = server.name.and_then(|name| self.known.servers.of_name(name));
        let key = match (by_name.or_else(|| self.option_of(sender)), server.addr) {
            (Some(option), _) => self.known.servers.server(option),
            (None, Some(addr)) => ServerKey { addr: addr.to_canonical(), port: server.port },
            (None, None) => ServerKey { addr: sender, port: server.port },
        };
        if let Some((last, source)) = self.last_key
            && last == key
        {
            return source;
        }
        let source = self.of_key(key, engine);
        self.last_key = Some((key, source));
        source
    }

    /// Returns the place of the option `--server` for a sender's address.
    fn option_of(&self, sender: IpAddr) -> Option<usize> {
        let resolved = || self.known.resolved.iter().find(|(addr, _)| *addr == sender);
        self.known.servers.of_sender(sender).or_else(|| resolved().map(|(_, option)| *option))
    }

    fn of_key<T>(&mut self, key: ServerKey, engine: &mut Attributor<T>) -> u32 {
        if let Some(&source) = self.by_key.get(&key) {
            return source;
        }
        if self.sources.len() >= self.most {
            return self.others(engine);
        }
        let server = || engine.server(ServerAddr::Ip(key.addr));
        let server = *self.servers.entry(key.addr).or_insert_with(server);
        self.add(key, server)
    }

    /// Servers beyond the limit share one source. Their lines are written but not joined.
    fn others<T>(&mut self, engine: &mut Attributor<T>) -> u32 {
        if let Some(source) = self.others {
            return source;
        }
        let server = engine.server(ServerAddr::Unix(b"/too many servers"));
        let addr = IpAddr::from([0, 0, 0, 0]);
        let source = self.add(ServerKey { addr, port: None }, server);
        self.others = Some(source);
        source
    }

    fn add(&mut self, key: ServerKey, server: ServerIndex) -> u32 {
        let own = |(of, _): &&(ServerKey, Spec)| {
            of.addr == key.addr && (of.port.is_none() || of.port == key.port)
        };
        let spec = self.known.formats.iter().find(own).map_or(&self.known.format, |(_, spec)| spec);
        let source = u32::try_from(self.sources.len()).expect("bounded");
        let (parser, counts) = (Parser::new(spec), OutcomeCounts::default());
        self.sources.push(LineSource {
            key,
            server,
            parser,
            counts,
            clock: ServerClock::default(),
        });
        self.by_key.insert(key, source);
        source
    }
}
