//! Commands of a document, run in a folder made for it.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use pen_testing::program::sibling;
use pen_testing::{Program, TempFolder, free_port};

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
    sibling(name).expect("the program is built")
}

/// The collector that documents call `loghost`.
pub(crate) struct Loghost {
    _collector: Program,
    /// Address and port.
    addr: String,
}

impl Loghost {
    /// Starts `penlogd` and waits until it listens.
    pub(crate) fn start() -> Self {
        let mut command = Command::new(program("penlogd"));
        command.args(["-f", "-l", "/dev/null", "--listen", "127.0.0.1:0"]);
        let collector = Program::start("penlogd", &mut command).expect("penlogd starts");
        let addr = collector.wait_until_listening().expect("penlogd listens");
        Self { _collector: collector, addr }
    }
}

/// The folder in which a document's commands are run.
pub(crate) struct Shell {
    folder: TempFolder,
    path: String,
}

impl Shell {
    /// Makes the folder.
    pub(crate) fn new() -> Self {
        let folder = TempFolder::new();
        let made =
            ["bin", "target", "var/log/nginx", "var/log/envoy", "var/lib/penlog", "run/penlog"];
        for made in made {
            fs::create_dir_all(folder.join(made)).expect("a folder can be made");
        }
        for linked in ["fixtures", "docs", "tools"] {
            symlink(Path::new(ROOT).join(linked), folder.join(linked)).expect("a link can be made");
        }
        let programs = program("pen").parent().expect("programs are in a folder").to_owned();
        symlink(&programs, folder.join("target/release")).expect("a link can be made");
        for log in ["var/log/nginx/access.log", "var/log/envoy/access.log"] {
            folder.write(log, "");
        }
        for (name, text) in [("bin/cargo", CARGO), ("bin/install", INSTALL)] {
            let script = folder.write(name, text);
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
                .expect("the mode can be set");
        }
        let old = std::env::var("PATH").expect("there is a path");
        let path = format!("{}:{}:{old}", folder.join("bin").display(), programs.display());
        Self { folder, path }
    }

    /// Returns a shell in the folder.
    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-euc", script]).current_dir(self.folder.path());
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
        let script = format!("exec {}", adapt(command, &loghost.addr));
        let mut program =
            Program::start(place, &mut self.shell(&script)).expect("the shell starts");
        let ready = if command.starts_with("penlog ") { "shipping to" } else { "listening on" };
        // The collector inside of pen is ready before pen is.
        for _ in 0..=usize::from(command.contains("--collect")) {
            program.wait_for_message(ready).unwrap_or_else(|error| panic!("{script}\n{error}"));
        }
        let status = program.stop(Signal::SIGTERM).expect("the program ends");
        assert!(status.success(), "{place}: {status}\n{script}\n{}", program.messages());
    }
}

/// Puts addresses of this machine in the place of the names that documents use: `loghost`, `web1`, `web2`, ports 80, 8080,
/// 8888 and 10000, and the folders /var and /run. Keeps `pen` and `penlogd` in the foreground.
fn adapt(command: &str, loghost: &str) -> String {
    let mut text = format!("{command} ");
    // `pen --collect` takes no port 0.
    let free = free_port(Ipv4Addr::LOCALHOST).to_string();
    for (name, here) in [
        ("0.0.0.0:10000", free.as_str()),
        ("127.0.0.1:8888", "127.0.0.1:0"),
        ("loghost:10000", loghost),
        ("loghost 10000", &loghost.replace(':', " ")),
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
