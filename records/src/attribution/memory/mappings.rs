//! Which mappings wait for a line, by request group: found, added and removed in O(1).
//!
//! A *group* is one request at one server: its mappings in time order, and the lines that wait for a
//! decision. Mappings live in a slab. Each mapping is linked into its group and listed in the order of
//! arrival; the oldest arrivals expire first.

use std::collections::VecDeque;

use hashbrown::HashTable;

use super::client::{AgentHash, ClientHash, RecordedClient};
use super::facts::FactsSlot;
use super::slab::{Slab, Slot};
use crate::addr::ClientAddr;
use crate::attribution::costs;
use crate::attribution::line::{LineNumber, OrderPlace};
use crate::request::Fingerprint;
use crate::time::{Resolution, Timestamp};

/// The place of a mapping.
pub(crate) type MappingSlot = Slot<WaitingMapping>;

/// The place of a group.
pub(crate) type GroupSlot = Slot<RequestGroup>;

/// A probability of 1, as it is stored.
const WHOLE: u16 = u16::MAX;

/// What an earlier line left at a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MappingMark {
    Unmarked,
    /// The line has the mapping's client, but in doubt.
    Named,
    /// The line took a different client's exchange, with an end close by.
    Close,
}

/// A remembered mapping: one cache line, since decisions go from one mapping to another.
#[repr(align(64))]
pub(crate) struct WaitingMapping {
    pub(crate) client: ClientAddr,
    pub(crate) resolution: Resolution,
    flags: MappingFlags,
    /// See [`Self::unclaimed`], in parts of [`WHOLE`].
    unclaimed: u16,
    /// Its number among the mappings of the server.
    pub(crate) place: OrderPlace,
    /// Whether the mapping is deferred: too old to be expected, or of an exchange that has not ended.
    pub(crate) deferred: bool,
    /// How often a younger mapping was preferred.
    passed_over: u8,
    pub(crate) mark: MappingMark,
    pub(crate) time: Timestamp,
    /// Hash of `client`.
    pub(crate) client_hash: ClientHash,
    /// The client's usual User-Agent, once looked up and known.
    pub(crate) usual: Option<AgentHash>,
    group: GroupSlot,
    /// Facts about the mapping's exchange; `None` for a mapping that names no connection.
    pub(crate) facts: Option<FactsSlot>,
    links: MappingLinks,
    /// Generation of this slot; tells mappings in a reused slot apart.
    generation: u32,
}

/// Facts of one bit each.
#[derive(Clone, Copy)]
struct MappingFlags(u8);

impl MappingFlags {
    /// The mapping was a candidate in a decision that could have gone another way.
    const CONTESTED: u8 = 1;
    /// A record of the mapping came from a sender without a key.
    const UNAUTHENTICATED: u8 = 2;
}

impl WaitingMapping {
    /// Whether the mapping was a candidate in a decision that could have gone another way.
    pub(crate) const fn is_contested(&self) -> bool {
        self.flags.0 & MappingFlags::CONTESTED != 0
    }

    /// Returns the client, and how it is known.
    pub(crate) const fn recorded_client(&self) -> RecordedClient {
        let is_unauthenticated = self.flags.0 & MappingFlags::UNAUTHENTICATED != 0;
        RecordedClient { addr: self.client, is_unauthenticated }
    }

    /// Whether no line is known that may have it.
    pub(crate) const fn is_unclaimed(&self) -> bool {
        self.unclaimed == WHOLE
    }

    /// Returns the probability that its line is still to come.
    pub(crate) fn unclaimed(&self) -> f64 {
        f64::from(self.unclaimed) / f64::from(WHOLE)
    }

    /// Returns the next mapping of the same list of the group.
    pub(crate) const fn after(&self) -> Option<MappingSlot> {
        self.links.after
    }

    /// Returns the previous mapping of the same list of the group.
    pub(crate) const fn before(&self) -> Option<MappingSlot> {
        self.links.before
    }

