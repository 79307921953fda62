//! Shipments without a confirmation, oldest first; some have to be sent again.

use std::collections::VecDeque;

use pen_records::shipment::{ReceivedShipments, Shipment};

#[derive(Default)]
pub(super) struct Unconfirmed {
    /// Shipments from index `unsent` on are still to be sent.
    kept: VecDeque<Kept>,
    unsent: usize,
    /// Buffers for reuse.
    spare: Vec<Vec<u8>>,
}

struct Kept {
    bytes: Vec<u8>,
    /// Number of the shipment.
    number: u64,
    /// [`crate::link_state::LinkState::sent`] after this shipment; `u64::MAX` until sent.
    mark: u64,
    /// [`super::Backlog::consumed`] after this shipment.
    consumed: u64,
}

impl Unconfirmed {
    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Returns whether every shipment is sent.
    pub(super) fn is_sent(&self) -> bool {
        self.unsent == self.kept.len()
    }

    /// Returns a buffer for a new shipment.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer
    }

    /// Keeps a shipment to be sent.
    pub(super) fn keep(&mut self, bytes: Vec<u8>, number: u64, consumed: u64) {
        self.kept.push_back(Kept { bytes, number, mark: u64::MAX, consumed });
    }

    /// Returns the next shipment to send.
    pub(super) fn next(&self) -> Option<&[u8]> {
        self.kept.get(self.unsent).map(|kept| &kept.bytes[..])
    }

    /// Marks the next shipment as sent.
    pub(super) fn sent(&mut self, mark: u64) {
        self.kept[self.unsent].mark = mark;
        self.unsent += 1;
    }

    /// Drops the shipments up to `mark` that have arrived: those in `received`, or all of them. Returns how much the last
    /// of them had consumed, and whether some have to be sent again.
    pub(super) fn confirm(
        &mut self,
        mark: u64,
        received: Option<ReceivedShipments>,
    ) -> (Option<u64>, bool) {
        let ReceivedShipments { from, upto } =
            received.unwrap_or(ReceivedShipments { from: 0, upto: u64::MAX });
        let is_known = self.kept.front().is_some_and(|kept| kept.number >= from);
        let mut consumed = None;
        while self.kept.front().is_some_and(|it| is_known && it.mark <= mark && it.number < upto)
            && let Some(kept) = self.kept.pop_front()
        {
            consumed = Some(kept.consumed);
            self.unsent = self.unsent.saturating_sub(1);
            self.spare.push(kept.bytes);
        }
        (consumed, self.kept.front().is_some_and(|kept| kept.mark <= mark))
    }

    /// Replaces the next shipment, which cannot be sent, by one without lines.
    pub(super) fn hollow(&mut self) {
        if let Some(kept) = self.kept.get_mut(self.unsent)
            && let Some(bytes) = Shipment::without_lines(&kept.bytes)
        {
            kept.bytes = bytes;
        }
    }

    /// Marks every shipment as unsent.
    pub(super) fn rewind(&mut self) {
        self.unsent = 0;
        for kept in &mut self.kept {
            kept.mark = u64::MAX;
        }
    }

    /// Removes and returns the unsent shipments.
    pub(super) fn take_unsent(&mut self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.kept.drain(self.unsent..).map(|kept| kept.bytes)
    }

    /// Removes and returns all shipments.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.unsent = 0;
        self.kept.drain(..).map(|kept| kept.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(unconfirmed: &mut Unconfirmed, mark: u64) -> u8 {
        let number = unconfirmed.next().expect("one is left")[0];
        unconfirmed.sent(mark);
        number
    }

    #[test]
    fn what_is_not_confirmed_goes_out_again_from_the_oldest_on() {
        let mut unconfirmed = Unconfirmed::default();
        for number in 1..=4 {
            unconfirmed.keep(vec![number], number.into(), u64::from(number) * 10);
        }
        assert_eq!([1, 2, 3].map(|mark| send(&mut unconfirmed, mark)), [1, 2, 3]);
        assert_eq!(unconfirmed.confirm(0, None), (None, false));
        assert_eq!(unconfirmed.confirm(2, None), (Some(20), false));
        assert_eq!(unconfirmed.confirm(9, None), (Some(30), false), "the last has no mark yet");
        unconfirmed.keep(vec![5], 5, 50);
        assert_eq!(send(&mut unconfirmed, 4), 4);
        unconfirmed.rewind();
        assert_eq!(unconfirmed.confirm(9, None), (None, false));
        assert_eq!([5, 6].map(|mark| send(&mut unconfirmed, mark)), [4, 5]);
        assert!(unconfirmed.is_sent() && !unconfirmed.is_empty());
        assert_eq!(unconfirmed.take_unsent().count(), 0);
        assert_eq!(unconfirmed.take().collect::<Vec<_>>(), [[4], [5]]);
        assert!(unconfirmed.is_sent() && unconfirmed.is_empty());
    }

    #[test]
    fn what_a_collector_has_not_received_is_kept() {
        let mut unconfirmed = Unconfirmed::default();
        for number in 1..=5 {
            unconfirmed.keep(vec![number], number.into(), u64::from(number) * 10);
            send(&mut unconfirmed, number.into());
        }
        let received = |from, upto| Some(ReceivedShipments { from, upto });
        assert_eq!(unconfirmed.confirm(4, received(0, 3)), (Some(20), true), "3 was lost");
        assert_eq!(unconfirmed.confirm(4, received(4, 6)), (None, true), "a new collector");
        assert_eq!(unconfirmed.confirm(4, received(3, 6)), (Some(40), false));
        assert_eq!(
            unconfirmed.confirm(4, received(3, 5)),
            (None, false),
            "5 was asked about later"
        );
    }
}
