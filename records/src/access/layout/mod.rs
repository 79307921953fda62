//! Which word in front of the time is the client, found by what stands in the words of a line and,
//! where that leaves a choice, by what stands there in the lines before.
//!
//! ```text
//! client ident user            host client ident user        host - client - user
//! client host user             forwarded-for client ident user
//! ```
//!
//! A word is the client if it is an address, and where a log has no addresses a host name or `-`.
//! A host of the request may be an address, too, and a user may look like one. A client chooses both,
//! so one line does not overrule the lines before.
mod words;

use std::net::IpAddr;

pub(super) use self::words::HeadWords;
use self::words::{MOST, WordKind};

/// Lines that settle a layout.
const SETTLED: u16 = 8;

/// Sum of votes at which all are halved, so that a log may change its layout.
const FADE_AT: u16 = 256;

/// Lines with a choice after which constant words count.
const JUDGED_AFTER: u8 = 16;

/// Lines with the server's own address after which another word that is the same in all of them is the client.
const UNCHANGED_AFTER: u8 = 3;

/// What the lines of a log have shown.
#[derive(Clone, Debug, Default)]
pub(super) struct HeadLayout {
    /// Lines whose client was this word.
    votes: [u16; MOST],
    /// Lines whose client was this word, and a name.
    names: [u16; MOST],
    /// The number of words of the last such line.
    lens: [usize; MOST],
    /// Lines with several addresses: how often the word was another one than in the lines before.
    changes: [WordChanges; MOST],
    /// The same of words with a port: a client's changes, a server's does not.
    ports: [WordChanges; MOST],
    /// The address behind the request, in lines whose client is no address.
    behind: WordChanges,
    /// Whether a line left a choice while no word was known to be the client.
    pub(super) is_choice: bool,
    /// The server's own address, which some logs have beside the client's.
    own: Option<IpAddr>,
}

/// How constant a word is.
#[derive(Clone, Copy, Debug, Default)]
struct WordChanges {
    /// The last two values.
    last: [u32; 2],
    lines: u8,
    changed: u8,
}

fn hash_of(word: &[u8]) -> u32 {
    u32::try_from(xxhash_rust::xxh3::xxh3_64(word) >> 32).unwrap_or_default()
}

impl WordChanges {
    fn learn(&mut self, value: u32) {
        if self.lines == u8::MAX {
            (self.lines, self.changed) = (self.lines / 2, self.changed / 2);
        }
        self.lines += 1;
        if !self.last.contains(&value) {
            self.changed += 1;
            self.last = [value, self.last[0]];
        }
    }

    fn is_constant(self) -> bool {
        self.lines >= JUDGED_AFTER && self.changed <= 2 + self.lines / 16
    }

    /// Whether all lines so far had the same value, or two.
    fn is_unchanged(self) -> bool {
        self.lines >= UNCHANGED_AFTER && (self.changed <= 1 || self.is_constant())
    }

    fn is_varied(self) -> bool {
        self.lines >= JUDGED_AFTER && self.changed >= self.lines / 2
    }
}

impl HeadLayout {
    pub(super) fn of_server(own: Option<IpAddr>) -> Self {
        Self { own, ..Self::default() }
    }

    /// The index of the word that is the client; `None` if that cannot be known.
    pub(super) fn client(&mut self, words: &HeadWords<'_>) -> Option<usize> {
        let addresses = words.addresses();
        self.is_choice |= !self.is_settled() && Self::leaves_choice(words, addresses);
        let found = match addresses.count_ones() {
            0 | 1 if words.is_dashed() && addresses & !1 == 0 => self.by_constancy(words),
            0 if words.is_dashed_pair() && self.is_second_of(words) => Some(2),
            0 if words.is_pair() && self.is_first_of(words) => Some(0),
            0 => self.by_name(words),
            1 if self.is_beside_name(words, addresses) => None,
            1 => self.by_address(words, addresses),
            _ => self.by_choice(words, addresses),
        }?;
        if words.kind(found) != WordKind::Address && self.is_behind(words) {
            return None;
        }
        self.vote(found, words.kind(found) == WordKind::Name);
        self.lens[found] = words.len;
        let is_odd = words.is_odd_around(found);
        self.is_choice |= is_odd && self.votes[found] <= SETTLED;
        (!is_odd || self.votes[found] > SETTLED).then_some(found)
    }

