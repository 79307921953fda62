//! What tells requests of one server apart, on both sides: the port that they came by, the headers that came with
//! them, or nothing but what was asked.

use std::collections::HashMap;
use std::num::NonZeroU32;

use pen_records::attribution::{LoggedLine, MappingEvent};
use pen_records::clocks::{ClockOffset, ClockSample, estimate};
use pen_records::mapping::MappingKind;
use pen_records::request::Fingerprint;
use pen_records::time::{Resolution, Timestamp};

/// Ways to tell requests apart, the most telling first: request and port, request with User-Agent and Referer,
/// request, port alone.
const WAYS: usize = 4;
const BY_REQUEST: usize = 2;
const BY_PORT: usize = 3;
/// Mappings that are kept for each way, of all servers together.
const MAPPINGS: usize = 1 << 19;
/// Requests remembered until their response ends.
const PENDING: usize = 1 << 16;
/// The exchange ends with its connection, not with this.
const SWITCHING: u16 = 101;

/// A request's key by each way that it has one for.
type Keys = [Option<u64>; WAYS];
type Stamp = (Timestamp, Resolution);

/// The lines of a server.
pub(super) struct Lines([ClockSample; WAYS]);

/// The balancer's records of the same requests.
pub(super) struct Mappings {
    samples: [ClockSample; WAYS],
    /// Requests whose response has not ended: by balancer, connection and number.
    pending: HashMap<(Option<NonZeroU32>, u64, u32), (Keys, Stamp)>,
    /// Whether the end of any was noted.
    has_ends: bool,
}

impl Default for Lines {
    fn default() -> Self {
        Self(std::array::from_fn(|_| ClockSample::new(usize::MAX)))
    }
}

impl Lines {
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(ClockSample::is_empty)
    }

    pub(super) fn add(&mut self, line: &LoggedLine) {
        let mut keys = keys(line.short, line.peer_port, line.user_agent.zip(line.referer));
        keys[BY_PORT] = line.peer_port.map(|port| mix(1, port.into()));
        add(&mut self.0, keys, (line.time, line.resolution));
    }

    /// Where to put the balancer's records of these, of so many servers.
    pub(super) fn mappings(&self, servers: usize) -> Mappings {
        let most_each =
            |lines: &ClockSample| (MAPPINGS / servers.max(1) / lines.len().max(1)).max(4);
        let samples = std::array::from_fn(|way| ClockSample::new(most_each(&self.0[way])));
        Mappings { samples, pending: HashMap::new(), has_ends: false }
    }

    /// The first way that says anything does.
    pub(super) fn compare(&self, mut mappings: Mappings) -> ClockOffset {
        mappings.finish();
        let ways = self.0.iter().zip(&mappings.samples);
        ways.map(|(lines, mappings)| estimate(mappings, lines))
            .find(|offset| offset.votes > 0)
            .unwrap_or_default()
    }
}

impl Mappings {
    /// Takes a record, if the request is one of the lines'.
    pub(super) fn add(&mut self, record: &MappingEvent, lines: &Lines) {
        let time = (record.time, record.resolution);
        let request = record.request.filter(|request| lines.0[BY_REQUEST].has(request.get()));
        let Some(exchange) = &record.exchange else {
            return add(&mut self.samples, keys(request, None, None), time);
        };
        let number = (exchange.balancer, exchange.connection, exchange.nth);
        let port = exchange.port.map_or(0, u16::from);
        match exchange.kind {
            MappingKind::Opened => {
                let mut keys = Keys::default();
                keys[BY_PORT] = Some(mix(1, port.into()));
                add(&mut self.samples, keys, time);
            }
            MappingKind::Request => {
                if request.is_some() && self.pending.len() < PENDING {
                    let hash = |hash: Option<NonZeroU32>| hash.map_or(0, u32::from);
                    let headers = Some((hash(exchange.user_agent), hash(exchange.referer)));
                    let keys = keys(request, Some(port), headers);
                    self.pending.insert(number, (keys, time));
                }
            }
            MappingKind::Ended => {
                self.has_ends = true;
                if let Some((keys, _)) = self.pending.remove(&number)
                    && exchange.status.is_none_or(|status| status.get() != SWITCHING)
                {
                    add(&mut self.samples, keys, time);
                }
            }
            MappingKind::Closed => {}
        }
    }

    /// Where no ends were noted at all, it is when requests came that counts.
    fn finish(&mut self) {
        if !self.has_ends {
            for (keys, time) in std::mem::take(&mut self.pending).into_values() {
                add(&mut self.samples, keys, time);
            }
        }
    }
}

fn add(samples: &mut [ClockSample; WAYS], keys: Keys, time: Stamp) {
    for (sample, key) in samples.iter_mut().zip(keys) {
        if let Some(key) = key {
            sample.add(key, time);
        }
    }
}

/// Of a request, by which port it came, and the hashes of its User-Agent and its Referer.
fn keys(request: Option<Fingerprint>, port: Option<u16>, headers: Option<(u32, u32)>) -> Keys {
    let Some(request) = request.map(Fingerprint::get) else { return Keys::default() };
    let by_port = port.map(|port| mix(request, port.into()));
    let by_headers =
        headers.map(|(agent, referer)| mix(request, u64::from(agent) << 32 | u64::from(referer)));
    [by_port, by_headers, Some(request), None]
}

/// Not the mixing function of `pen_records`: of keys that are equally rare, the order of these numbers decides which
/// are compared first, and figures were taken with this order.
fn mix(a: u64, b: u64) -> u64 {
    let mixed = (a ^ b.wrapping_mul(0xA076_1D64_78BD_642F)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ mixed >> 29
}
