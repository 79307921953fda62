//! Finds out how far each server's clock is ahead of the balancer's, all along its logs, before the merge.
//!
//! [`begin`] compares both logs where both have begun. [`mod@follow`] goes on from there and follows the clock along
//! each log. The merge gets a constant difference for each server, and for logs whose clock drifts or is set a track.

mod balancers;
mod begin;
mod beside;
mod blocks;
mod evidence;
mod follow;
mod point;
mod scan;
mod set_back;
mod slices;
mod texts;
pub(crate) mod walk;
mod zones;

use std::fmt;
use std::sync::Arc;

use pen_records::attribution::{FingerprintCuts, ServerIndex};
use pen_records::clocks::{ClockKnot, ClockPiece, ClockTrack, pieces, whole_seconds};
use pen_records::time::Timestamp;

use self::balancers::BalancerLogs;
use self::follow::{FollowedLog, LogFollower};
use self::scan::{MappingScan, MappingTexts};
use self::texts::SeekableText;
use crate::config::{InputOrigin, MergeConfig};
use crate::input::archive;
use crate::input::heads::InputHead;
use crate::servers::{KnownServer, NamedServers};

const SECOND: i64 = 1_000_000;
/// Times beyond this bound (past the year 30,000) are ignored, so that no arithmetic overflows.
const LATEST: i64 = 1 << 60;
/// Slices of all logs together that are looked at to follow the clocks.
const SLICES: u64 = 512;
/// Bytes held of all compressed inputs together, and the most and the least of one.
const HELD: usize = 32 << 20;
const HELD_EACH: (usize, usize) = (64 << 10, 16 << 20);
/// A track that stays nearer to a constant difference is not used: where the balancer's stamps are finer than seconds,
/// and where not.
const STEADY: (i64, i64) = (SMALL, 3 * SECOND / 4);

/// Zones are up to this many quarters of an hour ahead or behind.
const ZONES: i64 = 4 * 14;
const QUARTER: i64 = 900 * SECOND;
/// Lines in whole seconds that span less do not say where in a second a difference is.
const BRIEF: i64 = 3 * SECOND;
/// Smaller offsets are not corrected: whole-second stamps of a few seconds' log do not tell them from none.
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
    /// The offset before it was rounded to whole seconds, if it was.
    pub(crate) center: i64,
}

impl ArchiveClock {
    /// Returns the offset if it is worth a word.
    pub(crate) fn said(self) -> Option<Self> {
        (self.ahead.abs() >= TINY).then_some(self)
    }

    /// Returns the minutes by which a zone would be ahead that explains the offset; `None` if no zone does.
    fn zone(self) -> Option<i64> {
        let zone = nearest_zone(self.ahead);
        let (is_near, quarters) = ((self.ahead - zone).abs() <= SECOND, zone / QUARTER);
        (is_near && (2..=ZONES).contains(&quarters.abs())).then_some(quarters * 15)
    }

    /// Returns the offset to correct, in microseconds.
    pub(crate) fn correction(self) -> i64 {
        // Lines may come later than the ends of responses, but not earlier.
        let is_behind = self.ahead <= -TINY && -self.ahead >= 3 * self.within;
        if self.ahead.abs() < SMALL && !is_behind { 0 } else { self.ahead }
    }
}

impl fmt::Display for ArchiveClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, way) =
            (Seconds(self.ahead.abs()), if self.ahead < 0 { "behind" } else { "ahead of" });
        write!(f, "clock {seconds} s {way} the balancer's, by {} requests", self.votes)?;
        let Some(zone) = self.zone() else { return Ok(()) };
        let (hours, minutes, sign) =
            (zone.abs() / 60, zone.abs() % 60, if zone < 0 { '-' } else { '+' });
        write!(f, ", as if its stamps were in the zone {sign}{hours:02}{minutes:02} (see --zone)")
    }
}

/// A piece's difference, in words: steady or not.
pub(crate) struct Pace<'a>(pub(crate) &'a ClockPiece);

impl fmt::Display for Pace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClockPiece { ahead_first: first, ahead_last: last, .. } = *self.0;
        let way = |ahead: i64| if ahead < 0 { "behind" } else { "ahead of" };
        // Tenths: more is noise.
        let said = |ahead: i64| Seconds((ahead.abs() + 50_000) / 100_000 * 100_000);
        if (last - first).abs() < SECOND / 2 {
            return match said(first) {
                Seconds(0) => f.write_str("as the balancer's"),
                seconds => write!(f, "{seconds} s {} the balancer's", way(first)),
            };
        }
        write!(
            f,
            "{} s {} the balancer's, then {} s {} it,",
            said(first),
            way(first),
            said(last),
            way(last)
        )
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

