//! TLS clients and servers, and the settings of `pen` for the certificates of a test authority.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use pen::config::{RuntimeSettings, ServerTls};
use pen_testing::certificates::{HOST, TestAuthority};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, Error, ServerConfig,
    ServerConnection, SignatureScheme,
};

use crate::support::{PATIENCE, Stream};

/// The settings of `pen` that make use of an authority's files.
pub(crate) trait UseCertificates {
    /// Sets the certificate that `pen` shows to clients.
    fn serve(&self, settings: &mut RuntimeSettings);

    /// Makes `pen` connect to its servers by TLS and trust this authority.
    fn trust(&self, settings: &mut RuntimeSettings, servers: ServerTls);
}

impl UseCertificates for TestAuthority {
    fn serve(&self, settings: &mut RuntimeSettings) {
        settings.tls.certificate = Some(self.path("pen.crt"));
        settings.tls.key = Some(self.path("pen.key"));
    }

    fn trust(&self, settings: &mut RuntimeSettings, servers: ServerTls) {
        settings.tls.servers = servers;
        settings.tls.servers_ca = Some(self.path("ca.pem"));
        settings.tls.servers_name = Some(HOST.to_owned());
    }
}

/// One end of a connection, in TLS or not.
pub(crate) enum End {
    Plain(Stream),
    Tls(Box<Connection>, Stream),
}

impl End {
    /// Shakes hands as a client.
    pub(crate) fn client(config: Arc<ClientConfig>, stream: Stream) -> Self {
        Self::asking(config, HOST, stream).expect("they agree")
    }

    /// The same, asking for a name.
    pub(crate) fn asking(
        config: Arc<ClientConfig>,
        name: &str,
        stream: Stream,
    ) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).expect("it is a name");
        let connection = ClientConnection::new(config, name).expect("it can be begun");
        Self::handshake(connection.into(), stream)
    }

    /// Shakes hands as a server.
    pub(crate) fn server(config: Arc<ServerConfig>, stream: Stream) -> Self {
        Self::serving(config, stream).expect("they agree")
    }

    pub(crate) fn serving(config: Arc<ServerConfig>, stream: Stream) -> io::Result<Self> {
        let connection = ServerConnection::new(config).expect("it can be begun");
        Self::handshake(connection.into(), stream)
    }

    fn handshake(mut tls: Connection, mut stream: Stream) -> io::Result<Self> {
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Ok(Self::Tls(Box::new(tls), stream))
    }

    pub(crate) fn tls(&self) -> &Connection {
        match self {
            Self::Tls(tls, _) => tls,
            Self::Plain(_) => panic!("it is not encrypted"),
        }
    }

    const fn stream(&self) -> &Stream {
        match self {
            Self::Plain(stream) | Self::Tls(_, stream) => stream,
        }
    }

    pub(crate) const fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(..))
    }

    pub(crate) const fn is_tcp(&self) -> bool {
        matches!(self.stream(), Stream::Tcp(_))
    }

    pub(crate) fn set_nonblocking(&self) {
        match self.stream() {
            Stream::Tcp(stream) => stream.set_nonblocking(true),
            Stream::Unix(stream) => stream.set_nonblocking(true),
        }
        .expect("sockets have that");
    }

    /// Closes so that the other end sees a reset.
    pub(crate) fn reset(self) {
        match self {
            Self::Plain(stream) | Self::Tls(_, stream) => stream.reset(),
        }
    }

    /// Ends the socket's stream without a word of TLS.
    pub(crate) fn finish_socket(&self) {
        self.stream().finish();
    }

    /// Reads what there is.
    pub(crate) fn read_some(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let (tls, stream) = match self {
            Self::Plain(stream) => return stream.read(buf),
            Self::Tls(tls, stream) => (tls, stream),
        };
        loop {
            match tls.reader().read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            tls.read_tls(stream)?;
            tls.process_new_packets()
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }

    /// Writes what there is room for.
    pub(crate) fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(tls, _) => tls.writer().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Self::Tls(tls, stream) = self {
            while tls.wants_write() {
                tls.write_tls(stream)?;
            }
        }
        Ok(())
    }

    /// Says that this was all.
    pub(crate) fn finish_some(&mut self) -> io::Result<()> {
        if let Self::Tls(tls, _) = self {
            tls.send_close_notify();
        }
        self.flush()?;
        self.stream().finish();
        Ok(())
    }

    pub(crate) fn finish(&mut self) {
        self.finish_some().expect("there is room");
    }

    pub(crate) fn write_all(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = self.write_some(bytes).expect("it is open");
            bytes = &bytes[count..];
        }
        self.flush().expect("it is open");
    }

    /// Exactly so many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let mut have = 0;
        while have < count {
            let more = self.read_some(&mut bytes[have..]).expect("they come");
            assert_ne!(more, 0, "they come before the end");
            have += more;
        }
        bytes
    }

    /// All until the end.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let (mut bytes, mut buf) = (Vec::new(), [0; 4_096]);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if Instant::now() >= deadline {
                let text = format!("no end after {} bytes", bytes.len());
                return Err(io::Error::new(ErrorKind::TimedOut, text));
            }
            match self.read_some(&mut buf)? {
                0 => return Ok(bytes),
                count => bytes.extend_from_slice(&buf[..count]),
            }
        }
    }
}

/// Believes everything, and remembers what it was shown.
#[derive(Debug)]
struct Looker {
    seen: Arc<Mutex<Vec<CertificateDer<'static>>>>,
    staple: Arc<Mutex<Vec<u8>>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Looker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let all = std::iter::once(end_entity).chain(intermediates);
        *self.seen.lock().expect("nobody panics") = all.map(|it| it.clone().into_owned()).collect();
        *self.staple.lock().expect("nobody panics") = ocsp_response.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn looking_at(
    seen: Arc<Mutex<Vec<CertificateDer<'static>>>>,
    staple: Arc<Mutex<Vec<u8>>>,
) -> Arc<ClientConfig> {
    let provider = Arc::new(default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("there are some")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Looker { seen, staple, algorithms }))
        .with_no_client_auth();
    Arc::new(config)
}

/// The certificates that a client gets who asks for a name, whatever it thinks of them.
pub(crate) fn shown(name: &str, stream: Stream) -> Vec<CertificateDer<'static>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let config = looking_at(seen.clone(), Arc::default());
    let _end = End::asking(config, name, stream).expect("everything is believed");
    let seen = seen.lock().expect("nobody panics");
    seen.clone()
}

/// The staple that a client gets; empty if there is none.
pub(crate) fn stapled(stream: Stream) -> Vec<u8> {
    let staple = Arc::new(Mutex::new(Vec::new()));
    let config = looking_at(Arc::default(), staple.clone());
    let _end = End::asking(config, HOST, stream).expect("everything is believed");
    let staple = staple.lock().expect("nobody panics");
    staple.clone()
}
