//! Child processes: programs that run beside a test and end with it, and programs that run to their end.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::wait::Deadline;
use crate::{ActionError, Doing as _};

/// How long a dropped program may take to obey SIGTERM before SIGKILL follows.
const GRACE: Duration = Duration::from_secs(3);
/// How long to read on after a program has ended: its messages may be in the pipe, and a child of its own may hold the
/// pipe open.
const LAST_MESSAGES: Duration = Duration::from_secs(1);

/// A running program in a process group of its own, which is terminated when this is dropped.
///
/// A thread reads the program's standard error to its end, so the program never waits for a reader.
#[derive(Debug)]
pub struct Program {
    child: Child,
    name: String,
    messages: Arc<Messages>,
    /// `None` while the program runs.
    status: Option<ExitStatus>,
}

impl Program {
    /// Starts `command`. Standard input is as the command says. The time zone is UTC: the C programs take the local
    /// zone for that of the logs.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Result<Self, ActionError> {
        let path = command.get_program().display().to_string();
        let mut child = command
            .env("TZ", "UTC")
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .doing(format_args!("start {name} ({path})"))?;
        let stderr = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
        let messages = Arc::new(Messages::default());
        let sink = Arc::clone(&messages);
        thread::spawn(move || sink.fill_from(stderr));
        Ok(Self { child, name: name.to_owned(), messages, status: None })
    }

    /// Returns all messages on standard error so far, one a line.
    #[must_use]
    pub fn messages(&self) -> String {
        self.messages.lock().lines.join("\n")
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Takes the writing end of standard input, if the command made it a pipe.
    ///
    /// # Panics
    /// If it was taken before or is no pipe.
    #[must_use]
    pub fn take_stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("stdin is a pipe that nobody took")
    }

    /// Takes the reading end of standard output, if the command made it a pipe.
    ///
    /// # Panics
    /// If it was taken before or is no pipe.
    #[must_use]
    pub fn take_stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().expect("stdout is a pipe that nobody took")
    }

    /// Sends a signal to the program, not to its children.
    ///
    /// # Errors
    /// If the program has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), ActionError> {
        kill(self.pid(), signal).doing(format_args!("send {signal} to {}", self.name))
    }

    /// Waits until a message contains `text`, and returns the line. Messages that an earlier call returned or skipped
    /// are not looked at again.
    ///
    /// # Errors
    /// If the program ends or the deadline passes before.
    pub fn wait_for_message(&self, text: &str) -> Result<String, ActionError> {
        self.messages.next_with(text).ok_or_else(|| {
            ActionError::new(format!("{} did not print \"{text}\": {}", self.name, self.messages()))
        })
    }

    /// Waits until any message since the start contains `text`.
    ///
    /// # Errors
    /// If the program ends or the deadline passes before.
    pub fn wait_for_any_message(&self, text: &str) -> Result<(), ActionError> {
        if self.messages().contains(text) {
            return Ok(());
        }
        self.wait_for_message(text).map(|_line| ())
    }

    /// Waits for the message `listening on ADDR` of the programs of this workspace, and returns the address as text.
    ///
    /// # Errors
    /// As [`Self::wait_for_message`].
    pub fn wait_until_listening(&self) -> Result<String, ActionError> {
        let line = self.wait_for_message("listening on ")?;
        let (_, addr) = line.split_once("listening on ").expect("the message contains it");
        Ok(addr.trim().to_owned())
    }

    /// Waits until `event` returns true; fails early if the program ends before. `what` follows "did not".
    ///
    /// # Errors
    /// If the program ends or the deadline passes; with the program's messages.
    pub fn wait_for(&mut self, what: &str, event: impl Fn() -> bool) -> Result<(), ActionError> {
        let mut deadline = Deadline::patience();
        while !event() {
            if let Some(status) = self.try_wait()? {
                let (name, messages) = (&self.name, self.messages());
                return Err(ActionError::new(format!(
                    "{name} ended ({status}) and did not {what}: {messages}"
                )));
            }
            if !deadline.nap() {
                let (name, messages) = (&self.name, self.messages());
                return Err(ActionError::new(format!("{name} did not {what} in time: {messages}")));
            }
        }
        Ok(())
    }

    /// Waits until the program accepts TCP connections at `addr`.
    ///
    /// # Errors
    /// As [`Self::wait_for`].
    pub fn wait_for_port(&mut self, addr: SocketAddr) -> Result<(), ActionError> {
        self.wait_for(&format!("listen on {addr}"), || TcpStream::connect(addr).is_ok())
    }

    /// Waits until the program has ended and all its messages are read.
    ///
    /// # Errors
    /// If the program does not end in time.
    pub fn wait_for_exit(&mut self) -> Result<ExitStatus, ActionError> {
        let mut deadline = Deadline::patience();
        loop {
            if let Some(status) = self.try_wait()? {
                self.messages.wait_for_end(LAST_MESSAGES);
                return Ok(status);
            }
            if !deadline.nap() {
                return Err(ActionError::new(format!("{} does not end", self.name)));
            }
        }
    }

    /// Sends a signal and waits for the exit.
    ///
    /// # Errors
    /// If the program does not end in time.
    pub fn stop(&mut self, signal: Signal) -> Result<ExitStatus, ActionError> {
        if self.try_wait()?.is_none() {
            self.signal(signal)?;
        }
        self.wait_for_exit()
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>, ActionError> {
        if self.status.is_none() {
            self.status = self.child.try_wait().doing(format_args!("wait for {}", self.name))?;
        }
        Ok(self.status)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids fit in 31 bits"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.status.is_some() {
            return;
        }
        let _ = killpg(self.pid(), Signal::SIGTERM); // the group may have ended
        let mut deadline = Deadline::after(GRACE);
        while matches!(self.child.try_wait(), Ok(None)) {
            if !deadline.nap() {
                let _ = killpg(self.pid(), Signal::SIGKILL); // likewise
                self.child.wait().expect("the program is a child of this process");
                return;
            }
        }
    }
}

