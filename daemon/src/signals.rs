//! Turns Unix signals into events of the run loop.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// HUP: reopen the log files.
    Reopen,
    /// USR1: report the counters.
    Report,
    /// TERM or INT: finish and exit.
    Stop,
}

/// The signals that a daemon handles.
#[derive(Debug)]
pub struct Signals {
    hup: Signal,
    usr1: Signal,
    term: Signal,
    int: Signal,
}

impl Signals {
    /// Installs the handlers; needs a running tokio runtime.
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

    /// Waits for the next signal. Cancel-safe.
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
