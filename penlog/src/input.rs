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

use crate::cli::InputSource;
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

/// The state of the input after a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputTaken {
    Some,
    /// The input has ended.
    End,
}

/// Where the input goes. Never waits for the network.
pub(crate) trait InputSink {
    /// Takes bytes of a readable input.
    fn take(&mut self, input: &File, queue: &SendQueue) -> io::Result<InputTaken>;
    /// Does what there is to do besides. Returns when to do so again at the latest; `None`: after the next bytes.
    fn turn(&mut self, queue: &SendQueue) -> Option<Duration>;
    /// Takes the last bytes as the last line, if the input has ended by itself.
    fn end(&mut self, end: InputTaken, queue: &SendQueue, signals: &StopSignals);
}

/// Splits the input into lines for the queue.
pub(crate) struct QueueSink(Splitter);

impl QueueSink {
    pub(crate) fn new() -> Self {
        Self(Splitter::new(0))
    }
}

impl InputSink for QueueSink {
    fn take(&mut self, mut input: &File, queue: &SendQueue) -> io::Result<InputTaken> {
        let len = input.read(self.0.space())?;
        if len == 0 {
            return Ok(InputTaken::End);
        }
        let cut = self.0.read(len, |lines| queue.push(lines.bytes));
        queue.add_cut(cut);
        Ok(InputTaken::Some)
    }

    fn turn(&mut self, _: &SendQueue) -> Option<Duration> {
        None
    }

    fn end(&mut self, _: InputTaken, queue: &SendQueue, _: &StopSignals) {
        self.0.finish(|lines| queue.push(lines.bytes));
    }
}

/// An open input, with a name for messages.
pub(crate) struct OpenInput {
    pub(crate) file: File,
    end: InputEnd,
    name: String,
}

impl OpenInput {
    /// Opens the input; `None` for followed files.
    pub(crate) fn of(source: &InputSource) -> Result<Option<Self>, ActionError> {
        match source {
            InputSource::Stdin => Self::stdin().map(Some),
            InputSource::Fifo(path) => Self::fifo(path).map(Some),
            InputSource::Files(_) => Ok(None),
        }
    }

    fn stdin() -> Result<Self, ActionError> {
        let file = io::stdin().as_fd().try_clone_to_owned().map(File::from);
        let name = "read standard input".to_owned();
        Ok(Self { file: file.doing(&name)?, end: InputEnd::Comes, name })
    }

    /// Opens a FIFO; creates it if missing.
    fn fifo(path: &Path) -> Result<Self, ActionError> {
        let name = format!("read the FIFO {}", path.display());
        Ok(Self { file: open_fifo(path).doing(&name)?, end: InputEnd::Never, name })
    }

    /// Reads up to the end of the input; after a stop signal, for at most [`GRACE`].
    pub(crate) fn read_into(
        &self,
        sink: &mut impl InputSink,
        queue: &SendQueue,
        signals: &StopSignals,
    ) -> Result<(), ActionError> {
        let ended = read(&self.file, self.end, sink, queue, signals);
        sink.end(*ended.as_ref().unwrap_or(&InputTaken::End), queue, signals);
        ended.map(drop).doing(&self.name)
    }
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
    input: &File,
    end: InputEnd,
    sink: &mut impl InputSink,
    queue: &SendQueue,
    signals: &StopSignals,
) -> io::Result<InputTaken> {
    // Fails if the input is no pipe or the size exceeds the user's limit; the default size works too.
    let _ = fcntl(input, FcntlArg::F_SETPIPE_SZ(PIPE));
    let mut deadline = None;
    // When the input has been quiet for long enough.
    let mut quiet: Option<Instant> = None;
    loop {
        if signals.stop() && deadline.is_none() {
            signals.clear();
            deadline = Some(Instant::now() + GRACE);
        }
        let until = match deadline {
            None => None,
            Some(_) if end == InputEnd::Never || signals.hurry() => {
                Some(*quiet.get_or_insert_with(|| Instant::now() + QUIET))
            }
            Some(deadline) => Some(deadline),
        };
        let again = sink.turn(queue);
        let now = Instant::now();
        let left = until.map(|until| until.saturating_duration_since(now));
        let over = deadline.is_some_and(|deadline| now >= deadline);
        let patience = left.into_iter().chain(again).min();
        match wait(input.as_fd(), signals, deadline.is_none(), patience)? {
            InputReady::Signal if !over => continue,
            InputReady::Nothing if until.is_none_or(|until| Instant::now() < until) => continue,
            InputReady::Nothing | InputReady::Signal => return Ok(InputTaken::Some),
            InputReady::Input if over => return Ok(InputTaken::Some),
            InputReady::Input => quiet = None,
        }
        match sink.take(input, queue) {
            Ok(InputTaken::End) => return Ok(InputTaken::End),
            Ok(InputTaken::Some) => {}
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
    }
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

/// Lets a moment pass.
pub(crate) fn pause(duration: Duration) {
    // An interruption by a signal only makes it shorter.
    let _ = poll(&mut [], timeout(duration));
}
