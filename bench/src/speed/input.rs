//! Made input: access logs of several servers and the balancer's mapping file for them, with the
//! truth in files of its own. The same plan gives the same bytes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use pen_testing::random::SeededRandom;

use super::phrases::Phrases;
use crate::{ActionError, Doing};

/// 1 March 2026, midnight UTC: no made log is longer than a day.
const START: u64 = 1_772_323_200;
const DAY: u64 = 86_400;

/// What to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Access lines, and as many mappings.
    pub(super) lines: u64,
    /// Requests a second by the stamps, all servers together.
    pub(super) rate: u64,
    pub(super) servers: usize,
    pub(super) clients: usize,
}

/// What was made.
pub(super) struct Input {
    /// Each server's address, its access log, and the client of each of its lines.
    pub(super) servers: Vec<Server>,
    pub(super) mappings: PathBuf,
}

pub(super) struct Server {
    pub(super) addr: String,
    pub(super) log: PathBuf,
    pub(super) truth: PathBuf,
}

impl Input {
    /// Every file that a program has to read.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.logs().chain([self.mappings.as_path()])
    }

    pub(super) fn logs(&self) -> impl Iterator<Item = &Path> {
        self.servers.iter().map(|server| server.log.as_path())
    }

    /// The same files through gzip, made once.
    pub(super) fn gzipped(&self) -> Result<Self, ActionError> {
        let servers = self.servers.iter().map(|server| {
            Ok(Server {
                addr: server.addr.clone(),
                log: gzip(&server.log)?,
                truth: server.truth.clone(),
            })
        });
        Ok(Self {
            servers: servers.collect::<Result<_, ActionError>>()?,
            mappings: gzip(&self.mappings)?,
        })
    }
}

fn gzip(path: &Path) -> Result<PathBuf, ActionError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    let gzipped = PathBuf::from(name);
    if !gzipped.exists() {
        let half = gzipped.with_extension("half");
        let pack = || -> io::Result<()> {
            let mut encoder = GzEncoder::new(File::create(&half)?, Compression::new(6));
            io::copy(&mut File::open(path)?, &mut encoder)?;
            encoder.finish()?;
            fs::rename(&half, &gzipped)
        };
        pack().doing(format_args!("gzip {}", path.display()))?;
    }
    Ok(gzipped)
}

impl Plan {
    /// Makes the input under `folder`, or takes what an earlier run made there.
    pub(super) fn make(&self, folder: &Path) -> Result<Input, ActionError> {
        let Self { lines, rate, servers, clients } = *self;
        if lines / rate.max(1) >= DAY {
            return Err(ActionError::new(format!(
                "{lines} lines at {rate} lines/s are more than a day; take fewer lines"
            )));
        }
        let folder = folder
            .join(format!("{lines}-lines-{rate}-a-second-{servers}-servers-{clients}-clients"));
        let input = Input {
            servers: (1..=servers)
                .map(|n| Server {
                    addr: format!("10.0.{}.{}", n / 256, n % 256),
                    log: folder.join(format!("access-{n}.log")),
                    truth: folder.join(format!("truth-{n}")),
                })
                .collect(),
            mappings: folder.join("pen.log"),
        };
        let done = folder.join("done");
        if !done.exists() {
            fs::create_dir_all(&folder).doing(format_args!("make {}", folder.display()))?;
            self.write(&input).doing(format_args!("write to {}", folder.display()))?;
            File::create(&done).doing(format_args!("write {}", done.display()))?;
        }
        Ok(input)
    }

    fn write(&self, input: &Input) -> io::Result<()> {
        let phrases = Phrases::load();
        eprintln!("making {} from {}", input.mappings.with_file_name("").display(), phrases.source);
        let mut random = SeededRandom::new(1);
        let visitors: Vec<_> = (0..self.clients)
            .map(|n| (client(n), random.below(phrases.user_agents.len())))
            .collect();
        let create = |path: &Path| File::create(path).map(|f| BufWriter::with_capacity(1 << 18, f));
        let mut mappings = create(&input.mappings)?;
        let mut logs = Vec::new();
        for server in &input.servers {
            logs.push((create(&server.log)?, create(&server.truth)?));
        }

        let mut write_line = |request: Request| -> io::Result<()> {
            let Request { end, server, visitor, phrase } = request;
            let (client, user_agent) = &visitors[visitor];
            let (log, truth) = &mut logs[server];
            let phrase = &phrases.phrases[phrase];
            let second = end / 1_000_000;
            write!(
                log,
                "127.0.0.1 - - [01/Mar/2026:{:02}:{:02}:{:02} +0000] \"",
                second / 3600,
                second / 60 % 60,
                second % 60
            )?;
            log.write_all(&phrase.request)?;
            log.write_all(b"\" ")?;
            log.write_all(&phrase.result)?;
            log.write_all(b" \"")?;
            log.write_all(&phrase.referer)?;
            log.write_all(b"\" \"")?;
            log.write_all(&phrases.user_agents[*user_agent])?;
            log.write_all(b"\"\n")?;
            writeln!(truth, "{client}")
        };

        // Requests begin in turn and are logged when they end.
        let mut open = BinaryHeap::new();
        let slot = 1_000_000 / self.rate.max(1);
        for n in 0..self.lines {
            let begin = n * 1_000_000 / self.rate + random.bits() % slot.max(1);
            while let Some(&Reverse(Request { end, .. })) = open.peek()
                && end <= begin
            {
                open.pop().map_or(Ok(()), |Reverse(request)| write_line(request))?;
            }
            let latency = latency(&mut random, Duration::from_millis(50)).as_micros();
            let request = Request {
                end: begin + u64::try_from(latency).unwrap_or(0),
                server: random.below(self.servers),
                visitor: random.below(self.clients),
                phrase: random.below(phrases.phrases.len()),
            };
            let text = &phrases.phrases[request.phrase].request;
            let (client, _) = &visitors[request.visitor];
            let epoch = START + begin / 1_000_000;
            write!(mappings, "{client} {epoch} {} ", input.servers[request.server].addr)?;
            mappings.write_all(&text[..text.len().min(100)])?;
            mappings.write_all(b"\n")?;
            open.push(Reverse(request));
        }
        while let Some(Reverse(request)) = open.pop() {
            write_line(request)?;
        }
        mappings.flush()?;
        logs.iter_mut().try_for_each(|(log, truth)| log.flush().and_then(|()| truth.flush()))
    }
}

/// A request in flight; the request that ends first compares as the least.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    end: u64,
    server: usize,
    visitor: usize,
    phrase: usize,
}

/// The address of client `n`: from the block reserved for benchmarks, not in order.
pub(super) fn client(n: usize) -> String {
    let scattered = n * 40_503 % (1 << 16);
    format!("198.18.{}.{}", scattered / 256, scattered % 256)
}

/// Draws how long a request takes: log-normal around `median`, so that one in a hundred takes about ten times as
/// long.
pub(super) fn latency(random: &mut SeededRandom, median: Duration) -> Duration {
    median.mul_f64(random.normal().exp())
}
