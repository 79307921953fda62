//! Slices of a log beside the balancer's mappings.

use pen_records::attribution::ServerIndex;
use pen_records::clocks::{ClockOffset, OffsetCheck};
use pen_records::time::Timestamp;

use super::evidence::MappingSamples;
use super::scan::MappingTexts;
use super::slices::LogSlice;
use super::{QUARTER, SECOND, ZONES};

/// How much earlier and later than expected a slice's mappings are read, in microseconds: as far as any center near
/// the expected one explains, so that none has more than others. Where the balancer's stamps are finer than seconds, and
/// where not.
const AROUND: [(i64, i64); 2] =
    [(5 * SECOND / 2, 7 * SECOND / 2), (15 * SECOND / 2, 9 * SECOND / 2)];
/// Bytes of each mapping log read beside a slice, and for one zone: the seconds around it at 10,000 requests/s.
const NEAR: usize = 16 << 20;
/// How far the difference is searched for, and the bytes of each mapping log read to do so.
const REACHES: [(i64, usize); 2] = [(60 * SECOND, 16 << 20), (4_000 * SECOND, 64 << 20)];
/// How far from a zone mappings are read, in microseconds.
const BESIDE: i64 = 5 * SECOND;
/// What a zone gains over all others, in thousandths of a nat.
const ZONE_LEAD: u32 = 12_000;
/// Searches for a zone in one log.
const ZONE_SEARCHES: u32 = 4;
/// Mappings that are enough to say that no difference of clocks puts lines and mappings together.
const ENOUGH: u64 = 60;

/// The mappings of one server.
pub(super) struct ServerMappings<'a, 'b> {
    texts: &'a mut MappingTexts<'b>,
    server: ServerIndex,
    zone_searches: u32,
    /// Requests of the server seen.
    pub(super) seen: u64,
    /// Lines for which other differences were searched, and those of them whose requests the mapping logs have at all.
    searched: usize,
    familiar: usize,
    /// Whether the balancer's stamps are whole seconds.
    pub(super) is_coarse: bool,
}

impl<'a, 'b> ServerMappings<'a, 'b> {
    pub(super) const fn new(texts: &'a mut MappingTexts<'b>, server: ServerIndex) -> Self {
        let zone_searches = ZONE_SEARCHES;
        Self { texts, server, zone_searches, seen: 0, searched: 0, familiar: 0, is_coarse: false }
    }

    /// Whether most lines' requests are known, though at no common difference.
    pub(super) const fn know_requests(&self) -> bool {
        self.familiar * 2 > self.searched && self.seen >= ENOUGH
    }

    /// Compares a slice with the mappings around it, under one center and then the one found.
    ///
    /// A clock that gains `pace` millionths is that much further at the slice's end.
    pub(super) fn check(&mut self, slice: &LogSlice, center: i64, pace: i64) -> OffsetCheck {
        let gained = (slice.last - slice.first) / 1_000_000 * pace.abs();
        let times = (slice.first - center - gained, slice.last - center + gained);
        let mappings = self.around(slice, times);
        let steady = (gained > SECOND / 10).then(|| slice.at_steady_pace(pace));
        let samples = steady.as_ref().unwrap_or(&slice.samples);
        let found = samples.check(&mappings, center);
        if found.gain == 0 || (found.center - center).abs() < found.within.max(SECOND / 20) {
            return found;
        }
        let again = samples.check(&mappings, found.center);
        if again.gain >= found.gain { again } else { found }
    }

    /// Searches for the center in a growing part of the mapping log.
    pub(super) fn search(
        &mut self,
        slice: &LogSlice,
        around: i64,
        pace: i64,
    ) -> Option<OffsetCheck> {
        self.searched += slice.lines.len();
        for (reach, most) in REACHES {
            let span = (slice.first - around - reach, slice.last - around + reach);
            let mappings = self.within(slice, span, most);
            if let Some((_, found)) = self.found_in(slice, &mappings, pace) {
                return Some(found);
            }
            if self.zone_searches == 0 && reach == REACHES[1].0 {
                self.note_requests(slice, &mappings);
            }
        }
        self.zone_searches = self.zone_searches.checked_sub(1)?;
        self.searched -= slice.lines.len();
        self.search_zones(slice, around, pace).map(|(_, found)| found)
    }

