//! Starting a collector, sending datagrams to it, and waiting for its messages and files.

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{ChildStdout, Command, Output, Stdio};

use nix::sys::signal::Signal;
use pen_testing::wait::wait_for;
use pen_testing::{Deadline, Program};

pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_penlogd"))
}

/// A collector in the foreground, terminated when dropped.
pub(crate) struct RunningCollector {
    program: Program,
    stdout: Option<ChildStdout>,
    pub(crate) addr: SocketAddr,
}

impl RunningCollector {
    /// Starts a collector on a free port of 127.0.0.1 and waits until it listens.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", args)
    }

    pub(crate) fn start_at(listen: &str, args: &[&str]) -> Self {
        Self::start_bare(&[&["--listen", listen], args].concat())
    }

    /// Starts a collector with no arguments but these and `-f`.
    pub(crate) fn start_bare(args: &[&str]) -> Self {
        let mut command = program();
        command.arg("-f").args(args).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut program = Program::start("penlogd", &mut command).expect("the collector starts");
        let addr = program.wait_until_listening().expect("the collector listens");
        let addr = addr.parse().expect("the message ends with an address");
        Self { stdout: Some(program.take_stdout()), program, addr }
    }

    /// All messages so far.
    pub(crate) fn said(&self) -> String {
        self.program.messages()
    }

    /// Waits for the next message that contains `text`, and returns it.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.program.wait_for_message(text).expect("the collector says so")
    }

    /// Waits for a message that may have been printed before.
    pub(crate) fn wait_for_once(&self, text: &str) {
        self.program.wait_for_any_message(text).expect("the collector says so");
    }

    /// Asks for reports until the messages satisfy a condition.
    pub(crate) fn wait_until(&self, satisfied: impl Fn(&str) -> bool) {
        let mut deadline = Deadline::patience();
        loop {
            self.signal(Signal::SIGUSR1);
            self.wait_for("bytes wait now");
            let said = self.said();
            if satisfied(&said) {
                return;
            }
            assert!(deadline.nap(), "{said}");
        }
    }

    /// Sends datagrams from `from`, an address of this machine.
    pub(crate) fn send(&self, from: &str, datagrams: &[&str]) {
        let socket = UdpSocket::bind((from, 0)).expect("loopback has the address");
        for datagram in datagrams {
            socket.send_to(datagram.as_bytes(), self.addr).expect("loopback takes it");
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.program.signal(signal).expect("the collector runs");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.program.id()
    }

    /// Hands standard output to the caller.
    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.stdout.take().expect("nobody took it")
    }

    /// Closes standard output, as a reader that goes away.
    pub(crate) fn close_stdout(&mut self) {
        self.stdout = None;
    }

    /// Sends SIGTERM; returns the exit code, standard output and all messages.
    pub(crate) fn stop(self) -> (Option<i32>, String, String) {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// As [`Self::stop`], for a collector that ends by itself.
    pub(crate) fn wait(mut self) -> (Option<i32>, String, String) {
        let mut out = Vec::new();
        if let Some(mut stdout) = self.stdout.take() {
            stdout.read_to_end(&mut out).expect("a pipe can be read");
        }
        let status = self.program.wait_for_exit().expect("the collector ends");
        let said = self.said() + "\n";
        (status.code(), String::from_utf8_lossy(&out).into_owned(), said)
    }
}

/// Runs a command line that is expected to end by itself.
pub(crate) fn run(args: &[&str]) -> Output {
    program().args(args).stdin(Stdio::null()).output().expect("the collector starts")
}

/// Waits until the text of a file satisfies a condition, and returns the text.
pub(crate) fn wait_for_file(path: &Path, is_there: impl Fn(&str) -> bool) -> String {
    wait_for(format_args!("{} is written", path.display()), || {
        Some(fs::read_to_string(path).unwrap_or_default()).filter(|text| is_there(text))
    })
}

pub(crate) fn line(client: &str, request: &str) -> String {
    format!("{client} - - [22/Nov/2026:20:23:20 +0000] \"{request}\" 200 5\n")
}
