//! The numbers of all shippers as bytes, and the received parts of all streams.

use super::{LineRange, SenderState, SenderTable};
use crate::received_numbers::ReceivedNumbers;
use crate::shipment::SenderClock;
use crate::snapshot::{DamagedSnapshot, SnapshotReader, SnapshotWriter};

impl SenderTable {
    /// Appends the numbers of all shippers and the parts of all streams, without counters and unfinished long lines.
    pub fn write_snapshot(&self, out: &mut Vec<u8>) {
        let mut out = SnapshotWriter(out);
        out.count(self.senders.len());
        for (origin, sender) in &self.senders {
            out.origin(origin);
            sender.shipments.write(&mut out);
            let LineRange { base, end, came } = sender.lines;
            [base, end, came, sender.dropped].into_iter().for_each(|number| out.number(number));
            out.number(sender.cut.into());
            out.time(sender.last);
        }
        self.streams.write(&mut out);
    }

    /// Takes the shippers of a snapshot, beyond the limit of shippers none.
    ///
    /// # Errors
    /// The bytes are no snapshot. The shippers before the damage are taken.
    pub fn read_snapshot(&mut self, bytes: &[u8]) -> Result<(), DamagedSnapshot> {
        let mut input = SnapshotReader(bytes);
        for _ in 0..input.number()? {
            let origin = input.origin()?;
            let shipments = ReceivedNumbers::read(&mut input)?;
            let lines =
                LineRange { base: input.number()?, end: input.number()?, came: input.number()? };
            let (dropped, cut, last) = (input.number()?, input.small()?, input.time()?);
            let clock = SenderClock::new();
            if self.senders.len() < self.max_senders {
                let state =
                    SenderState { shipments, lines, last, dropped, cut, clock, active: false };
                self.senders.insert(origin, state);
                self.counts.senders += 1;
            }
        }
        self.streams.read(&mut input)?;
        input.end()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ORIGIN, follow, receive, shipments};
    use super::super::{SenderLimits, ShipmentOutcome};
    use super::*;

    #[test]
    fn a_table_from_a_snapshot_takes_what_is_missing_and_nothing_twice() {
        let sent = shipments(ORIGIN, 6);
        let mut before = SenderTable::new(SenderLimits::default());
        for number in [0, 1, 3, 5] {
            assert_eq!(receive(&mut before, &sent[number]).0, ShipmentOutcome::New);
        }
        let mut bytes = Vec::new();
        before.write_snapshot(&mut bytes);
        let mut after = SenderTable::new(SenderLimits::default());
        assert_eq!(after.read_snapshot(&bytes), Ok(()));
        let lost = |table: &SenderTable| (table.counts().lost_lines, table.counts().lost_shipments);
        assert_eq!(lost(&after), lost(&before));
        for (number, datagram) in sent.iter().enumerate() {
            let is_new = matches!(number, 2 | 4);
            assert_eq!(receive(&mut after, datagram).0 == ShipmentOutcome::New, is_new, "{number}");
        }
        assert_eq!(lost(&after), (0, 0));
    }

    #[test]
    fn a_table_from_a_snapshot_knows_what_was_shipped_of_each_file() {
        let (mut before, mut after) = <(SenderTable, SenderTable)>::from(
            [(); 2].map(|()| SenderTable::new(SenderLimits::default())),
        );
        let lines = ["zero", "one", "two", "three"];
        let sent = follow(ORIGIN, &lines, 0);
        assert_eq!(receive(&mut before, &sent[1]).1, 2);
        let mut bytes = Vec::new();
        before.write_snapshot(&mut bytes);
        assert_eq!(after.read_snapshot(&bytes), Ok(()));
        let again = crate::shipment::SenderOrigin { id: 99, ..ORIGIN };
        let came =
            follow(again, &lines, 1).iter().map(|it| receive(&mut after, it).1).sum::<usize>();
        assert_eq!((came, after.counts().known_lines), (1, 2), "one came, two and three had come");
        for cut in 0..bytes.len() {
            let mut table = SenderTable::new(SenderLimits::default());
            assert_eq!(table.read_snapshot(&bytes[..cut]), Err(DamagedSnapshot), "{cut}");
        }
    }

    #[test]
    fn damaged_bytes_are_refused_and_no_more_shippers_are_taken_than_the_limit() {
        let mut before = SenderTable::new(SenderLimits::default());
        for id in 0..10 {
            let origin = crate::shipment::SenderOrigin { id, ..ORIGIN };
            receive(&mut before, &shipments(origin, 1)[0]);
        }
        let mut bytes = Vec::new();
        before.write_snapshot(&mut bytes);
        for cut in 0..bytes.len() {
            let mut table = SenderTable::new(SenderLimits::default());
            assert_eq!(table.read_snapshot(&bytes[..cut]), Err(DamagedSnapshot), "{cut}");
        }
        let mut few = SenderTable::new(SenderLimits { senders: 3, ..SenderLimits::default() });
        assert_eq!((few.read_snapshot(&bytes), few.len()), (Ok(()), 3));
    }
}
