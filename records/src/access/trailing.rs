//! Numbers behind the last field of a known format: one of them may be the port of the TCP peer.
//!
//! Web servers write added fields there, as in `… "curl" 0.003 40312`. The format alone does not say which field
//! is a port. The join finds out, by the ports of the balancer's connections.

use std::num::NonZeroU16;

/// Most numbers kept of a line; of more, the last ones.
const MOST: usize = 4;

/// The fewest digits of a request's id.
pub(crate) const LEAST_DIGITS: usize = 16;

/// The lowest number kept: a balancer has no lower port of its own.
const LOWEST: u16 = 1_024;

/// Numbers in the fields behind the known part of a line that may be ports, and in which field each stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrailingNumbers {
    numbers: [Option<NonZeroU16>; MOST],
    /// The field of each number, counted from 0.
    fields: [u8; MOST],
    /// How many fields there are, with or without a number.
    count: u8,
}

impl TrailingNumbers {
    /// No fields.
    pub(crate) const NONE: Self = Self { numbers: [None; MOST], fields: [0; MOST], count: 0 };

    /// Whether there is no number.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.numbers[0].is_none()
    }

    /// Returns how many fields are behind the known part of the line.
    #[must_use]
    pub const fn count(self) -> u8 {
        self.count
    }

    /// Returns each number with the field that it stands in.
    pub fn iter(self) -> impl Iterator<Item = (u8, u16)> {
        let pairs = self.fields.into_iter().zip(self.numbers);
        pairs.filter_map(|(field, number)| Some((field, number?.get())))
    }

    /// Reads the fields in `text`, which begins with the space before the first of them.
    pub(crate) fn read(text: &[u8]) -> Self {
        let (mut found, mut kept, mut rest) = (Self::default(), 0, text);
        while let Some((field, behind)) = split_field(rest) {
            rest = behind;
            if let Some(number) = number_in(field) {
                if kept == MOST {
                    found.numbers.copy_within(1.., 0);
                    found.fields.copy_within(1.., 0);
                    kept -= 1;
                }
                (found.numbers[kept], found.fields[kept]) = (Some(number), found.count);
                kept += 1;
            }
            found.count = found.count.saturating_add(1);
        }
        found
    }
}

/// Finds the id of a request among the fields in `text`: the last one of 16 or more digits of a hexadecimal number,
/// with dashes or not, quoted or not. Returns its start and end.
pub(crate) fn request_id(text: &[u8]) -> Option<(usize, usize)> {
    let (mut found, mut rest) = (None, text);
    while let Some((field, behind)) = split_field(rest) {
        let end = text.len() - behind.len();
        let start = end - field.len();
        let (start, end) = match field {
            [b'"', .., b'"'] => (start + 1, end - 1),
            _ => (start, end),
        };
        found = if is_id(&text[start..end]) { Some((start, end)) } else { found };
        rest = behind;
    }
    found
}

/// Whether a text is a long hexadecimal number, with dashes or not.
pub(crate) fn is_id(text: &[u8]) -> bool {
    let digits = text.iter().filter(|byte| byte.is_ascii_hexdigit()).count();
    let is_part = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'-';
    digits >= LEAST_DIGITS && text.iter().all(is_part)
}

/// Splits off the first field: up to a space that is not between quotes.
fn split_field(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = text.iter().position(|&byte| byte != b' ')?;
    let text = &text[start..];
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b' ' if !is_quoted => return Some(text.split_at(at)),
            _ => {}
        }
    }
    Some((text, b""))
}

/// Returns the number of a field: the whole field, or behind a name or an address, as in `port=40312`,
/// `"40312"`, `[40312]` and `192.0.2.1:40312`.
fn number_in(field: &[u8]) -> Option<NonZeroU16> {
    let is_end = |byte: &u8| matches!(byte, b'"' | b']' | b')' | b',' | b';' | b'|');
    let end = field.iter().rposition(|byte| !is_end(byte))? + 1;
    let digits = field[..end].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (before, digits) = field[..end].split_at(end - digits);
    let begins = matches!(before.last(), None | Some(b'"' | b'[' | b'(' | b'=' | b':' | b'|'));
    if !begins || !(4..=5).contains(&digits.len()) || digits[0] == b'0' {
        return None;
    }
    let number = digits.iter().fold(0_u32, |number, digit| number * 10 + u32::from(digit - b'0'));
    let number = u16::try_from(number).ok().filter(|&number| number >= LOWEST)?;
    NonZeroU16::new(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_may_be_ports_are_found_with_their_fields() {
        for (text, count, numbers) in [
            ("", 0, &[][..]),
            (" ", 0, &[]),
            (" 40312", 1, &[(0, 40_312)]),
            (" 0.003 40312", 2, &[(1, 40_312)]),
            (" 0.003 2048 40312 x", 4, &[(1, 2_048), (2, 40_312)]),
            (" \"203.0.113.7, 10.0.0.1\" 40312", 2, &[(1, 40_312)]),
            (" \"40312\" rt=40000 [40001]", 3, &[(0, 40_312), (1, 40_000), (2, 40_001)]),
            (" 192.0.2.9:40312 [2001:db8::9]:40313", 2, &[(0, 40_312), (1, 40_313)]),
            (" 65536 70000 040312 1023 12 -", 6, &[]),
            (" 1.40312 40312ms -40312 1/40312", 4, &[]),
            (" port=40312; \"a \\\" b\" 40313,", 3, &[(0, 40_312), (2, 40_313)]),
            (" 2001 2002 2003 2004 2005", 5, &[(1, 2_002), (2, 2_003), (3, 2_004), (4, 2_005)]),
            (" \"not closed 40312", 1, &[]),
            ("  40312  ", 1, &[(0, 40_312)]),
        ] {
            let found = TrailingNumbers::read(text.as_bytes());
            assert_eq!(found.count(), count, "{text}");
            assert_eq!(found.iter().collect::<Vec<_>>(), numbers, "{text}");
            assert_eq!(found.is_empty(), numbers.is_empty(), "{text}");
        }
    }

    #[test]
    fn an_id_is_the_last_long_hexadecimal_number() {
        const ID: &str = "6f2a9b0c4d1e8f7a6b5c4d3e2f1a0b9c";
        const UUID: &str = "6f2a9b0c-4d1e-8f7a-6b5c-4d3e2f1a0b9c";
        for (text, id) in [
            (format!(" {ID}"), Some(ID)),
            (format!(" \"-\" 0.003 \"{UUID}\" 40312"), Some(UUID)),
            (format!(" {ID} {UUID}"), Some(UUID)),
            (format!(" \"{ID} x\""), None),
            (" 0.003 40312 abcdef".to_owned(), None),
            (" ------------------------ x".to_owned(), None),
            (format!(" \"{ID}"), None),
        ] {
            let found =
                request_id(text.as_bytes()).map(|(start, end)| text.get(start..end).unwrap());
            assert_eq!(found, id, "{text}");
        }
    }
}
