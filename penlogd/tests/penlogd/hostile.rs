//! A world that means no good: killed, flooded, nobody reads, no room left. Whatever happens, what was
//! received was written or is counted.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use pen_records::shipment::{Push, SendStamp, SenderOrigin, ShipmentServer, ShipmentWriter};
use pen_records::time::Timestamp;
use pen_testing::TempFolder;

use crate::support::{RunningCollector, line, wait_for_file};

/// A line with a number and some length.
fn numbered(number: usize) -> String {
    line("10.0.0.1", &format!("GET /{number} HTTP/1.1"))
}

/// The numbers after a word of the log's balance, in the last report.
fn of_log(said: &str, what: &str) -> usize {
    let log = said.lines().rfind(|line| line.contains("balance: log:")).expect("a report");
    let (before, _) = log.split_once(&format!(" {what}")).expect(what);
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Sends so many numbered lines that none is dropped on the way: the collector says how many came.
fn send_lines(collector: &mut RunningCollector, numbers: std::ops::Range<usize>) {
    let socket = UdpSocket::bind("127.0.0.2:0").expect("loopback");
    let end = numbers.end;
    for number in numbers {
        socket.send_to(numbered(number).as_bytes(), collector.addr).expect("loopback takes it");
        if number % 200 == 199 || number + 1 == end {
            collector.wait_until(|said| of_log(said, "lines received") == number + 1);
        }
    }
}

#[test]
fn a_standard_output_that_nobody_reads_stops_nothing() {
    let mut collector = RunningCollector::start(&["--wait", "1", "--memory", "8"]);
    send_lines(&mut collector, 0..40_000);
    collector.wait_for_once("cannot write the standard output: nobody reads it");
    let (code, out, said) = collector.stop();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches("nobody reads it").count(), 1, "{said}");
    assert!(!said.contains("NOT ADD UP"), "{said}");
    assert!(of_log(&said, "dropped") > 0, "{said}");
    let whole = out.lines().filter(|line| line.ends_with("200 5")).count();
    assert_eq!(whole, of_log(&said, "written"), "{said}");
}

#[test]
fn a_reader_that_comes_late_gets_every_line() {
    let mut collector = RunningCollector::start(&["--wait", "1"]);
    send_lines(&mut collector, 0..20_000);
    collector.wait_for_once("nobody reads it");
    let mut stdout = collector.take_stdout();
    let reader = std::thread::spawn(move || {
        let mut out = String::new();
        stdout.read_to_string(&mut out).map(|_| out)
    });
    let (code, _, said) = collector.stop();
    let out = reader.join().expect("it reads").expect("text");
    assert_eq!((code, of_log(&said, "written")), (Some(0), 20_000), "{said}");
    assert!(out.lines().eq((0..20_000).map(numbered).collect::<String>().lines()));
}

#[test]
fn a_named_pipe_is_written_whether_or_not_somebody_reads() {
    let folder = TempFolder::new();
    let pipe = folder.join("pipe");
    nix::unistd::mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).expect("a pipe");
    let mut collector = RunningCollector::start(&["--wait", "1", "-l", pipe.to_str().unwrap()]);
    collector.signal(Signal::SIGHUP);
    collector.wait_for("reopened");
    send_lines(&mut collector, 0..100);
    let mut reader = File::open(&pipe).expect("somebody writes");
    let (code, ..) = collector.stop();
    let mut out = String::new();
    reader.read_to_string(&mut out).expect("text");
    assert_eq!((code, out), (Some(0), (0..100).map(numbered).collect()));
}

#[test]
fn messages_that_nobody_reads_stop_nothing() {
    let folder = TempFolder::new();
    let log = folder.join("log");
    let collector = RunningCollector::start(&["-b", "--wait", "1", "-l", log.to_str().unwrap()]);
    for number in 0..200 {
        collector.signal(Signal::SIGUSR1);
        let line = numbered(number);
        collector.send("127.0.0.2", &[&line]);
        wait_for_file(&log, |text| text.ends_with(&line));
    }
    let (code, ..) = collector.stop();
    assert_eq!(code, Some(0));
}