/// All that is known of the clocks.
#[derive(Default)]
pub(crate) struct ArchiveClocks {
    /// By server: the difference at the beginning.
    pub(crate) servers: Vec<ArchiveClock>,
    /// By log: the way of its clock beside that difference, unless it is steady.
    pub(crate) tracks: Vec<Option<Arc<ClockTrack>>>,
    /// By server: the pieces of clocks that were set or drift.
    pub(crate) pieces: Vec<Vec<ClockPiece>>,
    /// By server: whether no difference of clocks puts its lines and its mappings together, so that pairs would be chance.
    pub(crate) unknown: Vec<bool>,
    /// Mapping logs whose clock was set back, or is not the first balancer's.
    pub(crate) corrected: Vec<CorrectedMappings>,
    /// How many balancers wrote mapping logs at the same time.
    pub(crate) balancers: usize,
}

/// A mapping log whose clock was set back, or is not the first balancer's.
pub(crate) struct CorrectedMappings {
    pub(crate) origin: InputOrigin,
    /// How far its clock is ahead of the first balancer's, from where on: the first knot is the beginning.
    pub(crate) knots: Vec<ClockKnot>,
    pub(crate) track: Arc<ClockTrack>,
}

impl CorrectedMappings {
    /// How far its clock is ahead at the beginning, in microseconds.
    pub(crate) fn ahead(&self) -> i64 {
        self.knots.first().map_or(0, |knot| knot.ahead)
    }
}

