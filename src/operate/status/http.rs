//! The status port: serves `/`, `/status.json`, `/metrics` over HTTP, and `/health` for failover scripts.
//!
//! The server is hand-written, about 200 lines without a dependency: it reads one request head of at most 8 KiB, evaluates
//! the request line, replies and closes. hyper would replace only the parsing of that line; the limits that protect the
//! process would still have to be added: connections at a time, time for the head, time for each piece of the reply, the
//! access list. Each connection has a thread. The workers are asked for a snapshot at most twice a second.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::history::{STEP, TrafficHistory};
use super::{json, metrics, page};
use crate::data::snapshot::{ConnectionFilter, ServerStatus, Snapshot, SnapshotDetail};
use crate::operate::connection_limit::ConnectionLimit;
use crate::operate::control::Operator;
use crate::operate::timed_write;

/// Most connections served at a time; further ones are closed.
const MAX_CONNECTIONS: usize = 32;
/// Timeout for the request head, and for the peer to accept each piece of the reply.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of a request head.
const MAX_HEAD: usize = 8 << 10;
/// For how long a snapshot is reused.
const CACHE_TIME: Duration = Duration::from_millis(500);
/// Pause after accepting has failed.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Most clients and connections listed.
const DETAIL: SnapshotDetail =
    SnapshotDetail { clients: 1_000, recent: None, connections: ConnectionFilter::First(1_000) };

/// A bound status port that is not served yet.
#[derive(Debug)]
pub struct StatusPort(TcpListener);

impl StatusPort {
    /// Binds the port.
    ///
    /// # Errors
    /// The address is in use or cannot be bound.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(addr).map(Self)
    }

    /// Returns the bound address, with the actual port where port 0 was requested.
    ///
    /// # Errors
    /// The system call fails.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Starts the threads that accept connections and take samples; they run until the process ends.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn serve(self, operator: Arc<Operator>) -> io::Result<()> {
        let state = Arc::new(Mutex::new(StatusCache {
            history: TrafficHistory::default(),
            snapshot: None,
        }));
        let (sampled, keeper) = (Arc::clone(&state), Arc::clone(&operator));
        thread::Builder::new()
            .name("history".into())
            .spawn(move || sample_history(&sampled, &keeper))?;
        let serve = move || accept(&self.0, &operator, &state);
        thread::Builder::new().name("status".into()).spawn(serve)?;
        Ok(())
    }
}

/// The history, and the latest snapshot with the time it was taken.
struct StatusCache {
    history: TrafficHistory,
    snapshot: Option<(Instant, Arc<Snapshot>)>,
}

fn sample_history(state: &Mutex<StatusCache>, operator: &Operator) {
    let mut next = Instant::now();
    loop {
        let snapshot = operator.snapshot(SnapshotDetail::default());
        lock(state).history.push(&snapshot);
        next += STEP;
        while let Some(left) =
            next.checked_duration_since(Instant::now()).filter(|it| !it.is_zero())
        {
            thread::park_timeout(left);
        }
    }
}

fn lock(state: &Mutex<StatusCache>) -> std::sync::MutexGuard<'_, StatusCache> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a snapshot no older than [`CACHE_TIME`], and the history.
fn current_state(
    state: &Mutex<StatusCache>,
    operator: &Operator,
) -> (Arc<Snapshot>, TrafficHistory) {
    // The lock is held meanwhile, so that concurrent requests share one snapshot.
    let mut kept = lock(state);
    let fresh = kept.snapshot.take().filter(|(at, _)| at.elapsed() < CACHE_TIME);
    let fresh = fresh.unwrap_or_else(|| (Instant::now(), Arc::new(operator.snapshot(DETAIL))));
    let snapshot = Arc::clone(&fresh.1);
    kept.snapshot = Some(fresh);
    (snapshot, kept.history.clone())
}

fn accept(listener: &TcpListener, operator: &Arc<Operator>, state: &Arc<Mutex<StatusCache>>) {
    let limit = ConnectionLimit::new(MAX_CONNECTIONS);
    loop {
        let Ok((stream, from)) = listener.accept() else {
            // No file descriptors left, or the peer has disconnected already.
            thread::park_timeout(ACCEPT_RETRY);
            continue;
        };
        let settings = operator.config().settings;
        // As on the control port, a denied peer gets no reply.
        let permits = |list| settings.acls.permits(list, from.ip().into());
        if !settings.status_acl.is_none_or(permits) {
            continue;
        }
        let Some(slot) = limit.take() else { continue };
        let (operator, state) = (Arc::clone(operator), Arc::clone(state));
        let serve = move || {
            let _slot = slot;
            let _ = exchange(stream, |path| reply(path, &operator, &state)); // The peer has disconnected.
        };
        // Without a thread the connection is closed, as if there were no slot.
        let _ = thread::Builder::new().name("status-peer".into()).spawn(serve);
    }
}

/// A reply: status line, content type and body.
struct StatusReply {
    status: &'static str,
    kind: &'static str,
    body: String,
}

impl StatusReply {
    fn plain(status: &'static str, body: &str) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: format!("{body}\n") }
    }
}

