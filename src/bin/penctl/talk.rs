//! A command to pen and its reply: one connection for each, as C pen wants it, or a session of many
//! where pen knows them.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// What a reply may not be longer than.
const MAX_REPLY: u64 = 256 << 20;

/// A reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Whether the command was carried out.
    pub(crate) done: bool,
    /// As it came, without the word for an error.
    pub(crate) text: String,
}

impl Reply {
    /// What a plain reply says of itself. C pen has no word for errors, but some sentences.
    fn plain(text: &str) -> Self {
        if let Some(error) = text.strip_prefix("error: ") {
            return Self { done: false, text: error.to_owned() };
        }
        let sorry = ["do_cmd: ignoring", "Exit is not enabled", "Unable to create", "Overlong"];
        let out_of_range = text.starts_with("Connection ") && text.trim_end().ends_with("range");
        let done = !sorry.iter().any(|start| text.starts_with(start)) && !out_of_range;
        Self { done, text: text.to_owned() }
    }
}

/// A conversation that failed.
#[derive(Debug)]
pub(crate) struct TalkError {
    deed: &'static str,
    address: String,
    source: io::Error,
}

impl fmt::Display for TalkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: ", self.deed, self.address)?;
        match self.source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                f.write_str("it did not answer in time")
            }
            _ => self.source.fmt(f),
        }
    }
}

impl std::error::Error for TalkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Where pen is, and how long it may take.
#[derive(Clone, Debug)]
pub(crate) struct Pen {
    pub(crate) address: String,
    pub(crate) timeout: Duration,
}

impl Pen {
    fn failed(&self, deed: &'static str) -> impl FnOnce(io::Error) -> TalkError + use<> {
        let address = self.address.clone();
        move |source| TalkError { deed, address, source }
    }

    /// Sends one command over a connection of its own.
    pub(crate) fn ask(&self, command: &str) -> Result<Reply, TalkError> {
        let mut line = self.connect()?;
        let reply = line.send(command).and_then(|()| line.read_to_end());
        let reply = reply.map_err(self.failed("talk to"))?;
        Ok(Reply::plain(&String::from_utf8_lossy(&reply)))
    }

    /// Begins a session, if pen knows such a thing.
    pub(crate) fn session(&self) -> Result<Option<Session>, TalkError> {
        let mut line = self.connect()?;
        let greeting = line.send("session").and_then(|()| line.read_line());
        let greeting = greeting.map_err(self.failed("talk to"))?;
        Ok((greeting == b"ok 0\n").then_some(Session { line, pen: self.clone() }))
    }

    /// Tries each address of the host.
    fn connect(&self) -> Result<Line, TalkError> {
        let deadline = Instant::now() + self.timeout;
        let failed = self.failed("connect to");
        let stream = if self.address.contains('/') {
            UnixStream::connect(&self.address).map(|stream| Box::new(stream) as Box<dyn Stream>)
        } else {
            connect_tcp(&self.address, self.timeout)
                .map(|stream| Box::new(stream) as Box<dyn Stream>)
        };
        let stream = stream.map_err(failed)?;
        Ok(Line { stream, deadline, timeout: self.timeout })
    }
}

fn connect_tcp(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    // As pen itself: the host ends at the last colon, so IPv6 may stand bare.
    let (host, port) = address.rsplit_once(':').ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "expected HOST:PORT or the path of a socket")
    })?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = pen::config::address::port(port)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    for addr in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Many commands over one connection.
pub(crate) struct Session {
    line: Line,
    pen: Pen,
}

impl Session {
    pub(crate) fn ask(&mut self, command: &str) -> Result<Reply, TalkError> {
        self.line.deadline = Instant::now() + self.line.timeout;
        let reply = self.line.send(command).and_then(|()| self.line.read_framed());
        reply.map_err(self.pen.failed("talk to"))
    }
}

trait Stream: Read + Write {
    fn wait_at_most(&self, time: Duration) -> io::Result<()>;
    fn end(&self);
}

impl Stream for TcpStream {
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }

    fn end(&self) {
        self.shutdown(Shutdown::Both).unwrap_or_default();
    }
}

impl Stream for UnixStream {
    fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }

    fn end(&self) {
        self.shutdown(Shutdown::Both).unwrap_or_default();
    }
}

/// A connection, and by when the reply has to be there.
struct Line {
    stream: Box<dyn Stream>,
    deadline: Instant,
    timeout: Duration,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stream.end();
    }
}

impl Line {
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

    /// What comes until pen hangs up. One that closes before it has read all resets the connection
    /// behind its reply.
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

    /// A line with its end, or what there is of it.
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

    fn read_framed(&mut self) -> io::Result<Reply> {
        let head = self.read_line()?;
        let no_reply = || io::Error::other("expected a reply, and the connection ended");
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
        Ok(Reply { done: word != "error", text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_from_replies() {
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
            assert_eq!(Reply::plain(text).done, done, "{text}");
        }
    }
}
