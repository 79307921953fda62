//! The offline join with all that our pen says, and in shapes that are hard on it: equal requests of a
//! thousand clients in one second, a server whose clock jumps. Time and memory should stay what they are for
//! ordinary traffic, and what cannot be known should be said to be unknown.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pen_records::addr::{ClientAddr, ServerAddr};
use pen_records::attribution::text_hash;
use pen_records::mapping::{Mapping, MappingKind, RequestText};
use pen_records::request::Cut;
use pen_records::time::{Resolution, Timestamp};
use pen_testing::random::SeededRandom;

use super::cost::Cost;
use super::input::{client, latency};
use super::{SpeedArgs, data_folder, ours};
use crate::{ActionError, Doing};

/// 1 March 2026, midnight UTC, and seconds from then to the first request: room for a clock that jumps back.
const START: u64 = 1_772_323_200;
const MORNING: u64 = 8 * 3_600;
/// The truth stands where a user's name would.
const FORMAT: &str = r#"%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i""#;
const PORT: &str = " %{remote}p";

/// Traffic of one request a connection.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    /// Requests a second.
    rate: u64,
    servers: u8,
    clients: usize,
    /// How many different requests there are.
    pages: usize,
    agents: usize,
    /// Whether lines name the balancer's port.
    port: bool,
    /// Seconds that the clock of the first server jumps by, in the middle.
    jump: i64,
}

const USUAL: Shape = Shape {
    name: "4 servers, 500 lines/s",
    rate: 500,
    servers: 4,
    clients: 5_000,
    pages: 10_000,
    agents: 40,
    port: false,
    jump: 0,
};

const SHAPES: [Shape; 6] = [
    USUAL,
    Shape { name: "the same, lines with the port", port: true, ..USUAL },
    Shape {
        name: "1,000 clients a second, one URL, one browser",
        rate: 1_000,
        servers: 1,
        clients: 1_000,
        pages: 1,
        agents: 1,
        ..USUAL
    },
    Shape {
        name: "the same, lines with the port",
        rate: 1_000,
        servers: 1,
        clients: 1_000,
        pages: 1,
        agents: 1,
        port: true,
        ..USUAL
    },
    Shape { name: "a clock that jumps ahead by an hour", jump: 3_600, ..USUAL },
    Shape { name: "a clock that jumps back by 90 s", jump: -90, ..USUAL },
];

/// Prints a row for each shape.
pub(super) fn join(args: &SpeedArgs) -> Result<(), ActionError> {
    let lines = args.lines / 4;
    println!(
        "\njoin-hard: {lines} lines and all records of our pen for them, medians of {}",
        args.rounds
    );
    println!(
        "  {:<46} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8}",
        "", "wall s", "CPU us", "MiB", "right %", "wrong %", "none %", "lost"
    );
    for shape in SHAPES {
        let folder = data_folder().join(shape.folder(lines));
        shape.make(&folder, lines).doing(format_args!("write to {}", folder.display()))?;
        let command = shape.command(&folder);
        let rounds = 0..args.rounds.max(1);
        let costs: Result<Vec<_>, _> = rounds.map(|_| Cost::of(&command)).collect();
        let cost = Cost::median(&costs?);
        let found = judge(&command)?;
        let share = |part: u64| part as f64 * 100.0 / lines as f64;
        println!(
            "  {:<46} {:>9.3} {:>9.3} {:>9.1} {:>8.2} {:>8.2} {:>8.2} {:>8}",
            shape.name,
            cost.wall.as_secs_f64(),
            cost.cpu.as_secs_f64() * 1e6 / lines as f64,
            cost.memory as f64 / 1024.0,
            share(found.right),
            share(found.wrong),
            share(found.unnamed),
            lines.saturating_sub(found.right + found.wrong + found.unnamed),
        );
    }
    Ok(())
}

