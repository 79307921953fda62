//! Background, pid file, user, jail and misuse.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use pen_testing::{TempFolder, wait_until};

use crate::support::{RunningCollector, program, run, wait_for_file};

/// A collector in the background, ended when dropped.
struct Background(Pid);

impl Background {
    fn of(pid_file: &std::path::Path) -> Self {
        let pid = wait_for_file(pid_file, |text| !text.is_empty());
        Self(Pid::from_raw(pid.parse().expect("a pid")))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGKILL).unwrap_or_default();
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    socket.local_addr().expect("bound").port()
}

#[test]
fn the_background_writes_its_pid_and_ends_cleanly() {
    let folder = TempFolder::new();
    let (log, pid) = (folder.join("log"), folder.join("pid"));
    let listen = format!("127.0.0.1:{}", free_port());
    // Nothing here may be a pipe, or the test would wait for the background to close it.
    let status = program()
        .current_dir(folder.path())
        .args(["--wait", "1", "-l", "log", "-p", "pid", "--listen", &listen])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    let background = Background::of(&pid);
    let home = format!("/proc/{}", background.0);
    assert_eq!(fs::read_link(format!("{home}/cwd")).unwrap().to_str(), Some("/"));
    for stream in 0..3 {
        let open = fs::read_link(format!("{home}/fd/{stream}")).unwrap();
        assert_eq!(open.to_str(), Some("/dev/null"), "{stream}");
    }
    let sender = UdpSocket::bind("127.0.0.2:0").unwrap();
    sender.send_to(b"one\n", &listen).unwrap();
    wait_for_file(&log, |text| text == "one\n");
    kill(background.0, Signal::SIGTERM).unwrap();
    wait_until("the pid file is removed", || !pid.exists());
}

#[test]
fn the_caller_is_told_why_the_background_failed() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let free = format!("127.0.0.1:{}", free_port());
    for (args, reason) in [
        (["--listen", &listen, "-l", "/dev/null"], format!("cannot listen at {listen}")),
        (["--listen", &free, "-u", "no-such-user"], "cannot become the user no-such-user".into()),
        (["--listen", &free, "-l", "/no/such/folder"], "cannot open /no/such/folder".into()),
        (
            ["--listen", &free, "-j", "/no/such/jail"],
            "cannot change the root to /no/such/jail".into(),
        ),
        (["--listen", &free, "-p", "/no/such/pid"], "cannot open the folder".into()),
    ] {
        let output = run(&args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains(&reason), "{args:?}: {said}");
    }
}

#[test]
fn a_pid_file_of_a_running_collector_is_left_alone() {
    let folder = TempFolder::new();
    let pid = folder.join("pid");
    let pid_arg = pid.to_str().unwrap();
    let first = RunningCollector::start(&["-p", pid_arg]);
    for place in ["-f", "-b"] {
        let output = run(&[place, "-p", pid_arg, "--listen", "127.0.0.1:0"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("already running as process {}", first.pid())), "{said}");
    }
    assert_eq!(fs::read_to_string(&pid).unwrap(), first.pid().to_string());
    let (code, ..) = first.stop();
    assert_eq!(code, Some(0));
    fs::write(&pid, "4711").unwrap();
    let next = RunningCollector::start(&["-p", pid_arg]);
    assert_eq!(fs::read_to_string(&pid).unwrap(), next.pid().to_string(), "a stale one is not");
}

#[test]
fn a_low_port_goes_with_another_user_in_a_jail() {
    if !Uid::effective().is_root() {
        println!("skipped: needs root");
        return;
    }
    let folder = TempFolder::new();
    let (jail, pid) = (folder.join("jail"), folder.join("pid"));
    fs::create_dir(&jail).unwrap();
    fs::set_permissions(&jail, fs::Permissions::from_mode(0o777)).unwrap();
    let (jail_arg, pid_arg) = (jail.to_str().unwrap(), pid.to_str().unwrap());
    let args = [
        "--wait",
        "1",
        "-u",
        "nobody",
        "-j",
        jail_arg,
        "-p",
        pid_arg,
        "-l",
        "/log",
        "--explain",
        "why",
    ];
    let Some(port) = (1..1024).rev().find(|&port| UdpSocket::bind(("127.0.0.1", port)).is_ok())
    else {
        return;
    };
    let collector = RunningCollector::start_at(&format!("127.0.0.1:{port}"), &args);
    let status = fs::read_to_string(format!("/proc/{}/status", collector.pid())).unwrap();
    let ids = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_ascii_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(ids("Uid:")[1], "65534");
    assert_eq!(ids("Gid:")[1], "65534");
    assert_eq!(ids("Groups:"), ["65534"]);
    collector.send("127.0.0.2", &["one\n"]);
    wait_for_file(&jail.join("log"), |text| text == "one\n");
    assert_eq!(fs::metadata(jail.join("why")).unwrap().uid(), 65_534);
    fs::remove_file(jail.join("log")).unwrap();
    collector.signal(Signal::SIGHUP);
    collector.wait_for("reopened /log");
    let (code, ..) = collector.stop();
    assert_eq!(code, Some(0));
    assert!(!pid.exists() || fs::read(&pid).unwrap().is_empty());
}

