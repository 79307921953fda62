//! The words in front of the time, and what each looks like.

use std::net::IpAddr;

use super::super::LineSpan;
use super::super::head::{is_address, without_port};
use crate::addr::parse_ip;

/// Words of a head that are looked at.
pub(super) const MOST: usize = 10;

/// What a word looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WordKind {
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
pub(in crate::access) struct HeadWords<'a> {
    body: &'a [u8],
    places: [(usize, usize); MOST],
    kinds: [WordKind; MOST],
    pub(super) len: usize,
    end: usize,
}

impl<'a> HeadWords<'a> {
    /// Splits `body[from..end]` at spaces; text in quotes is one word.
    pub(in crate::access) fn split(body: &'a [u8], from: usize, end: usize) -> Self {
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
    pub(in crate::access) fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The end of the words.
    pub(in crate::access) fn end(&self) -> usize {
        self.end
    }

    /// The place of a word.
    pub(in crate::access) fn place(&self, index: usize) -> (usize, usize) {
        self.places[index]
    }

    /// The host of the request: the word before the client, perhaps with a dash between.
    pub(in crate::access) fn host_before(&self, client: usize) -> Option<LineSpan> {
        let mut index = client.checked_sub(1)?;
        if self.kinds[index] == WordKind::Dash {
            index = index.checked_sub(1)?;
        }
        let (from, to) = self.places[index];
        let is_host = matches!(self.kinds[index], WordKind::Name | WordKind::Address);
        is_host.then(|| LineSpan::new(from, to))
    }

    pub(super) fn text(&self, index: usize) -> &'a [u8] {
        let (from, to) = self.places[index];
        &self.body[from..to]
    }

    pub(super) fn kind(&self, index: usize) -> WordKind {
        if index < self.len { self.kinds[index] } else { WordKind::Empty }
    }

    fn has(&self, index: usize, byte: u8) -> bool {
        self.text(index).contains(&byte)
    }

    /// The address in a word, which may have a port.
    pub(super) fn address(&self, index: usize) -> Option<IpAddr> {
        let (from, to) = self.places[index];
        let end = without_port(self.body, (from, to)).0;
        parse_ip(&self.body[from..end])
    }

    /// A word without its port, and the whole word if there is one.
    pub(super) fn port_and_rest(&self, index: usize) -> (&'a [u8], Option<&'a [u8]>) {
        let (from, to) = self.places[index];
        let (end, port) = without_port(self.body, (from, to));
        (&self.body[from..end], port.map(|_| self.text(index)))
    }

    /// The first word behind the last quote of the line that is an address, without its port.
    pub(super) fn address_behind(&self) -> Option<&'a [u8]> {
        let behind = memchr::memrchr(b'"', self.body).map_or(0, |quote| quote + 1);
        let rest = self.body.get(behind.max(self.end)..)?;
        let mut words = rest.split(u8::is_ascii_whitespace);
        let word = words.find(|word| !word.is_empty() && is_address(word))?;
        Some(&word[..without_port(word, (0, word.len())).0])
    }

    /// The words that may be the client's address, a bit each.
    pub(super) fn addresses(&self) -> u16 {
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
    pub(super) fn is_pair(&self) -> bool {
        self.len >= 4 && self.kinds[..2] == [WordKind::Name, WordKind::Name]
    }

    /// Whether a word is a host's name without a dot or a port.
    pub(super) fn is_bare_name(&self, index: usize) -> bool {
        self.kind(index) == WordKind::Name
            && self.text(index).iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    }

    /// Whether the words are `host - name - user`, in which the name may be the client.
    pub(super) fn is_dashed(&self) -> bool {
        self.len >= 5
            && self.kinds[1] == WordKind::Dash
            && self.kinds[2] == WordKind::Name
            && self.kinds[3] == WordKind::Dash
    }

    /// Whether the words are `name - name`: a client and its user, or a host and the client.
    pub(super) fn is_dashed_pair(&self) -> bool {
        self.len == 3 && self.kinds[..3] == [WordKind::Name, WordKind::Dash, WordKind::Name]
    }

    /// Whether the words around `index` are none that a usual layout has.
    pub(super) fn is_odd_around(&self, index: usize) -> bool {
        // Behind a host there may be a list in quotes, and then the client.
        let is_quoted_behind = index + 2 < self.len && self.text(index + 1).starts_with(b"\"");
        let is_odd = |kind: &WordKind| matches!(kind, WordKind::Other | WordKind::List);
        index > 3 || is_quoted_behind || self.kinds[..index].iter().any(is_odd)
    }

    pub(super) fn has_list_before(&self, index: usize) -> bool {
        self.kinds[..=index.min(MOST - 1)].contains(&WordKind::List)
    }

    /// The client of a line with several addresses.
    pub(super) fn usual_of(&self, addresses: u16) -> usize {
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
    pub(super) fn named(&self) -> Option<usize> {
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
    // The last label of a name is no number, but that of an address with text in front.
    let last = name.rsplit(|&b| b == b'.').next().unwrap_or_default();
    let is_numbered = last.len() < name.len() && last.iter().all(u8::is_ascii_digit);
    name.iter().all(is_part)
        && (!is_numbered || last.is_empty())
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
