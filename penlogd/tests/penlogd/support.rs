//! Starting a collector, sending to it, and waiting for what it does, with a deadline.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything may take before the test fails.
const DEADLINE: Duration = Duration::from_secs(20);

/// A folder of its own, removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("penlogd-test-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("the temporary folder is writable");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_penlogd"))
}

/// A collector in the foreground, killed when dropped.
pub(crate) struct Collector {
    child: Child,
    stderr: BufReader<ChildStderr>,
    pub(crate) addr: SocketAddr,
    /// What it said so far.
    pub(crate) said: String,
}

impl Collector {
    /// Starts one and waits until it listens.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", args)
    }

    pub(crate) fn start_at(listen: &str, args: &[&str]) -> Self {
        Self::start_bare(&[&["--listen", listen], args].concat())
    }

    /// With no arguments but these.
    pub(crate) fn start_bare(args: &[&str]) -> Self {
        let mut child = program()
            .arg("-f")
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the collector starts");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let addr = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut collector = Self { child, stderr, addr, said: String::new() };
        let line = collector.wait_for("listening on ");
        let (_, addr) = line.rsplit_once(' ').expect("words");
        collector.addr = addr.trim().parse().expect("an address");
        collector
    }

    /// Reads messages up to one that contains `text`.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            let len = self.stderr.read_line(&mut line).expect("messages are text");
            assert!(len > 0, "ended without saying {text:?}; said: {}", self.said);
            self.said.push_str(&line);
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Waits for a message that may have been read already.
    pub(crate) fn wait_for_once(&mut self, text: &str) {
        if !self.said.contains(text) {
            self.wait_for(text);
        }
    }

    /// Asks for reports until what was said satisfies.
    pub(crate) fn wait_until(&mut self, satisfied: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.signal(Signal::SIGUSR1);
            self.wait_for("bytes wait now");
            if satisfied(&self.said) {
                return;
            }
            assert!(Instant::now() < deadline, "{}", self.said);
        }
    }

    /// Sends datagrams from `from`, which is an address of this machine.
    pub(crate) fn send(&self, from: &str, datagrams: &[&str]) {
        let socket = UdpSocket::bind((from, 0)).expect("loopback has it");
        for datagram in datagrams {
            socket.send_to(datagram.as_bytes(), self.addr).expect("loopback takes it");
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("pids are small");
        kill(Pid::from_raw(pid), signal).expect("it is our child");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// For a reader of one's own.
    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("nobody took it")
    }

    /// As a reader that goes away.
    pub(crate) fn close_stdout(&mut self) {
        self.child.stdout = None;
    }

    /// Ends it as a supervisor would; gives back its exit code, its output and all it said.
    pub(crate) fn stop(self) -> (Option<i32>, String, String) {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// The same, when it ends by itself.
    pub(crate) fn wait(mut self) -> (Option<i32>, String, String) {
        let mut said = std::mem::take(&mut self.said);
        self.stderr.read_to_string(&mut said).expect("messages are text");
        let mut out = Vec::new();
        if let Some(mut stdout) = self.child.stdout.take() {
            stdout.read_to_end(&mut out).expect("a pipe");
        }
        let status = self.child.wait().expect("it is our child");
        (status.code(), String::from_utf8_lossy(&out).into_owned(), said)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().expect("it is our child");
    }
}

/// Runs a command line that is expected to end by itself.
pub(crate) fn run(args: &[&str]) -> Output {
    program().args(args).stdin(Stdio::null()).output().expect("the collector starts")
}

/// Waits until the file holds what `is_there` looks for.
pub(crate) fn wait_for_file(path: &Path, is_there: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if is_there(&text) {
            return text;
        }
        assert!(Instant::now() < deadline, "{} holds {text:?}", path.display());
        std::thread::yield_now();
    }
}

pub(crate) fn line(client: &str, request: &str) -> String {
    format!("{client} - - [22/Nov/2026:20:23:20 +0000] \"{request}\" 200 5\n")
}
