//! A limit on the connections that a management port serves at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Limits how many connections are open at a time.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionLimit {
    open: Arc<AtomicUsize>,
    max: usize,
}

/// The right to serve a connection; dropping the slot gives it back to its [`ConnectionLimit`].
#[derive(Debug)]
pub(crate) struct ConnectionSlot(Arc<AtomicUsize>);

impl ConnectionLimit {
    /// Returns a limit of `max` connections, none of which is open.
    pub(crate) fn new(max: usize) -> Self {
        Self { open: Arc::default(), max }
    }

    /// Takes a slot; `None` when all are taken.
    pub(crate) fn take(&self) -> Option<ConnectionSlot> {
        let slot = ConnectionSlot(Arc::clone(&self.open));
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        (before < self.max).then_some(slot)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_slot_can_be_taken_again() {
        let limit = ConnectionLimit::new(1);
        let slot = limit.take();
        assert!(slot.is_some() && limit.take().is_none());
        drop(slot);
        assert!(limit.take().is_some());
    }
}
