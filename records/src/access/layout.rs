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

use super::LineSpan;
use super::head::{is_address, without_port};

/// Words of a head that are looked at.
const MOST: usize = 10;

/// Lines that settle a layout.
const SETTLED: u16 = 8;

/// Sum of votes at which all are halved, so that a log may change its layout.
const FADE_AT: u16 = 256;

/// Lines with a choice after which constant words count.
const JUDGED_AFTER: u8 = 16;

/// What a word looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WordKind {
    Empty,
    Dash,
    /// An address, perhaps with a port.
    Address,
    /// A host name, perhaps with a port.
    Name,
    /// A list of addresses, or a part of one.
    List,
    Other,
}

/// The words in front of the time.
#[derive(Debug)]
pub(super) struct HeadWords<'a> {
    body: &'a [u8],
    places: [(usize, usize); MOST],
    kinds: [WordKind; MOST],
    len: usize,
    end: usize,
}

impl<'a> HeadWords<'a> {
    /// Splits `body[from..end]` at spaces; text in quotes is one word.
    pub(super) fn split(body: &'a [u8], from: usize, end: usize) -> Self {
        let (places, kinds) = ([(end, end); MOST], [WordKind::Empty; MOST]);
        let mut words = Self { body, places, kinds, len: 0, end };
        let mut at = from;
        while words.len < MOST && at <= end {
            let stop = word_end(&body[..end], at);
            words.places[words.len] = (at, stop);
            words.kinds[words.len] = WordKind::of(&body[at..stop]);
            words.len += 1;
            at = stop + 1;
        }
        words
    }

    /// The line.
    pub(super) fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The end of the words.
    pub(super) fn end(&self) -> usize {
        self.end
    }

    /// The place of a word.
    pub(super) fn place(&self, index: usize) -> (usize, usize) {
        self.places[index]
    }

    /// The host of the request: the word before the client, perhaps with a dash between.
    pub(super) fn host_before(&self, client: usize) -> Option<LineSpan> {
        let mut index = client.checked_sub(1)?;
        if self.kinds[index] == WordKind::Dash {
            index = index.checked_sub(1)?;
        }
        let (from, to) = self.places[index];
        let is_host = matches!(self.kinds[index], WordKind::Name | WordKind::Address);
        is_host.then(|| LineSpan::new(from, to))
    }

    fn text(&self, index: usize) -> &'a [u8] {
        let (from, to) = self.places[index];
        &self.body[from..to]
    }

    fn kind(&self, index: usize) -> WordKind {
        if index < self.len { self.kinds[index] } else { WordKind::Empty }
    }

    fn has(&self, index: usize, byte: u8) -> bool {
        self.text(index).contains(&byte)
    }

    /// The words that may be the client's address, a bit each.
    fn addresses(&self) -> u16 {
        (0..self.len).fold(0, |set, index| set | u16::from(self.may_be_client(index)) << index)
    }

    fn may_be_client(&self, index: usize) -> bool {
        if self.kinds[index] != WordKind::Address {
            return false;
        }
        // The user may look like an address.
        if index + 1 == self.len && index >= 3 && self.kinds[index - 1] == WordKind::Dash {
            return false;
        }
        // `198.51.100.1:80 lb1 - -`: a server's port is no client's.
        let is_followed = self.kind(index + 1) == WordKind::Name && self.len >= index + 4;
        let port = || without_port(self.body, self.places[index]).1;
        !(is_followed && port().is_some_and(is_servers))
    }

    /// Whether the words begin with two names: a host and the client, or the client and a host.
    fn is_pair(&self) -> bool {
        self.len >= 4 && self.kinds[..2] == [WordKind::Name, WordKind::Name]
    }

    /// Whether the words are `host - name - user`, in which the name may be the client.
    fn is_dashed(&self) -> bool {
        self.len >= 5
            && self.kinds[1] == WordKind::Dash
            && self.kinds[2] == WordKind::Name
            && self.kinds[3] == WordKind::Dash
    }

    /// Whether the words are `name - name`: a client and its user, or a host and the client.
    fn is_dashed_pair(&self) -> bool {
        self.len == 3 && self.kinds[..3] == [WordKind::Name, WordKind::Dash, WordKind::Name]
    }

    /// Whether the words around `index` are none that a usual layout has.
    fn is_odd_around(&self, index: usize) -> bool {
        // Behind a host there may be a list in quotes, and then the client.
        let is_quoted_behind = index + 2 < self.len && self.text(index + 1).starts_with(b"\"");
        let is_odd = |kind: &WordKind| matches!(kind, WordKind::Other | WordKind::List);
        index > 3 || is_quoted_behind || self.kinds[..index].iter().any(is_odd)
    }

    fn has_list_before(&self, index: usize) -> bool {
        self.kinds[..=index.min(MOST - 1)].contains(&WordKind::List)
    }

    /// The client of a line with several addresses.
    fn usual_of(&self, addresses: u16) -> usize {
        let is_address = |index: usize| addresses >> index & 1 == 1;
        let dash = self.kind(1) == WordKind::Dash;
        match self.len {
            // `host - client - user`
            5.. if dash && self.kind(3) == WordKind::Dash && is_address(2) => 2,
            _ if dash && is_address(0) => 0,
            // The identity and the user follow the client.
            len @ 3.. if len < MOST && is_address(len - 3) => len - 3,
            4.. if is_address(0) && is_address(1) => 1,
            _ => addresses.trailing_zeros() as usize,
        }
    }

    /// The client of a line without addresses.
    fn named(&self) -> Option<usize> {
        let base = self.kinds[..self.len].iter().take_while(|&&k| k == WordKind::Empty).count();
        let (words, kind) = (self.len - base, |index: usize| self.kind(base + index));
        let index = match (kind(0), kind(1)) {
            (WordKind::Dash, WordKind::Dash) if words <= 3 => 0,
            (WordKind::Name, WordKind::Dash) => 0,
            (WordKind::Name, WordKind::Empty) if words == 1 && self.has(base, b'.') => 0,
            // A name with a port is a virtual host.
            (WordKind::Name | WordKind::Address, WordKind::Name)
                if self.has(base, b':') && (words >= 4 || self.has(base + 1, b'.')) =>
            {
                1
            }
            (WordKind::Name, WordKind::Name) if words >= 4 => {
                let is_host = self.has(base, b'.');
                let is_client = self.has(base + 1, b'.') || kind(2) == WordKind::Dash;
                (is_host && is_client).then_some(1)?
            }
            // Text in quotes may be of a client.
            (WordKind::Name, WordKind::Other) if self.has(base + 1, b'"') => return None,
            (WordKind::Name, WordKind::Name | WordKind::Other) if self.has(base, b'.') => 0,
            _ => return None,
        };
        Some(base + index)
    }
}

