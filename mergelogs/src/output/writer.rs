//! Lines out: a thread that puts the clients into the decided lines, so that the merge need not touch
//! their text.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use pen_records::access::{LineSpan, write_with_client, write_with_text};
use pen_records::attribution::{Certainty, Explanation, LineVerdict, Reason};
use pen_records::histogram::Histogram;
use pen_records::privacy::Privacy;
use penlogd::lookup::tell;

use crate::cli::{Likely, Unmatched};
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

/// Lines of a server by outcome.
#[derive(Clone, Copy, Default)]
pub(crate) struct ServerTally {
    pub(crate) exact: u64,
    pub(crate) certain: u64,
    pub(crate) likely: u64,
    pub(crate) none: u64,
    pub(crate) not_understood: u64,
}

/// What was written.
pub(crate) struct Written {
    pub(crate) lines: u64,
    pub(crate) servers: Vec<ServerTally>,
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
    privacy: Option<Privacy>,
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
            privacy: config.privacy.clone(),
            labels: config.servers.iter().map(Server::label).collect(),
            output,
            explain,
            logs: servers.map(texts).collect(),
            written: Written {
                lines: 0,
                servers: vec![ServerTally::default(); config.servers.len()],
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
        let change = place
            .client
            .and_then(|client| Change::of(verdict, self.config).map(|change| (client, change)));
        let mut original = place.client.map(|client| client.of(line));
        let (change, kept) = match &mut self.privacy {
            Some(privacy) => {
                if let Some(why) = &mut why {
                    why.clients_mut().for_each(|client| *client = privacy.client(*client));
                }
                hidden(privacy, line, place.client, change)
            }
            None => (change, None),
        };
        original = kept.as_deref().or(original);
        let out = &mut self.output.buf;
        match change {
            None if kept.is_some() => {
                let (client, kept) = (place.client.unwrap_or_default(), kept.as_deref());
                write_with_text(line, client, kept.unwrap_or_default(), out);
            }
            None => out.extend_from_slice(line),
            Some((client, Change::Client(addr))) => write_with_client(line, client, addr, out),
            Some((client, Change::Dash)) => write_with_text(line, client, b"-", out),
            Some((client, Change::Server)) => {
                let name = self.config.servers[log.server].name.as_bytes();
                write_with_text(line, client, name, out);
            }
        }
        out.push(b'\n');
        if let Some(explain) = &mut self.explain {
            let change = change.map(|(_, change)| change);
            let label = &self.labels[log.server];
            explain_line(&mut explain.buf, original, verdict, change, label);
            if self.config.candidates
                && let Some(why) = &why
            {
                add_candidates(&mut explain.buf, why);
            }
            explain.pass_on()?;
        }
        if let Some(why) = why.as_ref().filter(|why| why.is_asked) {
            let change = change.map(|(_, change)| change);
            let mut columns = Vec::new();
            explain_line(&mut columns, original, verdict, change, &self.labels[log.server]);
            add_candidates(&mut columns, why);
            let columns = String::from_utf8_lossy(&columns);
            let number = self.written.lines + 1;
            let mut shown = line.to_vec();
            if let (Some(client), Some(kept)) = (place.client, &kept) {
                shown.clear();
                write_with_text(line, client, kept, &mut shown);
            }
            self.written.answers.extend(tell(number, &shown, columns.trim_end()));
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

impl ServerTally {
    fn count(&mut self, is_understood: bool, verdict: &LineVerdict) {
        *match verdict.certainty {
            _ if !is_understood => &mut self.not_understood,
            Certainty::Exact => &mut self.exact,
            Certainty::Certain => &mut self.certain,
            Certainty::Likely => &mut self.likely,
            Certainty::Unmatched => &mut self.none,
        } += 1;
    }
}

/// What becomes of a client field.
#[derive(Clone, Copy)]
enum Change {
    Client(pen_records::addr::ClientAddr),
    Dash,
    Server,
}

impl Change {
    /// `None`: it stays.
    fn of(verdict: &LineVerdict, config: &Config) -> Option<Self> {
        match (verdict.certainty, verdict.client) {
            (Certainty::Unmatched, _) | (_, None) => match config.unmatched {
                Unmatched::Keep => None,
                // It names its client already.
                Unmatched::Dash if verdict.reason == Reason::Direct => None,
                Unmatched::Dash => Some(Self::Dash),
                Unmatched::Server => Some(Self::Server),
            },
            (Certainty::Likely, Some(client)) => match config.likely {
                Likely::Use => Some(Self::Client(client)),
                Likely::Keep => None,
                Likely::Dash => Some(Self::Dash),
            },
            (Certainty::Certain | Certainty::Exact, Some(client)) => Some(Self::Client(client)),
        }
    }
}

/// What becomes of a client field where clients are not to be known, and what stands for the one that was
/// logged: it may be a client's own.
fn hidden(
    privacy: &mut Privacy,
    line: &[u8],
    client: Option<LineSpan>,
    change: Option<(LineSpan, Change)>,
) -> (Option<(LineSpan, Change)>, Option<Vec<u8>>) {
    let kept = client.map(|client| {
        let mut kept = Vec::new();
        privacy.write_field(client.of(line), &mut kept);
        kept
    });
    let change = change.map(|(span, change)| match change {
        Change::Client(client) => (span, Change::Client(privacy.client(client))),
        Change::Dash | Change::Server => (span, change),
    });
    (change, kept)
}

/// The header of `--explain`.
pub(crate) const EXPLAIN: &[u8] =
    b"#certainty\treason\tprobability\tcandidates\tdelay\toriginal\tclient\tserver\n";

/// A column more.
fn add_candidates(out: &mut Vec<u8>, why: &Explanation) {
    use std::io::Write as _;
    out.pop_if(|end| *end == b'\n');
    writeln!(out, "\t{why}").expect("writing to a Vec does not fail");
}

fn explain_line(
    out: &mut Vec<u8>,
    logged: Option<&[u8]>,
    verdict: &LineVerdict,
    change: Option<Change>,
    server: &str,
) {
    use std::io::Write as _;
    let certainty = match verdict.certainty {
        Certainty::Exact => "exact",
        Certainty::Certain => "certain",
        Certainty::Likely => "likely",
        Certainty::Unmatched => "none",
    };
    let original = logged.unwrap_or(b"-").escape_ascii();
    let reason = if logged.is_none() { "not-understood" } else { verdict.reason.as_str() };
    let probability = f64::from(verdict.probability) / 1_000.0;
    let write = write!(out, "{certainty}\t{reason}\t{probability:.3}\t{}\t", verdict.candidates)
        .and_then(|()| match verdict.delay {
            Some(delay) => {
                let (sign, delay) = (if delay < 0 { "-" } else { "" }, delay.unsigned_abs());
                write!(out, "{sign}{}.{:06}\t", delay / 1_000_000, delay % 1_000_000)
            }
            None => write!(out, "-\t"),
        })
        .and_then(|()| write!(out, "{original}\t"))
        .and_then(|()| match change {
            Some(Change::Client(addr)) => write!(out, "{addr}"),
            Some(Change::Dash) => write!(out, "-"),
            Some(Change::Server) => write!(out, "{server}"),
            None => write!(out, "{original}"),
        })
        .and_then(|()| writeln!(out, "\t{server}"));
    write.expect("writing to a Vec does not fail");
}
