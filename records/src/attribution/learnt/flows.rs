//! How many mappings and lines of a server there are in the same seconds: where one are fewer, some are missing.

use crate::attribution::costs;
use crate::attribution::learnt::places::RecentMedian;
use crate::attribution::line::OrderPlace;
use crate::time::Timestamp;

/// Seconds counted by themselves: the longest time from a record to a line.
const SECONDS: usize = 32;
#[expect(clippy::cast_possible_wrap, reason = "a small number")]
const SPAN: i64 = SECONDS as i64;

/// Mappings and lines of one server.
pub(crate) struct FlowCounts {
    seconds: [FlowSecond; SECONDS],
    /// The second of the last line.
    last: i64,
    /// Those of the seconds before it, of late.
    mappings: f64,
    lines: f64,
    /// How many more lines than mappings there were before it.
    lead: i64,
    /// All mappings, and all lines.
    all_mappings: i64,
    all_lines: i64,
    /// The lines of the second before it.
    before: f64,
    /// Those of the first second, in which there are fewer of one kind if clocks differ.
    first: (f64, f64),
    lags: SecondLags,
    has_drift: bool,
    /// See [`Self::has_more_lines`].
    has_more_lines: bool,
    /// Lines of which no mapping is expected, of late.
    orphans: f64,
}

/// Where the line of a mapping is expected by the part of the second.
struct ExpectedPlace {
    /// How many places after the mapping.
    place: f64,
    /// The lines of the second.
    lines: f64,
    /// How uncertain that is since some are missing, in parts of these lines.
    variance: f64,
}

/// How far lines are behind the places expected by parts of a second: requests take some time, and clocks differ by a
/// part of a second.
struct SecondLags {
    /// Those of the last certain pairs, in thousandths of a second.
    recent: RecentMedian<{ costs::LAGS_RECENT }>,
    /// Their variance since some lines or mappings are missing.
    missing: f64,
    /// Their median and the rest of their variance, in seconds.
    usual: f64,
    variance: f64,
}

impl SecondLags {
    const fn new() -> Self {
        let (usual, variance) = costs::LAG_AT_FIRST;
        Self { recent: RecentMedian::new(), missing: 0.0, usual, variance }
    }

    #[expect(clippy::cast_possible_truncation, reason = "a part of some seconds")]
    fn learn(&mut self, places: f64, expected: &ExpectedPlace) {
        self.recent.push((1_000.0 * (places - expected.place) / expected.lines) as i64);
        let numbers = self.recent.numbers().min(costs::LAGS_RECENT) as f64;
        self.missing += (expected.variance - self.missing) / numbers;
        if self.recent.numbers() >= costs::LAGS_KNOWN_AFTER {
            let median = self.recent.median();
            let deviation = SIGMA * self.recent.distance(median) as f64 / 1_000.0;
            self.usual = median as f64 / 1_000.0;
            self.variance = (deviation * deviation - self.missing).max(costs::LAG_VARIANCE_LEAST);
        }
    }
}

/// The standard deviation, of the median distance from the middle, in a normal distribution.
const SIGMA: f64 = 1.482_6;

/// Mappings and lines of one second.
#[derive(Clone, Copy)]
struct FlowSecond {
    second: i64,
    mappings: f64,
    lines: f64,
    /// How many more lines than mappings there were before.
    lead: Option<i64>,
    /// The places before the first mapping and the first line.
    before_mappings: OrderPlace,
    before_lines: OrderPlace,
}

impl FlowSecond {
    const fn new(second: i64) -> Self {
        let (before_mappings, before_lines) = (OrderPlace::FIRST, OrderPlace::FIRST);
        Self { second, mappings: 0.0, lines: 0.0, lead: None, before_mappings, before_lines }
    }
}

impl FlowCounts {
    pub(crate) const fn new() -> Self {
        Self {
            seconds: [FlowSecond::new(i64::MIN); SECONDS],
            last: i64::MAX,
            mappings: 0.0,
            lines: 0.0,
            lead: 0,
            all_mappings: 0,
            all_lines: 0,
            before: 0.0,
            first: (0.0, 0.0),
            lags: SecondLags::new(),
            has_drift: false,
            has_more_lines: false,
            orphans: 0.0,
        }
    }

    /// Counts a mapping behind this place.
    pub(crate) fn count_mapping(&mut self, time: Timestamp, before: OrderPlace) {
        let second = second(time);
        self.all_mappings += 1;
        if second >= self.last || self.last == i64::MAX {
            let at = self.at(second);
            if at.mappings == 0.0 {
                at.before_mappings = before;
            }
            at.mappings += 1.0;
        }
    }