    /// Returns the time by which delays of lines with such stamps are learnt: whole seconds where lines have these, and
    /// nothing is known of the exchange.
    pub(crate) const fn time_beside(&self, resolution: Resolution) -> Timestamp {
        match (resolution, self.facts) {
            (Resolution::Second, None) => self.time.cut_to(Resolution::Second),
            _ => self.time,
        }
    }
}

/// The neighbours of a mapping in a list of its group.
#[derive(Clone, Copy, Default)]
struct MappingLinks {
    before: Option<MappingSlot>,
    after: Option<MappingSlot>,
}

/// The ends of a list of mappings.
#[derive(Clone, Copy, Default)]
struct ListEnds {
    first: Option<MappingSlot>,
    last: Option<MappingSlot>,
}

/// One request at one server: one cache line, since each mapping and each line goes to another group.
#[repr(align(64))]
pub(crate) struct RequestGroup {
    /// The index of the server.
    pub(crate) server: u32,
    /// The request, of a group whose mappings have facts.
    pub(crate) request: Option<Fingerprint>,
    /// Mappings in time order.
    fresh: ListEnds,
    /// Deferred mappings, the last deferred one last.
    deferred: ListEnds,
    /// How many mappings the group has, fresh and deferred.
    pub(crate) mappings: u32,
    /// How many lines wait for a decision.
    pub(crate) lines: u32,
    /// The first line that waits.
    pub(crate) first_line: Option<LineNumber>,
    /// The last line that waits; means nothing while none does.
    pub(crate) last_line: Option<LineNumber>,
    /// Whether the mappings may belong to different clients.
    pub(crate) mixed: bool,
    /// Whether the mappings have facts about their exchanges.
    pub(crate) of_exchanges: bool,
    /// The stamp of the line decided last, and how many lines with this stamp were decided before the next.
    stamp: Timestamp,
    of_stamp: u16,
}

impl RequestGroup {
    const fn is_empty(&self) -> bool {
        self.mappings == 0 && self.lines == 0
    }
}

/// A mapping that arrived.
#[derive(Clone, Copy)]
struct MappingArrival {
    mapping: MappingSlot,
    generation: u32,
}

impl MappingArrival {
    fn is_alive(self, slab: &Slab<WaitingMapping>) -> bool {
        slab[self.mapping].generation == self.generation
    }
}

/// All groups and mappings.
#[derive(Default)]
pub(crate) struct MappingTable {
    table: HashTable<(u64, GroupSlot)>,
    groups: Slab<RequestGroup>,
    /// Groups without mappings and lines.
    empty: usize,
    slab: Slab<WaitingMapping>,
    /// All mappings in the order of arrival, and some that were removed.
    order: VecDeque<MappingArrival>,
    /// Mappings kept beyond their time, and some removed ones.
    kept: VecDeque<MappingArrival>,
    /// Counts the mappings ever added, wrapping.
    generations: u32,
}

impl MappingTable {
    /// Returns how many mappings are remembered.
    pub(crate) const fn len(&self) -> usize {
        self.slab.len()
    }

    /// Returns the group with this key, if there is one.
    pub(crate) fn find(&self, key: u64) -> Option<GroupSlot> {
        self.table.find(key, |&(k, _)| k == key).map(|&(_, group)| group)
    }

    /// Returns the group with this key, which is about to get a mapping or a line; a missing group
    /// is made.
    pub(crate) fn find_or_add(&mut self, key: u64, server: u32) -> GroupSlot {
        if let Some(group) = self.find(key) {
            self.empty -= usize::from(self.groups[group].is_empty());
            return group;
        }
        self.add_group(key, server)
    }

    #[cold]
    fn add_group(&mut self, key: u64, server: u32) -> GroupSlot {
        let group = RequestGroup {
            server,
            request: None,
            fresh: ListEnds::default(),
            deferred: ListEnds::default(),
            mappings: 0,
            lines: 0,
            first_line: None,
            last_line: None,
            mixed: false,
            of_exchanges: false,
            stamp: Timestamp::MIN,
            of_stamp: 0,
        };
        let index = self.groups.insert(group);
        self.table.insert_unique(key, (key, index), |&(key, _)| key);
        index
    }

