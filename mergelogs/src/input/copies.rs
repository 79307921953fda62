//! Finds inputs that hold the same lines as another input, such as `access.log.1` beside `access.log.1.gz`.

use std::io::{self, Read};
use std::path::PathBuf;

use crate::config::InputOrigin;
use crate::input::archive;
use crate::input::heads::InputHead;

/// Fewest bytes of a text that two files of unrelated names do not share by chance.
const TELLING: u64 = 1 << 10;
/// Bytes compared at once.
const BLOCK: usize = 64 << 10;

/// Returns each input that is a copy of one before it, in order, and the first input with these lines.
pub(crate) fn find<'a>(heads: impl Iterator<Item = &'a InputHead>) -> Vec<(usize, usize)> {
    let heads: Vec<_> = heads.collect();
    let original = |index: usize| {
        let head = heads[index];
        let digest = head.digest?;
        // Few digests are equal, so few files are read in full.
        let original = (0..index).find(|&of| {
            heads[of].digest == Some(digest)
                && heads[of].origin != head.origin
                && holds_the_same(&heads[of].origin, &head.origin)
        });
        original.map(|original| (index, original))
    };
    (0..heads.len()).filter_map(original).collect()
}

/// Compares the contents of two inputs. Inputs that cannot be read are left to the merge, which reports them.
fn holds_the_same(one: &InputOrigin, two: &InputOrigin) -> bool {
    let least = if are_related(one, two) { 1 } else { TELLING };
    let open = |origin| archive::open(origin, BLOCK, None);
    let (Ok(one), Ok(two)) = (open(one), open(two)) else { return false };
    equal_bytes(one.bytes, two.bytes).is_ok_and(|len| len.is_some_and(|len| len >= least))
}

/// Returns the number of bytes if both texts are equal.
fn equal_bytes(mut one: impl Read, mut two: impl Read) -> io::Result<Option<u64>> {
    let (mut left, mut right) = (Vec::with_capacity(BLOCK), Vec::with_capacity(BLOCK));
    let mut compared = 0;
    loop {
        left.clear();
        right.clear();
        one.by_ref().take(BLOCK as u64).read_to_end(&mut left)?;
        two.by_ref().take(BLOCK as u64).read_to_end(&mut right)?;
        if left != right {
            return Ok(None);
        }
        if left.is_empty() {
            return Ok(Some(compared));
        }
        compared += left.len() as u64;
    }
}

/// Returns whether two files have the same path but for an ending of compression.
fn are_related(one: &InputOrigin, two: &InputOrigin) -> bool {
    fn plain(origin: &InputOrigin) -> Option<PathBuf> {
        let InputOrigin::File(path) = origin else { return None };
        let packed = path
            .extension()
            .is_some_and(|ending| ["gz", "bz2", "xz", "zst"].iter().any(|known| ending == *known));
        Some(if packed { path.with_extension("") } else { path.clone() })
    }
    plain(one).is_some() && plain(one) == plain(two)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_compared_to_their_ends() {
        let long = vec![b'x'; 3 * BLOCK];
        let longer = [&long[..], b"y"].concat();
        assert_eq!(equal_bytes(&long[..], &long[..]).unwrap(), Some(3 * BLOCK as u64));
        assert_eq!(equal_bytes(&long[..], &longer[..]).unwrap(), None);
        assert_eq!(equal_bytes(&b""[..], &b""[..]).unwrap(), Some(0));
    }

    #[test]
    fn endings_of_compression_do_not_make_another_name() {
        let file = |name: &str| InputOrigin::File(name.into());
        assert!(are_related(&file("a/access.log.1"), &file("a/access.log.1.gz")));
        assert!(are_related(&file("a.log"), &file("a.log.zst")));
        assert!(!are_related(&file("web1/access.log"), &file("web2/access.log")));
        assert!(!are_related(&file("access.log.1"), &file("access.log.2.gz")));
        assert!(!are_related(&file("access.log"), &InputOrigin::Stdin));
    }
}
