//! What is learnt about one server.

use super::agreement::ResponseAgreement;
use super::calibration::Calibration;
use super::coarse::CoarseDelaySpan;
use super::delays::{ServerDelays, thousandths};
use super::end_order::{EndOrder, SureEnd};
use super::fallback::AgentFallback;
use super::flows::FlowCounts;
use super::hosts::ServerHosts;
use super::left_over::LeftOverCounts;
use super::logged_end::LoggedEnd;
use super::loss::Recorders;
use super::named_balancers::NamedBalancers;
use super::orphans::OrphanClasses;
use super::places::PlaceOrder;
use super::ports::PortEvidence;
use super::rates::RequestRates;
use super::request_ids::RequestIdEvidence;
use super::sender_flows::SenderFlows;
use super::senders::ServerSenders;
use super::stamped::StampedPart;
use super::tls::LearntTls;
use crate::attribution::costs;
use crate::attribution::line::{HeldLine, LineOrigin};
use crate::attribution::memory::ServerMemory;
use crate::attribution::memory::facts::ExchangeLife;
use crate::attribution::memory::mappings::{GroupSlot, WaitingMapping};
use crate::time::{Resolution, Timestamp};

/// What is learnt about one server.
pub(crate) struct LearntServer {
    /// Of lines with whole seconds, or of lines with finer stamps.
    pub(crate) delays: Box<ServerDelays>,
    /// Those of the other lines, once any were seen.
    other_delays: Option<Box<ServerDelays>>,
    /// Delays of likely pairs, while certain ones are too few.
    guessed_delays: Option<Box<ServerDelays>>,
    /// Whether `delays` are those of lines with whole seconds.
    is_coarse: bool,
    /// How many places lines are off.
    pub(crate) places: PlaceOrder,
    pub(crate) senders: ServerSenders,
    pub(crate) sender_flows: Box<SenderFlows>,
    pub(crate) named_balancers: NamedBalancers,
    pub(crate) fallback: AgentFallback,
    pub(crate) agreement: ResponseAgreement,
    pub(crate) calibration: Calibration,
    pub(crate) logged_end: LoggedEnd,
    pub(crate) stamped: StampedPart,
    pub(crate) ports: PortEvidence,
    pub(crate) request_ids: RequestIdEvidence,
    pub(crate) orphans: OrphanClasses,
    /// The balancers whose losses concern this server.
    pub(crate) recorders: Recorders,
    pub(crate) hosts: ServerHosts,
    /// What is learnt about TLS exchanges, once a line was compared with any.
    pub(crate) tls: Option<Box<LearntTls>>,
    /// Of groups with several candidates.
    pub(crate) left_over: LeftOverCounts,
    pub(crate) flows: FlowCounts,
    pub(crate) rates: RequestRates,
    /// How much later exchanges end than the exchange of the line logged before.
    pub(crate) advances: ServerDelays,
    pub(crate) end_order: EndOrder,
    /// When the exchanges of the last three lines ended whose mappings are hardly in doubt, the last one first.
    ends: [Timestamp; 3],
    /// Their median: a line may be wrong all the same.
    anchor: Option<Timestamp>,
    /// Where these lines came from.
    anchor_origin: LineOrigin,
    /// The end of the last exchange that lines of all groups have surely come past, where weighed together.
    pub(crate) reached: Timestamp,
    /// Whether lines of several files were seen.
    has_files: bool,
    /// Share of lines without a mapping, in parts per million: a moving average. Lines of which none is expected do
    /// not count.
    missing: i64,
    /// Share of lines without a mapping, whatever was expected, of each source of lines, likewise.
    unexplained: Vec<(LineOrigin, i64)>,
    /// Share of lines with several candidates, likewise.
    crowded: i64,
}

