//! The writer thread: writes decided lines with their clients, so that the merge need not touch text.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use pen_records::access::write_with_text;
use pen_records::attribution::{Explanation, LineVerdict, Reason};
use pen_records::histogram::Histogram;
use pen_records::rewrite::explanation::in_words;
use pen_records::rewrite::{LineRewrite, LineRewriter, OutcomeCounts, ServerName, WrittenLine};

use crate::config::{MergeConfig, ServerInputs};
use crate::error::MergeError;
use crate::input::lines::TextBlock;
use crate::input::reader::{LinePlace, UsedBatch};
use crate::output::Output;
use crate::report::audit::Audit;

/// Lines passed to the writer at once.
const BATCH: usize = 1 << 12;
/// Batches that may wait to be written.
const AHEAD: usize = 8;

/// The payload of a line in the attributor.
#[derive(Clone, Copy)]
pub(crate) struct LineHandle {
    pub(crate) log: u32,
    pub(crate) place: LinePlace,
}

/// A decided line.
pub(crate) struct OutgoingLine {
    pub(crate) line: LineHandle,
    pub(crate) verdict: LineVerdict,
    /// The explanation, where `--candidates` or `--explain-line` asks for it.
    pub(crate) why: Option<Box<Explanation>>,
}

/// A message from the merge to the writer.
enum WriterMessage {
    /// A log was opened; its reader wants used blocks back.
    Open(usize, Sender<UsedBatch>),
    /// Text of a log, sent before its lines, and the number of its lines.
    Text(usize, TextBlock, usize),
    /// Lines in the order of the output.
    Lines(Vec<OutgoingLine>),
}

/// The merge's end of the channel to the writer.
pub(crate) struct WriterHandle {
    messages: Sender<WriterMessage>,
    used: Receiver<Vec<OutgoingLine>>,
    batch: Vec<OutgoingLine>,
}

/// The writer's end of the channel.
pub(crate) struct WriterInbox {
    messages: Receiver<WriterMessage>,
    used: Sender<Vec<OutgoingLine>>,
}

/// Makes a channel from the merge to the writer.
pub(crate) fn channel() -> (WriterHandle, WriterInbox) {
    let (send, messages) = bounded(AHEAD);
    let (reuse, used) = unbounded();
    let batch = Vec::with_capacity(BATCH);
    (WriterHandle { messages: send, used, batch }, WriterInbox { messages, used: reuse })
}

impl WriterHandle {
    pub(crate) fn open(&self, log: usize, used: Sender<UsedBatch>) -> Result<(), MergeError> {
        self.messages.send(WriterMessage::Open(log, used)).map_err(|_| MergeError::WriterEnded)
    }

    pub(crate) fn text(
        &self,
        log: usize,
        block: TextBlock,
        lines: usize,
    ) -> Result<(), MergeError> {
        self.messages
            .send(WriterMessage::Text(log, block, lines))
            .map_err(|_| MergeError::WriterEnded)
    }

    pub(crate) fn line(&mut self, line: OutgoingLine) -> Result<(), MergeError> {
        self.batch.push(line);
        if self.batch.len() < BATCH { Ok(()) } else { self.flush() }
    }

    /// Sends the lines gathered so far.
    pub(crate) fn flush(&mut self) -> Result<(), MergeError> {
        let next = self.used.try_recv().unwrap_or_else(|_| Vec::with_capacity(BATCH));
        let batch = std::mem::replace(&mut self.batch, next);
        self.messages.send(WriterMessage::Lines(batch)).map_err(|_| MergeError::WriterEnded)
    }
}

/// The writer's results.
pub(crate) struct WriteResult {
    pub(crate) lines: u64,
    pub(crate) servers: Vec<OutcomeCounts>,
    /// Lines of each server that came past the balancer.
    pub(crate) direct: Vec<u64>,
    pub(crate) audit: Option<Audit>,
    /// Delays from the mapping, or from the response's end where known, to the line.
    pub(crate) delays: Histogram,
    /// Explanations of the lines of `--explain-line`.
    pub(crate) answers: Vec<String>,
}

/// The text of a log that is not written yet.
struct PendingText {
    server: usize,
    /// Blocks, each with the number of its lines not written yet.
    blocks: VecDeque<(TextBlock, usize)>,
    /// The number of the first of `blocks`.
    first: u32,
    /// Returns used blocks to the reader.
    used: Option<Sender<UsedBatch>>,
}

