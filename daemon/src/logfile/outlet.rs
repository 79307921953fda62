//! The file or pipe behind a log. A pipe's reader may be slow or absent; no call waits longer than its caller allows.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use super::place::LogPlace;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, readlinkat};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::geteuid;
use tracing::warn;

/// What a pipe takes without blocking once poll(2) reports it writable: one page, which is `PIPE_BUF`.
const PIECE: usize = 4096;
/// Pipe capacity to request, so that the reader is woken less often.
const PIPE: i32 = 1 << 20;
/// The most symbolic links from a path to its file.
const LINKS: u32 = 40;

#[derive(Debug)]
pub(super) struct Outlet {
    file: File,
    /// A plain file, where writes do not wait for a reader.
    is_file: bool,
}

impl Outlet {
    /// Opens `path` for appending. An unfinished last line, left by a crash, gets a line feed.
    pub(super) fn append(path: &Path) -> io::Result<Self> {
        let is_pipe = path.metadata().is_ok_and(|meta| meta.file_type().is_fifo());
        let mut options = OpenOptions::new();
        // A named pipe is opened for reading too: then opening does not wait for a reader, and the pipe survives one.
        if is_pipe { options.read(true).write(true) } else { options.append(true).create(true) }
            .mode(0o640)
            .custom_flags((OFlag::O_NOCTTY | OFlag::O_NOFOLLOW).bits());
        let file = open_own(&options, path)?;
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
            // Fails beyond the system's limit; the default size works too.
            let _ = fcntl(&file, FcntlArg::F_SETPIPE_SZ(PIPE));
        }
        Self { file, is_file }
    }

    /// Writes some bytes, if the file or pipe accepts them within `patience`.
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

    /// Returns the length of the file; 0 if unknown.
    pub(super) fn len(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.len())
    }

    /// Returns the end of the file; `None` if it is no plain file.
    pub(super) fn end(&self) -> Option<LogPlace> {
        let meta = self.file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some(LogPlace { device: meta.dev(), inode: meta.ino(), offset: meta.len() })
    }

    pub(super) fn again(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Returns whether the file was removed, so that nobody would see new lines.
    pub(super) fn is_removed(&self) -> bool {
        self.is_file && self.file.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }

    /// Cuts the last `part` bytes off if the file is still `len` bytes long. Returns whether it did.
    pub(super) fn cut(&self, part: u64, len: u64) -> bool {
        let unchanged = self.is_file && self.len() == len;
        unchanged && self.file.set_len(len.saturating_sub(part)).is_ok()
    }

    /// Ends an unfinished line, so that the first new line does not continue it. Errors are ignored.
    fn end_last_line(&self, path: &Path) {
        if !self.is_file || self.len() == 0 {
            return;
        }
        let mut last = [0];
        let read = File::open(path).and_then(|file| file.read_exact_at(&mut last, self.len() - 1));
        if read.is_ok() && last != [b'\n'] {
            warn!("{} ends in a part of a line: ending it", path.display());
            let _ = (&self.file).write_all(b"\n");
        }
    }
}

/// Opens a file, through a symbolic link only if root or this user made it: another user could have it lead anywhere.
/// `options` do not follow links by themselves.
fn open_own(options: &OpenOptions, path: &Path) -> io::Result<File> {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        match options.open(&path) {
            Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => {}
            opened => return opened,
        }
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        let link = OpenOptions::new().read(true).custom_flags(flags.bits()).open(&path)?;
        let owner = link.metadata()?.uid();
        if owner != 0 && owner != geteuid().as_raw() {
            let text = format!("{} is a symbolic link of another user ({owner})", path.display());
            return Err(io::Error::new(ErrorKind::PermissionDenied, text));
        }
        let target = readlinkat(&link, "")?;
        path = path.parent().unwrap_or_else(|| Path::new("/")).join(target);
    }
    Err(Errno::ELOOP.into())
}

fn fs_file(kind: &std::fs::FileType) -> bool {
    kind.is_file() || kind.is_block_device()
}
