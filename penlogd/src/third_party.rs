//! Log lines of balancers other than pen: HAProxy's, which are recognized, and those of senders named by the user.

use std::collections::BTreeSet;
use std::net::IpAddr;

use pen_records::access::LineError;
use pen_records::addr::ServerAddr;
use pen_records::attribution::THIRD_PARTY_BASE;
use pen_records::mapping::Mapping;
use pen_records::mapping::third_party_log::{
    ThirdPartyReader, ThirdPartyRecord, ThirdPartyServer, ThirdPartySpec,
};
use pen_records::server_alias::{ANY_SERVER, ServerAliases};
use pen_records::time::{Resolution, Timestamp};

use crate::sources::{BalancerSender, LineSender};

/// The readers of third-party logs.
pub(crate) struct ThirdPartyReaders {
    /// HAProxy's own formats, from any sender.
    haproxy: ThirdPartyReader,
    balancers: Vec<NamedBalancer>,
    /// Number of the last line, as its connection number.
    number: u64,
    /// The options `--server` that a name needed so far, by place.
    names: BTreeSet<usize>,
}

/// A balancer that the user named.
struct NamedBalancer {
    name: String,
    senders: Vec<LineSender>,
    reader: ThirdPartyReader,
    /// Whether it sent something so far.
    is_used: bool,
}

/// Selects a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReaderId {
    Haproxy,
    Balancer(usize),
}

/// Why a line is of no use.
#[derive(Clone, Debug)]
pub(crate) enum UnusableLine {
    Malformed(LineError),
    /// The address of this server is unknown.
    UnknownServer(String),
    /// The balancer answered the request itself, or the line is about no traffic.
    NoServer,
}

impl ThirdPartyReaders {
    pub(crate) fn new(balancers: &[BalancerSender]) -> Self {
        let reader = |balancer: &BalancerSender| NamedBalancer {
            name: balancer.name.clone(),
            senders: balancer.senders.clone(),
            reader: ThirdPartyReader::new(&balancer.spec),
            is_used: false,
        };
        Self {
            haproxy: ThirdPartyReader::new(&ThirdPartySpec::haproxy()),
            balancers: balancers.iter().map(reader).collect(),
            number: THIRD_PARTY_BASE,
            names: BTreeSet::new(),
        }
    }

    /// Returns the reader for a datagram, if it is a third-party balancer's.
    pub(crate) fn of_datagram(&mut self, from: IpAddr, datagram: &[u8]) -> Option<ReaderId> {
        if let Some(reader) = self.of_sender(from, None) {
            return Some(reader);
        }
        let may_be = datagram.first() == Some(&b'<') && ThirdPartyReader::may_be_haproxys(datagram);
        (may_be && self.haproxy.read(datagram).is_ok()).then_some(ReaderId::Haproxy)
    }

    /// Returns the reader for a sender that the user named as a balancer.
    pub(crate) fn of_sender(&mut self, from: IpAddr, name: Option<&[u8]>) -> Option<ReaderId> {
        let is_it = |sender: &LineSender| match sender {
            LineSender::Addr(addr) => *addr == from,
            LineSender::Name(own) => name == Some(own),
        };
        let place = self.balancers.iter().position(|it| it.senders.iter().any(is_it))?;
        self.balancers[place].is_used = true;
        Some(ReaderId::Balancer(place))
    }

    /// Returns whether a name in a line needed the option `--server` at this place.
    pub(crate) fn has_used(&self, place: usize) -> bool {
        self.names.contains(&place)
    }

    /// Returns the senders that were named as balancers and sent nothing so far.
    pub(crate) fn unused_senders(&self) -> impl Iterator<Item = &str> {
        self.balancers.iter().filter(|it| !it.is_used).map(|it| it.name.as_str())
    }

    /// Returns the mappings that stand for a line which arrived at `end`, and whether it contains a request.
    pub(crate) fn mappings<'a>(
        &'a mut self,
        reader: ReaderId,
        line: &'a [u8],
        end: Timestamp,
        servers: &ServerAliases,
    ) -> Result<(bool, impl Iterator<Item = Mapping<'a>> + use<'a>), UnusableLine> {
        self.number += 1;
        let reader = match reader {
            ReaderId::Haproxy => &mut self.haproxy,
            ReaderId::Balancer(index) => &mut self.balancers[index].reader,
        };
        let record = reader.read(line).map_err(UnusableLine::Malformed)?;
        let record = record.ok_or(UnusableLine::NoServer)?;
        let server = server(&record, servers, &mut self.names)?;
        // Lines are joined by arrival times; the line's own times only give durations.
        let times = (record.span.asked_before(end), end, Resolution::Microsecond);
        let events = record.events(server, self.number, times);
        Ok((!record.request().is_empty(), events))
    }
}

fn server<'a>(
    record: &ThirdPartyRecord<'a>,
    servers: &ServerAliases,
    used: &mut BTreeSet<usize>,
) -> Result<(ServerAddr<'a>, Option<u16>), UnusableLine> {
    let (group, server) = match record.whom {
        ThirdPartyServer::At(addr, port) => return Ok((addr, port)),
        ThirdPartyServer::Nobody => return Err(UnusableLine::NoServer),
        ThirdPartyServer::Named { group, server } => (group, server),
        ThirdPartyServer::Unnamed => (&b""[..], &b""[..]),
    };
    let both = [group, b"/", server].concat();
    let mut find = |name: &[u8]| {
        let place = servers.of_name(name)?;
        used.insert(place);
        let key = servers.server(place);
        Some((ServerAddr::from(key.addr), key.port))
    };
    [&both[..], server, ANY_SERVER]
        .into_iter()
        .find_map(&mut find)
        .ok_or_else(|| UnusableLine::UnknownServer(both.escape_ascii().to_string()))
}
