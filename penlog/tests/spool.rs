//! With a spool, penlog on a pipe or a FIFO loses no line when it is killed, and sends none twice.

mod support;

use std::io::{PipeReader, PipeWriter, Write as _, pipe};
use std::net::{SocketAddr, UdpSocket};

use nix::sys::signal::Signal;
use pen_testing::random::SeededRandom;
use pen_testing::{TempFolder, wait_until};
use support::{RunningShipper, TestCollector, expect_each_once, lines};

/// Starts a shipper that reads a pipe and keeps its lines in a spool.
fn spool(
    addr: SocketAddr,
    folder: &TempFolder,
    input: &PipeReader,
    more: &[&str],
) -> RunningShipper {
    let path = folder.join("spool");
    let mut args = vec!["--spool", path.to_str().expect("UTF-8")];
    args.extend(more);
    RunningShipper::reading(addr, input.try_clone().expect("a descriptor"), &args)
}

fn text(numbers: std::ops::Range<u32>) -> Vec<u8> {
    numbers.flat_map(|number| format!("line {number}\n").into_bytes()).collect()
}

/// Segments with at least one byte.
fn segments(folder: &TempFolder) -> u64 {
    let Ok(runs) = std::fs::read_dir(folder.join("spool")) else { return 0 };
    let files = runs.flatten().filter_map(|run| std::fs::read_dir(run.path()).ok()).flatten();
    let segments = files.flatten().filter(|file| file.path().extension().is_some());
    segments.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
}

fn write(mut output: &PipeWriter, bytes: &[u8]) {
    output.write_all(bytes).expect("the pipe is read");
}

/// An address where nothing listens.
fn nobody() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address")
}

#[test]
fn killed_again_and_again_it_ships_each_line_of_a_pipe_once() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    let (input, output) = pipe().expect("a pipe");
    let mut random = SeededRandom::new(1);
    let (mut came, mut written) = (Vec::new(), 0);
    for _ in 0..8 {
        let penlog = spool(collector.addr, &folder, &input, &[]);
        for _ in 0..1 + random.below(4) {
            let part = 1 + u32::try_from(random.below(20_000)).unwrap();
            // In parts that end within lines.
            for bytes in text(written..written + part).chunks(1 + random.below(5_000)) {
                write(&output, bytes);
            }
            written += part;
            came.extend(collector.take(1 + random.below(part as usize / 2 + 1).min(1_000)));
        }
        penlog.kill();
        came.extend(collector.lines.try_iter());
    }
    let mut penlog = spool(collector.addr, &folder, &input, &[]);
    expect_each_once(&collector, came, written);
    drop(output);
    assert!(penlog.wait().success());
    assert_eq!(std::fs::read_dir(folder.join("spool")).unwrap().count(), 0, "nothing is left");
}

#[test]
fn what_a_killed_run_had_not_sent_is_sent_by_the_next_and_a_torn_line_is_ended() {
    let folder = TempFolder::new();
    let (input, output) = pipe().expect("a pipe");
    let penlog = spool(nobody(), &folder, &input, &[]);
    write(&output, b"one\ntwo\nhal");
    wait_until("the segment", || segments(&folder) == 11);
    penlog.kill();
    drop((input, output));
    // Another pipe: the rest of the line will not come.
    let (input, output) = pipe().expect("a pipe");
    let collector = TestCollector::start();
    let mut penlog = spool(collector.addr, &folder, &input, &[]);
    write(&output, b"three\n");
    assert_eq!(collector.take(4), lines(&["one", "two", "hal", "three"]));
    drop(output);
    assert!(penlog.wait().success());
    assert!(collector.lines.try_recv().is_err());
}

#[test]
fn a_torn_line_of_the_same_pipe_is_finished() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    let (input, output) = pipe().expect("a pipe");
    let penlog = spool(collector.addr, &folder, &input, &[]);
    write(&output, b"one\nhal");
    wait_until("the segment", || segments(&folder) == 7);
    assert_eq!(collector.take(1), lines(&["one"]));
    penlog.kill();
    let _penlog = spool(collector.addr, &folder, &input, &[]);
    write(&output, b"f\n");
    assert_eq!(collector.take(1), lines(&["half"]));
}

#[test]
fn a_full_spool_drops_whole_lines_counts_them_and_never_blocks_the_writer() {
    let folder = TempFolder::new();
    let (input, output) = pipe().expect("a pipe");
    let addr = nobody();
    let mut penlog = spool(addr, &folder, &input, &["--spool-size", "1", "--queue", "2"]);
    let written = 300_000;
    write(&output, &text(0..written));
    penlog.says("new lines are dropped");
    drop(output);
    let collector = TestCollector::on(UdpSocket::bind(addr).expect("the port is free"), 0);
    // Lines were dropped, and the exit status says so.
    assert_eq!(penlog.wait().code(), Some(1), "{}", penlog.said());
    let (_, came) = {
        let seen = collector.seen();
        let (addr, came) = collector.stop();
        assert_eq!(came.len() as u64 + seen.counts.dropped, u64::from(written));
        assert!(seen.counts.dropped > 0);
        (addr, came)
    };
    let mut numbers = came.iter().map(|line| {
        let text = std::str::from_utf8(line).expect("a line of ours");
        text.strip_prefix("line ").and_then(|number| number.parse::<u32>().ok())
    });
    let mut last = None;
    assert!(
        numbers.all(|number| number.is_some() && std::mem::replace(&mut last, number) < number)
    );
}

#[test]
fn what_another_run_leaves_is_taken_over_when_it_has_ended() {
    let folder = TempFolder::new();
    let (old_input, old_output) = pipe().expect("a pipe");
    let old = spool(nobody(), &folder, &old_input, &[]);
    write(&old_output, b"old\n");
    wait_until("the segment", || segments(&folder) == 4);
    let collector = TestCollector::start();
    let (input, output) = pipe().expect("a pipe");
    let mut new = spool(collector.addr, &folder, &input, &[]);
    write(&output, b"new\n");
    assert_eq!(collector.take(1), lines(&["new"]), "the old one lives");
    old.kill();
    assert_eq!(collector.take(1), lines(&["old"]));
    new.signal(Signal::SIGINT);
    assert!(new.wait().success());
}

#[test]
fn a_fifo_has_a_spool_too() {
    let (collector, folder) = (TestCollector::start(), TempFolder::new());
    let (fifo, path) = (folder.join("fifo"), folder.join("spool"));
    let [fifo, path] = [&fifo, &path].map(|path| path.to_str().expect("UTF-8"));
    let args = ["--fifo", fifo, "--spool", path];
    let penlog = RunningShipper::to(collector.addr, &args);
    wait_until("the FIFO", || folder.join("fifo").exists());
    std::fs::write(fifo, "one\n").expect("it is read");
    assert_eq!(collector.take(1), lines(&["one"]));
    penlog.kill();
    let mut penlog = RunningShipper::to(collector.addr, &args);
    let mut output = std::fs::OpenOptions::new().write(true).open(fifo).expect("it is there");
    output.write_all(b"two\n").expect("it is read");
    assert_eq!(collector.take(1), lines(&["two"]));
    penlog.signal(Signal::SIGTERM);
    assert!(penlog.wait().success());
    assert!(collector.lines.try_recv().is_err());
}
