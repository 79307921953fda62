//! Questions to all workers at once: which connections there are, and closing a connection by its number.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::mailbox::WorkerCommand;
use super::report::{ConnectionReport, ReportRequest};
use super::shared::Shared;
use crate::data::snapshot::ConnectionFilter;

/// How long to wait for the workers' answers. Later answers are ignored.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks all workers for connections, and joins the timely answers.
#[must_use]
pub fn ask(shared: &Shared, which: ConnectionFilter) -> ConnectionReport {
    let (to, answers) = channel();
    shared.tell_all(&WorkerCommand::Report(ReportRequest::new(which, to)));
    let mut report = ConnectionReport::default();
    for_each_answer(&answers, |answer| report.join(answer));
    if let ConnectionFilter::First(most) = which {
        report.connections.truncate(most);
    }
    report
}

/// Closes the connection with this number. Returns whether a connection was closed.
#[must_use]
pub fn close(shared: &Shared, number: u64) -> bool {
    let (to, answers) = channel();
    shared.tell_all(&WorkerCommand::Close(number, to));
    let mut closed = false;
    for_each_answer(&answers, |()| closed = true);
    closed
}

/// Passes on answers until the last worker has dropped its sender, or the time is over.
fn for_each_answer<T>(answers: &Receiver<T>, mut take: impl FnMut(T)) {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match answers.recv_timeout(left) {
            Ok(answer) => take(answer),
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => return,
        }
    }
}
