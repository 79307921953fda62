//! One test: a writer of numbered lines, a shipper and a collector, and what happens to them.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, PipeReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::DeliveryCounts;
use pen_testing::random::SeededRandom;

use crate::stage::{Deadline, Program, TempFolder, free_port, sibling};
use crate::{ActionError, Doing as _};

/// How long traffic goes on before, between and after disturbances, at least.
const CALM: Duration = Duration::from_secs(2);

/// Pause between two rotations.
const ROTATE: Duration = Duration::from_millis(200);

/// Where the shipper reads lines from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineInput {
    Pipe,
    /// A pipe that outlives the shipper, which keeps its lines in a spool.
    Spool,
    File,
    /// A file that is renamed, and made anew, every 200 ms.
    Rotated,
}

/// The disturbed program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Collector,
    Shipper,
}

/// What happens, how often, and for how long: between the two times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disturbance {
    pub(super) target: Target,
    pub(super) signal: Signal,
    pub(super) times: u32,
    pub(super) away: [Duration; 2],
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    pub(super) input: LineInput,
    /// Lines a second.
    pub(super) rate: u32,
    pub(super) disturbance: Disturbance,
    /// Whether the collector has a journal.
    pub(super) has_journal: bool,
}

/// The running programs.
struct Stage<'a> {
    folder: &'a TempFolder,
    input: LineInput,
    has_journal: bool,
    addr: SocketAddr,
    collector: Program,
    shipper: Program,
    /// What the shipper reads, if that outlives it.
    pipe: Option<PipeReader>,
    output: Box<dyn Write>,
    /// The number of the next line.
    next: u64,
}

impl Scene {
    /// Plays the scene, and counts what came of the lines.
    pub(super) fn play(
        &self,
        folder: &TempFolder,
        random: &mut SeededRandom,
    ) -> Result<DeliveryCounts, ActionError> {
        let mut stage = Stage::new(folder, self)?;
        stage.write_for(CALM, self.rate)?;
        for _ in 0..self.disturbance.times {
            self.disturb(&mut stage, random)?;
            stage.write_for(CALM.mul_f64(0.5 + random.unit()), self.rate)?;
        }
        let sent = stage.next;
        stage.end()?;
        count(&folder.join("merged.log"), sent)
    }

    fn disturb(&self, stage: &mut Stage<'_>, random: &mut SeededRandom) -> Result<(), ActionError> {
        let Disturbance { target, signal, away: [least, most], .. } = self.disturbance;
        let away = least + (most - least).mul_f64(random.unit());
        let program = match target {
            Target::Collector => &mut stage.collector,
            Target::Shipper => &mut stage.shipper,
        };
        if signal == Signal::SIGSTOP {
            program.signal(signal)?;
            stage.write_for(away, self.rate)?;
            return stage.collector.signal(Signal::SIGCONT);
        }
        program.stop(signal)?;
        stage.write_for(away, self.rate)?;
        match target {
            Target::Collector => {
                stage.collector = collector(stage.folder, stage.addr, stage.has_journal)?;
            }
            Target::Shipper => {
                let Stage { folder, input, addr, pipe, .. } = stage;
                stage.shipper = shipper(folder, *input, *addr, pipe.as_ref())?;
            }
        }
        Ok(())
    }
}

