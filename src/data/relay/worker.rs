//! The common part of TCP and UDP workers: a thread with an epoll instance, which takes commands
//! and settings from the mailbox and writes records to the sinks.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use pen_records::addr::ClientAddr;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;
use tracing::warn;

use super::jobs::Jobs;
use super::mailbox::Mailbox;
use super::shared::Shared;
use crate::config::RuntimeSettings;
use crate::logs::sinks::RecordSinks;

/// Largest number of events from one `epoll_wait`.
pub(super) const EVENTS: usize = 256;

/// The state common to all workers.
#[derive(Debug)]
pub(super) struct WorkerCore {
    pub(super) epoll: OwnedFd,
    mailbox: Arc<Mailbox>,
    pub(super) shared: Arc<Shared>,
    /// The settings in force, as of `version`.
    pub(super) settings: Arc<RuntimeSettings>,
    version: u64,
    pub(super) jobs: Jobs,
    /// Mapping records and access lines go here.
    pub(super) sinks: RecordSinks,
    /// The time of the current round: read once after each `epoll_wait`.
    pub(super) now: Instant,
    /// When the remaining connections are closed; `None` until the worker is told to stop.
    pub(super) stop: Option<Instant>,
}

impl WorkerCore {
    /// Creates the epoll instance and watches the mailbox under the token `waker`.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub(super) fn new(
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        mut sinks: RecordSinks,
        waker: EventData,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, mailbox.waker(), waker, EventFlags::IN)?;
        let settings = shared.settings();
        sinks.apply_settings(&settings);
        Ok(Self {
            epoll,
            mailbox,
            version: shared.version(),
            settings,
            shared,
            jobs: Jobs::default(),
            sinks,
            now: Instant::now(),
            stop: None,
        })
    }

    /// Waits for events until `due`, or without end if `due` is `None`, and reads the clock.
    pub(super) fn wait(&mut self, events: &mut Vec<Event>, due: Option<Instant>) {
        // The kernel waits for whole milliseconds, and rounds up.
        let timeout =
            due.and_then(|due| Timespec::try_from(due.saturating_duration_since(self.now)).ok());
        events.clear();
        let waited = epoll::wait(&self.epoll, spare_capacity(events), timeout.as_ref());
        self.now = Instant::now();
        if let Err(error) = waited
            && error != Errno::INTR
        {
            warn!(%error, "cannot wait for events");
        }
    }

    /// Returns when the sinks or the end of the drain need the worker.
    pub(super) fn next_due(&self) -> Option<Instant> {
        [self.sinks.next_due(), self.stop].into_iter().flatten().min()
    }

    /// Queues the commands in the mailbox as jobs. Returns whether a command was to stop.
    pub(super) fn take_commands(&mut self) -> bool {
        let mut stops = false;
        for command in self.mailbox.take() {
            if let Some(deadline) = self.jobs.take(command) {
                self.stop = Some(deadline);
                stops = true;
            }
        }
        stops
    }

    /// Takes over changed settings. Returns the settings that were in force before, or `None` if
    /// nothing changed.
    pub(super) fn take_settings(&mut self) -> Option<Arc<RuntimeSettings>> {
        let version = self.shared.version();
        if version == self.version {
            return None;
        }
        self.version = version;
        let before = std::mem::replace(&mut self.settings, self.shared.settings());
        self.sinks.apply_settings(&self.settings);
        Some(before)
    }

    /// Returns whether the client access list admits `addr`, and counts a denied client.
    pub(super) fn admits(&self, addr: ClientAddr) -> bool {
        let admitted = self.settings.acls.permits(self.settings.client_acl, addr);
        if !admitted {
            self.shared.counters.denied.fetch_add(1, Relaxed);
        }
        admitted
    }

    /// Returns whether the time to drain is over.
    pub(super) fn drain_is_over(&self) -> bool {
        self.stop.is_some_and(|deadline| self.now >= deadline)
    }
}

/// Returns whether an attempt failed for lack of local resources, which is no failure of the server.
pub(super) fn is_local_shortage(error: &io::Error) -> bool {
    let Some(error) = error.raw_os_error().map(Errno::from_raw_os_error) else { return false };
    // No descriptors, no memory, epoll full; no local port.
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::NOSPC];
    shortages.contains(&error)
        || error == Errno::ADDRNOTAVAIL
        // The backlog of a Unix-domain socket is full: the server is busy, not broken.
        || error == Errno::AGAIN
}
