//! Estimates how far each server's clock is ahead of the balancer's, from samples before the merge.
//!
//! Both logs are sampled from the time at which both have begun. A short sample shows clocks that nearly
//! agree; for other clocks the mapping log is searched for an hour around the same requests.

mod evidence;
pub(crate) mod walk;

use std::fmt;
use std::ops::ControlFlow;

use pen_records::access::Parser;
use pen_records::attribution::{
    BalancerHashes, FingerprintCuts, LoggedLine, MappingEvent, ServerIndex,
};
use pen_records::mapping::Mapping;
use pen_records::request::Cut;
use pen_records::time::Timestamp;

use self::evidence::{MappingSamples, ServerSamples};
use self::walk::walk;
use crate::config::{MergeConfig, ServerInputs};
use crate::input::heads::InputHead;
use crate::input::reader::cut_short;
use crate::input::third_party::{ThirdPartyLine, ThirdPartyLogReader, ThirdPartySettings};
use crate::servers::{KnownServer, NamedServers};
use crate::zone::AccessTimes;

const SECOND: i64 = 1_000_000;
/// Bytes of lines sampled from all servers together.
const LINES: usize = 64 << 20;
/// Least and most bytes of lines sampled from each server.
const LINES_EACH: (usize, usize) = (64 << 10, 512 << 10);
/// Servers whose logs begin within this time share a sample of mappings.
const SHARED: i64 = 30 * SECOND;

/// The part of the mapping log that is searched for the lines' requests.
#[derive(Clone, Copy)]
struct SearchReach {
    before: i64,
    after: i64,
    bytes: usize,
}

const NEAR: SearchReach = SearchReach { before: 5 * SECOND, after: 5 * SECOND, bytes: 8 << 20 };
const FAR: SearchReach =
    SearchReach { before: 4_000 * SECOND, after: 3_700 * SECOND, bytes: 256 << 20 };

/// Smaller offsets are not corrected.
const SMALL: i64 = SECOND / 2;
/// Smaller offsets are not reported.
const TINY: i64 = SECOND / 10;

/// The offset of a server's clock from the balancer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ArchiveClock {
    /// Microseconds the server's clock is ahead.
    pub(crate) ahead: i64,
    /// Possible error of `ahead`, in microseconds.
    pub(crate) within: i64,
    /// Number of requests that support the offset; 0 if unknown.
    pub(crate) votes: u32,
}

impl ArchiveClock {
    pub(crate) fn is_worth_a_word(self) -> bool {
        self.ahead.abs() >= TINY
    }

    /// Returns the offset to correct, in microseconds.
    pub(crate) fn correction(self) -> i64 {
        if self.ahead.abs() < SMALL { 0 } else { self.ahead }
    }
}

impl fmt::Display for ArchiveClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, way) =
            (Seconds(self.ahead.abs()), if self.ahead < 0 { "behind" } else { "ahead of" });
        write!(f, "clock {seconds} s {way} the balancer's, by {} requests", self.votes)
    }
}

/// Microseconds, shown as seconds: whole ones, or to a thousandth.
pub(crate) struct Seconds(pub(crate) i64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.saturating_add(500).div_euclid(1_000);
        let sign = if millis < 0 { "-" } else { "" };
        let (seconds, part) = (millis.unsigned_abs() / 1_000, millis.unsigned_abs() % 1_000);
        match part {
            0 => write!(f, "{sign}{seconds}"),
            _ => write!(f, "{sign}{seconds}.{part:03}"),
        }
    }
}

/// The samples of a server.
struct ClockSide {
    /// The time span of the lines sampled.
    start: Timestamp,
    end: Timestamp,
    lines: ServerSamples,
    mappings: Option<MappingSamples>,
    clock: Option<ArchiveClock>,
}

/// Compares all clocks. Inputs that can be read only once are skipped.
pub(crate) fn compare(
    config: &MergeConfig,
    mappings: &[InputHead],
    logs: &[(usize, InputHead)],
) -> Vec<ArchiveClock> {
    let mappings = begun(mappings.iter());
    let Some(first_mapping) = mappings.first().map(|head| head.first_time) else {
        return vec![ArchiveClock::default(); config.servers.len()];
    };
    let mut sides: Vec<ClockSide> = Vec::new();
    let mut servers = NamedServers::default();
    let most = (LINES / config.servers.len().max(1)).clamp(LINES_EACH.0, LINES_EACH.1);
    for (index, server) in config.servers.iter().enumerate() {
        if machine(config, index) == index {
            let id = ServerIndex(u32::try_from(index).unwrap_or(u32::MAX));
            servers.insert(server.addr(), KnownServer::new(id, 0, 0));
        }
        let logs = begun(logs.iter().filter(|(of, _)| *of == index).map(|(_, head)| head));
        let start = logs.first().map_or(first_mapping, |head| head.first_time.max(first_mapping));
        let mut side = ClockSide::of_lines(&logs, server, start, most);
        if side.lines.is_empty()
            && let Some(first) = logs.first()
        {
            // By its clock it ended before the mapping log begins.
            side = ClockSide::of_lines(&logs, server, first.first_time, most);
        }
        match sides.get_mut(machine(config, index)) {
            // One machine, one clock: the first sample that has something speaks for it.
            Some(first) => {
                if first.lines.is_empty() {
                    *first = side;
                }
                sides.push(ClockSide::empty(start));
            }
            None => sides.push(side),
        }
    }
    servers.add_names(&config.third_party.names);
    for reach in [NEAR, FAR] {
        sample_mappings(&mappings, (&config.third_party, &servers), &mut sides, reach);
        settle(&mut sides);
    }
    (0..sides.len()).map(|index| sides[machine(config, index)].clock.unwrap_or_default()).collect()
}

