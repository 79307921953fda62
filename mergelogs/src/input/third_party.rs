//! Mapping logs of third-party balancers: names of servers, and the time zone of timestamps.

use std::collections::BTreeSet;
use std::sync::Arc;

use pen_records::access::LineError;
use pen_records::addr::ServerAddr;
use pen_records::attribution::{BalancerHashes, MappingEvent, THIRD_PARTY_BASE};
use pen_records::mapping::third_party_log::{
    ThirdPartyReader, ThirdPartyRecord, ThirdPartyServer, ThirdPartySpec,
};
use pen_records::request::{Cut, Fingerprint, without_protocol};
use pen_records::server_alias::{ANY_SERVER, ServerAliases};
use pen_records::time::{Resolution, Timestamp};

use crate::misfit::{MappingSample, SampledServer};
use crate::servers::{KnownServer, NamedServers};
use crate::zone::{LocalTimes, LogZone};

/// Limit of names in warnings.
const UNNAMED: usize = 8;

/// Settings for logs of third-party balancers.
#[derive(Clone, Debug)]
pub(crate) struct ThirdPartySettings {
    /// `None`: HAProxy's own formats, beside ours and the C balancer's.
    pub(crate) spec: Option<ThirdPartySpec>,
    pub(crate) zone: LogZone,
    pub(crate) names: Arc<ServerAliases>,
}

/// Reads the lines of one log.
pub(crate) struct ThirdPartyLogReader {
    of: ThirdPartySettings,
    reader: ThirdPartyReader,
    /// The number of the next record.
    number: u64,
    local: LocalTimes,
    /// Whether lines are read here and there, so that the order says nothing.
    is_sampled: bool,
    pub(crate) names: FoundNames,
}

/// What became of servers' names.
#[derive(Default)]
pub(crate) struct FoundNames {
    /// Names for which no address is known.
    pub(crate) unnamed: BTreeSet<String>,
    /// The options `--server` that a line needed, by place.
    pub(crate) options: BTreeSet<usize>,
}

/// What a line says.
#[expect(
    clippy::large_enum_variant,
    reason = "a value that lives for one line, mostly this variant"
)]
pub(crate) enum ThirdPartyLine {
    /// At most three records of one server.
    Records(KnownServer, [Option<MappingEvent>; 3]),
    /// About a server without access logs here.
    Elsewhere,
    /// Nothing about traffic.
    Nothing,
}

impl ThirdPartyLogReader {
    pub(crate) fn new(of: &ThirdPartySettings) -> Self {
        let spec = of.spec.clone().unwrap_or_else(ThirdPartySpec::haproxy);
        Self {
            of: of.clone(),
            reader: ThirdPartyReader::new(&spec),
            number: THIRD_PARTY_BASE,
            local: LocalTimes::new(of.zone),
            is_sampled: false,
            names: FoundNames::default(),
        }
    }

    /// Creates a reader for lines here and there in a log. A line without a zone whose hour comes twice has no time.
    pub(crate) fn of_samples(of: &ThirdPartySettings) -> Self {
        Self { is_sampled: true, ..Self::new(of) }
    }

    /// Returns whether a line that is no mapping of pen may be a third-party line.
    pub(crate) fn wants(&self, line: &[u8]) -> bool {
        self.of.spec.is_some() || ThirdPartyReader::may_be_haproxys(line)
    }

    /// Returns whether all lines are third-party lines.
    pub(crate) fn wants_all(&self) -> bool {
        self.of.spec.is_some()
    }

    /// Returns the time of a line's request.
    pub(crate) fn time(&mut self, line: &[u8]) -> Option<Timestamp> {
        let record = self.reader.read(line).ok()??;
        times(&record, &mut self.local, self.is_sampled).map(|(asked, ..)| asked)
    }

    /// Returns the request of a line without the protocol.
    pub(crate) fn target(&mut self, line: &[u8]) -> Option<Fingerprint> {
        let request = self.reader.read(line).ok()??.request();
        Fingerprint::of_raw(without_protocol(request), Cut::Target)
    }