impl Shape {
    fn folder(&self, lines: u64) -> String {
        let Self { rate, servers, clients, pages, agents, port, jump, .. } = *self;
        format!("hard-{lines}-{rate}-{servers}-{clients}-{pages}-{agents}-{port}-{jump}")
    }

    fn server(number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, number + 1)
    }

    fn log(folder: &Path, server: u8) -> PathBuf {
        folder.join(format!("access-{server}.log"))
    }

    fn command(&self, folder: &Path) -> Vec<OsString> {
        let format = if self.port { format!("{FORMAT}{PORT}") } else { FORMAT.to_owned() };
        let mut command = vec![
            ours("mergelogs").into(),
            "-q".into(),
            "--format".into(),
            format.into(),
            "-p".into(),
            folder.join("pen.log").into(),
        ];
        for server in 0..self.servers {
            let mut argument = OsString::from(format!("{}:", Self::server(server)));
            argument.push(Self::log(folder, server));
            command.push(argument);
        }
        command
    }

    /// Writes the logs, unless an earlier run has.
    fn make(&self, folder: &Path, lines: u64) -> io::Result<()> {
        let done = folder.join("done");
        if done.exists() {
            return Ok(());
        }
        fs::create_dir_all(folder)?;
        let create = |path: PathBuf| File::create(path).map(BufWriter::new);
        let mut mappings = create(folder.join("pen.log"))?;
        let mut logs = Vec::new();
        for server in 0..self.servers {
            logs.push(create(Self::log(folder, server))?);
        }
        let mut random = SeededRandom::new(1);
        let middle = lines * 1_000_000 / self.rate / 2;
        // Events of both logs, by their time.
        let mut open: BinaryHeap<Reverse<Event>> = BinaryHeap::new();
        let slot = 1_000_000 / self.rate;
        for number in 0..lines {
            let begin = number * slot + random.bits() % slot;
            while let Some(Reverse(event)) = open.peek()
                && event.at <= begin
            {
                if let Some(Reverse(event)) = open.pop() {
                    self.write(&event, middle, &mut mappings, &mut logs)?;
                }
            }
            let latency = latency(&mut random, Duration::from_millis(50)).as_micros();
            let visit = PlannedRequest {
                number,
                client: random.below(self.clients),
                server: u8::try_from(random.below(self.servers.into())).unwrap_or(0),
                page: random.below(self.pages),
                agent: random.below(self.agents),
            };
            let end = begin + u64::try_from(latency).unwrap_or(0);
            let logged = end + random.bits() % 200;
            for (at, what) in [
                (begin, LoggedEvent::Record(MappingKind::Opened)),
                (begin, LoggedEvent::Record(MappingKind::Request)),
                (end, LoggedEvent::Record(MappingKind::Ended)),
                (end + 300, LoggedEvent::Record(MappingKind::Closed)),
                (logged, LoggedEvent::Line),
            ] {
                open.push(Reverse(Event { at, order: (number, what.order()), what, visit }));
            }
        }
        while let Some(Reverse(event)) = open.pop() {
            self.write(&event, middle, &mut mappings, &mut logs)?;
        }
        mappings.flush()?;
        logs.iter_mut().try_for_each(BufWriter::flush)?;
        File::create(&done).map(drop)
    }

    fn write(
        &self,
        event: &Event,
        middle: u64,
        mappings: &mut impl Write,
        logs: &mut [impl Write],
    ) -> io::Result<()> {
        let Event { at, what, visit, .. } = event;
        let mut request = Vec::new();
        write!(request, "GET /page/{} HTTP/1.1", visit.page)?;
        let agent = format!("Browser/{}", visit.agent);
        // Ports are used again long after.
        let port = 20_000 + u16::try_from(visit.number % 40_000).unwrap_or(0);
        match what {
            LoggedEvent::Record(kind) => {
                let mut out = Vec::new();
                visit.mapping(*kind, *at, port, (&request, &agent)).write_extended_line(&mut out);
                mappings.write_all(&out)
            }
            LoggedEvent::Line => {
                let jumps = visit.server == 0 && *at > middle;
                let seconds = i64::try_from(MORNING + at / 1_000_000).unwrap_or(0)
                    + if jumps { self.jump } else { 0 };
                let log = &mut logs[usize::from(visit.server)];
                write!(
                    log,
                    "127.0.0.1 - {} [01/Mar/2026:{:02}:{:02}:{:02} +0000] \"",
                    client(visit.client),
                    seconds / 3_600,
                    seconds / 60 % 60,
                    seconds % 60
                )?;
                log.write_all(&request)?;
                write!(log, "\" 200 {} \"-\" \"{agent}\"", visit.size())?;
                if self.port { writeln!(log, " {port}") } else { writeln!(log) }
            }
        }
    }
}

