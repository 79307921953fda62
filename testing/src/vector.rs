//! Test vectors: bytes with comments.

use std::path::Path;

/// Returns the bytes of a file in `fixtures/`: pairs of digits, and comments behind `#`.
///
/// # Panics
/// The file is not there, or has something else.
#[must_use]
pub fn vector(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name);
    let text = std::fs::read_to_string(&path).expect("a vector");
    text.lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace())
        .map(|pair| u8::from_str_radix(pair, 16).expect("two digits"))
        .collect()
}
