//! Errors of programs: one type for an action that failed, one way to print errors, one set of exit codes.

use std::error::Error;
use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

/// How a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: all done.
    Done,
    /// 1: an action failed.
    Failed,
    /// 2: the command line or the configuration is wrong; nothing was started.
    Misused,
    /// 3: all was done, but the inputs do not fit each other.
    Misfit,
}

impl Exit {
    /// Returns the exit status as a number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Misused => 2,
            Self::Misfit => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An action of a program that failed: "cannot ACTION THING", with its cause as [`Error::source`].
#[derive(Debug)]
pub struct ActionError {
    text: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl ActionError {
    /// Makes an error with a text of its own and no cause, such as "already running as process 42".
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), cause: None }
    }

    /// Makes an error that reads "cannot `action`". `action` is a verb and its object: "open /etc/pen.conf".
    pub fn cannot(
        action: impl fmt::Display,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { text: format!("cannot {action}"), cause: Some(cause.into()) }
    }
}

impl fmt::Display for ActionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for ActionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

/// Adds the failed action to an error.
pub trait Doing<T> {
    /// Turns an error into an [`ActionError`] that reads "cannot `action`". `action` is displayed only on an error, so
    /// `format_args!` costs nothing otherwise.
    ///
    /// # Errors
    /// The error of `self`, as the cause of an [`ActionError`].
    fn doing(self, action: impl fmt::Display) -> Result<T, ActionError>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Doing<T> for Result<T, E> {
    fn doing(self, action: impl fmt::Display) -> Result<T, ActionError> {
        self.map_err(|cause| ActionError::cannot(action, cause))
    }
}

/// Adds to an error of a socket that cannot listen at `port` what to do. `letters` are those of `ss` for such sockets.
#[must_use]
pub fn of_listening(source: io::Error, port: u16, letters: &str) -> io::Error {
    let hint = match source.kind() {
        io::ErrorKind::AddrInUse => {
            format!("see who has the port by ss -{letters} sport = :{port}")
        }
        io::ErrorKind::PermissionDenied if port < 1024 => {
            "ports below 1024 take root or CAP_NET_BIND_SERVICE".to_owned()
        }
        _ => return source,
    };
    io::Error::new(source.kind(), format!("{source}: {hint}"))
}

/// Returns the text of an error followed by the text of each cause: "cannot open a.log: Permission denied".
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Prints an error with its causes to stderr, each line behind the program's name. Returns `exit`, for the end of `main`.
pub fn complain(program: &str, error: &dyn Error, exit: Exit) -> Exit {
    say(program, &chain(error));
    exit
}

/// Prints a message to stderr, each line behind the program's name.
pub fn say(program: &str, text: &str) {
    for line in text.lines() {
        // stderr is closed: nothing is left to report to.
        let _ = writeln!(io::stderr(), "{program}: {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_action_and_its_causes() {
        let inner: Result<(), _> = Err(io::Error::other("the disk is full"));
        let error = inner.doing("write a.log").doing(format_args!("save {}", "state")).unwrap_err();
        assert_eq!(chain(&error), "cannot save state: cannot write a.log: the disk is full");
        assert_eq!(chain(&ActionError::new("already running")), "already running");
    }

    #[test]
    fn exit_codes_are_those_of_other_programs() {
        let all = [Exit::Done, Exit::Failed, Exit::Misused, Exit::Misfit];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3]);
    }

    #[test]
    fn what_to_do_about_a_port_is_said() {
        let said = |kind: io::ErrorKind, port| of_listening(kind.into(), port, "lunp").to_string();
        let taken = said(io::ErrorKind::AddrInUse, 10_000);
        assert!(taken.ends_with(": see who has the port by ss -lunp sport = :10000"), "{taken}");
        let low = said(io::ErrorKind::PermissionDenied, 514);
        assert!(low.ends_with(": ports below 1024 take root or CAP_NET_BIND_SERVICE"), "{low}");
        let high = said(io::ErrorKind::PermissionDenied, 1_024);
        assert!(!high.contains("1024"), "{high}");
    }
}