/// A connection with one request.
#[derive(Clone, Copy)]
struct PlannedRequest {
    number: u64,
    client: usize,
    server: u8,
    page: usize,
    agent: usize,
}

impl PlannedRequest {
    fn size(&self) -> u64 {
        1_000 + self.page as u64 % 50
    }

    fn mapping<'a>(
        &self,
        kind: MappingKind,
        at: u64,
        port: u16,
        (request, agent): (&'a [u8], &str),
    ) -> Mapping<'a> {
        let addr = client(self.client).parse().expect("an address");
        let server = ServerAddr::Ip(Shape::server(self.server).into());
        let time =
            i64::try_from((START + MORNING) * 1_000_000 + at).expect("it is in this century");
        let of_request = matches!(kind, MappingKind::Request | MappingKind::Ended);
        let asked = kind == MappingKind::Request;
        Mapping {
            kind,
            time: Some((Timestamp::from_micros(time), Resolution::Microsecond)),
            client_port: Some(40_000),
            server_port: Some(80),
            balancer: Some((Ipv4Addr::LOCALHOST, port).into()),
            connection: Some(self.number),
            nth: of_request.then_some(1),
            request: asked.then(|| RequestText::raw(request, Cut::Long)),
            user_agent: asked.then(|| text_hash(agent.as_bytes())),
            status: (kind == MappingKind::Ended).then_some(200),
            body_bytes: (kind == MappingKind::Ended).then(|| self.size()),
            framed_bytes: (kind == MappingKind::Ended).then(|| self.size()),
            head_bytes: (kind == MappingKind::Ended).then_some(150),
            ..Mapping::new(ClientAddr::Ip(addr), server)
        }
    }
}

/// A line of a log, and when it is written.
struct Event {
    at: u64,
    /// Of what happens at the same time.
    order: (u64, u8),
    what: LoggedEvent,
    visit: PlannedRequest,
}

#[derive(Clone, Copy)]
enum LoggedEvent {
    Record(MappingKind),
    Line,
}

impl LoggedEvent {
    const fn order(self) -> u8 {
        match self {
            Self::Record(MappingKind::Opened) => 0,
            Self::Record(MappingKind::Request) => 1,
            Self::Record(MappingKind::Ended) => 2,
            Self::Record(MappingKind::Closed) => 3,
            Self::Line => 4,
        }
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[derive(Default)]
struct Found {
    right: u64,
    wrong: u64,
    unnamed: u64,
}

/// Runs it once more and looks at what comes out.
fn judge(command: &[OsString]) -> Result<Found, ActionError> {
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .doing("run mergelogs")?;
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped"));
    let (mut found, mut line) = (Found::default(), Vec::new());
    while lines.read_until(b'\n', &mut line).doing("read the output")? > 0 {
        let mut words = line.split(|&byte| byte == b' ');
        match (words.next(), words.nth(1)) {
            (Some(b"127.0.0.1"), _) => found.unnamed += 1,
            (Some(client), Some(truth)) if client == truth => found.right += 1,
            _ => found.wrong += 1,
        }
        line.clear();
    }
    child.wait().doing("wait for mergelogs")?;
    Ok(found)
}
