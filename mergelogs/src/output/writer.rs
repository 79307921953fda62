//! Lines out: a thread that puts the clients into the decided lines, so that the merge need not touch
//! their text.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use pen_records::access::write_with_text;
use pen_records::attribution::{Explanation, LineVerdict};
use pen_records::histogram::Histogram;
use pen_records::rewrite::explanation::in_words;
use pen_records::rewrite::{LineRewrite, LineRewriter, OutcomeCounts, ServerName, WrittenLine};

use crate::config::{Config, Server};
use crate::input::lines::Block;
use crate::input::reader::{Place, Used};
use crate::output::{Output, OutputError};
use crate::report::audit::Audit;

/// Lines handed over at once.
const BATCH: usize = 1 << 10;
/// Batches that may wait to be written.
const AHEAD: usize = 8;

/// What the attributor carries with a line.
#[derive(Clone, Copy)]
pub(crate) struct Handle {
    pub(crate) log: u32,
    pub(crate) place: Place,
}

/// A decided line.
pub(crate) struct Outgoing {
    pub(crate) line: Handle,
    pub(crate) verdict: LineVerdict,
    /// If that was asked for.
    pub(crate) why: Option<Box<Explanation>>,
}

/// What the merge tells the writer.
enum Message {
    /// A log was opened; its reader wants used blocks back.
    Open(usize, Sender<Used>),
    /// Text of a log, before the lines that are in it, with how many these are.
    Text(usize, Block, usize),
    /// Lines in the order of the output.
    Lines(Vec<Outgoing>),
}

/// The writer is gone: it knows why.
pub(crate) struct Gone;

/// The merge's end of the road to the writer.
pub(crate) struct Writer {
    messages: Sender<Message>,
    used: Receiver<Vec<Outgoing>>,
    batch: Vec<Outgoing>,
}

/// The writer's end.
pub(crate) struct Orders {
    messages: Receiver<Message>,
    used: Sender<Vec<Outgoing>>,
}

/// A road from the merge to the writer.
pub(crate) fn road() -> (Writer, Orders) {
    let (send, messages) = bounded(AHEAD);
    let (reuse, used) = unbounded();
    let batch = Vec::with_capacity(BATCH);
    (Writer { messages: send, used, batch }, Orders { messages, used: reuse })
}

impl Writer {
    pub(crate) fn open(&self, log: usize, used: Sender<Used>) -> Result<(), Gone> {
        self.messages.send(Message::Open(log, used)).map_err(|_| Gone)
    }

    pub(crate) fn text(&self, log: usize, block: Block, lines: usize) -> Result<(), Gone> {
        self.messages.send(Message::Text(log, block, lines)).map_err(|_| Gone)
    }

    pub(crate) fn line(&mut self, line: Outgoing) -> Result<(), Gone> {
        self.batch.push(line);
        if self.batch.len() < BATCH { Ok(()) } else { self.flush() }
    }

    /// Hands over what has gathered.
    pub(crate) fn flush(&mut self) -> Result<(), Gone> {
        let next = self.used.try_recv().unwrap_or_else(|_| Vec::with_capacity(BATCH));
        let batch = std::mem::replace(&mut self.batch, next);
        self.messages.send(Message::Lines(batch)).map_err(|_| Gone)
    }
}

/// What was written.
pub(crate) struct Written {
    pub(crate) lines: u64,
    pub(crate) servers: Vec<OutcomeCounts>,
    pub(crate) audit: Option<Audit>,
    /// From the mapping, and where it is known from the response's end, to the line.
    pub(crate) delays: Histogram,
    /// Lines that were asked about, in words.
    pub(crate) answers: Vec<String>,
}

/// Text of a log that is not written yet.
struct Texts {
    server: usize,
    /// Blocks with how many of their lines are to come.
    blocks: VecDeque<(Block, usize)>,
    /// The number of the first of `blocks`.
    first: u32,
    /// Where used blocks go.
    used: Option<Sender<Used>>,
}

/// Writes lines as they come.
pub(crate) struct Lines<'a> {
    config: &'a Config,
    rewriter: LineRewriter,
    labels: Vec<String>,
    output: &'a mut Output,
    explain: Option<&'a mut Output>,
    logs: Vec<Texts>,
    written: Written,
}

impl<'a> Lines<'a> {
    /// `servers` says of which server each log is.
    pub(crate) fn new(
        config: &'a Config,
        servers: impl Iterator<Item = usize>,
        output: &'a mut Output,
        explain: Option<&'a mut Output>,
    ) -> Self {
        let texts = |server| Texts { server, blocks: VecDeque::new(), first: 0, used: None };
        Self {
            config,
            rewriter: LineRewriter::new(config.rewrite, config.privacy.clone()),
            labels: config.servers.iter().map(Server::label).collect(),
            output,
            explain,
            logs: servers.map(texts).collect(),
            written: Written {
                lines: 0,
                servers: vec![OutcomeCounts::default(); config.servers.len()],
                audit: Audit::new(config),
                delays: Histogram::default(),
                answers: Vec::new(),
            },
        }
    }

    /// Until the merge has said all.
    pub(crate) fn write(mut self, orders: &Orders) -> Result<Written, OutputError> {
        for message in &orders.messages {
            match message {
                Message::Open(log, used) => self.logs[log].used = Some(used),
                Message::Text(log, block, lines) => self.logs[log].blocks.push_back((block, lines)),
                Message::Lines(mut batch) => {
                    for line in batch.drain(..) {
                        self.line(line)?;
                    }
                    // At the end nobody takes it back.
                    drop(orders.used.send(batch));
                }
            }
        }
        if let Some(audit) = &mut self.written.audit {
            audit.finish();
        }
        Ok(self.written)
    }

    fn line(&mut self, decided: Outgoing) -> Result<(), OutputError> {
        let Outgoing { line: Handle { log, place }, ref verdict, mut why } = decided;
        let log = &mut self.logs[log as usize];
        let text = &mut log.blocks[(place.block - log.first) as usize];
        let start = place.start as usize;
        let line = &text.0.bytes[start..start + place.len as usize];
        self.written.servers[log.server].count(place.client.is_some(), verdict);
        if let Some(delay) = verdict.delay {
            self.written.delays.add(delay);
        }
        if let Some(audit) = &mut self.written.audit {
            audit.line(log.server, line, verdict);
        }
        if let Some(why) = &mut why {
            self.rewriter.mask_candidates(why);
        }
        let server = ServerName::Typed(&self.config.servers[log.server].name);
        let decided = LineRewrite { text: line, client: place.client, verdict, server };
        let written = self.rewriter.write(&decided, &mut self.output.buf);
        let label = &self.labels[log.server];
        if let Some(explain) = &mut self.explain {
            let why = why.as_deref().filter(|_| self.config.candidates);
            written.explain(label, why, &mut explain.buf);
            explain.pass_on()?;
        }
        if let Some(why) = why.filter(|why| why.is_asked) {
            let number = self.written.lines + 1;
            self.written.answers.extend(answer(number, &decided, &written, label, &why));
        }
        self.written.lines += 1;
        text.1 -= 1;
        while let Some((_, 0)) = log.blocks.front() {
            let used = log.blocks.pop_front();
            log.first += 1;
            if let (Some(reader), Some((block, _))) = (&log.used, used) {
                // A reader that has ended needs nothing back.
                drop(reader.send(Used::Text(block)));
            }
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