fn reply(path: &str, operator: &Operator, state: &Mutex<StatusCache>) -> StatusReply {
    let ok = |kind, body| StatusReply { status: "200 OK", kind, body };
    match path {
        "/" => {
            let (snapshot, history) = current_state(state, operator);
            ok("text/html; charset=utf-8", page::draw(&snapshot, Some(&history)))
        }
        "/status.json" => ok("application/json", json::write(&current_state(state, operator).0)),
        "/metrics" => ok(metrics::CONTENT_TYPE, metrics::write(&current_state(state, operator).0)),
        "/health" => {
            let (snapshot, _) = current_state(state, operator);
            let works = |state| matches!(state, ServerStatus::Up | ServerStatus::Full);
            if snapshot.servers.iter().any(|server| works(server.state)) {
                StatusReply::plain("200 OK", "a server is up")
            } else {
                StatusReply::plain("503 Service Unavailable", "no server is up")
            }
        }
        _ => StatusReply::plain("404 Not Found", "available: /, /status.json, /metrics, /health"),
    }
}

fn exchange(mut stream: TcpStream, reply: impl Fn(&str) -> StatusReply) -> io::Result<()> {
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    let (reply, body) = match head(&mut stream)? {
        Some(head) => match request(&head) {
            Ok((StatusMethod::Get, path)) => (reply(path), true),
            Ok((StatusMethod::Head, path)) => (reply(path), false),
            Err(error) => (error, true),
        },
        None => (StatusReply::plain("431 Request Header Fields Too Large", "expected 8 KiB"), true),
    };
    let StatusReply { status, kind, body: text } = &reply;
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
         Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n\
         Connection: close\r\n\r\n",
        text.len()
    );
    if body {
        bytes.push_str(text);
    }
    timed_write::write_all(&mut stream, bytes.as_bytes(), IO_TIMEOUT)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // Closing with unread input would send a reset, and the peer might lose the reply.
    let mut rest = [0; 4_096];
    let since = Instant::now();
    while since.elapsed() < IO_TIMEOUT && matches!(stream.read(&mut rest), Ok(len) if len > 0) {}
    Ok(())
}

/// Reads the head of a request; `None` if the head is longer than [`MAX_HEAD`].
fn head(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let since = Instant::now();
    let mut head = Vec::new();
    let mut buf = [0; 1_024];
    loop {
        let len = match stream.read(&mut buf) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        head.extend_from_slice(buf.get(..len).unwrap_or_default());
        if let Some(end) = head_end(&head) {
            head.truncate(end);
            return Ok(Some(head));
        }
        if head.len() > MAX_HEAD {
            return Ok(None);
        }
        // A peer that sends single bytes must not hold the thread.
        if since.elapsed() > IO_TIMEOUT {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

fn head_end(head: &[u8]) -> Option<usize> {
    let crlf = head.windows(4).position(|four| four == b"\r\n\r\n");
    crlf.or_else(|| head.windows(2).position(|two| two == b"\n\n"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StatusMethod {
    Get,
    Head,
}

/// Parses the request line into method and path; the query behind `?` is ignored.
fn request(head: &[u8]) -> Result<(StatusMethod, &str), StatusReply> {
    let bad = || StatusReply::plain("400 Bad Request", "expected GET / HTTP/1.1");
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = std::str::from_utf8(line.trim_ascii_end()).map_err(|_| bad())?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad());
    };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Err(bad());
    }
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    match method {
        "GET" => Ok((StatusMethod::Get, path)),
        "HEAD" => Ok((StatusMethod::Head, path)),
        _ => Err(StatusReply::plain("405 StatusMethod Not Allowed", "expected GET or HEAD")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn valid_requests_are_parsed_and_others_rejected() {
        for (head, expected) in [
            ("GET / HTTP/1.1\r\nHost: x", Ok((StatusMethod::Get, "/"))),
            ("HEAD /metrics?a=/b HTTP/1.0", Ok((StatusMethod::Head, "/metrics"))),
            ("POST / HTTP/1.1", Err("405 StatusMethod Not Allowed")),
            ("GET http://x/ HTTP/1.1", Err("400 Bad Request")),
            ("GET / HTTP/2", Err("400 Bad Request")),
            ("GET /", Err("400 Bad Request")),
            ("GET /a b HTTP/1.1", Err("400 Bad Request")),
            ("servers", Err("400 Bad Request")),
            ("", Err("400 Bad Request")),
        ] {
            let found = request(head.as_bytes()).map_err(|reply| reply.status);
            assert_eq!(found, expected, "{head}");
        }
    }

    #[test]
    fn a_head_ends_at_its_empty_line_and_is_not_endless() {
        let mut long: &[u8] = &[b'x'; 100_000];
        assert!(head(&mut long).unwrap().is_none());
        let mut whole: &[u8] = b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest";
        assert_eq!(head(&mut whole).unwrap().unwrap(), b"GET / HTTP/1.1\r\nA: b");
        let mut cut: &[u8] = b"GET / HTTP/1.1\r\n";
        assert_eq!(head(&mut cut).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest! {
        #[test]
        fn no_request_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = head_end(&bytes);
            let _ = request(&bytes).is_ok();
        }
    }
}
