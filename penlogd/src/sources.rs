//! Sources of lines: each server has its own format and its own number in the engine.

use std::collections::HashMap;
use std::net::IpAddr;

use pen_records::access::{LineError, Parser, Spec, envelope_host};
use pen_records::addr::{ServerAddr, parse_ip};
use pen_records::attribution::{Attributor, ServerIndex};
use pen_records::mapping::third_party_log::ThirdPartySpec;
use pen_records::rewrite::OutcomeCounts;
use pen_records::server_alias::{ServerAliases, ServerKey};
use pen_records::shipment::ShipmentServer;
use pen_records::time::{Resolution, Timestamp};

use crate::blocks::BlockedLog;
use crate::clocks::ServerClock;
use crate::first_lines::FirstLines;
use crate::lines::ArrivedLine;
use crate::servers::{MappedServer, ServerTable};

/// Hosts of a relay that messages name.
const HOSTS: usize = 8;
/// Bytes of a line that messages show.
const SHOWN: usize = 200;

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
    pub balancers: Vec<BalancerSender>,
}

/// A sender that sends the log of a third-party balancer.
#[derive(Clone, Debug)]
pub struct BalancerSender {
    /// As it was typed.
    pub name: String,
    /// The name, and the addresses that it resolves to.
    pub senders: Vec<LineSender>,
    /// The format of the log.
    pub spec: ThirdPartySpec,
}

/// A server that sends lines.
#[derive(Debug)]
pub(crate) struct LineSource {
    pub(crate) key: ServerKey,
    pub(crate) server: ServerIndex,
    pub(crate) parser: Parser,
    /// Until the client is known among the words of a line.
    pub(crate) first: Option<Box<FirstLines>>,
    pub(crate) clock: ServerClock,
    pub(crate) blocks: BlockedLog,
    /// Counters of decided lines.
    pub(crate) counts: OutcomeCounts,
    pub(crate) watch: SourceWatch,
    /// Whether an option names the server.
    is_given: bool,
}

impl LineSource {
    /// Returns the time of a line by its stamp or by `read`; `None` if the line is held for its block.
    pub(crate) fn date_or_hold(
        &mut self,
        line: ArrivedLine<'_>,
        logged: (Timestamp, Resolution),
    ) -> Option<(Timestamp, Resolution)> {
        let read = line.read;
        let time = self.clock.date(logged, read, line.is_behind);
        if self.clock.catches_up() || !self.blocks.note(logged, read) {
            return Some(time);
        }
        let Some(clock) = self.clock.ahead() else { return Some(time) };
        self.blocks.hold(line, logged, clock.micros);
        None
    }
}

/// What a warning about a source needs to know.
#[derive(Debug, Default)]
pub(crate) struct SourceWatch {
    /// Counters of decided lines at the last look.
    pub(crate) before: OutcomeCounts,
    /// The first line since then that did not parse.
    pub(crate) unread: Option<UnreadLine>,
    /// How many shippers without a server's address have sent lines, one after the other or at once.
    pub(crate) shippers: u32,
    /// Hosts in envelopes, while no mapping names the server.
    pub(crate) hosts: Vec<Box<[u8]>>,
}

/// A line that did not parse.
#[derive(Debug)]
pub(crate) struct UnreadLine {
    /// Escaped.
    pub(crate) text: String,
    /// Where parsing stopped.
    pub(crate) error: LineError,
    /// Whether the line would parse without the format that was given.
    pub(crate) is_detectable: bool,
}

impl SourceWatch {
    /// Notes a line that did not parse, by a format that was given or not.
    pub(crate) fn unread(&mut self, line: &[u8], error: LineError, is_given: bool) {
        if self.unread.is_none() {
            let more = if line.len() > SHOWN { "…" } else { "" };
            let text = line[..line.len().min(SHOWN)].escape_ascii();
            let is_detectable = is_given && Parser::new(&Spec::auto()).parse(line).is_ok();
            self.unread = Some(UnreadLine { text: format!("{text}{more}"), error, is_detectable });
        }
    }

    fn host(&mut self, host: &[u8]) {
        if self.hosts.len() < HOSTS && !self.hosts.iter().any(|known| **known == *host) {
            self.hosts.push(host.into());
        }
    }
}

