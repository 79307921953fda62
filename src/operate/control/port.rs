//! The control port: a Unix-domain socket of mode 0600, or a TCP port with an access list.
//!
//! ```text
//! request = command LF                       ; at most 4,095 bytes; end of input may replace LF
//! reply   = text                             ; then the connection is closed, as C pen does
//! ```
//!
//! After the command `session` any number of commands may follow, and each reply begins with its length:
//!
//! ```text
//! reply   = ( "ok" / "warning" / "error" ) SP length LF text    ; length counts the bytes of text
//! ```
//!
//! One thread accepts; each connection has a thread of its own, up to a limit. An idle connection is closed.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Uid, chown};
use pen_records::addr::ClientAddr;
use socket2::{Domain, SockAddr, Socket, Type};

use super::{ControlReply, ControlReplyKind, Operator};
use crate::command::error::MAX_LINE;
use crate::config::Endpoint;
use crate::config::file_io::TemporaryFile;
use crate::operate::connection_limit::ConnectionLimit;
use crate::operate::timed_write;

/// Most connections served at a time; further ones are refused.
const MAX_CONNECTIONS: usize = 32;
/// Timeout for a command to arrive in full, and for the peer to accept each piece of a reply.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// For how long a session may be idle.
const SESSION_TIMEOUT: Duration = Duration::from_secs(300);
/// For how long input is read and ignored after the reply.
const LINGER: Duration = Duration::from_secs(2);
/// Pause after accepting has failed.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A bound control port that is not served yet.
#[derive(Debug)]
pub struct ControlPort {
    listener: ControlListener,
    path: Option<PathBuf>,
    /// Removes the socket file at `path` when dropped.
    file: Option<TemporaryFile>,
}

#[derive(Debug)]
enum ControlListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl ControlPort {
    /// Binds the port. A socket file that no process listens on is replaced; any other file is kept.
    ///
    /// # Errors
    /// The address is in use or cannot be bound.
    pub fn bind(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Ip(addr) => {
                let listener = ControlListener::Tcp(TcpListener::bind(addr)?);
                Ok(Self { listener, path: None, file: None })
            }
            Endpoint::Unix(path) => {
                let listener = ControlListener::Unix(bind_unix(path)?);
                Ok(Self {
                    listener,
                    path: Some(path.clone()),
                    file: Some(TemporaryFile::at(path)?),
                })
            }
        }
    }

    /// Gives the socket file to the user that pen is about to become. Does nothing for a TCP port.
    ///
    /// # Errors
    /// The process has no right to do so.
    pub fn give_to(&self, user: Uid, group: Gid) -> io::Result<()> {
        match &self.path {
            Some(path) => Ok(chown(path, Some(user), Some(group))?),
            None => Ok(()),
        }
    }

    /// Returns the bound address or path, with the actual port where port 0 was requested.
    #[must_use]
    pub fn addr(&self) -> String {
        match (&self.listener, &self.path) {
            (ControlListener::Tcp(listener), _) => {
                listener.local_addr().map_or_else(|error| error.to_string(), |it| it.to_string())
            }
            (ControlListener::Unix(_), path) => {
                path.as_deref().map(|path| path.display().to_string()).unwrap_or_default()
            }
        }
    }

    /// Starts the thread that accepts connections; it runs until the process ends. Dropping the returned guard removes
    /// the socket file.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn serve(self, operator: Arc<Operator>) -> io::Result<SocketFileGuard> {
        let Self { listener, file, .. } = self;
        let accept = move || accept(&listener, &operator);
        thread::Builder::new().name("control".into()).spawn(accept)?;
        Ok(SocketFileGuard { _file: file })
    }
}

/// Removes a socket file when dropped.
#[derive(Debug)]
pub struct SocketFileGuard {
    _file: Option<TemporaryFile>,
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let text = "a file exists there that is not a socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // No peer can connect before `listen`, so the mode is right from the first connection on.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.listen(16)?;
    Ok(socket.into())
}

/// A TCP or Unix-domain connection.
trait ControlStream: Read + Write + Send {
    fn set_timeouts(&self, time: Duration) -> io::Result<()>;
    fn shut_down_writing(&self) -> io::Result<()>;
}

impl ControlStream for TcpStream {
    fn set_timeouts(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }

