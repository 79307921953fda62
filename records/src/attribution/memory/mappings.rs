//! Which mappings wait for a line, and in which group: found, added and removed in O(1).
//!
//! A *group* is one request at one server: its mappings in time order, and the lines that wait for
//! a decision. Mappings live in a slab; each is linked into its group, and stands in the order of
//! arrival, from whose old end they expire.

use crate::attribution::costs;
use crate::attribution::learnt::user_agents::{ClientHash, NONE};
use std::collections::VecDeque;

use hashbrown::HashTable;

use crate::addr::ClientAddr;
use crate::time::{Resolution, Timestamp};

/// No mapping, no group.
pub(crate) const NIL: u32 = u32::MAX;

/// A remembered mapping.
pub(crate) struct WaitingMapping {
    pub(crate) client: ClientAddr,
    pub(crate) resolution: Resolution,
    /// Whether it was a candidate in a decision that could have gone another way.
    pub(crate) tainted: bool,
    /// Set aside in its group as too old to be expected.
    pub(crate) stale: bool,
    /// How often a younger one was preferred.
    passed_over: u8,
    pub(crate) time: Timestamp,
    /// Its client's hash.
    pub(crate) tag: ClientHash,
    /// Its client's usual User-Agent, once that was looked up and known.
    pub(crate) usual: u32,
    group: u32,
    /// What is known of its exchange, or [`NIL`].
    pub(crate) facts: u32,
    links: MappingLinks,
    /// Which of those that had this place it is.
    life: u32,
}

impl WaitingMapping {
    /// Whether its exchange has not ended, or nobody said so.
    pub(crate) const fn is_pending(&self) -> bool {
        self.facts != NIL && self.stale
    }

    /// The mapping after it in its group, or [`NIL`].
    pub(crate) const fn after(&self) -> u32 {
        self.links.after
    }

    /// The mapping before it in its group, or [`NIL`].
    pub(crate) const fn before(&self) -> u32 {
        self.links.before
    }
}

/// One mapping's place in its group.
#[derive(Clone, Copy)]
struct MappingLinks {
    before: u32,
    after: u32,
}

/// A list's ends.
#[derive(Clone, Copy)]
struct ListEnds {
    first: u32,
    last: u32,
}

const UNLINKED: MappingLinks = MappingLinks { before: NIL, after: NIL };
const EMPTY: ListEnds = ListEnds { first: NIL, last: NIL };

/// One request at one server.
pub(crate) struct RequestGroup {
    /// The number of its server.
    pub(crate) server: u32,
    /// Mappings in time order.
    fresh: ListEnds,
    /// Mappings set aside, the last set aside last.
    stale: ListEnds,
    /// How many mappings there are, fresh and stale.
    pub(crate) mappings: u32,
    /// How many lines wait.
    pub(crate) lines: u32,
    /// Number of the first line that waits, if any does.
    pub(crate) first_line: u64,
    /// Number of the last line that waits.
    pub(crate) last_line: u64,
    /// Whether its mappings may be of different clients.
    pub(crate) mixed: bool,
    /// Whether its mappings have facts.
    pub(crate) of_exchanges: bool,
}

impl RequestGroup {
    const fn is_empty(&self) -> bool {
        self.mappings == 0 && self.lines == 0
    }
}

/// A mapping that came: its place and its life there.
#[derive(Clone, Copy)]
struct MappingArrival {
    mapping: u32,
    life: u32,
}

impl MappingArrival {
    fn is_alive(self, slab: &[WaitingMapping]) -> bool {
        slab[self.mapping as usize].life == self.life
    }
}

/// All groups and mappings.
pub(crate) struct MappingTable {
    table: HashTable<(u64, u32)>,
    groups: Vec<RequestGroup>,
    free_groups: Vec<u32>,
    /// Groups without mappings and lines.
    empty: usize,
    slab: Vec<WaitingMapping>,
    free: Vec<u32>,
    /// All mappings in the order they came, and some that are gone.
    order: VecDeque<MappingArrival>,
    /// Counts the mappings that were ever taken, over and over.
    lives: u32,
}

