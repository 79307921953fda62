//! Segment files with any bytes: never a panic, never an endless loop, and always a start behind them.

mod checks;

use proptest::prelude::*;

/// A segment's kind, and its content.
fn segment() -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..80)).prop_map(|(kind, content)| {
        let len = u16::try_from(content.len()).expect("it is short").to_le_bytes();
        [&[kind][..], &len, &content].concat()
    })
}

proptest! {
    #[test]
    fn no_segments_make_it_panic(parts in proptest::collection::vec(segment(), 0..6)) {
        checks::segments(&parts.concat());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        checks::segments(&bytes);
    }
}

#[test]
fn positions_at_the_end_of_all_numbers_are_no_panic() {
    let highest = 1 << 62;
    for base in [u64::MAX, u64::MAX - 1, u64::MAX - 20, u64::MAX - 100, highest, highest - 1] {
        for kind in [2, 6, 14] {
            let mut content = base.to_le_bytes().to_vec();
            content.resize(100, 7);
            checks::segments(&[&[kind, 100, 0][..], &content].concat());
        }
    }
}