    /// Counts a line behind this place.
    pub(crate) fn count_line(&mut self, time: Timestamp, before: OrderPlace) {
        let second = second(time);
        if self.last == i64::MAX {
            self.last = second;
        }
        if second > self.last {
            self.close(second);
        }
        let at = self.at(second);
        if at.lines == 0.0 {
            at.before_lines = before;
        }
        at.lines += 1.0;
        self.all_lines += 1;
    }

    /// Ends the input. In a log of one second, that second counts as over.
    pub(crate) fn finish(&mut self) {
        let has_closed = self.mappings + self.lines > 0.0;
        if self.last != i64::MAX && !has_closed {
            self.close(self.last.saturating_add(1));
        }
    }

    /// Counts lines of which no mapping is expected, among those counted before.
    pub(crate) fn count_orphans(&mut self, lines: f64) {
        self.orphans += lines;
    }

    /// Adds up the seconds before this one.
    #[cold]
    #[expect(clippy::cast_possible_truncation, reason = "whole numbers of one second")]
    fn close(&mut self, second: i64) {
        // At a quiet site, mappings of the second before may lie far behind the last.
        let behind = self.last.saturating_add(SPAN)..second;
        let quiet = self.seconds.iter().filter(|it| behind.contains(&it.second));
        self.mappings += quiet.map(|it| it.mappings).sum::<f64>();
        for closed in self.last..second.min(self.last.saturating_add(SPAN)) {
            let FlowSecond { mappings, lines, .. } = *self.at(closed);
            let is_first = self.mappings == 0.0 && self.lines == 0.0;
            self.mappings += mappings;
            self.lines += lines;
            self.before = lines;
            if is_first {
                self.first = (mappings, lines);
            }
        }
        let later = self.seconds.iter().filter(|it| it.second >= second);
        let later = later.map(|it| it.mappings).sum::<f64>() as i64;
        self.lead = self.all_lines - (self.all_mappings - later);
        for skipped in self.last.saturating_add(1)..=second.min(self.last.saturating_add(SPAN)) {
            self.at(skipped).lead = Some(self.lead);
        }
        self.last = second;
        while self.mappings.max(self.lines) > costs::FLOW_FADE_AT {
            self.mappings /= 2.0;
            self.lines /= 2.0;
            self.first = (self.first.0 / 2.0, self.first.1 / 2.0);
            self.orphans /= 2.0;
        }
        let more = self.lines - self.orphans - self.mappings;
        self.has_more_lines = more > costs::MORE_LINES + self.before / costs::LEAD_LINES;
        self.has_drift = self.left().max(self.alone()) > costs::PLACES_DRIFT;
    }

    fn at(&mut self, second: i64) -> &mut FlowSecond {
        let at = &mut self.seconds[place(second)];
        if at.second != second {
            *at = FlowSecond::new(second);
        }
        at
    }

    /// Returns how many more lines than mappings there were before the second of this time; as far as is known, if it
    /// is not over.
    pub(crate) fn lead(&self, time: Timestamp) -> i64 {
        let second = second(time);
        let at = &self.seconds[place(second)];
        let known = if at.second == second { at.lead } else { None };
        known.unwrap_or(self.lead)
    }

    /// Returns how many places after a mapping its line is to be expected if many of one of them are missing, and the
    /// variance of that; `None` while the lines of its second are not all known, and where they are few.
    ///
    /// What is missing is taken to be spread evenly: in a second with 10 mappings and 30 lines, the line of the fifth
    /// mapping is expected to be the 14th.
    #[expect(clippy::cast_possible_truncation, reason = "a place among lines of one second")]
    pub(crate) fn spread(&self, time: Timestamp, mapping: OrderPlace) -> Option<(i64, f64)> {
        let ExpectedPlace { place, lines, variance } = self.by_part(time, mapping)?;
        let SecondLags { usual, variance: underway, .. } = self.lags;
        Some(((place + usual * lines).floor() as i64, (variance + underway) * lines * lines))
    }

    /// Learns how far the line of a mapping is from the place expected by the part of the second, where that is used.
    pub(crate) fn learn_lag(&mut self, time: Timestamp, mapping: OrderPlace, line: OrderPlace) {
        if self.has_drift()
            && let Some(expected) = self.by_part(time, mapping)
        {
            self.lags.learn(line.after(mapping) as f64, &expected);
        }
    }