    pub(crate) fn group(&self, group: GroupSlot) -> &RequestGroup {
        &self.groups[group]
    }

    pub(crate) fn group_mut(&mut self, group: GroupSlot) -> &mut RequestGroup {
        &mut self.groups[group]
    }

    /// Counts a group that has become empty. Empty groups are kept, since requests often come
    /// again; where too many groups are empty, all empty groups are forgotten.
    pub(crate) fn note_if_empty(&mut self, group: GroupSlot) {
        if !self.groups[group].is_empty() {
            return;
        }
        self.empty += 1;
        if self.empty >= costs::EMPTY_GROUPS && self.empty * 2 >= self.table.len() {
            self.forget_empty();
        }
    }

    #[cold]
    fn forget_empty(&mut self) {
        self.empty = 0;
        let Self { table, groups, .. } = self;
        table.retain(|&mut (_, group)| {
            let is_empty = groups[group].is_empty();
            if is_empty {
                groups.free(group);
            }
            !is_empty
        });
    }

    pub(crate) fn get(&self, mapping: MappingSlot) -> &WaitingMapping {
        &self.slab[mapping]
    }

    pub(crate) fn get_mut(&mut self, mapping: MappingSlot) -> &mut WaitingMapping {
        &mut self.slab[mapping]
    }

    /// Counts a line of a group that is decided; returns how many with the same stamp were decided before.
    pub(crate) fn count_stamp(&mut self, group: GroupSlot, stamp: Timestamp) -> u32 {
        let members = &mut self.groups[group];
        if members.stamp != stamp {
            (members.stamp, members.of_stamp) = (stamp, 0);
        }
        let before = members.of_stamp;
        members.of_stamp = before.saturating_add(1);
        before.into()
    }

    /// Marks a mapping as a candidate where another mapping was chosen.
    pub(crate) fn contest(&mut self, mapping: MappingSlot) {
        self.slab[mapping].flags.0 |= MappingFlags::CONTESTED;
    }

    /// Marks a mapping as one with a record from a sender without a key.
    pub(crate) fn distrust(&mut self, mapping: MappingSlot) {
        self.slab[mapping].flags.0 |= MappingFlags::UNAUTHENTICATED;
    }

    /// Makes a mapping less likely to be left for other lines by this part, and returns how likely it is.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 1")]
    pub(crate) fn claim(&mut self, mapping: MappingSlot, part: f64) -> f64 {
        let waiting = &mut self.slab[mapping];
        let part = (part * f64::from(WHOLE)).ceil() as u16;
        waiting.unclaimed = waiting.unclaimed.saturating_sub(part);
        waiting.unclaimed()
    }

    /// Counts that a younger mapping was preferred. A mapping passed over too often is deferred, so
    /// that requests without any answer do not stand before the rest.
    pub(crate) fn pass_over(&mut self, group: GroupSlot, mapping: MappingSlot) {
        let waiting = &mut self.slab[mapping];
        waiting.passed_over = waiting.passed_over.saturating_add(1);
        if waiting.passed_over >= costs::PASSED_OVER_MOST && !waiting.deferred {
            self.defer(group, mapping);
        }
    }

