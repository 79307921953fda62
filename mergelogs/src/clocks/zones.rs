//! Logs of whose clock the beginning says nothing: other zones, and whether any difference is right.

use pen_records::clocks::{ClockOffset, SHORT, whole_seconds};

use super::follow::LogFollower;
use super::{ArchiveClock, SECOND, nearest_zone};

/// Bytes in which a zone is searched for, and the quarters of the log at which the search begins.
const ZONE_SLICES: [u64; 3] = [64 << 10, 512 << 10, 2 << 20];
const ZONE_PLACES: [u64; 3] = [0, 2, 1];
/// In thousandths of a nat: what a right difference would have gained at least, for a log to count as lost.
const LOST: u32 = 250_000;

impl LogFollower<'_, '_> {
    /// Searches for the zone of a log of which nothing is known: busy sites need more lines than a slice has.
    pub(super) fn find_zone(&mut self) -> Option<ArchiveClock> {
        let mut zone = None;
        for size in ZONE_SLICES {
            let is_whole = size >= self.log.len();
            let places = &ZONE_PLACES[..if is_whole { 1 } else { ZONE_PLACES.len() }];
            let found = places.iter().find_map(|place| {
                let from = self.log.len().saturating_sub(size) / 4 * place;
                let slice = self.log.slice(from, size);
                let (offset, _) = self.mappings.search_zones(&slice, 0, 0)?;
                let ClockOffset { ahead, within, votes, .. } = offset;
                // A zone alone is likelier than a zone and a small difference.
                let zone = nearest_zone(ahead);
                let is_zone = within < SECOND / 2 && (ahead - zone).abs() <= within;
                let ahead = if is_zone { zone } else { ahead };
                Some((ArchiveClock { ahead, within, votes, center: ahead }, slice.is_brief()))
            });
            zone = found.map(|(zone, _)| zone).or(zone);
            if is_whole || found.is_some_and(|(_, is_brief)| !is_brief) {
                break;
            }
        }
        let zone = zone.or_else(|| self.no_zone());
        self.known.extend(zone.map(|zone| zone.ahead));
        zone
    }

    /// Returns the clock of a zone as expected by a long slice; notes if the slice agrees with no clock, though it would.
    fn no_zone(&mut self) -> Option<ArchiveClock> {
        let longest = ZONE_SLICES.into_iter().max().unwrap_or(0);
        let slice = self.log.slice(0, longest);
        let found = self.mappings.check(&slice, 0, 0);
        if found.is_plain() {
            let is_coarse = self.mappings.is_coarse;
            let ahead = if is_coarse { whole_seconds(found.center) } else { found.center };
            let is_short = slice.last - slice.first < SHORT && ahead.abs() <= SECOND;
            let ahead = if is_short { 0 } else { ahead };
            let (within, votes) = (found.within, found.lines);
            return Some(ArchiveClock { ahead, within, votes, center: ahead });
        }
        self.is_lost =
            !found.is_clear() && found.possible >= LOST && self.mappings.know_most_of(&slice);
        None
    }
}
