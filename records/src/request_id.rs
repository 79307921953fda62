//! The id of a request: a text that a balancer makes up, logs, and sends to the server in a header.

use std::num::NonZeroU64;

use xxhash_rust::xxh3::xxh3_64;

/// The fewest bytes of an id. Shorter texts are counters and words such as `-`, `unknown` and `0`.
const LEAST: usize = 8;

/// The hash of an id's text. Two of a window's ids share a hash once in 10^10 windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(NonZeroU64);

impl RequestId {
    /// Returns the id with this text; `None` if the text is too short or too plain for one.
    #[must_use]
    pub fn of(text: &[u8]) -> Option<Self> {
        let text = text.trim_ascii();
        let (&first, rest) = text.split_first().filter(|_| text.len() >= LEAST)?;
        if rest.iter().all(|&byte| byte == first) {
            return None;
        }
        Some(Self(NonZeroU64::new(xxh3_64(text)).unwrap_or(NonZeroU64::MIN)))
    }

    /// Returns the hash.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_words_are_no_ids() {
        for text in ["", "-", "17", "unknown", "1234567", "--------", "00000000-"] {
            let is_id = text == "00000000-";
            assert_eq!(RequestId::of(text.as_bytes()).is_some(), is_id, "{text}");
        }
        let id = RequestId::of(b"6f2a9b0c4d1e8f7a");
        assert_eq!(id, RequestId::of(b" 6f2a9b0c4d1e8f7a "));
        assert_ne!(id, RequestId::of(b"6f2a9b0c4d1e8f7b"));
    }
}
