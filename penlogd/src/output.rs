//! The way out of the collector: the log, explanations, and answers to shippers. Without a journal, lines go into the log
//! at once, and answers wait for the log. With a journal, lines and answers wait for the journal.

use std::future::pending;
use std::path::PathBuf;
use std::time::Instant;

use pen_daemon::error::{ActionError, Doing as _};
use pen_daemon::logfile::{Buffering, LogFile, LogFileCounts};
use pen_records::shipment::DiscoveryQuestion;
use pen_records::time::Timestamp;

use crate::collector::{ArrivalTime, Collector, Peer};
use crate::held_answers::{AnswerPath, HeldAnswer, HeldAnswers};
use crate::journal::JournaledDatagram;
use crate::journaling::{JournalSettings, Journaling, OpenedJournal};

/// Files for lines.
#[derive(Debug)]
pub struct OutputSettings {
    /// The log; `None` for the standard output.
    pub log: Option<PathBuf>,
    /// The explanations, if asked for.
    pub explain: Option<PathBuf>,
    /// When lines are written.
    pub buffering: Buffering,
    /// Limit for bytes waiting for an unwritable log.
    pub log_bytes: usize,
    /// The journal, if there is to be one.
    pub journal: Option<JournalSettings>,
}

/// Files for lines, and answers held back.
pub(crate) struct Output {
    log: LogFile,
    explain: Option<LogFile>,
    answers: HeldAnswers,
    journal: Option<Journaling>,
}

impl Output {
    /// Opens the files, and reads the journal again. Returns when the last datagram in it came.
    ///
    /// # Errors
    /// A file cannot be opened, or the journal's disk fails.
    pub(crate) fn open(
        settings: OutputSettings,
        core: &mut Collector,
    ) -> Result<(Self, Option<Timestamp>), ActionError> {
        let OutputSettings { log: path, explain, buffering, log_bytes, journal } = settings;
        // Before the log is opened, which would end a torn line.
        let journal = journal
            .map(|journal| OpenedJournal::read(journal, path.as_deref(), log_bytes))
            .transpose()?;
        let log = open(path, buffering, log_bytes)?;
        let explain = match explain {
            Some(path) => Some(open(Some(path), buffering, log_bytes)?),
            None => None,
        };
        let (mut this, mut last) =
            (Self { log, explain, answers: HeldAnswers::default(), journal: None }, None);
        if let Some(opened) = journal {
            let mut journaling = opened.begin(&this.log)?;
            last = journaling.last();
            journaling.replay(core, this.explain.is_some())?;
            this.journal = Some(journaling);
        }
        Ok((this, last))
    }

    /// Whether further datagrams may be received: the journal has room for them.
    pub(crate) fn is_willing(&mut self, core: &Collector) -> bool {
        let log = &self.log;
        self.journal.as_mut().is_none_or(|journal| journal.is_willing(core, log))
    }

    /// Hands a datagram to the core, and keeps it in the journal. An answer is held for `path` until all earlier lines are
    /// safe. A shipper's first question needs no safety, unless the shipper asks for the state of an earlier run.
    pub(crate) fn receive(
        &mut self,
        core: &mut Collector,
        (peer, path): (Peer, AnswerPath),
        datagram: &[u8],
        (arrived, now): (ArrivalTime, Instant),
    ) {
        if let Some(journal) = &mut self.journal {
            journal.prepare(core);
        }
        let first_line = core.next_line();
        let answer = core.receive_from(peer, datagram, arrived);
        if core.has_taken()
            && let Some(journal) = &mut self.journal
        {
            journal.record(&JournaledDatagram { peer, arrived, first_line, bytes: datagram });
        }
        let Some(answer) = answer else { return };
        let is_first = matches!(
            DiscoveryQuestion::parse(datagram),
            Ok(it) if it.shipments == 0 && it.streams.is_empty()
        );
        let mark = match &self.journal {
            _ if is_first => 0,
            Some(journal) => journal.end(),
            None => core.lines().0,
        };
        self.answers.hold(HeldAnswer { path, to: peer.addr, answer }, mark, now);
    }

    /// Takes decided lines from the core, and writes as far as possible. Calls `answer` with each due answer.
    pub(crate) fn settle(
        &mut self,
        core: &mut Collector,
        (at, now): (Timestamp, Instant),
        answer: impl FnMut(HeldAnswer),
    ) {
        match &mut self.journal {
            Some(journal) => journal.settle(core, at, now, (&mut self.log, self.explain.as_mut())),
            None => {
                let explain = self.explain.as_mut().map(LogFile::buffer);
                core.decide(at, self.log.buffer(), explain);
            }
        }
        self.log.settle(now);
        if let Some(explain) = &mut self.explain {
            explain.settle(now);
        }
        self.answer(core, now, answer);
    }

    /// Answers shippers with safe lines.
    fn answer(&mut self, core: &Collector, now: Instant, mut answer: impl FnMut(HeldAnswer)) {
        let (written, dropped) = self.log.settled();
        let (_, repeated) = core.lines();
        let (safe, by_time) = match &self.journal {
            Some(journal) => (journal.safe(), false),
            None => (written + dropped + repeated, !self.log.is_failing()),
        };
        while let Some(held) = self.answers.next(safe, by_time, now) {
            answer(held);
        }
    }

    /// Returns when to settle next, whatever comes.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let by_time = self.journal.is_none() && !self.log.is_failing();
        let explain = self.explain.as_ref().and_then(LogFile::next_due);
        let journal = self.journal.as_ref().and_then(Journaling::next_due);
        let times = [self.log.next_due(), explain, journal, self.answers.next_due(by_time)];
        times.into_iter().flatten().min()
    }

    /// Waits for the journal's next sync. Cancel-safe.
    pub(crate) async fn synced(&mut self) {
        match &mut self.journal {
            Some(journal) => journal.synced().await,
            None => pending().await,
        }
    }

    /// Whether the reader of the standard output has gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.log.is_closed()
    }

    /// Opens the files again, after a rotation.
    pub(crate) fn reopen(&mut self, now: Instant) {
        self.log.reopen(now);
        if let Some(explain) = &mut self.explain {
            explain.reopen(now);
        }
    }

    /// Returns the counters of the log, with lines waiting for the journal.
    pub(crate) fn counts(&self) -> LogFileCounts {
        let waiting = self.journal.as_ref().map_or(0, Journaling::waiting_lines);
        let counts = self.log.counts();
        LogFileCounts { waiting: counts.waiting + waiting, ..counts }
    }

    /// Decides and writes all lines left.
    pub(crate) fn finish(
        &mut self,
        core: &mut Collector,
        (at, now): (Timestamp, Instant),
        answer: impl FnMut(HeldAnswer),
    ) {
        match &mut self.journal {
            Some(journal) => journal.finish(core, at, now, (&mut self.log, self.explain.as_mut())),
            None => {
                let explain = self.explain.as_mut().map(LogFile::buffer);
                core.finish(at, self.log.buffer(), explain);
            }
        }
        self.log.finish(now);
        if let Some(journal) = &mut self.journal {
            journal.end_run(&self.log);
        }
        self.answer(core, now, answer);
        if let Some(explain) = &mut self.explain {
            explain.finish(now);
        }
    }
}

fn open(path: Option<PathBuf>, buffering: Buffering, bound: usize) -> Result<LogFile, ActionError> {
    match path {
        Some(path) => {
            LogFile::open(&path, buffering, bound).doing(format_args!("open {}", path.display()))
        }
        None => LogFile::stdout(buffering, bound).doing("use the standard output"),
    }
}
