//! Mistakes on the command line of `pen`: what was wrong, and what to do.

use std::process::Command;

use pen_testing::{ProgramOutput, TempFolder, wait_until};

use crate::program::{RunningPen, pen_in, penctl_in};
use crate::support::{Listener, Stream};
use pen::config::Endpoint;

fn pen(args: &[&str]) -> ProgramOutput {
    ProgramOutput::of(Command::new(env!("CARGO_BIN_EXE_pen")).args(args))
}

#[test]
fn a_mistake_is_said_with_what_was_expected() {
    for (args, expected) in [
        (
            &["--status", "24913", "0", "127.0.0.1:9"][..],
            "expected ADDRESS:PORT, as in 127.0.0.1:10000",
        ),
        (&["--collect", "localhost:1", "0", "127.0.0.1:9"], "names are not looked up"),
        (&["--stats", "x"], "'--status'"),
        (&["-h"], "see 'pen --help'"),
        (&["0"], "expected at least one server, HOST:PORT"),
        (
            &["127.0.0.1:0", "24916"],
            "found a port alone: where to listen stands before the servers",
        ),
        (&["0", "127.0.0.1:99999"], "expected a port from 0 to 65535"),
        (&["127.0.0.1:24916", "127.0.0.1:24916"], "pen listens there itself"),
        (&["-u", "no such user", "0", "127.0.0.1:9"], "there is no such user"),
        (
            &["-E", "/nonexistent.pem", "0", "127.0.0.1:9"],
            "/nonexistent.pem: cannot read it: No such file",
        ),
        (&["-p", "/nonexistent/p", "0", "127.0.0.1:9"], "pid file /nonexistent/p: No such file"),
        (&["-j", "/nonexistent", "0", "127.0.0.1:9"], "change the root to /nonexistent"),
        (&["-l", "/nonexistent/p.log", "0", "127.0.0.1:9"], "cannot open /nonexistent/p.log"),
        (
            &["203.0.113.77:24916", "127.0.0.1:9"],
            "cannot listen at 203.0.113.77:24916: Cannot assign",
        ),
    ] {
        let said = pen(&[&["-f"], args].concat());
        assert!(matches!(said.code, Some(1 | 2)), "{args:?}: {said:?}");
        assert!(said.err.contains(expected), "{args:?}: {said:?}");
    }
}

#[test]
fn each_line_of_a_file_with_mistakes_is_named() {
    let folder = TempFolder::new();
    let path = folder.join("pen.cfg");
    std::fs::write(&path, "listen 127.0.0.1:0\nblaklist 5\nserver 0 addres 127.0.0.1\n").unwrap();
    let said = pen(&["--check", "-F", path.to_str().unwrap()]);
    assert_eq!(said.code, Some(2));
    for expected in
        ["pen.cfg:2: unknown command 'blaklist': did you mean 'blacklist'", "pen.cfg:3: server 0: "]
    {
        assert!(said.err.contains(expected), "{said:?}");
    }
}

#[test]
fn more_connections_than_file_descriptors_are_said_before_the_run() {
    for args in [
        &["--check", "-x", "99999999999"][..],
        &["--explain", "-x", "10000000000"],
        &["--check", "-O", "conn_max 99999999999"],
    ] {
        let said = pen(&[args, &["0", "127.0.0.1:9"]].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        let expected = "connections fit the limit of file descriptors";
        assert!(said.err.starts_with("pen: conn_max ") && said.err.contains(expected), "{said:?}");
    }
    let said = pen(&["--check", "-x", "10", "0", "127.0.0.1:9"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
}

#[test]
fn records_that_nobody_received_do_not_count_as_written() {
    let folder = TempFolder::new();
    let server = Listener::tcp();
    let collector = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let gone = collector.local_addr().unwrap().to_string();
    drop(collector);
    let endpoint = server.endpoint().to_string();
    let args = ["-f", "-C", "./control", "-l", &gone, "127.0.0.1:0", &endpoint];
    let pen = RunningPen::start(&mut pen_in(&folder, &args));
    wait_until("the control port is there", || folder.join("control").exists());
    let mut client = Stream::connect(&Endpoint::Ip(pen.addr()));
    let servers = server.say("served", 1);
    client.finish();
    assert_eq!(client.rest().unwrap(), b"served");
    servers.join().unwrap();
    wait_until("the records count as dropped", || {
        let state = penctl_in(&folder, &["--json", "status"]);
        let log = state.split_once("\"mapping_log\":").map_or("", |(_, log)| log);
        log.contains("\"written\":0,")
            && !log.contains("\"dropped\":0,")
            && !log.contains("\"made\":0,")
    });
    assert_eq!(pen.end(), Some(0));
}
