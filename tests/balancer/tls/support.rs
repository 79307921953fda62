//! An authority, certificates by it, and ends that speak TLS.

use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use pen::config::{RuntimeSettings, ServerTls};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, Connection, DigitallySignedStruct, Error, RootCertStore,
    ServerConfig, ServerConnection, SignatureScheme, SupportedProtocolVersion,
};

use crate::support::{PATIENCE, Stream};

/// The name that certificates are for unless another is given.
pub(crate) const NAME: &str = "pen.test";

/// A folder with an authority and certificates, removed at the end.
pub(crate) struct Town {
    pub(crate) folder: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Town {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("pen-tls-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("there is room");
        let town = Self { folder, authority: authority("authority of the town") };
        fs::write(town.path("ca.pem"), town.authority.pem()).expect("there is room");
        town.certify("pen", NAME);
        town
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Writes `FILE.crt` and `FILE.key`.
    pub(crate) fn certify(&self, file: &str, name: &str) {
        certify(&self.authority, &self.folder, file, name);
    }

    /// Writes `revoked.pem`, a list of these certificates.
    pub(crate) fn revoke(&self, files: &[&str]) {
        let revoked = |file: &&str| RevokedCertParams {
            serial_number: serial(file),
            revocation_time: date_time_ymd(2024, 2, 29),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 2, 29),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: files.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.authority).expect("it can be signed");
        fs::write(self.path("revoked.pem"), list.pem().expect("it is one")).expect("there is room");
    }

    /// Balances in TLS.
    pub(crate) fn serve(&self, settings: &mut RuntimeSettings) {
        settings.tls.certificate = Some(self.path("pen.crt"));
        settings.tls.key = Some(self.path("pen.key"));
    }

    /// Speaks TLS to servers.
    pub(crate) fn trust(&self, settings: &mut RuntimeSettings, servers: ServerTls) {
        settings.tls.servers = servers;
        settings.tls.servers_ca = Some(self.path("ca.pem"));
        settings.tls.servers_name = Some(NAME.to_owned());
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).expect("it is an authority");
        roots
    }

    /// A client that trusts the authority.
    pub(crate) fn client(&self) -> Arc<ClientConfig> {
        self.client_speaking(&[&TLS13, &TLS12])
    }

    pub(crate) fn client_speaking(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .expect("there are some")
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        Arc::new(config)
    }

    /// A client with a certificate of its own.
    pub(crate) fn client_with(&self, file: &str) -> Arc<ClientConfig> {
        let (chain, key) = self.identity(file);
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("there are some")
            .with_root_certificates(self.roots())
            .with_client_auth_cert(chain, key)
            .expect("they belong together");
        Arc::new(config)
    }

    /// A server with the town's certificate.
    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        self.server_with("pen")
    }

    pub(crate) fn server_with(&self, file: &str) -> Arc<ServerConfig> {
        let (chain, key) = self.identity(file);
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("there are some")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("they belong together");
        Arc::new(config)
    }

    fn identity(&self, file: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from_pem_file(self.path(&format!("{file}.crt")));
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{file}.key")));
        (vec![certificate.expect("it was written")], key.expect("it was written"))
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).unwrap_or_default();
    }
}

/// Somebody who vouches for others.
pub(crate) fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    CertifiedIssuer::self_signed(authority_params(name), KeyPair::generate().expect("random"))
        .expect("it can be signed")
}

pub(crate) fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Writes `FILE.crt` and `FILE.key` for a name.
pub(crate) fn certify(
    authority: &CertifiedIssuer<'static, KeyPair>,
    folder: &Path,
    file: &str,
    name: &str,
) {
    let key = KeyPair::generate().expect("random");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("it is a name");
    params.serial_number = Some(serial(file));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.signed_by(&key, authority).expect("it can be signed");
    // The key first: who looks in between finds the old pair or none.
    fs::write(folder.join(format!("{file}.key")), key.serialize_pem()).expect("there is room");
    fs::write(folder.join(format!("{file}.crt")), certificate.pem()).expect("there is room");
}

/// What a certificate is revoked by.
fn serial(file: &str) -> SerialNumber {
    SerialNumber::from_slice(file.as_bytes())
}

/// One end of a connection, in TLS or not.
pub(crate) enum End {
    Plain(Stream),
    Sealed(Box<Connection>, Stream),
}

impl End {
    /// Shakes hands as a client.
    pub(crate) fn client(config: Arc<ClientConfig>, stream: Stream) -> Self {
        Self::asking(config, NAME, stream).expect("they agree")
    }

    /// The same, asking for a name.
    pub(crate) fn asking(
        config: Arc<ClientConfig>,
        name: &str,
        stream: Stream,
    ) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).expect("it is a name");
        let connection = ClientConnection::new(config, name).expect("it can be begun");
        Self::shaking(connection.into(), stream)
    }

    /// Shakes hands as a server.
    pub(crate) fn server(config: Arc<ServerConfig>, stream: Stream) -> Self {
        Self::serving(config, stream).expect("they agree")
    }

    pub(crate) fn serving(config: Arc<ServerConfig>, stream: Stream) -> io::Result<Self> {
        let connection = ServerConnection::new(config).expect("it can be begun");
        Self::shaking(connection.into(), stream)
    }

    fn shaking(mut tls: Connection, mut stream: Stream) -> io::Result<Self> {
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Ok(Self::Sealed(Box::new(tls), stream))
    }

    pub(crate) fn tls(&self) -> &Connection {
        match self {
            Self::Sealed(tls, _) => tls,
            Self::Plain(_) => panic!("it is not encrypted"),
        }
    }

    const fn stream(&self) -> &Stream {
        match self {
            Self::Plain(stream) | Self::Sealed(_, stream) => stream,
        }
    }

    pub(crate) const fn is_sealed(&self) -> bool {
        matches!(self, Self::Sealed(..))
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
            Self::Plain(stream) | Self::Sealed(_, stream) => stream.reset(),
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
            Self::Sealed(tls, stream) => (tls, stream),
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
            Self::Sealed(tls, _) => tls.writer().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Self::Sealed(tls, stream) = self {
            while tls.wants_write() {
                tls.write_tls(stream)?;
            }
        }
        Ok(())
    }

    /// Says that this was all.
    pub(crate) fn finish_some(&mut self) -> io::Result<()> {
        if let Self::Sealed(tls, _) = self {
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
    let _end = End::asking(config, NAME, stream).expect("everything is believed");
    let staple = staple.lock().expect("nobody panics");
    staple.clone()
}