    /// Adds a mapping to its group.
    pub(crate) fn add(
        &mut self,
        group: GroupSlot,
        client: ClientAddr,
        (time, resolution): (Timestamp, Resolution),
        (place, facts): (OrderPlace, Option<FactsSlot>),
    ) -> MappingSlot {
        let waiting = WaitingMapping {
            client,
            resolution,
            flags: MappingFlags(0),
            unclaimed: WHOLE,
            place,
            deferred: false,
            passed_over: 0,
            mark: MappingMark::Unmarked,
            time,
            client_hash: ClientHash::of(client),
            usual: None,
            group,
            facts,
            links: MappingLinks::default(),
            generation: self.generations,
        };
        let index = self.slab.insert(waiting);
        self.order.push_back(MappingArrival { mapping: index, generation: self.generations });
        self.generations = self.generations.wrapping_add(1);
        if self.order.len() > 2 * self.len() + costs::REMOVED_ARRIVALS {
            self.forget_removed();
        }

        if facts.is_some() {
            self.add_pending(index);
            return index;
        }
        let members = &mut self.groups[group];
        if members.mappings == 0 {
            members.fresh = ListEnds { first: Some(index), last: Some(index) };
            members.mappings = 1;
            return index;
        }
        self.link_by_time(index);
        let members = &mut self.groups[group];
        members.mappings += 1;
        if !members.mixed {
            let MappingLinks { before, after } = self.slab[index].links;
            let neighbour = before.or(after);
            // Beside deferred mappings alone there is no cheap comparison: assume different
            // clients.
            let same = neighbour.is_some_and(|neighbour| self.get(neighbour).client == client);
            self.groups[group].mixed = !same;
        }
        index
    }

    /// Forgets the arrivals of mappings that were removed.
    #[cold]
    fn forget_removed(&mut self) {
        let slab = &self.slab;
        self.order.retain(|arrival| arrival.is_alive(slab));
    }

    /// Defers a mapping until its exchange has ended.
    fn add_pending(&mut self, index: MappingSlot) {
        let WaitingMapping { group, client, .. } = self.slab[index];
        let RequestGroup { fresh, deferred, mappings, .. } = self.groups[group];
        let neighbour = deferred.last.or(fresh.last);
        let differs =
            mappings > 0 && neighbour.is_some_and(|neighbour| self.get(neighbour).client != client);
        let deferred = self.link(index, deferred.last, deferred);
        self.slab[index].deferred = true;
        let members = &mut self.groups[group];
        members.deferred = deferred;
        members.mappings += 1;
        members.mixed |= differs;
    }

    /// Orders a mapping by the time at which its exchange has ended.
    pub(crate) fn end(&mut self, mapping: MappingSlot, time: Timestamp) {
        let WaitingMapping { group, deferred, .. } = self.slab[mapping];
        let members = &self.groups[group];
        let ends = if deferred { members.deferred } else { members.fresh };
        let ends = self.unlink(mapping, ends);
        let members = &mut self.groups[group];
        *(if deferred { &mut members.deferred } else { &mut members.fresh }) = ends;
        let waiting = &mut self.slab[mapping];
        (waiting.time, waiting.deferred) = (time, false);
        self.link_by_time(mapping);
    }

    /// Links a mapping into the time order of its group.
    fn link_by_time(&mut self, index: MappingSlot) {
        let WaitingMapping { group, time, .. } = self.slab[index];
        let fresh = self.groups[group].fresh;
        let mut behind = fresh.last;
        for _ in 0..costs::REORDER_MOST {
            let Some(at) = behind.filter(|&at| self.get(at).time > time) else { break };
            behind = self.get(at).before();
        }
        let fresh = self.link(index, behind, fresh);
        self.groups[group].fresh = fresh;
    }

    /// Moves a mapping to another group, and defers the mapping there as pending.
    pub(crate) fn move_to(&mut self, mapping: MappingSlot, group: GroupSlot) {
        let WaitingMapping { group: from, deferred, .. } = self.slab[mapping];
        let members = &self.groups[from];
        let ends = if deferred { members.deferred } else { members.fresh };
        let ends = self.unlink(mapping, ends);
        let members = &mut self.groups[from];
        *(if deferred { &mut members.deferred } else { &mut members.fresh }) = ends;
        members.mappings -= 1;
        members.mixed &= members.mappings > 1;
        self.slab[mapping].group = group;
        self.add_pending(mapping);
    }

