//! Compares the clocks at the beginning of the logs.
//!
//! Both logs are sampled from the time at which both have begun. A short sample shows clocks that nearly
//! agree; for other clocks the mapping log is searched for an hour around the same requests.

use std::ops::ControlFlow;

use pen_records::access::Parser;
use pen_records::attribution::{LoggedLine, MappingEvent, ServerIndex};
use pen_records::clocks::ClockOffset;
use pen_records::time::Timestamp;

use super::balancers::BalancerLogs;
use super::evidence::{MappingSamples, ServerSamples, line_keys};
use super::scan::{MappingScan, WantedServers};
use super::walk::walk;
use super::{ArchiveClock, BRIEF, SAMPLED, SECOND, begun, by_target, machine, named};
use crate::config::{MergeConfig, ServerInputs};
use crate::input::heads::InputHead;
use crate::zone::AccessTimes;

/// Bytes of lines sampled from all servers together.
const LINES: usize = 64 << 20;
/// Least and most bytes of lines sampled from each server.
const LINES_EACH: (usize, usize) = (64 << 10, 2 << 20);
/// Bytes of lines that are tried first.
const FEW: usize = 16 << 10;
const SOME: usize = 64 << 10;
const MORE: usize = 512 << 10;
/// A difference is better told by more lines if its error may be greater, in microseconds.
const ROUGH: i64 = SECOND / 20;
/// Servers whose logs begin within this time share a sample of mappings.
const SHARED: i64 = 30 * SECOND;

/// The part of the mapping log that is searched for the lines' requests.
#[derive(Clone, Copy)]
struct SearchReach {
    before: i64,
    after: i64,
    bytes: usize,
}

const NEAR: SearchReach = SearchReach { before: 5 * SECOND, after: 5 * SECOND, bytes: 16 << 20 };
const FAR: SearchReach =
    SearchReach { before: 4_000 * SECOND, after: 3_700 * SECOND, bytes: 256 << 20 };

/// The samples of a server.
struct ClockSide {
    /// The time span of the lines sampled.
    start: Timestamp,
    end: Timestamp,
    lines: ServerSamples,
    mappings: Option<MappingSamples>,
    clock: Option<ArchiveClock>,
    /// A clock that more lines may tell better.
    rough: Option<ArchiveClock>,
}

