//! The process: its user, its jail, messages to the service manager, its files.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, getuid};
use pen_testing::{Deadline, TempFolder};

use crate::program::{RunningPen, pen_in, penctl_in};
use crate::support::{PATIENCE, wait_until};

const ADDRESSES: [&str; 2] = ["127.0.0.1:0", "127.0.0.1:9"];

#[test]
fn a_file_that_is_included_is_found_again_from_the_background() {
    let folder = TempFolder::writable_by_all();
    let server = "server 0 address 127.0.0.1 port 9\n";
    fs::write(folder.join("main.cfg"), format!("listen 127.0.0.1:0\n{server}include more.cfg\n"))
        .unwrap();
    fs::write(folder.join("more.cfg"), "blacklist 5\n").unwrap();
    let args = ["-F", "main.cfg", "-C", "./control", "-p", "pid"];
    assert!(pen_in(&folder, &args).status().unwrap().success());
    let pid: i32 = fs::read_to_string(folder.join("pid")).unwrap().parse().unwrap();
    assert_eq!(penctl_in(&folder, &["blacklist"]), "5");
    fs::write(folder.join("more.cfg"), "blacklist 7\n").unwrap();
    kill(Pid::from_raw(pid), Signal::SIGHUP).unwrap();
    let is_read = || penctl_in(&folder, &["blacklist"]) == "7";
    let deadline = &mut Deadline::patience();
    while !is_read() && deadline.nap() {}
    let last = penctl_in(&folder, &["blacklist"]);
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    wait_until("it has ended", || !folder.join("pid").exists());
    assert_eq!(last, "7");
    assert!(!folder.join("control").exists(), "the socket is removed");
}

#[test]
fn p_46_files_that_are_opened_later_are_inside_of_the_jail() {
    if !getuid().is_root() {
        return;
    }
    let folder = TempFolder::writable_by_all();
    fs::create_dir(folder.join("jail")).unwrap();
    fs::write(folder.join("jail/pen.cfg"), "blacklist 5\n").unwrap();
    let jail = ["-f", "-j", "jail", "-l", "pen.log", "-w", "/page", "-C", "./control", "-F"];
    let pen = RunningPen::start(&mut pen_in(
        &folder,
        &[&jail[..], &["jail/pen.cfg"], &ADDRESSES].concat(),
    ));
    wait_until("the log is there", || folder.join("jail/pen.log").exists());
    assert_eq!(penctl_in(&folder, &["log"]), "/pen.log");
    penctl_in(&folder, &["log", "other.log"]);
    wait_until("the other one is there", || folder.join("jail/other.log").exists());
    // The whole path means the same file as the one inside.
    let whole = folder.join("jail/third.log");
    penctl_in(&folder, &["log", whole.to_str().unwrap()]);
    assert_eq!(penctl_in(&folder, &["log"]), "/third.log");
    fs::write(folder.join("jail/pen.cfg"), "blacklist 7\n").unwrap();
    pen.signal(Signal::SIGHUP);
    wait_until("the file is read again", || penctl_in(&folder, &["blacklist"]) == "7");
    pen.signal(Signal::SIGUSR1);
    wait_until("the page is there", || folder.join("jail/page").exists());
    penctl_in(&folder, &["write"]);
    assert!(fs::read_to_string(folder.join("jail/pen.cfg")).unwrap().contains("blacklist 7"));
    assert_eq!(pen.end(), Some(0));
    assert!(!folder.join("control").exists(), "the socket is removed from inside");
}

#[test]
fn p_46_the_control_socket_belongs_to_the_user_and_groups_are_given_up() {
    if !getuid().is_root() {
        return;
    }
    let nobody = User::from_name("nobody").unwrap().expect("there is such a user");
    let folder = TempFolder::writable_by_all();
    let pen = RunningPen::start(&mut pen_in(
        &folder,
        &[&["-f", "-u", "nobody", "-C", "./control", "-p", "pid"][..], &ADDRESSES].concat(),
    ));
    wait_until("it answers", || !penctl_in(&folder, &["pid"]).is_empty());
    let socket = fs::symlink_metadata(folder.join("control")).unwrap();
    assert_eq!((socket.uid(), socket.gid()), (nobody.uid.as_raw(), nobody.gid.as_raw()));
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    let status = fs::read_to_string(format!("/proc/{}/status", pen.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
        line.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<u32>>()
    };
    assert_eq!(field("Uid:"), [nobody.uid.as_raw(); 4]);
    assert_eq!(field("Gid:"), [nobody.gid.as_raw(); 4]);
    assert_eq!(field("Groups:"), [nobody.gid.as_raw()]);
    assert_eq!(pen.end(), Some(0));
    assert!(!folder.join("control").exists() && !folder.join("pid").exists());
}

#[test]
fn a_service_manager_is_told_of_start_reload_and_end() {
    let folder = TempFolder::writable_by_all();
    let manager = UnixDatagram::bind(folder.join("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut pen = pen_in(&folder, &[&["-f"], &ADDRESSES[..]].concat());
    pen.env("NOTIFY_SOCKET", folder.join("notify"));
    let pen = RunningPen::start(&mut pen);
    let next = || {
        let mut buf = [0; 200];
        let len = manager.recv(&mut buf).unwrap();
        String::from_utf8(buf[..len].to_vec()).unwrap()
    };
    assert_eq!(next(), "READY=1");
    pen.signal(Signal::SIGHUP);
    assert!(next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(next(), "READY=1");
    pen.signal(Signal::SIGTERM);
    assert_eq!(next(), "STOPPING=1");
    assert_eq!(pen.end(), Some(0));
}

#[test]
fn a_log_that_is_a_pipe_without_a_reader_is_refused_and_nothing_waits() {
    let folder = TempFolder::writable_by_all();
    nix::unistd::mkfifo(&folder.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let pen = RunningPen::start(&mut pen_in(
        &folder,
        &[&["-f", "-C", "./control"], &ADDRESSES[..]].concat(),
    ));
    wait_until("it answers", || !penctl_in(&folder, &["pid"]).is_empty());
    penctl_in(&folder, &["log", "fifo"]);
    assert_eq!(penctl_in(&folder, &["log"]), "");
    assert_eq!(pen.end(), Some(0));
}
