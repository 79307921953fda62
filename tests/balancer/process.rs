//! The program from its command line to its exit code.

use std::process::Command;

use nix::sys::signal::Signal;
use pen::config::Endpoint;
use pen_testing::{TempFolder, wait_until};

use crate::program::{RunningPen, pen_in, penctl_in};
use crate::support::{Listener, Stream};

#[test]
fn pen_serves_from_its_command_line_and_ends_with_term() {
    let server = Listener::tcp();
    let mut pen = Command::new(env!("CARGO_BIN_EXE_pen"));
    pen.args(["-f", "127.0.0.1:0", &server.endpoint().to_string()]);
    let pen = RunningPen::start(&mut pen);
    let mut client = Stream::connect(&Endpoint::Ip(pen.addr()));
    let servers = server.say("served", 1);
    client.finish();
    assert_eq!(client.rest().unwrap(), b"served");
    drop(client);
    servers.join().unwrap();
    assert_eq!(pen.end(), Some(0));
}

#[test]
fn hup_without_a_file_opens_the_log_anew_and_leaves_what_penctl_changed() {
    let folder = TempFolder::new();
    let (control, log) = (folder.join("control"), folder.join("log"));
    let args = ["-f", "-C", "./control", "-l", "log", "127.0.0.1:0", "127.0.0.1:9"];
    let pen = RunningPen::start(&mut pen_in(&folder, &args));
    wait_until("control port and log are there", || control.exists() && log.exists());
    penctl_in(&folder, &["timeout", "9"]);
    // When it has heard the second one, it is done with the first.
    for _ in 0..2 {
        std::fs::remove_file(&log).unwrap();
        pen.signal(Signal::SIGHUP);
        wait_until("the log is opened again", || log.exists());
    }
    let timeout = penctl_in(&folder, &["timeout"]);
    assert_eq!(pen.end(), Some(0));
    assert_eq!(timeout, "9");
}
