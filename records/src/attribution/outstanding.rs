//! Which mappings wait for a line, and in which group: found, added and removed in O(1).
//!
//! A *group* is one request at one server: its mappings in time order, and the lines that wait for
//! a decision. Mappings live in a slab; each is linked twice, into its group and into the order of
//! arrival, from whose old end they expire.

use hashbrown::HashTable;

use crate::addr::ClientAddr;
use crate::time::{Resolution, Timestamp};

/// No mapping, no group.
pub(super) const NIL: u32 = u32::MAX;

/// How often a mapping is passed over before it is set aside.
const PATIENCE: u8 = 12;

/// How far back a mapping that comes out of order is moved in its group.
const REORDER: usize = 32;

/// A remembered mapping.
pub(super) struct Waiting {
    pub(super) client: ClientAddr,
    pub(super) resolution: Resolution,
    /// Whether it was a candidate in a decision that could have gone another way.
    pub(super) tainted: bool,
    /// Set aside in its group as too old to be expected.
    pub(super) stale: bool,
    /// How often a younger one was preferred.
    passed_over: u8,
    pub(super) time: Timestamp,
    group: u32,
    links: [Links; 2],
}

/// One mapping's place in a list.
#[derive(Clone, Copy)]
struct Links {
    before: u32,
    after: u32,
}

/// A list's ends.
#[derive(Clone, Copy)]
struct Ends {
    first: u32,
    last: u32,
}

const UNLINKED: Links = Links { before: NIL, after: NIL };
const EMPTY: Ends = Ends { first: NIL, last: NIL };

/// Which of a mapping's two links.
const IN_GROUP: usize = 0;
const IN_ORDER: usize = 1;

/// One request at one server.
pub(super) struct Group {
    key: u64,
    /// The number of its server.
    pub(super) server: u32,
    /// Mappings in time order.
    fresh: Ends,
    /// Mappings set aside, the last set aside last.
    stale: Ends,
    /// How many mappings there are, fresh and stale.
    pub(super) mappings: u32,
    /// How many lines wait.
    pub(super) lines: u32,
    /// Number of the first line that waits, if any does.
    pub(super) first_line: u64,
    /// Number of the last line that waits.
    pub(super) last_line: u64,
    /// Whether its mappings may be of different clients.
    pub(super) mixed: bool,
}

/// All groups and mappings.
pub(super) struct Outstanding {
    table: HashTable<(u64, u32)>,
    groups: Vec<Group>,
    free_groups: Vec<u32>,
    slab: Vec<Waiting>,
    free: Vec<u32>,
    order: Ends,
}

impl Outstanding {
    pub(super) const fn new() -> Self {
        Self {
            table: HashTable::new(),
            groups: Vec::new(),
            free_groups: Vec::new(),
            slab: Vec::new(),
            free: Vec::new(),
            order: EMPTY,
        }
    }

    /// How many mappings are remembered.
    pub(super) const fn len(&self) -> usize {
        self.slab.len() - self.free.len()
    }

    /// The group with this key, if there is one.
    pub(super) fn find(&self, key: u64) -> Option<u32> {
        self.table.find(key, |&(k, _)| k == key).map(|&(_, group)| group)
    }

    /// The group with this key, made if need be.
    pub(super) fn find_or_add(&mut self, key: u64, server: u32) -> u32 {
        use hashbrown::hash_table::Entry;
        match self.table.entry(key, |&(k, _)| k == key, |&(k, _)| k) {
            Entry::Occupied(entry) => entry.get().1,
            Entry::Vacant(entry) => {
                let group = Group {
                    key,
                    server,
                    fresh: EMPTY,
                    stale: EMPTY,
                    mappings: 0,
                    lines: 0,
                    first_line: 0,
                    last_line: 0,
                    mixed: false,
                };
                let index = put(&mut self.groups, &mut self.free_groups, group);
                entry.insert((key, index));
                index
            }
        }
    }

    pub(super) fn group(&self, group: u32) -> &Group {
        &self.groups[group as usize]
    }

    pub(super) fn group_mut(&mut self, group: u32) -> &mut Group {
        &mut self.groups[group as usize]
    }

    /// Forgets a group that has neither mappings nor lines.
    pub(super) fn drop_if_empty(&mut self, group: u32) {
        let Group { key, mappings: 0, lines: 0, .. } = self.groups[group as usize] else { return };
        if let Ok(entry) = self.table.find_entry(key, |&(k, _)| k == key) {
            entry.remove();
            self.free_groups.push(group);
        }
    }

    pub(super) fn get(&self, mapping: u32) -> &Waiting {
        &self.slab[mapping as usize]
    }

    /// Notes that the mapping was a candidate where another was chosen.
    pub(super) fn taint(&mut self, mapping: u32) {
        self.slab[mapping as usize].tainted = true;
    }

    /// Notes that a younger mapping was preferred; one that was passed over time and again is set
    /// aside, so that requests nobody ever answers don't stand in the way of the rest.
    pub(super) fn pass_over(&mut self, group: u32, mapping: u32) {
        let waiting = &mut self.slab[mapping as usize];
        waiting.passed_over = waiting.passed_over.saturating_add(1);
        if waiting.passed_over >= PATIENCE && !waiting.stale {
            self.put_aside(group, mapping);
        }
    }

