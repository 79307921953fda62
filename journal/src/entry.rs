//! Bytes of an entry and of the head of a segment. All numbers are little-endian.
//!
//! ```text
//! segment   "penjrnl1"  base: 8  CRC-32C of both: 4  zero: 4   then entries
//! entry     length: 4   CRC-32C of length and body: 4          body
//! ```

use crate::Position;

/// Bytes of the head of a segment.
pub const SEGMENT_HEAD: usize = 24;
/// Bytes of an entry besides its body.
pub const ENTRY_HEAD: usize = 8;
/// Longest body of an entry, in bytes.
pub const LONGEST: usize = 4 << 20;

const MAGIC: &[u8; 8] = b"penjrnl1";

/// Returns the head of a segment that begins at `base`.
#[must_use]
pub fn segment_head(base: Position) -> [u8; SEGMENT_HEAD] {
    let mut head = [0; SEGMENT_HEAD];
    head[..8].copy_from_slice(MAGIC);
    head[8..16].copy_from_slice(&base.0.to_le_bytes());
    let sum = crc32c::crc32c(&head[..16]);
    head[16..20].copy_from_slice(&sum.to_le_bytes());
    head
}

/// Returns the base of a segment with this head; `None` if the head is damaged.
#[must_use]
pub fn segment_base(head: &[u8]) -> Option<Position> {
    let base = head.get(8..16)?.try_into().ok()?;
    let base = Position(u64::from_le_bytes(base));
    (head.get(..SEGMENT_HEAD)? == segment_head(base)).then_some(base)
}

/// Appends an entry with a body in several parts.
///
/// # Panics
/// The body is longer than [`LONGEST`].
pub fn write_entry(body: &[&[u8]], out: &mut Vec<u8>) {
    let len: usize = body.iter().map(|part| part.len()).sum();
    assert!(len <= LONGEST, "an entry of {len} bytes");
    let len = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
    let sum = body.iter().fold(crc32c::crc32c(&len), |sum, part| crc32c::crc32c_append(sum, part));
    out.extend_from_slice(&len);
    out.extend_from_slice(&sum.to_le_bytes());
    body.iter().for_each(|part| out.extend_from_slice(part));
}

/// Returns how long the body is by the entry's own word, if `bytes` have as much.
pub(crate) fn claimed_length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    (length <= LONGEST && ENTRY_HEAD + length <= bytes.len()).then_some(length)
}

/// What stands at the beginning of some bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A whole entry with this body.
    Entry(&'a [u8]),
    /// An entry may continue behind the bytes: so many are needed.
    Short(usize),
    /// No entry.
    Damaged,
}

/// Parses the entry at the beginning of `bytes`.
#[must_use]
pub fn parse_entry(bytes: &[u8]) -> Parsed<'_> {
    let Some((len, rest)) = bytes.split_first_chunk() else { return Parsed::Short(ENTRY_HEAD) };
    let whole = u32::from_le_bytes(*len) as usize;
    if whole > LONGEST {
        return Parsed::Damaged;
    }
    let Some((sum, rest)) = rest.split_first_chunk() else { return Parsed::Short(ENTRY_HEAD) };
    let Some(body) = rest.get(..whole) else { return Parsed::Short(ENTRY_HEAD + whole) };
    if u32::from_le_bytes(*sum) == crc32c::crc32c_append(crc32c::crc32c(len), body) {
        Parsed::Entry(body)
    } else {
        Parsed::Damaged
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_of_zeros_is_none() {
        // A file system may leave zeros where bytes were not written before a power cut.
        assert_eq!(parse_entry(&[0; 64]), Parsed::Damaged);
        assert_eq!(segment_base(&[0; 64]), None);
    }

    #[test]
    fn a_head_names_its_base_and_is_known_to_be_damaged() {
        let head = segment_head(Position(1 << 40));
        assert_eq!(segment_base(&head), Some(Position(1 << 40)));
        for at in 0..20 {
            let mut damaged = head;
            damaged[at] ^= 1;
            assert_eq!(segment_base(&damaged), None, "byte {at}");
        }
        assert_eq!(segment_base(&head[..20]), None);
    }

    proptest! {
        #[test]
        fn an_entry_reads_as_it_was_written_and_no_damage_passes(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..4),
            at in any::<proptest::sample::Index>(),
            flip in 1..=u8::MAX,
        ) {
            let mut bytes = Vec::new();
            let body = parts.concat();
            write_entry(&parts.iter().map(|part| &part[..]).collect::<Vec<_>>(), &mut bytes);
            prop_assert_eq!(parse_entry(&bytes), Parsed::Entry(&body));
            for cut in 0..bytes.len() {
                prop_assert!(matches!(parse_entry(&bytes[..cut]), Parsed::Short(len) if len > cut));
            }
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(!matches!(parse_entry(&bytes), Parsed::Entry(_)));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse_entry(&bytes);
            let _ = segment_base(&bytes);
        }
    }
}
