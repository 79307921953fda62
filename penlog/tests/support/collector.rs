//! A real collector, and its log.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use pen_testing::program::sibling;
use pen_testing::wait::wait_for;
use pen_testing::{Program, TempFolder};

use super::RunningShipper;

/// A collector of this package that writes to a file of the folder.
pub(crate) fn collector(folder: &TempFolder, addr: SocketAddr) -> Program {
    collector_with(folder, addr, &[])
}

pub(crate) fn collector_with(folder: &TempFolder, addr: SocketAddr, more: &[&str]) -> Program {
    let mut command = Command::new(sibling("penlogd").expect("penlogd is built"));
    command
        .arg("-f")
        .arg("-l")
        .arg(folder.join("merged.log"))
        .args(["--wait", "1", "--report", "json"]);
    command.args(more).args(["--listen", &addr.to_string()]).stdin(Stdio::null());
    let program = Program::start("penlogd", &mut command).expect("the collector starts");
    program.wait_until_listening().expect("the collector listens");
    program
}

pub(crate) fn line(number: u64) -> Vec<u8> {
    format!("10.0.0.9 - - [22/Nov/2026:20:23:20 +0000] \"GET /{number} HTTP/1.1\" 200 5\n")
        .into_bytes()
}

/// How often each number is in the log.
pub(crate) fn numbers(folder: &TempFolder) -> HashMap<u64, u64> {
    let log = std::fs::read_to_string(folder.join("merged.log")).unwrap_or_default();
    let mut numbers = HashMap::new();
    // The last line may just be written.
    for line in log.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let number =
            line.split_once("GET /").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        *numbers.entry(number.expect("a whole line")).or_default() += 1;
    }
    numbers
}

pub(crate) fn wait_for_lines(folder: &TempFolder, count: u64) -> HashMap<u64, u64> {
    wait_for(format_args!("{count} lines are written"), || {
        Some(numbers(folder)).filter(|numbers| numbers.len() as u64 == count)
    })
}

/// Ships 40,000 lines while the collector is killed and started again, and checks that all have come and none was refused.
pub(crate) fn ship_through_a_kill(
    folder: &TempFolder,
    mut start: impl FnMut() -> Program,
    ship: impl FnOnce() -> RunningShipper,
) {
    let mut first = start();
    let mut penlog = ship();
    let mut input = penlog.stdin();
    input.write_all(&(0..20_000).flat_map(line).collect::<Vec<u8>>()).expect("penlog reads");
    wait_for_lines(folder, 20_000);
    first.stop(Signal::SIGKILL).expect("the collector ends");
    let mut second = start();
    input.write_all(&(20_000..40_000).flat_map(line).collect::<Vec<u8>>()).expect("penlog reads");
    drop(input);
    assert!(penlog.wait().success(), "{}", penlog.said());
    wait_for_lines(folder, 40_000);
    let report = report(&mut second);
    assert!(report.contains("\"adds_up\":true") && report.contains("\"refused\":0"), "{report}");
}

pub(crate) fn report(collector: &mut Program) -> String {
    collector.stop(Signal::SIGTERM).expect("the collector ends");
    let said = collector.messages();
    said.lines().rfind(|line| line.contains("adds_up")).expect("a report").to_owned()
}
