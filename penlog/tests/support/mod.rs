//! The shipper as a process, and collectors of both kinds in this one.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use pen_records::datagram::Datagram;
use pen_records::shipment::{
    DiscoveryAnswer, DiscoveryQuestion, SenderLimits, SenderTable, ShipmentCounts,
};
use pen_records::time::Timestamp;

/// Anything takes less than this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A running penlog; killed when dropped.
pub(crate) struct Shipper {
    child: Child,
    /// What it says on stderr, line by line.
    pub(crate) said: Receiver<String>,
}

impl Shipper {
    pub(crate) fn start<I: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = I>) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_penlog"))
            .args(args)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("penlog starts");
        let stderr = child.stderr.take().expect("piped");
        let (tell, said) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, said }
    }

    /// To a collector of this process.
    pub(crate) fn to(addr: SocketAddr, more: &[&str]) -> Self {
        let (host, port) = (addr.ip().to_string(), addr.port().to_string());
        let args: Vec<&str> =
            [host.as_str(), port.as_str()].into_iter().chain(more.iter().copied()).collect();
        Self::start(args)
    }

    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().expect("taken once")
    }

    /// Writes all of it and closes the input.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.stdin().write_all(bytes).expect("penlog reads");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let (pid, (done, ended)) = (self.child.id(), channel::<()>());
        let watchdog = thread::spawn(move || {
            if ended
                .recv_timeout(DEADLINE)
                .is_err_and(|e| e == std::sync::mpsc::RecvTimeoutError::Timeout)
            {
                let pid = i32::try_from(pid).expect("a pid");
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        });
        let status = self.child.wait().expect("it is ours");
        drop(done);
        watchdog.join().expect("it does not panic");
        status
    }

    /// Waits until it says something with `words` in it.
    pub(crate) fn says(&self, words: &str) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(line) if line.contains(words) => return line,
                Ok(_) => {}
                Err(_) => panic!("penlog did not say '{words}'"),
            }
        }
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A collector of ours: answers, and keeps lines.
pub(crate) struct Collector {
    pub(crate) addr: SocketAddr,
    pub(crate) lines: Receiver<Vec<u8>>,
    pub(crate) seen: Arc<Mutex<Seen>>,
    stop: Arc<UdpSocket>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What a collector has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) counts: ShipmentCounts,
    pub(crate) questions: u64,
    pub(crate) longest: usize,
    /// Server, port and name of the last shipment.
    pub(crate) server: ServerSeen,
    pub(crate) source: Option<SocketAddr>,
}

type ServerSeen = (Option<std::net::IpAddr>, Option<u16>, Option<Vec<u8>>);

impl Collector {
    pub(crate) fn start() -> Self {
        Self::on(UdpSocket::bind("127.0.0.1:0").expect("a port"), 0)
    }

    /// On a socket that is there already; answers with this window.
    pub(crate) fn on(socket: UdpSocket, window: u32) -> Self {
        let addr = socket.local_addr().expect("bound");
        let socket = Arc::new(socket);
        let (give, lines) = channel();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (socket_, seen_) = (Arc::clone(&socket), Arc::clone(&seen));
        let thread = thread::spawn(move || {
            let mut senders = SenderTable::new(SenderLimits::default());
            let mut buffer = vec![0; 65_536];
            loop {
                let Ok((len, from)) = socket_.recv_from(&mut buffer) else { return };
                if from == addr {
                    return;
                }
                let mut seen = seen_.lock().expect("no panic");
                match Datagram::parse(&buffer[..len]) {
                    Datagram::Question(DiscoveryQuestion { nonce, .. }) => {
                        seen.questions += 1;
                        let mut answer = Vec::new();
                        DiscoveryAnswer { nonce, window, datagram: 0 }.write(&mut answer);
                        drop(socket_.send_to(&answer, from));
                    }
                    Datagram::Shipment(shipment) => {
                        let _ = senders.receive(&shipment, Timestamp::default(), |line, _| {
                            drop(give.send(line.to_vec()));
                        });
                        let server = shipment.server;
                        seen.server = (server.addr, server.port, server.name.map(<[u8]>::to_vec));
                        seen.source = Some(from);
                        seen.longest = seen.longest.max(len);
                    }
                    Datagram::Lines(lines) => lines.for_each(|line| drop(give.send(line.to_vec()))),
                    other => panic!("{other:?}"),
                }
                seen.counts = senders.counts();
            }
        });
        Self { addr, lines, seen, stop: socket, thread: Some(thread) }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().expect("no panic").clone()
    }

    /// The next so many lines.
    pub(crate) fn take(&self, count: usize) -> Vec<Vec<u8>> {
        let until = Instant::now() + DEADLINE;
        (0..count)
            .map(|index| {
                let left = until.saturating_duration_since(Instant::now());
                self.lines
                    .recv_timeout(left)
                    .unwrap_or_else(|_| panic!("line {index} of {count} has not come"))
            })
            .collect()
    }

    /// Goes away, and gives back what had come.
    pub(crate) fn stop(mut self) -> (SocketAddr, VecDeque<Vec<u8>>) {
        self.end();
        (self.addr, self.lines.try_iter().collect())
    }

    fn end(&mut self) {
        // A datagram from itself is its end.
        drop(self.stop.send_to(b"stop", self.addr));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.end();
    }
}

/// A folder that is removed when dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("penlog-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn append(&self, name: &str, text: &str) {
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path(name))
            .expect("a file");
        file.write_all(text.as_bytes()).expect("room on the disk");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Waits until `done` says so.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    let (_keep, never) = channel::<()>();
    while !done() {
        assert!(Instant::now() < until, "{what} has not happened");
        let _ = never.recv_timeout(Duration::from_millis(20));
    }
}

/// All of a file, or nothing.
pub(crate) fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(mut file) = std::fs::File::open(path) {
        drop(file.read_to_end(&mut bytes));
    }
    bytes
}