/// Compares all clocks with those of some balancers, or of one of several. Inputs that can be read only once are skipped.
pub(super) fn compare(
    config: &MergeConfig,
    balancers: &[BalancerLogs<'_>],
    is_one_of_several: bool,
    logs: &[(usize, InputHead)],
) -> Vec<ArchiveClock> {
    let firsts = balancers.iter().filter_map(|it| Some((it.heads.first()?.first_time, it.ahead)));
    let Some(first_mapping) = firsts.map(|(time, ahead)| time.offset_by(-ahead)).min() else {
        return vec![ArchiveClock::default(); config.servers.len()];
    };
    let heads: Vec<_> = balancers.iter().flat_map(|it| it.heads.iter().copied()).collect();
    let (servers, by_target) = (named(config), by_target(&heads, logs));
    let most = (LINES / config.servers.len().max(1)).clamp(LINES_EACH.0, LINES_EACH.1);
    let mut sides: Vec<ClockSide> = Vec::new();
    // A few lines mostly suffice, and a clock that drifts does so less.
    let more = MORE.min(most);
    let steps = [(FEW, NEAR), (SOME, NEAR), (more, NEAR), (most, NEAR), (most, FAR)];
    // Where lines of other balancers lie between, a few say too little.
    for &(lines, reach) in &steps[if is_one_of_several { 2 } else { 0 }..] {
        if reach.bytes == NEAR.bytes {
            sample_lines(config, logs, (first_mapping, by_target), lines, &mut sides);
        }
        let scan = || MappingScan::new(&config.third_party, &servers, by_target);
        sample_mappings(balancers, scan, &mut sides, reach);
        settle(&mut sides, lines < most);
    }
    let clock = |side: &ClockSide| side.clock.or(side.rough).unwrap_or_default();
    (0..sides.len()).map(|index| clock(&sides[machine(config, index)])).collect()
}

/// Samples `most` bytes of each server's lines, where no difference is known yet.
fn sample_lines(
    config: &MergeConfig,
    logs: &[(usize, InputHead)],
    (first_mapping, by_target): (Timestamp, bool),
    most: usize,
    sides: &mut Vec<ClockSide>,
) {
    let known: Vec<_> = sides.drain(..).map(|side| (side.clock, side.rough)).collect();
    for (index, server) in config.servers.iter().enumerate() {
        let logs = begun(logs.iter().filter(|(of, _)| *of == index).map(|(_, head)| head));
        let start = logs.first().map_or(first_mapping, |head| head.first_time.max(first_mapping));
        let (clock, rough) = known.get(machine(config, index)).copied().unwrap_or_default();
        if clock.is_some() {
            sides.push(ClockSide { clock, ..ClockSide::empty(start) });
            continue;
        }
        let mut side = ClockSide::of_lines(&logs, (server, by_target), start, most);
        if side.lines.is_empty()
            && let Some(first) = logs.first()
        {
            // By its clock it ended before the mapping log begins.
            side = ClockSide::of_lines(&logs, (server, by_target), first.first_time, most);
        }
        side.rough = rough;
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
}

impl ClockSide {
    fn empty(start: Timestamp) -> Self {
        let lines = ServerSamples::default();
        Self { start, end: start, lines, mappings: None, clock: None, rough: None }
    }

    /// Samples `most` bytes of lines from `start` on, where both logs have begun.
    fn of_lines(
        logs: &[&InputHead],
        (server, by_target): (&ServerInputs, bool),
        start: Timestamp,
        most: usize,
    ) -> Self {
        let (mut parser, mut times) = (Parser::new(&server.spec), AccessTimes::new(server.zone));
        let mut side = Self::empty(start);
        let parse = |line: &[u8]| {
            let parsed = parser.parse(line).ok()?;
            let stamp = times.of_single(&parsed)?;
            Some((stamp.0, LoggedLine::new(line, &parsed, SAMPLED, ServerIndex(0), stamp)))
        };
        walk(logs, start, most, parse, |time, line| {
            let stamp = (line.time, line.resolution);
            side.lines.add_keys(line_keys(&line, by_target), stamp);
            side.end = side.end.max(time);
            ControlFlow::Continue(())
        });
        side
    }
}

/// Compares the samples; if there are more lines, only what is precise is final.
fn settle(sides: &mut [ClockSide], has_more: bool) {
    for side in sides.iter_mut().filter(|side| side.clock.is_none()) {
        let Some(mut mappings) = side.mappings.take() else { continue };
        mappings.finish();
        let offset = side.lines.compare(&mappings);
        if offset.votes == 0 {
            continue;
        }
        let ClockOffset { ahead, within, votes, center, .. } = offset;
        let clock = ArchiveClock { ahead, within, votes, center };
        let clock = side.rough.filter(|rough| rough.within < within).unwrap_or(clock);
        let is_brief = side.lines.is_coarse() && side.end.micros_since(side.start) < BRIEF;
        let is_rough = is_brief || (clock.within > ROUGH && !mappings.is_coarse());
        if is_rough && has_more { side.rough = Some(clock) } else { side.clock = Some(clock) }
    }
}

/// Samples the mappings of servers without an offset yet: only requests found in their lines.
fn sample_mappings<'a>(
    balancers: &[BalancerLogs<'_>],
    scan: impl Fn() -> MappingScan<'a>,
    sides: &mut [ClockSide],
    reach: SearchReach,
) {
    let is_open = |side: &ClockSide| {
        side.clock.is_none() && (side.rough.is_none() || reach.bytes == NEAR.bytes)
    };
    let open = |side: &&ClockSide| is_open(side) && !side.lines.is_empty();
    let mut starts: Vec<_> = sides.iter().filter(open).map(|side| side.start).collect();
    let servers_open = starts.len();
    for side in sides.iter_mut().filter(|side| open(&&**side)) {
        side.mappings = Some(side.lines.mappings(servers_open));
    }
    starts.sort_unstable();
    // Servers that begin at about the same time share a sample.
    starts.dedup_by(|next, kept| next.micros_since(*kept) < SHARED);
    for start in starts {
        let shares =
            |side: &ClockSide| side.start >= start && side.start.micros_since(start) < SHARED;
        let ends = sides.iter().filter(|side| shares(side)).map(|side| side.end);
        let until = ends.max().unwrap_or(start).offset_by(reach.after);
        let covered = until.micros_since(start).saturating_add(reach.before);
        for side in sides.iter_mut().filter(|side| shares(side)) {
            side.mappings.iter_mut().for_each(|mappings| mappings.cover(covered));
        }
        for BalancerLogs { heads, ahead, .. } in balancers {
            let mut scan = scan();
            let parse = |line: &[u8]| {
                let (time, record) = scan.parse(line, WantedServers::All)?;
                let record =
                    record.map(|it| MappingEvent { time: it.time.offset_by(-ahead), ..it });
                Some((time.offset_by(-ahead), record))
            };
            walk(heads, start.offset_by(-reach.before), reach.bytes, parse, |time, record| {
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
}
