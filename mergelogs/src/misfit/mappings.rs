//! Samples of mapping logs, of pen or of another balancer, and the servers that they name.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use pen_records::access::carried;
use pen_records::attribution::ServerIndex;
use pen_records::mapping::{Mapping, RequestText};
use pen_records::request::Fingerprint;
use pen_records::time::Timestamp;

use super::facts::{NamedServer, SurveyFacts};
use crate::config::MergeConfig;
use crate::input::reader::cut_short;
use crate::input::third_party::ThirdPartyLogReader;
use crate::servers::{KnownServer, NamedServers};

/// Servers without a log here that are told apart.
const OTHERS: usize = 100;

/// A mapping, or a record of another balancer.
#[derive(Clone, Debug, Default)]
pub(crate) struct MappingSample {
    /// [`Timestamp::MIN`] without a time.
    pub(crate) time: Timestamp,
    pub(crate) server: SampledServer,
    pub(crate) short: Option<Fingerprint>,
    pub(crate) request: Vec<u8>,
    /// Whether the request is compared without its protocol.
    pub(crate) ignores_protocol: bool,
    /// The balancer's own port towards the server.
    pub(crate) balancer_port: Option<u16>,
}

/// The server of a mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct SampledServer {
    /// As the mapping names it, without the port; empty if the balancer answered itself.
    pub(crate) name: String,
    pub(crate) port: Option<u16>,
    /// Whether the name is from the balancer's configuration.
    pub(crate) is_alias: bool,
    /// The first server of the command line with this address or name.
    pub(crate) known: Option<usize>,
}

/// Reads lines of mapping logs as the merge does.
pub(super) struct MappingSampler {
    third_party: ThirdPartyLogReader,
    /// Options `--server` in use by mappings of pen, by place.
    options: BTreeSet<usize>,
}

impl MappingSampler {
    pub(super) fn new(config: &MergeConfig) -> Self {
        let third_party = ThirdPartyLogReader::new(&config.third_party);
        Self { third_party, options: BTreeSet::new() }
    }

    /// Returns the options `--server` in use, by place.
    pub(super) fn options(&self) -> BTreeSet<usize> {
        &self.options | &self.third_party.names.options
    }

    /// Reads a line.
    ///
    /// # Errors
    /// What was expected, and at which byte.
    pub(super) fn read(
        &mut self,
        line: &[u8],
        known: &NamedServers,
    ) -> Result<MappingSample, String> {
        self.read_whole(line, known).or_else(|error| {
            let mut text = Vec::new();
            let carried = carried(line, &mut text).and_then(|it| self.read_whole(it, known).ok());
            carried.ok_or(error)
        })
    }

    fn read_whole(&mut self, line: &[u8], known: &NamedServers) -> Result<MappingSample, String> {
        if !self.third_party.wants_all() {
            match Mapping::parse_file_line(line) {
                Ok(mapping) => {
                    let option = known.find(mapping.server).and_then(|known| known.option);
                    self.options.extend(option.map(|option| option.place));
                    return Ok(sample(&mapping, known));
                }
                Err(error) if !self.third_party.wants(line) => return Err(error.to_string()),
                Err(_) => {}
            }
        }
        self.third_party.sample(line, known).map_err(|error| error.to_string())
    }
}

fn sample(mapping: &Mapping<'_>, known: &NamedServers) -> MappingSample {
    let request = mapping.request.map_or(&b""[..], |request| request.bytes).to_vec();
    MappingSample {
        time: mapping.time.map_or(Timestamp::MIN, |(time, _)| time),
        server: SampledServer {
            name: mapping.server.to_string(),
            port: mapping.server_port,
            is_alias: false,
            known: known.find(mapping.server).map(|known| known.id.0 as usize),
        },
        short: cut_short(mapping).request.and_then(RequestText::fingerprint),
        request,
        ignores_protocol: false,
        balancer_port: mapping.balancer.map(|balancer| balancer.port()),
    }
}

/// Numbers the servers of mappings: first the servers of the command line, then the rest by arrival.
pub(super) struct SurveyNames<'a> {
    config: &'a MergeConfig,
    known: Rc<NamedServers>,
    numbers: HashMap<SampledServer, Rc<[usize]>>,
}

impl<'a> SurveyNames<'a> {
    pub(super) fn new(config: &'a MergeConfig) -> Self {
        let mut known = NamedServers::default();
        for (index, server) in config.servers.iter().enumerate() {
            if known.find(server.addr()).is_none() {
                let id = ServerIndex(u32::try_from(index).unwrap_or(u32::MAX));
                known.insert(server.addr(), KnownServer::new(id, 0, 0));
            }
        }
        known.add_names(&config.third_party.names);
        Self { config, known: Rc::new(known), numbers: HashMap::new() }
    }

    /// Returns the servers of the command line.
    pub(super) fn known(&self) -> Rc<NamedServers> {
        Rc::clone(&self.known)
    }

    /// Returns the numbers of a server, and notes that it is named. Several servers of the command line may have one
    /// address.
    pub(super) fn numbers(
        &mut self,
        server: &SampledServer,
        facts: &mut SurveyFacts,
    ) -> Rc<[usize]> {
        if let Some(numbers) = self.numbers.get(server) {
            return Rc::clone(numbers);
        }
        let numbers: Rc<[usize]> = match server.known {
            Some(first) => self.given(first, server.port, facts).into(),
            None => other(server, facts).into_iter().collect(),
        };
        self.numbers.insert(server.clone(), Rc::clone(&numbers));
        numbers
    }

    /// Returns the servers of the command line at one address that a mapping with this port is of.
    fn given(&self, first: usize, port: Option<u16>, facts: &mut SurveyFacts) -> Vec<usize> {
        let servers = &self.config.servers;
        let mut numbers = Vec::new();
        for (index, server) in servers.iter().enumerate() {
            if server.addr() != servers[first].addr() {
                continue;
            }
            match (server.port, port) {
                (Some(given), Some(port)) if given != port => {
                    facts.servers[index].other_ports.insert(port);
                }
                _ => {
                    facts.servers[index].is_named = true;
                    numbers.push(index);
                }
            }
        }
        numbers
    }
}

/// Returns the number of a server without a log here.
fn other(server: &SampledServer, facts: &mut SurveyFacts) -> Option<usize> {
    if server.name.is_empty() {
        return None;
    }
    let given = facts.servers.len();
    let others = &mut facts.others;
    if let Some(place) = others.iter().position(|other| other.name == server.name) {
        return Some(given + place);
    }
    if others.len() >= OTHERS {
        return None;
    }
    others.push(NamedServer { name: server.name.clone(), is_alias: server.is_alias });
    Some(given + others.len() - 1)
}