impl MappingTable {
    pub(crate) const fn new() -> Self {
        Self {
            table: HashTable::new(),
            groups: Vec::new(),
            free_groups: Vec::new(),
            empty: 0,
            slab: Vec::new(),
            free: Vec::new(),
            order: VecDeque::new(),
            lives: 0,
        }
    }

    /// How many mappings are remembered.
    pub(crate) const fn len(&self) -> usize {
        self.slab.len() - self.free.len()
    }

    /// The group with this key, if there is one.
    pub(crate) fn find(&self, key: u64) -> Option<u32> {
        self.table.find(key, |&(k, _)| k == key).map(|&(_, group)| group)
    }

    /// The group with this key, made if need be, to be given a mapping or a line.
    pub(crate) fn find_or_add(&mut self, key: u64, server: u32) -> u32 {
        if let Some(group) = self.find(key) {
            self.empty -= usize::from(self.groups[group as usize].is_empty());
            return group;
        }
        let group = RequestGroup {
            server,
            fresh: EMPTY,
            stale: EMPTY,
            mappings: 0,
            lines: 0,
            first_line: 0,
            last_line: 0,
            mixed: false,
            of_exchanges: false,
        };
        let index = put(&mut self.groups, &mut self.free_groups, group);
        self.table.insert_unique(key, (key, index), |&(key, _)| key);
        index
    }

    pub(crate) fn group(&self, group: u32) -> &RequestGroup {
        &self.groups[group as usize]
    }

    pub(crate) fn group_mut(&mut self, group: u32) -> &mut RequestGroup {
        &mut self.groups[group as usize]
    }

    /// Counts a group that has neither mappings nor lines any more. It is kept, since a request that
    /// was asked is often asked again; where too many are empty, all of them are forgotten.
    pub(crate) fn note_if_empty(&mut self, group: u32) {
        if !self.groups[group as usize].is_empty() {
            return;
        }
        self.empty += 1;
        if self.empty < costs::EMPTY_GROUPS || self.empty * 2 < self.table.len() {
            return;
        }
        self.empty = 0;
        let Self { table, groups, free_groups, .. } = self;
        table.retain(|&mut (_, group)| {
            let is_empty = groups[group as usize].is_empty();
            if is_empty {
                free_groups.push(group);
            }
            !is_empty
        });
    }

    pub(crate) fn get(&self, mapping: u32) -> &WaitingMapping {
        &self.slab[mapping as usize]
    }

    pub(crate) fn get_mut(&mut self, mapping: u32) -> &mut WaitingMapping {
        &mut self.slab[mapping as usize]
    }

    /// Notes that the mapping was a candidate where another was chosen.
    pub(crate) fn taint(&mut self, mapping: u32) {
        self.slab[mapping as usize].tainted = true;
    }

    /// Notes that a younger mapping was preferred; one that was passed over time and again is set
    /// aside, so that requests nobody ever answers don't stand in the way of the rest.
    pub(crate) fn pass_over(&mut self, group: u32, mapping: u32) {
        let waiting = &mut self.slab[mapping as usize];
        waiting.passed_over = waiting.passed_over.saturating_add(1);
        if waiting.passed_over >= costs::PASSED_OVER_MOST && !waiting.stale {
            self.put_aside(group, mapping);
        }
    }

