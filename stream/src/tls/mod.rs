//! TLS 1.3 between senders and the collector. Each side proves who it is, by a raw public key or by a certificate.
//!
//! ```text
//! raw           raw public keys on both sides
//! certificates  certificates of an authority on both sides
//! refusal       why a handshake failed, in words
//! ```
//!
//! A collector may take both: which one a sender has, its first message says.

mod certificates;
mod raw;
mod refusal;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier as _;
use rustls::server::{CertificateType, ClientHello};
use rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, Error, ServerConfig, WantsVerifier, version,
};

pub use self::certificates::{CertificateFiles, LoadedCertificate};
use self::certificates::{CollectorCertificate, PresentedNames, SenderCertificate};
use self::raw::SenderKeys;
pub(crate) use self::refusal::{collector_says, sender_says};
use crate::files::KeyFileError;
use crate::identity::{CertificateName, Identity};
use crate::keys::{PrivateKey, PublicKey};

/// Which senders a collector knows.
pub trait KnownSenders: fmt::Debug + Send + Sync + 'static {
    /// Returns whether the sender may connect.
    fn knows(&self, sender: &Identity) -> bool;
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn client_builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&version::TLS13])
}

fn server_builder() -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, Error> {
    ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&version::TLS13])
}

/// TLS of a sender.
#[derive(Clone, Debug)]
pub struct SenderTls {
    config: Arc<ClientConfig>,
    certificate: Option<SenderCertificate>,
}

impl SenderTls {
    /// Returns the settings of a sender with a key, to the collector with the given public key only.
    ///
    /// # Errors
    /// The TLS library lacks TLS 1.3: a fault of the build.
    pub fn with_key(key: &PrivateKey, collector: PublicKey) -> Result<Self, Error> {
        Ok(Self { config: finished(raw::sender(key, collector)?), certificate: None })
    }

    /// Returns the settings of a sender with a certificate, to collectors with a certificate of the same authority for the
    /// name or address `collector`.
    ///
    /// # Errors
    /// A file cannot be used, or `collector` is no name.
    pub fn with_certificate(
        files: CertificateFiles,
        collector: &str,
    ) -> Result<Self, SenderTlsError> {
        let name = collector.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| SenderTlsError::Name(collector.to_owned()))?;
        let certificate = SenderCertificate::read(files, name)?;
        let config = finished(certificate.config()?);
        Ok(Self { config, certificate: Some(certificate) })
    }

    /// Begins a connection. Files of a certificate that have changed are read again; if they have a mistake, those read
    /// before stay.
    pub(crate) fn connect(&mut self, collector: IpAddr) -> Result<ClientConnection, Error> {
        if let Some(certificate) = &mut self.certificate
            && certificate.renew()
        {
            match certificate.config() {
                Ok(config) => self.config = finished(config),
                Err(error) => certificate.not_renewed(error.to_string()),
            }
        }
        let by_certificate = self.certificate.as_ref().map(|it| it.collector().clone());
        // A key counts whatever the address.
        let name = by_certificate.unwrap_or_else(|| ServerName::IpAddress(collector.into()));
        ClientConnection::new(self.config.clone(), name)
    }

    /// Returns what to know about the own certificate when a program starts.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        self.certificate.as_ref()?.loaded().remark()
    }
}

fn finished(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.enable_sni = false;
    // Each connection proves its identity again.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Why a sender cannot use a certificate.
#[derive(Debug)]
pub enum SenderTlsError {
    /// A file cannot be used.
    File(KeyFileError),
    /// The collector's name is neither a DNS name nor an address.
    Name(String),
    /// A fault of the build.
    Library(Error),
}

impl fmt::Display for SenderTlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Name(name) => write!(
                f,
                "'{}' can be in no certificate: name the collector by --collector-name",
                name.escape_debug()
            ),
            Self::Library(error) => write!(f, "TLS: {error}"),
        }
    }
}

impl std::error::Error for SenderTlsError {}

impl From<KeyFileError> for SenderTlsError {
    fn from(error: KeyFileError) -> Self {
        Self::File(error)
    }
}

impl From<Error> for SenderTlsError {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

/// TLS of a collector, for senders with keys, with certificates, or both.
#[derive(Clone, Debug)]
pub struct CollectorTls {
    keys: Option<(Arc<ServerConfig>, Arc<SenderKeys>)>,
    certificate: Option<CollectorCertificate>,
}

/// How the sender of a connection proves who it is.
#[derive(Clone, Debug)]
pub(crate) enum SenderProof {
    Key,
    /// With the names in the certificate, once the sender has presented it.
    Certificate(Arc<PresentedNames>),
}

impl CollectorTls {
    /// Returns the settings of a collector with a key, a certificate or both.
    ///
    /// # Errors
    /// The TLS library lacks TLS 1.3: a fault of the build.
    pub fn new(
        key: Option<&PrivateKey>,
        certificate: Option<&LoadedCertificate>,
        known: &Arc<dyn KnownSenders>,
    ) -> Result<Self, Error> {
        let keys = key.map(|key| -> Result<_, Error> {
            let verifier = Arc::new(SenderKeys::new(known.clone()));
            let mut config = raw::collector(key, verifier.clone())?;
            config.send_tls13_tickets = 0;
            Ok((Arc::new(config), verifier))
        });
        let certificate =
            certificate.map(|it| CollectorCertificate::new(it.clone(), known.clone()));
        Ok(Self { keys: keys.transpose()?, certificate })
    }

    /// Returns the settings for a sender by its first message, and how it proves who it is. A sender whose kind is not taken
    /// gets settings by which the handshake fails.
    pub(crate) fn settings_for(
        &self,
        hello: &ClientHello<'_>,
    ) -> Result<(Arc<ServerConfig>, SenderProof), Error> {
        let types = hello.client_cert_types().unwrap_or_default();
        let has_key = types.contains(&CertificateType::RawPublicKey);
        match (&self.keys, &self.certificate) {
            (Some((config, _)), certificate) if has_key || certificate.is_none() => {
                Ok((config.clone(), SenderProof::Key))
            }
            (_, Some(certificate)) => {
                let (mut config, names) = certificate.config()?;
                config.send_tls13_tickets = 0;
                Ok((Arc::new(config), SenderProof::Certificate(names)))
            }
            (_, None) => Err(Error::General("the collector has no key".into())),
        }
    }

    /// Returns whether a sender that has connected before may do so now.
    pub(crate) fn admits(&self, proof: &SenderProof, presented: &[CertificateDer<'_>]) -> bool {
        let Some((first, others)) = presented.split_first() else { return false };
        let now = UnixTime::now();
        match (proof, &self.keys, &self.certificate) {
            (SenderProof::Key, Some((_, verifier)), _) => {
                verifier.verify_client_cert(first, others, now).is_ok()
            }
            (SenderProof::Certificate(_), _, Some(certificate)) => {
                certificate.verify(first, others, now).is_ok()
            }
            _ => false,
        }
    }
}

impl SenderProof {
    /// Returns the key, or all names of the certificate, that the sender has presented in the handshake.
    pub(crate) fn identities(&self, presented: &[CertificateDer<'_>]) -> Box<[Identity]> {
        let Some(first) = presented.first() else { return Box::default() };
        match self {
            Self::Key => PublicKey::from_spki(first).map(Identity::Key).into_iter().collect(),
            Self::Certificate(_) => {
                CertificateName::all_of(first).into_iter().map(Identity::Certificate).collect()
            }
        }
    }
}

#[cfg(test)]
mod certificate_tests;
#[cfg(test)]
mod raw_tests;
