//! Visitors: requests from many addresses, and the answers.
//!
//! All of it is drawn in advance from a fixed seed; only the moments differ from run to run. 200
//! clients share 40 User-Agents, pages are chosen by Zipf's law, 48 connections are open at a time.

mod http2;
mod odd;
mod wire;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pen_testing::random::SeededRandom;
use socket2::{Domain, Socket, Type};
pub use wire::{Protocol, Sending};

use super::{HOSTS, PATIENCE, host_name};
use crate::ActionError;

/// The kind of traffic in a row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficKind {
    /// One request a connection, 60 pages.
    Single,
    /// Nine in ten ask for the same page.
    SamePage,
    /// Several requests a connection, with pauses between them.
    KeepAlive,
    /// Half are downloads that take from 50 to 600 ms.
    Slow,
    /// Half are POSTs whose bodies come in pieces.
    Post,
    /// Half are POSTs that the server answers before their bodies have come.
    EarlyAnswers,
    /// One to four requests in one go.
    Pipelined,
    /// Addresses of up to 7 kB.
    LongUrls,
    /// What else HTTP has: HEAD, 304, ranges, 404, 400, 408, chunks, compression, 100 Continue, downloads that
    /// are given up, sockets.
    Odd,
    /// All of these, a connection each.
    All,
}

/// A connection and all requests on it.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The client's address.
    pub client: Ipv4Addr,
    /// Rounds: what is sent together, before the answers are awaited.
    pub rounds: Vec<Round>,
}

/// What is sent together.
#[derive(Clone, Debug)]
pub struct Round {
    /// How long the visitor reads before.
    pub pause: Duration,
    /// The bytes, in pieces that are sent one by one.
    pub pieces: Vec<Vec<u8>>,
    /// How many requests that is.
    pub requests: usize,
    /// The expected end of the round.
    pub then: Then,
}

/// The kinds that [`TrafficKind::All`] is made of.
const TRAFFIC_KINDS: [TrafficKind; 8] = [
    TrafficKind::Single,
    TrafficKind::SamePage,
    TrafficKind::KeepAlive,
    TrafficKind::Slow,
    TrafficKind::Post,
    TrafficKind::Pipelined,
    TrafficKind::LongUrls,
    TrafficKind::Odd,
];

/// The expected end of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Then {
    /// Whole answers.
    #[default]
    Answers,
    /// An answer without a body, whatever its head says.
    Head,
    /// The visitor leaves after so many bytes.
    Leave(usize),
    /// The server leaves, with an answer or without.
    Left,
    /// Both say something after the head of the answer, and the visitor leaves.
    Talk,
}

/// The result of a run of visits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Requests that were answered.
    pub answered: usize,
    /// Connections that failed before their last answer.
    pub failed: usize,
    /// The time from the first connection to the last answer.
    pub took: Duration,
}

impl Tally {
    /// Answers in a second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub fn per_second(&self) -> f64 {
        self.answered as f64 / self.took.as_secs_f64()
    }
}

/// How visits draw numbers.
trait ScaledRandom {
    /// Returns a number below `end`, by multiplication: a change would draw other visits for the same seed, so
    /// that tables of different commits could not be compared.
    fn scaled(&mut self, end: usize) -> usize;
}

impl ScaledRandom for SeededRandom {
    fn scaled(&mut self, end: usize) -> usize {
        let wide = u128::from(self.bits()) * end as u128;
        usize::try_from(wide >> 64).expect("below a usize")
    }
}

/// Draws the visits for a number of requests.
#[must_use]
pub fn draw(manner: TrafficKind, requests: usize, seed: u64) -> Vec<Visit> {
    draw_by(manner, USER_AGENTS, requests, seed)
}

/// How many User-Agents visitors have, where nothing else is said.
pub const USER_AGENTS: u64 = 40;

