//! Sends commands to pen and reads the replies: one connection per command, as C pen requires, or a session of many
//! commands where pen supports it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use pen_daemon::error::ActionError;

/// Most bytes of a reply.
const MAX_REPLY: u64 = 256 << 20;

/// A reply of pen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PenReply {
    /// Whether the command was carried out.
    pub(crate) done: bool,
    /// The text, without the prefix of an error.
    pub(crate) text: String,
}

impl PenReply {
    /// Parses a reply without a head. C pen marks errors by certain sentences only.
    fn plain(text: &str) -> Self {
        if let Some(error) = text.strip_prefix("error: ") {
            return Self { done: false, text: error.to_owned() };
        }
        let failures = ["do_cmd: ignoring", "Exit is not enabled", "Unable to create", "Overlong"];
        let out_of_range = text.starts_with("Connection ") && text.trim_end().ends_with("range");
        let done = !failures.iter().any(|start| text.starts_with(start)) && !out_of_range;
        Self { done, text: text.to_owned() }
    }
}

/// The control port of pen, and the timeout for each command.
#[derive(Clone, Debug)]
pub(crate) struct ControlAddress {
    pub(crate) address: String,
    pub(crate) timeout: Duration,
}

impl ControlAddress {
    /// Returns the conversion of an I/O error into "cannot ACTION ADDRESS: cause".
    fn failed(&self, action: &str) -> impl FnOnce(io::Error) -> ActionError + use<> {
        let action = format!("{action} {}", self.address);
        move |error| match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => ActionError::cannot(
                action,
                format!("{error}: no pen has its control port there (-C)"),
            ),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                ActionError::cannot(action, "no reply in time")
            }
            _ => ActionError::cannot(action, error),
        }
    }

    /// Sends one command over a connection of its own.
    pub(crate) fn ask(&self, command: &str) -> Result<PenReply, ActionError> {
        let mut line = self.connect()?;
        let reply = line.send(command).and_then(|()| line.read_to_end());
        let reply = reply.map_err(self.failed("talk to"))?;
        Ok(PenReply::plain(&String::from_utf8_lossy(&reply)))
    }

    /// Begins a session; `None` if this pen does not support sessions.
    pub(crate) fn session(&self) -> Result<Option<ControlSession>, ActionError> {
        let mut line = self.connect()?;
        let reply = line.send("session").and_then(|()| line.read_line());
        let reply = reply.map_err(self.failed("talk to"))?;
        Ok((reply == b"ok 0\n").then_some(ControlSession { line, pen: self.clone() }))
    }

    /// Connects to the socket, or to the first address of the host that accepts.
    fn connect(&self) -> Result<ControlClient, ActionError> {
        let deadline = Instant::now() + self.timeout;
        let failed = self.failed("connect to");
        let stream = if self.address.contains('/') {
            UnixStream::connect(&self.address)
                .map(|stream| Box::new(stream) as Box<dyn ReplyStream>)
        } else {
            connect_tcp(&self.address, self.timeout)
                .map(|stream| Box::new(stream) as Box<dyn ReplyStream>)
        };
        let stream = stream.map_err(failed)?;
        Ok(ControlClient { stream, deadline, timeout: self.timeout })
    }
}

fn connect_tcp(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    // As in pen, the host ends at the last colon, so an IPv6 address needs no brackets.
    let (host, port) = address.rsplit_once(':').ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "expected HOST:PORT or the path of a socket")
    })?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = pen::config::address::port(port)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for addr in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A connection for many commands.
pub(crate) struct ControlSession {
    line: ControlClient,
    pen: ControlAddress,
}

impl ControlSession {
    pub(crate) fn ask(&mut self, command: &str) -> Result<PenReply, ActionError> {
        self.line.deadline = Instant::now() + self.line.timeout;
        let reply = self.line.send(command).and_then(|()| self.line.read_framed());
        reply.map_err(self.pen.failed("talk to"))
    }
}

/// A TCP or Unix-domain connection.
trait ReplyStream: Read + Write {
    fn wait_at_most(&self, time: Duration) -> io::Result<()>;
    fn end(&self);
}

impl ReplyStream for TcpStream {
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }

    fn end(&self) {
        let _ = self.shutdown(Shutdown::Both); // pen may have closed the connection already.
    }
}

impl ReplyStream for UnixStream {
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }

    fn end(&self) {
        let _ = self.shutdown(Shutdown::Both); // pen may have closed the connection already.
    }
}

/// A connection to the control port, and the deadline of the current reply.
struct ControlClient {
    stream: Box<dyn ReplyStream>,
    deadline: Instant,
    timeout: Duration,
}

impl Drop for ControlClient {
    fn drop(&mut self) {
        self.stream.end();
    }
}

impl ControlClient {
    fn send(&mut self, command: &str) -> io::Result<()> {
        self.wait()?;
        self.stream.write_all(format!("{command}\n").as_bytes())
    }

    fn wait(&self) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.wait_at_most(left)
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            self.wait()?;
            match self.stream.read(buf) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Reads until pen closes the connection. A pen that closes before it has read all input sends a reset after its
    /// reply, which counts as the end.
    fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut reply = Vec::new();
        let mut buf = [0; 65_536];
        loop {
            match self.read(&mut buf) {
                Ok(0) => return Ok(reply),
                Ok(len) => reply.extend_from_slice(&buf[..len]),
                Err(error)
                    if error.kind() == io::ErrorKind::ConnectionReset && !reply.is_empty() =>
                {
                    return Ok(reply);
                }
                Err(error) => return Err(error),
            }
            if reply.len() as u64 > MAX_REPLY {
                return Err(io::Error::other("expected a shorter reply"));
            }
        }
    }

    /// Reads a line with its end, or what there is before the end of input.
    fn read_line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.len() < 8_192 && self.read(&mut byte)? > 0 {
            line.push(byte[0]);
            if byte[0] == b'\n' {
                break;
            }
        }
        Ok(line)
    }

    /// Reads a reply of a session: a head with its kind and length, then the text.
    fn read_framed(&mut self) -> io::Result<PenReply> {
        let head = self.read_line()?;
        let no_reply = || io::Error::other("connection closed before the end of the reply");
        let head = std::str::from_utf8(&head).ok().and_then(|head| head.trim_end().split_once(' '));
        let (word, len) = head.ok_or_else(no_reply)?;
        let len: u64 = len.parse().ok().filter(|&len| len <= MAX_REPLY).ok_or_else(no_reply)?;
        let mut text = vec![0; usize::try_from(len).map_err(|_| no_reply())?];
        let mut filled = 0;
        while filled < text.len() {
            match self.read(&mut text[filled..])? {
                0 => return Err(no_reply()),
                len => filled += len,
            }
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        let text = if word == "warning" { format!("warning: {text}") } else { text };
        Ok(PenReply { done: word != "error", text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_distinguished_from_replies() {
        for (text, done) in [
            ("", true),
            ("30\n", true),
            ("Forcibly closing connection 7\n", true),
            ("Connection 7:\nstate = open\n", true),
            ("error: unknown command 'x'\n", false),
            ("do_cmd: ignoring command starting with 'x'\n", false),
            ("Exit is not enabled; restart with -X flag\n", false),
            ("Connection 99999 out of range\n", false),
            ("Unable to create webstats\n", false),
        ] {
            assert_eq!(PenReply::plain(text).done, done, "{text}");
        }
    }
}