impl LearntServer {
    pub(crate) fn new() -> Self {
        Self {
            delays: Box::new(ServerDelays::new()),
            other_delays: None,
            guessed_delays: None,
            is_coarse: false,
            places: PlaceOrder::new(),
            senders: ServerSenders::default(),
            sender_flows: Box::new(SenderFlows::new()),
            named_balancers: NamedBalancers::default(),
            fallback: AgentFallback::new(),
            agreement: ResponseAgreement::new(),
            calibration: Calibration::new(),
            logged_end: LoggedEnd::default(),
            stamped: StampedPart::default(),
            ports: PortEvidence::new(),
            request_ids: RequestIdEvidence::default(),
            orphans: OrphanClasses::default(),
            recorders: Recorders::default(),
            hosts: ServerHosts::default(),
            tls: None,
            left_over: LeftOverCounts::new(),
            flows: FlowCounts::new(),
            rates: RequestRates::default(),
            advances: ServerDelays::new(),
            end_order: EndOrder::new(),
            ends: [Timestamp::MIN; 3],
            anchor: None,
            anchor_origin: LineOrigin(0),
            reached: Timestamp::MIN,
            has_files: false,
            missing: 0,
            unexplained: Vec::new(),
            crowded: costs::CROWDED_AT_FIRST,
        }
    }

    /// Uses the delays of lines with stamps as fine as this from now on. Without a mapping's end, delays of whole
    /// seconds say nothing about finer ones.
    pub(crate) fn use_delays_of(&mut self, resolution: Resolution) {
        let is_coarse = resolution == Resolution::Second;
        if is_coarse == self.is_coarse {
            return;
        }
        self.is_coarse = is_coarse;
        self.guessed_delays = None;
        if self.other_delays.is_some() || self.delays.is_any_known() {
            let other = self.other_delays.get_or_insert_with(|| Box::new(ServerDelays::new()));
            std::mem::swap(&mut self.delays, other);
        }
    }

    /// Learns from a likely pair that has this delay, while certain ones are too few.
    pub(crate) fn guess_delay(&mut self, delay: i64, resolution: Resolution) {
        if !self.delays.is_settled() {
            let guessed = self.guessed_delays.get_or_insert_with(|| Box::new(ServerDelays::new()));
            guessed.learn(delay, resolution);
        }
    }

    /// Learns how many places the line of a certain pair is off.
    pub(crate) fn learn_place(&mut self, waiting: &WaitingMapping, line: &HeldLine) {
        self.places.learn(waiting.place, line.place, self.flows.lead(waiting.time));
        self.flows.learn_lag(waiting.time, waiting.place, line.place);
    }

    /// Learns whether a line was without a mapping, and whether lines like it surely have some.
    pub(crate) fn learn_missing(&mut self, line: &HeldLine, is_missing: bool, has_some: bool) {
        let share = if is_missing { 1_000_000 } else { 0 };
        let unexplained = self.unexplained_of(line.origin);
        *unexplained += (share - *unexplained) / costs::SHARE_MEMORY;
        let was_orphan = is_missing && self.orphans.has(line);
        self.orphans.learn(line, is_missing && !has_some);
        if is_missing && self.orphans.has(line) {
            if !was_orphan {
                // The lines of the class so far.
                let lines = i64::from(costs::ORPHANS_AFTER) - 1;
                self.missing = (self.missing - lines * 1_000_000 / costs::SHARE_MEMORY).max(0);
                self.flows.count_orphans(f64::from(costs::ORPHANS_AFTER - 1));
            }
            self.flows.count_orphans(1.0);
            return;
        }
        self.missing += (share - self.missing) / costs::SHARE_MEMORY;
    }

    /// Returns the share of lines of this source without a mapping, in parts per million.
    pub(crate) fn unexplained(&self, origin: LineOrigin) -> i64 {
        self.unexplained.iter().find(|&&(it, _)| it == origin).map_or(0, |&(_, share)| share)
    }

