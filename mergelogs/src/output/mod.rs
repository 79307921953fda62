//! The output file: a thread writes blocks, compressed by the file's extension, under a temporary name
//! until the file is complete.

pub(crate) mod writer;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded, unbounded};

/// Bytes passed to the thread at once.
const BLOCK: usize = 256 << 10;
/// Blocks that may wait to be written.
const AHEAD: usize = 4;
/// Interval at which a stalled output checks for signals.
const LISTEN: Duration = Duration::from_millis(100);

/// An output that could not be written.
#[derive(Debug)]
pub(crate) struct OutputError {
    deed: &'static str,
    name: String,
    source: io::Error,
}

impl OutputError {
    /// Returns whether the reader of a pipe closed it: an end, not an error.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        self.source.kind() == io::ErrorKind::BrokenPipe
    }

    /// Returns whether a signal arrived while the output was stalled.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.source.kind() == io::ErrorKind::Interrupted
    }
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.deed, self.name, self.source)
    }
}

impl std::error::Error for OutputError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

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
        // Renamed by now, or to be removed; there is nobody to tell if it cannot.
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

    pub(crate) fn create(path: &Path, signal: &Arc<AtomicUsize>) -> Result<Self, OutputError> {
        let fail = |deed, source| OutputError { deed, name: path.display().to_string(), source };
        let present = fs::metadata(path).ok();
        if present.as_ref().is_some_and(|meta| !meta.is_file()) {
            // A device or a pipe has no half state to hide.
            let file = OpenOptions::new().write(true).open(path).map_err(|e| fail("open", e))?;
            let sink = OutputSink::by_ending(path, file).map_err(|e| fail("open", e))?;
            return Ok(Self::new(path.display().to_string(), sink, None, signal));
        }
        // A link is followed, so that it stays one.
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = target.with_file_name(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(|e| fail("create", e))?;
        let unfinished = UnfinishedFile { temporary, path: target };
        if let Some(meta) = present {
            file.set_permissions(meta.permissions()).map_err(|e| fail("create", e))?;
        }
        let sink = OutputSink::by_ending(path, file).map_err(|e| fail("create", e))?;
        Ok(Self::new(path.display().to_string(), sink, Some(unfinished), signal))
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
            // Before its verdict is looked for, the thread lets go of the blocks.
            let _ = end.send(result);
        });
        let buf = Vec::with_capacity(BLOCK + BLOCK / 4);
        let signal = Arc::clone(signal);
        Self { name, buf, blocks: Some(send), used, ended, signal, unfinished }
    }

    /// Passes full blocks to the thread. Returns the thread's error, if any.
    pub(crate) fn pass_on(&mut self) -> Result<(), OutputError> {
        if self.buf.len() < BLOCK { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), OutputError> {
        let next = self.used.try_recv().unwrap_or_else(|_| Vec::with_capacity(BLOCK + BLOCK / 4));
        let mut block = std::mem::replace(&mut self.buf, next);
        while let Some(blocks) = &self.blocks {
            match blocks.send_timeout(block, LISTEN) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(back)) => block = back,
                Err(SendTimeoutError::Disconnected(_)) => break,
            }
            self.listen()?;
        }
        self.join()
    }

    /// Waits for the thread's result.
    fn join(&mut self) -> Result<(), OutputError> {
        self.blocks = None;
        loop {
            match self.ended.recv_timeout(LISTEN) {
                Ok(ended) => return ended.map_err(|source| self.fault(source)),
                Err(RecvTimeoutError::Timeout) => self.listen()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.fault(io::Error::other("the writing thread broke down")));
                }
            }
        }
    }

    fn listen(&self) -> Result<(), OutputError> {
        match self.signal.load(Ordering::Relaxed) {
            0 => Ok(()),
            _ => Err(self.fault(io::ErrorKind::Interrupted.into())),
        }
    }

    fn fault(&self, source: io::Error) -> OutputError {
        OutputError { deed: "write to", name: self.name.clone(), source }
    }

    /// Writes the remaining bytes and gives the file its final name.
    pub(crate) fn finish(mut self) -> Result<(), OutputError> {
        if !self.buf.is_empty() {
            self.flush()?;
        }
        self.join()?;
        if let Some(unfinished) = &self.unfinished {
            fs::rename(&unfinished.temporary, &unfinished.path).map_err(|source| OutputError {
                deed: "put the finished log at",
                name: self.name.clone(),
                source,
            })?;
        }
        Ok(())
    }
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
            // At the end nobody takes it back.
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
