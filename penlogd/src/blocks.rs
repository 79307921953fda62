//! Logs that workers write in blocks, as nginx does with `access_log … buffer=`.
//!
//! Each worker keeps its lines until its buffer is full or old. So lines are read late and together, and the blocks of
//! several workers overlap in time. The time of reading says little about the time of logging. So lines are dated by
//! their stamps, and held until all workers' lines of the same time have come. A worker writes its lines in order, and
//! about evenly: a line is as far into its second as among the lines of the same second in its block.

use std::collections::BTreeMap;

use pen_records::time::{Resolution, Timestamp};

use crate::lines::{ArrivedLine, HeldLine};

/// Microseconds between two lines that are read together, and between the first and the last line of a burst.
const TOGETHER: i64 = 5_000;
const LONGEST_BURST: i64 = 100_000;

/// Microseconds by which the lines of a block are late, besides their resolution.
const LATE: i64 = 500_000;

/// Microseconds by which a block overlaps the block read before, at least.
const OVERLAP: i64 = 50_000;

/// Blocks from which a log counts as blocked; lines from which a late burst is enough; bursts after which counts fade.
const BLOCKS_LEAST: u32 = 3;
const PLAIN_LINES: u32 = 8;
const FADE_AT: u32 = 32;

/// Microseconds for which a line is held at most.
const LONGEST_HELD: i64 = 10_000_000;

/// Length of a period in microseconds; the longest lag of the current and the last period counts.
const PERIOD: i64 = 60_000_000;

/// Microseconds by which a clock with fine stamps must differ from the clock in use: equal stamps stay equal times.
const CLOCK_MOVED: i64 = 100_000;

/// A line that is held.
#[derive(Debug)]
pub(crate) struct BlockLine {
    pub(crate) line: HeldLine,
    /// The logged time, by the collector's clock once the line has its place.
    pub(crate) time: (Timestamp, Resolution),
}

/// Lines read together.
#[derive(Clone, Copy, Debug)]
struct LineBurst {
    read: [Timestamp; 2],
    /// The stamps of the first line and of the last.
    logged: [Timestamp; 2],
    lines: u32,
    is_sorted: bool,
}

/// Finds out whether a log is written in blocks, and holds the lines of a blocked log.
#[derive(Debug, Default)]
pub(crate) struct BlockedLog {
    burst: Option<LineBurst>,
    /// The last stamp of the burst before.
    before: Option<Timestamp>,
    /// Bursts that are blocks, and all bursts.
    counts: [u32; 2],
    is_blocked: bool,
    /// The clock by which lines are dated: microseconds ahead of the collector's.
    ahead: i64,
    /// The longest time from the logging of a line to its reading, in the current period and the last.
    lags: [i64; 2],
    since: Timestamp,
    /// Lines of the burst, still without places.
    coming: Vec<BlockLine>,
    /// Lines by the time of their place, and by their number.
    placed: BTreeMap<(Timestamp, u64), BlockLine>,
    placed_so_far: u64,
    bytes: usize,
}

impl BlockedLog {
    /// Takes notice of a line. Returns whether lines come in blocks.
    pub(crate) fn note(&mut self, logged: (Timestamp, Resolution), read: Timestamp) -> bool {
        let step = logged.1.micros();
        match &mut self.burst {
            Some(burst) if burst.takes(read) => burst.add(logged.0, read),
            _ => {
                self.end_burst(step);
                self.burst = Some(LineBurst::new(logged.0, read));
            }
        }
        self.is_blocked |= self.burst.is_some_and(|burst| burst.is_plain(step));
        self.is_blocked
    }

    fn end_burst(&mut self, step: i64) {
        let Some(burst) = self.burst.take() else { return };
        self.place_lines();
        let [blocks, all] = &mut self.counts;
        let weight = if burst.is_plain(step) { BLOCKS_LEAST } else { 1 };
        *blocks += if burst.is_block(self.before, step) { weight } else { 0 };
        *all += weight;
        self.is_blocked = match self.is_blocked {
            false => *blocks >= BLOCKS_LEAST && *blocks * 3 >= *all,
            true => *blocks * 6 >= *all,
        };
        if *all >= FADE_AT {
            self.counts = self.counts.map(|count| count / 2);
        }
        self.before = Some(burst.logged[1]);
    }

