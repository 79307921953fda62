//! The output file: a thread writes blocks, compressed by the file's extension, under a temporary name
//! until the file is complete.

pub(crate) mod writer;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded, unbounded};
use pen_daemon::error::{ActionError, Doing as _};

use crate::error::MergeError;

/// Bytes passed to the thread at once.
const BLOCK: usize = 256 << 10;
/// Blocks that may wait to be written.
const AHEAD: usize = 4;
/// Interval at which a stalled output checks for signals.
const SIGNAL_CHECK: Duration = Duration::from_millis(100);

/// An output file, or standard output. Dropped before [`Output::finish`], it removes the temporary file.
pub(crate) struct Output {
    name: String,
    /// Bytes not passed to the thread yet.
    pub(crate) buf: Vec<u8>,
    blocks: Option<Sender<Vec<u8>>>,
    used: Receiver<Vec<u8>>,
    /// The thread's result.
    ended: Receiver<io::Result<()>>,
    signal: Arc<AtomicUsize>,
    unfinished: Option<UnfinishedFile>,
}

/// A temporary file and its final name.
struct UnfinishedFile {
    temporary: PathBuf,
    path: PathBuf,
}

impl Drop for UnfinishedFile {
    fn drop(&mut self) {
        // Fails after the file was renamed, and otherwise leaves a temporary file behind.
        let _ = fs::remove_file(&self.temporary);
    }
}

impl Output {
    pub(crate) fn stdout(signal: &Arc<AtomicUsize>) -> Self {
        Self::new(
            "standard output".to_owned(),
            OutputSink::Plain(Box::new(io::stdout())),
            None,
            signal,
        )
    }

    pub(crate) fn create(path: &Path, signal: &Arc<AtomicUsize>) -> Result<Self, ActionError> {
        let present = fs::metadata(path).ok();
        let (sink, unfinished) = match &present {
            // A device or a pipe has no half state to hide.
            Some(meta) if !meta.is_file() => {
                (open_in_place(path).doing(format_args!("open {}", path.display()))?, None)
            }
            _ => {
                let permissions = present.map(|meta| meta.permissions());
                let (sink, unfinished) = create_unfinished(path, permissions)
                    .doing(format_args!("create {}", path.display()))?;
                (sink, Some(unfinished))
            }
        };
        Ok(Self::new(path.display().to_string(), sink, unfinished, signal))
    }

    fn new(
        name: String,
        sink: OutputSink,
        unfinished: Option<UnfinishedFile>,
        signal: &Arc<AtomicUsize>,
    ) -> Self {
        let (send, blocks) = bounded::<Vec<u8>>(AHEAD);
        let (reuse, used) = unbounded();
        let (end, ended) = bounded(1);
        thread::spawn(move || {
            let result = sink.write_all(&blocks, &reuse);
            // The output waits for this result after it has closed the channel of blocks.
            let _ = end.send(result);
        });
        let buf = Vec::with_capacity(BLOCK + BLOCK / 4);
        let signal = Arc::clone(signal);
        Self { name, buf, blocks: Some(send), used, ended, signal, unfinished }
    }

