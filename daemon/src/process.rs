//! Background, jail, user and pid file, in the order in which they work.
//!
//! Going into the background is a second execution of this program rather than a fork: the caller
//! starts it with its messages going into a pipe, passes on what comes out of that pipe, and leaves
//! when the child says it is ready, or fails as the child fails. So whoever typed the command is
//! told of a port in use, a missing user, a log file that can't be opened.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use nix::unistd::{Gid, Uid, User};
use nix::unistd::{chroot, dup2_stderr, dup2_stdin, dup2_stdout};
use nix::unistd::{getppid, setgid, setgroups, setsid, setuid};

use crate::error::{ActionError, Doing as _};
use crate::notify::Notify;
use crate::pidfile::PidFile;

/// Tells the child whose child it is; the number keeps a stray value from meaning anything.
const MARK: &str = "PEN_BACKGROUND_OF";

/// What the child sends when it needs its caller no longer. No message contains it.
const READY: u8 = 0;

/// How to be a process, as the user asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Leave the caller's terminal and session.
    pub background: bool,
    /// The folder to be confined to.
    pub jail: Option<PathBuf>,
    /// The user to become, by name or number.
    pub user: Option<String>,
    /// Where to note the pid; outside the jail.
    pub pid_file: Option<PathBuf>,
}

/// Which of the two executions this is.
#[derive(Debug)]
pub enum Detached {
    /// The one to go on: the child, or the only one if no background was asked for.
    Go,
    /// The caller's: nothing is left to do but to exit with this.
    Leave(ExitCode),
}

impl Process {
    /// Goes into the background if that was asked for. Must come before any thread and any socket.
    ///
    /// # Errors
    /// Says why the second execution could not be started.
    pub fn detach(&self) -> Result<Detached, ActionError> {
        if !self.background {
            return Ok(Detached::Go);
        }
        let parent = getppid().to_string();
        if std::env::var_os(MARK).is_some_and(|mark| mark == OsString::from(parent)) {
            setsid().doing("start a session")?;
            return Ok(Detached::Go);
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
            // Nobody may be there to read it, which is no reason to fail.
            io::stderr().write_all(&buf[..ready.unwrap_or(len)]).unwrap_or_default();
            if ready.is_some() {
                return Ok(ExitCode::SUCCESS);
            }
        }
        let status = child.wait().map_err(fail)?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Ok(ExitCode::from(code.filter(|&code| code != 0).unwrap_or(1)))
    }

    /// Whom to become, by number.
    ///
    /// # Errors
    /// There is no such user.
    pub fn ids(&self) -> Result<Option<(Uid, Gid)>, ActionError> {
        self.user.as_deref().map(find_user).transpose()
    }

    /// Locks the pid file, enters the jail, becomes the user and writes the pid. Sockets must be
    /// bound before, log files opened after.
    ///
    /// # Errors
    /// Names the step that failed and on what.
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
            become_user(uid, gid).doing(format_args!("become the user {name}"))?;
        }
        if let Some(pid_file) = &mut pid_file {
            pid_file.write()?;
        }
        Ok(Settled { pid_file, null, background: self.background, notify })
    }
}

/// A process that is where it was told to be.
#[derive(Debug)]
pub struct Settled {
    pid_file: Option<PidFile>,
    null: File,
    background: bool,
    notify: Notify,
}

/// Whether a process in the background goes on writing to the standard output it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdout {
    /// It is where the log goes.
    Keep,
    /// Nothing is written to it.
    Close,
}

impl Settled {
    /// Tells a service manager that all went well; in the background the caller, too, whose terminal
    /// is let go of.
    ///
    /// # Errors
    /// Says which of the standard streams could not be let go of.
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
        // It may be gone already.
        caller.write_all(&[READY]).unwrap_or_default();
        Ok(())
    }

    /// Who is to be told how we are.
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

fn find_user(name: &str) -> Result<(Uid, Gid), ActionError> {
    let unknown = || {
        let source = io::Error::new(io::ErrorKind::NotFound, "there is no such user");
        ActionError::cannot(format_args!("become the user {name}"), source)
    };
    let by_name = User::from_name(name);
    let found = match (by_name, name.parse::<u32>()) {
        (Ok(Some(user)), _) => Some(user),
        (_, Ok(uid)) => User::from_uid(Uid::from_raw(uid)).ok().flatten(),
        (Err(cause), _) => {
            return Err(ActionError::cannot(format_args!("look up the user {name}"), cause));
        }
        _ => None,
    };
    found.map(|user| (user.uid, user.gid)).ok_or_else(unknown)
}

/// Groups first: afterwards there is no right to change them.
fn become_user(uid: Uid, gid: Gid) -> nix::Result<()> {
    if Uid::effective().is_root() {
        setgroups(&[gid])?;
    }
    setgid(gid)?;
    setuid(uid)
}

/// Makes a path independent of the working directory, which a process in the background leaves.
///
/// # Errors
/// The working directory is unknown.
pub fn absolute(path: &Path) -> Result<PathBuf, ActionError> {
    std::path::absolute(path).doing(format_args!("make {} absolute", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_user_is_named() {
        let error = find_user("no-such-user-here").expect_err("nobody has that name");
        assert_eq!(error.to_string(), "cannot become the user no-such-user-here");
    }

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        assert_eq!(find_user("root").unwrap(), find_user("0").unwrap());
    }
}
