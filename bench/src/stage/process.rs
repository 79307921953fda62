//! Programs that are waited for by events and ended by their id.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::PATIENCE;
use crate::{During, Failure};

/// A program that runs in a process group of its own, which ends when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    stderr: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`; what it complains of goes to `stderr`. The time zone is UTC, so that the C
    /// programs, which take the local one for that of the logs, get their best chance.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command, stderr: PathBuf) -> Result<Self, Failure> {
        let complaints =
            fs::File::create(&stderr).during(format_args!("make {}", stderr.display()))?;
        let child = command
            .env("TZ", "UTC")
            .stderr(Stdio::from(complaints))
            .process_group(0)
            .spawn()
            .during(format_args!("start {name} ({})", command.get_program().display()))?;
        Ok(Self { child, name: name.to_owned(), stderr, ended: None })
    }

    /// What it has said on standard error so far.
    #[must_use]
    pub fn complaints(&self) -> String {
        fs::read(&self.stderr).map_or_else(
            |_| String::new(),
            |text| String::from_utf8_lossy(&text).trim_end().to_owned(),
        )
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to it alone.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<(), Failure> {
        kill(self.pid(), signal).during(format_args!("send {signal} to {}", self.name))
    }

    /// Waits for `event`, and fails early when the program ends before it.
    ///
    /// # Errors
    /// When the program ends or the event does not come in time; with what the program complained of.
    pub fn wait_for(&mut self, what: &str, event: impl Fn() -> bool) -> Result<(), Failure> {
        let until = Until::patience();
        while !event() {
            if let Some(status) = self.try_wait()? {
                return Err(Failure::new(format!(
                    "{} ended ({status}) before {what}: {}",
                    self.name,
                    self.complaints()
                )));
            }
            if !until.pause() {
                return Err(Failure::new(format!(
                    "{} did not come to {what} in time: {}",
                    self.name,
                    self.complaints()
                )));
            }
        }
        Ok(())
    }

    /// Waits until its port takes connections.
    ///
    /// # Errors
    /// As [`Self::wait_for`].
    pub fn wait_for_port(&mut self, addr: SocketAddr) -> Result<(), Failure> {
        self.wait_for(&format!("listen on {addr}"), || TcpStream::connect(addr).is_ok())
    }

    /// Waits until it has said `text` on standard error.
    ///
    /// # Errors
    /// As [`Self::wait_for`].
    pub fn wait_for_words(&mut self, text: &str) -> Result<(), Failure> {
        let stderr = self.stderr.clone();
        self.wait_for(&format!("say \"{text}\""), || {
            fs::read(&stderr)
                .is_ok_and(|said| memchr::memmem::find(&said, text.as_bytes()).is_some())
        })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn wait_for_end(&mut self) -> Result<ExitStatus, Failure> {
        let until = Until::patience();
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if !until.pause() {
                return Err(Failure::new(format!("{} does not end", self.name)));
            }
        }
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop(&mut self, signal: Signal) -> Result<ExitStatus, Failure> {
        if self.try_wait()?.is_none() {
            self.signal(signal)?;
        }
        self.wait_for_end()
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>, Failure> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().during(format_args!("wait for {}", self.name))?;
        }
        Ok(self.ended)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids fit in 31 bits"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_some() {
            return;
        }
        // Gone already is as good.
        let _asked = killpg(self.pid(), Signal::SIGTERM);
        let until = Until::new(Duration::from_secs(3));
        while matches!(self.child.try_wait(), Ok(None)) {
            if !until.pause() {
                let _killed = killpg(self.pid(), Signal::SIGKILL);
                let _reaped = self.child.wait();
                return;
            }
        }
    }
}

/// A deadline, and short pauses up to it.
#[derive(Clone, Copy, Debug)]
pub struct Until(Instant);

impl Until {
    /// So long from now.
    #[must_use]
    pub fn new(wait: Duration) -> Self {
        Self(Instant::now() + wait)
    }

    /// As long as anything here may take.
    #[must_use]
    pub fn patience() -> Self {
        Self::new(PATIENCE)
    }

    /// Lets 3 ms pass; false once the deadline is over.
    #[must_use]
    pub fn pause(&self) -> bool {
        std::thread::park_timeout(Duration::from_millis(3));
        Instant::now() < self.0
    }
}

/// An installed program's path, by its name.
#[must_use]
pub fn installed(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
}

/// An installed program's path, or how to get it.
///
/// # Errors
/// When it is not installed.
pub fn program(name: &str) -> Result<PathBuf, Failure> {
    installed(name).ok_or_else(|| {
        let package = match name {
            "penlogd" | "penlog" | "mergelogs" => "pen",
            other => other,
        };
        Failure::new(format!("{name} is not installed: `apt-get install {package}` brings it"))
    })
}

/// A program of this workspace, which stands beside the one that runs.
///
/// # Errors
/// When it has not been built.
pub fn sibling(name: &str) -> Result<PathBuf, Failure> {
    let here = std::env::current_exe().during("find out where this program is")?;
    let found =
        here.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|p| p.is_file());
    found.ok_or_else(|| {
        Failure::new(format!("{name} is not built beside {}: run `cargo build`", here.display()))
    })
}

/// Runs a program to its end and hands back its standard output.
///
/// # Errors
/// When it fails; with what it complained of.
pub fn run_to_end(command: &mut Command) -> Result<Vec<u8>, Failure> {
    hear_to_end(command).map(|(out, _said)| out)
}

/// The same, with what it said to standard error.
///
/// # Errors
/// Likewise.
pub fn hear_to_end(command: &mut Command) -> Result<(Vec<u8>, String), Failure> {
    let name = command.get_program().display().to_string();
    let output = command
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .output()
        .during(format_args!("start {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok((output.stdout, said.into_owned()))
    } else {
        Err(Failure::new(format!("{name} failed ({}): {}", output.status, said.trim_end())))
    }
}
