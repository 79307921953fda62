//! The sender's end of a stream: connects when there is something to send, and again after a failure.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::identity::Identity;
use crate::link::{FramedLink, LinkError, LinkRead};
use crate::tls::{SenderTls, sender_says};

/// Bytes that may wait for the socket. More stays with the sender.
const QUEUED: usize = 128 << 10;
/// Bytes read at once: a collector sends short replies only.
const CHUNK: usize = 4 << 10;
/// Longest reply kept, and most replies kept.
const REPLY: usize = 256;
const REPLIES: usize = 64;
/// First and longest pause before the next connection; doubled each time, until the collector replies.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Silence of an idle connection before the system probes the peer, and the time between probes.
const IDLE: Duration = Duration::from_secs(15);
const PROBE: Duration = Duration::from_secs(5);
/// Longest time without a TCP acknowledgement before the connection counts as broken.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// A stream to a collector.
#[derive(Debug)]
pub struct StreamClient {
    /// Source address; `None`: the system chooses.
    source: Option<IpAddr>,
    tls: Option<SenderTls>,
    addr: Option<SocketAddr>,
    link: Option<FramedLink>,
    replies: VecDeque<Vec<u8>>,
    /// Earliest time of the next connection, and the pause before.
    retry: Option<(Instant, Duration)>,
}

/// Outcome of sending a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamSend {
    /// The datagram is on the way.
    Taken,
    /// The connection takes no more now, and will be writable again.
    Full,
    /// The datagram fits into no frame.
    TooLong,
}

impl StreamClient {
    /// Makes a stream without a connection; with TLS settings every connection uses TLS.
    #[must_use]
    pub const fn new(source: Option<IpAddr>, tls: Option<SenderTls>) -> Self {
        let replies = VecDeque::new();
        Self { source, tls, addr: None, link: None, replies, retry: None }
    }

    /// Sets the collector's address. A connection is closed.
    pub fn set_addr(&mut self, addr: SocketAddr) {
        self.close();
        if self.addr.replace(addr) != Some(addr) {
            self.retry = None;
        }
    }

    /// Closes the connection.
    pub fn close(&mut self) {
        if let Some(mut link) = self.link.take() {
            link.close();
        }
        self.replies.clear();
    }

    /// Lets the next [`Self::send`] connect at once, also where a connection has just failed.
    pub const fn hurry(&mut self) {
        self.retry = None;
    }

