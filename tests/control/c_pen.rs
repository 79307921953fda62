//! Old and new together: our `penctl` to C pen, and C penctl to our control port.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use pen_testing::{Program, ProgramOutput, TempFolder, free_port};

use crate::support::{Control, penctl};

const C_PEN: &str = "/usr/bin/pen";
const C_PENCTL: &str = "/usr/bin/penctl";

/// A running C pen.
struct CPen {
    _program: Program,
    control: String,
    _folder: TempFolder,
}

fn is_there(program: &str) -> bool {
    let there = std::path::Path::new(program).exists();
    if !there {
        println!("skipped: {program} is not installed");
    }
    there
}

#[expect(clippy::unwrap_used, reason = "it is part of a test")]
fn c_pen() -> Option<CPen> {
    if !is_there(C_PEN) {
        return None;
    }
    let folder = TempFolder::new();
    let [control, listen] = [(); 2].map(|()| free_port(Ipv4Addr::LOCALHOST));
    let user = if nix::unistd::Uid::effective().is_root() { &["-u", "root"][..] } else { &[] };
    let mut command = Command::new(C_PEN);
    command.args(["-f", "-C", &control.to_string()]).args(user);
    command.args([&listen.to_string(), "127.0.0.1:9:5:7", "127.0.0.2:9"]);
    command.current_dir(folder.path()).stdout(Stdio::null());
    let mut program = Program::start("C pen", &mut command).unwrap();
    program.wait_for_port(control).unwrap();
    Some(CPen { _program: program, control: control.to_string(), _folder: folder })
}

#[test]
fn our_penctl_understands_c_pen() {
    let Some(pen) = c_pen() else { return };
    let ask = |args: &[&str]| {
        let mut all = vec![pen.control.as_str()];
        all.extend(args);
        penctl(&all)
    };
    assert_eq!(ask(&["blacklist"]).out, "30\n");
    assert_eq!(
        ask(&["server", "1", "max", "3"]),
        ProgramOutput { code: Some(0), out: String::new(), err: String::new() }
    );
    let servers = ask(&["servers"]);
    assert!(servers.out.contains("1 addr 127.0.0.2 port 9 conn 0 max 3 hard 0 "), "{servers:?}");
    let unknown = ask(&["nonsense"]);
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert_eq!(unknown.err, "penctl: do_cmd: ignoring command starting with 'nonsense'\n");
    assert_eq!(ask(&["exit"]).code, Some(1));
    let json = penctl(&["--json", &pen.control, "servers"]);
    assert!(json.out.starts_with("[{\"server\":0,\"addr\":\"127.0.0.1\",\"port\":9,"), "{json:?}");
    let top = penctl(&["-n", "1", &pen.control, "top"]);
    assert!(top.out.contains("127.0.0.2:9"), "{top:?}");
}

#[test]
fn a_batch_works_with_c_pen_too() {
    let Some(pen) = c_pen() else { return };
    let mut child = Command::new(env!("CARGO_BIN_EXE_penctl"))
        .args([&pen.control, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"tracking 5\ntimeout\n").unwrap();
    let said = ProgramOutput::from(child.wait_with_output().unwrap());
    assert_eq!((said.code, said.out.as_str()), (Some(0), "5\n3\n"));
}

#[test]
fn c_penctl_understands_our_control_port() {
    if !is_there(C_PENCTL) {
        return;
    }
    let control = Control::tcp();
    for (words, expected) in [
        (&["blacklist", "9"][..], "9\n"),
        (&["mode"], "no hash no roundrobin no stubborn no weight no prio\n"),
        (&["server", "0", "max", "9"], ""),
        (&["nonsense"], "error: unknown command 'nonsense': see 'help'\n"),
    ] {
        let output = Command::new(C_PENCTL).arg(&control.address).args(words).output().unwrap();
        assert_eq!(ProgramOutput::from(output).out, expected, "{words:?}");
    }
    let output = Command::new(C_PENCTL).args([&control.address, "servers"]).output().unwrap();
    let servers = ProgramOutput::from(output).out;
    assert!(servers.starts_with("0 addr 10.0.0.1 port 8080 conn 2 max 9 hard 0 "), "{servers}");
    let output = Command::new(C_PENCTL).args([&control.address, "status"]).output().unwrap();
    assert!(ProgramOutput::from(output).out.ends_with("</html>\n"));
}
