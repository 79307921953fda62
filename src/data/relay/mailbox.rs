//! Commands for a worker, and the waker, an eventfd.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Sender;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};

use super::report::ReportRequest;
use crate::config::Endpoint;
use crate::config::PoolServerId;

/// A command for a worker.
#[derive(Clone, Debug)]
pub enum WorkerCommand {
    /// Stop accepting, reset the connections that are left at `deadline`, and end.
    Stop {
        /// When the drain is over.
        deadline: Instant,
    },
    /// Close the connection with this number, and confirm the closing by a message.
    Close(u64, Sender<()>),
    /// Close all connections to this server at this address.
    CloseAll(PoolServerId, Endpoint),
    /// Report the connections.
    Report(ReportRequest),
    /// Panic, so that a test sees how the program reacts.
    #[cfg(test)]
    Panic,
}

/// Holds the commands that a worker has not taken yet.
pub struct Mailbox {
    commands: Mutex<Vec<WorkerCommand>>,
    /// An eventfd in the worker's epoll set.
    waker: OwnedFd,
}

impl Mailbox {
    /// Creates an empty mailbox.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn new() -> std::io::Result<Self> {
        let waker = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { commands: Mutex::new(Vec::new()), waker })
    }

    /// Adds a command and wakes the worker.
    pub fn put(&self, command: WorkerCommand) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        self.wake();
    }

    /// Wakes the worker, which then looks for commands and changed settings.
    pub(super) fn wake(&self) {
        // It fails only if the counter is full, and then the worker is being woken already.
        let _ = rustix::io::write(&self.waker, &1_u64.to_ne_bytes());
    }

    pub(super) const fn waker(&self) -> &OwnedFd {
        &self.waker
    }

    /// Takes all commands and resets the waker.
    pub(super) fn take(&self) -> Vec<WorkerCommand> {
        let _ = rustix::io::read(&self.waker, &mut [0_u8; 8]); // it fails if nobody has woken the worker
        std::mem::take(&mut self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("waker", &self.waker).finish_non_exhaustive()
    }
}
