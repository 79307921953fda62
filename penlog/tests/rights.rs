//! What the kernel says of a running shipper's rights.

mod support;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Stdio;

use nix::sys::signal::Signal;
use nix::unistd::{Uid, chown};
use pen_testing::TempFolder;
use pen_testing::wait::wait_for;
use support::{RunningShipper, TestCollector, lines};

/// `CAP_DAC_OVERRIDE`, which root keeps to open files of others.
const OPEN_ALL: u64 = 1 << 1;
const NOBODY: u32 = 65_534;

/// The first number of a field of `/proc/PID/status`, once the reading thread runs, which is started with the rights that are left.
fn status(penlog: &RunningShipper, field: &str, radix: u32) -> u64 {
    let tasks = format!("/proc/{}/task", penlog.pid());
    let thread = wait_for("the reader runs", || {
        let threads = fs::read_dir(&tasks).ok()?.flatten().map(|thread| thread.path());
        let is_reader = |path: &std::path::PathBuf| {
            fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "reader\n")
        };
        threads.into_iter().find(is_reader)
    });
    let text = fs::read_to_string(thread.join("status")).expect("it runs");
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"));
    let value =
        value.and_then(|value| value.split_whitespace().next()).expect("the field is there");
    u64::from_str_radix(value, radix).expect("a number")
}

fn rights(penlog: &RunningShipper) -> (u64, u64, u64) {
    assert_eq!(status(penlog, "NoNewPrivs", 10), 1);
    (status(penlog, "Uid", 10), status(penlog, "CapEff", 16), status(penlog, "CapPrm", 16))
}

fn is_root() -> bool {
    Uid::effective().is_root()
}

fn own() -> (u64, u64, u64) {
    let kept = if is_root() { OPEN_ALL } else { 0 };
    (Uid::effective().as_raw().into(), kept, kept)
}

#[test]
fn a_piped_shipper_is_nobody_and_ships() {
    let collector = TestCollector::start();
    let mut penlog = RunningShipper::to(collector.addr, &[]);
    let mut stdin = penlog.stdin();
    stdin.write_all(b"one\n").unwrap();
    let expected = if is_root() { (NOBODY.into(), 0, 0) } else { own() };
    assert_eq!(rights(&penlog), expected);
    assert_eq!(collector.take(1), lines(&["one"]));
    drop(stdin);
    assert!(penlog.wait().success(), "{}", penlog.said());
}

#[test]
fn a_spool_is_read_by_its_owner() {
    for owner in [None, Some(NOBODY)].into_iter().filter(|owner| owner.is_none() || is_root()) {
        let (folder, collector) = (TempFolder::new(), TestCollector::start());
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), mode).unwrap();
        let spool = folder.join("spool");
        fs::create_dir(&spool).unwrap();
        chown(&spool, owner.map(Uid::from_raw), None).unwrap();
        let mut penlog = RunningShipper::to(collector.addr, &["--spool", &spool.to_string_lossy()]);
        let mut stdin = penlog.stdin();
        stdin.write_all(b"one\n").unwrap();
        let expected = owner.map_or_else(own, |owner| (owner.into(), 0, 0));
        assert_eq!(rights(&penlog), expected);
        assert_eq!(collector.take(1), lines(&["one"]));
        drop(stdin);
        assert!(penlog.wait().success(), "{}", penlog.said());
    }
}

#[test]
fn a_user_gets_its_spool_and_root_may_stay_root() {
    if !is_root() {
        return;
    }
    let (folder, collector) = (TempFolder::new(), TestCollector::start());
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let spool = folder.join("spool");
    let options = ["--user", "65534", "--spool", &spool.to_string_lossy()];
    let mut penlog = RunningShipper::to(collector.addr, &options);
    let mut stdin = penlog.stdin();
    stdin.write_all(b"one\n").unwrap();
    assert_eq!(rights(&penlog), (NOBODY.into(), 0, 0));
    assert_eq!(fs::metadata(&spool).unwrap().uid(), NOBODY);
    drop(stdin);
    assert!(penlog.wait().success(), "{}", penlog.said());
    let mut penlog = RunningShipper::to(collector.addr, &["--user", "root"]);
    let mut stdin = penlog.stdin();
    stdin.write_all(b"two\n").unwrap();
    assert_eq!(rights(&penlog), (0, OPEN_ALL, OPEN_ALL));
    drop(stdin);
    assert!(penlog.wait().success(), "{}", penlog.said());
}

#[test]
fn a_follower_reads_files_and_folders_that_appear_later_and_keeps_its_state() {
    let (folder, collector) = (TempFolder::new(), TestCollector::start());
    let (state, pattern) = (folder.join("state"), folder.join("*/log"));
    let options = [
        "--state",
        &state.to_string_lossy(),
        "--from-start",
        "--follow",
        &pattern.to_string_lossy(),
    ];
    let penlog = RunningShipper::reading(collector.addr, Stdio::null(), &options);
    assert_eq!(rights(&penlog), own());
    fs::create_dir(folder.join("later")).unwrap();
    folder.write("later/log", "one\n");
    assert_eq!(collector.take(1), lines(&["one"]));
    wait_for("the state is written", || {
        fs::read_to_string(&state).ok().filter(|text| text.contains("later"))
    });
    penlog.signal(Signal::SIGINT);
}