    /// Returns all mappings of a server that have facts.
    pub(crate) fn with_facts(&self, server: u32) -> Vec<MappingSlot> {
        let arrivals = self.order.iter().chain(&self.kept);
        let alive = arrivals.filter(|arrival| arrival.is_alive(&self.slab));
        let mappings = alive.map(|arrival| arrival.mapping);
        let is_one = |&mapping: &MappingSlot| {
            let waiting = self.get(mapping);
            waiting.facts.is_some() && self.group(waiting.group).server == server
        };
        mappings.filter(is_one).collect()
    }

    /// Removes a mapping from its group, which stays even if empty.
    pub(crate) fn remove(&mut self, mapping: MappingSlot) {
        let WaitingMapping { group, deferred, .. } = self.slab[mapping];
        let members = &self.groups[group];
        let ends = if deferred { members.deferred } else { members.fresh };
        let ends = self.unlink(mapping, ends);
        let members = &mut self.groups[group];
        *(if deferred { &mut members.deferred } else { &mut members.fresh }) = ends;
        members.mappings -= 1;
        members.mixed &= members.mappings > 1;
        self.free(mapping);
    }

    /// Returns the only mapping of a group that has one mapping.
    pub(crate) fn only(&self, group: GroupSlot) -> Option<MappingSlot> {
        let RequestGroup { fresh, deferred, .. } = self.groups[group];
        fresh.first.or(deferred.last)
    }

    /// Removes the only mapping of a group together with its only line.
    pub(crate) fn take_both(&mut self, group: GroupSlot, mapping: MappingSlot) {
        let members = &mut self.groups[group];
        (members.fresh, members.deferred, members.mappings) = <_>::default();
        (members.lines, members.first_line, members.mixed) = (0, None, false);
        self.free(mapping);
        self.note_if_empty(group);
    }

    fn free(&mut self, mapping: MappingSlot) {
        self.slab[mapping].generation = self.generations;
        self.slab.free(mapping);
    }

    /// Returns the mapping that arrived first.
    pub(crate) fn oldest(&mut self) -> Option<MappingSlot> {
        while let Some(first) = self.order.front() {
            if first.is_alive(&self.slab) {
                return Some(first.mapping);
            }
            self.order.pop_front();
        }
        None
    }

    /// Keeps the oldest mapping beyond its time.
    pub(crate) fn keep_oldest(&mut self) {
        self.kept.extend(self.order.pop_front());
    }

    /// Returns one of the kept mappings, each in turn.
    pub(crate) fn next_kept(&mut self) -> Option<MappingSlot> {
        while let Some(first) = self.kept.pop_front() {
            if first.is_alive(&self.slab) {
                self.kept.push_back(first);
                return Some(first.mapping);
            }
        }
        None
    }

    /// Returns the group of a mapping.
    pub(crate) fn group_of(&self, mapping: MappingSlot) -> GroupSlot {
        self.slab[mapping].group
    }

    /// Returns the group's mappings: fresh ones in time order, then deferred ones, the newest first.
    ///
    /// Where no exchange has ended, records of ends may be lost. Equal requests are answered in about the
    /// order in which they came, so that the oldest deferred mapping comes first then.
    pub(crate) fn candidates(&self, group: GroupSlot) -> impl Iterator<Item = MappingSlot> {
        let RequestGroup { fresh, deferred, of_exchanges, .. } = self.groups[group];
        let none_ended = of_exchanges && fresh.first.is_none();
        let (newest, oldest) =
            if none_ended { (None, deferred.first) } else { (deferred.last, None) };
        let step = |next: fn(MappingLinks) -> Option<MappingSlot>| {
            move |&mapping: &MappingSlot| next(self.get(mapping).links)
        };
        std::iter::successors(fresh.first, step(|links| links.after))
            .chain(std::iter::successors(newest, step(|links| links.before)))
            .chain(std::iter::successors(oldest, step(|links| links.after)))
    }

