//! The path to the collector: UDP, or a stream. No operation waits.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Instant;

use pen_stream::client::{StreamClient, StreamError, StreamSend};
use pen_stream::keys::{PrivateKey, PublicKey};
use pen_stream::tls::{CertificateFiles, SenderTls};
use tracing::warn;

use crate::config::{DeliverySettings, LogTransport};

/// Outcome of sending a datagram.
#[derive(Debug)]
pub(super) enum LinkSend {
    /// The datagram was sent.
    Sent,
    /// The datagram was sent, but no process listened where the previous one went.
    PreviousRefused,
    /// A stream takes no more now.
    Full,
    /// The datagram was not sent.
    Failed(LinkFault),
}

/// Why nothing can be sent.
#[derive(Debug)]
pub(super) enum LinkFault {
    Socket(io::Error),
    Stream(StreamError),
}

/// Outcome of a look for a reply.
#[derive(Debug)]
pub(super) enum LinkReply {
    Nothing,
    /// A datagram of so many bytes.
    Datagram(usize),
    /// No process listened where the last datagram went.
    Refused,
    /// The connection is lost, and with it what was sent by it.
    Broken(StreamError),
}

/// The way to a collector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkSettings {
    /// Whether records go by TCP.
    pub is_stream: bool,
    /// The proofs of both ends: records go by TLS.
    pub proofs: Option<LinkProofs>,
}

/// How both ends prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkProofs {
    /// By keys: the file of the private key, and the collector's public key.
    Keys(PathBuf, PublicKey),
    /// By certificates: the files, and the name of the collector.
    Certificates(CertificateFiles, String),
}

impl LinkProofs {
    /// Returns the proofs that are set, for the collector with this host and port as typed.
    fn of(delivery: &DeliverySettings, collector: &str) -> Option<Self> {
        let key = delivery.key.clone()?;
        if let Some(collector) = delivery.collector_key {
            return Some(Self::Keys(key, collector));
        }
        let certificate = delivery.certificate.clone()?;
        let authority = delivery.authority.clone()?;
        let files = CertificateFiles { certificate, key, authority, revoked: None };
        let host = collector.rsplit_once(':').map_or(collector, |(host, _)| host).to_owned();
        Some(Self::Certificates(files, delivery.collector_name.clone().unwrap_or(host)))
    }
}

impl LinkSettings {
    /// Returns the way to the collector with this host and port as typed.
    pub(in crate::logs) fn new(delivery: &DeliverySettings, collector: &str) -> Self {
        let is_stream = delivery.transport == LogTransport::Stream;
        Self { is_stream, proofs: LinkProofs::of(delivery, collector) }
    }

    /// Checks the files of a key or a certificate.
    pub(in crate::logs) fn check(&self) -> Result<(), String> {
        self.tls().map(drop)
    }

    fn tls(&self) -> Result<Option<SenderTls>, String> {
        match &self.proofs {
            None => Ok(None),
            Some(LinkProofs::Keys(path, collector)) => {
                let key = PrivateKey::read(path).map_err(|error| format!("log_key {error}"))?;
                let tls = SenderTls::with_key(&key, *collector);
                tls.map(Some).map_err(|error| format!("log_key: {error}"))
            }
            Some(LinkProofs::Certificates(files, name)) => {
                let tls = SenderTls::with_certificate(files.clone(), name).map(Some);
                tls.map_err(|error| plain_options(&format!("log_certificate: {error}")))
            }
        }
    }
}

/// The names that options of penlog have among the settings of pen.
pub(super) fn plain_options(message: &str) -> String {
    message
        .replace("--collector-key", "log_collector_key")
        .replace("--collector-name", "log_collector_name")
        .replace("--key", "log_key")
}

/// A link to a collector.
#[derive(Debug)]
pub(super) enum CollectorLink {
    Datagrams(DatagramLink),
    Stream(Box<StreamClient>),
}

impl CollectorLink {
    /// Opens a socket. A stream connects when there is something to send.
    pub(super) fn open(addr: SocketAddr, settings: &LinkSettings) -> io::Result<Self> {
        let invalid = |why: String| io::Error::new(ErrorKind::InvalidInput, why);
        let tls = settings.tls().map_err(invalid)?;
        if let Some(remark) = tls.as_ref().and_then(SenderTls::remark) {
            warn!("{remark}");
        }
        if !settings.is_stream && tls.is_none() {
            return DatagramLink::open(addr).map(Self::Datagrams);
        }
        let mut client = StreamClient::new(None, tls);
        client.set_addr(addr);
        Ok(Self::Stream(Box::new(client)))
    }

    pub(super) fn send(&mut self, datagram: &[u8]) -> LinkSend {
        match self {
            Self::Datagrams(link) => link.send(datagram),
            Self::Stream(client) => match client.send(datagram, Instant::now()) {
                Ok(StreamSend::Taken) => LinkSend::Sent,
                Ok(StreamSend::Full) => LinkSend::Full,
                Ok(StreamSend::TooLong) => {
                    LinkSend::Failed(LinkFault::Socket(ErrorKind::FileTooLarge.into()))
                }
                Err(error) => LinkSend::Failed(LinkFault::Stream(error)),
            },
        }
    }

    pub(super) fn receive(&mut self, reply: &mut [u8]) -> LinkReply {
        match self {
            Self::Datagrams(link) => link.receive(reply),
            Self::Stream(client) => match client.receive(Instant::now()) {
                Ok(None) => LinkReply::Nothing,
                Ok(Some(datagram)) => {
                    let len = datagram.len().min(reply.len());
                    reply[..len].copy_from_slice(&datagram[..len]);
                    LinkReply::Datagram(len)
                }
                Err(error) => LinkReply::Broken(error),
            },
        }
    }

    /// Whether the last datagram was refused, as far as is known.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self, Self::Datagrams(link) if link.is_refused())
    }

    /// Whether bytes wait for the socket of a stream, or a handshake goes on.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Stream(client) if client.wants_write())
    }
}

/// Returns a UDP socket connected to `addr` that never blocks.
pub(crate) fn connected_socket(addr: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match addr {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(addr)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A link by UDP.
#[derive(Debug)]
pub(super) struct DatagramLink(UdpSocket);

impl DatagramLink {
    pub(super) fn open(addr: SocketAddr) -> io::Result<Self> {
        connected_socket(addr).map(Self)
    }

    /// Sends a datagram. A refusal of the previous one is reported by the next send, which sends nothing: so it is
    /// repeated.
    pub(super) fn send(&mut self, datagram: &[u8]) -> LinkSend {
        match self.0.send(datagram) {
            Ok(_) => LinkSend::Sent,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                match self.0.send(datagram) {
                    Ok(_) => LinkSend::PreviousRefused,
                    Err(error) => LinkSend::Failed(LinkFault::Socket(error)),
                }
            }
            Err(error) => LinkSend::Failed(LinkFault::Socket(error)),
        }
    }

    pub(super) fn receive(&mut self, reply: &mut [u8]) -> LinkReply {
        match self.0.recv(reply) {
            Ok(len) => LinkReply::Datagram(len),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => LinkReply::Refused,
            Err(_) => LinkReply::Nothing,
        }
    }

    /// Whether the last datagram was refused, as far as is known.
    pub(super) fn is_refused(&self) -> bool {
        self.0.take_error().ok().flatten().is_some()
    }
}