/// As [`draw`], for visitors with so many User-Agents.
#[must_use]
pub fn draw_by(manner: TrafficKind, user_agents: u64, requests: usize, seed: u64) -> Vec<Visit> {
    let mut random = SeededRandom::new(seed);
    let (pages, agents) = (Zipf::new(60), Zipf::new(user_agents));
    // A client keeps its browser.
    let clients: Vec<usize> = (0..200).map(|_| agents.draw(&mut random)).collect();
    let mut visits = Vec::new();
    let mut drawn = 0;
    let all = manner;
    while drawn < requests {
        let manner = if all == TrafficKind::All {
            TRAFFIC_KINDS[random.scaled(TRAFFIC_KINDS.len())]
        } else {
            all
        };
        let client = random.scaled(clients.len());
        let rounds = match manner {
            TrafficKind::KeepAlive => 1 + random.scaled(8),
            TrafficKind::Pipelined => 1 + random.scaled(3),
            TrafficKind::Odd => 1 + random.scaled(5),
            _ => 1,
        };
        let mut visit = Visit { client: address(client), rounds: Vec::new() };
        for nth in 0..rounds {
            let together = if manner == TrafficKind::Pipelined { 1 + random.scaled(4) } else { 1 };
            let mut round = Round {
                pause: Duration::from_micros(if nth == 0 {
                    0
                } else {
                    random.scaled(40_000) as u64
                }),
                pieces: Vec::new(),
                requests: together,
                then: Then::Answers,
            };
            for _ in 0..together {
                let who = Asker { client: visit.client, agent: clients[client], id: drawn };
                if manner == TrafficKind::Odd {
                    round.then = odd::ask(&who, &pages, &mut random, &mut round.pieces);
                } else {
                    ask(manner, &who, &pages, &mut random, &mut round.pieces);
                }
                drawn += 1;
            }
            if manner == TrafficKind::Pipelined {
                round.pieces = vec![round.pieces.concat()];
            }
            let is_last = !matches!(round.then, Then::Answers | Then::Head);
            visit.rounds.push(round);
            if is_last {
                break;
            }
        }
        visits.push(visit);
    }
    visits
}

/// The address of a client by its number: 127.1.x.y.
#[must_use]
pub fn address(client: usize) -> Ipv4Addr {
    let octet = |number: usize| u8::try_from(number % 250).expect("below 250");
    Ipv4Addr::new(127, 1, octet(client / 250), octet(client) + 1)
}

/// Returns the visit of one client that sends `pieces` and reads `answers` answers.
#[must_use]
pub fn visit(client: Ipv4Addr, pieces: &[&[u8]], requests: usize) -> Visit {
    let pieces = pieces.iter().map(|piece| piece.to_vec()).collect();
    let (pause, then) = (Duration::ZERO, Then::Answers);
    Visit { client, rounds: vec![Round { pause, pieces, requests, then }] }
}

/// The same visits by clients with IPv6 addresses: who they are is said by the PROXY protocol, as if
/// something before the balancer had taken their connections.
#[must_use]
pub fn by_v6(mut visits: Vec<Visit>) -> Vec<Visit> {
    for visit in &mut visits {
        let old = format!("X-True-Client: {}", visit.client);
        let [_, _, high, low] = visit.client.octets();
        let client = Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, high.into(), low.into());
        let new = format!("X-True-Client: {client}");
        for piece in visit.rounds.iter_mut().flat_map(|round| &mut round.pieces) {
            *piece = replaced(piece, old.as_bytes(), new.as_bytes());
        }
        let greeting = format!("PROXY TCP6 {client} ::1 4711 80\r\n");
        if let Some(first) = visit.rounds.first_mut().and_then(|round| round.pieces.first_mut()) {
            first.splice(..0, greeting.into_bytes());
        }
        visit.client = Ipv4Addr::LOCALHOST;
    }
    visits
}

/// The virtual host that a client asks.
#[must_use]
pub const fn host_of(client: Ipv4Addr) -> u8 {
    client.octets()[3] % HOSTS
}

/// The same visits to several virtual hosts, each client to one of them.
#[must_use]
pub fn by_hosts(mut visits: Vec<Visit>) -> Vec<Visit> {
    for visit in &mut visits {
        let host = format!("Host: {}\r\n", host_name(host_of(visit.client)));
        for piece in visit.rounds.iter_mut().flat_map(|round| &mut round.pieces) {
            *piece = replaced(piece, b"Host: shop.example\r\n", host.as_bytes());
        }
    }
    visits
}

fn replaced(text: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 64);
    let mut from = 0;
    for at in memchr::memmem::find_iter(text, old) {
        out.extend_from_slice(&text[from..at]);
        out.extend_from_slice(new);
        from = at + old.len();
    }
    out.extend_from_slice(&text[from..]);
    out
}

struct Asker {
    client: Ipv4Addr,
    agent: usize,
    id: usize,
}

fn ask(
    manner: TrafficKind,
    who: &Asker,
    pages: &Zipf,
    random: &mut SeededRandom,
    pieces: &mut Vec<Vec<u8>>,
) {
    let page = pages.draw(random);
    let target = match manner {
        TrafficKind::SamePage if random.scaled(10) > 0 => "/index.html".to_owned(),
        TrafficKind::Slow if random.scaled(2) == 0 => format!("/slow/s{}", random.scaled(10)),
        TrafficKind::Post if random.scaled(2) == 0 => {
            return post(who, &format!("/post/form{}", page % 12), random, pieces);
        }
        // What is not below /post/ is answered at once.
        TrafficKind::EarlyAnswers if random.scaled(2) == 0 => {
            return post(who, &format!("/form{}", page % 12), random, pieces);
        }
        TrafficKind::LongUrls => long_target(page, random),
        _ => target(page),
    };
    pieces.push(head("GET", &target, who, page, ""));
}

