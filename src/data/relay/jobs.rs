//! What a worker does for others with each of its connections: with some of them in each round, so that traffic never
//! waits for all.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::report::ReportJob;
use super::shared::WorkerCommand;
use crate::config::Endpoint;
use crate::config::PoolServerId;

/// Slots that are looked at in a round.
const SLICE: u32 = 1_024;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Job {
    /// Say what there is.
    Report(ReportJob),
    /// Close the connection with this number, and say so.
    Close(u64, Sender<()>),
    /// Close all to this server, as long as it is at this address.
    CloseAll(PoolServerId, Endpoint),
    /// Set timers anew, as times have changed.
    SetTimers,
}

/// Those that are not done, and from which slot on.
#[derive(Debug, Default)]
pub(super) struct Jobs(VecDeque<(Job, u32)>);

impl Jobs {
    /// Takes an order that does not have to be carried out at once; when to stop, if that is the order.
    pub(super) fn take(&mut self, command: WorkerCommand) -> Option<Instant> {
        self.add(match command {
            WorkerCommand::Stop { deadline } => return Some(deadline),
            WorkerCommand::Close(number, to) => Job::Close(number, to),
            WorkerCommand::CloseAll(server, at) => Job::CloseAll(server, at),
            WorkerCommand::Report(request) => Job::Report(ReportJob::new(request)),
            #[cfg(test)]
            WorkerCommand::Panic => panic!("as it was told"),
        });
        None
    }

    /// One more.
    pub(super) fn add(&mut self, job: Job) {
        self.0.push_back((job, 0));
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one that is at its turn, and the slots to look at. Who is not done with it then, calls [`Self::go_on`].
    pub(super) fn next(&mut self) -> Option<(Job, Range<u32>)> {
        let (job, from) = self.0.pop_front()?;
        Some((job, from..from.saturating_add(SLICE)))
    }

    /// The rest of it, from a slot on, in the next round.
    pub(super) fn go_on(&mut self, job: Job, from: u32) {
        self.0.push_front((job, from));
    }
}
