//! Commands of a document, run in a folder made for it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ROOT;

/// Stands in for `cargo`: the packages and targets that are named have to exist.
const CARGO: &str = r#"#!/bin/sh
kind=
for word in "$@"; do
    case $kind in
    -p) grep -qr --include=Cargo.toml "^name = \"$word\"" "$ROOT"/Cargo.toml "$ROOT"/*/Cargo.toml ||
        { echo "no package $word" >&2; exit 1; } ;;
    --test) ls "$ROOT"/tests/"$word" "$ROOT"/tests/"$word".rs "$ROOT"/*/tests/"$word" "$ROOT"/*/tests/"$word".rs \
        2>/dev/null | grep -q . || { echo "no test $word" >&2; exit 1; } ;;
    esac
    case $word in --) break ;; esac
    kind=$word
done
"#;

/// Stands in for `install`: what is to be copied has to exist.
const INSTALL: &str = r#"#!/bin/sh
[ "$1" = -m ] && shift 2
while [ $# -gt 1 ]; do
    [ -f "$1" ] || { echo "no file $1" >&2; exit 1; }
    shift
done
"#;

/// Returns the path of a program of this workspace.
pub(crate) fn program(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_pen")).with_file_name(name);
    assert!(beside.is_file(), "{name} is not built: run `cargo build`");
    beside
}

/// The collector that documents call `loghost`. Dropping it ends it.
pub(crate) struct Loghost {
    child: Child,
    port: u16,
}

impl Loghost {
    /// Starts `penlogd` and waits until it listens.
    pub(crate) fn start() -> Self {
        let mut command = Command::new(program("penlogd"));
        command.args(["-f", "-l", "/dev/null", "--listen", "127.0.0.1:0"]);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("penlogd starts");
        let mut messages = BufReader::new(child.stderr.take().expect("it is a pipe"));
        let mut line = String::new();
        messages.read_line(&mut line).expect("messages are text");
        // Read on, so that penlogd never waits for a reader.
        thread::spawn(move || std::io::copy(&mut messages, &mut std::io::sink()));
        let port = line.trim_end().rsplit(':').next().and_then(|port| port.parse().ok());
        Self { child, port: port.unwrap_or_else(|| panic!("penlogd said {line:?}")) }
    }
}

impl Drop for Loghost {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

/// The folder in which a document's commands are run.
pub(crate) struct Shell {
    folder: PathBuf,
    path: String,
}

impl Shell {
    /// Makes the folder.
    pub(crate) fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).expect("the folder of the last run can be removed");
        }
        for made in
            ["bin", "target", "var/log/nginx", "var/log/envoy", "var/lib/penlog", "run/penlog"]
        {
            fs::create_dir_all(folder.join(made)).expect("a folder can be made");
        }
        for linked in ["fixtures", "docs", "tools"] {
            symlink(Path::new(ROOT).join(linked), folder.join(linked)).expect("a link can be made");
        }
        let programs = program("pen").parent().expect("programs are in a folder").to_owned();
        symlink(&programs, folder.join("target/release")).expect("a link can be made");
        for log in ["nginx", "envoy"] {
            fs::write(folder.join("var/log").join(log).join("access.log"), "")
                .expect("a file can be made");
        }
        for (name, text) in [("cargo", CARGO), ("install", INSTALL)] {
            let script = folder.join("bin").join(name);
            fs::write(&script, text).expect("a script can be written");
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
                .expect("the mode can be set");
        }
        let old = std::env::var("PATH").expect("there is a path");
        let path = format!("{}:{}:{old}", folder.join("bin").display(), programs.display());
        Self { folder, path }
    }

    /// Returns a shell that has 20 seconds for `script`.
    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["20", "sh", "-euc", script]).current_dir(&self.folder);
        command.env("PATH", &self.path).env("ROOT", ROOT).env("TZ", "UTC").stdin(Stdio::null());
        command
    }

    /// Runs the commands of a block to their end.
    pub(crate) fn run(&self, script: &str, place: &str) {
        let output = self.shell(script).output().expect("the shell starts");
        let messages = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{place}: {}\n{script}\n{messages}", output.status);
    }

    /// Starts a program, waits until it is ready, and ends it.
    pub(crate) fn start(&self, command: &str, loghost: &Loghost, place: &str) {
        let script = format!("exec {}", adapt(command, loghost.port));
        let mut child =
            self.shell(&script).stderr(Stdio::piped()).spawn().expect("the shell starts");
        let mut messages = BufReader::new(child.stderr.take().expect("it is a pipe")).lines();
        let mut heard = Vec::new();
        // The collector inside of pen is ready before pen is.
        let mut awaited = if command.contains("--collect") { 2 } else { 1 };
        for line in messages.by_ref().map_while(Result::ok) {
            awaited -=
                i32::from(["listening on", "shipping to"].iter().any(|it| line.contains(it)));
            heard.push(line);
            if awaited == 0 {
                break;
            }
        }
        let ready = awaited == 0;
        if ready {
            let pid = Pid::from_raw(child.id().try_into().expect("a pid is an i32"));
            kill(pid, Signal::SIGTERM).expect("it runs");
        }
        heard.extend(messages.map_while(Result::ok));
        let status = child.wait().expect("it can be waited for");
        let heard = heard.join("\n");
        assert!(ready && status.success(), "{place}: {status}\n{script}\n{heard}");
    }
}

/// Returns an address with a UDP port that nothing uses: `pen --collect` takes no port 0.
fn free_address() -> String {
    let socket = UdpSocket::bind("127.0.5.1:0").expect("there is a port");
    socket.local_addr().expect("it is bound").to_string()
}

/// Puts addresses of this machine in the place of the names that documents use: `loghost`, `web1`, `web2`, ports 80, 8080,
/// 8888 and 10000, and the folders /var and /run. Keeps `pen` and `penlogd` in the foreground.
fn adapt(command: &str, loghost: u16) -> String {
    let mut text = format!("{command} ");
    for (name, here) in [
        ("0.0.0.0:10000", free_address().as_str()),
        ("127.0.0.1:8888", "127.0.0.1:0"),
        ("loghost:10000", &format!("127.0.0.1:{loghost}")),
        ("loghost 10000", &format!("127.0.0.1 {loghost}")),
        (" 10000 ", " 0 "),
        (" 80 ", " 127.0.0.1:0 "),
        (" 8080 ", " 127.0.0.1:0 "),
        (" web1 ", " 127.0.1.1:8081 "),
        (" web2 ", " 127.0.1.2:8081 "),
        ("/var/", "var/"),
        ("/run/", "run/"),
    ] {
        text = text.replace(name, here);
    }
    if text.starts_with("pen ") || text.starts_with("penlogd ") {
        text.push_str("-f");
    }
    text
}
