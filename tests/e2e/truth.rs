//! Traffic in which many ask for the same: no line may be lost, none may be wrong that claims to be
//! certain, and the C programs have to be beaten on the same input.

use pen_bench::ActionError;
use pen_bench::accuracy::{ROWS, Row, live, offline};
use pen_bench::stage::{Score, sibling};

#[test]
fn our_collector_knows_what_it_does_not_know() {
    let (_penlogd, _penlog) = (sibling("penlogd").unwrap(), sibling("penlog").unwrap());
    let found = live(row("slow"), 400, 5).unwrap();
    for ours in [found.ours, found.shipped] {
        assert_better(&ours.ok_or_else(not_built).unwrap(), &found.c);
    }
}

#[test]
fn mergelogs_knows_what_it_does_not_know() {
    let _mergelogs = sibling("mergelogs").unwrap();
    let found = offline(row("keep-alive"), 400, 5).unwrap();
    assert_better(&found.ours.ok_or_else(not_built).unwrap(), &found.c);
}

#[test]
fn what_passes_through_as_tls_is_not_guessed_at() {
    let ours = offline(row("tls"), 60, 5).unwrap().ours.ok_or_else(not_built).unwrap();
    assert_eq!((ours.none, ours.written, ours.lost()), (ours.lines, ours.lines, 0), "{ours:?}");
}

fn assert_better(ours: &Score, c: &Score) {
    assert_eq!((ours.lost(), ours.doubled, ours.strange), (0, 0, 0), "{ours:?}");
    assert_eq!(ours.certain + ours.likely + ours.none, ours.lines, "{ours:?}");
    assert!(ours.certain_wrong <= ours.certain.div_ceil(1_000), "{ours:?}");
    assert!(ours.right > c.right, "ours {ours:?}, the C program's {c:?}");
}

fn row(name: &str) -> &'static Row {
    ROWS.iter().find(|row| row.name == name).expect("the row is in the table")
}

fn not_built() -> ActionError {
    ActionError::new("a program of ours does not answer to --help")
}