    /// Whether an address behind the request is the client, rather than a name or a dash in front: it hardly ever
    /// changes, or nothing is known of it yet.
    fn is_behind(&mut self, words: &HeadWords<'_>) -> bool {
        let Some(address) = words.address_behind() else { return false };
        self.behind.learn(hash_of(address));
        self.is_choice |= !self.is_settled();
        !self.behind.is_varied()
    }

    /// Whether what stands in the words of a line alone does not tell the client.
    fn leaves_choice(words: &HeadWords<'_>, addresses: u16) -> bool {
        match addresses.count_ones() {
            0 => words.is_dashed() || words.is_dashed_pair() || words.is_pair(),
            1 if words.is_dashed() && addresses & !1 == 0 => true,
            1 => (0..words.len.min(2)).any(|index| words.is_bare_name(index)),
            _ => true,
        }
    }

    /// Whether nearly all lines had the client in one place.
    pub(super) fn is_settled(&self) -> bool {
        self.settled().is_some()
    }

    /// Notes a line whose first word is the client, as in most logs.
    #[inline]
    pub(super) fn vote_for_first(&mut self) {
        self.vote(0, false);
        self.lens[0] = 3;
    }

    fn vote(&mut self, index: usize, is_name: bool) {
        self.votes[index] += 1;
        self.names[index] += u16::from(is_name);
        if self.votes[index] >= FADE_AT {
            for count in self.votes.iter_mut().chain(&mut self.names) {
                *count /= 2;
            }
        }
    }

    /// The word that was the client in nearly all lines.
    fn settled(&self) -> Option<usize> {
        let sum: u16 = self.votes.iter().sum();
        let usual = (0..MOST).max_by_key(|&index| (self.votes[index], MOST - index))?;
        let votes = self.votes[usual];
        (votes >= SETTLED && votes >= sum - sum / 3).then_some(usual)
    }

    /// Whether the second of two names with a dash between is the client: it hardly ever changes, and
    /// the first does.
    fn is_second_of(&mut self, words: &HeadWords<'_>) -> bool {
        for index in [0, 2] {
            self.changes[index].learn(hash_of(words.text(index)));
        }
        self.changes[2].is_constant() && self.changes[0].is_varied()
    }

    /// Whether the first of two names is the client, as above.
    fn is_first_of(&mut self, words: &HeadWords<'_>) -> bool {
        for index in [0, 1] {
            self.changes[index].learn(hash_of(words.text(index)));
        }
        self.changes[0].is_constant() && self.changes[1].is_varied()
    }

    /// In `host - name - user` the name is the client if it hardly ever changes. The lines before may
    /// tell that the first word is.
    fn by_constancy(&mut self, words: &HeadWords<'_>) -> Option<usize> {
        self.changes[2].learn(hash_of(words.text(2)));
        if let Some(usual @ (0 | 2)) = self.settled() {
            return Some(usual);
        }
        self.changes[2].is_constant().then_some(2)
    }

    fn by_name(&self, words: &HeadWords<'_>) -> Option<usize> {
        let usual = self.settled().filter(|&usual| match words.kind(usual) {
            WordKind::Dash | WordKind::Address => true,
            WordKind::Name => self.names[usual] > 0,
            _ => false,
        });
        usual.or_else(|| words.named())
    }

