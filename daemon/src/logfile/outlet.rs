//! Where a log's bytes go: a file, or a pipe whose reader may be slow, or away. Nothing here waits for
//! longer than it is told to.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::warn;

/// What a pipe takes without making anybody wait, once it says that it takes something: a page, which
/// is `PIPE_BUF`.
const PIECE: usize = 4096;
/// What a pipe should hold, so that its reader need not be woken for each piece.
const PIPE: i32 = 1 << 20;

#[derive(Debug)]
pub(super) struct Outlet {
    file: File,
    /// A write to it does not wait for anybody.
    is_file: bool,
}

impl Outlet {
    /// Opens `path` for appending. If a line was left unfinished there, by a crash, it is ended.
    pub(super) fn append(path: &Path) -> io::Result<Self> {
        let is_pipe = path.metadata().is_ok_and(|meta| meta.file_type().is_fifo());
        let mut options = OpenOptions::new();
        // With a reading end of our own a named pipe needs no other reader: not to be opened, and not
        // to stay open when one goes.
        let file = if is_pipe {
            options.read(true).write(true)
        } else {
            options.append(true).create(true)
        }
        .custom_flags(OFlag::O_NOCTTY.bits())
        .open(path)?;
        let outlet = Self::new(file);
        outlet.end_last_line(path);
        Ok(outlet)
    }

    pub(super) fn stdout() -> io::Result<Self> {
        Ok(Self::new(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }

    fn new(file: File) -> Self {
        let kind = file.metadata().map(|meta| meta.file_type());
        let is_file = kind.as_ref().is_ok_and(fs_file);
        if kind.is_ok_and(|kind| kind.is_fifo()) {
            // Refused beyond a bound of the system's; then it stays as it is.
            fcntl(&file, FcntlArg::F_SETPIPE_SZ(PIPE)).unwrap_or_default();
        }
        Self { file, is_file }
    }

    /// Writes some of it, if that is possible within `patience`.
    pub(super) fn write(&mut self, bytes: &[u8], patience: Duration) -> io::Result<usize> {
        if self.is_file {
            return self.file.write(bytes);
        }
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut fds, timeout)? == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.file.write(&bytes[..bytes.len().min(PIECE)])
    }

    /// Bytes in it; 0 where that cannot be known.
    pub(super) fn len(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.len())
    }

    /// Whether somebody removed it: what is written to it would never be seen.
    pub(super) fn is_nameless(&self) -> bool {
        self.is_file && self.file.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }

    /// Takes the last `part` bytes off, if it still is `len` long. Says whether it did.
    pub(super) fn cut(&self, part: u64, len: u64) -> bool {
        let unchanged = self.is_file && self.len() == len;
        unchanged && self.file.set_len(len.saturating_sub(part)).is_ok()
    }

    /// Best effort: what was cut off by a crash must not have our first line glued to it.
    fn end_last_line(&self, path: &Path) {
        if !self.is_file || self.len() == 0 {
            return;
        }
        let mut last = [0];
        let read = File::open(path).and_then(|file| file.read_exact_at(&mut last, self.len() - 1));
        if read.is_ok() && last != [b'\n'] {
            warn!("{} ends in a part of a line: ending it", path.display());
            (&self.file).write_all(b"\n").unwrap_or_default();
        }
    }
}

fn fs_file(kind: &std::fs::FileType) -> bool {
    kind.is_file() || kind.is_block_device()
}
