//! The program itself: from its command line to its exit code.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Listener, Stream};

#[test]
fn pen_serves_from_its_command_line_and_ends_with_term() {
    let server = Listener::tcp();
    let mut pen = Command::new(env!("CARGO_BIN_EXE_pen"))
        .args(["-f", "127.0.0.1:0", &server.endpoint().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(pen.stderr.take().unwrap()).lines();
    let addr = said
        .find_map(|line| Some(line.unwrap().split_once("listening on ")?.1.trim().to_owned()))
        .expect("it says where it listens");
    let mut client = Stream::connect(&pen::config::Endpoint::Ip(addr.parse().unwrap()));
    let servers = server.say("served", 1);
    client.finish();
    assert_eq!(client.rest().unwrap(), b"served");
    drop(client);
    servers.join().unwrap();
    kill(Pid::from_raw(i32::try_from(pen.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert!(pen.wait().unwrap().success());
}

#[test]
fn hup_without_a_file_opens_the_log_anew_and_leaves_what_penctl_changed() {
    let folder = std::env::temp_dir().join(format!("pen-hup-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (control, log) = (folder.join("control"), folder.join("log"));
    let mut pen = Command::new(env!("CARGO_BIN_EXE_pen"))
        .args(["-f", "-C"])
        .arg(&control)
        .arg("-l")
        .arg(&log)
        .args(["127.0.0.1:0", "127.0.0.1:9"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(pen.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("listening on ")), "it says where");
    let penctl = |command: &[&str]| {
        let penctl =
            Command::new(env!("CARGO_BIN_EXE_penctl")).arg(&control).args(command).output();
        String::from_utf8(penctl.unwrap().stdout).unwrap()
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !control.exists() || !log.exists() {
        assert!(Instant::now() < deadline, "neither control port nor log");
        std::thread::yield_now();
    }
    penctl(&["timeout", "9"]);
    let pid = Pid::from_raw(i32::try_from(pen.id()).unwrap());
    // When it has heard the second one, it is done with the first.
    for _ in 0..2 {
        std::fs::remove_file(&log).unwrap();
        kill(pid, Signal::SIGHUP).unwrap();
        while !log.exists() {
            assert!(Instant::now() < deadline, "the log was not opened anew");
            std::thread::yield_now();
        }
    }
    let timeout = penctl(&["timeout"]);
    kill(pid, Signal::SIGTERM).unwrap();
    assert!(pen.wait().unwrap().success());
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(timeout.trim(), "9");
}
