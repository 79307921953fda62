//! Where servers' clocks disagree by more than the merge looks ahead, the mapping logs are read
//! once for each group of servers whose clocks agree, so that nothing has to be held for the
//! difference.

use pen_records::attribution::ServerIndex;

use crate::servers::KnownServer;

/// Servers whose clocks differ by less share a pass.
const NEAR: i64 = 60 * 1_000_000;

pub(crate) struct ClockPasses {
    ahead: Vec<i64>,
    /// The smallest clock offset in each pass.
    bases: Vec<i64>,
}

impl ClockPasses {
    /// `ahead` holds the microseconds each server's clock is ahead of the balancer's. Where mappings can
    /// be read only once, there is one pass.
    pub(crate) fn new(ahead: &[i64], repeatable: bool) -> Self {
        let mut sorted = ahead.to_vec();
        sorted.sort_unstable();
        let mut bases: Vec<i64> = Vec::new();
        for ahead in sorted {
            if bases.last().is_none_or(|&base| repeatable && ahead - base > NEAR) {
                bases.push(ahead);
            }
        }
        Self { ahead: ahead.to_vec(), bases }
    }

    pub(crate) fn count(&self) -> usize {
        self.bases.len()
    }

    /// Returns the smallest clock offset of a pass.
    pub(crate) fn base(&self, pass: usize) -> i64 {
        self.bases[pass]
    }

    pub(crate) fn known(&self, server: usize, id: ServerIndex) -> KnownServer {
        let ahead = self.ahead[server];
        let pass = self.bases.partition_point(|&base| base <= ahead).saturating_sub(1);
        KnownServer::new(id, ahead, pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_whose_clocks_agree_share_a_pass() {
        let seconds = 1_000_000;
        let ahead = [0, 3_600 * seconds, seconds, -90 * seconds, 3_605 * seconds];
        let passes = ClockPasses::new(&ahead, true);
        assert_eq!(passes.bases, [-90 * seconds, 0, 3_600 * seconds]);
        let of: Vec<_> = (0..5).map(|server| passes.known(server, ServerIndex(0)).pass).collect();
        assert_eq!(of, [1, 2, 1, 0, 2]);
        let once = ClockPasses::new(&ahead, false);
        assert_eq!((once.count(), once.known(1, ServerIndex(1)).pass), (1, 0));
    }
}
