//! How many lines of an output name the client that the truth names.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, BufRead, BufReader};
use std::process::{Command, Stdio};

use super::input::{Input, Server};
use crate::{ActionError, Doing};

/// How far a line may have moved from its place among its server's lines and still be known.
const AHEAD: usize = 4096;

/// What was found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Verdict {
    /// Lines of input.
    pub(super) lines: u64,
    pub(super) right: u64,
    pub(super) wrong: u64,
    /// The balancer's address or the server's in place of a client.
    pub(super) unnamed: u64,
    /// Lines of output that are none of the input.
    pub(super) strange: u64,
}

impl Verdict {
    pub(super) fn lost(&self) -> u64 {
        self.lines.saturating_sub(self.right + self.wrong + self.unnamed)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |part: u64| part as f64 * 100.0 / self.lines as f64;
        write!(
            f,
            "{:.2} % right, {:.2} % wrong, {:.2} % without a client, {} lines lost, {} strange",
            share(self.right),
            share(self.wrong),
            share(self.unnamed),
            self.lost(),
            self.strange
        )
    }
}

/// Runs a join and compares what it writes with the truth.
pub(super) fn joined(command: &[OsString], input: &Input) -> Result<Verdict, ActionError> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(ActionError::new("there is no command to judge"));
    };
    let name = program.display();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .doing(format_args!("run {name}"))?;
    let output = child.stdout.take().expect("it is piped");
    let verdict = compare(BufReader::with_capacity(1 << 18, output), input);
    child.wait().doing(format_args!("wait for {name}"))?;
    verdict.doing(format_args!("read the output of {name}"))
}

fn compare(mut output: impl BufRead, input: &Input) -> io::Result<Verdict> {
    let mut logs: Vec<_> = input.servers.iter().map(Log::open).collect::<io::Result<_>>()?;
    let mut verdict = Verdict::default();
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line)? > 0 {
        let (client, rest) = split(&line);
        match take(&mut logs, rest)? {
            Some((_, truth)) if truth == client => verdict.right += 1,
            Some((addr, _)) if client == b"127.0.0.1" || client == addr.as_bytes() => {
                verdict.unnamed += 1;
            }
            Some(_) => verdict.wrong += 1,
            None => verdict.strange += 1,
        }
        line.clear();
    }
    for log in &mut logs {
        while log.fill()? {
            log.ahead.clear();
        }
    }
    verdict.lines = logs.iter().map(|log| log.lines).sum();
    Ok(verdict)
}

/// The line's place in the logs, looked for at the head of each first.
fn take<'a>(logs: &'a mut [Log<'_>], rest: u64) -> io::Result<Option<(&'a str, Vec<u8>)>> {
    for log in &mut *logs {
        log.fill()?;
    }
    let head = logs.iter().position(|log| log.ahead.front().is_some_and(|(head, _)| *head == rest));
    let place = match head {
        Some(log) => Some((log, 0)),
        None => logs.iter().enumerate().find_map(|(index, log)| {
            Some((index, log.ahead.iter().position(|(ahead, _)| *ahead == rest)?))
        }),
    };
    Ok(place.and_then(|(log, at)| {
        let (_, truth) = logs[log].ahead.remove(at)?;
        Some((logs[log].server.addr.as_str(), truth))
    }))
}

/// A server's log, and of its next lines what follows the client, and the client by the truth.
struct Log<'a> {
    server: &'a Server,
    lines: u64,
    log: BufReader<File>,
    truth: BufReader<File>,
    ahead: VecDeque<(u64, Vec<u8>)>,
}

impl<'a> Log<'a> {
    fn open(server: &'a Server) -> io::Result<Self> {
        let log = BufReader::with_capacity(1 << 17, File::open(&server.log)?);
        let truth = BufReader::with_capacity(1 << 17, File::open(&server.truth)?);
        Ok(Self { server, lines: 0, log, truth, ahead: VecDeque::new() })
    }

    /// Reads ahead; whether there is anything to be found.
    fn fill(&mut self) -> io::Result<bool> {
        let mut line = Vec::new();
        while self.ahead.len() < AHEAD && self.log.read_until(b'\n', &mut line)? > 0 {
            let mut truth = Vec::new();
            self.truth.read_until(b'\n', &mut truth)?;
            truth.pop();
            self.lines += 1;
            self.ahead.push_back((split(&line).1, truth));
            line.clear();
        }
        Ok(!self.ahead.is_empty())
    }
}

/// The client, and a hash of all that follows.
fn split(line: &[u8]) -> (&[u8], u64) {
    let end = memchr::memchr(b' ', line).unwrap_or(line.len());
    let mut hasher = DefaultHasher::new();
    hasher.write(&line[end..]);
    (&line[..end], hasher.finish())
}
