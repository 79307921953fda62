//! Connections by number: a slab whose numbers are told apart when they are used again, since an
//! event may still be under way for the one that had the number before.

use std::ops::Range;

/// A number, and which use of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SlabKey {
    /// The number.
    pub(super) slot: u32,
    /// How often it was used before.
    pub(super) generation: u32,
}

/// The slab.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

/// Boxed, so that numbers that are free take no room but their own.
#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<Box<T>>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Takes a number, for a value that follows with [`Self::put`].
    pub(super) fn reserve(&mut self) -> SlabKey {
        if let Some(slot) = self.free.pop() {
            return SlabKey { slot, generation: self.slots[slot as usize].generation };
        }
        let slot = u32::try_from(self.slots.len()).expect("there are fewer descriptors");
        self.slots.push(Slot { generation: 0, value: None });
        SlabKey { slot, generation: 0 }
    }

    /// A value that is in.
    pub(super) fn get(&self, key: SlabKey) -> Option<&T> {
        let slot = self.slots.get(key.slot as usize)?;
        if slot.generation == key.generation { slot.value.as_deref() } else { None }
    }

    /// Takes a value out for a while; its number stays its own.
    pub(super) fn take(&mut self, key: SlabKey) -> Option<Box<T>> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.generation == key.generation { slot.value.take() } else { None }
    }

    /// Puts a value in, or back.
    pub(super) fn put(&mut self, key: SlabKey, value: Box<T>) {
        self.slots[key.slot as usize].value = Some(value);
    }

    /// Gives a number back whose value is out.
    pub(super) fn release(&mut self, key: SlabKey) {
        let slot = &mut self.slots[key.slot as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.slot);
    }

    /// All numbers in use.
    pub(super) fn keys(&self) -> impl Iterator<Item = SlabKey> {
        (0..).zip(&self.slots).filter_map(|(slot, found)| {
            found.value.as_ref().map(|_| SlabKey { slot, generation: found.generation })
        })
    }

    /// What is in, of so many numbers.
    pub(super) fn within(&self, slots: Range<u32>) -> impl Iterator<Item = (SlabKey, &T)> {
        let end = self.slots.len().min(slots.end as usize);
        let all = self.slots.get(slots.start as usize..end).unwrap_or_default();
        (slots.start..).zip(all).filter_map(|(slot, found)| {
            found
                .value
                .as_deref()
                .map(|value| (SlabKey { slot, generation: found.generation }, value))
        })
    }

    /// How many numbers there are, free ones included.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// How many numbers are in use.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether none is.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_used_again_is_another_one() {
        let mut table = Slab::default();
        let first = table.reserve();
        table.put(first, Box::new(1));
        assert_eq!(table.take(first).as_deref(), Some(&1));
        table.release(first);
        let second = table.reserve();
        table.put(second, Box::new(2));
        assert_eq!((first.slot, table.take(first)), (second.slot, None));
        assert_eq!((table.len(), table.keys().count(), table.slots()), (1, 1, 1));
        let found =
            |slots| table.within(slots).map(|(key, &value)| (key, value)).collect::<Vec<_>>();
        assert_eq!(found(0..9), [(second, 2)]);
        assert_eq!((found(1..9), found(0..0)), (vec![], vec![]));
    }
}
