//! The shipper as a process, and collectors of both kinds in this one.

#![allow(dead_code, reason = "each test program uses a part of this")]

pub(crate) mod collector;

use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use nix::sys::signal::Signal;
use pen_records::datagram::Datagram;
use pen_records::shipment::{
    DiscoveryAnswer, DiscoveryQuestion, SenderLimits, SenderTable, Shipment, ShipmentCounts,
};
use pen_records::time::Timestamp;
use pen_testing::{PATIENCE, Program};

/// A running penlog, terminated when dropped.
pub(crate) struct RunningShipper(Program);

impl RunningShipper {
    pub(crate) fn start<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_penlog"));
        command.args(args).stdin(Stdio::piped());
        Self(Program::start("penlog", &mut command).expect("penlog starts"))
    }

    /// Starts a shipper that reads this input.
    pub(crate) fn reading(addr: SocketAddr, input: impl Into<Stdio>, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_penlog"));
        let (host, port) = (addr.ip().to_string(), addr.port().to_string());
        command.args([host.as_str(), port.as_str()]).args(more).stdin(input);
        Self(Program::start("penlog", &mut command).expect("penlog starts"))
    }

    /// Starts a shipper to a collector of this process.
    pub(crate) fn to(addr: SocketAddr, more: &[&str]) -> Self {
        let (host, port) = (addr.ip().to_string(), addr.port().to_string());
        Self::start([host.as_str(), port.as_str()].iter().chain(more))
    }

    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.0.take_stdin()
    }

    /// Writes all bytes to standard input and closes it.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.stdin().write_all(bytes).expect("penlog reads");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.0.signal(signal).expect("penlog runs");
    }

    /// Ends it with a signal that it cannot catch.
    pub(crate) fn kill(mut self) {
        self.0.stop(Signal::SIGKILL).expect("penlog runs");
    }

    /// Waits for the exit.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.0.wait_for_exit().expect("penlog ends")
    }

    /// All messages so far.
    pub(crate) fn said(&self) -> String {
        self.0.messages()
    }

    /// Waits for the next message that contains `words`, and returns it.
    pub(crate) fn says(&self, words: &str) -> String {
        self.0.wait_for_message(words).expect("penlog says so")
    }
}

/// A collector of ours: answers, and keeps lines.
pub(crate) struct TestCollector {
    pub(crate) addr: SocketAddr,
    pub(crate) lines: Receiver<Vec<u8>>,
    pub(crate) seen: Arc<Mutex<Received>>,
    stop: Arc<UdpSocket>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What a collector has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Received {
    pub(crate) counts: ShipmentCounts,
    pub(crate) questions: u64,
    pub(crate) longest: usize,
    /// Server, port and name of the last shipment.
    pub(crate) server: ServerSeen,
    pub(crate) source: Option<SocketAddr>,
}

type ServerSeen = (Option<std::net::IpAddr>, Option<u16>, Option<Vec<u8>>);

impl TestCollector {
    pub(crate) fn start() -> Self {
        Self::on(UdpSocket::bind("127.0.0.1:0").expect("a port"), 0)
    }

    /// Loses one shipment in so many, each when it comes first; so it says in its answers.
    pub(crate) fn lossy(one_in: u64) -> Self {
        Self::new(UdpSocket::bind("127.0.0.1:0").expect("a port"), 0, Some(one_in))
    }

    /// On a socket that is there already; answers with this window.
    pub(crate) fn on(socket: UdpSocket, window: u32) -> Self {
        Self::new(socket, window, None)
    }

    fn new(socket: UdpSocket, window: u32, loses: Option<u64>) -> Self {
        let addr = socket.local_addr().expect("bound");
        let socket = Arc::new(socket);
        let (give, lines) = channel();
        let seen = Arc::new(Mutex::new(Received::default()));
        let (socket_, seen_) = (Arc::clone(&socket), Arc::clone(&seen));
        let thread = thread::spawn(move || {
            let mut senders = SenderTable::new(SenderLimits::default());
            let mut lost = HashSet::new();
            let mut buffer = vec![0; 65_536];
            loop {
                let Ok((len, from)) = socket_.recv_from(&mut buffer) else { return };
                if from == addr {
                    return;
                }
                let mut seen = seen_.lock().expect("no panic");
                match Datagram::parse(&buffer[..len]) {
                    Datagram::Question(question) => {
                        let DiscoveryQuestion { nonce, .. } = question;
                        let received = loses.map(|_| senders.received(&question));
                        seen.questions += 1;
                        let mut answer = Vec::new();
                        let positions = senders.positions(&question.streams);
                        DiscoveryAnswer { nonce, window, datagram: 0, received, positions }
                            .write(&mut answer);
                        let _ = socket_.send_to(&answer, from); // penlog may have ended
                    }
                    Datagram::Shipment(Shipment { number, .. })
                        if loses.is_some_and(|one_in| number % one_in == 0)
                            && lost.insert(number) => {}
                    Datagram::Shipment(shipment) => {
                        let _ = senders.receive(&shipment, Timestamp::default(), |line, _| {
                            let _ = give.send(line.to_vec()); // the test may have ended
                        });
                        let server = shipment.server;
                        seen.server = (server.addr, server.port, server.name.map(<[u8]>::to_vec));
                        seen.source = Some(from);
                        seen.longest = seen.longest.max(len);
                    }
                    Datagram::Lines(lines) => lines.for_each(|line| {
                        let _ = give.send(line.to_vec()); // likewise
                    }),
                    other => panic!("{other:?}"),
                }
                seen.counts = senders.counts();
            }
        });
        Self { addr, lines, seen, stop: socket, thread: Some(thread) }
    }

    pub(crate) fn seen(&self) -> Received {
        self.seen.lock().expect("no panic").clone()
    }

    /// The next so many lines.
    pub(crate) fn take(&self, count: usize) -> Vec<Vec<u8>> {
        let until = Instant::now() + PATIENCE;
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
        let _ = self.stop.send_to(b"stop", self.addr); // the thread may have ended
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it does not panic");
        }
    }
}

impl Drop for TestCollector {
    fn drop(&mut self) {
        self.end();
    }
}

/// Returns the bytes of a file; none if there is no such file.
pub(crate) fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_default()
}

/// Returns texts as lines.
pub(crate) fn lines(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Waits until `line 0` to the line before `count` have come, some of them in `came`, and checks that each has come once.
pub(crate) fn expect_each_once(collector: &TestCollector, mut came: Vec<Vec<u8>>, count: u32) {
    came.extend(collector.take((count as usize).saturating_sub(came.len())));
    came.extend(collector.lines.try_iter());
    let mut expected: Vec<_> =
        (0..count).map(|number| format!("line {number}").into_bytes()).collect();
    expected.sort();
    came.sort();
    assert_eq!(came.len(), expected.len());
    assert!(came == expected, "a line is missing and another one came twice");
}