    /// Returns the fresh mappings in time order.
    pub(crate) fn fresh(&self, group: GroupSlot) -> impl Iterator<Item = MappingSlot> {
        std::iter::successors(self.groups[group].fresh.first, |&mapping| {
            self.get(mapping).links.after
        })
    }

    /// Returns the oldest of the fresh mappings.
    pub(crate) fn first_fresh(&self, group: GroupSlot) -> Option<MappingSlot> {
        self.groups[group].fresh.first
    }

    /// Returns the mapping that was deferred last.
    pub(crate) fn last_deferred(&self, group: GroupSlot) -> Option<MappingSlot> {
        self.groups[group].deferred.last
    }

    /// Defers the group's oldest mappings for as long as `is_deferred` holds; returns how many lines of theirs were still
    /// to come.
    pub(crate) fn defer_while(
        &mut self,
        group: GroupSlot,
        is_deferred: impl Fn(&WaitingMapping) -> bool,
    ) -> f64 {
        let mut deferred = 0.0;
        loop {
            let fresh = self.groups[group].fresh;
            let Some(first) = fresh.first.filter(|&first| is_deferred(self.get(first))) else {
                return deferred;
            };
            self.defer(group, first);
            deferred += self.get(first).unclaimed();
        }
    }

    /// Moves a fresh mapping to the deferred mappings of the group.
    fn defer(&mut self, group: GroupSlot, mapping: MappingSlot) {
        let RequestGroup { fresh, deferred, .. } = self.groups[group];
        let fresh = self.unlink(mapping, fresh);
        let deferred = self.link(mapping, deferred.last, deferred);
        self.slab[mapping].deferred = true;
        let members = &mut self.groups[group];
        (members.fresh, members.deferred) = (fresh, deferred);
    }

    /// Links a mapping behind `before` in the list with these ends, and returns the new ends.
    fn link(
        &mut self,
        index: MappingSlot,
        before: Option<MappingSlot>,
        mut ends: ListEnds,
    ) -> ListEnds {
        let after = match before {
            None => ends.first.replace(index),
            Some(before) => self.slab[before].links.after.replace(index),
        };
        match after {
            None => ends.last = Some(index),
            Some(after) => self.slab[after].links.before = Some(index),
        }
        self.slab[index].links = MappingLinks { before, after };
        ends
    }

