//! The mapping logs, read around given times.

use std::sync::Arc;

use pen_records::access::carried;
use pen_records::attribution::{BalancerHashes, MappingEvent, ServerIndex};
use pen_records::clocks::{ClockKnot, ClockTrack, KnotKind};
use pen_records::mapping::classic::FileReader;
use pen_records::mapping::{self, Mapping, RequestText};
use pen_records::request::{Cut, Fingerprint, without_protocol};
use pen_records::time::Timestamp;

use super::blocks::{ScannedBlocks, ScannedLine};
use super::texts::SeekableText;
use super::{CorrectedMappings, set_back};
use crate::config::InputOrigin;
use crate::input::heads::InputHead;
use crate::input::reader::cut_short;
use crate::input::third_party::{ThirdPartyLine, ThirdPartyLogReader, ThirdPartySettings};
use crate::servers::{NamedServers, SpellingCache};

/// The time of a line, and its record if its server is wanted.
pub(super) type TimeAndRecord = (Timestamp, Option<MappingEvent>);

/// The servers whose records are wanted.
#[derive(Clone, Copy)]
pub(super) enum WantedServers {
    None,
    One(ServerIndex),
    All,
}

impl WantedServers {
    fn has(self, server: ServerIndex) -> bool {
        match self {
            Self::None => false,
            Self::One(wanted) => wanted == server,
            Self::All => true,
        }
    }
}

/// Parses the lines of mapping logs.
pub(super) struct MappingScan<'a> {
    classic: FileReader,
    spellings: SpellingCache,
    third_party: ThirdPartyLogReader,
    servers: &'a NamedServers,
    balancers: BalancerHashes,
    /// The text of a line within another.
    text: Vec<u8>,
    /// Whether requests are compared without the protocol.
    by_target: bool,
}

impl<'a> MappingScan<'a> {
    pub(super) fn new(
        third_party: &ThirdPartySettings,
        servers: &'a NamedServers,
        by_target: bool,
    ) -> Self {
        Self {
            classic: FileReader::default(),
            spellings: SpellingCache::default(),
            third_party: ThirdPartyLogReader::of_samples(third_party),
            servers,
            balancers: BalancerHashes::default(),
            text: Vec::new(),
            by_target,
        }
    }

    /// Returns the time of a line, and its record if its server is wanted. Lines of third-party balancers have
    /// their record in any case.
    pub(super) fn parse(&mut self, line: &[u8], wanted: WantedServers) -> Option<TimeAndRecord> {
        self.parse_whole(line, wanted).or_else(|| {
            let mut text = std::mem::take(&mut self.text);
            let scanned = carried(line, &mut text).and_then(|line| self.parse_whole(line, wanted));
            self.text = text;
            scanned
        })
    }

    fn parse_whole(&mut self, line: &[u8], wanted: WantedServers) -> Option<TimeAndRecord> {
        if !self.third_party.wants_all() {
            let scanned = if line.starts_with(mapping::line::START) {
                self.parse_extended(line, wanted)
            } else {
                self.parse_classic(line, wanted)
            };
            if scanned.is_some() {
                return scanned;
            }
        }
        self.parse_third_party(line)
    }

    #[inline]
    fn parse_classic(&mut self, line: &[u8], wanted: WantedServers) -> Option<TimeAndRecord> {
        let line = self.classic.read(line).ok()?;
        let known = self.spellings.find(&line, self.servers).ok()?;
        let server = known.map(|known| known.id).filter(|&server| wanted.has(server));
        let mut record = server.and_then(|server| {
            Some(MappingEvent::of_file_line(&line, server, line.request.fingerprint()?))
        });
        self.ignore_protocol(&mut record, Some(line.request));
        Some((line.time, record))
    }

    fn parse_extended(&mut self, line: &[u8], wanted: WantedServers) -> Option<TimeAndRecord> {
        let mapping = Mapping::parse_extended_line(line).ok()?;
        let stamp = mapping.time?;
        let known = self.servers.find(mapping.server).filter(|known| wanted.has(known.id));
        let mut record = known.and_then(|known| {
            let short = cut_short(&mapping);
            MappingEvent::with_exchange(&short, known.id, stamp, &mut self.balancers)
        });
        self.ignore_protocol(&mut record, mapping.request);
        Some((stamp.0, record))
    }

    /// Ignores the protocol of a record's request, if requests are compared without.
    fn ignore_protocol(&self, record: &mut Option<MappingEvent>, request: Option<RequestText<'_>>) {
        if let (true, Some(record), Some(request)) = (self.by_target, record, request) {
            record.request = Fingerprint::of_raw(without_protocol(request.bytes), Cut::Target);
        }
    }

    /// Returns the time of a line.
    pub(super) fn time(&mut self, line: &[u8]) -> Option<Timestamp> {
        self.parse(line, WantedServers::None).map(|(time, _)| time)
    }

    /// Returns the time of a line by the clock as it was at the log's beginning.
    fn first_time(
        &mut self,
        track: Option<&ClockTrack>,
        at: u64,
        line: &[u8],
    ) -> Option<Timestamp> {
        Some(self.time(line)?.offset_by(behind(track, at)))
    }

