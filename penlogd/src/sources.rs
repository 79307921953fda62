//! Sources of lines: each server has its own format and its own number in the engine.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use pen_records::access::{Parser, Spec};
use pen_records::addr::ServerAddr;
use pen_records::attribution::{Attributor, ServerIndex};
use pen_records::mapping::third_party_log::ThirdPartySpec;
use pen_records::rewrite::OutcomeCounts;
use pen_records::shipment::ShipmentServer;

use crate::clocks::ServerClock;

/// Length limit of a socket path in bytes, above what the system permits.
const PATH: usize = 255;

/// Address and port of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerKey {
    /// Address by which the balancer knows the server.
    pub addr: IpAddr,
    /// `None` if unknown.
    pub port: Option<u16>,
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

/// A sender by address or name, as given to `--server`.
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
    /// Servers that send from another address, or that a balancer logs by name.
    pub servers: Vec<(LineSender, ServerKey)>,
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
    named: usize,
    sources: Vec<LineSource>,
    by_key: HashMap<ServerKey, u32>,
    /// Source by sender address, for lines that name no server.
    by_sender: HashMap<IpAddr, u32>,
    last_sender: Option<(IpAddr, u32)>,
    last_key: Option<(ServerKey, u32)>,
    servers: HashMap<IpAddr, ServerIndex>,
    last_server: Option<(IpAddr, ServerIndex)>,
    paths: HashMap<Box<[u8]>, ServerIndex>,
    others: Option<u32>,
}

impl LineSources {
    pub(crate) fn new(known: SenderSettings, most: usize) -> Self {
        Self {
            known,
            most: most.max(1),
            named: 0,
            sources: Vec::new(),
            by_key: HashMap::new(),
            by_sender: HashMap::new(),
            last_sender: None,
            last_key: None,
            servers: HashMap::new(),
            last_server: None,
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

    /// Returns the number of a server that a mapping names; `None` beyond the limit.
    pub(crate) fn server<T>(
        &mut self,
        addr: ServerAddr<'_>,
        engine: &mut Attributor<T>,
    ) -> Option<ServerIndex> {
        let known = match addr {
            ServerAddr::Ip(ip) => {
                if let Some((last, id)) = self.last_server
                    && last == ip
                {
                    return Some(id);
                }
                let id = self.servers.get(&ip).copied();
                self.last_server = id.map(|id| (ip, id)).or(self.last_server);
                id
            }
            ServerAddr::Unix(path) => self.paths.get(path).copied(),
        };
        if known.is_some() || self.named >= self.most {
            return known;
        }
        let id = match addr {
            ServerAddr::Ip(ip) => *self.servers.entry(ip).or_insert_with(|| engine.server(addr)),
            ServerAddr::Unix(path) if path.len() > PATH => return None,
            ServerAddr::Unix(path) => {
                *self.paths.entry(path.into()).or_insert_with(|| engine.server(addr))
            }
        };
        self.named += 1;
        Some(id)
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
                let named = self.known.servers.iter().find(|(s, _)| *s == LineSender::Addr(sender));
                let key = named.map_or(ServerKey { addr: sender, port: None }, |(_, key)| *key);
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
        let known = self.known.servers.iter().find(|(known, _)| match known {
            LineSender::Addr(addr) => *addr == sender,
            LineSender::Name(name) => server.name == Some(name),
        });
        let key = match (known, server.addr) {
            (Some((_, key)), _) => *key,
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