    /// Whether the only address hardly ever comes twice, and a host's name without a dot is always there: then the name is
    /// the balancer's, and the address that of X-Forwarded-For; or the name is that of a default host.
    fn is_beside_name(&mut self, words: &HeadWords<'_>, addresses: u16) -> bool {
        let only = addresses.trailing_zeros() as usize;
        let mut names = (0..words.len.min(2)).filter(|&index| words.is_bare_name(index));
        let Some(name) = names.next().filter(|&name| name != only) else { return false };
        for index in [only, name] {
            self.changes[index].learn(hash_of(words.text(index)));
        }
        self.changes[only].is_varied() && self.changes[name].is_constant()
    }

    fn by_address(&self, words: &HeadWords<'_>, addresses: u16) -> Option<usize> {
        let only = addresses.trailing_zeros() as usize;
        let Some(usual) = self.settled().filter(|&usual| usual != only) else {
            return (!words.has_list_before(only)).then_some(only);
        };
        let is_usual = match words.kind(usual) {
            WordKind::Dash => self.lens[usual] == words.len,
            // A user may look like an address.
            WordKind::Name => self.names[usual] > self.votes[usual] / 8,
            _ => false,
        };
        if is_usual {
            return Some(usual);
        }
        (!words.has_list_before(only)).then_some(only)
    }

