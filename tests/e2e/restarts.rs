//! Programs that are killed under traffic, a bad network, and an attacker.

use pen_bench::attack::forged_lines_and_clients;
use pen_bench::delivery::{DeliveryCounts, killed_with_journal, sent_by_a_bad_network};

#[test]
fn a_collector_with_a_journal_that_is_killed_has_each_line_once() {
    let counts = killed_with_journal(2, 3).unwrap();
    assert!(counts.sent > 1_000, "{counts:?}");
    assert_eq!(counts, DeliveryCounts { lost: 0, doubled: 0, ..counts });
}

#[test]
fn lines_that_a_network_loses_doubles_and_delays_are_in_the_log_once() {
    let counts = sent_by_a_bad_network(1).unwrap();
    assert!(counts.sent > 2_000, "{counts:?}");
    assert_eq!(counts, DeliveryCounts { lost: 0, doubled: 0, ..counts });
}

#[test]
fn with_keys_no_line_and_no_client_of_a_stranger_is_in_the_log() {
    if !nix::unistd::geteuid().is_root() {
        return; // only root has a network of its own, where strangers are
    }
    assert_eq!(forged_lines_and_clients(true).unwrap(), [0, 0]);
}