impl PendingText {
    /// Returns the oldest blocks whose lines are all written to the reader.
    #[cold]
    fn return_written(&mut self) {
        while let Some((_, 0)) = self.blocks.front() {
            let used = self.blocks.pop_front();
            self.first += 1;
            if let (Some(reader), Some((block, _))) = (&self.used, used) {
                // A reader that has ended needs nothing back.
                let _ = reader.send(UsedBatch::Text(block));
            }
        }
    }
}

/// Writes lines as they come.
pub(crate) struct LineWriter<'a> {
    config: &'a MergeConfig,
    rewriter: LineRewriter,
    labels: Vec<String>,
    output: &'a mut Output,
    explain: Option<&'a mut Output>,
    logs: Vec<PendingText>,
    written: WriteResult,
}

impl<'a> LineWriter<'a> {
    /// `servers` holds the index of each log's server.
    pub(crate) fn new(
        config: &'a MergeConfig,
        servers: impl Iterator<Item = usize>,
        output: &'a mut Output,
        explain: Option<&'a mut Output>,
    ) -> Self {
        let texts = |server| PendingText { server, blocks: VecDeque::new(), first: 0, used: None };
        Self {
            config,
            rewriter: LineRewriter::new(config.rewrite, config.privacy.clone()),
            labels: config.servers.iter().map(ServerInputs::label).collect(),
            output,
            explain,
            logs: servers.map(texts).collect(),
            written: WriteResult {
                lines: 0,
                servers: vec![OutcomeCounts::default(); config.servers.len()],
                direct: vec![0; config.servers.len()],
                audit: Audit::new(config),
                delays: Histogram::default(),
                answers: Vec::new(),
            },
        }
    }

    /// Handles all messages of the merge.
    pub(crate) fn write(mut self, orders: &WriterInbox) -> Result<WriteResult, MergeError> {
        for message in &orders.messages {
            match message {
                WriterMessage::Open(log, used) => self.logs[log].used = Some(used),
                WriterMessage::Text(log, block, lines) => {
                    self.logs[log].blocks.push_back((block, lines));
                }
                WriterMessage::Lines(mut batch) => {
                    for line in &mut batch {
                        self.line(line)?;
                    }
                    batch.clear();
                    // The merge drops its end of this channel early.
                    let _ = orders.used.send(batch);
                }
            }
        }
        if let Some(audit) = &mut self.written.audit {
            audit.finish();
        }
        Ok(self.written)
    }

    fn line(&mut self, decided: &mut OutgoingLine) -> Result<(), MergeError> {
        let OutgoingLine { line: LineHandle { log, place }, ref verdict, ref mut why } = *decided;
        let log = &mut self.logs[log as usize];
        let text = &mut log.blocks[(place.block - log.first) as usize];
        let start = place.start as usize;
        let line = &text.0.bytes[start..start + place.len as usize];
        self.written.servers[log.server].count(place.client.is_some(), verdict);
        self.written.direct[log.server] += u64::from(verdict.reason == Reason::Direct);
        if let Some(delay) = verdict.delay {
            self.written.delays.add(delay);
        }
        if let Some(audit) = &mut self.written.audit {
            audit.line(log.server, line, verdict);
        }
        if let Some(why) = why {
            self.rewriter.mask_candidates(why);
        }
        let server = ServerName::Typed(&self.config.servers[log.server].name);
        let decided = LineRewrite { text: line, client: place.client, verdict, server };
        let written = self.rewriter.write(&decided, &mut self.output.buf);
        if self.explain.is_some() || why.is_some() {
            let label = &self.labels[log.server];
            if let Some(explain) = &mut self.explain {
                let why = why.as_deref().filter(|_| self.config.candidates);
                written.explain(label, why, &mut explain.buf);
                explain.pass_on()?;
            }
            if let Some(why) = why.as_deref().filter(|why| why.is_asked) {
                let number = self.written.lines + 1;
                self.written.answers.extend(answer(number, &decided, &written, label, why));
            }
        }
        self.written.lines += 1;
        text.1 -= 1;
        if text.1 == 0 {
            log.return_written();
        }
        self.output.pass_on()
    }
}

/// Explains a line in words. The line is shown with the client that the server logged.
fn answer(
    number: u64,
    decided: &LineRewrite<'_>,
    written: &WrittenLine<'_>,
    label: &str,
    why: &Explanation,
) -> Option<String> {
    let mut columns = Vec::new();
    written.explain(&label, Some(why), &mut columns);
    let columns = String::from_utf8_lossy(&columns);
    let mut shown = Vec::new();
    match (decided.client, written.original) {
        (Some(client), Some(original)) => {
            write_with_text(decided.text, client, original, &mut shown);
        }
        _ => shown.extend_from_slice(decided.text),
    }
    in_words(number, &shown, columns.trim_end())
}