    fn shut_down_writing(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl ControlStream for UnixStream {
    fn set_timeouts(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }

    fn shut_down_writing(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

fn accept(listener: &ControlListener, operator: &Arc<Operator>) {
    let limit = ConnectionLimit::new(MAX_CONNECTIONS);
    loop {
        let accepted = match listener {
            ControlListener::Tcp(listener) => listener.accept().map(|(stream, from)| {
                (Box::new(stream) as Box<dyn ControlStream>, ClientAddr::from(from.ip()))
            }),
            ControlListener::Unix(listener) => listener
                .accept()
                .map(|(stream, _)| (Box::new(stream) as Box<dyn ControlStream>, ClientAddr::Unix)),
        };
        let Ok((stream, from)) = accepted else {
            // No file descriptors left, or the peer has disconnected already.
            thread::park_timeout(ACCEPT_RETRY);
            continue;
        };
        let settings = operator.config().settings;
        // As in C pen, a denied peer gets no reply. Access to the socket file is checked by the file system.
        let permitted =
            from == ClientAddr::Unix || settings.acls.permits(settings.control_acl, from);
        if permitted {
            start(stream, operator, &limit);
        }
    }
}

fn start(mut stream: Box<dyn ControlStream>, operator: &Arc<Operator>, limit: &ConnectionLimit) {
    if stream.set_timeouts(COMMAND_TIMEOUT).is_err() {
        return;
    }
    let Some(slot) = limit.take() else {
        // The text fits into any socket buffer, so this does not wait. The peer may have disconnected.
        let _ = stream.write_all(b"error: too many control connections\n");
        return;
    };
    let operator = Arc::clone(operator);
    let serve = move || {
        let _slot = slot;
        let _ = ControlConnection { stream, read: Vec::new() }.run(&operator); // The peer has disconnected.
    };
    // Without a thread the connection is closed, as if there were no slot.
    let _ = thread::Builder::new().name("control-peer".into()).spawn(serve);
}

/// A connection being served.
struct ControlConnection {
    stream: Box<dyn ControlStream>,
    /// Bytes received after the last complete line.
    read: Vec<u8>,
}

/// Why no line can be read.
enum NoLine {
    End,
    TooLong,
}

impl ControlConnection {
    fn run(&mut self, operator: &Operator) -> io::Result<()> {
        match self.line()? {
            Ok(line) if line.trim_ascii() == b"session" => self.session(operator)?,
            Ok(line) => self.send(&operator.execute(&line).to_string())?,
            Err(NoLine::End) => return Ok(()),
            Err(NoLine::TooLong) => self.send(&too_long().to_string())?,
        }
        self.stream.shut_down_writing()?;
        // Closing with unread input would send a reset, and the peer might lose the reply.
        self.stream.set_timeouts(LINGER)?;
        let (since, mut rest) = (Instant::now(), [0; 4_096]);
        while since.elapsed() < LINGER && self.stream.read(&mut rest)? > 0 {}
        Ok(())
    }

    fn session(&mut self, operator: &Operator) -> io::Result<()> {
        self.stream.set_timeouts(SESSION_TIMEOUT)?;
        self.reply(&ControlReply::done(""))?;
        loop {
            match self.line()? {
                Ok(line) if line.trim_ascii() == b"quit" => return Ok(()),
                Ok(line) => self.reply(&operator.execute(&line))?,
                Err(NoLine::End) => return Ok(()),
                Err(NoLine::TooLong) => return self.reply(&too_long()),
            }
        }
    }

    fn reply(&mut self, reply: &ControlReply) -> io::Result<()> {
        let word = match reply.kind {
            ControlReplyKind::Done => "ok",
            ControlReplyKind::Warning => "warning",
            ControlReplyKind::Error => "error",
        };
        let end = if reply.text.is_empty() || reply.text.ends_with('\n') { "" } else { "\n" };
        let len = reply.text.len() + end.len();
        self.send(&format!("{word} {len}\n{}{end}", reply.text))
    }

    fn send(&mut self, text: &str) -> io::Result<()> {
        timed_write::write_all(&mut self.stream, text.as_bytes(), COMMAND_TIMEOUT)
    }

    /// Reads the next line, without its end. The whole line must arrive within [`COMMAND_TIMEOUT`] of its first byte.
    fn line(&mut self) -> io::Result<Result<Vec<u8>, NoLine>> {
        let mut since: Option<Instant> = None;
        loop {
            if let Some(end) = self.read.iter().position(|&byte| byte == b'\n') {
                let rest = self.read.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.read, rest);
                line.pop();
                return Ok(if line.len() > MAX_LINE { Err(NoLine::TooLong) } else { Ok(line) });
            }
            if self.read.len() > MAX_LINE {
                return Ok(Err(NoLine::TooLong));
            }
            if since.is_some_and(|since| since.elapsed() > COMMAND_TIMEOUT) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut buf = [0; 4_096];
            match self.stream.read(&mut buf) {
                Ok(0) if self.read.is_empty() => return Ok(Err(NoLine::End)),
                Ok(0) => return Ok(Ok(std::mem::take(&mut self.read))),
                Ok(len) => {
                    since.get_or_insert_with(Instant::now);
                    self.read.extend_from_slice(&buf[..len]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn too_long() -> ControlReply {
    ControlReply {
        kind: ControlReplyKind::Error,
        text: format!("expected at most {MAX_LINE} bytes in a line"),
    }
}