/// The lines on a program's standard error.
#[derive(Debug, Default)]
struct Messages {
    log: Mutex<MessageLog>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct MessageLog {
    lines: Vec<String>,
    /// How many lines [`Messages::next_with`] has looked at.
    seen: usize,
    ended: bool,
}

impl Messages {
    fn lock(&self) -> MutexGuard<'_, MessageLog> {
        self.log.lock().expect("no holder of the lock panics")
    }

    fn fill_from(&self, mut stderr: impl BufRead) {
        let mut line = Vec::new();
        while stderr.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
            self.lock().lines.push(text);
            self.changed.notify_all();
            line.clear();
        }
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Waits until standard error is closed, or until the time is over.
    fn wait_for_end(&self, time: Duration) {
        let deadline = Deadline::after(time);
        let mut log = self.lock();
        while !log.ended && !deadline.left().is_zero() {
            let waited = self.changed.wait_timeout(log, deadline.left());
            log = waited.expect("no holder of the lock panics").0;
        }
    }

    /// Returns the next line with `text` in it; `None` if standard error ends or the deadline passes before.
    fn next_with(&self, text: &str) -> Option<String> {
        let deadline = Deadline::patience();
        let mut log = self.lock();
        loop {
            let at = log.seen;
            if let Some(offset) = log.lines[at..].iter().position(|line| line.contains(text)) {
                log.seen = at + offset + 1;
                return Some(log.lines[at + offset].clone());
            }
            log.seen = log.lines.len();
            if log.ended || deadline.left().is_zero() {
                return None;
            }
            let waited = self.changed.wait_timeout(log, deadline.left());
            log = waited.expect("no holder of the lock panics").0;
        }
    }
}

/// The result of a program that ran to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramOutput {
    /// The exit code; `None` if a signal ended the program.
    pub code: Option<i32>,
    /// Standard output, as text.
    pub out: String,
    /// Standard error, as text.
    pub err: String,
}

impl From<Output> for ProgramOutput {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl ProgramOutput {
    /// Runs a program to its end, without standard input unless the command gives it one.
    ///
    /// # Panics
    /// If the program cannot be started.
    #[must_use]
    pub fn of(command: &mut Command) -> Self {
        command.output().expect("the program is built").into()
    }
}

/// Returns the path of a program that the system has installed.
#[must_use]
pub fn installed(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
}

/// Returns the path of an installed program.
///
/// # Errors
/// If the program is not installed; with the command that installs it.
pub fn require_installed(name: &str) -> Result<PathBuf, ActionError> {
    installed(name).ok_or_else(|| {
        let package = match name {
            "penlogd" | "penlog" | "mergelogs" => "pen",
            other => other,
        };
        ActionError::new(format!("{name} is not installed: run `apt-get install {package}`"))
    })
}

/// Returns the path of a program of this workspace, which Cargo puts beside the running one.
///
/// # Errors
/// If the program has not been built.
pub fn sibling(name: &str) -> Result<PathBuf, ActionError> {
    let here = std::env::current_exe().doing("find out where this program is")?;
    let found =
        here.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|p| p.is_file());
    found.ok_or_else(|| {
        ActionError::new(format!(
            "{name} is not built beside {}: run `cargo build`",
            here.display()
        ))
    })
}

/// Runs a program to its end without standard input, and returns its standard output.
///
/// # Errors
/// If the program fails; with its messages.
pub fn run_to_end(command: &mut Command) -> Result<Vec<u8>, ActionError> {
    run_with_messages(command).map(|(output, _messages)| output)
}

/// Returns whether a program did all that it should. `mergelogs` ends with 3 if it wrote all lines, but most of them found
/// no mapping, which some comparisons intend.
#[must_use]
pub fn is_complete(command: &Command, status: ExitStatus) -> bool {
    let is_misfit =
        || status.code() == Some(3) && Path::new(command.get_program()).ends_with("mergelogs");
    status.success() || is_misfit()
}

/// As [`run_to_end`], with the messages on standard error behind the output.
///
/// # Errors
/// If the program fails; with its messages.
pub fn run_with_messages(command: &mut Command) -> Result<(Vec<u8>, String), ActionError> {
    let name = command.get_program().display().to_string();
    let output = command
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .output()
        .doing(format_args!("start {name}"))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    if is_complete(command, output.status) {
        Ok((output.stdout, messages.into_owned()))
    } else {
        Err(ActionError::new(format!("{name} failed ({}): {}", output.status, messages.trim_end())))
    }
}