    /// Remembers a mapping in its group.
    pub(crate) fn add(
        &mut self,
        group: u32,
        client: ClientAddr,
        (time, resolution): (Timestamp, Resolution),
        facts: u32,
    ) -> u32 {
        let waiting = WaitingMapping {
            client,
            resolution,
            tainted: false,
            stale: false,
            passed_over: 0,
            time,
            tag: ClientHash::of(client),
            usual: NONE,
            group,
            facts,
            links: UNLINKED,
            life: self.lives,
        };
        let index = put(&mut self.slab, &mut self.free, waiting);
        self.order.push_back(MappingArrival { mapping: index, life: self.lives });
        self.lives = self.lives.wrapping_add(1);
        if self.order.len() > 2 * self.len() + costs::REMOVED_ARRIVALS {
            let slab = &self.slab;
            self.order.retain(|arrival| arrival.is_alive(slab));
        }

        if facts != NIL {
            self.add_pending(index);
            return index;
        }
        let members = &mut self.groups[group as usize];
        if members.mappings == 0 {
            members.fresh = ListEnds { first: index, last: index };
            members.mappings = 1;
            return index;
        }
        self.link_by_time(index);
        let members = &mut self.groups[group as usize];
        members.mappings += 1;
        if !members.mixed {
            let MappingLinks { before, after } = self.slab[index as usize].links;
            let neighbour = if before == NIL { after } else { before };
            // Beside stale ones alone nobody can be compared cheaply: assume the worst.
            let same = neighbour != NIL && self.get(neighbour).client == client;
            self.groups[group as usize].mixed = !same;
        }
        index
    }

    /// A mapping whose exchange has not ended is set aside until then.
    fn add_pending(&mut self, index: u32) {
        let WaitingMapping { group, client, .. } = self.slab[index as usize];
        let RequestGroup { fresh, stale, mappings, .. } = self.groups[group as usize];
        let neighbour = if stale.last == NIL { fresh.last } else { stale.last };
        let differs = mappings > 0 && self.get(neighbour).client != client;
        let stale = self.link(index, stale.last, stale);
        self.slab[index as usize].stale = true;
        let members = &mut self.groups[group as usize];
        members.stale = stale;
        members.mappings += 1;
        members.mixed |= differs;
    }

    /// A mapping's exchange has ended at that time: so it is ordered by it from now on.
    pub(crate) fn end(&mut self, mapping: u32, time: Timestamp) {
        let WaitingMapping { group, stale, .. } = self.slab[mapping as usize];
        let members = &self.groups[group as usize];
        let ends = if stale { members.stale } else { members.fresh };
        let ends = self.unlink(mapping, ends);
        let members = &mut self.groups[group as usize];
        *(if stale { &mut members.stale } else { &mut members.fresh }) = ends;
        let waiting = &mut self.slab[mapping as usize];
        (waiting.time, waiting.stale) = (time, false);
        self.link_by_time(mapping);
    }

    /// Links a mapping into its group's order.
    fn link_by_time(&mut self, index: u32) {
        let WaitingMapping { group, time, .. } = self.slab[index as usize];
        let fresh = self.groups[group as usize].fresh;
        let mut behind = fresh.last;
        for _ in 0..costs::REORDER_MOST {
            if behind == NIL || self.get(behind).time <= time {
                break;
            }
            behind = self.get(behind).before();
        }
        let fresh = self.link(index, behind, fresh);
        self.groups[group as usize].fresh = fresh;
    }

    /// Moves a mapping to another group, where it waits as one whose exchange has not ended unless that
    /// is said anew.
    pub(crate) fn move_to(&mut self, mapping: u32, group: u32) {
        let WaitingMapping { group: from, stale, .. } = self.slab[mapping as usize];
        let members = &self.groups[from as usize];
        let ends = if stale { members.stale } else { members.fresh };
        let ends = self.unlink(mapping, ends);
        let members = &mut self.groups[from as usize];
        *(if stale { &mut members.stale } else { &mut members.fresh }) = ends;
        members.mappings -= 1;
        members.mixed &= members.mappings > 1;
        self.slab[mapping as usize].group = group;
        self.add_pending(mapping);
    }

    /// All mappings of a server that have facts.
    pub(crate) fn with_facts(&self, server: u32) -> Vec<u32> {
        let alive = self.order.iter().filter(|arrival| arrival.is_alive(&self.slab));
        let mappings = alive.map(|arrival| arrival.mapping);
        let is_one = |&mapping: &u32| {
            let waiting = self.get(mapping);
            waiting.facts != NIL && self.group(waiting.group).server == server
        };
        mappings.filter(is_one).collect()
    }

