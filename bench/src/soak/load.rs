//! Clients: polite ones that read their answers, and rude, slow, silent and vanished ones.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::again;
use crate::ActionError;
use crate::stage::PATIENCE;

/// How many connections that say nothing are open at a time.
const IDLE: usize = 200;
/// Between two deeds of a client.
const PAUSE: Duration = Duration::from_millis(2);

/// What became of exchanges that nothing spoke against.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) done: AtomicU64,
    pub(super) failed: AtomicU64,
    /// Why the first of them failed.
    pub(super) first: Mutex<String>,
}

/// What a client does, from one of many addresses.
type LoadAction = fn(SocketAddr, u64) -> io::Result<()>;

/// Each with its name, for whoever reads why one failed.
const POLITE: [(&str, LoadAction); 6] = [
    ("keep-alive", keep_alive),
    ("one request", one_request),
    ("half-close", half_close),
    ("large", large),
    ("byte by byte", drip),
    ("upload", upload),
];

const RUDE: [LoadAction; 5] = [abort, leave, silent, junk, half_a_head];

pub(super) fn start(
    addr: SocketAddr,
    clients: usize,
    stop: &Arc<AtomicBool>,
    counts: &Arc<Counts>,
) -> Result<Vec<JoinHandle<()>>, ActionError> {
    let mut threads: Vec<_> = (0..clients.max(1) as u64)
        .map(|client| {
            let counts = Arc::clone(counts);
            again(stop, PAUSE, move |turn| {
                let turn = turn.wrapping_mul(31).wrapping_add(client * 7);
                if turn.is_multiple_of(3) {
                    // Its own affair, as long as nobody else suffers.
                    pick(&RUDE, turn / 3)(addr, turn).unwrap_or_default();
                    return;
                }
                let (name, action) = pick(&POLITE, turn);
                match action(addr, turn) {
                    Ok(()) => counts.done.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        if let Ok(mut first) = counts.first.lock()
                            && first.is_empty()
                        {
                            *first = format!("{name}: {error}");
                        }
                        counts.failed.fetch_add(1, Ordering::Relaxed)
                    }
                };
            })
        })
        .collect();
    let mut idle = Vec::new();
    threads.push(again(stop, Duration::from_millis(20), move |turn| {
        // The oldest goes.
        if idle.len() >= IDLE {
            idle.remove(0);
        }
        idle.extend(connect(addr, turn));
    }));
    Ok(threads)
}

fn pick<T: Copy>(all: &[T], turn: u64) -> T {
    let len = all.len() as u64;
    all[usize::try_from(turn % len).unwrap_or(0)]
}

/// From one of many addresses.
fn connect(addr: SocketAddr, turn: u64) -> io::Result<TcpStream> {
    let [.., high, low] = turn.to_be_bytes();
    let from = IpAddr::V4(Ipv4Addr::new(127, 1, high % 4, low.max(1)));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect(&addr.into())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The body of an answer to what was asked, which has this length.
fn answer(stream: &mut TcpStream, bytes: usize) -> io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
    let mut whole = vec![0; head.len() + bytes];
    stream.read_exact(&mut whole)?;
    let is_right =
        whole.starts_with(head.as_bytes()) && whole[head.len()..].iter().all(|&b| b == b'x');
    if is_right { Ok(()) } else { Err(io::Error::other("the answer is another one")) }
}

fn keep_alive(addr: SocketAddr, turn: u64) -> io::Result<()> {
    let mut stream = connect(addr, turn)?;
    for number in 1..=20_usize {
        write!(stream, "GET /{} HTTP/1.1\r\nHost: soak\r\n\r\n", number * 100)?;
        answer(&mut stream, number * 100)?;
    }
    Ok(())
}

fn one_request(addr: SocketAddr, turn: u64) -> io::Result<()> {
    let mut stream = connect(addr, turn)?;
    write!(stream, "GET /1000 HTTP/1.1\r\nHost: soak\r\n\r\n")?;
    answer(&mut stream, 1_000)
}

fn half_close(addr: SocketAddr, turn: u64) -> io::Result<()> {
    let mut stream = connect(addr, turn)?;
    let mut text = b"ECHO\n".to_vec();
    text.extend((0..60_000_usize).map(|at| (at ^ (at >> 8)).to_le_bytes()[0]));
    stream.write_all(&text)?;
    stream.shutdown(Shutdown::Write)?;
    let mut back = Vec::new();
    stream.read_to_end(&mut back)?;
    if back == text { Ok(()) } else { Err(io::Error::other("it came back as something else")) }
}

fn large(addr: SocketAddr, turn: u64) -> io::Result<()> {
    let mut stream = connect(addr, turn)?;
    write!(stream, "GET /3000000 HTTP/1.1\r\nHost: soak\r\n\r\n")?;
    answer(&mut stream, 3_000_000)
}

fn drip(addr: SocketAddr, turn: u64) -> io::Result<()> {
    let mut stream = connect(addr, turn)?;
    for byte in *b"GET /7 HTTP/1.1\r\nHost: soak\r\n\r\n" {
        stream.write_all(&[byte])?;
    }
    answer(&mut stream, 7)
}

fn upload(addr: SocketAddr, turn: u64) -> io::Result<()> {
    let mut stream = connect(addr, turn)?;
    write!(stream, "POST /5 HTTP/1.1\r\nHost: soak\r\nContent-Length: 200000\r\n\r\n")?;
    for piece in vec![b'y'; 200_000].chunks(7_001) {
        stream.write_all(piece)?;
    }
    answer(&mut stream, 5)
}

/// Goes away with a reset in the midst of the answer.
fn abort(addr: SocketAddr, turn: u64) -> io::Result<()> {
    let mut stream = connect(addr, turn)?;
    write!(stream, "GET /9000000 HTTP/1.1\r\nHost: soak\r\n\r\n")?;
    stream.read_exact(&mut [0; 10_000])?;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}

/// Goes away without waiting for the answer.
fn leave(addr: SocketAddr, turn: u64) -> io::Result<()> {
    let mut stream = connect(addr, turn)?;
    write!(stream, "GET /9000000 HTTP/1.1\r\nHost: soak\r\n\r\n")
}

fn silent(addr: SocketAddr, turn: u64) -> io::Result<()> {
    connect(addr, turn).map(drop)
}

fn junk(addr: SocketAddr, turn: u64) -> io::Result<()> {
    let mut stream = connect(addr, turn)?;
    let bytes: Vec<u8> = (0..9_000_u64).map(|at| (at * turn).to_le_bytes()[0]).collect();
    stream.write_all(&bytes)?;
    stream.shutdown(Shutdown::Write)?;
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

fn half_a_head(addr: SocketAddr, turn: u64) -> io::Result<()> {
    let mut stream = connect(addr, turn)?;
    stream.write_all(b"GET /1 HTTP/1.1\r\nCookie: ")?;
    stream.write_all(&[b'c'; 20_000])
}