fn target(page: usize) -> String {
    match page % 4 {
        0 => format!("/shop/item{page}.html"),
        1 => format!("/images/photo-{page}.jpg"),
        2 => format!("/search?q=word{page}&page=1"),
        _ => format!("/static/css/site-{page}.css?v=20261122"),
    }
}

/// One URL in three is short, the rest has up to 7 kB. Some differ only behind the part that C pen keeps.
fn long_target(page: usize, random: &mut SeededRandom) -> String {
    let len = match random.scaled(3) {
        0 => return target(page),
        1 => 80 + random.scaled(900),
        _ => 900 + random.scaled(6_000),
    };
    let mut target = format!("/report/{}?filter=", page % 20);
    let filler = b"abcdefghij0123456789-klmnopqrst";
    while target.len() < len {
        target.push(char::from(filler[(target.len() * (page + 3)) % filler.len()]));
    }
    target
}

fn post(who: &Asker, target: &str, random: &mut SeededRandom, pieces: &mut Vec<Vec<u8>>) {
    // A body that is answered early takes long enough for others to overtake it.
    let count =
        if target.starts_with("/post/") { 1 + random.scaled(4) } else { 1 + random.scaled(60) };
    let body: Vec<Vec<u8>> = (0..count)
        .map(|piece| {
            let mut text = format!("field{piece}=value+{}&text=", who.id).into_bytes();
            text.resize(text.len() + 20 + random.scaled(600), b'a');
            text
        })
        .collect();
    let len: usize = body.iter().map(Vec::len).sum();
    pieces.push(head(
        "POST",
        target,
        who,
        random.scaled(60),
        &format!("Content-Length: {len}\r\n"),
    ));
    pieces.extend(body);
}

fn head(method: &str, target: &str, who: &Asker, page: usize, more: &str) -> Vec<u8> {
    let referer = match (who.id * 7 + page) % 5 {
        0 | 1 => String::new(),
        2 => "Referer: https://www.search.example/\r\n".to_owned(),
        _ => format!("Referer: https://shop.example/shop/item{}.html\r\n", page % 10),
    };
    format!(
        "{method} {target} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: {}\r\n{referer}{more}\
         X-Request-Id: r{}\r\nX-True-Client: {}\r\n\r\n",
        agent(who.agent),
        who.id,
        who.client
    )
    .into_bytes()
}

fn agent(number: usize) -> String {
    match number % 3 {
        0 => format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/{}.0", 100 + number),
        1 => format!("Mozilla/5.0 (X11; Linux x86_64) Chrome/{}.0.0.0 Safari/537.36", 90 + number),
        _ => format!(
            "Mozilla/5.0 (iPhone; CPU iPhone OS 1{}_{} like Mac OS X)",
            number % 8,
            number / 8
        ),
    }
}

/// Sends all visits to `to`, at most 48 at a time.
///
/// # Errors
/// When most visits fail.
pub fn send(visits: &[Visit], to: SocketAddr, sending: Sending) -> Result<Tally, ActionError> {
    let tally = send_whatever_fails(visits, to, sending);
    if tally.failed * 2 > visits.len() {
        return Err(ActionError::new(format!(
            "{} of {} visits to {to} failed",
            tally.failed,
            visits.len()
        )));
    }
    Ok(tally)
}

