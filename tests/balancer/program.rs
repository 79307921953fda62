//! `pen` as a program of its own, in the foreground, terminated with the test.

use std::net::SocketAddr;
use std::process::Command;

use nix::sys::signal::Signal;
use pen_testing::{Program, TempFolder};

/// A `pen` that listens.
pub(crate) struct RunningPen {
    program: Program,
    listening_on: String,
}

impl RunningPen {
    /// Starts `command` and waits until it prints where it listens.
    pub(crate) fn start(command: &mut Command) -> Self {
        let program = Program::start("pen", command).expect("it is built");
        let listening_on = program.wait_until_listening().expect("it listens");
        Self { program, listening_on }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.listening_on.parse().expect("it listens at a port")
    }

    pub(crate) fn id(&self) -> u32 {
        self.program.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.program.signal(signal).expect("it runs");
    }

    /// Sends SIGTERM and waits for the exit code.
    pub(crate) fn end(mut self) -> Option<i32> {
        self.program.stop(Signal::SIGTERM).expect("it ends").code()
    }
}

/// The command line of a `pen` that runs in `folder`.
pub(crate) fn pen_in(folder: &TempFolder, args: &[&str]) -> Command {
    let mut pen = Command::new(env!("CARGO_BIN_EXE_pen"));
    pen.args(args).current_dir(folder.path());
    pen
}

/// Sends a command to the control socket `control` in `folder`, and returns the reply.
pub(crate) fn penctl_in(folder: &TempFolder, command: &[&str]) -> String {
    let mut penctl = Command::new(env!("CARGO_BIN_EXE_penctl"));
    let output = penctl.arg(folder.join("control")).args(command).output().expect("it is built");
    String::from_utf8(output.stdout).expect("it writes text").trim().to_owned()
}