    /// Unlinks a mapping from the list with these ends, and returns the new ends.
    fn unlink(&mut self, index: MappingSlot, mut ends: ListEnds) -> ListEnds {
        let MappingLinks { before, after } = self.slab[index].links;
        match before {
            None => ends.first = after,
            Some(before) => self.slab[before].links.after = after,
        }
        match after {
            None => ends.last = before,
            Some(after) => self.slab[after].links.before = before,
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(outstanding: &mut MappingTable, group: GroupSlot, client: u8, seconds: i64) {
        let client = ClientAddr::Ip([192, 0, 2, client].into());
        let time = (Timestamp::from_seconds(seconds), Resolution::Second);
        outstanding.add(group, client, time, (OrderPlace::FIRST, None));
    }

    fn seconds(outstanding: &MappingTable, group: GroupSlot) -> Vec<i64> {
        let time = |i| outstanding.get(i).time.as_micros() / 1_000_000;
        outstanding.candidates(group).map(time).collect()
    }

    #[test]
    fn a_mapping_takes_one_cache_line_and_so_does_a_group() {
        assert_eq!((size_of::<WaitingMapping>(), size_of::<RequestGroup>()), (64, 64));
    }

    #[test]
    fn mappings_of_a_group_stand_in_time_order_however_they_came() {
        let mut outstanding = MappingTable::default();
        let group = outstanding.find_or_add(7, 0);
        for second in [5, 1, 9, 3, 9, 4] {
            add(&mut outstanding, group, 1, second);
        }
        assert_eq!(seconds(&outstanding, group), [1, 3, 4, 5, 9, 9]);
        assert!(!outstanding.group(group).mixed);
        let middle = outstanding.candidates(group).nth(2).expect("there are six");
        outstanding.remove(middle);
        assert_eq!(seconds(&outstanding, group), [1, 3, 5, 9, 9]);
        assert_eq!(outstanding.len(), 5);
        let oldest = outstanding.oldest().expect("there are five");
        assert_eq!(outstanding.get(oldest).time, Timestamp::from_seconds(5), "first taken");
    }

    #[test]
    fn what_is_defer_while_comes_last_newest_first() {
        let mut outstanding = MappingTable::default();
        let group = outstanding.find_or_add(7, 0);
        (1..=5).for_each(|second| add(&mut outstanding, group, 1, second));
        outstanding.defer_while(group, |waiting| waiting.time <= Timestamp::from_seconds(2));
        assert_eq!(seconds(&outstanding, group), [3, 4, 5, 2, 1]);
        for _ in 0..5 {
            let any = outstanding.candidates(group).last().expect("not yet empty");
            outstanding.remove(any);
        }
        assert_eq!(outstanding.len(), 0);
    }

    #[test]
    fn mappings_with_facts_stand_in_the_order_in_which_their_exchanges_end() {
        let mut outstanding = MappingTable::default();
        let (group, client) = (outstanding.find_or_add(7, 0), ClientAddr::Unix);
        outstanding.group_mut(group).of_exchanges = true;
        let add = |outstanding: &mut MappingTable, second| {
            let time = (Timestamp::from_seconds(second), Resolution::Microsecond);
            outstanding.add(group, client, time, (OrderPlace::FIRST, Some(Slot::new(0))))
        };
        let [a, b, c] = [1, 2, 3].map(|second| add(&mut outstanding, second));
        assert_eq!(seconds(&outstanding, group), [1, 2, 3], "none has ended");
        outstanding.end(c, Timestamp::from_seconds(4));
        outstanding.end(a, Timestamp::from_seconds(6));
        assert_eq!(seconds(&outstanding, group), [4, 6, 2]);
        outstanding.end(b, Timestamp::from_seconds(5));
        assert_eq!(seconds(&outstanding, group), [4, 5, 6]);
        let other = outstanding.find_or_add(8, 0);
        outstanding.move_to(a, other);
        assert_eq!(seconds(&outstanding, group), [4, 5]);
        assert_eq!((outstanding.group_of(a), outstanding.only(other)), (other, Some(a)));
        assert_eq!(outstanding.with_facts(0).len(), 3);
        assert!(!outstanding.group(group).mixed);
    }

    #[test]
    fn empty_groups_are_kept_until_there_are_too_many() {
        let mut outstanding = MappingTable::default();
        let keys = 3 * costs::EMPTY_GROUPS as u64;
        for key in 0..keys {
            let group = outstanding.find_or_add(key, 0);
            add(&mut outstanding, group, 1, 1);
            let mapping = outstanding.oldest().expect("there is one");
            outstanding.remove(mapping);
            outstanding.note_if_empty(group);
        }
        let kept = (0..keys).filter(|&key| outstanding.find(key).is_some()).count();
        assert!(kept < costs::EMPTY_GROUPS, "{kept}");
        assert!(outstanding.groups.slots() <= costs::EMPTY_GROUPS);
        let group = outstanding.find_or_add(keys, 0);
        add(&mut outstanding, group, 1, 1);
        assert_eq!(outstanding.find(keys), Some(group));
    }

    #[test]
    fn a_group_knows_when_its_mappings_are_of_different_clients() {
        let mut outstanding = MappingTable::default();
        let group = outstanding.find_or_add(7, 0);
        add(&mut outstanding, group, 1, 1);
        add(&mut outstanding, group, 1, 2);
        assert!(!outstanding.group(group).mixed);
        add(&mut outstanding, group, 2, 3);
        assert!(outstanding.group(group).mixed);
        for _ in 0..2 {
            let first = outstanding.candidates(group).next().expect("there are three");
            outstanding.remove(first);
        }
        assert!(!outstanding.group(group).mixed, "one is left");
    }
}
