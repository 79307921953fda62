//! Why a run ended early, and the exit status for it.

use pen_daemon::error::{ActionError, Exit, complain};

/// Why a run ended early.
#[derive(Debug)]
pub(crate) enum MergeError {
    /// The reader of a pipe closed it: an end, not a failure.
    ClosedPipe,
    /// This signal stopped the run.
    Signal(usize),
    /// The writer's thread ended early; its own result holds the cause.
    WriterEnded,
    /// An action failed.
    Failed(ActionError),
}

impl From<ActionError> for MergeError {
    fn from(error: ActionError) -> Self {
        Self::Failed(error)
    }
}

impl MergeError {
    /// Prints the error, if the user does not expect it, and returns the exit status.
    pub(crate) fn report(self) -> u8 {
        let error = match self {
            Self::ClosedPipe => return Exit::Done.code(),
            Self::Signal(signal) => {
                return u8::try_from(128 + signal).unwrap_or(Exit::Failed.code());
            }
            Self::WriterEnded => ActionError::cannot("write lines", "the thread ended early"),
            Self::Failed(error) => error,
        };
        complain("mergelogs", &error, Exit::Failed).code()
    }
}
