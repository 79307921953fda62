//! The servers that mappings name: by address, and by the spellings that a mapping log uses.

use std::collections::HashMap;
use std::net::IpAddr;

use pen_records::addr::ServerAddr;
use pen_records::attribution::ServerIndex;
use pen_records::mapping::MappingError;
use pen_records::mapping::classic::FileLine;

/// The servers a mapping may name, and how far each one's clock is from the balancer's.
#[derive(Clone, Default)]
pub(crate) struct Servers {
    ips: Vec<(IpAddr, Known)>,
    paths: HashMap<Vec<u8>, Known>,
}

/// A server that logs were given for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) id: ServerIndex,
    /// Microseconds its clock is ahead of the balancer's.
    pub(crate) ahead: i64,
    /// Which pass over the mapping logs its records come from.
    pub(crate) pass: usize,
}

impl Servers {
    pub(crate) fn insert(&mut self, addr: ServerAddr<'_>, known: Known) {
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

    pub(crate) fn find(&self, addr: ServerAddr<'_>) -> Option<Known> {
        match addr {
            ServerAddr::Ip(ip) => {
                let at = self.ips.binary_search_by_key(&ip, |&(ip, _)| ip).ok()?;
                Some(self.ips[at].1)
            }
            ServerAddr::Unix(path) => self.paths.get(path).copied(),
        }
    }
}

/// The spellings of servers seen last and whom they name, so that they are not read for each mapping.
pub(crate) struct Names {
    /// Each spelling in a place of its own or in that of another, which it takes over.
    slots: Vec<(Vec<u8>, Option<Known>)>,
}

impl Default for Names {
    fn default() -> Self {
        Self { slots: vec![(Vec::new(), None); 1 << SLOT_BITS] }
    }
}

const SLOT_BITS: u32 = 6;

impl Names {
    /// `None`: a server that no logs were given for.
    #[inline]
    pub(crate) fn find(
        &mut self,
        line: &FileLine<'_>,
        servers: &Servers,
    ) -> Result<Option<Known>, MappingError> {
        let text = line.server_text;
        let (spelling, known) = &mut self.slots[Self::slot(text)];
        if text != spelling.as_slice() || text.is_empty() {
            *known = servers.find(line.server()?);
            spelling.clear();
            spelling.extend_from_slice(text);
        }
        Ok(*known)
    }

    /// Where servers differ, they mostly differ in their last bytes.
    #[inline]
    fn slot(text: &[u8]) -> usize {
        let last = text.last_chunk().map_or(0, |last| u64::from_le_bytes(*last));
        (last.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - SLOT_BITS)) as usize
    }
}
