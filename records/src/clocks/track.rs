//! A clock along a log: how far it is ahead of another at each line, by pieces.

use crate::time::Timestamp;

/// A place in a log at which the difference of clocks is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockKnot {
    /// The offset of a line in the log's text.
    pub byte: u64,
    /// The line's logged time.
    pub time: Timestamp,
    /// Microseconds the log's clock is ahead.
    pub ahead: i64,
    /// How the difference came about since the knot before.
    pub since: KnotKind,
}

/// What a clock did between two places of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnotKind {
    /// It went at its own pace.
    Drift,
    /// It was set, just before this place. The lines between these offsets may have been logged before or after.
    Step {
        /// The first line of which it is not known.
        from: u64,
        /// The first line of which it is known again.
        to: u64,
    },
}

/// A clock along a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockTrack {
    segments: Vec<TrackSegment>,
    /// Corrections are multiples of this.
    unit: i64,
}

/// The lines from one knot to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TrackSegment {
    /// The first line's offset.
    from: u64,
    /// The time and difference at one place, and the difference gained in each 2^32 microseconds.
    anchor: (i64, i64),
    slope: i64,
    /// The least and the greatest difference of the segment.
    bounds: (i64, i64),
    /// No line up to this offset is certain.
    unsure_from: u64,
    unsure_to: u64,
}

/// A stretch of a log in which a clock is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockPiece {
    /// The first and the last logged time known.
    pub from: Timestamp,
    /// The last logged time known.
    pub to: Timestamp,
    /// Microseconds the log's clock is ahead at the beginning.
    pub ahead_first: i64,
    /// Microseconds the log's clock is ahead at the end.
    pub ahead_last: i64,
}

impl ClockTrack {
    /// Creates a track from its knots, in order. Corrections are made in multiples of `unit` microseconds.
    #[must_use]
    pub fn new(knots: &[ClockKnot], unit: i64) -> Self {
        let mut segments = Vec::with_capacity(knots.len());
        for (index, knot) in knots.iter().enumerate() {
            let next = knots.get(index + 1).filter(|next| next.since == KnotKind::Drift);
            let before = index.checked_sub(1).map(|at| knots[at]);
            let before = before.filter(|_| knot.since == KnotKind::Drift);
            let (slope, bounds) = match (next, before) {
                (Some(next), _) => (slope(knot, next), between(knot.ahead, next.ahead)),
                // Behind the last knot of a piece the pace stays for as long again.
                (None, Some(before)) => {
                    let further = knot.ahead.saturating_mul(2).saturating_sub(before.ahead);
                    (slope(&before, knot), between(knot.ahead, further))
                }
                (None, None) => (0, (knot.ahead, knot.ahead)),
            };
            let (from, (unsure_from, unsure_to)) = match knot.since {
                KnotKind::Drift => (knot.byte, (0, 0)),
                KnotKind::Step { from, to } => (knot.byte, (from, to)),
            };
            // The first segment holds for all lines before it.
            let from = if index == 0 { 0 } else { from };
            let anchor = (knot.time.as_micros(), knot.ahead);
            segments.push(TrackSegment { from, anchor, slope, bounds, unsure_from, unsure_to });
        }
        Self { segments, unit: unit.max(1) }
    }

    /// Returns the greatest distance of the track from a constant difference.
    #[must_use]
    pub fn farthest_from(&self, ahead: i64) -> i64 {
        let far = |it: &TrackSegment| (it.bounds.0 - ahead).abs().max((it.bounds.1 - ahead).abs());
        self.segments.iter().map(far).max().unwrap_or(0)
    }

    /// Returns a reader of the track, which is asked about one line after the other.
    #[must_use]
    pub const fn cursor(&self) -> TrackCursor<'_> {
        TrackCursor { track: self, at: 0 }
    }
}

/// Follows a track along its log.
#[derive(Clone, Debug)]
pub struct TrackCursor<'a> {
    track: &'a ClockTrack,
    at: usize,
}

