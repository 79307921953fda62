//! Values that come and go, each at a place that stays the same while the value lives.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::ops::{Index, IndexMut};

/// The place of a value in a [`Slab`]; `Option<Slot<V>>` takes four bytes as well.
pub(crate) struct Slot<V>(NonZeroU32, PhantomData<fn() -> V>);

impl<V> Slot<V> {
    pub(super) fn new(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("the bound on mappings is far below 2^32"), PhantomData)
    }

    pub(crate) const fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl<V> Clone for Slot<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Slot<V> {}

impl<V> PartialEq for Slot<V> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<V> Eq for Slot<V> {}

impl<V> fmt::Debug for Slot<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.index())
    }
}

/// Values by [`Slot`]. A freed value stays readable until its slot is reused.
pub(crate) struct Slab<V> {
    values: Vec<V>,
    free: Vec<Slot<V>>,
}

impl<V> Default for Slab<V> {
    fn default() -> Self {
        Self { values: Vec::new(), free: Vec::new() }
    }
}

impl<V> Slab<V> {
    /// Puts a value into a free slot, or into a new one.
    pub(crate) fn insert(&mut self, value: V) -> Slot<V> {
        if let Some(slot) = self.free.pop() {
            self[slot] = value;
            return slot;
        }
        let slot = Slot::new(self.values.len());
        self.values.push(value);
        slot
    }

    /// Makes a slot free for another value.
    pub(crate) fn free(&mut self, slot: Slot<V>) {
        self.free.push(slot);
    }

    /// Returns how many values live.
    pub(crate) const fn len(&self) -> usize {
        self.values.len() - self.free.len()
    }

    /// Returns how many slots there are, free ones included.
    #[cfg(test)]
    pub(super) const fn slots(&self) -> usize {
        self.values.len()
    }

    /// Whether no value was ever inserted.
    pub(crate) const fn is_unused(&self) -> bool {
        self.values.is_empty()
    }
}

impl<V> Index<Slot<V>> for Slab<V> {
    type Output = V;

    #[inline]
    fn index(&self, slot: Slot<V>) -> &V {
        &self.values[slot.index()]
    }
}

impl<V> IndexMut<Slot<V>> for Slab<V> {
    #[inline]
    fn index_mut(&mut self, slot: Slot<V>) -> &mut V {
        &mut self.values[slot.index()]
    }
}