    /// Forgets a mapping. Its group stays, even if empty.
    pub(crate) fn remove(&mut self, mapping: u32) {
        let WaitingMapping { group, stale, .. } = self.slab[mapping as usize];
        let members = &self.groups[group as usize];
        let ends = if stale { members.stale } else { members.fresh };
        let ends = self.unlink(mapping, ends);
        let members = &mut self.groups[group as usize];
        *(if stale { &mut members.stale } else { &mut members.fresh }) = ends;
        members.mappings -= 1;
        members.mixed &= members.mappings > 1;
        self.let_go(mapping);
    }

    /// The mapping of a group that has but one.
    pub(crate) fn only(&self, group: u32) -> u32 {
        let RequestGroup { fresh, stale, .. } = self.groups[group as usize];
        if fresh.first == NIL { stale.last } else { fresh.first }
    }

    /// Forgets the only mapping of a group together with its only line.
    pub(crate) fn take_both(&mut self, group: u32, mapping: u32) {
        let members = &mut self.groups[group as usize];
        (members.fresh, members.stale, members.mappings) = (EMPTY, EMPTY, 0);
        (members.lines, members.first_line, members.mixed) = (0, 0, false);
        self.let_go(mapping);
        self.note_if_empty(group);
    }

    fn let_go(&mut self, mapping: u32) {
        self.slab[mapping as usize].life = self.lives;
        self.free.push(mapping);
    }

    /// The mapping that was taken first of all.
    pub(crate) fn oldest(&mut self) -> Option<u32> {
        while let Some(first) = self.order.front() {
            if first.is_alive(&self.slab) {
                return Some(first.mapping);
            }
            self.order.pop_front();
        }
        None
    }

    /// Which group a mapping is in.
    pub(crate) fn group_of(&self, mapping: u32) -> u32 {
        self.slab[mapping as usize].group
    }

    /// The group's mappings, those in time order first, then those set aside, the newest first. But where
    /// no exchange has ended the records of ends may be lost, and equal requests are answered in about the
    /// order in which they came: the oldest first, then.
    pub(crate) fn candidates(&self, group: u32) -> impl Iterator<Item = u32> {
        let RequestGroup { fresh, stale, of_exchanges, .. } = self.groups[group as usize];
        let none_ended = of_exchanges && fresh.first == NIL;
        let (aside, oldest) = if none_ended { (NIL, stale.first) } else { (stale.last, NIL) };
        let step = |next: fn(MappingLinks) -> u32| {
            move |&index: &u32| Some(next(self.get(index).links)).filter(|&i| i != NIL)
        };
        let some = |index| (index != NIL).then_some(index);
        std::iter::successors(some(fresh.first), step(|links| links.after))
            .chain(std::iter::successors(some(aside), step(|links| links.before)))
            .chain(std::iter::successors(some(oldest), step(|links| links.after)))
    }

    /// The oldest of the mappings in time order, or [`NIL`].
    pub(crate) fn first_fresh(&self, group: u32) -> u32 {
        self.groups[group as usize].fresh.first
    }

    /// The last of the mappings set aside, or [`NIL`].
    pub(crate) fn last_stale(&self, group: u32) -> u32 {
        self.groups[group as usize].stale.last
    }

    /// Sets the group's oldest mappings aside for as long as `is_stale` says so.
    pub(crate) fn set_aside(&mut self, group: u32, is_stale: impl Fn(&WaitingMapping) -> bool) {
        loop {
            let fresh = self.groups[group as usize].fresh;
            if fresh.first == NIL || !is_stale(self.get(fresh.first)) {
                return;
            }
            self.put_aside(group, fresh.first);
        }
    }

    /// Moves a mapping from its group's order to those set aside.
    fn put_aside(&mut self, group: u32, mapping: u32) {
        let RequestGroup { fresh, stale, .. } = self.groups[group as usize];
        let fresh = self.unlink(mapping, fresh);
        let stale = self.link(mapping, stale.last, stale);
        self.slab[mapping as usize].stale = true;
        let members = &mut self.groups[group as usize];
        (members.fresh, members.stale) = (fresh, stale);
    }