    /// Returns the place of the share of lines of this source without a mapping.
    fn unexplained_of(&mut self, origin: LineOrigin) -> &mut i64 {
        // Nearly always the same source as before, or one of few.
        let known = self.unexplained.iter().position(|&(it, _)| it == origin);
        let place = known.unwrap_or_else(|| {
            if self.unexplained.len() == costs::ORIGINS {
                self.unexplained.swap_remove(0);
            }
            self.unexplained.push((origin, 0));
            self.unexplained.len() - 1
        });
        &mut self.unexplained[place].1
    }

    /// Learns whether a line had several candidates.
    pub(crate) fn learn_crowded(&mut self, is_crowded: bool) {
        let share = if is_crowded { 1_000_000 } else { 0 };
        self.crowded += (share - self.crowded) / costs::SHARE_MEMORY;
    }

    /// Returns the share of lines with several candidates, in parts per million.
    pub(crate) const fn crowded(&self) -> u64 {
        self.crowded.unsigned_abs()
    }

    /// Whether so many mappings are missing that a line's only candidate may belong to another line.
    pub(crate) const fn misses_mappings(&self, server: &ServerMemory) -> bool {
        let limit =
            if server.is_third_party { costs::MISSING_AT_ALL } else { costs::MISSING_LIMIT };
        self.missing > limit || server.short > 1 + server.held / costs::SHORT_SHARE
    }

    /// Whether any mapping was missing of late.
    pub(crate) const fn misses_any(&self, server: &ServerMemory) -> bool {
        self.missing > costs::MISSING_AT_ALL || server.short > 0
    }

    /// Whether so many lines of a source find no mapping that logged headers may differ from the sent ones.
    pub(crate) fn misses_most(&mut self, origin: LineOrigin) -> bool {
        *self.unexplained_of(origin) > costs::MISSING_MOST
    }

    /// Returns the share of mappings that are left over.
    pub(crate) fn left_over(&self) -> f64 {
        self.left_over.left(self.flows.left())
    }

    /// Returns the share of mappings that are left over beside lines of this second. Those that were left over in other
    /// seconds, as of lines that were lost, say nothing about a second with as many lines as mappings. Where many lines
    /// have no mapping, counts do not tell how many mappings have no line.
    pub(crate) fn left_over_at(&self, time: Timestamp) -> f64 {
        let usual = self.left_over();
        if self.flows.alone() > 0.0 {
            return usual;
        }
        let most = self.flows.left_at_most(time);
        most.map_or(usual, |most| usual.min(most.max(costs::LEFT_OVER_LEAST)))
    }

    /// Returns how likely a choice by order is right that would be so with this probability, in thousandths, if the
    /// choices for so many equal lines of the same second `before` were. Where many lines have no mapping, it is not known
    /// how many of those had one.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of 1,000")]
    pub(crate) fn doubt_order(&self, share: u16, before: u32) -> u16 {
        let alone = self.flows.alone_unexpected();
        if alone < costs::ALONE_MANY || before == 0 {
            return share;
        }
        let variance = f64::from(before) * alone.powf(1.5) * costs::ALONE_DRIFT;
        let known = (-variance).exp().max(1.0 / (1.0 + std::f64::consts::TAU * variance).sqrt());
        ((f64::from(share) * known) as u16).max(1)
    }

    /// Whether so many lines of crowded groups have no mapping that none of them is certain.
    pub(crate) fn misses_in_crowds(&self) -> bool {
        self.left_over.alone_in_order(self.flows.alone_unexpected()) > costs::ALONE_IN_DOUBT
    }

    /// Returns the cost of a line in order without a mapping, beside the cost of a delay.
    pub(crate) fn alone_in_order_cost(&self) -> i64 {
        self.left_over.alone_in_order_cost(self.flows.alone_unexpected()) + self.delays.peak_cost()
    }

    /// Returns the cost of a line of this group without a mapping, where the lines of all groups are in one order.
    pub(crate) fn alone_cost_in_sequence(&self, group: GroupSlot) -> i64 {
        self.alone_in_order_cost() + thousandths(self.rates.apart(group).ln())
    }

