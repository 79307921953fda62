//! A slab with keys that expire when a slot is reused, and a list of slots in the order of last
//! use.

use std::ops::Range;

/// A slot of a [`Slab`], and the generation of the value there. The key of a removed value finds
/// nothing, even if the slot is reused: an epoll event may arrive after its connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::data) struct SlabKey {
    /// Index of the slot.
    pub(in crate::data) slot: u32,
    /// How often the slot was released before.
    pub(in crate::data) generation: u32,
}

/// Values by slot.
#[derive(Debug)]
pub(in crate::data) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Reserves a slot for a value that follows with [`Self::put`].
    pub(in crate::data) fn reserve(&mut self) -> SlabKey {
        if let Some(slot) = self.free.pop() {
            return SlabKey { slot, generation: self.slots[slot as usize].generation };
        }
        let slot = u32::try_from(self.slots.len()).expect("2^32 slots exceed the memory");
        self.slots.push(Slot { generation: 0, value: None });
        SlabKey { slot, generation: 0 }
    }

    /// Inserts a value.
    pub(in crate::data) fn insert(&mut self, value: T) -> SlabKey {
        let key = self.reserve();
        self.put(key, value);
        key
    }

    /// Returns the value of a key, unless the value was taken out or removed.
    pub(in crate::data) fn get(&self, key: SlabKey) -> Option<&T> {
        let slot = self.slots.get(key.slot as usize)?;
        if slot.generation == key.generation { slot.value.as_ref() } else { None }
    }

    /// Like [`Self::get`], to change it.
    pub(in crate::data) fn get_mut(&mut self, key: SlabKey) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.generation == key.generation { slot.value.as_mut() } else { None }
    }

    /// Takes a value out; its slot stays reserved until [`Self::put`] or [`Self::release`].
    pub(in crate::data) fn take(&mut self, key: SlabKey) -> Option<T> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.generation == key.generation { slot.value.take() } else { None }
    }

    /// Puts a value into its reserved slot.
    pub(in crate::data) fn put(&mut self, key: SlabKey, value: T) {
        self.slots[key.slot as usize].value = Some(value);
    }

    /// Frees a slot whose value has been taken out.
    pub(in crate::data) fn release(&mut self, key: SlabKey) {
        let slot = &mut self.slots[key.slot as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.slot);
    }

    /// Takes a value out and frees its slot.
    pub(in crate::data) fn remove(&mut self, key: SlabKey) -> Option<T> {
        let value = self.take(key)?;
        self.release(key);
        Some(value)
    }

    /// Returns the key of the value that is in a slot now.
    pub(in crate::data) fn key(&self, slot: u32) -> Option<SlabKey> {
        let found = self.slots.get(slot as usize)?;
        found.value.as_ref()?;
        Some(SlabKey { slot, generation: found.generation })
    }

    /// Returns the value that is in a slot now.
    pub(in crate::data) fn at(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize)?.value.as_ref()
    }

    /// Like [`Self::at`], to change it.
    pub(in crate::data) fn at_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.value.as_mut()
    }

    /// Returns the keys of all values.
    pub(in crate::data) fn keys(&self) -> impl Iterator<Item = SlabKey> {
        self.within(0..u32::MAX).map(|(key, _)| key)
    }

    /// Returns the values in these slots.
    pub(in crate::data) fn within(&self, slots: Range<u32>) -> impl Iterator<Item = (SlabKey, &T)> {
        let end = self.slots.len().min(slots.end as usize);
        let all = self.slots.get(slots.start as usize..end).unwrap_or_default();
        (slots.start..).zip(all).filter_map(|(slot, found)| {
            let key = SlabKey { slot, generation: found.generation };
            found.value.as_ref().map(|value| (key, value))
        })
    }

    /// Returns how many slots there are, free slots included.
    pub(in crate::data) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Returns how many slots are in use.
    pub(in crate::data) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Returns whether no slot is in use.
    pub(in crate::data) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// No slot.
const NONE: u32 = u32::MAX;

/// Slots of a [`Slab`] in the order of their last use: a linked list, in which every step takes the same time.
#[derive(Debug)]
pub(in crate::data) struct RecencyList {
    links: Vec<Links>,
    newest: u32,
    oldest: u32,
}

#[derive(Clone, Copy, Debug)]
struct Links {
    newer: u32,
    older: u32,
}

impl Default for RecencyList {
    fn default() -> Self {
        Self { links: Vec::new(), newest: NONE, oldest: NONE }
    }
}

impl RecencyList {
    /// Returns the slot used last.
    pub(in crate::data) fn newest(&self) -> Option<u32> {
        (self.newest != NONE).then_some(self.newest)
    }

    /// Returns the slot that was not used for the longest time.
    pub(in crate::data) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// Returns the slot used before this slot.
    pub(in crate::data) fn older(&self, slot: u32) -> Option<u32> {
        let older = self.links.get(slot as usize)?.older;
        (older != NONE).then_some(older)
    }

    /// Adds a slot that is not in the list, as the newest.
    pub(in crate::data) fn push(&mut self, slot: u32) {
        let index = slot as usize;
        if index >= self.links.len() {
            self.links.resize(index + 1, Links { newer: NONE, older: NONE });
        }
        let second = std::mem::replace(&mut self.newest, slot);
        self.links[index] = Links { newer: NONE, older: second };
        match self.links.get_mut(second as usize) {
            Some(links) => links.newer = slot,
            None => self.oldest = slot,
        }
    }

    /// Takes a slot out that is in the list.
    pub(in crate::data) fn remove(&mut self, slot: u32) {
        let Links { newer, older } = self.links[slot as usize];
        match self.links.get_mut(newer as usize) {
            Some(links) => links.older = older,
            None => self.newest = older,
        }
        match self.links.get_mut(older as usize) {
            Some(links) => links.newer = newer,
            None => self.oldest = newer,
        }
    }

    /// Makes a slot in the list the newest.
    pub(in crate::data) fn touch(&mut self, slot: u32) {
        if self.newest != slot {
            self.remove(slot);
            self.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_is_used_again_has_another_key() {
        let mut slab = Slab::default();
        let first = slab.insert(1);
        assert_eq!(slab.take(first), Some(1));
        slab.release(first);
        let second = slab.reserve();
        slab.put(second, 2);
        assert_eq!((first.slot, slab.take(first)), (second.slot, None));
        assert_eq!((slab.len(), slab.keys().count(), slab.slots()), (1, 1, 1));
        let found =
            |slots| slab.within(slots).map(|(key, &value)| (key, value)).collect::<Vec<_>>();
        assert_eq!(found(0..9), [(second, 2)]);
        assert_eq!((found(1..9), found(0..0)), (vec![], vec![]));
        assert_eq!((slab.at(0), slab.key(0), slab.at(1)), (Some(&2), Some(second), None));
    }
}
