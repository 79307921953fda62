//! How many bytes each shipper may have under way: the receive buffer, shared among all who ask.
//!
//! After a restart of the collector all shippers ask within a moment, and nobody knows how many there are. So a share is
//! at most half of the rest, and no byte is granted twice. Shippers ask again all the time, and after a few rounds the
//! shares are equal.

use indexmap::IndexMap;
use pen_records::shipment::SenderOrigin;
use pen_records::time::Timestamp;

/// The least share in bytes, a datagram: a shipper with nothing under way may send one whatever its share is.
const LEAST: u32 = 1_400;
/// How long a silent shipper keeps a share, in microseconds: twice the pause of an idle one.
const KEPT: i64 = 20_000_000;
/// Pause between two looks for such shippers, in microseconds.
const LOOK: i64 = 1_000_000;

/// The shares of all shippers.
#[derive(Debug)]
pub(crate) struct WindowShares {
    /// Bytes to share.
    total: u32,
    /// The most shippers that are known.
    most: usize,
    shares: IndexMap<SenderOrigin, WindowShare>,
    /// Sum of all shares.
    granted: u64,
    looked: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct WindowShare {
    bytes: u32,
    asked: Timestamp,
}

impl WindowShares {
    pub(crate) fn new(total: u32, most: usize) -> Self {
        let (shares, looked) = (IndexMap::new(), Timestamp::MIN);
        Self { total, most: most.max(1), shares, granted: 0, looked }
    }

    /// Returns the share of a shipper that asks `now`, in bytes.
    pub(crate) fn ask(&mut self, shipper: SenderOrigin, now: Timestamp) -> u32 {
        if now.micros_since(self.looked) >= LOOK {
            self.looked = now;
            self.shares.retain(|_, share| now.micros_since(share.asked) <= KEPT);
            self.granted = self.shares.values().map(|share| u64::from(share.bytes)).sum();
        }
        let mut before = self.shares.swap_remove(&shipper);
        if before.is_none() && self.shares.len() >= self.most {
            before = self.shares.swap_remove_index(0).map(|(_, share)| share);
        }
        self.granted -= before.map_or(0, |share| u64::from(share.bytes));
        let all = u32::try_from(self.shares.len() + 1).unwrap_or(u32::MAX);
        let left = u64::from(self.total).saturating_sub(self.granted);
        let half = u32::try_from(left / 2).unwrap_or(u32::MAX);
        let bytes = (self.total / all).min(half).max(LEAST);
        self.granted += u64::from(bytes);
        self.shares.insert(shipper, WindowShare { bytes, asked: now });
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTAL: u32 = 2 << 20;

    fn shipper(id: u64) -> SenderOrigin {
        SenderOrigin { id, start: Timestamp::from_micros(0) }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn a_herd_that_asks_at_once_never_gets_more_than_there_is() {
        let mut shares = WindowShares::new(TOTAL, 4_096);
        let mut under_way = vec![0; 200];
        for round in 0..20 {
            for (id, bytes) in (0..).zip(&mut under_way) {
                *bytes = shares.ask(shipper(id), at(100));
                assert!(*bytes >= LEAST);
            }
            let sum: u32 = under_way.iter().sum();
            assert!(sum <= TOTAL + 200 * LEAST, "{sum} in round {round}");
        }
        let fair = TOTAL / 200;
        assert!(under_way.iter().all(|&bytes| bytes >= fair / 2), "{under_way:?}");
    }

    #[test]
    fn a_shipper_alone_gets_half_and_one_of_a_few_its_part() {
        let mut shares = WindowShares::new(TOTAL, 4_096);
        assert_eq!(shares.ask(shipper(1), at(1)), TOTAL / 2);
        let mut last = [0; 4];
        for _ in 0..10 {
            last = [1, 2, 3, 4].map(|id| shares.ask(shipper(id), at(2)));
        }
        assert!(last.iter().all(|&bytes| bytes >= TOTAL / 6), "{last:?}");
        // The others have not asked for a while.
        assert_eq!(shares.ask(shipper(1), at(60)), TOTAL / 2);
    }

    #[test]
    fn those_who_only_ask_are_bounded() {
        let mut shares = WindowShares::new(TOTAL, 100);
        for id in 0..10_000 {
            shares.ask(shipper(id), at(1));
            assert!(shares.shares.len() <= 100);
        }
    }
}