impl<'a> Stage<'a> {
    fn new(folder: &'a TempFolder, scene: &Scene) -> Result<Self, ActionError> {
        let Scene { input, has_journal, .. } = *scene;
        let addr = free_port(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let collector = collector(folder, addr, has_journal)?;
        let path = folder.join("access.log");
        let file = open(&path).doing("make a log")?;
        let (pipe, end) = io::pipe().doing("make a pipe")?;
        let pipe = (input == LineInput::Spool).then_some(pipe);
        let mut shipper = shipper(folder, input, addr, pipe.as_ref())?;
        let output: Box<dyn Write> = match input {
            LineInput::Pipe => Box::new(shipper.take_stdin()),
            LineInput::Spool => Box::new(end),
            LineInput::File => Box::new(file),
            LineInput::Rotated => {
                Box::new(RotatedFile { path, file, since: Instant::now(), number: 0 })
            }
        };
        let next = 0;
        Ok(Self { folder, input, has_journal, addr, collector, shipper, pipe, output, next })
    }

    /// Writes lines at a steady rate.
    fn write_for(&mut self, time: Duration, rate: u32) -> Result<(), ActionError> {
        let (start, first) = (Instant::now(), self.next);
        let mut deadline = Deadline::after(time);
        let mut goes_on = !time.is_zero();
        while goes_on {
            goes_on = deadline.nap();
            let due = start.elapsed().min(time).as_millis() * u128::from(rate) / 1_000;
            let due = first + u64::try_from(due).unwrap_or(u64::MAX);
            let lines: String = (self.next..due).map(line).collect();
            self.output.write_all(lines.as_bytes()).doing("write lines")?;
            self.next = due.max(self.next);
        }
        Ok(())
    }

    /// Waits until all lines have arrived or no more do, and ends the programs.
    fn end(mut self) -> Result<(), ActionError> {
        let merged = self.folder.join("merged.log");
        let (mut seen, mut deadline) = (0, Deadline::after(3 * CALM));
        while deadline.nap() {
            let len = std::fs::metadata(&merged).doing("look at the merged log")?.len();
            if len > seen {
                (seen, deadline) = (len, Deadline::after(3 * CALM));
            }
        }
        drop(self.output);
        self.shipper.stop(Signal::SIGTERM)?;
        self.collector.stop(Signal::SIGTERM)?;
        Ok(())
    }
}

fn collector(
    folder: &TempFolder,
    addr: SocketAddr,
    has_journal: bool,
) -> Result<Program, ActionError> {
    let mut command = Command::new(sibling("penlogd")?);
    command.args(["-f", "--listen", &addr.to_string(), "-l"]).arg(folder.join("merged.log"));
    if has_journal {
        command.arg("--journal").arg(folder.join("journal"));
    }
    let program = Program::start("penlogd", &mut command)?;
    program.wait_until_listening()?;
    Ok(program)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// A log that is rotated while it is written.
struct RotatedFile {
    path: PathBuf,
    file: File,
    since: Instant,
    number: u32,
}

impl Write for RotatedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.since.elapsed() >= ROTATE {
            self.number += 1;
            std::fs::rename(&self.path, self.path.with_extension(format!("log.{}", self.number)))?;
            (self.file, self.since) = (open(&self.path)?, Instant::now());
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn shipper(
    folder: &TempFolder,
    input: LineInput,
    addr: SocketAddr,
    pipe: Option<&PipeReader>,
) -> Result<Program, ActionError> {
    let mut command = Command::new(sibling("penlog")?);
    command.args([addr.ip().to_string(), addr.port().to_string()]);
    match input {
        LineInput::Pipe => {}
        LineInput::Spool => {
            command.arg("--spool").arg(folder.join("spool"));
        }
        LineInput::File | LineInput::Rotated => {
            let rotated = if input == LineInput::Rotated { "access.log*" } else { "access.log" };
            command.args(["--from-start", "--state"]).arg(folder.join("state"));
            command.arg("--follow").arg(folder.join(rotated));
        }
    }
    let stdin = match pipe {
        Some(pipe) => pipe.try_clone().doing("share a pipe")?.into(),
        None => Stdio::piped(),
    };
    Program::start("penlog", command.stdin(stdin))
}

fn line(number: u64) -> String {
    format!(
        "10.0.0.1 - - [30/Nov/2026:20:00:00 +0000] \"GET /{number} HTTP/1.1\" 200 5 \"-\" \"curl\"\n"
    )
}

/// Counts the numbers of the lines in a log, of which `sent` were sent.
fn count(merged: &Path, sent: u64) -> Result<DeliveryCounts, ActionError> {
    let mut times = vec![0_u32; usize::try_from(sent).unwrap_or(usize::MAX)];
    for line in BufReader::new(File::open(merged).doing("read the merged log")?).lines() {
        let line = line.doing("read the merged log")?;
        let number = line.split_once("GET /").and_then(|(_, rest)| rest.split_once(' '));
        let number = number.and_then(|(number, _)| number.parse::<usize>().ok());
        match number.and_then(|number| times.get_mut(number)) {
            Some(times) => *times += 1,
            None => return Err(ActionError::new(format!("a torn line in the merged log: {line}"))),
        }
    }
    let lost = times.iter().filter(|&&times| times == 0).count() as u64;
    let doubled = times.iter().map(|&times| u64::from(times.saturating_sub(1))).sum();
    Ok(DeliveryCounts { sent, lost, doubled })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_and_doubled_lines_are_counted_and_torn_ones_found() {
        let folder = TempFolder::new();
        let text: String = [0, 1, 1, 4, 1, 3].map(line).concat();
        let merged = folder.write("merged.log", &text);
        let expected = DeliveryCounts { sent: 6, lost: 2, doubled: 2 };
        assert_eq!(count(&merged, 6).expect("it reads"), expected);
        folder
            .write("merged.log", text.as_bytes().split_last_chunk::<50>().expect("it is longer").0);
        assert!(count(&merged, 6).is_err());
    }
}
