//! The clock algorithm: removes a quiet entry from a full map, in constant time on average.

use std::hash::Hash;

use indexmap::IndexMap;

/// The hand of the clock: index of the next entry to consider.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClockHand(usize);

/// An entry that knows whether it was in use.
pub(crate) trait Active {
    /// Returns whether the entry was active since the hand last passed; set by the owner, cleared by the hand.
    fn active(&mut self) -> &mut bool;
}

impl ClockHand {
    /// Removes an entry not active since the hand last passed; `None` only for an empty map.
    pub(crate) fn remove_quiet<K: Hash + Eq, V: Active>(
        &mut self,
        entries: &mut IndexMap<K, V>,
    ) -> Option<V> {
        loop {
            if self.0 >= entries.len() {
                self.0 = 0;
            }
            let (_, entry) = entries.get_index_mut(self.0)?;
            if !std::mem::take(entry.active()) {
                return entries.swap_remove_index(self.0).map(|(_, entry)| entry);
            }
            self.0 += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Active for bool {
        fn active(&mut self) -> &mut bool {
            self
        }
    }

    #[test]
    fn the_quiet_are_removed_first_and_then_everybody_in_turn() {
        let mut entries: IndexMap<u32, bool> =
            [(1, true), (2, true), (3, false), (4, true)].into_iter().collect();
        let mut hand = ClockHand::default();
        // The last one was not passed before the third was removed, so it outlives the first.
        for left in [vec![1, 2, 4], vec![2, 4], vec![2], vec![]] {
            assert_eq!(hand.remove_quiet(&mut entries), Some(false));
            let mut found: Vec<_> = entries.keys().copied().collect();
            found.sort_unstable();
            assert_eq!(found, left);
        }
        assert_eq!(hand.remove_quiet(&mut entries), None);
    }
}