    /// Links a mapping behind `before` in the list with `ends`, and returns its new ends.
    fn link(&mut self, index: u32, before: u32, mut ends: ListEnds) -> ListEnds {
        let after = if before == NIL {
            std::mem::replace(&mut ends.first, index)
        } else {
            std::mem::replace(&mut self.slab[before as usize].links.after, index)
        };
        if after == NIL {
            ends.last = index;
        } else {
            self.slab[after as usize].links.before = index;
        }
        self.slab[index as usize].links = MappingLinks { before, after };
        ends
    }

    /// Takes a mapping out of the list with `ends`, and returns its new ends.
    fn unlink(&mut self, index: u32, mut ends: ListEnds) -> ListEnds {
        let MappingLinks { before, after } = self.slab[index as usize].links;
        if before == NIL {
            ends.first = after;
        } else {
            self.slab[before as usize].links.after = after;
        }
        if after == NIL {
            ends.last = before;
        } else {
            self.slab[after as usize].links.before = before;
        }
        ends
    }
}

/// Puts a value into a free place of a slab, or a new one.
pub(crate) fn put<V>(slab: &mut Vec<V>, free: &mut Vec<u32>, value: V) -> u32 {
    if let Some(index) = free.pop() {
        slab[index as usize] = value;
        return index;
    }
    let index = u32::try_from(slab.len()).expect("the bound on mappings is far below 2^32");
    slab.push(value);
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(outstanding: &mut MappingTable, group: u32, client: u8, seconds: i64) {
        let client = ClientAddr::Ip([192, 0, 2, client].into());
        let time = (Timestamp::from_seconds(seconds), Resolution::Second);
        outstanding.add(group, client, time, NIL);
    }

    fn seconds(outstanding: &MappingTable, group: u32) -> Vec<i64> {
        let time = |i| outstanding.get(i).time.as_micros() / 1_000_000;
        outstanding.candidates(group).map(time).collect()
    }

    #[test]
    fn mappings_of_a_group_stand_in_time_order_however_they_came() {
        let mut outstanding = MappingTable::new();
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
    fn what_is_set_aside_comes_last_newest_first() {
        let mut outstanding = MappingTable::new();
        let group = outstanding.find_or_add(7, 0);
        (1..=5).for_each(|second| add(&mut outstanding, group, 1, second));
        outstanding.set_aside(group, |waiting| waiting.time <= Timestamp::from_seconds(2));
        assert_eq!(seconds(&outstanding, group), [3, 4, 5, 2, 1]);
        for _ in 0..5 {
            let any = outstanding.candidates(group).last().expect("not yet empty");
            outstanding.remove(any);
        }
        assert_eq!(outstanding.len(), 0);
    }

    #[test]
    fn mappings_with_facts_stand_in_the_order_in_which_their_exchanges_end() {
        let mut outstanding = MappingTable::new();
        let (group, client) = (outstanding.find_or_add(7, 0), ClientAddr::Unix);
        outstanding.group_mut(group).of_exchanges = true;
        let add = |outstanding: &mut MappingTable, second| {
            let time = (Timestamp::from_seconds(second), Resolution::Microsecond);
            outstanding.add(group, client, time, 0)
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
        assert_eq!((outstanding.group_of(a), outstanding.only(other)), (other, a));
        assert_eq!(outstanding.with_facts(0).len(), 3);
        assert!(!outstanding.group(group).mixed);
    }

    #[test]
    fn empty_groups_are_kept_until_there_are_too_many() {
        let mut outstanding = MappingTable::new();
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
        assert!(outstanding.groups.len() <= costs::EMPTY_GROUPS);
        let group = outstanding.find_or_add(keys, 0);
        add(&mut outstanding, group, 1, 1);
        assert_eq!(outstanding.find(keys), Some(group));
    }

    #[test]
    fn a_group_knows_when_its_mappings_are_of_different_clients() {
        let mut outstanding = MappingTable::new();
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
