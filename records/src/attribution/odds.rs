//! Converts costs, in thousandths of a natural logarithm, to weights.

use crate::attribution::costs;

/// Returns 2^16 times e to the power of minus `cost` thousandths, accurate to a few parts in a
/// hundred.
pub(crate) fn weight(cost: i64) -> u64 {
    if cost >= costs::NEGLIGIBLE {
        return 0;
    }
    // A thousandth of a natural logarithm is 1.4427 thousandths of one to base 2: 1.4773 of 1,024.
    let halvings = (cost.max(0).unsigned_abs() * 96_816) >> 16;
    let (whole, part) = (halvings >> 10, halvings & 1_023);
    // Between two powers of two the curve is close to a straight line.
    ((1 << 16) - (part << 5)) >> whole
}