#[test]
fn a_flood_of_messages_does_not_silence_the_balance() {
    let folder = TempFolder::new();
    let log = folder.join("log");
    let collector = RunningCollector::start(&["-l", log.to_str().unwrap()]);
    for _ in 0..300 {
        collector.signal(Signal::SIGHUP);
        collector.signal(Signal::SIGUSR1);
        collector.wait_for("bytes wait now");
    }
    let (code, _, said) = collector.stop();
    assert_eq!((code, said.matches("balance: log:").count()), (Some(0), 301));
}

#[test]
fn a_killed_collector_leaves_whole_lines_but_the_last_and_the_next_goes_on_behind_them() {
    let folder = TempFolder::new();
    let log = folder.join("log");
    let mut last = String::new();
    let mut torn = 0;
    for life in 0..5 {
        let mut collector = RunningCollector::start(&["--wait", "1", "-l", log.to_str().unwrap()]);
        send_lines(&mut collector, 0..200 * (life + 1));
        wait_for_file(&log, |text| text.len() > last.len() + 1);
        collector.signal(Signal::SIGKILL);
        assert_eq!(collector.wait().0, None);
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.starts_with(&last), "what was there stays");
        // The kernel may stop in the midst of a write; the next life ends that line.
        torn += usize::from(!text.ends_with('\n'));
        let halves: Vec<_> = text.lines().filter(|line| !line.ends_with("200 5")).collect();
        assert!(halves.len() <= torn, "{halves:?}");
        let begins = |half: &&str| {
            numbered(0).as_bytes().starts_with(&half.as_bytes()[..half.len().min(40)])
        };
        assert!(halves.iter().all(begins), "{halves:?}");
        last = text;
    }
}

/// A small disk of its own; `None` where none can be had.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn new(at: &'a Path) -> Option<Self> {
        fs::create_dir(at).expect("a folder");
        let disk = Self::mount(at, "size=64k");
        if !disk {
            println!("skipped: needs root, to mount a small disk");
        }
        disk.then_some(Self(at))
    }

    fn mount(at: &Path, options: &str) -> bool {
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(at).output();
        mount.is_ok_and(|done| done.status.success())
    }

    fn grow(&self) {
        assert!(Self::mount(self.0, "remount,size=16m"));
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0).status().expect("it is mounted");
    }
}

#[test]
fn a_full_disk_is_waited_for_and_gets_whole_lines_in_order() {
    let folder = TempFolder::new();
    let at = folder.join("disk");
    let Some(disk) = Disk::new(&at) else { return };
    let log = at.join("log");
    let args = ["--wait", "1", "--memory", "8", "-l", log.to_str().unwrap()];
    let mut collector = RunningCollector::start(&args);
    send_lines(&mut collector, 0..30_000);
    collector.wait_for_once("No space left on device");
    collector.wait_until(|said| of_log(said, "dropped") > 0);
    disk.grow();
    collector.wait_for_once("lines were dropped");
    send_lines(&mut collector, 30_000..30_100);
    let (code, _, said) = collector.stop();
    assert_eq!(code, Some(0));
    assert_eq!(said.matches("cannot write").count(), 1, "{said}");
    assert!(!said.contains("NOT ADD UP"), "{said}");
    let text = fs::read_to_string(&log).unwrap();
    let number = |line: &str| line.split('/').nth(3)?.split(' ').next()?.parse::<usize>().ok();
    let numbers: Vec<_> = text.lines().map(|line| number(line).expect("a number")).collect();
    assert_eq!(numbers.len(), of_log(&said, "written"));
    assert!(numbers.is_sorted_by(|one, next| one < next));
    assert!(numbers.ends_with(&(30_000..30_100).collect::<Vec<_>>()));
}

#[test]
fn lines_wait_for_a_folder_that_was_removed() {
    let folder = TempFolder::new();
    let (sub, log) = (folder.join("sub"), folder.join("sub/log"));
    fs::create_dir(&sub).unwrap();
    let mut collector = RunningCollector::start(&["--wait", "1", "-l", log.to_str().unwrap()]);
    send_lines(&mut collector, 0..10);
    wait_for_file(&log, |text| text.lines().count() == 10);
    fs::remove_dir_all(&sub).unwrap();
    send_lines(&mut collector, 10..500);
    collector.wait_for_once("it was removed, lines are kept for now");
    fs::create_dir(&sub).unwrap();
    collector.wait_for("reopened");
    let (code, _, said) = collector.stop();
    assert_eq!((code, of_log(&said, "written")), (Some(0), 500), "{said}");
    assert_eq!(said.matches("cannot reopen").count(), 1, "{said}");
    assert_eq!(fs::read_to_string(&log).unwrap(), (10..500).map(numbered).collect::<String>());
}

