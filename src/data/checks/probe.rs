//! Checks one server once.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, UdpSocket, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::checks::HealthCheck;
use crate::config::{Endpoint, RuntimeSettings, ServerSettings, TransportKind};
use crate::data::relay::proxy::Header;
use crate::data::tls::UpstreamTls;

/// Limit of response bytes that are examined.
const LOOKED_AT: usize = 16 * 1024;

/// Why a check failed.
#[derive(Debug)]
pub(super) enum ProbeError {
    /// The server could not be reached, or the connection was closed.
    Io(io::Error),
    /// The server did not answer in time.
    Late(Duration),
    /// The status differs from the expected one.
    Status(u16, u16, u16),
    /// The response is not HTTP.
    NoHttp,
    /// The response ended, or exceeded the limit, without the expected text.
    Unexpected(Vec<u8>),
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Late(time) => write!(f, "no answer within {} s", time.as_secs_f32()),
            Self::Status(found, from, to) if from == to => {
                write!(f, "status {found}, expected {from}")
            }
            Self::Status(found, from, to) => write!(f, "status {found}, expected {from} to {to}"),
            Self::NoHttp => f.write_str("the answer is not HTTP"),
            Self::Unexpected(expect) => {
                write!(f, "the answer does not hold '{}'", expect.escape_ascii())
            }
        }
    }
}

impl From<io::Error> for ProbeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What to send, and where.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) check: HealthCheck,
    pub(super) server: ServerSettings,
    /// TLS settings, if the server speaks TLS.
    pub(super) tls: Option<UpstreamTls>,
    pub(super) transport: TransportKind,
    pub(super) time: Duration,
}

impl Probe {
    /// Checks the server. Ends within the timeout, whatever the server does.
    pub(super) async fn ask(&self, settings: &RuntimeSettings) -> Result<(), ProbeError> {
        let asked = timeout(self.time, self.try_to_ask(settings)).await;
        asked.unwrap_or(Err(ProbeError::Late(self.time)))
    }

    async fn try_to_ask(&self, settings: &RuntimeSettings) -> Result<(), ProbeError> {
        match (&self.server.addr, self.transport, &self.check) {
            (Endpoint::Ip(to), TransportKind::Udp, HealthCheck::Exchange { send, expect }) => {
                self.exchange_datagrams(*to, settings, send, expect).await
            }
            (Endpoint::Ip(to), ..) => {
                let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
                let socket = socket?;
                bind(*to, settings, |source| socket.bind(source))?;
                self.talk(socket.connect(*to).await?, settings).await
            }
            (Endpoint::Unix(path), ..) => {
                self.talk(UnixStream::connect(path).await?, settings).await
            }
        }
    }

    async fn exchange_datagrams(
        &self,
        to: SocketAddr,
        settings: &RuntimeSettings,
        send: &[u8],
        expect: &[u8],
    ) -> Result<(), ProbeError> {
        let mut any = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
        bind(to, settings, |source| {
            any = source;
            Ok(())
        })?;
        let socket = UdpSocket::bind(any).await?;
        socket.connect(to).await?;
        socket.send(send).await?;
        let mut answer = vec![0; LOOKED_AT];
        // A different answer may be a late answer to the previous check.
        loop {
            let len = socket.recv(&mut answer).await?;
            if memmem::find(&answer[..len], expect).is_some() {
                return Ok(());
            }
        }
    }

    async fn talk<S>(&self, mut stream: S, settings: &RuntimeSettings) -> Result<(), ProbeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if let Some(version) = settings.send_proxy {
            // The server would not read the request otherwise.
            let mut header = Vec::new();
            Header::Own.write(version, &mut header);
            write_all(&mut stream, &header).await?;
        }
        match &self.tls {
            // A plain check asks only for a connection.
            Some(tls) if self.check != HealthCheck::Connect => {
                let name = tls.name(&self.server).map_err(io::Error::other)?;
                let connector = TlsConnector::from(tls.config(None));
                self.converse(connector.connect(name, stream).await?).await
            }
            _ => self.converse(stream).await,
        }
    }

    async fn converse<S>(&self, mut stream: S) -> Result<(), ProbeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut question = Vec::new();
        match &self.check {
            HealthCheck::Connect => {}
            HealthCheck::Http { method, path, .. } => {
                let (name, addr) = (&self.server.name, &self.server.addr);
                let host = name.clone().unwrap_or_else(|| addr.to_string());
                let head = format!(
                    "{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: pen-check\r\n\
                     Connection: close\r\n\r\n"
                );
                question.extend_from_slice(head.as_bytes());
            }
            HealthCheck::Exchange { send, .. } => question.extend_from_slice(send),
        }
        write_all(&mut stream, &question).await?;
        // Encrypted bytes may wait to be sent.
        poll_fn(|context| Pin::new(&mut stream).poll_flush(context)).await?;
        match &self.check {
            HealthCheck::Connect => Ok(()),
            HealthCheck::Http { from, to, .. } => status(&mut stream, *from, *to).await,
            HealthCheck::Exchange { expect, .. } => {
                let contains = |received: &[u8]| memmem::find(received, expect).is_some();
                match read_until(&mut stream, contains).await? {
                    Some(_) => Ok(()),
                    None => Err(ProbeError::Unexpected(expect.clone())),
                }
            }
        }
    }
}

/// Connects from the source address of client connections.
fn bind(
    to: SocketAddr,
    settings: &RuntimeSettings,
    bind: impl FnOnce(SocketAddr) -> io::Result<()>,
) -> io::Result<()> {
    match settings.tcp.source.filter(|source| source.is_ipv4() == to.is_ipv4()) {
        Some(source) => bind(SocketAddr::new(source, 0)),
        None => Ok(()),
    }
}

/// Parses a status line: `HTTP/1.1 200 OK`.
async fn status<S>(stream: &mut S, from: u16, to: u16) -> Result<(), ProbeError>
where
    S: AsyncRead + Unpin,
{
    let is_enough = |received: &[u8]| received.contains(&b'\n') || received.len() >= 64;
    let received = read_until(stream, is_enough).await?.unwrap_or_default();
    let digits = received.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
    let status = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    match status {
        Some(status) if (from..=to).contains(&status) => Ok(()),
        Some(status) => Err(ProbeError::Status(status, from, to)),
        None => Err(ProbeError::NoHttp),
    }
}

async fn write_all<S: AsyncWrite + Unpin>(stream: &mut S, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let write = |context: &mut Context<'_>| Pin::new(&mut *stream).poll_write(context, bytes);
        match poll_fn(write).await? {
            0 => return Err(ErrorKind::WriteZero.into()),
            written => bytes = &bytes[written..],
        }
    }
    Ok(())
}

/// Reads until `is_enough`; `None` if that never happens.
async fn read_until<S: AsyncRead + Unpin>(
    stream: &mut S,
    is_enough: impl Fn(&[u8]) -> bool,
) -> io::Result<Option<Vec<u8>>> {
    let mut room = vec![0; LOOKED_AT];
    let mut buf = ReadBuf::new(&mut room);
    loop {
        if is_enough(buf.filled()) {
            return Ok(Some(buf.filled().to_vec()));
        }
        let before = buf.filled().len();
        let read = |context: &mut Context<'_>| -> Poll<io::Result<()>> {
            Pin::new(&mut *stream).poll_read(context, &mut buf)
        };
        poll_fn(read).await?;
        if buf.filled().len() == before {
            return Ok(None);
        }
    }
}