    /// Remembers a mapping in its group.
    pub(super) fn add(
        &mut self,
        group: u32,
        client: ClientAddr,
        (time, resolution): (Timestamp, Resolution),
    ) {
        let waiting = Waiting {
            client,
            resolution,
            tainted: false,
            stale: false,
            passed_over: 0,
            time,
            group,
            links: [UNLINKED; 2],
        };
        let index = put(&mut self.slab, &mut self.free, waiting);
        self.order = self.link(index, self.order.last, self.order, IN_ORDER);

        let fresh = self.groups[group as usize].fresh;
        let mut behind = fresh.last;
        for _ in 0..REORDER {
            if behind == NIL || self.get(behind).time <= time {
                break;
            }
            behind = self.get(behind).links[IN_GROUP].before;
        }
        let fresh = self.link(index, behind, fresh, IN_GROUP);
        let members = &mut self.groups[group as usize];
        members.fresh = fresh;
        members.mappings += 1;
        if members.mappings > 1 && !members.mixed {
            let Links { before, after } = self.slab[index as usize].links[IN_GROUP];
            let neighbour = if before == NIL { after } else { before };
            // Beside stale ones alone nobody can be compared cheaply: assume the worst.
            let same = neighbour != NIL && self.get(neighbour).client == client;
            self.groups[group as usize].mixed = !same;
        }
    }

    /// Forgets a mapping. Its group stays, even if empty.
    pub(super) fn remove(&mut self, mapping: u32) {
        let Waiting { group, stale, .. } = self.slab[mapping as usize];
        self.order = self.unlink(mapping, self.order, IN_ORDER);
        let members = &self.groups[group as usize];
        let ends = if stale { members.stale } else { members.fresh };
        let ends = self.unlink(mapping, ends, IN_GROUP);
        let members = &mut self.groups[group as usize];
        *(if stale { &mut members.stale } else { &mut members.fresh }) = ends;
        members.mappings -= 1;
        members.mixed &= members.mappings > 1;
        self.free.push(mapping);
    }

    /// The mapping that was taken first of all.
    pub(super) const fn oldest(&self) -> Option<u32> {
        if self.order.first == NIL { None } else { Some(self.order.first) }
    }

    /// Which group a mapping is in.
    pub(super) fn group_of(&self, mapping: u32) -> u32 {
        self.slab[mapping as usize].group
    }

    /// The group's mappings, those in time order first, then those set aside, the newest first.
    pub(super) fn candidates(&self, group: u32) -> impl Iterator<Item = u32> {
        let Group { fresh, stale, .. } = self.groups[group as usize];
        let step = |next: fn(Links) -> u32| {
            move |&index: &u32| Some(next(self.get(index).links[IN_GROUP])).filter(|&i| i != NIL)
        };
        let some = |index| (index != NIL).then_some(index);
        std::iter::successors(some(fresh.first), step(|links| links.after))
            .chain(std::iter::successors(some(stale.last), step(|links| links.before)))
    }

    /// Sets the group's oldest mappings aside for as long as `is_stale` says so.
    pub(super) fn set_aside(&mut self, group: u32, is_stale: impl Fn(&Waiting) -> bool) {
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
        let Group { fresh, stale, .. } = self.groups[group as usize];
        let fresh = self.unlink(mapping, fresh, IN_GROUP);
        let stale = self.link(mapping, stale.last, stale, IN_GROUP);
        self.slab[mapping as usize].stale = true;
        let members = &mut self.groups[group as usize];
        (members.fresh, members.stale) = (fresh, stale);
    }

    /// Links a mapping behind `before` in the list with `ends`, and returns its new ends.
    fn link(&mut self, index: u32, before: u32, mut ends: Ends, list: usize) -> Ends {
        let after = if before == NIL {
            std::mem::replace(&mut ends.first, index)
        } else {
            std::mem::replace(&mut self.slab[before as usize].links[list].after, index)
        };
        if after == NIL {
            ends.last = index;
        } else {
            self.slab[after as usize].links[list].before = index;
        }
        self.slab[index as usize].links[list] = Links { before, after };
        ends
    }

    /// Takes a mapping out of the list with `ends`, and returns its new ends.
    fn unlink(&mut self, index: u32, mut ends: Ends, list: usize) -> Ends {
        let Links { before, after } = self.slab[index as usize].links[list];
        if before == NIL {
            ends.first = after;
        } else {
            self.slab[before as usize].links[list].after = after;
        }
        if after == NIL {
            ends.last = before;
        } else {
            self.slab[after as usize].links[list].before = before;
        }
        ends
    }
}

/// Puts a value into a free place of a slab, or a new one.
fn put<V>(slab: &mut Vec<V>, free: &mut Vec<u32>, value: V) -> u32 {
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

    fn add(outstanding: &mut Outstanding, group: u32, client: u8, seconds: i64) {
        let client = ClientAddr::Ip([192, 0, 2, client].into());
        let time = (Timestamp::from_seconds(seconds), Resolution::Second);
        outstanding.add(group, client, time);
    }

    fn seconds(outstanding: &Outstanding, group: u32) -> Vec<i64> {
        let time = |i| outstanding.get(i).time.as_micros() / 1_000_000;
        outstanding.candidates(group).map(time).collect()
    }

    #[test]
    fn mappings_of_a_group_stand_in_time_order_however_they_came() {
        let mut outstanding = Outstanding::new();
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
        let mut outstanding = Outstanding::new();
        let group = outstanding.find_or_add(7, 0);
        (1..=5).for_each(|second| add(&mut outstanding, group, 1, second));
        outstanding.set_aside(group, |waiting| waiting.time <= Timestamp::from_seconds(2));
        assert_eq!(seconds(&outstanding, group), [3, 4, 5, 2, 1]);
        for _ in 0..5 {
            let any = outstanding.candidates(group).last().expect("not yet empty");
            outstanding.remove(any);
        }
        outstanding.drop_if_empty(group);
        assert_eq!((outstanding.find(7), outstanding.len()), (None, 0));
    }

    #[test]
    fn a_group_knows_when_its_mappings_are_of_different_clients() {
        let mut outstanding = Outstanding::new();
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
