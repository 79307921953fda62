//! `penctl` in front of our control port.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use pen_testing::manual::assert_manual_matches_help;
use pen_testing::{ProgramOutput, TempFolder};

use crate::support::{Control, penctl};

#[test]
fn replies_go_out_and_errors_fail() {
    let control = Control::tcp();
    let address = control.address.as_str();
    assert_eq!(
        penctl(&[address, "blacklist", "7"]),
        ProgramOutput { code: Some(0), out: "7\n".into(), err: String::new() }
    );
    // In one word, too, as with the C program.
    assert_eq!(penctl(&[address, "server 1 max 5"]).code, Some(0));
    let error = penctl(&[address, "nonsense"]);
    let text = "penctl: unknown command 'nonsense': see 'help'\n";
    assert_eq!(error, ProgramOutput { code: Some(1), out: String::new(), err: text.into() });
    let warning = penctl(&[address, "idlers", "3"]);
    assert_eq!((warning.code, warning.out.starts_with("warning: idlers")), (Some(0), true));
}

#[test]
fn a_unix_socket_and_names_are_understood() {
    let control = Control::unix();
    assert_eq!(penctl(&[&control.address, "timeout"]).out, "3\n");
    let control = Control::tcp();
    let port = control.address.rsplit(':').next().unwrap();
    assert_eq!(penctl(&[&format!("localhost:{port}"), "timeout"]).out, "3\n");
}

#[test]
fn misuse_and_absence_are_told_apart() {
    assert_eq!(penctl(&[]).code, Some(2));
    assert_eq!(penctl(&["127.0.0.1:1"]).code, Some(2));
    for (address, expected) in [
        (
            "nowhere",
            "penctl: cannot connect to nowhere: expected HOST:PORT or the path of a socket\n",
        ),
        ("127.0.0.1:99999", "penctl: cannot connect to 127.0.0.1:99999: expected a port from 0"),
        ("/no/such/socket", "penctl: cannot connect to /no/such/socket: No such file"),
    ] {
        let said = penctl(&[address, "pid"]);
        assert!(said.code == Some(1) && said.err.starts_with(expected), "{said:?}");
    }
}

#[test]
fn a_mistake_is_said_with_what_was_expected() {
    let control = Control::tcp();
    let address = control.address.as_str();
    for (args, expected) in [
        (&[][..], "expected a command, as in penctl servers"),
        (&[address], "is an address without a command"),
        (&["serers"], "unknown command 'serers': did you mean 'servers'?"),
        (&["--jsn", address, "servers"], "'--json'"),
        (&["127.0.0.1:1", "servers"], "no pen has its control port there (-C)"),
        (&[address, "serers"], "unknown command 'serers': did you mean 'servers'?"),
        (&[address, "drain", "99"], "server 99: there is no such server"),
        (
            &[address, "drain", "192.0.2.9:80"],
            "server 192.0.2.9:80: there is no such server, see 'servers'",
        ),
        (&[address, "drain"], "expected the number of a server, from 0 to 9999, or its address"),
        (&[address, "help", "drainn"], "did you mean 'drain'"),
    ] {
        let said = penctl(args);
        assert!(matches!(said.code, Some(1 | 2)), "{args:?}: {said:?}");
        assert!(said.err.contains(expected), "{args:?}: {said:?}");
        assert!(!said.err.contains("to pass '--"), "{args:?}: {said:?}");
    }
    let said = penctl(&[address, "help", "drain"]);
    assert!(said.out.starts_with("drain N|ADDRESS [TIME]"), "{said:?}");
}

#[test]
fn a_frozen_pen_is_not_waited_for() {
    // Accepts by way of its backlog, and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let said = penctl(&["-t", "200ms", &address, "pid"]);
    let expected = format!("penctl: cannot talk to {address}: no reply in time\n");
    assert_eq!(said, ProgramOutput { code: Some(1), out: String::new(), err: expected });
}

#[test]
fn replies_become_json() {
    let control = Control::tcp();
    for (command, expected) in [
        (&["servers"][..], "[{\"server\":0,\"addr\":\"10.0.0.1\",\"port\":8080,\"conn\":2,"),
        (&["recent"], "[{\"client\":\"203.0.113.7\",\"connects\":3,\"sx\":2000,\"rx\":100}]\n"),
        (&["mode"], "{\"hash\":false,\"roundrobin\":false,"),
        (&["status"], "{\"version\":"),
        (&["nonsense"], "{\"error\":\"unknown command 'nonsense': see 'help'\"}\n"),
    ] {
        let mut args = vec!["--json", &control.address];
        args.extend(command);
        let said = penctl(&args);
        assert!(said.out.starts_with(expected), "{command:?}: {said:?}");
        assert_eq!(said.code, Some(i32::from(command[0] == "nonsense")));
    }
}

#[test]
fn a_batch_is_a_session() {
    let control = Control::tcp();
    let mut child = Command::new(env!("CARGO_BIN_EXE_penctl"))
        .args([&control.address, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"# three commands\nblacklist 9\n\nnonsense\ntimeout\n").unwrap();
    drop(stdin);
    let said = ProgramOutput::from(child.wait_with_output().unwrap());
    assert_eq!((said.code, said.out.as_str()), (Some(1), "9\n3\n"));
    assert_eq!(said.err, "penctl: unknown command 'nonsense': see 'help'\n");
}

#[test]
fn top_shows_tables_one_after_the_other_where_there_is_no_terminal() {
    let control = Control::tcp();
    let said = penctl(&["-n", "2", "--interval", "10ms", &control.address, "top"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let tables: Vec<_> = said.out.split("\n\n").collect();
    assert_eq!(tables.len(), 3, "two and the rest: {said:?}");
    assert!(
        tables[0].starts_with(&format!("pen at {}: 2 servers, 4 connections\n", control.address))
    );
    let row = tables[1].lines().nth(2).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(row, ["0", "10.0.0.1:8080", "up", "2", "-", "-", "0", "0", "100", "2000"]);
}

#[test]
fn top_gives_the_terminal_back() {
    let control = Control::tcp();
    // `script` runs it on a terminal of its own; a key ends it.
    let folder = TempFolder::new();
    let command = format!("{} {} top", env!("CARGO_BIN_EXE_penctl"), control.address);
    let child = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .current_dir(folder.join(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        println!("skipped: script is not installed");
        return;
    };
    child.stdin.take().unwrap().write_all(b"q").unwrap();
    let said = ProgramOutput::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("\x1b[?1049h") && said.out.contains("10.0.0.1:8080"), "{said:?}");
    assert!(said.out.trim_end().ends_with("\x1b[?25h\x1b[?1049l"), "{said:?}");
}

#[test]
fn the_manual_matches_the_help() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man/penctl.1");
    let mut penctl = Command::new(env!("CARGO_BIN_EXE_penctl"));
    assert_manual_matches_help(&mut penctl, &page, &[]);
}
