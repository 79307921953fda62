//! CRC-32C, as a header may carry it. Bit by bit: headers are short, and few carry one.

/// Its polynomial, lowest bit first.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// Whether `value`, which stands `at` a byte of `whole`, is the checksum of the rest with zeros in
/// its own place.
pub(super) fn fits(whole: &[u8], at: usize, value: &[u8]) -> bool {
    let Ok(value) = value.try_into().map(u32::from_be_bytes) else { return false };
    let zeros = at..at + 4;
    let bytes = (0..).zip(whole).map(|(at, &byte)| if zeros.contains(&at) { 0 } else { byte });
    of(bytes) == value
}

pub(super) fn of(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ if sum & 1 == 1 { POLYNOMIAL } else { 0 }
        })
    })
}