    /// Parses a third-party log line, with the time of its end, at which the servers' lines were written.
    fn parse_third_party(&mut self, line: &[u8]) -> Option<TimeAndRecord> {
        let reader = &mut self.third_party;
        if !reader.wants(line) {
            return None;
        }
        let time = reader.time(line)?;
        let read = reader.read(line, self.servers, None, &mut BalancerHashes::default());
        let Ok(ThirdPartyLine::Records(_, [Some(first), end, _])) = read else {
            return Some((time, None));
        };
        let time = end.map_or(first.time, |end| end.time);
        let request = reader.target(line);
        Some((time, Some(MappingEvent { time, request, cut: Cut::Short, ..first })))
    }
}

/// Returns how far a log's clock is behind the first balancer's at a line.
fn behind(track: Option<&ClockTrack>, at: u64) -> i64 {
    track.map_or(0, |track| -track.cursor().next(at, Timestamp::MIN).0)
}

/// Mapping logs that can be read at any time.
pub(super) struct MappingTexts<'a> {
    texts: Vec<MappingText>,
    scan: MappingScan<'a>,
    blocks: ScannedBlocks,
    /// Whether requests are compared without the protocol.
    pub(super) by_target: bool,
}

struct MappingText {
    origin: InputOrigin,
    first: Timestamp,
    last: Timestamp,
    text: SeekableText,
    /// How far the log's clock is ahead of the first balancer's, and where it was set back.
    knots: Vec<ClockKnot>,
    track: Option<Arc<ClockTrack>>,
}

impl<'a> MappingTexts<'a> {
    /// Opens all mapping logs; of compressed ones the first `most` bytes are held.
    pub(super) fn open(heads: &[&InputHead], mut scan: MappingScan<'a>, most: usize) -> Self {
        let mut texts = Vec::new();
        for head in heads {
            // The merge reports what cannot be opened.
            let Ok(text) = SeekableText::open(&head.origin, most) else { continue };
            let knots = set_back::find(&text, |line| scan.time(line));
            let track = (!knots.is_empty()).then(|| Arc::new(ClockTrack::new(&knots, 1)));
            let last = text.last_time(|at, line| scan.first_time(track.as_deref(), at, line));
            let last = last.unwrap_or(Timestamp::MAX);
            let origin = head.origin.clone();
            texts.push(MappingText { origin, first: head.first_time, last, text, knots, track });
        }
        let by_target = scan.by_target;
        Self { texts, scan, blocks: ScannedBlocks::default(), by_target }
    }

    /// Returns the last time of a log, as far as is known.
    pub(super) fn last_time(&self, origin: &InputOrigin) -> Timestamp {
        let found = self.texts.iter().find(|text| text.origin == *origin);
        found.map_or(Timestamp::MAX, |text| text.last)
    }

    /// Corrects the times of logs whose clock is ahead of the first balancer's, by so many microseconds.
    pub(super) fn correct(&mut self, heads: &[&InputHead], ahead: i64) {
        let is_meant = |it: &&mut MappingText| heads.iter().any(|head| head.origin == it.origin);
        for text in self.texts.iter_mut().filter(is_meant).filter(|_| ahead != 0) {
            if text.knots.is_empty() {
                let (time, since) = (text.first, KnotKind::Drift);
                text.knots.push(ClockKnot { byte: 0, time, ahead: 0, since });
            }
            text.knots.iter_mut().for_each(|knot| knot.ahead += ahead);
            text.track = Some(Arc::new(ClockTrack::new(&text.knots, 1)));
            text.first = text.first.offset_by(-ahead);
            text.last = text.last.offset_by(-ahead);
        }
    }

    /// Returns the logs whose clock was set back, or is not the first balancer's.
    pub(super) fn corrected(&self) -> Vec<CorrectedMappings> {
        let corrected = self.texts.iter().filter_map(|text| Some((text, text.track.clone()?)));
        let logs = corrected.map(|(MappingText { origin, knots, .. }, track)| CorrectedMappings {
            origin: origin.clone(),
            knots: knots.clone(),
            track,
        });
        logs.collect()
    }

    /// Shows a server's records from one time to another, of each log `most` bytes.
    pub(super) fn show(
        &mut self,
        server: ServerIndex,
        (from, until): (Timestamp, Timestamp),
        most: usize,
        mut show: impl FnMut(&MappingEvent),
    ) {
        let Self { texts, scan, blocks, .. } = self;
        for (log, MappingText { first, last, text, track, .. }) in texts.iter().enumerate() {
            let track = track.as_deref();
            if *first > until || *last < from {
                continue;
            }
            let at = text.find(from, |at, line| scan.first_time(track, at, line));
            let end = at.saturating_add(most as u64).min(text.len());
            'text: for block in ScannedBlocks::between(at, end) {
                for &ScannedLine { at, time, record } in
                    blocks.lines((log, block), text, scan, server)
                {
                    let behind = behind(track, at);
                    let time = time.offset_by(behind);
                    if time > until {
                        break 'text;
                    }
                    if let Some(mut record) = record
                        && record.server == server
                        && time >= from
                    {
                        record.time = record.time.offset_by(behind);
                        show(&record);
                    }
                }
            }
        }
    }
}