/// All sources.
#[derive(Debug)]
pub(crate) struct LineSources {
    pub(crate) known: SenderSettings,
    /// Whether an option `--server` may be about the host in an envelope.
    has_hosts: bool,
    /// The options `--server` and `--format` that something needed so far, by place.
    pub(crate) used_servers: Vec<bool>,
    pub(crate) used_formats: Vec<bool>,
    /// Limit of servers that send lines (further ones share one source), and of servers that only mappings name. Separate
    /// limits, so that a flood of mappings cannot displace servers that send lines.
    most: usize,
    pub(crate) servers: ServerTable,
    sources: Vec<LineSource>,
    by_key: HashMap<ServerKey, u32>,
    /// Source by sender address, for lines that name no server.
    by_sender: HashMap<IpAddr, u32>,
    last_sender: Option<(IpAddr, u32)>,
    /// The last host in an envelope that names a server, and its source.
    last_host: Option<(Box<[u8]>, u32)>,
    last_key: Option<(ServerKey, u32)>,
    has_suspects: bool,
    others: Option<u32>,
}

impl LineSources {
    pub(crate) fn new(known: SenderSettings, most: usize) -> Self {
        let most = most.max(1);
        Self {
            used_servers: vec![false; known.servers.iter().len()],
            used_formats: vec![false; known.formats.len()],
            has_hosts: known.servers.has_hosts(),
            known,
            most,
            servers: ServerTable::new(most),
            sources: Vec::new(),
            by_key: HashMap::new(),
            by_sender: HashMap::new(),
            last_sender: None,
            last_host: None,
            last_key: None,
            has_suspects: false,
            others: None,
        }
    }

    /// Returns a source by its number.
    pub(crate) fn get(&self, source: u32) -> Option<&LineSource> {
        self.sources.get(source as usize)
    }

    pub(crate) fn get_mut(&mut self, source: u32) -> Option<&mut LineSource> {
        self.sources.get_mut(source as usize)
    }