    /// Returns the place that is expected by the part of the second.
    fn by_part(&self, time: Timestamp, mapping: OrderPlace) -> Option<ExpectedPlace> {
        let at = self.known(time)?;
        if at.lines.min(at.mappings) < costs::PLACES_SPREAD_FROM {
            return None;
        }
        let rank = mapping.after(at.before_mappings) as f64 - 0.5;
        let part = (rank / at.mappings).clamp(0.0, 1.0);
        let place = at.before_lines.after(mapping) as f64 + part * at.lines + 0.5;
        let missing = (1.0 / at.lines - 1.0 / at.mappings).abs();
        Some(ExpectedPlace { place, lines: at.lines, variance: part * (1.0 - part) * missing })
    }

    /// Returns how many lines the last second had; at least one.
    #[expect(clippy::cast_possible_truncation, reason = "a number of lines")]
    pub(crate) const fn lines_of_second(&self) -> f32 {
        self.before.max(1.0) as f32
    }

    /// Returns by how much a lead changes by chance, at most: requests are underway when a second ends.
    #[expect(clippy::cast_possible_truncation, reason = "a number of lines")]
    pub(crate) fn lead_by_chance(&self) -> i64 {
        costs::LEAD_BY_CHANCE + (self.before / costs::LEAD_LINES) as i64
    }

    /// Whether places drift within a second, since some lines or mappings are missing.
    pub(crate) const fn has_drift(&self) -> bool {
        self.has_drift
    }

    /// Returns the greatest share of mappings of this second without a line, but for chance; `None` while its lines are not
    /// all known.
    pub(crate) fn left_at_most(&self, time: Timestamp) -> Option<f64> {
        let FlowSecond { mappings, lines, .. } = self.known(time)?;
        let chance = costs::LEFT_BY_CHANCE * mappings.sqrt();
        (mappings > 0.0).then(|| ((mappings - lines + chance) / mappings).clamp(0.0, 1.0))
    }

    /// Returns the counts of this second, if all its lines are known.
    fn known(&self, time: Timestamp) -> Option<FlowSecond> {
        let second = second(time);
        let at = self.seconds[place(second)];
        (at.second == second && second < self.last).then_some(at)
    }

    /// Returns the least share of mappings without a line.
    pub(crate) fn left(&self) -> f64 {
        excess_of((self.mappings, self.first.0), (self.lines, self.first.1))
    }

    /// Whether there are more lines than mappings, beyond chance and lines without an expected mapping.
    pub(crate) const fn has_more_lines(&self) -> bool {
        self.has_more_lines
    }

    /// Returns the least share of lines without a mapping.
    pub(crate) fn alone(&self) -> f64 {
        self.alone_of(self.lines)
    }

    /// Returns the least share of lines without a mapping among those of which one is expected.
    pub(crate) fn alone_unexpected(&self) -> f64 {
        self.alone_of(self.lines - self.orphans)
    }

    fn alone_of(&self, lines: f64) -> f64 {
        let by_seconds = excess_of((lines, self.first.1), (self.mappings, self.first.0));
        // No difference of clocks makes lines more than all mappings so far.
        by_seconds.max(excess(lines, self.all_mappings as f64))
    }
}

/// Returns which share of some are more than others, beyond chance, of all and of those in the first second. What is missing
/// in the first second may be in the second beside it, by clocks that differ.
fn excess_of((some, first): (f64, f64), (others, others_first): (f64, f64)) -> f64 {
    let (since, others_since) = (some - first, others - others_first);
    if since < costs::FLOW_KNOWN_AFTER {
        excess(some, others + (first - others_first).max(0.0))
    } else {
        excess(since, others_since)
    }
}

/// Returns which share of `some` are more than `others`, beyond chance.
fn excess(some: f64, others: f64) -> f64 {
    if some < costs::FLOW_KNOWN_AFTER {
        0.0
    } else {
        1.0 - (others / some + costs::FLOW_CHANCE).min(1.0)
    }
}

fn place(second: i64) -> usize {
    usize::try_from(second.rem_euclid(SPAN)).unwrap_or(0)
}

