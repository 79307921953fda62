//! The CRC-32C checksum that a PROXY header of version 2 may carry.

use crc32c::crc32c_append;

/// Returns whether `value`, which lies `at` a byte of `header`, is the checksum of the header with zeros in
/// place of the value.
pub(super) fn fits(header: &[u8], at: usize, value: &[u8]) -> bool {
    let Ok(value) = value.try_into().map(u32::from_be_bytes) else { return false };
    of(&[&header[..at], &[0; 4], &header[at + 4..]]) == value
}

/// Returns the checksum of some bytes in several parts.
pub(super) fn of(parts: &[&[u8]]) -> u32 {
    parts.iter().fold(0, |sum, part| crc32c_append(sum, part))
}