    /// Passes full blocks to the thread. Returns the thread's error, if any.
    pub(crate) fn pass_on(&mut self) -> Result<(), MergeError> {
        if self.buf.len() < BLOCK { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), MergeError> {
        let next = self.used.try_recv().unwrap_or_else(|_| Vec::with_capacity(BLOCK + BLOCK / 4));
        let mut block = std::mem::replace(&mut self.buf, next);
        while let Some(blocks) = &self.blocks {
            match blocks.send_timeout(block, SIGNAL_CHECK) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(back)) => block = back,
                Err(SendTimeoutError::Disconnected(_)) => break,
            }
            self.check_signal()?;
        }
        self.join()
    }

    /// Waits for the thread's result.
    fn join(&mut self) -> Result<(), MergeError> {
        self.blocks = None;
        loop {
            match self.ended.recv_timeout(SIGNAL_CHECK) {
                Ok(ended) => return ended.map_err(|source| self.fault(source)),
                Err(RecvTimeoutError::Timeout) => self.check_signal()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.fault(io::Error::other("the writing thread panicked")));
                }
            }
        }
    }

    /// Returns an error if a signal arrived.
    fn check_signal(&self) -> Result<(), MergeError> {
        match self.signal.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(MergeError::Signal(signal)),
        }
    }

    fn fault(&self, source: io::Error) -> MergeError {
        match source.kind() {
            io::ErrorKind::BrokenPipe => MergeError::ClosedPipe,
            _ => ActionError::cannot(format_args!("write to {}", self.name), source).into(),
        }
    }

    /// Writes the remaining bytes and gives the file its final name.
    pub(crate) fn finish(mut self) -> Result<(), MergeError> {
        if !self.buf.is_empty() {
            self.flush()?;
        }
        self.join()?;
        if let Some(unfinished) = &self.unfinished {
            fs::rename(&unfinished.temporary, &unfinished.path)
                .doing(format_args!("put the finished log at {}", self.name))?;
        }
        Ok(())
    }
}

/// Opens a device or a pipe.
fn open_in_place(path: &Path) -> io::Result<OutputSink> {
    OutputSink::by_ending(path, OpenOptions::new().write(true).open(path)?)
}

/// Creates the temporary file of an output, with the permissions of the file that it will replace.
fn create_unfinished(
    path: &Path,
    permissions: Option<Permissions>,
) -> io::Result<(OutputSink, UnfinishedFile)> {
    // A link is followed, so that it stays a link.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = target.with_file_name(name);
    let file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
    let unfinished = UnfinishedFile { temporary, path: target };
    if let Some(permissions) = permissions {
        file.set_permissions(permissions)?;
    }
    Ok((OutputSink::by_ending(path, file)?, unfinished))
}

/// The file with its compressor.
enum OutputSink {
    Plain(Box<dyn Write + Send>),
    Gzip(flate2::write::GzEncoder<File>),
    Bzip2(bzip2::write::BzEncoder<File>),
    Xz(liblzma::write::XzEncoder<File>),
    Zstd(zstd::stream::write::Encoder<'static, File>),
}

impl OutputSink {
    fn by_ending(path: &Path, file: File) -> io::Result<Self> {
        Ok(match path.extension().and_then(|ending| ending.to_str()) {
            Some("gz") => {
                Self::Gzip(flate2::GzBuilder::new().write(file, flate2::Compression::default()))
            }
            Some("bz2") => {
                Self::Bzip2(bzip2::write::BzEncoder::new(file, bzip2::Compression::default()))
            }
            Some("xz") => Self::Xz(liblzma::write::XzEncoder::new(file, 6)),
            Some("zst") => Self::Zstd(zstd::stream::write::Encoder::new(file, 0)?),
            _ => Self::Plain(Box::new(file)),
        })
    }

    fn write_all(mut self, blocks: &Receiver<Vec<u8>>, reuse: &Sender<Vec<u8>>) -> io::Result<()> {
        for mut block in blocks {
            match &mut self {
                Self::Plain(sink) => sink.write_all(&block)?,
                Self::Gzip(sink) => sink.write_all(&block)?,
                Self::Bzip2(sink) => sink.write_all(&block)?,
                Self::Xz(sink) => sink.write_all(&block)?,
                Self::Zstd(sink) => sink.write_all(&block)?,
            }
            block.clear();
            // The output drops its end of this channel early.
            let _ = reuse.send(block);
        }
        match self {
            Self::Plain(mut sink) => sink.flush(),
            Self::Gzip(sink) => sink.finish().map(drop),
            Self::Bzip2(sink) => sink.finish().map(drop),
            Self::Xz(sink) => sink.finish().map(drop),
            Self::Zstd(sink) => sink.finish().map(drop),
        }
    }
}
