//! Reads lines from standard input or a FIFO. Reading never waits for the network.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use pen_daemon::error::{ActionError, Doing as _};

use crate::queue::SendQueue;
use crate::signals::StopSignals;
use crate::splitter::Splitter;

/// How long the web server's old processes may go on writing after penlog was told to stop.
const GRACE: Duration = Duration::from_secs(10);
/// A FIFO held open has no end: after this long without a byte, penlog treats it as ended.
const QUIET: Duration = Duration::from_millis(100);

/// Pipe capacity to request, in bytes, for the time penlog is not scheduled. Linux gives 64 KiB by default.
const PIPE: i32 = 1 << 20;

/// Whether the input can end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InputEnd {
    Comes,
    Never,
}

/// Reads standard input up to its end; after a stop signal, for at most [`GRACE`].
pub(crate) fn stdin(queue: &SendQueue, signals: &StopSignals) -> Result<(), ActionError> {
    let input = io::stdin().as_fd().try_clone_to_owned().map(File::from);
    input
        .and_then(|input| read(&input, InputEnd::Comes, queue, signals))
        .doing("read standard input")
}

/// Reads a FIFO until a stop signal; creates the FIFO if missing.
pub(crate) fn fifo(
    path: &Path,
    queue: &SendQueue,
    signals: &StopSignals,
) -> Result<(), ActionError> {
    open_fifo(path)
        .and_then(|input| read(&input, InputEnd::Never, queue, signals))
        .doing(format_args!("read the FIFO {}", path.display()))
}

/// Opens the FIFO for writing too, so that reading does not end when the web server closes it or restarts.
fn open_fifo(path: &Path) -> io::Result<File> {
    match mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it exists and is not a FIFO"))
    }
}

fn read(
    mut input: &File,
    end: InputEnd,
    queue: &SendQueue,
    signals: &StopSignals,
) -> io::Result<()> {
    // Fails if the input is no pipe or the size exceeds the user's limit; the default size works too.
    let _ = fcntl(input, FcntlArg::F_SETPIPE_SZ(PIPE));
    let mut splitter = Splitter::new(0);
    let mut deadline = None;
    loop {
        if signals.stop() && deadline.is_none() {
            signals.clear();
            deadline = Some(Instant::now() + GRACE);
        }
        let patience = match deadline {
            None => None,
            Some(_) if end == InputEnd::Never || signals.hurry() => Some(QUIET),
            Some(deadline) => Some(deadline.saturating_duration_since(Instant::now())),
        };
        let over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        match wait(input.as_fd(), signals, deadline.is_none(), patience)? {
            InputReady::Signal if !over => continue,
            InputReady::Nothing | InputReady::Signal => break,
            InputReady::Input if over => break,
            InputReady::Input => {}
        }
        match input.read(splitter.space()) {
            Ok(0) => break,
            Ok(len) => {
                let cut = splitter.read(len, |lines| queue.push(lines.bytes));
                queue.add_cut(cut);
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => {
                splitter.finish(|lines| queue.push(lines.bytes));
                return Err(error);
            }
        }
    }
    splitter.finish(|lines| queue.push(lines.bytes));
    Ok(())
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

enum InputReady {
    Input,
    Signal,
    Nothing,
}

/// Waits for input, for a signal (if `heed`), or until `patience` has passed.
fn wait(
    input: BorrowedFd<'_>,
    signals: &StopSignals,
    heed: bool,
    patience: Option<Duration>,
) -> io::Result<InputReady> {
    let mut fds =
        [PollFd::new(input, PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    let watched = if heed { &mut fds[..] } else { &mut fds[..1] };
    let timeout = patience.map_or(PollTimeout::NONE, timeout);
    match poll(watched, timeout) {
        Ok(0) => Ok(InputReady::Nothing),
        Ok(_) if fds[0].any() == Some(true) => Ok(InputReady::Input),
        Ok(_) | Err(Errno::EINTR) => Ok(InputReady::Signal),
        Err(error) => Err(error.into()),
    }
}

/// Converts a duration for poll(2), which takes whole milliseconds: rounded up, so that callers never spin.
pub(crate) fn timeout(duration: Duration) -> PollTimeout {
    let millis = duration.as_micros().div_ceil(1000).min(60_000);
    PollTimeout::from(u16::try_from(millis).unwrap_or(60_000))
}