#[test]
fn misuse_is_told_apart_from_failure() {
    for args in [
        &["-n", "junk", "10000"][..],
        &["-n", "0", "10000"],
        &["ten"],
        &[],
        &["--format", "%q nonsense", "10000"],
        &["--server", "web", "10000"],
        &["--from", "somewhere", "10000"],
    ] {
        let output = run(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(!said.is_empty(), "{args:?}");
    }
}

#[test]
fn a_misspelled_variable_of_a_format_is_an_error_at_the_start() {
    for (args, expected) in [
        (["--format", r#"$remote_addr "$reqest" $status"#], "did you mean $request?"),
        (["--format", r#"web1=%h %t "%r" %{remoet}p"#], "did you mean remote?"),
        (
            ["--mapping-format", r#"lb=$remote_addr "$request" $upstream_adr"#],
            "did you mean $upstream_addr?",
        ),
        (["--mapping-format", "lb=%ci:%cp [%tr] %b/%s %cpp"], "HAProxy has none of this name"),
    ] {
        let output = run(&[&args[..], &["-f", "0"]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    let own = r#"$remote_addr "$request" $status $masked_client"#;
    let output = run(&["--check", "--format", own, "0"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("$masked_client is none of nginx's own variables"), "{said}");
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let collector = RunningCollector::start(&[]);
    let (taken, port) = (collector.addr.to_string(), collector.addr.port().to_string());
    let folder = TempFolder::new();
    let short = folder.join("short.key");
    fs::write(&short, "short").unwrap();
    let short = format!("key={}", short.display());
    for (args, expected) in [
        (
            &["-f", "--listen", &taken][..],
            format!("see who has the port by ss -lunp sport = :{port}"),
        ),
        (&["-f", "no such service"], "expected a port from 0 to 65535".to_owned()),
        (&["-f", "99999"], "expected a port from 0 to 65535".to_owned()),
        (&["-f", "-l", "/nonexistent/a.log", "0"], "cannot open /nonexistent/a.log: ".to_owned()),
        (&["-f", "-l", "/", "0"], "cannot open /: Is a directory".to_owned()),
        (&["-f", "--listen", "localhost:1"], "names are not looked up".to_owned()),
        (&["--lisen", "x"], "'--listen'".to_owned()),
        (&["--format", "combind", "0"], "did you mean combined?".to_owned()),
        (&["--server", "10.0.0.1=web1", "0"], "write web1=10.0.0.1".to_owned()),
        (&["--server", "web1:10.0.0.1", "0"], "expected NAME=ADDR or NAME=ADDR:PORT".to_owned()),
        (&["--from", "10.0.0.0/33", "0"], "expected an address or a network".to_owned()),
        (&["--memory", "1", "0"], "expected a number of MiB from 8 to 1048576".to_owned()),
        (&["--memory", "512M", "0"], "without a unit".to_owned()),
        (
            &["--privacy", "key=/nonexistent", "0"],
            "make one with `head -c 32 /dev/urandom | base64 > /nonexistent`".to_owned(),
        ),
        (
            &["--privacy", &short, "0"],
            "expected a key of at least 16 bytes, as `head -c".to_owned(),
        ),
        (&["explain"], "Usage: penlogd explain".to_owned()),
        (&["--wait", "99999999999999999999", "10000"], "the time is too long".to_owned()),
    ] {
        let output = run(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&expected), "{args:?}: {said}");
        assert_ne!(output.status.code(), Some(0), "{args:?}");
    }
    let help = String::from_utf8_lossy(&run(&["--help"]).stdout).into_owned();
    assert!(help.contains("penlogd explain -l LOG"), "{help}");
}

#[test]
fn the_whole_command_line_is_checked_without_a_socket() {
    let collector = RunningCollector::start(&[]);
    let port = collector.addr.port().to_string();
    let output = run(&["--check", "--server", "web1:10.0.0.1", "-l", "/nonexistent/a.log", &port]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!((output.status.code(), said.matches("mistake: ").count()), (Some(2), 2), "{said}");
    let output = run(&["--check", "--server", "app/web1=10.0.0.1", &port]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!((output.status.code(), said.as_str()), (Some(0), "the command line is right\n"));
}

#[test]
fn a_format_is_judged_without_a_port_and_the_exit_status_says_how() {
    for (format, code, expected) in [
        ("combined", 1, "to be exact: add %{remote}p\n"),
        (r#"$remote_addr [$time_local] "$request" $remote_port"#, 0, "behind pen: exact"),
        ("%t %r", 2, "problem: no field names the client"),
    ] {
        let output = run(&["--check", "--format", format]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{format}: {said}");
        assert!(said.contains(expected), "{format}: {said}");
    }
}
