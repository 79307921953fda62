//! pen as a program of its own, in the foreground: ended with the test, and its standard error read to the end.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A pen that listens.
pub(crate) struct Program {
    pub(crate) child: Child,
    at: String,
}

impl Program {
    /// Starts it and waits until it says where it listens.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it is built");
        let said = BufReader::new(child.stderr.take().expect("it is a pipe"));
        let mut lines = said.lines().map_while(Result::ok);
        let at = lines.find_map(|line| Some(line.split_once("listening on ")?.1.trim().to_owned()));
        // It must not find the pipe closed later.
        thread::spawn(move || lines.for_each(drop));
        let program = Self { child, at: at.unwrap_or_default() };
        assert!(!program.at.is_empty(), "it does not say where it listens");
        program
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.at.parse().expect("it is a port")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid is small");
        kill(Pid::from_raw(pid), signal).expect("it is there");
    }

    /// Asks it to end, and waits for its exit code.
    pub(crate) fn end(mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.child.wait().expect("it is ours").code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}
