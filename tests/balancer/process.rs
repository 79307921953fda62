//! The program itself: from its command line to its exit code.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

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
fn what_is_not_there_yet_is_refused_and_not_pretended() {
    for args in [&["-U"][..], &["-H"], &["-O", "send_proxy 2"], &["-O", "transparent"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_pen"))
            .args(args)
            .args(["--check", "127.0.0.1:1", "127.0.0.1:2"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    }
}
