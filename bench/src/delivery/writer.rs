//! A thread that writes numbered lines at a steady rate, whatever happens to the programs.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::log_file::LogFile;
use crate::stage::Deadline;
use crate::{ActionError, Doing as _};

/// Where lines go.
pub(crate) enum LineOutput {
    Pipe(Box<dyn Write + Send>),
    /// A file that somebody changes while the lock is held.
    File(Arc<Mutex<LogFile>>),
}

impl LineOutput {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Pipe(pipe) => pipe.write_all(bytes),
            Self::File(file) => match file.lock() {
                Ok(mut file) => file.write(bytes),
                Err(_) => Err(std::io::Error::other("the thread that changes the file panicked")),
            },
        }
    }
}

#[derive(Default)]
struct Progress {
    lines: AtomicU64,
    bytes: AtomicU64,
    stop: AtomicBool,
}

/// The running thread.
pub(crate) struct Writer {
    progress: Arc<Progress>,
    thread: Option<JoinHandle<Result<(), ActionError>>>,
}

impl Writer {
    pub(crate) fn start(mut output: LineOutput, rate: u32) -> Self {
        let progress = Arc::new(Progress::default());
        let shared = Arc::clone(&progress);
        let thread = std::thread::spawn(move || write(&mut output, rate, &shared));
        Self { progress, thread: Some(thread) }
    }

    /// Lines written so far.
    pub(crate) fn lines(&self) -> u64 {
        self.progress.lines.load(Ordering::Acquire)
    }

    /// Bytes written so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.progress.bytes.load(Ordering::Acquire)
    }

    /// Ends the thread, and with it a pipe. Returns the number of lines.
    pub(crate) fn finish(&mut self) -> Result<u64, ActionError> {
        self.progress.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_panic| ActionError::new("the writer panicked"))??;
        }
        Ok(self.progress.lines.load(Ordering::Acquire))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // The thread may wait for the reader of a pipe that ends later.
        self.progress.stop.store(true, Ordering::Release);
    }
}

fn write(output: &mut LineOutput, rate: u32, progress: &Progress) -> Result<(), ActionError> {
    let start = Instant::now();
    let mut next = 0;
    while !progress.stop.load(Ordering::Acquire) {
        let due = start.elapsed().as_micros() * u128::from(rate) / 1_000_000;
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        let lines: String = (next..due).map(line).collect();
        output.write(lines.as_bytes()).doing("write lines")?;
        next = due.max(next);
        progress.bytes.fetch_add(lines.len() as u64, Ordering::AcqRel);
        progress.lines.store(next, Ordering::Release);
        pause(Duration::from_millis(5));
    }
    Ok(())
}

/// Lets time pass.
pub(crate) fn pause(time: Duration) {
    let mut deadline = Deadline::after(time);
    while !time.is_zero() && deadline.nap() {}
}

/// The line with a number.
pub(crate) fn line(number: u64) -> String {
    format!(
        "10.0.0.1 - - [30/Nov/2026:20:00:00 +0000] \"GET /{number} HTTP/1.1\" 200 5 \"-\" \"curl\"\n"
    )
}
