//! Programs that are killed under traffic.

use pen_bench::delivery::{DeliveryCounts, killed_with_journal};

#[test]
fn a_collector_with_a_journal_that_is_killed_has_each_line_once() {
    let counts = killed_with_journal(2, 3).unwrap();
    assert!(counts.sent > 5_000, "{counts:?}");
    assert_eq!(counts, DeliveryCounts { lost: 0, doubled: 0, ..counts });
}
