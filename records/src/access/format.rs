//! A pasted format string.

use std::fmt;

/// What is wrong with a format string, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatError {
    at: usize,
}

impl FormatError {
    pub(super) fn unknown() -> Self {
        Self { at: 0 }
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown format at byte {}", self.at)
    }
}

impl std::error::Error for FormatError {}