impl WordKind {
    fn of(word: &[u8]) -> Self {
        match word {
            [] => Self::Empty,
            b"-" => Self::Dash,
            [.., b','] => Self::List,
            _ if word.contains(&b',') => {
                let first = word.split(|&b| b == b',').next().unwrap_or_default();
                if is_address(first) { Self::List } else { Self::Other }
            }
            _ if is_address(word) => Self::Address,
            _ if is_name(word) => Self::Name,
            _ => Self::Other,
        }
    }
}

/// Whether a word may be a host name, perhaps with a port.
fn is_name(word: &[u8]) -> bool {
    let colon = memchr::memchr(b':', word).unwrap_or(word.len());
    let (name, port) = (&word[..colon], word.get(colon + 1..).unwrap_or(b"1"));
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || b"-._*".contains(b);
    name.iter().all(is_part)
        && name.iter().any(|b| b.is_ascii_alphabetic() || *b == b'_')
        && !port.is_empty()
        && port.iter().all(u8::is_ascii_digit)
}

/// Ports that servers listen on, and balancers do not connect from.
fn is_servers(port: u16) -> bool {
    port < 1_024 || matches!(port, 3_000 | 5_000 | 8_000..=8_999 | 9_443)
}

/// The end of the word at `at`; a word in quotes ends behind its last quote.
fn word_end(head: &[u8], at: usize) -> usize {
    let rest = &head[at..];
    if rest.first() == Some(&b'"') {
        let mut quotes = memchr::memchr_iter(b'"', &rest[1..]).map(|quote| quote + 2);
        let closing = quotes.find(|&end| matches!(rest.get(end), None | Some(b' ')));
        if let Some(end) = closing {
            return at + end;
        }
    }
    memchr::memchr(b' ', rest).map_or(head.len(), |len| at + len)
}

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

    fn is_varied(self) -> bool {
        self.lines >= JUDGED_AFTER && self.changed >= self.lines / 2
    }
}

impl HeadLayout {
    /// The index of the word that is the client; `None` if that cannot be known.
    pub(super) fn client(&mut self, words: &HeadWords<'_>) -> Option<usize> {
        let addresses = words.addresses();
        let found = match addresses.count_ones() {
            0 | 1 if words.is_dashed() && addresses & !1 == 0 => self.by_constancy(words),
            0 if words.is_dashed_pair() && self.is_second_of(words) => Some(2),
            0 if words.is_pair() && self.is_first_of(words) => Some(0),
            0 => self.by_name(words),
            1 => self.by_address(words, addresses),
            _ => self.by_choice(words, addresses),
        }?;
        self.vote(found, words.kinds[found] == WordKind::Name);
        self.lens[found] = words.len;
        let is_odd = words.is_odd_around(found);
        (!is_odd || self.votes[found] > SETTLED).then_some(found)
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
            self.changes[index].learn(hash_of(words.text(index)));
        }
        let settled = self.settled().filter(|&usual| addresses >> usual & 1 == 1);
        let usual = settled.unwrap_or_else(|| words.usual_of(addresses));
        if self.changes[usual].is_varied()
            && let Some(constant) = candidates().find(|&index| self.changes[index].is_constant())
        {
            return Some(constant);
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
            ("a-N.example - lb1", "a.example - lb1", "lb1"),
            ("a-N.example - bob-N", "a.example - bob", "a.example"),
            ("lb1.example a-N.example - -", "lb1.example a.example - -", "lb1.example"),
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
    fn a_log_may_change_its_layout() {
        let mut layout = HeadLayout::default();
        for head in ["192.0.2.1 - -", "a.example - 192.0.2.1 - -", "192.0.2.1 - -"] {
            for _ in 0..1_000 {
                assert_eq!(client(&mut layout, head).as_deref(), Some("192.0.2.1"), "{head}");
            }
        }
    }
}
