//! A log that is written, and rotated, removed, copied, packed and moved meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::scene::LineInput;
use super::writer::pause;
use crate::stage::{require_installed, run_to_end};
use crate::{ActionError, Doing as _};

/// Pause between two rotations by renaming.
const RENAME: Duration = Duration::from_millis(200);
/// Pause between two removals or truncations.
const REPLACE: Duration = Duration::from_secs(2);
/// How many new files are made to get an inode again.
const TRIES: u32 = 1_000;

pub(crate) struct LogFile {
    path: PathBuf,
    file: Option<File>,
    input: LineInput,
    since: Instant,
    number: u32,
}

impl LogFile {
    pub(crate) fn create(path: PathBuf, input: LineInput) -> io::Result<Self> {
        let file = Some(open(&path)?);
        Ok(Self { path, file, input, since: Instant::now(), number: 0 })
    }

    /// Appends lines, after a rotation if it is time.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.input {
            LineInput::Renamed if self.since.elapsed() >= RENAME => {
                self.rename()?;
            }
            LineInput::Removed if self.since.elapsed() >= REPLACE => {
                fs::remove_file(&self.path)?;
                self.reopen()?;
            }
            _ => {}
        }
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(bytes))
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.since = Instant::now();
        self.file = Some(open(&self.path)?);
        Ok(())
    }

    fn rename(&mut self) -> io::Result<PathBuf> {
        self.number += 1;
        let old = numbered(&self.path, self.number);
        fs::rename(&self.path, &old)?;
        self.reopen()?;
        Ok(old)
    }

    /// Removes the file, and makes a new one with its inode. Returns whether there is one.
    pub(crate) fn reuse_inode(&mut self) -> io::Result<bool> {
        let inode = fs::metadata(&self.path)?.ino();
        self.file = None;
        fs::remove_file(&self.path)?;
        let mut others = Vec::new();
        let mut found = false;
        for number in 0..TRIES {
            self.reopen()?;
            found = fs::metadata(&self.path)?.ino() == inode;
            if found {
                break;
            }
            let other = self.path.with_file_name(format!("other{number}"));
            fs::rename(&self.path, &other)?;
            others.push(other);
        }
        others.iter().try_for_each(fs::remove_file)?;
        self.reopen()?;
        Ok(found)
    }

    /// Renames the file and packs it.
    pub(crate) fn pack(&mut self) -> Result<(), ActionError> {
        let old = self.rename().doing("rotate a log")?;
        run_to_end(Command::new(require_installed("gzip")?).arg(old)).map(drop)
    }

    /// Closes the file, lets its file system be mounted otherwise, and opens it again.
    pub(crate) fn while_closed(
        &mut self,
        change: impl FnOnce() -> Result<(), ActionError>,
    ) -> Result<(), ActionError> {
        self.file = None;
        change()?;
        self.reopen().doing("open a log again")
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    path.with_extension(format!("log.{number}"))
}

/// A thread that copies and truncates a file now and then, as `copytruncate` of logrotate does.
pub(crate) struct Copier {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Copier {
    pub(crate) fn start(path: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for number in 1.. {
                let since = Instant::now();
                while since.elapsed() < REPLACE {
                    if ending.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    pause(Duration::from_millis(20));
                }
                fs::copy(&path, numbered(&path, number))?;
                OpenOptions::new().write(true).open(&path)?.set_len(0)?;
            }
            Ok(())
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A rotation that failed shows in the counts.
            let _ended = thread.join();
        }
    }
}
