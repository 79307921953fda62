//! Memory of held lines. Lines leave in the order they came, so large chunks are filled at one end and emptied at
//! the other, without an allocation per line.

use std::collections::VecDeque;

/// Size of a chunk in bytes; a longer line gets its own chunk.
const CHUNK: usize = 256 * 1024;

/// Number of empty chunks kept for reuse.
const SPARE: usize = 8;

/// A queue of byte strings whose lengths the owner remembers.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    chunks: VecDeque<Vec<u8>>,
    /// Offset in the first chunk of the oldest line.
    taken: usize,
    spare: Vec<Vec<u8>>,
    /// Bytes of all held lines.
    len: usize,
}

impl Arena {
    /// Returns the bytes of all held lines.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends a line, contiguous in memory.
    pub(crate) fn push(&mut self, line: &[u8]) {
        self.len += line.len();
        if let Some(chunk) = self.chunks.back_mut()
            && chunk.capacity() - chunk.len() >= line.len()
        {
            chunk.extend_from_slice(line);
            return;
        }
        let mut chunk = match self.spare.pop() {
            Some(chunk) if chunk.capacity() >= line.len() => chunk,
            _ => Vec::with_capacity(CHUNK.max(line.len())),
        };
        chunk.extend_from_slice(line);
        self.chunks.push_back(chunk);
    }

    /// Removes the oldest line, of `len` bytes, and hands it to `read`.
    pub(crate) fn pop<R>(&mut self, len: usize, read: impl FnOnce(&[u8]) -> R) -> R {
        while let Some(first) = self.chunks.front()
            && self.taken == first.len()
            && len > 0
        {
            self.drop_first();
        }
        let first = self.chunks.front().map_or(&b""[..], |first| &first[self.taken..]);
        let result = read(first.get(..len).unwrap_or_default());
        self.taken += len;
        self.len -= len;
        if self.len == 0 {
            while !self.chunks.is_empty() {
                self.drop_first();
            }
        }
        result
    }

    fn drop_first(&mut self) {
        self.taken = 0;
        if let Some(mut chunk) = self.chunks.pop_front()
            && self.spare.len() < SPARE
            && chunk.capacity() <= CHUNK
        {
            chunk.clear();
            self.spare.push(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lines_come_out_as_they_went_in(
            lens in vec(prop_oneof![0_usize..300, 0_usize..70_000, 250_000_usize..300_000], 1..60),
            pops in vec(any::<bool>(), 60),
        ) {
            let mut arena = Arena::default();
            let line = |index: usize, len| vec![u8::try_from(index).unwrap(); len];
            let mut next = 0;
            for (index, (&len, pop)) in lens.iter().zip(pops).enumerate() {
                arena.push(&line(index, len));
                if pop {
                    arena.pop(lens[next], |got| assert_eq!(got, line(next, lens[next])));
                    next += 1;
                }
                prop_assert_eq!(arena.len(), lens[next..=index].iter().sum::<usize>());
            }
            for (index, &len) in lens.iter().enumerate().skip(next) {
                arena.pop(len, |got| assert_eq!(got, line(index, len)));
            }
            prop_assert_eq!(arena.len(), 0);
        }
    }
}