    /// Returns whether a connection is open, or begins to be.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.link.is_some()
    }

    /// Returns whether the connection takes no more bytes now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.queued() >= QUEUED)
    }

    /// Returns whether to wait until the socket is writable.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.link.as_ref().is_some_and(FramedLink::wants_write)
    }

    /// Returns the descriptor to wait for.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.link.as_ref().map(FramedLink::as_fd)
    }

    /// Sends a datagram; connects first if there is no connection.
    ///
    /// # Errors
    /// There is no connection, and bytes sent on the last connection may not have arrived.
    pub fn send(&mut self, datagram: &[u8], now: Instant) -> Result<StreamSend, StreamError> {
        if self.link.is_none() {
            self.connect(now)?;
        }
        let Some(link) = &mut self.link else { return Err(self.fault(NotConnected::Waiting, now)) };
        if link.queued() >= QUEUED {
            return self.flush(now).map(|()| StreamSend::Full);
        }
        if !link.queue(datagram) {
            return Ok(StreamSend::TooLong);
        }
        self.flush(now).map(|()| StreamSend::Taken)
    }

    /// Sends waiting bytes, as many as the socket takes.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn flush(&mut self, now: Instant) -> Result<(), StreamError> {
        let flushed = self.link.as_mut().map_or(Ok(()), FramedLink::flush);
        flushed.map_err(|error| self.broken(error, now))
    }

    /// Returns the next reply, if there is one.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn receive(&mut self, now: Instant) -> Result<Option<Vec<u8>>, StreamError> {
        self.flush(now)?;
        let mut scratch = [0; CHUNK];
        while self.replies.is_empty()
            && let Some(link) = &mut self.link
        {
            let replies = &mut self.replies;
            let keep = |_: Option<&[Identity]>, reply: &[u8]| {
                if reply.len() <= REPLY && replies.len() < REPLIES {
                    replies.push_back(reply.to_vec());
                }
            };
            match link.read(&mut scratch, keep) {
                Ok(LinkRead::Nothing) => break,
                Ok(LinkRead::Bytes(_)) => {}
                Ok(LinkRead::End) => {
                    let end =
                        io::Error::new(ErrorKind::ConnectionAborted, "it closed the connection");
                    return Err(self.broken(LinkError::Socket(end), now));
                }
                Err(error) => return Err(self.broken(error, now)),
            }
        }
        // A handshake may have gone on.
        self.flush(now)?;
        let reply = self.replies.pop_front();
        if reply.is_some() {
            self.retry = None;
        }
        Ok(reply)
    }

    fn connect(&mut self, now: Instant) -> Result<(), StreamError> {
        let (Some(addr), None) = (self.addr, self.retry.filter(|(next, _)| now < *next)) else {
            return Err(self.fault(NotConnected::Waiting, now));
        };
        let link = connect(addr, self.source).and_then(|socket| {
            let tls = self.tls.as_mut().map(|tls| tls.connect(addr.ip()));
            let tls = tls.transpose().map_err(io::Error::other)?;
            Ok(FramedLink::to_collector(socket, tls))
        });
        match link {
            Ok(link) => {
                self.link = Some(link);
                Ok(())
            }
            Err(error) => Err(self.broken(LinkError::Socket(error), now)),
        }
    }

    fn broken(&mut self, error: LinkError, now: Instant) -> StreamError {
        self.link = None;
        self.replies.clear();
        let cause = match error {
            LinkError::Tls(_, error) => {
                NotConnected::Refused(sender_says(&error, self.tls.as_ref()))
            }
            error => NotConnected::Broken(error),
        };
        self.fault(cause, now)
    }

    /// Makes an error, and after a failure a pause.
    fn fault(&mut self, cause: NotConnected, now: Instant) -> StreamError {
        if !matches!(cause, NotConnected::Waiting) {
            let pause = self.retry.map_or(PAUSE, |(_, pause)| LONGEST_PAUSE.min(2 * pause));
            self.retry = Some((now + pause, pause));
        }
        StreamError { has_keys: self.tls.is_some(), cause }
    }
}

fn connect(addr: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(IDLE).with_interval(PROBE))?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    match socket.connect(&addr.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error),
        // The first write or read tells how it ended.
        _ => Ok(socket.into()),
    }
}

/// A stream without a connection.
#[derive(Debug)]
pub struct StreamError {
    has_keys: bool,
    cause: NotConnected,
}

#[derive(Debug)]
enum NotConnected {
    Broken(LinkError),
    /// A handshake failed, for this reason.
    Refused(String),
    /// The last connection has failed a moment ago, or there is no address.
    Waiting,
}

impl StreamError {
    /// Returns whether a connection has just failed.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        !matches!(self.cause, NotConnected::Waiting)
    }
}

impl StreamError {
    /// Returns a word for the kind of failure, by which a caller limits messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.cause {
            NotConnected::Broken(LinkError::Socket(error))
                if error.kind() == ErrorKind::ConnectionAborted =>
            {
                "closed"
            }
            NotConnected::Refused(_) => "keys",
            NotConnected::Broken(_) | NotConnected::Waiting => "refused",
        }
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            NotConnected::Waiting => f.write_str("not connected"),
            NotConnected::Broken(LinkError::Socket(error))
                if error.kind() == ErrorKind::ConnectionRefused =>
            {
                write!(
                    f,
                    "{error} by TCP (a penlogd that knows streams listens by TCP and UDP; a classic or older one does \
                     not)"
                )
            }
            NotConnected::Broken(LinkError::Socket(error))
                if !self.has_keys && error.kind() == ErrorKind::ConnectionAborted =>
            {
                write!(
                    f,
                    "{error} (its messages say why; if it takes keys or certificates only, see --key)"
                )
            }
            NotConnected::Refused(why) => f.write_str(why),
            NotConnected::Broken(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StreamError {}
