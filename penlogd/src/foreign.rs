//! Lines of other balancers: HAProxy's, which tell themselves from access lines, and those of senders that the
//! user has named.

use std::net::IpAddr;

use pen_records::access::LineError;
use pen_records::addr::ServerAddr;
use pen_records::attribution::FOREIGN;
use pen_records::mapping::Mapping;
use pen_records::mapping::third_party_log::{
    ThirdPartyReader, ThirdPartyRecord, ThirdPartyServer, ThirdPartySpec,
};
use pen_records::time::{Resolution, Timestamp};

use crate::sources::{Sender, ServerKey};

/// Whose lines are those of a balancer, and how they are read.
pub(crate) struct Foreign {
    /// HAProxy's own formats, whoever sends them.
    haproxy: ThirdPartyReader,
    balancers: Vec<(Sender, ThirdPartyReader)>,
    /// Each passage has a number of its own.
    number: u64,
}

/// Which of the readers a line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Haproxy,
    Balancer(usize),
}

/// Why a line of a balancer is of no use.
#[derive(Clone, Debug)]
pub(crate) enum Useless {
    Unread(LineError),
    /// A server's name that has no address.
    Unnamed(String),
    /// The balancer answered itself.
    Nobody,
}

impl Foreign {
    pub(crate) fn new(balancers: &[(Sender, ThirdPartySpec)]) -> Self {
        let reader = |(sender, spec): &(Sender, ThirdPartySpec)| {
            (sender.clone(), ThirdPartyReader::new(spec))
        };
        Self {
            haproxy: ThirdPartyReader::new(&ThirdPartySpec::haproxy()),
            balancers: balancers.iter().map(reader).collect(),
            number: FOREIGN,
        }
    }

    /// The reader for a datagram that is none of ours, if it is a balancer's.
    pub(crate) fn of_datagram(&mut self, from: IpAddr, datagram: &[u8]) -> Option<Which> {
        if let Some(which) = self.of_sender(from, None) {
            return Some(which);
        }
        let may_be = datagram.first() == Some(&b'<') && ThirdPartyReader::may_be_haproxys(datagram);
        (may_be && self.haproxy.read(datagram).is_ok()).then_some(Which::Haproxy)
    }

    /// The reader for the lines of a sender, if it was named as a balancer.
    pub(crate) fn of_sender(&self, from: IpAddr, name: Option<&[u8]>) -> Option<Which> {
        let is_it = |(sender, _): &(Sender, ThirdPartyReader)| match sender {
            Sender::Addr(addr) => *addr == from,
            Sender::Name(own) => name == Some(own),
        };
        self.balancers.iter().position(is_it).map(Which::Balancer)
    }

    /// The mappings that stand for a line whose passage was over at `end`, and whether it has a request.
    pub(crate) fn mappings<'a>(
        &'a mut self,
        which: Which,
        line: &'a [u8],
        end: Timestamp,
        servers: &[(Sender, ServerKey)],
    ) -> Result<(bool, impl Iterator<Item = Mapping<'a>> + use<'a>), Useless> {
        self.number += 1;
        let reader = match which {
            Which::Haproxy => &mut self.haproxy,
            Which::Balancer(index) => &mut self.balancers[index].1,
        };
        let passage = reader.read(line).map_err(Useless::Unread)?;
        let server = server(&passage, servers)?;
        // When it came is what lines are compared by; its own stamp says only how long it took.
        let times = (passage.span.asked_before(end), end, Resolution::Microsecond);
        let moments = passage.moments(server, self.number, times);
        Ok((!passage.request().is_empty(), moments))
    }
}

fn server<'a>(
    passage: &ThirdPartyRecord<'a>,
    servers: &[(Sender, ServerKey)],
) -> Result<(ServerAddr<'a>, Option<u16>), Useless> {
    let (group, server) = match passage.whom {
        ThirdPartyServer::At(addr, port) => return Ok((addr, port)),
        ThirdPartyServer::Nobody => return Err(Useless::Nobody),
        ThirdPartyServer::Named { group, server } => (group, server),
    };
    let both = [group, b"/", server].concat();
    let find = |name: &[u8]| {
        let is_it =
            |(sender, _): &&(Sender, ServerKey)| matches!(sender, Sender::Name(own) if own == name);
        servers.iter().find(is_it).map(|(_, key)| (ServerAddr::from(key.addr), key.port))
    };
    find(&both)
        .or_else(|| find(server))
        .ok_or_else(|| Useless::Unnamed(both.escape_ascii().to_string()))
}
