//! The socket to the collector: a stream, UDP, or both until one of them is chosen. No operation blocks without a time
//! limit.
//!
//! Where both may be used, questions go by both until a reply shows which way the collector takes. A stream is preferred:
//! it loses nothing and keeps the order of lines. UDP is left for collectors without streams, for networks that let
//! no TCP through, and for a collector that has no connection left.

mod datagrams;
mod stream;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use pen_stream::client::StreamClient;

use self::datagrams::DatagramSocket;
use self::stream::StreamSocket;
use crate::cli::{ShipperConfig, Transport};
use crate::input::timeout;

/// Failed connections after which a reply by UDP is enough to ship by UDP.
const FAILED_TRIALS: u32 = 2;
/// Replies by UDP after which a connection that is neither accepted nor refused is waited for no longer.
const REPLIES_WITHOUT_STREAM: u32 = 3;

/// The ways to the collector.
pub(super) struct CollectorSocket {
    /// `None`: UDP only.
    stream: Option<Box<StreamSocket>>,
    /// `None`: a stream only.
    datagrams: Option<DatagramSocket>,
    choice: Choice,
}

/// Which way is used.
enum Choice {
    Stream,
    Datagrams,
    /// Both are tried.
    Open(Trial),
}

/// What is known while both ways are tried.
#[derive(Default)]
struct Trial {
    /// The last question.
    question: Vec<u8>,
    /// The question went by the stream alone.
    is_by_stream: bool,
    /// Replies by UDP.
    replies: u32,
}

/// The way by which a datagram came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Stream,
    Datagrams,
}

/// Outcome of a send.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SendOutcome {
    Yes,
    /// The datagram was not sent, and the previous one may not have arrived.
    Refused,
    /// The datagram is too long for this network path.
    Never,
    /// The stream takes no more now, and will be writable again.
    Full,
}

/// Outcome of a receive.
pub(super) enum Received {
    Nothing,
    /// A datagram of this many bytes.
    Datagram(usize),
    /// The last sent datagram was refused.
    Refusal,
}

impl CollectorSocket {
    /// Makes a closed socket.
    pub(super) fn new(config: &ShipperConfig) -> Self {
        let stream = || {
            let client = StreamClient::new(config.source_addr, config.tls.clone());
            Box::new(StreamSocket::new(client))
        };
        let datagrams = || DatagramSocket::new(config.source_addr);
        let (stream, datagrams) = match config.transport {
            Transport::Either => (Some(stream()), Some(datagrams())),
            Transport::Stream => (Some(stream()), None),
            Transport::Datagrams => (None, Some(datagrams())),
        };
        let mut this = Self { stream, datagrams, choice: Choice::Stream };
        this.choose_again();
        this
    }

    fn choose_again(&mut self) {
        self.choice = match (&self.stream, &self.datagrams) {
            (Some(_), Some(_)) => Choice::Open(Trial::default()),
            (Some(_), None) => Choice::Stream,
            (None, _) => Choice::Datagrams,
        };
    }

    /// Opens sockets to `addr`. A stream connects when there is something to send.
    pub(super) fn open(&mut self, addr: SocketAddr) -> io::Result<()> {
        if let Some(stream) = &mut self.stream {
            stream.open(addr);
        }
        self.choose_again();
        self.datagrams.as_mut().map_or(Ok(()), |it| it.open(addr))
    }

    /// Whether a stream is the only way.
    pub(super) const fn has_stream_only(&self) -> bool {
        self.datagrams.is_none()
    }

    /// The way in use, if it is chosen.
    pub(super) const fn way(&self) -> Option<Way> {
        match self.choice {
            Choice::Stream => Some(Way::Stream),
            Choice::Datagrams => Some(Way::Datagrams),
            Choice::Open(_) => None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        let datagrams = self.datagrams.as_ref().is_some_and(DatagramSocket::is_open);
        let stream = self.stream.as_ref().is_some_and(|it| it.is_open());
        match self.choice {
            Choice::Stream => stream,
            Choice::Datagrams => datagrams,
            Choice::Open(_) => stream || datagrams,
        }
    }

    /// Whether the stream in use takes no more now.
    pub(super) fn is_full(&self) -> bool {
        self.way() == Some(Way::Stream) && self.stream.as_ref().is_some_and(|it| it.is_full())
    }

    /// Returns a word for the kind of the last failure, and if known, the reason.
    pub(super) fn trouble(&self) -> (&'static str, Option<&str>) {
        let trouble = self.stream.as_ref().filter(|_| self.has_stream_only());
        match trouble.and_then(|it| it.trouble()) {
            Some((kind, why)) => (kind, Some(why)),
            None => ("refused", None),
        }
    }

    /// Returns the descriptors and events to wait for.
    pub(super) fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let (with_stream, with_datagrams) = match self.choice {
            Choice::Stream => (true, false),
            Choice::Datagrams => (false, true),
            Choice::Open(_) => (true, true),
        };
        let stream = self.stream.as_ref().filter(|_| with_stream).and_then(|it| it.poll_fd());
        let datagrams = self.datagrams.as_ref().filter(|_| with_datagrams);
        let datagrams = datagrams.and_then(DatagramSocket::fd);
        let datagrams = datagrams.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        stream.into_iter().chain(datagrams)
    }

