//! The servers that mappings name, by address and by their spellings in mapping logs.

use std::collections::HashMap;
use std::net::IpAddr;

use pen_records::addr::ServerAddr;
use pen_records::attribution::ServerIndex;
use pen_records::mapping::MappingError;
use pen_records::mapping::classic::FileLine;

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
    ) -> Result<Option<KnownServer>, MappingError> {
        let text = line.server_text;
        let (spelling, known) = &mut self.slots[Self::slot(text)];
        if text != spelling.as_slice() || text.is_empty() {
            *known = servers.find(line.server()?);
            spelling.clear();
            spelling.extend_from_slice(text);
        }
        Ok(*known)
    }

    /// Returns the slot of a spelling. Addresses of servers mostly differ in their last bytes.
    #[inline]
    fn slot(text: &[u8]) -> usize {
        let last = text.last_chunk().map_or(0, |last| u64::from_le_bytes(*last));
        (last.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - SLOT_BITS)) as usize
    }
}