    /// Holds a line. The clock of its stamp is `ahead` microseconds ahead of the collector's.
    pub(crate) fn hold(
        &mut self,
        line: ArrivedLine<'_>,
        time: (Timestamp, Resolution),
        ahead: i64,
    ) {
        let step = time.1.micros();
        if (ahead - self.ahead).abs() > CLOCK_MOVED.max(step / 4 * 3) {
            // By whole steps, so that stamps stay stamps.
            self.ahead = (ahead + step / 2).div_euclid(step) * step;
        }
        self.bytes += line.text.len();
        self.coming.push(BlockLine { line: line.into(), time });
    }

    /// Gives the lines of the last burst their places.
    fn place_lines(&mut self) {
        let mut coming = std::mem::take(&mut self.coming);
        for line in &mut coming {
            line.time.0 = line.time.0.offset_by(-self.ahead);
        }
        let mut lines = coming.into_iter().peekable();
        while let Some(first) = lines.next() {
            let mut same = vec![first];
            let (at, resolution) = same[0].time;
            while let Some(next) = lines.next_if(|next| next.time.0 == at) {
                same.push(next);
            }
            // What a block has of its last second ends when the block is written.
            let passed = same[0].line.read.micros_since(at);
            let width = passed.clamp(1, resolution.micros());
            let count = i64::try_from(same.len()).unwrap_or(i64::MAX);
            for (number, line) in (0..).zip(same) {
                self.place(at.offset_by((2 * number + 1) * width / (2 * count)), line);
            }
        }
    }

    fn place(&mut self, place: Timestamp, line: BlockLine) {
        let read = line.line.read;
        let lag = read.micros_since(place);
        if read.micros_since(self.since) >= PERIOD {
            (self.lags, self.since) = ([0, self.lags[0]], read);
        }
        if lag <= LONGEST_HELD {
            self.lags[0] = self.lags[0].max(lag);
        }
        self.placed.insert((place, self.placed_so_far), line);
        self.placed_so_far += 1;
    }

    /// Returns how many bytes the held lines have.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns when the next held line goes on.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        let placed = self.placed.first_key_value().map(|(&(place, _), _)| self.due_at(place));
        let burst = self.burst.filter(|_| !self.coming.is_empty());
        let coming = burst.map(|burst| burst.read[0].offset_by(LONGEST_BURST));
        [placed, coming].into_iter().flatten().min()
    }

    fn due_at(&self, place: Timestamp) -> Timestamp {
        if self.is_blocked { place.offset_by(self.lags[0].max(self.lags[1])) } else { place }
    }

    /// Returns the next line held for long enough.
    pub(crate) fn next_due(&mut self, now: Timestamp) -> Option<BlockLine> {
        let is_over = |burst: LineBurst| burst.read[0].offset_by(LONGEST_BURST) <= now;
        if self.burst.is_none_or(is_over) {
            self.place_lines();
        }
        let first = self.placed.first_entry()?;
        let place = first.key().0;
        (self.due_at(place) <= now).then(|| self.next_held()).flatten()
    }

    /// Returns the next line.
    pub(crate) fn next_held(&mut self) -> Option<BlockLine> {
        if self.placed.is_empty() {
            self.place_lines();
        }
        let (_, line) = self.placed.pop_first()?;
        self.bytes -= line.line.text.len();
        Some(line)
    }
}

impl LineBurst {
    const fn new(logged: Timestamp, read: Timestamp) -> Self {
        Self { read: [read; 2], logged: [logged; 2], lines: 1, is_sorted: true }
    }

    /// Whether a line read at this time belongs to the burst.
    fn takes(&self, read: Timestamp) -> bool {
        read.micros_since(self.read[1]).abs() <= TOGETHER
            && read.micros_since(self.read[0]).abs() < LONGEST_BURST
    }

    fn add(&mut self, logged: Timestamp, read: Timestamp) {
        self.is_sorted &= self.logged[1] <= logged;
        self.lines += 1;
        (self.read[1], self.logged[1]) = (read, logged);
    }

    /// Whether the lines are in order, and the first is late.
    fn is_late(&self, step: i64) -> bool {
        let [begun, ended] = self.read;
        let [first, last] = self.logged;
        self.is_sorted && last.micros_since(first) - ended.micros_since(begun) > step + LATE
    }