    /// Whether most lines' requests are in the mapping logs, at any time up to an hour from theirs.
    pub(super) fn know_most_of(&mut self, slice: &LogSlice) -> bool {
        let (reach, most) = REACHES[1];
        let span = (slice.first - reach, slice.last + reach);
        let mappings = self.within(slice, span, most);
        let known = slice.lines.iter().filter(|line| mappings.knows(&line.keys)).count();
        known * 2 > slice.lines.len() && self.seen >= ENOUGH
    }

    fn note_requests(&mut self, slice: &LogSlice, mappings: &MappingSamples) {
        self.familiar += slice.lines.iter().filter(|line| mappings.knows(&line.keys)).count();
    }

    fn found_in(
        &mut self,
        slice: &LogSlice,
        mappings: &MappingSamples,
        pace: i64,
    ) -> Option<(ClockOffset, OffsetCheck)> {
        let offset = slice.samples.compare(mappings);
        if offset.votes > 0 {
            // Of whole seconds the request's time is part of the center, but not of the offset.
            let beside: &[i64] =
                if self.is_coarse { &[0, SECOND, 2 * SECOND, 3 * SECOND] } else { &[0] };
            let checks = beside.iter().map(|beside| self.check(slice, offset.ahead + beside, pace));
            return checks.max_by_key(|found| found.gain).map(|found| (offset, found));
        }
        None
    }

    /// Searches for a zone that is not the one expected: at quarters of an hour.
    ///
    /// Each is tried by itself, as often as requests come about then: not all of them have the same rate.
    pub(super) fn search_zones(
        &mut self,
        slice: &LogSlice,
        around: i64,
        pace: i64,
    ) -> Option<(ClockOffset, OffsetCheck)> {
        let mut best: Option<(ClockOffset, OffsetCheck)> = None;
        let mut second = 0;
        let mut known = vec![false; slice.lines.len()];
        for quarter in -ZONES..=ZONES {
            let around = around + quarter * QUARTER;
            let span = (slice.first - around - BESIDE, slice.last - around + BESIDE);
            let mappings = self.within(slice, span, NEAR);
            for (known, line) in known.iter_mut().zip(&slice.lines) {
                *known |= mappings.knows(&line.keys);
            }
            let Some(found) = self.found_in(slice, &mappings, pace) else { continue };
            let most = best.as_ref().map_or(0, |(_, best)| best.gain);
            second = second.max(most.min(found.1.gain));
            if found.1.gain > most {
                best = Some(found);
            }
        }
        self.searched += slice.lines.len();
        self.familiar += known.iter().filter(|is_known| **is_known).count();
        best.filter(|(_, best)| best.gain >= second.saturating_add(ZONE_LEAD))
    }

    /// Returns the mappings of a slice's requests around its times by the balancer's clock.
    pub(super) fn around(&mut self, slice: &LogSlice, (first, last): (i64, i64)) -> MappingSamples {
        let around = AROUND[usize::from(self.is_coarse)];
        self.within(slice, (first - around.0, last + around.1), NEAR)
    }

    fn within(&mut self, slice: &LogSlice, span: (i64, i64), most: usize) -> MappingSamples {
        let mut mappings = slice.samples.mappings(1);
        self.add(slice, span, most, &mut mappings);
        mappings.finish();
        self.is_coarse |= mappings.is_coarse();
        mappings
    }

    fn add(
        &mut self,
        slice: &LogSlice,
        (from, until): (i64, i64),
        most: usize,
        mappings: &mut MappingSamples,
    ) {
        let span = (Timestamp::from_micros(from), Timestamp::from_micros(until));
        mappings.cover(until.saturating_sub(from));
        let mut seen = 0;
        self.texts.show(self.server, span, most, |record| {
            seen += u64::from(record.request.is_some());
            mappings.add(record, &slice.samples);
        });
        self.seen += seen;
    }
}