    /// Returns the limit of servers that are told apart.
    pub(crate) const fn limit(&self) -> usize {
        self.most
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, LineSource> {
        self.sources.iter()
    }

    /// Returns the server that a mapping names; `None` beyond the limit.
    pub(crate) fn server<T>(
        &mut self,
        addr: ServerAddr<'_>,
        engine: &mut Attributor<T>,
    ) -> Option<MappedServer> {
        if let Some(known) = self.servers.known(addr) {
            return Some(known);
        }
        let (server, option) = self.servers.first_mapped(addr, &self.known.servers, engine)?;
        self.count_suspects();
        self.use_option(option);
        Some(server)
    }

    /// See [`ServerTable::ignore_protocol`].
    pub(crate) fn ignore_protocol(&mut self, server: ServerIndex, now: Timestamp) {
        self.servers.ignore_protocol(server, now);
    }

    /// See [`ServerTable::ignores_protocol`].
    pub(crate) fn ignores_protocol(&self, server: ServerIndex) -> Option<Timestamp> {
        self.servers.ignores_protocol(server)
    }

    fn use_option(&mut self, option: Option<usize>) {
        if let Some(used) = option.and_then(|option| self.used_servers.get_mut(option)) {
            *used = true;
        }
    }

    /// Returns the source of a line that came by a relay or from a central file, by the host in the line's syslog
    /// envelope; `None` if the line belongs to the server of its `sender`, the source that it came from. The host has to
    /// be known: by an option `--server`, or as an address that mappings name while they do not name the sender's.
    #[inline]
    pub(crate) fn of_envelope<T>(
        &mut self,
        sender: u32,
        line: &[u8],
        engine: &mut Attributor<T>,
    ) -> Option<u32> {
        let is_relay = !self.servers.is_mapped(self.sources.get(sender as usize)?.server);
        if !is_relay && !self.has_hosts {
            return None;
        }
        self.of_host(sender, is_relay, envelope_host(line)?, engine)
    }

    fn of_host<T>(
        &mut self,
        sender: u32,
        is_relay: bool,
        host: &[u8],
        engine: &mut Attributor<T>,
    ) -> Option<u32> {
        if let Some((last, source)) = &self.last_host
            && **last == *host
        {
            return Some(*source);
        }
        let option = self.known.servers.of_host(host);
        self.use_option(option);
        let addr = || parse_ip(host).filter(|addr| is_relay && self.servers.has_mapped(*addr));
        let key = match option {
            Some(option) => Some(self.known.servers.server(option)),
            None => addr().map(|addr| ServerKey { addr, port: None }),
        };
        let Some(key) = key else {
            if is_relay {
                self.sources[sender as usize].watch.host(host);
            }
            return None;
        };
        let source = self.of_key(key, engine);
        self.last_host = Some((host.into(), source));
        Some(source)
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
                self.use_option(option);
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

    /// Returns the server that lines in a shipment belong to, and the place of the option `--server` that says so.
    pub(crate) fn key_of_shipment(
        &self,
        sender: IpAddr,
        server: &ShipmentServer<'_>,
    ) -> (ServerKey, Option<usize>) {
        let by_name = server.name.and_then(|name| self.known.servers.of_name(name));
        let by_addr = server.addr.map(|addr| addr.to_canonical());
        let option = by_name
            .or_else(|| self.option_of(sender))
            .or_else(|| self.known.servers.of_mapped(ServerAddr::Ip(by_addr?)));
        let key = match option {
            Some(option) => self.known.servers.server(option),
            None => ServerKey { addr: by_addr.unwrap_or(sender), port: server.port },
        };
        (key, option)
    }

    /// Returns the source of lines in a shipment. A `--server` option for the sender takes precedence over the server that the
    /// shipment names.
    pub(crate) fn of_shipment<T>(
        &mut self,
        sender: IpAddr,
        server: &ShipmentServer<'_>,
        engine: &mut Attributor<T>,
    ) -> u32 {
        let (key, option) = self.key_of_shipment(sender, server);
        if let Some((last, source)) = self.last_key
            && last == key
        {
            return source;
        }
        self.use_option(option);
        let source = self.of_key(key, engine);
        self.last_key = Some((key, source));
        source
    }

    /// Returns the place of the option `--server` for a sender's address.
    fn option_of(&self, sender: IpAddr) -> Option<usize> {
        let resolved = || self.known.resolved.iter().find(|(addr, _)| *addr == sender);
        self.known.servers.of_sender(sender).or_else(|| resolved().map(|(_, option)| *option))
    }

    /// Returns whether a source stands for all servers beyond the limit.
    #[inline]
    pub(crate) fn is_beyond_limit(&self, source: u32) -> bool {
        self.others == Some(source)
    }

    fn of_key<T>(&mut self, key: ServerKey, engine: &mut Attributor<T>) -> u32 {
        if let Some(&source) = self.by_key.get(&key) {
            return source;
        }
        // Anyone can make up servers that send lines: the balancers' servers have as many places again.
        let most = if self.servers.has_mapped(key.addr) { 2 * self.most } else { self.most };
        if self.sources.len() >= most {
            return self.others(engine);
        }
        let server = self.servers.of_lines(key.addr, engine);
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
        let place = self.known.formats.iter().position(|format| own(&format));
        if let Some(place) = place {
            self.used_formats[place] = true;
        }
        let spec = place.map_or(&self.known.format, |place| &self.known.formats[place].1);
        let is_given =
            place.is_some() || self.known.servers.iter().any(|it| it.server.addr == key.addr);
        let source = u32::try_from(self.sources.len()).expect("bounded");
        let parser = Parser::new(&spec.clone().of_server(key.addr));
        let counts = OutcomeCounts::default();
        let first = (!parser.is_settled()).then(Box::default);
        self.sources.push(LineSource {
            key,
            server,
            parser,
            first,
            counts,
            clock: ServerClock::default(),
            blocks: BlockedLog::default(),
            watch: SourceWatch::default(),
            is_given,
        });
        self.by_key.insert(key, source);
        self.count_suspects();
        source
    }

    fn count_suspects(&mut self) {
        let is_suspect = |it: &LineSource| !it.is_given && !self.servers.is_mapped(it.server);
        self.has_suspects = self.sources.iter().any(is_suspect);
    }

    /// Returns whether nothing says that some source is a server.
    #[inline]
    pub(crate) const fn has_suspects(&self) -> bool {
        self.has_suspects
    }

    /// Returns whether no mapping and no option names the server of a source, whose lines have this client. The client
    /// of a balancer is no server.
    pub(crate) fn is_suspect(&self, source: u32, client: &[u8]) -> bool {
        self.sources.get(source as usize).is_some_and(|it| {
            !it.is_given
                && !self.servers.is_mapped(it.server)
                && !parse_ip(client).is_some_and(|addr| self.servers.has(addr))
        })
    }
}