/// The first server at the same address: mappings and clocks are an address's, not a port's.
fn machine(config: &MergeConfig, index: usize) -> usize {
    let addr = config.servers[index].addr();
    config.servers.iter().position(|server| server.addr() == addr).unwrap_or(index)
}

/// The fingerprints of sampled lines.
const SAMPLED: FingerprintCuts = FingerprintCuts { short: true, long: true, target: false };

impl ClockSide {
    fn empty(start: Timestamp) -> Self {
        Self { start, end: start, lines: ServerSamples::default(), mappings: None, clock: None }
    }

    /// Samples `most` bytes of lines from `start` on, where both logs have begun.
    fn of_lines(logs: &[&InputHead], server: &ServerInputs, start: Timestamp, most: usize) -> Self {
        let (mut parser, mut times) = (Parser::new(&server.spec), AccessTimes::new(server.zone));
        let mut side = Self::empty(start);
        let parse = |line: &[u8]| {
            let parsed = parser.parse(line).ok()?;
            let stamp = times.of_single(&parsed)?;
            Some((stamp.0, LoggedLine::new(line, &parsed, SAMPLED, ServerIndex(0), stamp)))
        };
        walk(logs, start, most, parse, |time, line| {
            side.lines.add(&line);
            side.end = side.end.max(time);
            ControlFlow::Continue(())
        });
        side
    }
}

/// Returns the inputs whose first time is known, by that time.
fn begun<'a>(heads: impl Iterator<Item = &'a InputHead>) -> Vec<&'a InputHead> {
    let mut heads: Vec<_> = heads.filter(|head| head.first_time > Timestamp::MIN).collect();
    heads.sort_by_key(|head| head.first_time);
    heads
}

fn settle(sides: &mut [ClockSide]) {
    for side in sides.iter_mut().filter(|side| side.clock.is_none()) {
        let Some(mappings) = side.mappings.take() else { continue };
        let offset = side.lines.compare(mappings);
        if offset.votes > 0 {
            let (ahead, within, votes) = (offset.ahead, offset.within, offset.votes);
            side.clock = Some(ArchiveClock { ahead, within, votes });
        }
    }
}

/// Samples the mappings of servers without an offset yet: only requests found in their lines.
fn sample_mappings(
    mappings: &[&InputHead],
    (third_party, servers): (&ThirdPartySettings, &NamedServers),
    sides: &mut [ClockSide],
    reach: SearchReach,
) {
    let open = |side: &&ClockSide| side.clock.is_none() && !side.lines.is_empty();
    let mut starts: Vec<_> = sides.iter().filter(open).map(|side| side.start).collect();
    let servers_open = starts.len();
    for side in sides.iter_mut().filter(|side| open(&&**side)) {
        side.mappings = Some(side.lines.mappings(servers_open));
    }
    let mut balancers = BalancerHashes::default();
    starts.sort_unstable();
    // Servers that begin at about the same time share a sample.
    starts.dedup_by(|next, kept| next.micros_since(*kept) < SHARED);
    for start in starts {
        let shares =
            |side: &ClockSide| side.start >= start && side.start.micros_since(start) < SHARED;
        let ends = sides.iter().filter(|side| shares(side)).map(|side| side.end);
        let until = ends.max().unwrap_or(start).offset_by(reach.after);
        let mut reader = ThirdPartyLogReader::new(third_party);
        let parse = |line: &[u8]| {
            let mapping = match Mapping::parse_file_line(line) {
                Ok(mapping) if !reader.wants_all() => mapping,
                _ => return foreign_record(&mut reader, line, servers),
            };
            let stamp = mapping.time?;
            let known = servers.find(mapping.server);
            let record = known.and_then(|known| {
                MappingEvent::with_exchange(&cut_short(&mapping), known.id, stamp, &mut balancers)
            });
            Some((stamp.0, record))
        };
        walk(mappings, start.offset_by(-reach.before), reach.bytes, parse, |time, record| {
            if let Some(record) = record
                && let Some(side) = sides.get_mut(record.server.0 as usize)
                && shares(side)
                && let Some(mappings) = &mut side.mappings
            {
                mappings.add(&record, &side.lines);
            }
            if time > until { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }
}

/// Parses a third-party log line, with the time of its end, at which the servers' lines were written.
fn foreign_record(
    reader: &mut ThirdPartyLogReader,
    line: &[u8],
    servers: &NamedServers,
) -> Option<(Timestamp, Option<MappingEvent>)> {
    if !reader.wants(line) {
        return None;
    }
    let time = reader.time(line)?;
    let Ok(ThirdPartyLine::Records(_, [Some(first), end, _])) =
        reader.read(line, servers, None, &mut BalancerHashes::default())
    else {
        return Some((time, None));
    };
    let time = end.map_or(first.time, |end| end.time);
    let request = reader.short_request(line);
    Some((time, Some(MappingEvent { time, request, cut: Cut::Short, ..first })))
}
