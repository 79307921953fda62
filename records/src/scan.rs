//! Short searches, on the hot path of every line.
//!
//! A field is a few dozen bytes long. memchr searches such a field fast, but its call through a
//! pointer and its setup cost as much as the search. This module compares sixteen bytes at a time
//! inline, and leaves longer distances to memchr.

use wide::{CmpEq as _, CmpLt as _, i8x16, u8x16};

/// Bytes compared at once.
pub(crate) const STEP: usize = 16;
/// Searches beyond this distance are left to memchr.
const NEAR: usize = 16 * STEP;

/// The first position of `byte` in `text`, at `from` or behind.
#[inline]
pub(crate) fn find(byte: u8, text: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    let (chunks, tail) = rest.get(..NEAR).unwrap_or(rest).as_chunks::<STEP>();
    for (index, chunk) in chunks.iter().enumerate() {
        let mask = equal(chunk, byte);
        if mask != 0 {
            return Some(from + index * STEP + mask.trailing_zeros() as usize);
        }
    }
    if rest.len() > NEAR {
        return Some(from + NEAR + memchr::memchr(byte, &rest[NEAR..])?);
    }
    // The last bytes of the text; some are compared for the second time.
    if let Some(last) = text.last_chunk::<STEP>() {
        let mask = equal(last, byte) >> (STEP - tail.len());
        return (mask != 0).then(|| text.len() - tail.len() + mask.trailing_zeros() as usize);
    }
    tail.iter().position(|&other| other == byte).map(|at| text.len() - tail.len() + at)
}

/// The number of bytes that [`window`] covers.
pub(crate) const WINDOW: usize = 4 * STEP;

/// The positions of `byte` in `text[from..from + WINDOW]`, or in the bytes of the text that remain:
/// a bit for each position, the first position lowest.
#[inline]
pub(crate) fn window(byte: u8, text: &[u8], from: usize) -> u64 {
    let rest = text.get(from..).unwrap_or_default();
    if let Some(whole) = rest.first_chunk() {
        return places(byte, whole);
    }
    // The last bytes of the text; some are compared for the second time.
    if let Some(last) = text.last_chunk() {
        return if rest.is_empty() { 0 } else { places(byte, last) >> (WINDOW - rest.len()) };
    }
    rest.iter().rev().fold(0, |places, &other| places << 1 | u64::from(other == byte))
}

#[inline]
fn places(byte: u8, window: &[u8; WINDOW]) -> u64 {
    let (chunks, _) = window.as_chunks();
    chunks.iter().rev().fold(0, |places, chunk| places << STEP | u64::from(equal(chunk, byte)))
}

/// The places of a byte in a text, one after the other. Finds all places in a window of the text at once, because
/// lines and fields are so short that a search for each place would cost more.
#[derive(Clone, Debug)]
pub struct BytePlaces<'a, const BYTE: u8> {
    text: &'a [u8],
    /// Places ahead in the window, a bit for each byte.
    ahead: u64,
    /// Offset of the window.
    window: usize,
}

impl<'a, const BYTE: u8> BytePlaces<'a, BYTE> {
    /// Starts at `from`.
    #[inline]
    #[must_use]
    pub fn new(text: &'a [u8], from: usize) -> Self {
        Self { text, ahead: window(BYTE, text, from), window: from }
    }

    /// Goes on at `from`, which is behind the last place.
    #[inline]
    pub(crate) fn skip_to(&mut self, from: usize) {
        let skipped = from.saturating_sub(self.window);
        if skipped >= WINDOW {
            self.window += skipped - skipped % WINDOW;
            self.ahead = window(BYTE, self.text, self.window);
        }
        self.ahead &= u64::MAX << (skipped % WINDOW);
    }
}

impl<const BYTE: u8> Iterator for BytePlaces<'_, BYTE> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.ahead == 0 {
            self.window += WINDOW;
            if self.window >= self.text.len() {
                return None;
            }
            self.ahead = window(BYTE, self.text, self.window);
        }
        let at = self.window + self.ahead.trailing_zeros() as usize;
        self.ahead &= self.ahead - 1;
        Some(at)
    }
}

/// Whether `byte` is in `text`. Nearly always it is not, so an early return would not pay.
#[inline]
pub(crate) fn contains(byte: u8, text: &[u8]) -> bool {
    let (chunks, tail) = text.as_chunks::<STEP>();
    let wanted = u8x16::splat(byte);
    let equal = |chunk: &[u8; STEP]| u8x16::new(*chunk).cmp_eq(wanted);
    let found = chunks.iter().fold(u8x16::ZERO, |found, chunk| found | equal(chunk));
    match text.last_chunk() {
        // Some bytes are compared for the second time.
        Some(last) => (found | equal(last)).move_mask() != 0,
        None => tail.contains(&byte),
    }
}

/// Whether `text` is printable ASCII without a backslash (or DEL, which is harmless), so that it
/// needs no unescaping, cut or replacement.
#[inline]
pub(crate) fn is_plain(text: &[u8]) -> bool {
    let (chunks, tail) = text.as_chunks::<STEP>();
    // Nearly all texts are plain, so an early return would not pay.
    let special = chunks.iter().fold(i8x16::ZERO, |special, chunk| special | specials(chunk));
    let rest = match text.last_chunk() {
        // Some bytes are compared for the second time.
        Some(last) => (special | specials(last)).any(),
        None => tail.iter().any(|&byte| !(b' '..0x80).contains(&byte) || byte == b'\\'),
    };
    !rest
}

