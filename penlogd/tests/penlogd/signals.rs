//! HUP, USR1, TERM and INT.

use std::fs;

use nix::sys::signal::Signal;
use pen_testing::TempFolder;

use crate::support::{RunningCollector, line, wait_for_file};

#[test]
fn hup_opens_the_log_anew() {
    let folder = TempFolder::new();
    let (log, old) = (folder.join("log"), folder.join("log.1"));
    let collector = RunningCollector::start(&["--wait", "1", "-l", log.to_str().unwrap()]);
    collector.send("127.0.0.2", &["one\n"]);
    wait_for_file(&log, |text| text == "one\n");
    fs::rename(&log, &old).unwrap();
    collector.signal(Signal::SIGHUP);
    collector.wait_for("reopened");
    collector.send("127.0.0.2", &["two\n"]);
    wait_for_file(&log, |text| text == "two\n");
    assert_eq!(fs::read_to_string(&old).unwrap(), "one\n");
}

#[test]
fn hup_into_a_vanished_folder_keeps_the_old_file() {
    let folder = TempFolder::new();
    let (sub, log, old) = (folder.join("sub"), folder.join("sub/log"), folder.join("old"));
    fs::create_dir(&sub).unwrap();
    let collector = RunningCollector::start(&["--wait", "1", "-l", log.to_str().unwrap()]);
    fs::rename(&log, &old).unwrap();
    fs::remove_dir(&sub).unwrap();
    collector.signal(Signal::SIGHUP);
    collector.wait_for("cannot reopen");
    collector.send("127.0.0.2", &["one\n"]);
    wait_for_file(&old, |text| text == "one\n");
    fs::create_dir(&sub).unwrap();
    collector.wait_for("reopened");
    collector.send("127.0.0.2", &["two\n"]);
    wait_for_file(&log, |text| text == "two\n");
}

#[test]
fn the_balance_is_for_programs_too() {
    let collector = RunningCollector::start(&["--wait", "1", "--report", "json"]);
    collector.send("127.0.0.9", &["+ 203.0.113.7 127.0.0.2 GET /a HTTP/1.1\n"]);
    collector.send("127.0.0.2", &[&line("10.0.0.1", "GET /a HTTP/1.1"), "junk\n"]);
    loop {
        collector.signal(Signal::SIGUSR1);
        let said = collector.wait_for("\"adds_up\":true");
        if said.contains("\"lines\":{\"received\":2,\"exact\":0,\"certain\":1,\"likely\":0,\"unmatched\":1,\"held\":0}") {
            break;
        }
    }
    let (code, _, said) = collector.stop();
    assert_eq!(code, Some(0), "{said}");
    let last = said.lines().rfind(|line| line.starts_with("penlogd: {")).unwrap();
    for expected in [
        r#""not_understood":1"#,
        r#"{"server":"127.0.0.2","format":"common (1 line)","exact":0,"certain":1,"likely":0,"unmatched":1"#,
        r#""delays":{"histogram":[{"up_to_us":"#,
        r#""waited":{"mean_us":"#,
    ] {
        assert!(last.contains(expected), "{expected}: {last}");
    }
    assert!(last.ends_with('}'), "{last}");
}

#[test]
fn usr1_prints_a_balance_that_adds_up() {
    let collector = RunningCollector::start(&["--wait", "1h"]);
    collector.send("127.0.0.9", &["+ 203.0.113.7 127.0.0.2 GET /a HTTP/1.1\n"]);
    collector.send("127.0.0.2", &[&line("10.0.0.1", "GET /a HTTP/1.1"), "junk\n"]);
    collector.wait_until(|said| said.contains("2 held"));
    let said = collector.said();
    for part in ["datagrams: 3 received = 1 mappings + 2 of lines", "1 lines not understood"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains("NOT ADD UP"), "{said}");
}

#[test]
fn term_and_int_write_all_that_is_held() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let folder = TempFolder::new();
        let pid = folder.join("pid");
        let collector = RunningCollector::start(&["--wait", "1h", "-p", pid.to_str().unwrap()]);
        assert_eq!(fs::read_to_string(&pid).unwrap(), collector.pid().to_string());
        collector.send("127.0.0.2", &[line("10.0.0.1", "GET /a HTTP/1.1").as_str(); 300]);
        collector.signal(signal);
        let (code, out, _) = collector.wait();
        assert_eq!((code, out.lines().count()), (Some(0), 300), "{signal}");
        assert!(!pid.exists(), "{signal}");
    }
}

#[test]
fn a_full_disk_is_said_once_and_counted() {
    let collector = RunningCollector::start(&["--wait", "1", "-b", "-l", "/dev/full"]);
    collector.send("127.0.0.2", &["one\n"]);
    collector.wait_for("cannot write /dev/full");
    collector.send("127.0.0.2", &["two\n"]);
    let (code, _, said) = collector.stop();
    assert_eq!(code, Some(0));
    assert!(said.contains("0 written + 0 waiting to be written + 2 dropped"), "{said}");
    assert_eq!(said.matches("cannot write").count(), 1, "{said}");
}
