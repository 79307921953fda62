//! Connections by number: a slab whose numbers are told apart when they are used again, since an
//! event may still be under way for the one that had the number before.

use std::ops::Range;

/// A number, and which use of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    /// The number.
    pub(super) slot: u32,
    /// How often it was used before.
    pub(super) life: u32,
}

/// The slab.
#[derive(Debug)]
pub(super) struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

/// Boxed, so that numbers that are free take no room but their own.
#[derive(Debug)]
struct Slot<T> {
    life: u32,
    value: Option<Box<T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Table<T> {
    /// Takes a number, for a value that follows with [`Self::put`].
    pub(super) fn reserve(&mut self) -> Key {
        if let Some(slot) = self.free.pop() {
            return Key { slot, life: self.slots[slot as usize].life };
        }
        let slot = u32::try_from(self.slots.len()).expect("there are fewer descriptors");
        self.slots.push(Slot { life: 0, value: None });
        Key { slot, life: 0 }
    }

    /// A value that is in.
    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.slot as usize)?;
        if slot.life == key.life { slot.value.as_deref() } else { None }
    }

    /// Takes a value out for a while; its number stays its own.
    pub(super) fn take(&mut self, key: Key) -> Option<Box<T>> {
        let slot = self.slots.get_mut(key.slot as usize)?;
        if slot.life == key.life { slot.value.take() } else { None }
    }

    /// Puts a value in, or back.
    pub(super) fn put(&mut self, key: Key, value: Box<T>) {
        self.slots[key.slot as usize].value = Some(value);
    }

    /// Gives a number back whose value is out.
    pub(super) fn release(&mut self, key: Key) {
        let slot = &mut self.slots[key.slot as usize];
        slot.life = slot.life.wrapping_add(1);
        self.free.push(key.slot);
    }

    /// All numbers in use.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        (0..).zip(&self.slots).filter_map(|(slot, found)| {
            found.value.as_ref().map(|_| Key { slot, life: found.life })
        })
    }

    /// What is in, of so many numbers.
    pub(super) fn within(&self, slots: Range<u32>) -> impl Iterator<Item = (Key, &T)> {
        let end = self.slots.len().min(slots.end as usize);
        let all = self.slots.get(slots.start as usize..end).unwrap_or_default();
        (slots.start..).zip(all).filter_map(|(slot, found)| {
            found.value.as_deref().map(|value| (Key { slot, life: found.life }, value))
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
        let mut table = Table::default();
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
