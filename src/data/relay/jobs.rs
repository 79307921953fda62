//! Jobs over all connections of a worker: a slice of the slots in each round, so that traffic never
//! waits for a whole job.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::mailbox::WorkerCommand;
use super::report::ReportJob;
use crate::config::Endpoint;
use crate::config::PoolServerId;

/// Slots visited in one round.
const SLICE: u32 = 1_024;

/// A job.
#[derive(Debug)]
pub(super) enum Job {
    /// Report the connections.
    Report(ReportJob),
    /// Close the connection with this number, and confirm the closing by a message.
    Close(u64, Sender<()>),
    /// Close all connections to this server at this address.
    CloseAll(PoolServerId, Endpoint),
    /// Set the timers again, as the timeouts have changed.
    SetTimers,
}

/// Unfinished jobs with their next slot, oldest first.
#[derive(Debug, Default)]
pub(super) struct Jobs(VecDeque<(Job, u32)>);

/// A worker whose connections lie in numbered slots.
pub(super) trait JobTarget {
    /// Returns the worker's jobs.
    fn jobs(&mut self) -> &mut Jobs;

    /// Returns how many slots there are, free slots included.
    fn slots(&self) -> usize;

    /// Adds the connections in `slots` to a report.
    fn report(&self, slots: Range<u32>, job: &mut ReportJob);

    /// Closes the connection with this number if the connection lies in `slots`. Returns whether a
    /// connection was closed.
    fn close_number(&mut self, slots: Range<u32>, number: u64) -> bool;

    /// Closes the connections in `slots` to this server at this address.
    fn close_server(&mut self, slots: Range<u32>, server: PoolServerId, addr: &Endpoint);

    /// Sets the timers of the connections in `slots` again.
    fn set_timers(&mut self, slots: Range<u32>);
}

impl Jobs {
    /// Queues a command as a job. Returns the deadline if the command is to stop.
    pub(super) fn take(&mut self, command: WorkerCommand) -> Option<Instant> {
        self.add(match command {
            WorkerCommand::Stop { deadline } => return Some(deadline),
            WorkerCommand::Close(number, to) => Job::Close(number, to),
            WorkerCommand::CloseAll(server, addr) => Job::CloseAll(server, addr),
            WorkerCommand::Report(request) => Job::Report(ReportJob::new(request)),
            #[cfg(test)]
            WorkerCommand::Panic => panic!("a test asked for a panic"),
        });
        None
    }

    /// Adds a job.
    pub(super) fn add(&mut self, job: Job) {
        self.0.push_back((job, 0));
    }

    /// Returns whether there is no job.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Runs the oldest job over its next slice of slots.
pub(super) fn run_slice(worker: &mut impl JobTarget) {
    let Some((mut job, from)) = worker.jobs().0.pop_front() else { return };
    let next = from.saturating_add(SLICE);
    let slots = from..next;
    let done = match &mut job {
        Job::Report(report) => {
            worker.report(slots, report);
            false
        }
        Job::Close(number, to) => {
            let found = worker.close_number(slots, *number);
            if found {
                let _ = to.send(()); // the asker may have given up
            }
            found
        }
        Job::CloseAll(server, addr) => {
            worker.close_server(slots, *server, addr);
            false
        }
        Job::SetTimers => {
            worker.set_timers(slots);
            false
        }
    };
    if !done && (next as usize) < worker.slots() {
        worker.jobs().0.push_front((job, next));
    } else if let Job::Report(report) = job {
        report.send();
    }
}
