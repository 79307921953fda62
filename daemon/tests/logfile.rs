//! Log files on real disks and on `/dev/full`.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::time::{Duration, Instant};

use pen_daemon::logfile::{Buffering, LogFile};
use pen_testing::TempFolder;

const BOUND: usize = 64 * 1024;

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

#[test]
fn lines_wait_for_company_but_not_for_long() {
    let folder = TempFolder::new();
    let path = folder.join("log");
    let start = Instant::now();
    let mut log = LogFile::open(&path, Buffering::Blocks, BOUND).unwrap();
    log.buffer().extend_from_slice(b"one\n");
    log.settle(start);
    assert_eq!(fs::read(&path).unwrap(), b"");
    let due = log.next_due().expect("a line waits");
    assert!(due <= start + seconds(1));
    log.settle(due);
    assert_eq!(fs::read(&path).unwrap(), b"one\n");
    assert_eq!(log.next_due(), None);
}

#[test]
fn a_line_buffered_log_is_written_at_once() {
    let folder = TempFolder::new();
    let path = folder.join("log");
    let mut log = LogFile::open(&path, Buffering::Lines, BOUND).unwrap();
    log.buffer().extend_from_slice(b"one\n");
    log.settle(Instant::now());
    assert_eq!(fs::read(&path).unwrap(), b"one\n");
}

#[test]
fn a_rotation_loses_nothing() {
    let folder = TempFolder::new();
    let (path, old) = (folder.join("log"), folder.join("log.1"));
    let now = Instant::now();
    let mut log = LogFile::open(&path, Buffering::Blocks, BOUND).unwrap();
    log.buffer().extend_from_slice(b"one\n");
    fs::rename(&path, &old).unwrap();
    log.reopen(now);
    log.buffer().extend_from_slice(b"two\n");
    log.finish(now);
    assert_eq!(fs::read(&old).unwrap(), b"one\n");
    assert_eq!(fs::read(&path).unwrap(), b"two\n");
}

#[test]
fn a_rotation_into_a_vanished_folder_keeps_the_old_file_and_recovers() {
    let folder = TempFolder::new();
    let (sub, path) = (folder.join("sub"), folder.join("sub/log"));
    let aside = folder.join("aside");
    fs::create_dir(&sub).unwrap();
    let now = Instant::now();
    let mut log = LogFile::open(&path, Buffering::Blocks, BOUND).unwrap();
    fs::rename(&path, &aside).unwrap();
    fs::remove_dir(&sub).unwrap();
    log.reopen(now);
    log.buffer().extend_from_slice(b"one\n");
    log.settle(now + seconds(2));
    assert_eq!(fs::read(&aside).unwrap(), b"one\n");
    fs::create_dir(&sub).unwrap();
    log.buffer().extend_from_slice(b"two\n");
    log.settle(now + seconds(4));
    assert_eq!(fs::read(&path).unwrap(), b"two\n");
    assert_eq!(log.counts().written, 2);
}

#[test]
fn a_removed_file_is_made_again_without_being_told() {
    let folder = TempFolder::new();
    let path = folder.join("log");
    let now = Instant::now();
    let mut log = LogFile::open(&path, Buffering::Lines, BOUND).unwrap();
    fs::remove_file(&path).unwrap();
    log.buffer().extend_from_slice(b"one\n");
    log.settle(now);
    assert_eq!(fs::read(&path).unwrap(), b"one\n");
}

#[test]
fn a_full_disk_drops_the_newest_lines_beyond_the_bound_and_counts_them() {
    let now = Instant::now();
    let mut log = LogFile::open("/dev/full".as_ref(), Buffering::Lines, BOUND).unwrap();
    for second in 0..3 {
        for _ in 0..10_000 {
            log.buffer().extend_from_slice(b"a line\n");
        }
        log.settle(now + seconds(second));
    }
    let counts = log.counts();
    assert_eq!((counts.written, counts.failures), (0, 1));
    assert_eq!(counts.dropped + counts.waiting, 30_000);
    assert!(log.buffer().len() <= BOUND);
    log.finish(now);
    assert_eq!(log.counts().dropped, 30_000);
}

#[test]
fn a_line_that_a_crash_cut_short_is_ended() {
    let folder = TempFolder::new();
    let path = folder.join("log");
    fs::write(&path, "whole\npar").unwrap();
    let mut log = LogFile::open(&path, Buffering::Lines, BOUND).unwrap();
    log.buffer().extend_from_slice(b"next\n");
    log.finish(Instant::now());
    assert_eq!(fs::read_to_string(&path).unwrap(), "whole\npar\nnext\n");
}

#[test]
fn a_log_is_not_for_everybody_and_not_written_through_the_link_of_another_user() {
    let folder = TempFolder::new();
    let path = folder.join("log");
    drop(LogFile::open(&path, Buffering::Lines, BOUND).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
    let [own, other] = ["own", "other"].map(|name| folder.join(name));
    symlink("log", &own).unwrap();
    let mut log = LogFile::open(&own, Buffering::Lines, BOUND).unwrap();
    log.buffer().extend_from_slice(b"one\n");
    log.settle(Instant::now());
    assert_eq!(fs::read(&path).unwrap(), b"one\n");
    symlink("own", &other).unwrap();
    // Only root can give a link away.
    if lchown(&other, Some(12_345), None).is_ok() {
        let error = LogFile::open(&other, Buffering::Lines, BOUND).unwrap_err();
        assert!(error.to_string().contains("another user (12345)"), "{error}");
    }
}
