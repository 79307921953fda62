//! Background, chroot, user and pid file, in the order in which they work.
//!
//! Going into the background is a second execution of this program rather than a fork: the caller starts the child with a
//! pipe as its stderr, copies messages from that pipe, and exits once the child reports that it is ready, or with the
//! child's exit code if the child fails. So the caller learns of a port in use, a missing user or an unwritable log.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use nix::unistd::{Gid, Uid};
use nix::unistd::{chroot, dup2_stderr, dup2_stdin, dup2_stdout, getppid, setsid};

use crate::error::{ActionError, Doing as _};
use crate::notify::Notify;
use crate::pidfile::PidFile;
use crate::sandbox::Sandbox;
use crate::user;

/// Environment variable that marks the child; its value is the caller's pid, so that a stray variable has no effect.
const MARK: &str = "PEN_BACKGROUND_OF";

/// Sent by the child when the caller may exit. No message contains this byte.
const READY: u8 = 0;

/// Process options as given by the user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Leave the caller's terminal and session.
    pub background: bool,
    /// Folder to chroot into.
    pub jail: Option<PathBuf>,
    /// User to change to, by name or number.
    pub user: Option<String>,
    /// Path of the pid file, outside the chroot.
    pub pid_file: Option<PathBuf>,
}

/// Which of the two executions this is.
#[derive(Debug)]
pub enum Detached {
    /// The one that goes on: the child, or the only one without a background.
    Continue,
    /// The caller: exit with this code.
    Leave(ExitCode),
}

impl Process {
    /// Goes into the background if asked for. Must be called before any thread is started and any socket opened.
    ///
    /// # Errors
    /// The second execution could not be started.
    pub fn detach(&self) -> Result<Detached, ActionError> {
        if !self.background {
            return Ok(Detached::Continue);
        }
        let parent = getppid().to_string();
        if std::env::var_os(MARK).is_some_and(|mark| mark == OsString::from(parent)) {
            setsid().doing("start a session")?;
            return Ok(Detached::Continue);
        }
        self.start_child().map(Detached::Leave)
    }

    fn start_child(&self) -> Result<ExitCode, ActionError> {
        let fail = |cause| ActionError::cannot("go into the background", cause);
        let mut args = std::env::args_os();
        let mut command = Command::new("/proc/self/exe");
        if let Some(name) = args.next() {
            command.arg0(name);
        }
        let mut child = command
            .args(args)
            .env(MARK, std::process::id().to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(fail)?;
        let mut messages = child.stderr.take().expect("it was asked to be a pipe");
        let mut buf = [0; 4096];
        loop {
            let len = match messages.read(&mut buf) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(fail(error)),
            };
            let ready = buf[..len].iter().position(|&byte| byte == READY);
            // stderr may be closed, which is no reason to fail.
            let _ = io::stderr().write_all(&buf[..ready.unwrap_or(len)]);
            if ready.is_some() {
                return Ok(ExitCode::SUCCESS);
            }
        }
        let status = child.wait().map_err(fail)?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Ok(ExitCode::from(code.filter(|&code| code != 0).unwrap_or(1)))
    }

    /// Returns the numbers of the user to change to; `None` if no user was given.
    ///
    /// # Errors
    /// No such user exists.
    pub fn ids(&self) -> Result<Option<(Uid, Gid)>, ActionError> {
        self.user.as_deref().map(user::find).transpose()
    }

    /// Returns where a path of inside the chroot is before.
    #[must_use]
    pub fn before_chroot(&self, path: &Path) -> PathBuf {
        match &self.jail {
            Some(jail) => jail.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        }
    }

    /// Locks the pid file, enters the chroot, changes the user and writes the pid. Sockets must be bound before, log files
    /// opened after.
    ///
    /// # Errors
    /// Names the step that failed and its object.
    pub fn settle(&self) -> Result<Settled, ActionError> {
        let user = self.ids()?;
        let notify = Notify::from_env();
        let mut pid_file = self.pid_file.as_deref().map(PidFile::lock).transpose()?;
        let null = OpenOptions::new().read(true).write(true).open("/dev/null");
        let null = null.doing("open /dev/null")?;
        if let Some(jail) = &self.jail {
            chroot(jail.as_path()).doing(format_args!("change the root to {}", jail.display()))?;
        }
        if self.jail.is_some() || self.background {
            std::env::set_current_dir("/").doing("change to the folder /")?;
        }
        if let (Some((uid, gid)), Some(name)) = (user, &self.user) {
            user::become_user(uid, gid).doing(format_args!("become the user {name}"))?;
        }
        if let Some(pid_file) = &mut pid_file {
            pid_file.write()?;
        }
        Ok(Settled { pid_file, null, background: self.background, notify })
    }
}

/// A process with its final root, user and pid file.
#[derive(Debug)]
pub struct Settled {
    pid_file: Option<PidFile>,
    null: File,
    background: bool,
    notify: Notify,
}

/// Whether a background process keeps the standard output of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdout {
    /// The log goes to the standard output.
    Keep,
    /// Nothing is written to the standard output.
    Close,
}

impl Settled {
    /// Reports readiness to the service manager, and in the background to the caller, whose terminal is left.
    ///
    /// # Errors
    /// A standard stream could not be redirected.
    pub fn ready(&self, stdout: Stdout) -> Result<(), ActionError> {
        self.notify.ready();
        if !self.background {
            return Ok(());
        }
        let leave = || -> io::Result<File> {
            dup2_stdin(&self.null)?;
            if stdout == Stdout::Close {
                dup2_stdout(&self.null)?;
            }
            let caller = File::from(io::stderr().as_fd().try_clone_to_owned()?);
            dup2_stderr(&self.null)?;
            Ok(caller)
        };
        let mut caller = leave().doing("leave the terminal")?;
        // The caller may be gone.
        let _ = caller.write_all(&[READY]);
        Ok(())
    }

    /// Lets the pid file be removed from inside a sandbox.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn allow(&self, sandbox: &mut Sandbox) -> Result<(), ActionError> {
        let Some(pid_file) = &self.pid_file else { return Ok(()) };
        sandbox.remove_in(pid_file.folder()).doing("keep the folder of the pid file")
    }

    /// Returns the connection to the service manager.
    #[must_use]
    pub const fn notify(&self) -> &Notify {
        &self.notify
    }

    /// Removes the pid file.
    pub fn leave(self) {
        if let Some(pid_file) = self.pid_file {
            pid_file.remove();
        }
    }
}

/// Makes a path independent of the working directory, which a background process leaves.
///
/// # Errors
/// The working directory is unknown.
pub fn absolute(path: &Path) -> Result<PathBuf, ActionError> {
    std::path::absolute(path).doing(format_args!("make {} absolute", path.display()))
}
