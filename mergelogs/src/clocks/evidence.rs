//! Keys that tell requests of one server apart in both logs: by port, by logged headers, or by the request
//! alone.

use std::collections::HashMap;
use std::num::NonZeroU32;

use pen_records::attribution::{LoggedLine, MappingEvent};
use pen_records::clocks::{ClockOffset, ClockSample, OffsetCheck, check, estimate};
use pen_records::mapping::MappingKind;
use pen_records::request::Fingerprint;
use pen_records::time::{Resolution, Timestamp};

/// Ways to tell requests apart, the most telling first: request and port, request with User-Agent and Referer,
/// request, port alone.
const WAYS: usize = 4;
const BY_REQUEST: usize = 2;
const BY_PORT: usize = 3;
/// Limit of mappings kept per kind of key, of all servers together.
const MAPPINGS: usize = 1 << 19;
/// Requests remembered until their response ends.
const PENDING: usize = 1 << 16;
/// The exchange ends with the connection, not with this record.
const SWITCHING: u16 = 101;

/// The keys of a request, one per kind where available.
pub(super) type RequestKeys = [Option<u64>; WAYS];
type SampleTime = (Timestamp, Resolution);

/// The sampled lines of a server.
pub(super) struct ServerSamples([ClockSample; WAYS]);

/// The sampled records of the balancer about the same requests.
pub(super) struct MappingSamples {
    samples: [ClockSample; WAYS],
    /// Requests whose response has not ended: by balancer, connection and number.
    pending: HashMap<(Option<NonZeroU32>, u64, u32), (RequestKeys, SampleTime)>,
    /// Whether any response's end was recorded.
    has_ends: bool,
}

impl Default for ServerSamples {
    fn default() -> Self {
        Self(std::array::from_fn(|_| ClockSample::new(usize::MAX)))
    }
}

impl ServerSamples {
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(ClockSample::is_empty)
    }

    /// Whether the stamps of lines are whole seconds.
    pub(super) fn is_coarse(&self) -> bool {
        self.0.iter().any(ClockSample::is_coarse)
    }

    pub(super) fn add_keys(&mut self, keys: RequestKeys, time: SampleTime) {
        add(&mut self.0, keys, time);
    }

    /// Returns an empty sample for the balancer's records of these lines, with its share for `servers`.
    pub(super) fn mappings(&self, servers: usize) -> MappingSamples {
        let most_each =
            |lines: &ClockSample| (MAPPINGS / servers.max(1) / lines.len().max(1)).max(4);
        let samples = std::array::from_fn(|way| ClockSample::new(most_each(&self.0[way])));
        MappingSamples { samples, pending: HashMap::new(), has_ends: false }
    }

    /// Compares under a known center, by the kind of key by which most lines find a mapping.
    pub(super) fn check(&self, mappings: &MappingSamples, center: i64) -> OffsetCheck {
        let ways = self.0.iter().zip(&mappings.samples).rev();
        let used = ways.filter(|(lines, mappings)| !lines.is_empty() && !mappings.is_empty());
        used.map(|(lines, mappings)| check(mappings, lines, center))
            .max_by_key(|found| found.gain)
            .unwrap_or_else(|| OffsetCheck::without_mappings(self.0[BY_REQUEST].requests(), center))
    }

    /// Returns the offset by the first kind of key that yields one.
    pub(super) fn compare(&self, mappings: &MappingSamples) -> ClockOffset {
        let ways = self.0.iter().zip(&mappings.samples);
        ways.map(|(lines, mappings)| estimate(mappings, lines))
            .find(|offset| offset.votes > 0)
            .unwrap_or_default()
    }
}

impl MappingSamples {
    /// Adds a record, if its request is among the sampled lines.
    pub(super) fn add(&mut self, record: &MappingEvent, lines: &ServerSamples) {
        let time = (record.time, record.resolution);
        let request = record.request.filter(|request| lines.0[BY_REQUEST].has(request.get()));
        let Some(exchange) = &record.exchange else {
            return add(&mut self.samples, keys(request, None, None), time);
        };
        let number = (exchange.balancer, exchange.connection, exchange.nth);
        let port = exchange.port.map_or(0, u16::from);
        match exchange.kind {
            MappingKind::Opened => {
                let mut keys = RequestKeys::default();
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

    /// Adds microseconds of which all records are added.
    pub(super) fn cover(&mut self, micros: i64) {
        self.samples.iter_mut().for_each(|sample| sample.cover(micros));
    }

    /// Whether the balancer's stamps are whole seconds.
    pub(super) fn is_coarse(&self) -> bool {
        self.samples[BY_REQUEST].is_coarse()
    }

    /// Whether a line's request is among the records' at any time.
    pub(super) fn knows(&self, line: &RequestKeys) -> bool {
        line[BY_REQUEST].is_some_and(|request| self.samples[BY_REQUEST].has(request))
    }

    /// Returns the kind of key, the most telling first, that lines and mappings both have.
    pub(super) fn best_way(&self, lines: &ServerSamples) -> Option<(usize, &ClockSample)> {
        let mut ways = lines.0.iter().zip(&self.samples).enumerate();
        ways.find(|(_, (lines, mappings))| !lines.is_empty() && !mappings.is_empty())
            .map(|(way, (_, mappings))| (way, mappings))
    }

    /// Uses the times of requests where no response's end was recorded.
    pub(super) fn finish(&mut self) {
        if !self.has_ends {
            for (keys, time) in std::mem::take(&mut self.pending).into_values() {
                add(&mut self.samples, keys, time);
            }
        }
    }
}

/// The keys of a line, with the protocol of the request or without.
pub(super) fn line_keys(line: &LoggedLine, by_target: bool) -> RequestKeys {
    let request = if by_target { line.target } else { line.short };
    let mut keys = keys(request, line.peer_port, line.user_agent.zip(line.referer));
    keys[BY_PORT] = line.peer_port.map(|port| mix(1, port.into()));
    keys
}

fn add(samples: &mut [ClockSample; WAYS], keys: RequestKeys, time: SampleTime) {
    for (sample, key) in samples.iter_mut().zip(keys) {
        if let Some(key) = key {
            sample.add(key, time);
        }
    }
}

/// Returns the port of a request and the hashes of its User-Agent and Referer.
fn keys(
    request: Option<Fingerprint>,
    port: Option<u16>,
    headers: Option<(u32, u32)>,
) -> RequestKeys {
    let Some(request) = request.map(Fingerprint::get) else { return RequestKeys::default() };
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
