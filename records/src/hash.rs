//! The one mixing function behind table keys and hashes of small values.

/// Mixes two numbers into one: for a fixed `a` different `b` give different results, and for a fixed `b`
/// different `a` do.
///
/// The multipliers are odd constants with well-spread bits (those of splitmix64 and rrmxmx). This is no
/// defence against chosen inputs.
#[must_use]
pub(crate) const fn mix(a: u64, b: u64) -> u64 {
    let mixed = b ^ a.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}