    /// Returns time, server and request of a line, for a sample. The time is that of the end, which is nearer to the
    /// server's line.
    pub(crate) fn sample(
        &mut self,
        line: &[u8],
        servers: &NamedServers,
    ) -> Result<MappingSample, LineError> {
        let Some(record) = self.reader.read(line)? else {
            // A message of the balancer.
            return Ok(MappingSample { time: Timestamp::MIN, ..MappingSample::default() });
        };
        let (name, port, is_alias) = match record.whom {
            ThirdPartyServer::At(addr, port) => (addr.to_string(), port, false),
            ThirdPartyServer::Named { group, server } => {
                let both = [group, b"/", server].concat();
                (String::from_utf8_lossy(&both).into_owned(), None, true)
            }
            ThirdPartyServer::Nobody => (String::new(), None, true),
            ThirdPartyServer::Unnamed => (String::from_utf8_lossy(ANY_SERVER).into(), None, true),
        };
        let known = self.names.find(&record, &self.of.names, servers);
        let port = known.map_or(port, |(_, port)| port);
        let known = known.map(|(known, _)| known.id.0 as usize);
        let time = record.span.logged(|wall| self.local.ahead(wall));
        let time = time.map_or(Timestamp::MIN, |(_, end, _)| end);
        let request = record.request().to_vec();
        Ok(MappingSample {
            time,
            server: SampledServer { name, port, is_alias, known },
            short: Fingerprint::of_raw(&request, Cut::Short),
            request,
            ignores_protocol: true,
            balancer_port: record.balancer.map(|balancer| balancer.port()),
        })
    }

    /// Returns the records of a line about a known server. In a pass over the log, only records of the
    /// pass's servers are made.
    pub(crate) fn read(
        &mut self,
        line: &[u8],
        servers: &NamedServers,
        pass: Option<usize>,
        balancers: &mut BalancerHashes,
    ) -> Result<ThirdPartyLine, LineError> {
        self.number += 1;
        let Some(record) = self.reader.read(line)? else { return Ok(ThirdPartyLine::Nothing) };
        let Some((known, port)) = self.names.find(&record, &self.of.names, servers) else {
            return Ok(ThirdPartyLine::Elsewhere);
        };
        let mut records = [None; 3];
        if pass.is_some_and(|pass| pass != known.pass) {
            return Ok(ThirdPartyLine::Records(known, records));
        }
        let Some(times) = times(&record, &mut self.local, self.is_sampled) else {
            return Ok(ThirdPartyLine::Records(known, records));
        };
        let server = ServerAddr::Unix(b"/");
        let events = record.events((server, port), self.number, times);
        for (mapping, record) in events.zip(&mut records) {
            let Some((time, resolution)) = mapping.time else { continue };
            let time = (time.offset_by(known.ahead), resolution);
            *record = MappingEvent::with_exchange(&mapping, known.id, time, balancers);
        }
        Ok(ThirdPartyLine::Records(known, records))
    }
}

/// Returns when the request of a line went to the server, the end, and how finely both are known.
fn times(
    record: &ThirdPartyRecord<'_>,
    local: &mut LocalTimes,
    is_sampled: bool,
) -> Option<(Timestamp, Timestamp, Resolution)> {
    let mut is_unknown = false;
    let times = record.span.logged(|wall| {
        is_unknown = is_sampled && local.is_ambiguous(wall);
        local.ahead(wall)
    });
    times.filter(|_| !is_unknown)
}

impl FoundNames {
    /// Returns the server of a line, if its access logs are given, and its port.
    fn find(
        &mut self,
        record: &ThirdPartyRecord<'_>,
        names: &ServerAliases,
        servers: &NamedServers,
    ) -> Option<(KnownServer, Option<u16>)> {
        let (group, server) = match record.whom {
            ThirdPartyServer::At(addr, port) => {
                let known = servers.find(addr)?;
                self.options.extend(known.option.map(|option| option.place));
                return Some((known, known.option.and_then(|option| option.port).or(port)));
            }
            ThirdPartyServer::Nobody => return None,
            ThirdPartyServer::Named { group, server } => (group, server),
            ThirdPartyServer::Unnamed => (&b""[..], &b""[..]),
        };
        let both = [group, b"/", server].concat();
        for name in [&both[..], server, ANY_SERVER] {
            // A log on the command line may go by the name itself.
            if let Some(known) = servers.find(ServerAddr::Unix(name)) {
                self.options.extend(known.option.map(|option| option.place));
                return Some((known, known.option.and_then(|option| option.port)));
            }
            if let Some(place) = names.of_name(name) {
                self.options.insert(place);
                let server = names.server(place);
                return Some((servers.find(ServerAddr::Ip(server.addr))?, server.port));
            }
        }
        if self.unnamed.len() < UNNAMED {
            self.unnamed.insert(String::from_utf8_lossy(&both).into_owned());
        }
        None
    }
}