    /// Returns the cost of a line without a mapping, beside the cost of a delay.
    pub(crate) fn alone_cost(&self) -> i64 {
        self.left_over.alone_cost(self.flows.alone_unexpected()) + self.delays.peak_cost()
    }

    /// Whether so many lines or mappings are missing, where mappings tell when exchanges ended, that the order within a
    /// group tells little.
    pub(crate) const fn is_lossy(&self) -> bool {
        self.flows.has_drift() || self.flows.has_more_lines()
    }

    /// Whether lines are known to come in about the order in which exchanges ended: in one file, and not by their starts.
    pub(crate) fn logs_ends_in_order(&self) -> bool {
        self.has_one_file() && self.end_order.is_known() && !self.stamped.orders_starts()
    }

    /// Whether all lines so far came from one file.
    fn has_one_file(&self) -> bool {
        !self.has_files && self.unexplained.len() <= 1
    }

    /// Returns the cost of a line of this group without a mapping, beside that of a mapping's density at its place.
    pub(crate) fn alone_cost_by_place(&self, group: GroupSlot) -> i64 {
        let apart = self.rates.apart(group);
        self.left_over.alone_cost(self.flows.alone()) + thousandths(apart.ln())
    }

    /// Returns the same beside the cost of a delay.
    pub(crate) fn alone_cost_by_rate(&self, group: GroupSlot) -> i64 {
        let rate = self.flows.lines_of_second() / self.rates.apart(group);
        self.left_over.alone_cost(self.flows.alone()) + self.delays.peak_cost_over(rate).max(0)
    }

    /// Learns when the exchange of a line ended.
    pub(crate) fn advance_to(&mut self, end: SureEnd) {
        let ended = end.ended;
        self.end_order.learn(end);
        if self.anchor_origin != end.origin {
            self.has_files |= self.anchor.is_some();
            (self.anchor_origin, self.anchor) = (end.origin, None);
            self.ends = [Timestamp::MIN; 3];
        }
        if let Some(anchor) = self.anchor {
            self.advances.learn(ended.micros_since(anchor), Resolution::Microsecond);
        }
        self.ends = [ended, self.ends[0], self.ends[1]];
        let [a, b, c] = self.ends;
        let median = a.min(b).max(a.max(b).min(c));
        self.anchor = (median != Timestamp::MIN).then_some(median);
    }

    /// Returns the cost of an exchange that ended then for the line that is logged next, or for a `later` line.
    pub(crate) fn advance_cost(&self, line: &HeldLine, ended: Timestamp, is_next: bool) -> i64 {
        let Some(anchor) = self.anchor_of(line) else { return 0 };
        let advance = ended.micros_since(anchor);
        if advance > 0 && !is_next {
            return 0;
        }
        // Whatever the line belongs to, it comes no earlier than its stamp allows.
        let last = self.delays.hull(costs::DELAYS_USED_AFTER).map_or(0, |hull| hull.1);
        let least = line.time.micros_since(anchor).saturating_sub(last.max(0)).max(0);
        let usual = self.advances.cost(least);
        (self.advances.cost(advance) - usual).clamp(0, costs::ADVANCE_WORST)
    }

    /// Whether the line of an exchange that ended then would have been logged before this line. A mapping may be
    /// of another file than the line.
    pub(crate) fn is_passed(&self, line: &HeldLine, ended: Timestamp) -> bool {
        let Some(anchor) = self.anchor_of(line).filter(|_| !self.has_files) else { return false };
        let advance = ended.micros_since(anchor);
        advance < 0 && self.advances.cost(advance) >= costs::OVERDUE_COARSE
    }

    /// Returns how far the log of the line has come, if that is known and tells anything.
    fn anchor_of(&self, line: &HeldLine) -> Option<Timestamp> {
        self.anchor.filter(|_| self.anchor_origin == line.origin && self.advances.is_settled())
    }