/// The bytes that a plain text does not contain; as signed numbers, bytes beyond ASCII are
/// negative.
#[inline]
fn specials(chunk: &[u8; STEP]) -> i8x16 {
    let chunk = i8x16::new(chunk.map(u8::cast_signed));
    chunk.cmp_lt(i8x16::splat(b' '.cast_signed())) | chunk.cmp_eq(i8x16::splat(b'\\'.cast_signed()))
}

/// A bit for each byte of `chunk` that equals `byte`, the first byte lowest.
#[inline]
pub(crate) fn equal(chunk: &[u8; STEP], byte: u8) -> u32 {
    u8x16::new(*chunk).cmp_eq(u8x16::splat(byte)).move_mask().cast_unsigned()
}

/// A bit for each byte of `chunk` that is a decimal digit, the first byte lowest.
#[inline]
pub(crate) fn digits(chunk: &[u8; STEP]) -> u32 {
    // Bytes before `0` wrap around to values above nine.
    let value = (u8x16::new(*chunk) - u8x16::splat(b'0')).max(u8x16::splat(9));
    value.cmp_eq(u8x16::splat(9)).move_mask().cast_unsigned()
}

/// Parses a decimal number of one to seven digits at the start of `text`; returns the number and
/// its length. No branch depends on the number of digits.
#[inline]
pub(crate) fn short_number(text: &[u8; 8]) -> Option<(u64, usize)> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Sets the top bit of each byte whose value is above nine, and perhaps of later bytes.
    let values = u64::from_le_bytes(*text) ^ (ONES * u64::from(b'0'));
    let above = (values.wrapping_add(ONES * 0x76) | values) & (ONES * 0x80);
    let bits = above.trailing_zeros() & !7;
    if !(8..64).contains(&bits) {
        return None;
    }
    // Moves the digits to the end of eight bytes, zeros in front; then adds pairs, fours and all
    // eight.
    let digits = values << (64 - bits);
    let pairs = (digits.wrapping_mul(10) + (digits >> 8)) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_FFFF_0000_FFFF;
    let value = (fours.wrapping_mul(10_000) + (fours >> 32)) & 0xFFFF_FFFF;
    Some((value, bits as usize / 8))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_window_shows_every_place(
            text in vec(prop_oneof![Just(b'a'), Just(b'"'), any::<u8>()], 0..200),
            from in 0..210_usize,
        ) {
            let shown = window(b'"', &text, from);
            for place in 0..WINDOW {
                let is_there = text.get(from + place) == Some(&b'"');
                prop_assert_eq!(shown >> place & 1 == 1, is_there, "{}", place);
            }
        }

        #[test]
        fn places_come_in_order_and_can_be_skipped(
            text in vec(prop_oneof![Just(b'a'), Just(b'"'), any::<u8>()], 0..300),
            from in 0..310_usize,
            skips in vec((0..5_usize, 0..150_usize), 0..4),
        ) {
            let mut places = BytePlaces::<b'"'>::new(&text, from);
            let mut from = from;
            let slow = |from: usize| (from..text.len()).find(|&at| text[at] == b'"');
            for (some, skipped) in skips {
                for _ in 0..some {
                    let place = slow(from);
                    prop_assert_eq!(places.next(), place);
                    from = place.map_or(text.len(), |place| place + 1);
                }
                from += skipped;
                places.skip_to(from);
            }
            prop_assert_eq!(places.next(), slow(from));
        }

        #[test]
        fn a_short_number_is_its_digits(
            digits in vec(b'0'..=b'9', 0..9),
            end in any::<u8>().prop_filter("no digit", |end| !end.is_ascii_digit()),
            behind in any::<[u8; 8]>(),
        ) {
            let text = [digits.as_slice(), &[end], &behind].concat();
            let number = std::str::from_utf8(&digits).unwrap().parse().ok();
            let expected = number.filter(|_| digits.len() < 8).map(|n| (n, digits.len()));
            prop_assert_eq!(short_number(text.first_chunk().unwrap()), expected);
        }

        #[test]
        fn a_text_is_plain_if_each_of_its_bytes_is(
            text in vec(b' '..0x80, 0..80),
            at in any::<proptest::sample::Index>(),
            byte in prop_oneof![Just(b'\\'), any::<u8>()],
        ) {
            let mut text = text;
            let slow = |text: &[u8]| {
                text.iter().all(|&byte| (b' '..0x80).contains(&byte) && byte != b'\\')
            };
            prop_assert_eq!(is_plain(&text), slow(&text));
            if !text.is_empty() {
                let at = at.index(text.len());
                text[at] = byte;
            }
            prop_assert_eq!(is_plain(&text), slow(&text));
        }

        #[test]
        fn a_search_finds_what_memchr_finds(
            text in vec(prop_oneof![Just(b'a'), Just(b'"'), any::<u8>()], 0..80),
            gap in 0..300_usize,
            from in 0..90_usize,
            byte in prop_oneof![Just(b'"'), any::<u8>()],
        ) {
            let long = [text.as_slice(), &vec![b'.'; gap], &text].concat();
            for text in [&text, &long] {
                let expected = text.get(from..).and_then(|rest| memchr::memchr(byte, rest));
                prop_assert_eq!(find(byte, text, from), expected.map(|at| from + at));
                prop_assert_eq!(contains(byte, text), text.contains(&byte));
            }
        }
    }
}
