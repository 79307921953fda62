//! The numbers of all balancers as bytes.

use super::{OriginState, Origins};
use crate::received_numbers::ReceivedNumbers;
use crate::shipment::SenderClock;
use crate::snapshot::{DamagedSnapshot, SnapshotReader, SnapshotWriter};

impl Origins {
    /// Appends the numbers of each balancer, without counters.
    pub fn write_snapshot(&self, out: &mut Vec<u8>) {
        let mut out = SnapshotWriter(out);
        out.count(self.origins.len());
        for (origin, state) in &self.origins {
            out.origin(origin);
            state.numbers.write(&mut out);
            out.number(state.dropped);
        }
    }

    /// Takes and renumbers the balancers of a snapshot, up to the limit of balancers.
    ///
    /// # Errors
    /// The bytes are no snapshot. The balancers before the damage are taken.
    pub fn read_snapshot(&mut self, bytes: &[u8]) -> Result<(), DamagedSnapshot> {
        let mut input = SnapshotReader(bytes);
        for _ in 0..input.number()? {
            let origin = input.origin()?;
            let (numbers, dropped) = (ReceivedNumbers::read(&mut input)?, input.number()?);
            if self.origins.len() < self.most {
                self.counts.origins += 1;
                let number = u32::try_from(self.counts.origins).unwrap_or(u32::MAX);
                let clock = SenderClock::new();
                let state = OriginState { number, numbers, dropped, clock, active: false };
                self.origins.insert(origin, state);
            }
        }
        input.end()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ORIGIN, packet, receive};
    use super::*;

    #[test]
    fn balancers_from_a_snapshot_send_what_is_missing_and_nothing_twice() {
        let mut before = Origins::new(8);
        for (first, count) in [(100, 5), (110, 5), (120, 1)] {
            assert!(receive(&mut before, &packet(ORIGIN, first, count, 0)));
        }
        let mut bytes = Vec::new();
        before.write_snapshot(&mut bytes);
        let mut after = Origins::new(8);
        assert_eq!(after.read_snapshot(&bytes), Ok(()));
        assert_eq!(after.counts().lost, before.counts().lost);
        for (first, count, is_new) in
            [(100, 5, false), (105, 5, true), (110, 5, false), (115, 5, true), (120, 1, false)]
        {
            assert_eq!(receive(&mut after, &packet(ORIGIN, first, count, 0)), is_new, "{first}");
        }
        assert_eq!(after.counts().lost, 0);
        for cut in 0..bytes.len() {
            assert_eq!(Origins::new(8).read_snapshot(&bytes[..cut]), Err(DamagedSnapshot), "{cut}");
        }
    }
}
