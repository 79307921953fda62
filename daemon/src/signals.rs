//! Signals become events of the run loop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// HUP: open the log files anew.
    Reopen,
    /// USR1: say how things stand.
    Report,
    /// TERM or INT: finish and leave.
    Stop,
}

/// The signals a daemon listens to.
#[derive(Debug)]
pub struct Signals {
    hup: Signal,
    usr1: Signal,
    term: Signal,
    int: Signal,
}

impl Signals {
    /// Starts listening; a runtime must be there.
    ///
    /// # Errors
    /// The system refused to register a handler.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            hup: signal(SignalKind::hangup())?,
            usr1: signal(SignalKind::user_defined1())?,
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    /// The next event. Safe to drop half-way.
    pub async fn next(&mut self) -> Event {
        tokio::select! {
            biased;
            _ = self.term.recv() => Event::Stop,
            _ = self.int.recv() => Event::Stop,
            _ = self.hup.recv() => Event::Reopen,
            _ = self.usr1.recv() => Event::Report,
        }
    }
}