#[test]
fn rotations_in_a_storm_of_hups_lose_nothing() {
    let folder = TempFolder::new();
    let log = folder.join("log");
    let mut collector = RunningCollector::start(&["--wait", "1", "-l", log.to_str().unwrap()]);
    for round in 0..20 {
        for _ in 0..50 {
            collector.signal(Signal::SIGHUP);
        }
        send_lines(&mut collector, round * 200..(round + 1) * 200);
        if log.exists() {
            fs::rename(&log, folder.join(format!("log.{round:02}"))).unwrap();
        }
        collector.signal(Signal::SIGHUP);
    }
    let (code, _, said) = collector.stop();
    assert_eq!((code, of_log(&said, "written")), (Some(0), 4_000), "{said}");
    let rotated = (0..20).map(|round| folder.join(format!("log.{round:02}"))).chain([log]);
    let text: String = rotated.filter_map(|path| fs::read_to_string(path).ok()).collect();
    assert_eq!(text, (0..4_000).map(numbered).collect::<String>());
}

#[test]
fn a_thousand_senders_are_told_apart() {
    let collector = RunningCollector::start(&["--wait", "100"]);
    let addr = |number: usize| format!("127.{}.{}.7", number / 250 + 1, number % 250);
    for number in 0..1_000 {
        let (server, client) = (addr(number), format!("203.0.{}.{}", number / 250, number % 250));
        collector.send("127.0.0.9", &[&format!("+ {client} {server} GET /a HTTP/1.1\n")]);
        collector.send(&server, &[&line("10.0.0.1", "GET /a HTTP/1.1")]);
    }
    let (code, out, said) = collector.stop();
    let expected = (0..1_000)
        .map(|number| line(&format!("203.0.{}.{}", number / 250, number % 250), "GET /a HTTP/1.1"));
    assert_eq!((code, out), (Some(0), expected.collect()));
    assert!(said.contains("1000 certain"), "{said}");
}

#[test]
fn shippers_out_of_thin_air_cost_few_messages() {
    let collector = RunningCollector::start(&["--wait", "1"]);
    let socket = UdpSocket::bind("127.0.0.2:0").unwrap();
    for id in 0..500 {
        let origin = SenderOrigin { id, start: Timestamp::from_micros(1) };
        let mut writer = ShipmentWriter::new(origin, ShipmentServer::default(), 1_400);
        assert_eq!(writer.push(b"a line", None), Push::Taken);
        let sent =
            writer.finish(SendStamp::default(), |bytes| socket.send_to(bytes, collector.addr));
        sent.expect("a line").expect("loopback takes it");
    }
    let (code, out, said) = collector.stop();
    assert_eq!((code, out.lines().count()), (Some(0), 500));
    assert!(said.matches("a shipper").count() <= 5, "{said}");
}

#[test]
fn the_longest_datagram_is_a_line() {
    let collector = RunningCollector::start(&["--wait", "1"]);
    let lines = [1_022, 1_024, 8_000, 65_507].map(|len| "x".repeat(len));
    for line in &lines {
        collector.send("127.0.0.2", &[line]);
    }
    let (code, out, _) = collector.stop();
    assert!(code == Some(0) && out.lines().eq(lines.iter().map(String::as_str)));
}

#[test]
fn nothing_in_a_mapping_becomes_a_line_and_nothing_in_a_line_a_mapping() {
    let collector = RunningCollector::start(&["--wait", "1"]);
    let (a, b) = (line("10.0.0.1", "GET /a HTTP/1.1"), line("10.0.0.1", "GET /b HTTP/1.1"));
    let forged = format!("+ 203.0.113.7 127.0.0.2 GET /x HTTP/1.1\n{a}");
    let smuggled = format!("{a}+ 203.0.113.7 127.0.0.2 GET /b HTTP/1.1\n{b}");
    collector.send("127.0.0.2", &[&forged, &smuggled]);
    let (code, out, said) = collector.stop();
    assert_eq!((code, out), (Some(0), smuggled), "{said}");
    assert!(said.contains("2 received = 1 mappings + 1 of lines"), "{said}");
}