    /// Sends a datagram by the chosen way, or while there is none by UDP. UDP waits for room in the socket's buffer.
    pub(super) fn send(&mut self, datagram: &[u8]) -> SendOutcome {
        match (&self.choice, &mut self.stream, &self.datagrams) {
            (Choice::Stream, Some(stream), _) => stream.send(datagram),
            (_, _, Some(datagrams)) => datagrams.send(datagram),
            _ => SendOutcome::Refused,
        }
    }

    /// Sends a question: by both ways while none is chosen. UDP gives a stream a moment to connect.
    pub(super) fn ask(&mut self, question: &[u8]) -> SendOutcome {
        let (Choice::Open(trial), Some(stream), Some(datagrams)) =
            (&mut self.choice, &mut self.stream, &self.datagrams)
        else {
            return self.send(question);
        };
        stream.hurry();
        let by_stream = stream.send(question);
        trial.is_by_stream = trial.question.is_empty() && by_stream == SendOutcome::Yes;
        question.clone_into(&mut trial.question);
        if trial.is_by_stream {
            return by_stream;
        }
        match (datagrams.send(question), by_stream) {
            (SendOutcome::Refused, SendOutcome::Yes) => SendOutcome::Yes,
            (by_datagram, _) => by_datagram,
        }
    }

    /// Receives a datagram, if there is one.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> (Received, Way) {
        match (&mut self.choice, &mut self.stream, &self.datagrams) {
            (Choice::Stream, Some(stream), _) => (stream.receive(buffer), Way::Stream),
            (Choice::Open(trial), Some(stream), Some(datagrams)) => {
                match stream.receive(buffer) {
                    received @ Received::Datagram(_) => return (received, Way::Stream),
                    Received::Refusal if std::mem::take(&mut trial.is_by_stream) => {
                        // A refusal by UDP will be received.
                        let _ = datagrams.send(&trial.question);
                    }
                    Received::Refusal | Received::Nothing => {}
                }
                match datagrams.receive(buffer) {
                    // The stream may still be accepted.
                    Received::Refusal if stream.is_open() => (Received::Nothing, Way::Datagrams),
                    received => (received, Way::Datagrams),
                }
            }
            (_, _, Some(datagrams)) => (datagrams.receive(buffer), Way::Datagrams),
            _ => (Received::Nothing, Way::Datagrams),
        }
    }

    /// Notes that the collector has replied by this way. Returns whether this way is used from now on; if not, the other
    /// one is waited for.
    pub(super) fn replied(&mut self, way: Way) -> bool {
        let (Choice::Open(trial), Some(stream)) = (&mut self.choice, &mut self.stream) else {
            return true;
        };
        match way {
            Way::Stream => {
                self.choice = Choice::Stream;
                true
            }
            Way::Datagrams => {
                trial.replies += 1;
                let has_no_stream =
                    stream.failures() >= FAILED_TRIALS || trial.replies >= REPLIES_WITHOUT_STREAM;
                if has_no_stream {
                    stream.close();
                    self.choice = Choice::Datagrams;
                }
                has_no_stream
            }
        }
    }

    /// Waits until a datagram arrives by UDP or `patience` has passed.
    pub(super) fn rest(&self, patience: Duration) {
        let fd = self.datagrams.as_ref().and_then(DatagramSocket::fd);
        pause(fd, PollFlags::POLLIN, patience);
    }
}

/// How long to wait for a connection that only shows whether there is one.
const TRIAL: Duration = Duration::from_millis(500);

/// Whether a TCP connection to `addr` is refused. Where a classic penlogd runs, it is: nobody listens there. A penlogd of
/// this package accepts it even while it is busy. Where nothing comes back at all, nobody knows.
pub(super) fn refuses_streams(addr: SocketAddr) -> bool {
    TcpStream::connect_timeout(&addr, TRIAL)
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn pause(fd: Option<BorrowedFd<'_>>, until: PollFlags, patience: Duration) {
    if let Some(fd) = fd {
        // An interruption by a signal ends the pause, too.
        let _ = poll(&mut [PollFd::new(fd, until)], timeout(patience));
    }
}