    /// Whether the lines are surely a block.
    fn is_plain(&self, step: i64) -> bool {
        self.lines >= PLAIN_LINES && self.is_late(step)
    }

    /// Whether the lines are a block: in order, and late or older than the end of the last burst.
    fn is_block(&self, before: Option<Timestamp>, step: i64) -> bool {
        let overlap = before.map_or(0, |before| before.micros_since(self.logged[0]));
        let overlaps = self.lines > 1 && self.is_sorted && overlap >= step.max(OVERLAP);
        overlaps || self.is_late(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(1_795_379_000 * SECOND + millis * 1_000)
    }

    /// The lines of four workers that write every so many milliseconds, 40 lines a second, as they are read: when each
    /// was logged, and when it was read.
    fn in_blocks(length: i64) -> Vec<(i64, i64)> {
        let written = |logged: i64| {
            let phase = length / 4 * (logged / 25 * 7 % 4);
            ((logged - phase).div_euclid(length) + 1) * length + phase + 3
        };
        let mut lines: Vec<_> =
            (0..60_000).step_by(25).map(|logged| (logged, written(logged))).collect();
        lines.sort_by_key(|&(_, read)| read);
        lines
    }

    /// Feeds lines with stamps of whole seconds; returns in which order those logged so many milliseconds in came out.
    fn fed(lines: &[(i64, i64)], after: i64) -> (Vec<i64>, BlockedLog) {
        let mut log = BlockedLog::default();
        let mut out = Vec::new();
        let number = |line: BlockLine| String::from_utf8_lossy(&line.line.text).parse().unwrap();
        for &(logged, read) in lines {
            while let Some(line) = log.next_due(at(read)) {
                out.push(number(line));
            }
            let stamp = (at(logged / 1_000 * 1_000), Resolution::Second);
            if log.note(stamp, at(read)) {
                let from = "192.0.2.1:5000".parse().unwrap();
                let (text, read) = (logged.to_string(), at(read));
                let line = ArrivedLine {
                    text: text.as_bytes(),
                    from,
                    read,
                    is_behind: false,
                    number: 0,
                    is_unauthenticated: false,
                };
                log.hold(line, stamp, 0);
            } else {
                out.push(logged);
            }
        }
        out.retain(|&logged| logged >= after);
        (out, log)
    }

    #[test]
    fn lines_of_blocks_come_out_in_about_the_order_in_which_they_were_logged() {
        for length in [1_000, 5_000] {
            let (out, mut log) = fed(&in_blocks(length), 20_000);
            assert!(out.len() > 1_000 && log.is_blocked, "{length}: {}", out.len());
            let back = |pair: &[i64]| pair[0] - pair[1];
            let most = out.windows(2).map(back).max();
            assert!(most <= Some(800), "{length}: {most:?}");
            assert!(log.lags[0] <= length * 1_000 + SECOND, "{}", log.lags[0]);
            assert!(log.bytes() > 0);
            while log.next_held().is_some() {}
            assert_eq!((log.bytes(), log.due()), (0, None));
        }
    }

    #[test]
    fn lines_that_are_read_as_they_are_logged_are_not_held() {
        let at_once: Vec<_> = (0..60_000).step_by(3).map(|logged| (logged, logged + 1)).collect();
        // One answer in 20 takes three seconds, and lines name its start.
        let slow = |&(logged, read): &(i64, i64)| {
            (if logged / 3 % 20 == 0 { logged - 3_000 } else { logged }, read)
        };
        let slow: Vec<_> = at_once.iter().map(slow).collect();
        for lines in [at_once, slow] {
            let (out, log) = fed(&lines, -3_000);
            assert!(out.len() == lines.len() && !log.is_blocked);
        }
    }

    #[test]
    fn a_log_that_is_no_longer_written_in_blocks_is_no_longer_held() {
        let mut lines = in_blocks(1_000);
        lines.extend((70_000..90_000).step_by(25).map(|logged| (logged, logged)));
        let (out, log) = fed(&lines, 0);
        assert_eq!((out.len(), log.is_blocked, log.due()), (lines.len(), false, None));
    }
}