const fn second(time: Timestamp) -> i64 {
    time.as_micros().div_euclid(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_seen_by_the_counts_of_the_same_seconds() {
        for (every, left, alone) in [(10, 0.85, 0.0), (1, 0.0, 0.0)] {
            let mut flows = FlowCounts::new();
            for i in 0..3_000 {
                // Mappings come before the lines of the same second.
                flows.count_mapping(Timestamp::from_micros((i + 200) * 10_000), OrderPlace::FIRST);
                if i % every == 0 {
                    flows.count_line(Timestamp::from_micros(i * 10_000), OrderPlace::FIRST);
                }
            }
            assert!((flows.left() - left).abs() < 0.08, "{}", flows.left());
            assert!((flows.alone() - alone).abs() < 0.08, "{}", flows.alone());
        }
    }

    #[test]
    fn a_clock_that_is_wrong_by_a_part_of_a_second_does_not_make_lines_seem_missing() {
        for behind in [-800_000, -300_000, 300_000, 800_000] {
            let mut flows = FlowCounts::new();
            for i in 0..3_000 {
                // Mappings are read before the lines of the same second.
                let time = |i: i64| Timestamp::from_micros(i * 2_500);
                flows.count_mapping(time(i), OrderPlace::FIRST);
                if i >= 800 {
                    flows.count_line(time(i - 800).offset_by(behind), OrderPlace::FIRST);
                }
                assert!(!flows.has_drift(), "{behind} us, {i}");
            }
        }
    }

    #[test]
    fn missing_mappings_are_seen_in_a_log_of_one_second() {
        let mut flows = FlowCounts::new();
        let time = Timestamp::from_micros(5_000_000);
        (0..300).for_each(|_| flows.count_mapping(time, OrderPlace::FIRST));
        (0..600).for_each(|_| flows.count_line(time, OrderPlace::FIRST));
        assert!(!flows.has_drift());
        flows.finish();
        assert!(flows.has_drift() && (flows.alone() - 0.4).abs() < 0.01, "{}", flows.alone());
    }

    #[test]
    fn a_second_with_as_many_lines_as_mappings_leaves_none_over() {
        let mut flows = FlowCounts::new();
        for second in 0..4_i64 {
            for i in 0..100 {
                let time = Timestamp::from_micros(second * 1_000_000 + i * 10_000);
                flows.count_mapping(time, OrderPlace::FIRST);
                if second != 1 || i < 30 {
                    flows.count_line(time, OrderPlace::FIRST);
                }
            }
        }
        let most = |second: i64| flows.left_at_most(Timestamp::from_micros(second * 1_000_000));
        assert!(most(0).unwrap() < 0.02 && most(2).unwrap() < 0.02);
        assert!((most(1).unwrap() - 0.7).abs() < 0.02);
        assert_eq!(most(3), None, "more lines may come");
    }

    #[test]
    fn lines_of_which_no_mapping_is_expected_do_not_make_mappings_seem_missing() {
        let mut flows = FlowCounts::new();
        for i in 0..1_000 {
            let time = Timestamp::from_micros(i * 10_000);
            flows.count_line(time, OrderPlace::FIRST);
            if i % 2 == 0 {
                flows.count_mapping(time, OrderPlace::FIRST);
            } else {
                flows.count_orphans(1.0);
            }
        }
        assert!(flows.alone() > 0.3 && flows.alone_unexpected() <= 0.0);
        assert!(!flows.has_more_lines());
    }

    #[test]
    fn records_of_a_quiet_site_are_not_missing_if_their_lines_have_the_next_second() {
        let mut flows = FlowCounts::new();
        for hour in 0..100 {
            let at = |second: i64| Timestamp::from_micros((hour * 3_600 + second) * 1_000_000);
            flows.count_mapping(at(0), OrderPlace::FIRST);
            flows.count_line(at(1), OrderPlace::FIRST);
        }
        assert!(!flows.has_more_lines() && flows.mappings > 90.0);
    }

    #[test]
    fn a_few_records_that_are_missing_show_in_time() {
        let mut flows = FlowCounts::new();
        for i in 0..3_000 {
            let time = Timestamp::from_micros(i * 10_000);
            flows.count_line(time, OrderPlace::FIRST);
            if i % 50 > 0 {
                flows.count_mapping(time, OrderPlace::FIRST);
            }
            assert!(!flows.has_more_lines() || i > 300, "chance at {i}");
        }
        assert!(flows.has_more_lines() && !flows.has_drift());
    }

    #[test]
    fn a_line_is_expected_where_its_mapping_is_among_the_mappings_of_its_second() {
        let mut flows = FlowCounts::new();
        let (mut mappings, mut lines) = (OrderPlace(100), OrderPlace(700));
        for second in 0..3_i64 {
            for i in 0..100 {
                let time = Timestamp::from_micros(second * 1_000_000 + i * 10_000);
                flows.count_mapping(time, mappings);
                mappings = mappings.next();
                if i % 4 == 0 {
                    flows.count_line(time, lines);
                    lines = lines.next();
                }
            }
        }
        // The 53rd mapping of the second second; of 25 lines, behind 25 of the first, its own is the 14th.
        let mapping = OrderPlace(100 + 100 + 53);
        let (apart, variance) = flows.spread(Timestamp::from_micros(1_520_000), mapping).unwrap();
        assert_eq!(i64::from(mapping.0) + apart, 700 + 25 + 13);
        assert!(variance > 3.0 && variance < 6.0, "{variance}");
        assert_eq!(flows.spread(Timestamp::from_micros(2_520_000), mapping), None);
    }
}
