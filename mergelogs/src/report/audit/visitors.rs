//! A truth that is no address but tells visitors apart, such as a cookie: it stands for the client that most of
//! its lines got. So it shows where lines of one visitor got different clients, and no more: a visitor whose
//! address changes looks like a fault, and where most of its lines are wrong the right ones do.

use std::collections::HashMap;

use pen_records::addr::ClientAddr;
use xxhash_rust::xxh3::xxh3_64;

/// Pairs of a visitor and what its lines got that are remembered: some 40 MiB.
const MOST: usize = 1 << 19;

/// Lines of one visitor that got the same, as surely.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) server: usize,
    pub(super) client: ClientAddr,
    /// What [`Audit`](super::Audit) counts it as.
    pub(super) class: u8,
    pub(super) lines: u64,
}

/// All visitors.
#[derive(Default)]
pub(super) struct Visitors {
    seen: HashMap<u64, Vec<Seen>>,
    pairs: usize,
}

impl Visitors {
    /// A line of this visitor; `false` if there are too many to remember.
    pub(super) fn add(
        &mut self,
        visitor: &[u8],
        server: usize,
        client: ClientAddr,
        class: u8,
    ) -> bool {
        let seen = self.seen.entry(xxh3_64(visitor)).or_default();
        let same = |it: &&mut Seen| (it.server, it.client, it.class) == (server, client, class);
        if let Some(known) = seen.iter_mut().find(same) {
            known.lines += 1;
            return true;
        }
        if self.pairs == MOST {
            return false;
        }
        self.pairs += 1;
        seen.push(Seen { server, client, class, lines: 1 });
        true
    }

    /// Tells of each whether its client is the visitor's; `None` where a visitor has one line only, which can
    /// agree with nothing.
    pub(super) fn judge(&self, mut told: impl FnMut(&Seen, Option<bool>)) {
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
