//! The places of a log's lines or records within their seconds.
//!
//! A web server may write several logs, and several balancers may each write one. If their stamps are whole seconds,
//! lines of one second are in order in each log, but nothing says how the logs' lines lie between each other. Lines come
//! about evenly: each is taken to be as far into its second as it is among the lines of that second in its log.

use pen_records::attribution::MappingEvent;
use pen_records::time::{Resolution, Timestamp};

use crate::input::reader::ParsedLine;

const SECOND: i64 = 1_000_000;
/// How much later lines without a User-Agent are placed, so that those that say more are decided first: in tenths of
/// what a line's place is likely to be wrong. Fitted with made sites of 100 to 2,000 requests/s in two formats.
const LATER: i64 = 7;

/// Where in a second the next line of a log lies.
#[derive(Debug)]
pub(crate) struct SecondPlaces {
    second: Timestamp,
    /// Lines of the second so far.
    passed: i64,
    /// Microseconds from one line to the next.
    apart: i64,
    /// How much later lines without a User-Agent are placed, in microseconds.
    later: i64,
    /// Lines of the last second that was whole.
    usual: i64,
}

impl SecondPlaces {
    pub(crate) const fn new() -> Self {
        Self { second: Timestamp::MIN, passed: 0, apart: 0, later: 0, usual: 0 }
    }

    /// Returns the time by which a line is merged with other logs. `next` begins with this line, and each line is asked
    /// about once, in order.
    pub(crate) fn place(&mut self, next: &[ParsedLine]) -> Option<Timestamp> {
        let is_late = next.first()?.line.user_agent.is_none();
        self.place_of(next, |it| (it.line.time, it.line.resolution), (is_late, LATER))
    }

    /// Returns the time by which a record is merged with other mapping logs, likewise.
    pub(crate) fn place_record(&mut self, next: &[MappingEvent]) -> Option<Timestamp> {
        self.place_of(next, |it| (it.time, it.resolution), (false, 0))
    }

    fn place_of<T>(
        &mut self,
        next: &[T],
        stamp: impl Fn(&T) -> (Timestamp, Resolution),
        (is_late, later): (bool, i64),
    ) -> Option<Timestamp> {
        let (time, resolution) = stamp(next.first()?);
        if resolution != Resolution::Second {
            return Some(time);
        }
        if time != self.second {
            let same = next.partition_point(|it| stamp(it).0 <= time);
            let lines = i64::try_from(same).unwrap_or(i64::MAX);
            // The rest of the second may come with the next lines that are read.
            let is_whole = same < next.len();
            if is_whole {
                self.usual = lines;
            }
            let count = if is_whole { lines } else { lines.max(self.usual) };
            let count = count.max(1);
            self.later = later * SECOND / count.isqrt() / 10;
            (self.second, self.passed) = (time, 0);
            self.apart = (SECOND - self.later) / count;
        }
        let late = if is_late { self.later } else { 0 };
        let into = (late + self.passed * self.apart).min(SECOND - 1);
        self.passed += 1;
        Some(time.offset_by(into))
    }
}

#[cfg(test)]
mod tests {
    use pen_records::attribution::{LineOrigin, LoggedLine, ServerIndex};

    use super::*;
    use crate::input::reader::LinePlace;

    /// Lines at these seconds, with a User-Agent or without.
    fn lines(seconds: &[i64], has_agent: bool) -> Vec<ParsedLine> {
        let line = |second: &i64| {
            let time = (Timestamp::from_seconds(*second), Resolution::Second);
            let line = LoggedLine::unread(ServerIndex(0), time);
            let user_agent = has_agent.then_some(1);
            let line = LoggedLine { user_agent, origin: LineOrigin::default(), ..line };
            let place = LinePlace { block: 0, start: 0, len: 0, client: None, in_doubt: false };
            ParsedLine { line, place }
        };
        seconds.iter().map(line).collect()
    }

    fn places(lines: &[ParsedLine]) -> Vec<i64> {
        let mut places = SecondPlaces::new();
        let place = |at| places.place(&lines[at..]).map_or(0, Timestamp::as_micros);
        (0..lines.len()).map(place).collect()
    }

    #[test]
    fn lines_of_a_second_are_spread_over_it() {
        let seconds: Vec<i64> = [vec![7; 100], vec![8; 50], vec![9]].concat();
        for (has_agent, most) in [(true, SECOND), (false, SECOND)] {
            let places = places(&lines(&seconds, has_agent));
            assert!(places.is_sorted());
            for (second, place) in seconds.iter().zip(&places) {
                assert!((second * SECOND..second * SECOND + most).contains(place), "{place}");
            }
        }
        let (told, untold) = (places(&lines(&seconds, true)), places(&lines(&seconds, false)));
        assert!(told.iter().zip(&untold).all(|(told, untold)| told <= untold));
        assert_eq!(told[0], 7 * SECOND);
        assert!(told[99] > 7 * SECOND + 9 * SECOND / 10 - 7 * SECOND / 100);
    }

    #[test]
    fn a_second_that_goes_on_with_the_next_lines_read_stays_in_order() {
        let whole = lines(&[vec![7; 100], vec![8; 100]].concat(), true);
        let (first, rest) = whole.split_at(130);
        let mut places = SecondPlaces::new();
        let mut at = |lines: &[ParsedLine], at: usize| places.place(&lines[at..]);
        let mut found: Vec<_> = (0..130).map(|index| at(first, index)).collect();
        found.extend((0..70).map(|index| at(rest, index)));
        assert!(found.is_sorted());
        assert!(found.iter().all(|place| place.is_some_and(|it| it < Timestamp::from_seconds(9))));
        assert_eq!(at(rest, 70), None);
    }
}