/// As [`send`], to a site that is not always there.
#[must_use]
pub fn send_whatever_fails(visits: &[Visit], to: SocketAddr, sending: Sending) -> Tally {
    let (next, answered, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let times = sending.per_second.map(|rate| wire::times(visits, rate)).unwrap_or_default();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..sending.at_a_time() {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(visit) = visits.get(number) else { return };
                    if let Some(&at) = times.get(number) {
                        rest(at.saturating_sub(started.elapsed()));
                    }
                    match make(visit, to, sending.tls, &answered) {
                        Ok(()) => {}
                        Err(_) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    Tally { answered: answered.into_inner(), failed: failed.into_inner(), took: started.elapsed() }
}

fn make(
    visit: &Visit,
    to: SocketAddr,
    tls: Option<Protocol>,
    answered: &AtomicUsize,
) -> std::io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(IpAddr::V4(visit.client), 0).into())?;
    socket.connect(&to.into())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    match tls {
        None => converse(visit, stream, answered),
        Some(Protocol::Http1) => {
            converse(visit, wire::Sealed::new(stream, Protocol::Http1)?, answered)
        }
        Some(Protocol::Http2) => {
            http2::converse(visit, wire::Sealed::new(stream, Protocol::Http2)?, answered)
        }
    }
}

fn converse(
    visit: &Visit,
    stream: impl Read + Write,
    answered: &AtomicUsize,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    for round in &visit.rounds {
        rest(round.pause);
        for (nth, piece) in round.pieces.iter().enumerate() {
            if nth > 0 {
                // The pieces of a body are reads of their own for the balancer.
                rest(Duration::from_millis(1));
            }
            reader.get_mut().write_all(piece)?;
            reader.get_mut().flush()?;
        }
        for _ in 0..round.requests {
            follow(round.then, &mut reader)?;
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Does what is to come of a request.
fn follow(then: Then, reader: &mut BufReader<impl Read + Write>) -> std::io::Result<()> {
    match then {
        Then::Answers => read_answer(reader),
        Then::Head => read_head(reader).map(drop),
        Then::Leave(bytes) => skip(reader, bytes as u64),
        // A reset says the same.
        Then::Left => std::io::copy(reader, &mut std::io::sink()).map_or(Ok(()), |_bytes| Ok(())),
        Then::Talk => {
            read_head(reader)?;
            for words in ["hello", "and so on", "good bye"] {
                reader.get_mut().write_all(words.as_bytes())?;
                skip(reader, words.len() as u64)?;
            }
            Ok(())
        }
    }
}

fn rest(pause: Duration) {
    if !pause.is_zero() {
        std::thread::park_timeout(pause);
    }
}

/// How the body of an answer ends.
#[derive(Clone, Copy, Debug, Default)]
struct Framing {
    len: u64,
    chunked: bool,
}

/// Reads the head of an answer, and the heads of interim answers before.
fn read_head(reader: &mut impl BufRead) -> std::io::Result<Framing> {
    let (mut line, mut framing, mut first, mut interim) =
        (Vec::new(), Framing::default(), true, false);
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Err(broken("the answer is cut short"));
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_ascii_lowercase();
        if first {
            interim = text.starts_with("http/1.1 100");
        }
        first = text.is_empty();
        if text.is_empty() && !interim {
            return Ok(framing);
        }
        if let Some(number) = text.strip_prefix("content-length:") {
            framing.len = number.trim().parse().map_err(|_| broken("no length"))?;
        }
        framing.chunked |= text.starts_with("transfer-encoding:") && text.ends_with("chunked");
    }
}

fn broken(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}

/// Reads one answer, of known length or in chunks.
fn read_answer(reader: &mut impl BufRead) -> std::io::Result<()> {
    let Framing { len, chunked } = read_head(reader)?;
    let mut line = Vec::new();
    if !chunked {
        return skip(reader, len);
    }
    loop {
        line.clear();
        reader.read_until(b'\n', &mut line)?;
        let size = String::from_utf8_lossy(&line);
        let size = u64::from_str_radix(size.trim(), 16).map_err(|_| broken("no chunk size"))?;
        skip(reader, size + 2)?;
        if size == 0 {
            return Ok(());
        }
    }
}

fn skip(reader: &mut impl BufRead, len: u64) -> std::io::Result<()> {
    let copied = std::io::copy(&mut reader.take(len), &mut std::io::sink())?;
    if copied == len { Ok(()) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

/// Zipf's law: the nth most wanted is wanted 1/n as often as the first.
struct Zipf(Vec<u64>);

impl Zipf {
    fn new(things: u64) -> Self {
        let mut sum = 0;
        Self(
            (1..=things)
                .map(|rank| {
                    sum += 1_000_000 / rank;
                    sum
                })
                .collect(),
        )
    }

    fn draw(&self, random: &mut SeededRandom) -> usize {
        let total = self.0.last().copied().unwrap_or(1);
        let at = random.bits() % total;
        self.0.partition_point(|&end| end <= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_visits() {
        for manner in [
            TrafficKind::Single,
            TrafficKind::Post,
            TrafficKind::Pipelined,
            TrafficKind::LongUrls,
            TrafficKind::Odd,
        ] {
            let (one, two) = (draw(manner, 50, 7), draw(manner, 50, 7));
            assert_eq!(format!("{one:?}"), format!("{two:?}"), "{manner:?}");
            let requests: usize =
                one.iter().flat_map(|visit| &visit.rounds).map(|round| round.requests).sum();
            assert!((50..54).contains(&requests), "{manner:?}: {requests}");
        }
    }

    #[test]
    fn answers_are_read_whole() {
        for answer in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP",
            b"HTTP/1.1 204 No Content\r\n\r\nHTTP",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP",
        ] {
            let mut left = answer;
            read_answer(&mut left).unwrap();
            assert_eq!(left, b"HTTP");
        }
    }
}
