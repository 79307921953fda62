//! Manners of the process: the user it becomes, its jail, what it tells the service manager, its files.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, getuid};

use crate::program::Program;
use crate::support::{PATIENCE, until};

/// A folder of its own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pen-daemon-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary folder can be made");
        // Whoever pen becomes may work here.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("it is ours");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// pen, started here.
    fn pen(&self, args: &[&str]) -> Command {
        let mut pen = Command::new(env!("CARGO_BIN_EXE_pen"));
        pen.args(args).current_dir(&self.0);
        pen
    }

    fn penctl(&self, control: &str, command: &[&str]) -> String {
        let mut penctl = Command::new(env!("CARGO_BIN_EXE_penctl"));
        let said = penctl.arg(self.path(control)).args(command).output().expect("it is built");
        String::from_utf8(said.stdout).expect("it writes text").trim().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

const ADDRESSES: [&str; 2] = ["127.0.0.1:0", "127.0.0.1:9"];

#[test]
fn a_file_that_is_included_is_found_again_from_the_background() {
    let folder = Folder::new("include");
    let server = "server 0 address 127.0.0.1 port 9\n";
    fs::write(folder.path("main.cfg"), format!("listen 127.0.0.1:0\n{server}include more.cfg\n"))
        .unwrap();
    fs::write(folder.path("more.cfg"), "blacklist 5\n").unwrap();
    let args = ["-F", "main.cfg", "-C", "./control", "-p", "pid"];
    assert!(folder.pen(&args).status().unwrap().success());
    let pid: i32 = fs::read_to_string(folder.path("pid")).unwrap().parse().unwrap();
    assert_eq!(folder.penctl("control", &["blacklist"]), "5");
    fs::write(folder.path("more.cfg"), "blacklist 7\n").unwrap();
    kill(Pid::from_raw(pid), Signal::SIGHUP).unwrap();
    let mut last = String::new();
    let deadline = std::time::Instant::now() + PATIENCE;
    while last != "7" && std::time::Instant::now() < deadline {
        last = folder.penctl("control", &["blacklist"]);
    }
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    until("it has ended", || !folder.path("pid").exists());
    assert_eq!(last, "7");
    assert!(!folder.path("control").exists(), "the socket is removed");
}

#[test]
fn p_46_files_that_are_opened_later_are_inside_of_the_jail() {
    if !getuid().is_root() {
        return;
    }
    let folder = Folder::new("jail");
    fs::create_dir(folder.path("jail")).unwrap();
    fs::write(folder.path("jail/pen.cfg"), "blacklist 5\n").unwrap();
    let jail = ["-f", "-j", "jail", "-l", "pen.log", "-w", "/page", "-C", "./control", "-F"];
    let pen = Program::start(&mut folder.pen(&[&jail[..], &["jail/pen.cfg"], &ADDRESSES].concat()));
    until("the log is there", || folder.path("jail/pen.log").exists());
    assert_eq!(folder.penctl("control", &["log"]), "/pen.log");
    folder.penctl("control", &["log", "other.log"]);
    until("the other one is there", || folder.path("jail/other.log").exists());
    // The whole path means the same file as the one inside.
    let whole = folder.path("jail/third.log");
    folder.penctl("control", &["log", whole.to_str().unwrap()]);
    assert_eq!(folder.penctl("control", &["log"]), "/third.log");
    fs::write(folder.path("jail/pen.cfg"), "blacklist 7\n").unwrap();
    pen.signal(Signal::SIGHUP);
    until("the file is read again", || folder.penctl("control", &["blacklist"]) == "7");
    pen.signal(Signal::SIGUSR1);
    until("the page is there", || folder.path("jail/page").exists());
    folder.penctl("control", &["write"]);
    assert!(fs::read_to_string(folder.path("jail/pen.cfg")).unwrap().contains("blacklist 7"));
    assert_eq!(pen.end(), Some(0));
    assert!(!folder.path("control").exists(), "the socket is removed from inside");
}

#[test]
fn p_46_the_control_socket_belongs_to_the_user_and_groups_are_given_up() {
    if !getuid().is_root() {
        return;
    }
    let nobody = User::from_name("nobody").unwrap().expect("there is such a user");
    let folder = Folder::new("user");
    let pen =
        Program::start(&mut folder.pen(
            &[&["-f", "-u", "nobody", "-C", "./control", "-p", "pid"][..], &ADDRESSES].concat(),
        ));
    until("it answers", || !folder.penctl("control", &["pid"]).is_empty());
    let socket = fs::symlink_metadata(folder.path("control")).unwrap();
    assert_eq!((socket.uid(), socket.gid()), (nobody.uid.as_raw(), nobody.gid.as_raw()));
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    let status = fs::read_to_string(format!("/proc/{}/status", pen.child.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
        line.split_whitespace().map(|id| id.parse().unwrap()).collect::<Vec<u32>>()
    };
    assert_eq!(field("Uid:"), [nobody.uid.as_raw(); 4]);
    assert_eq!(field("Gid:"), [nobody.gid.as_raw(); 4]);
    assert_eq!(field("Groups:"), [nobody.gid.as_raw()]);
    assert_eq!(pen.end(), Some(0));
    assert!(!folder.path("control").exists() && !folder.path("pid").exists());
}

#[test]
fn a_service_manager_is_told_of_start_reload_and_end() {
    let folder = Folder::new("notify");
    let manager = UnixDatagram::bind(folder.path("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut pen = folder.pen(&[&["-f"], &ADDRESSES[..]].concat());
    pen.env("NOTIFY_SOCKET", folder.path("notify"));
    let pen = Program::start(&mut pen);
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
    let folder = Folder::new("pipe");
    nix::unistd::mkfifo(&folder.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let pen =
        Program::start(&mut folder.pen(&[&["-f", "-C", "./control"], &ADDRESSES[..]].concat()));
    until("it answers", || !folder.penctl("control", &["pid"]).is_empty());
    folder.penctl("control", &["log", "fifo"]);
    assert_eq!(folder.penctl("control", &["log"]), "");
    assert_eq!(pen.end(), Some(0));
}