impl TrackCursor<'_> {
    /// Returns the difference at the next line, and whether the line is near a step, so that it is not sure.
    pub fn next(&mut self, byte: u64, time: Timestamp) -> (i64, bool) {
        let segments = &self.track.segments;
        while segments.get(self.at + 1).is_some_and(|next| next.from <= byte) {
            self.at += 1;
        }
        let Some(segment) = segments.get(self.at) else { return (0, false) };
        let is_near = |it: &TrackSegment| (it.unsure_from..it.unsure_to).contains(&byte);
        let is_unsure = is_near(segment) || segments.get(self.at + 1).is_some_and(is_near);
        let unit = self.track.unit;
        let ahead = segment.ahead(time).saturating_add(unit / 2).div_euclid(unit) * unit;
        (ahead, is_unsure)
    }
}

impl TrackSegment {
    fn ahead(&self, time: Timestamp) -> i64 {
        let (at, ahead) = self.anchor;
        let since = i128::from(time.as_micros().saturating_sub(at));
        let gained = (since * i128::from(self.slope)) >> 32;
        let ahead = ahead.saturating_add(i64::try_from(gained).unwrap_or(0));
        ahead.clamp(self.bounds.0, self.bounds.1)
    }
}

fn between(one: i64, other: i64) -> (i64, i64) {
    (one.min(other), one.max(other))
}

/// The difference gained from one knot to the next, per 2^32 microseconds.
fn slope(one: &ClockKnot, next: &ClockKnot) -> i64 {
    let time = next.time.micros_since(one.time);
    if time <= 0 {
        return 0;
    }
    let gained = (i128::from(next.ahead) - i128::from(one.ahead)) << 32;
    i64::try_from(gained / i128::from(time)).unwrap_or(0)
}

/// Returns the stretches between steps, for a report.
#[must_use]
pub fn pieces(knots: &[ClockKnot]) -> Vec<ClockPiece> {
    let mut pieces: Vec<ClockPiece> = Vec::new();
    for knot in knots {
        match pieces.last_mut().filter(|_| knot.since == KnotKind::Drift) {
            Some(last) => (last.to, last.ahead_last) = (knot.time, knot.ahead),
            None => pieces.push(ClockPiece {
                from: knot.time,
                to: knot.time,
                ahead_first: knot.ahead,
                ahead_last: knot.ahead,
            }),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clocks::SECOND;

    fn knot(byte: u64, time: i64, ahead: i64, since: KnotKind) -> ClockKnot {
        ClockKnot { byte, time: Timestamp::from_seconds(time), ahead, since }
    }

    #[test]
    fn a_track_goes_through_its_knots_and_steps_where_it_was_set() {
        let step = KnotKind::Step { from: 1_900, to: 2_050 };
        let knots = [
            knot(100, 0, 0, KnotKind::Drift),
            knot(1_000, 1_000, SECOND, KnotKind::Drift),
            knot(2_000, 500, -SECOND, step),
        ];
        let track = ClockTrack::new(&knots, 1);
        let mut cursor = track.cursor();
        for (byte, time, expected) in [
            (0, -10, (0, false)),
            (550, 500, (SECOND / 2, false)),
            (1_000, 1_000, (SECOND, false)),
            (1_500, 1_500, (SECOND + SECOND / 2, false)),
            (1_950, 9_999, (2 * SECOND, true)),
            (2_000, 500, (-SECOND, true)),
            (2_050, 500, (-SECOND, false)),
            (1 << 40, 99_999, (-SECOND, false)),
        ] {
            let (ahead, unsure) = cursor.next(byte, Timestamp::from_seconds(time));
            assert!((ahead - expected.0).abs() < 1_000, "{byte}: {ahead}");
            assert_eq!(unsure, expected.1, "{byte}");
        }
        assert_eq!(track.farthest_from(0), 2 * SECOND);
        let whole = ClockTrack::new(&knots, SECOND);
        assert_eq!(whole.cursor().next(550, Timestamp::from_seconds(400)).0, 0);
        assert_eq!(whole.cursor().next(950, Timestamp::from_seconds(900)).0, SECOND);
        let found = pieces(&knots);
        let ends = found.iter().map(|piece| (piece.ahead_first, piece.ahead_last));
        assert_eq!(ends.collect::<Vec<_>>(), [(0, SECOND), (-SECOND, -SECOND)]);
    }
}
