//! Log lines of balancers other than pen: HAProxy's, which are recognized, and those of senders named by the user.

use std::net::IpAddr;

use pen_records::access::LineError;
use pen_records::addr::ServerAddr;
use pen_records::attribution::THIRD_PARTY_BASE;
use pen_records::mapping::Mapping;
use pen_records::mapping::third_party_log::{
    ThirdPartyReader, ThirdPartyRecord, ThirdPartyServer, ThirdPartySpec,
};
use pen_records::server_alias::ServerAliases;
use pen_records::time::{Resolution, Timestamp};

use crate::sources::LineSender;

/// The readers of third-party logs.
pub(crate) struct ThirdPartyReaders {
    /// HAProxy's own formats, from any sender.
    haproxy: ThirdPartyReader,
    balancers: Vec<(LineSender, ThirdPartyReader)>,
    /// Number of the last line, as its connection number.
    number: u64,
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
    /// The balancer answered the request itself.
    NoServer,
}

impl ThirdPartyReaders {
    pub(crate) fn new(balancers: &[(LineSender, ThirdPartySpec)]) -> Self {
        let reader = |(sender, spec): &(LineSender, ThirdPartySpec)| {
            (sender.clone(), ThirdPartyReader::new(spec))
        };
        Self {
            haproxy: ThirdPartyReader::new(&ThirdPartySpec::haproxy()),
            balancers: balancers.iter().map(reader).collect(),
            number: THIRD_PARTY_BASE,
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
    pub(crate) fn of_sender(&self, from: IpAddr, name: Option<&[u8]>) -> Option<ReaderId> {
        let is_it = |(sender, _): &(LineSender, ThirdPartyReader)| match sender {
            LineSender::Addr(addr) => *addr == from,
            LineSender::Name(own) => name == Some(own),
        };
        self.balancers.iter().position(is_it).map(ReaderId::Balancer)
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
            ReaderId::Balancer(index) => &mut self.balancers[index].1,
        };
        let record = reader.read(line).map_err(UnusableLine::Malformed)?;
        let server = server(&record, servers)?;
        // Lines are joined by arrival times; the line's own times only give durations.
        let times = (record.span.asked_before(end), end, Resolution::Microsecond);
        let events = record.events(server, self.number, times);
        Ok((!record.request().is_empty(), events))
    }
}

fn server<'a>(
    record: &ThirdPartyRecord<'a>,
    servers: &ServerAliases,
) -> Result<(ServerAddr<'a>, Option<u16>), UnusableLine> {
    let (group, server) = match record.whom {
        ThirdPartyServer::At(addr, port) => return Ok((addr, port)),
        ThirdPartyServer::Nobody => return Err(UnusableLine::NoServer),
        ThirdPartyServer::Named { group, server } => (group, server),
    };
    let both = [group, b"/", server].concat();
    let find = |name: &[u8]| {
        let key = servers.server(servers.of_name(name)?);
        Some((ServerAddr::from(key.addr), key.port))
    };
    find(&both)
        .or_else(|| find(server))
        .ok_or_else(|| UnusableLine::UnknownServer(both.escape_ascii().to_string()))
}
