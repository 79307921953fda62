//! Signals: TERM, INT and HUP stop penlog, USR1 asks for a report.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::{flag, low_level};

use crate::queue::SendQueue;

/// Signals received so far.
#[derive(Debug)]
pub(crate) struct StopSignals {
    /// Readable after a stop signal.
    stream: UnixStream,
    stop: Arc<AtomicBool>,
    hurry: Arc<AtomicBool>,
    report: Arc<AtomicBool>,
}

impl StopSignals {
    pub(crate) fn new() -> io::Result<Self> {
        let (stream, wake) = UnixStream::pair()?;
        stream.set_nonblocking(true)?;
        let [stop, hurry, report] = std::array::from_fn(|_| Arc::new(AtomicBool::new(false)));
        for signal in [SIGTERM, SIGHUP, SIGINT] {
            flag::register(signal, Arc::clone(&stop))?;
        }
        // INT comes from a terminal, where nobody waits for the end of the input.
        flag::register(SIGINT, Arc::clone(&hurry))?;
        for signal in [SIGTERM, SIGHUP, SIGINT] {
            low_level::pipe::register(signal, wake.try_clone()?)?;
        }
        flag::register(SIGUSR1, Arc::clone(&report))?;
        Ok(Self { stream, stop, hurry, report })
    }

    /// Makes USR1 wake the sender.
    pub(crate) fn wake_on_report(&self, queue: &SendQueue) -> io::Result<()> {
        let wake: std::os::fd::OwnedFd = queue.wake_handle()?.into();
        low_level::pipe::register_raw(SIGUSR1, wake).map(drop)
    }

    /// Returns the flag that USR1 sets.
    pub(crate) fn report(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.report)
    }

    /// Returns whether to stop at the end of the input.
    pub(crate) fn stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Returns whether to stop now.
    pub(crate) fn hurry(&self) -> bool {
        self.hurry.load(Ordering::Acquire)
    }

    /// Empties the wake-up pipe.
    pub(crate) fn clear(&self) {
        use std::io::Read as _;
        // Nothing to read: another thread was faster.
        let _ = (&self.stream).read(&mut [0; 64]);
    }
}

impl AsFd for StopSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