/// Compares all clocks. Inputs that can be read only once are skipped.
pub(crate) fn compare(
    config: &MergeConfig,
    mappings: &[InputHead],
    logs: &[(usize, InputHead)],
) -> ArchiveClocks {
    let mappings = begun(mappings.iter());
    let names = named(config);
    let heads = mappings.iter().copied().chain(logs.iter().map(|(_, head)| head));
    let packed = heads.filter(|head| head.repeatable && archive::is_packed(&head.origin)).count();
    let held = (HELD / packed.max(1)).clamp(HELD_EACH.0, HELD_EACH.1);
    let scan = MappingScan::new(&config.third_party, &names, by_target(&mappings, logs));
    let mut texts = MappingTexts::open(&mappings, scan, held);
    let mut balancers = BalancerLogs::tell_apart(&mappings, |origin| texts.last_time(origin));
    let begin = |logs_of: &[BalancerLogs<'_>], one| begin::compare(config, logs_of, one, logs);
    BalancerLogs::compare_clocks(&mut balancers, |one| begin(std::slice::from_ref(one), true));
    let balancers = BalancerLogs::join_followers(balancers);
    for logs in &balancers {
        texts.correct(&logs.heads, logs.ahead);
    }
    let servers = begin(&balancers, false);
    let mut clocks = ArchiveClocks {
        tracks: vec![None; logs.len()],
        pieces: vec![Vec::new(); servers.len()],
        unknown: vec![false; servers.len()],
        corrected: texts.corrected(),
        balancers: balancers.len(),
        servers,
    };
    if !mappings.is_empty() {
        follow(config, &mut texts, (logs, held), &mut clocks);
    }
    clocks
}

/// Follows the clock of each log, of which `held` bytes are held if it is compressed.
fn follow(
    config: &MergeConfig,
    texts: &mut MappingTexts<'_>,
    (logs, held): (&[(usize, InputHead)], usize),
    clocks: &mut ArchiveClocks,
) {
    let most = (SLICES / logs.len().max(1) as u64).max(1);
    for first in (0..config.servers.len()).filter(|&index| machine(config, index) == index) {
        let mut clock = MachineClock::new(clocks.servers[first]);
        for (index, (server, head)) in logs.iter().enumerate() {
            if machine(config, *server) != first || head.first_time == Timestamp::MIN {
                continue;
            }
            // The merge reports what cannot be opened.
            let Ok(text) = SeekableText::open(&head.origin, held) else { continue };
            let at = (&config.servers[*server], first);
            let mut follower = LogFollower::new(&text, texts, at, &clock.known());
            if !clock.is_known
                && let Some(zone) = follower.find_zone()
            {
                (clock.begun, clock.is_known) = (zone, true);
            }
            clocks.tracks[index] = clock.take(follower.follow(most));
        }
        for server in (first..config.servers.len()).filter(|&it| machine(config, it) == first) {
            clocks.servers[server] = clock.begun;
            clocks.pieces[server] = clock.pieces();
            clocks.unknown[server] = clock.is_chance && !clock.is_known;
        }
    }
}

/// The clock of one machine, which may have several logs.
struct MachineClock {
    begun: ArchiveClock,
    /// The center that the difference at the beginning stands for, once it is known.
    reference: Option<i64>,
    last: Option<i64>,
    /// Whether what some log has in common with the mappings is chance, and whether any log's clock is known.
    is_chance: bool,
    is_known: bool,
    /// The knots of logs whose clock is not steady.
    knots: Vec<Vec<ClockKnot>>,
}

impl MachineClock {
    const fn new(begun: ArchiveClock) -> Self {
        let is_known = begun.votes > 0;
        Self { begun, reference: None, last: None, is_chance: false, is_known, knots: Vec::new() }
    }

    /// Centers that are likely, the likeliest last.
    fn known(&self) -> Vec<i64> {
        [Some(0), Some(self.begun.ahead), self.last].into_iter().flatten().collect()
    }

    /// Takes in what was found of a log, and returns its track if the clock is not steady.
    fn take(&mut self, found: FollowedLog) -> Option<Arc<ClockTrack>> {
        let FollowedLog { mut knots, is_coarse, is_chance } = found;
        self.is_chance |= is_chance;
        self.is_known |= !knots.is_empty();
        let first = knots.first()?;
        let ahead = if is_coarse { whole_seconds(first.ahead) } else { first.ahead };
        // Of a clock that drifts, the sample at the beginning says less than its first slice.
        let is_other = is_coarse && (ahead - self.begun.ahead).abs() > SECOND;
        if self.begun.votes == 0 || (is_other && self.reference.is_none()) {
            let votes = u32::try_from(knots.len()).unwrap_or(u32::MAX).max(self.begun.votes);
            self.begun = ArchiveClock { ahead, within: SECOND, votes, center: ahead };
        }
        let begun = self.begun;
        let reference = *self.reference.get_or_insert_with(|| {
            // Of whole seconds the usual time of a request is part of the center.
            if is_coarse { first.ahead } else { begun.correction() }
        });
        self.last = knots.last().map(|last| last.ahead);
        knots.iter_mut().for_each(|knot| knot.ahead -= reference);
        let track = ClockTrack::new(&knots, if is_coarse { SECOND } else { 1 });
        if track.farthest_from(0) < if is_coarse { STEADY.1 } else { STEADY.0 } {
            return None;
        }
        let correction = begun.correction();
        knots.iter_mut().for_each(|knot| knot.ahead += correction);
        self.knots.push(knots);
        Some(Arc::new(track))
    }

    /// Returns the pieces of all logs.
    fn pieces(&self) -> Vec<ClockPiece> {
        self.knots.iter().flat_map(|knots| pieces(knots)).collect()
    }
}

/// Returns the whole number of quarters of an hour nearest to a difference, in microseconds.
const fn nearest_zone(ahead: i64) -> i64 {
    nearest(ahead, QUARTER)
}

/// Rounds to the nearest multiple.
const fn nearest(value: i64, unit: i64) -> i64 {
    (value + unit / 2).div_euclid(unit) * unit
}

/// The servers' numbers: one for all at an address, as their mappings and clocks are the address's, not a port's.
fn named(config: &MergeConfig) -> NamedServers {
    let mut servers = NamedServers::default();
    for (index, server) in config.servers.iter().enumerate() {
        if machine(config, index) == index {
            let id = ServerIndex(u32::try_from(index).unwrap_or(u32::MAX));
            servers.insert(server.addr(), KnownServer::new(id, 0, 0));
        }
    }
    servers.add_names(&config.third_party.names);
    servers
}

/// The first server at the same address.
fn machine(config: &MergeConfig, index: usize) -> usize {
    let addr = config.servers[index].addr();
    config.servers.iter().position(|server| server.addr() == addr).unwrap_or(index)
}

/// The fingerprints of sampled lines.
const SAMPLED: FingerprintCuts = FingerprintCuts { short: true, long: true, target: true };

/// Whether requests are compared without the protocol: other balancers may speak another one with servers, and some
/// servers do not log it.
fn by_target(mappings: &[&InputHead], logs: &[(usize, InputHead)]) -> bool {
    mappings.iter().any(|head| head.third_party) || logs.iter().any(|(_, head)| head.lacks_protocol)
}

/// Returns the inputs whose first time is known, by that time.
fn begun<'a>(heads: impl Iterator<Item = &'a InputHead>) -> Vec<&'a InputHead> {
    let mut heads: Vec<_> = heads.filter(|head| head.first_time > Timestamp::MIN).collect();
    heads.sort_by_key(|head| head.first_time);
    heads
}