    /// Returns the cost of the time between a line and its exchange.
    pub(crate) fn end_cost(&self, line: &HeldLine, life: ExchangeLife) -> i64 {
        let delay = line.time.micros_since(life.ended);
        let cost = self.cost_after_end(line, delay);
        if delay >= 0 || cost == 0 {
            return cost;
        }
        self.stamped.cost(life, line).map_or(cost, |of_start| of_start.min(cost))
    }

    /// Returns the cost of a line so long after the end of its exchange.
    fn cost_after_end(&self, line: &HeldLine, delay: i64) -> i64 {
        if line.resolution == Resolution::Second {
            let cost = self.span_of_ends(line).cost(delay);
            if cost == 0 {
                0
            } else {
                self.delays.steps().cost(delay).map_or(cost, |seen| seen.max(cost))
            }
        } else if self.delays.is_settled() {
            self.delays.cost(delay)
        } else {
            // Lines mostly follow ends at once.
            let times = 1 + delay.unsigned_abs() / costs::END_AT_FIRST;
            i64::from(times.ilog2()) * costs::HALVING
        }
    }

    /// Returns how long after its mapping a line should come at the latest: none while nothing is known.
    pub(crate) fn longest_end(&self, line: &HeldLine) -> i64 {
        if line.resolution == Resolution::Second {
            return self.delays.steps().dense_span().map_or(0, |span| span.1.max(0));
        }
        self.delays.hull(costs::DELAYS_SETTLED_AFTER).map_or(0, |hull| hull.1.max(0))
    }

    /// Returns the cost of a line so long after its request, where stamps are as fine as this.
    pub(crate) fn asked_cost(&self, delay: i64, resolution: Resolution) -> i64 {
        let learnt = self.delays.cost(delay);
        if self.delays.is_settled() {
            return learnt;
        }
        if let Some(guessed) = self.guessed_delays.as_ref().filter(|it| it.is_settled()) {
            return guessed.cost(delay);
        }
        if delay <= 0 {
            return learnt;
        }
        // Before delays are known, a long time is less likely than a short one: half as likely for each doubling, and
        // with whole seconds a quarter.
        let unit = costs::ASKED_AT_FIRST.max(resolution.micros().unsigned_abs());
        let halvings = if resolution == Resolution::Second { 2 } else { 1 };
        learnt + i64::from((1 + delay.unsigned_abs() / unit).ilog2()) * halvings * costs::HALVING
    }

    /// Returns the share, in thousandths, from which a pair teaches delays.
    pub(crate) const fn teaches(&self) -> u16 {
        if self.delays.is_settled() { costs::LATTICE_TEACHES } else { costs::LATTICE_TEACHES_EARLY }
    }

    /// Whether lines of an exchange rarely have such a stamp.
    pub(crate) fn is_unusual_end(&self, line: &HeldLine, life: ExchangeLife) -> bool {
        let delay = line.time.micros_since(life.ended);
        if delay < 0 && self.stamped.cost(life, line) == Some(0) {
            return false;
        }
        if line.resolution == Resolution::Second {
            self.delays.is_settled() && self.span_of_ends(line).is_unusual(delay)
        } else {
            self.delays.is_unusual(delay)
        }
    }

    /// Whether the line of an exchange would have come before this one, by its time alone.
    pub(crate) fn is_left_behind(&self, line: &HeldLine, life: ExchangeLife) -> bool {
        let delay = line.time.micros_since(life.ended);
        let is_overdue = line.resolution == Resolution::Second
            && self.delays.is_settled()
            && self.span_of_ends(line).is_overdue(delay);
        delay > 0 && (is_overdue || self.is_unusual_end(line, life))
    }

    /// Returns how long after the end of an exchange its line comes, where stamps are coarse.
    pub(crate) fn span_of_ends(&self, line: &HeldLine) -> CoarseDelaySpan {
        CoarseDelaySpan::of(&self.delays, line.resolution.micros())
    }

    /// Whether a delay does not rule a mapping out.
    pub(crate) const fn is_ordinary(&self, delay: i64) -> bool {
        !self.delays.is_settled() || !self.delays.is_unusual(delay)
    }
}
