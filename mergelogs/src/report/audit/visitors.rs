//! Audits by a field that is no address but tells visitors apart, such as a cookie. The true client of a
//! visitor is assumed to be the client of most lines with that cookie. A visitor whose address changes
//! therefore counts as an error, and where most lines are wrong, the right lines count as errors.

use std::collections::HashMap;

use pen_records::addr::ClientAddr;
use xxhash_rust::xxh3::xxh3_64;

/// Limit of remembered pairs of visitor and client: some 40 MiB.
const MOST: usize = 1 << 19;

/// Lines of one visitor with the same client and class.
#[derive(Clone, Copy)]
pub(super) struct VisitorLines {
    pub(super) server: usize,
    pub(super) client: ClientAddr,
    /// The class in [`Audit`](super::Audit).
    pub(super) class: u8,
    pub(super) lines: u64,
}

/// All visitors.
#[derive(Default)]
pub(super) struct Visitors {
    seen: HashMap<u64, Vec<VisitorLines>>,
    pairs: usize,
}

impl Visitors {
    /// Adds a line of a visitor; returns `false` beyond the limit.
    pub(super) fn add(
        &mut self,
        visitor: &[u8],
        server: usize,
        client: ClientAddr,
        class: u8,
    ) -> bool {
        let seen = self.seen.entry(xxh3_64(visitor)).or_default();
        let same =
            |it: &&mut VisitorLines| (it.server, it.client, it.class) == (server, client, class);
        if let Some(known) = seen.iter_mut().find(same) {
            known.lines += 1;
            return true;
        }
        if self.pairs == MOST {
            return false;
        }
        self.pairs += 1;
        seen.push(VisitorLines { server, client, class, lines: 1 });
        true
    }

    /// Calls `told` for each entry with whether the client is right; `None` for visitors with a single
    /// line, which cannot be compared.
    pub(super) fn judge(&self, mut told: impl FnMut(&VisitorLines, Option<bool>)) {
        for seen in self.seen.values() {
            let lines_of = |client| -> u64 {
                seen.iter().filter(|it| it.client == client).map(|it| it.lines).sum()
            };
            let all: u64 = seen.iter().map(|it| it.lines).sum();
            let own = seen.iter().map(|it| it.client).max_by_key(|client| lines_of(*client));
            for one in seen {
                told(one, (all > 1).then_some(Some(one.client) == own));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visitor_is_the_client_that_most_of_its_lines_got() {
        let client = |last: u8| ClientAddr::Ip([192, 0, 2, last].into());
        let mut visitors = Visitors::default();
        for (visitor, last) in [("a", 1), ("a", 1), ("a", 2), ("b", 3)] {
            assert!(visitors.add(visitor.as_bytes(), 0, client(last), 0));
        }
        let mut told = Vec::new();
        visitors.judge(|seen, is_right| told.push((seen.client, seen.lines, is_right)));
        told.sort_by_key(|(client, ..)| format!("{client}"));
        let expected =
            [(client(1), 2, Some(true)), (client(2), 1, Some(false)), (client(3), 1, None)];
        assert_eq!(told, expected);
    }
}