    fn by_choice(&mut self, words: &HeadWords<'_>, addresses: u16) -> Option<usize> {
        let candidates = || (0..MOST).filter(|index| addresses >> index & 1 == 1);
        for index in candidates() {
            let (address, with_port) = words.port_and_rest(index);
            self.changes[index].learn(hash_of(address));
            if let Some(with_port) = with_port {
                self.ports[index].learn(hash_of(with_port));
            }
        }
        let is_peer =
            |index: usize| self.changes[index].is_constant() && self.ports[index].is_varied();
        let settled = self.settled().filter(|&usual| addresses >> usual & 1 == 1);
        let usual = settled.unwrap_or_else(|| words.usual_of(addresses));
        if !is_peer(usual)
            && let Some(peer) = candidates().find(|&index| is_peer(index))
        {
            return Some(peer);
        }
        if self.changes[usual].is_varied()
            && let Some(constant) = candidates().find(|&index| self.changes[index].is_constant())
        {
            return Some(constant);
        }
        if self.own.is_some()
            && words.address(usual) == self.own
            && let Some(other) = candidates().find(|&index| {
                words.address(index) != self.own && self.changes[index].is_unchanged()
            })
        {
            return Some(other);
        }
        (settled == Some(0) || !words.has_list_before(usual)).then_some(usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(layout: &mut HeadLayout, head: &str) -> Option<String> {
        let words = HeadWords::split(head.as_bytes(), 0, head.len());
        let index = layout.client(&words)?;
        Some(String::from_utf8_lossy(words.text(index)).into_owned())
    }

    #[test]
    fn one_line_tells_its_client() {
        for (head, expected) in [
            ("192.0.2.1 - -", "192.0.2.1"),
            ("192.0.2.1 - bob b", "192.0.2.1"),
            ("shop.example - 192.0.2.1 - -", "192.0.2.1"),
            ("198.51.100.1 - 192.0.2.1 - -", "192.0.2.1"),
            ("shop.example - 192.0.2.1", "192.0.2.1"),
            ("www.example.com:80 unix: - -", "unix:"),
            ("www.example.com 10.0.0.2, 10.0.0.1, 127.0.0.1 - -", ""),
            ("10.0.0.2,10.0.0.1 127.0.0.1 - -", ""),
            ("198.51.100.1, 192.0.2.5 - -", ""),
            ("unknown, 192.0.2.5 - -", ""),
            ("www.example.com localhost - -", "localhost"),
            ("198.51.100.1:80 lb1 - -", "lb1"),
            ("www.example.com:443 \"10.5.102.222, 198.51.100.77\" 10.2.1.185 - -", ""),
            ("\"10.5.102.222\" 10.2.1.185 - -", ""),
            (" 192.0.2.1 - -", "192.0.2.1"),
            (" a.example - -", "a.example"),
            ("- 192.0.2.1 - -", "192.0.2.1"),
            ("- - 192.0.2.1", "192.0.2.1"),
            ("- - -", "-"),
            ("TIME stdout F 192.0.2.1 - -", "192.0.2.1"),
            ("a.example b.example c 192.0.2.1 - -", "192.0.2.1"),
            ("a.example 203.0.113.7 192.0.2.1 - -", "192.0.2.1"),
            ("a.example - b.example - -", ""),
            ("198.51.100.7 - lb1 - bob", ""),
            ("a.example \"203.0.113.7\" lb1 - -", ""),
            ("198.51.100.7 \"203.0.113.7\" lb1 - -", ""),
            ("192.0.2.1 - \"\"", "192.0.2.1"),
            ("17:192.0.2.1 - -", ""),
            ("access.log-17-192.0.2.1 - -", ""),
            ("1795379000 lb1 - -", ""),
            ("request failed:", ""),
            ("failed", ""),
            ("", ""),
        ] {
            let found = client(&mut HeadLayout::default(), head);
            assert_eq!(found.unwrap_or_default(), expected, "{head}");
        }
    }

    /// The client of `head` behind many lines with `usual`, in which `N` is a number that changes.
    fn after(usual: &str, head: &str) -> Option<String> {
        let mut layout = HeadLayout::default();
        for i in 0..40 {
            client(&mut layout, &usual.replace('N', &i.to_string()));
        }
        client(&mut layout, head)
    }

    #[test]
    fn lines_before_decide_where_a_line_leaves_a_choice() {
        for (usual, head, expected) in [
            // A user that looks like the fields of another layout.
            ("192.0.2.1 - -", "192.0.2.1 - 203.0.113.9 - x", "192.0.2.1"),
            ("192.0.2.1 - -", "192.0.2.1 203.0.113.9 203.0.113.8 - x", "192.0.2.1"),
            ("192.0.2.1 - -", "- - 203.0.113.9", "-"),
            ("lb1 - -", "lb1 - 203.0.113.9", "lb1"),
            // A host that is an address.
            ("a.example - 192.0.2.1 - -", "198.51.100.7 - 192.0.2.1 - -", "192.0.2.1"),
            ("a.example - 192.0.2.1 - -", "198.51.100.7 - - - -", "-"),
            ("a.example 192.0.2.1 - -", "198.51.100.7 - - -", "-"),
            ("a.example lb1 - -", "198.51.100.7 lb1 - -", "lb1"),
            ("192.0.2.1 a.example - -", "192.0.2.1 198.51.100.7 - -", "192.0.2.1"),
            ("lb1 - -", "lb1 - bob - x", "lb1"),
            ("a.example lb1 - -", "a.example lb1 - 203.0.113.9", "lb1"),
            // The word that hardly changes is the balancer.
            ("a-N.example - lb1 - -", "a.example - lb1 - bob", "lb1"),
            ("a-N.example - lb1 - -", "198.51.100.7 - lb1 - bob", "lb1"),
            ("203.0.113.N 192.0.2.1 - -", "203.0.113.9 192.0.2.1 - -", "192.0.2.1"),
            ("192.0.2.1 203.0.113.N - -", "192.0.2.1 203.0.113.9 - -", "192.0.2.1"),
            // The client's port changes, the server's does not.
            ("10.0.0.1 192.0.2.1:401N - -", "10.0.0.1 192.0.2.1:9 - -", "192.0.2.1:9"),
            ("10.0.0.1:80 192.0.2.1:401N - -", "10.0.0.1:80 192.0.2.1:9 - -", "192.0.2.1:9"),
            ("192.0.2.1:401N 10.0.0.1:80 - -", "192.0.2.1:9 10.0.0.1:80 - -", "192.0.2.1:9"),
            ("192.0.2.1:401N 203.0.113.N - -", "192.0.2.1:9 203.0.113.7 - -", "192.0.2.1:9"),
            ("a-N.example - lb1", "a.example - lb1", "lb1"),
            ("a-N.example - bob-N", "a.example - bob", "a.example"),
            ("lb1.example a-N.example - -", "lb1.example a.example - -", "lb1.example"),
            // The name is the balancer's, or that of a default host.
            ("203.0.113.N localhost - -", "203.0.113.9 localhost - -", ""),
            ("lb1 203.0.113.N - -", "lb1 203.0.113.9 - -", ""),
            ("shop.example 203.0.113.N - -", "shop.example 203.0.113.9 - -", "203.0.113.9"),
            ("localhost 192.0.2.1 - -", "localhost 192.0.2.1 - -", "192.0.2.1"),
            // What no line alone tells.
            (
                "a.example \"203.0.113.N, x\" 192.0.2.1 - -",
                "a.example \"-\" 192.0.2.1 - -",
                "192.0.2.1",
            ),
            ("192.0.2.1 - -", "a.example 192.0.2.1 - -", "192.0.2.1"),
            ("192.0.2.1 - -", "203.0.113.9, 192.0.2.1 - -", ""),
            ("192.0.2.1 - -", "192.0.2.1 - a, b", "192.0.2.1"),
        ] {
            assert_eq!(after(usual, head).unwrap_or_default(), expected, "{usual}; {head}");
        }
    }

    #[test]
    fn an_address_behind_the_request_may_be_the_client() {
        let line = |client: &str, address: &str| {
            format!("{client} - - [] \"GET / HTTP/1.1\" 200 1 \"-\" \"-\" {address}")
        };
        let found = |client: &str, address: &str| {
            let mut layout = HeadLayout::default();
            let mut last = None;
            for i in 0..40 {
                let line = line(client, &address.replace('N', &i.to_string()));
                let end = line.find(" [").expect("a time");
                last = layout.client(&HeadWords::split(line.as_bytes(), 0, end));
            }
            last
        };
        assert_eq!(found("shop.example", "192.0.2.1"), None);
        assert_eq!(found("-", "192.0.2.1:40100"), None);
        assert_eq!(found("lb1", "10.244.0.N:8080"), Some(0));
        assert_eq!(found("lb1", "0.012"), Some(0));
        assert_eq!(found("192.0.2.1", "10.244.0.7:8080"), Some(0));
    }

    #[test]
    fn the_servers_own_address_is_not_the_client() {
        let own = "10.0.0.1".parse().ok();
        for (usual, expected) in [
            ("192.0.2.1 10.0.0.1 - -", "192.0.2.1"),
            ("192.0.2.1 10.0.0.1:443 - -", "192.0.2.1"),
            ("192.0.2.1 -> 10.0.0.1 - -", "192.0.2.1"),
            ("10.0.0.1 192.0.2.1 - -", "192.0.2.1"),
            // The balancer runs on the server.
            ("203.0.113.N 10.0.0.1 - -", "10.0.0.1"),
            ("10.0.0.1 10.0.0.1 - -", "10.0.0.1"),
        ] {
            let mut layout = HeadLayout::of_server(own);
            for i in 0..20 {
                client(&mut layout, &usual.replace('N', &i.to_string()));
            }
            let found = client(&mut layout, &usual.replace('N', "9"));
            assert_eq!(found.as_deref(), Some(expected), "{usual}");
        }
    }

    #[test]
    fn a_log_may_change_its_layout() {
        let mut layout = HeadLayout::default();
        for head in ["192.0.2.1 - -", "a.example - 192.0.2.1 - -", "192.0.2.1 - -"] {
            for _ in 0..1_000 {
                assert_eq!(client(&mut layout, head).as_deref(), Some("192.0.2.1"), "{head}");
            }
        }
    }
}
