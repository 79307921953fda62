//! Certificates of an authority on both sides.
//!
//! The sender accepts a collector by its name. The collector accepts certificates that are listed ([`KnownSenders`]) by their
//! DNS names. The dates, the chain, the use of the key and lists of revoked certificates are checked by webpki.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    RootCertStore, ServerConfig, SignatureScheme,
};

use super::{KnownSenders, client_builder, provider, server_builder};
use crate::files::{FileMark, KeyFileError, mark, read, read_private};
use crate::identity::{CertificateName, Identity};
use crate::pem::{self, PairError};
use crate::validity::{Validity, utc};

/// How long before its end a certificate is warned about.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The own certificate and its chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose certificates are accepted.
    pub authority: PathBuf,
    /// Lists of certificates that are revoked.
    pub revoked: Option<PathBuf>,
}

/// A certificate, its key and its authorities, as read from files.
#[derive(Clone)]
pub struct LoadedCertificate {
    path: PathBuf,
    own: Arc<CertifiedKey>,
    validity: Validity,
    roots: Arc<RootCertStore>,
    /// The check of senders' certificates.
    senders: Arc<dyn ClientCertVerifier>,
}

impl fmt::Debug for LoadedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoadedCertificate of {}", self.path.display())
    }
}

impl CertificateFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// Names the file, and what was expected in it.
    pub fn read(&self) -> Result<LoadedCertificate, KeyFileError> {
        let within = |path: &Path| {
            let path = path.to_owned();
            move |why: String| KeyFileError::new(&path, why)
        };
        let chain = pem::chain(&read(&self.certificate)?).map_err(within(&self.certificate))?;
        let key = pem::private_key(&read_private(&self.key)?).map_err(within(&self.key))?;
        let validity = chain.first().and_then(|first| Validity::of(first));
        let validity = validity.ok_or_else(|| {
            KeyFileError::new(&self.certificate, "expected a certificate of X.509")
        })?;
        let own = pem::pair(chain, key).map_err(|error| match error {
            PairError::Key(why) => KeyFileError::new(&self.key, why),
            PairError::Mismatch => KeyFileError::new(
                &self.key,
                format!("expected the key that belongs to {}", self.certificate.display()),
            ),
            PairError::Certificate(why) => KeyFileError::new(&self.certificate, why),
        })?;
        let roots = pem::authorities(&read(&self.authority)?).map_err(within(&self.authority))?;
        let roots = Arc::new(roots);
        let mut senders = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
        if let Some(path) = &self.revoked {
            let lists = pem::revocation_lists(&read(path)?).map_err(within(path))?;
            // An authority without a list counts as before. An old list counts, too: it is better than none.
            senders = senders.with_crls(lists).allow_unknown_revocation_status();
        }
        let blamed = self.revoked.as_ref().unwrap_or(&self.authority);
        let senders = senders.build().map_err(|error| within(blamed)(error.to_string()))?;
        let path = self.certificate.clone();
        Ok(LoadedCertificate { path, own: Arc::new(own), validity, roots, senders })
    }

    /// Returns all files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let three = [&self.certificate, &self.key, &self.authority];
        three.into_iter().chain(&self.revoked).map(PathBuf::as_path)
    }

    fn marks(&self) -> Vec<FileMark> {
        self.paths().map(mark).collect()
    }
}

impl LoadedCertificate {
    /// Returns the file of the certificate.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the names of the certificate.
    #[must_use]
    pub fn names(&self) -> Vec<CertificateName> {
        self.own.cert.first().map(CertificateName::all_of).unwrap_or_default()
    }

    /// Returns when the certificate ends, for people.
    #[must_use]
    pub fn end(&self) -> String {
        utc(self.validity.end)
    }

    /// Returns what to know about the dates: the certificate has ended, ends soon, or is not valid yet.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        self.remark_at(SystemTime::now())
    }

    #[cfg(test)]
    pub(super) fn own_chain(&self) -> &[CertificateDer<'static>] {
        &self.own.cert
    }

    pub(super) fn remark_at(&self, now: SystemTime) -> Option<String> {
        let (path, Validity { start, end }) = (self.path.display(), self.validity);
        if end < now {
            return Some(format!("the certificate {path} has ended on {}: renew it", utc(end)));
        }
        if now < start {
            let start = utc(start);
            return Some(format!(
                "the certificate {path} is valid from {start} on only: is the clock right?"
            ));
        }
        // Certificates of a few days are renewed later than 14 days before their end.
        let warned = SOON.min(end.duration_since(start).unwrap_or_default() / 3);
        let is_soon = end.duration_since(now).is_ok_and(|left| left < warned);
        is_soon.then(|| format!("the certificate {path} ends on {}: renew it", utc(end)))
    }
}

/// The certificate of a sender, and the collector that it sends to.
#[derive(Clone, Debug)]
pub(super) struct SenderCertificate {
    files: CertificateFiles,
    marks: Vec<FileMark>,
    loaded: LoadedCertificate,
    collector: ServerName<'static>,
    /// Why files that have changed are not used.
    trouble: Option<String>,
}

impl SenderCertificate {
    pub(super) fn read(
        files: CertificateFiles,
        collector: ServerName<'static>,
    ) -> Result<Self, KeyFileError> {
        let (marks, loaded) = (files.marks(), files.read()?);
        Ok(Self { files, marks, loaded, collector, trouble: None })
    }

    pub(super) const fn collector(&self) -> &ServerName<'static> {
        &self.collector
    }

    pub(super) const fn loaded(&self) -> &LoadedCertificate {
        &self.loaded
    }

    /// Returns why the files are not used as they are now.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Reads the files again if they have changed. Returns whether they were read.
    pub(super) fn renew(&mut self) -> bool {
        let marks = self.files.marks();
        if marks == self.marks {
            return false;
        }
        match self.files.read() {
            Ok(loaded) => {
                (self.loaded, self.marks, self.trouble) = (loaded, marks, None);
                true
            }
            // The next connection looks again: a certificate and its key are hardly ever written at the same time.
            Err(error) => {
                self.not_renewed(error.to_string());
                false
            }
        }
    }

    pub(super) fn not_renewed(&mut self, why: String) {
        self.trouble = Some(why);
    }

    pub(super) fn config(&self) -> Result<ClientConfig, Error> {
        let LoadedCertificate { roots, own, .. } = &self.loaded;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots.clone(), provider()).build();
        let verifier = verifier.map_err(|error| Error::General(error.to_string()))?;
        let config = client_builder()?.with_webpki_verifier(verifier);
        Ok(config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own.clone()))))
    }
}

/// The names in a certificate that a sender has presented.
pub(crate) type PresentedNames = OnceLock<String>;

/// The certificate of a collector, and the senders that it knows.
#[derive(Clone, Debug)]
pub(super) struct CollectorCertificate {
    loaded: LoadedCertificate,
    known: Arc<dyn KnownSenders>,
}

impl CollectorCertificate {
    pub(super) fn new(loaded: LoadedCertificate, known: Arc<dyn KnownSenders>) -> Self {
        Self { loaded, known }
    }

    /// Returns the settings for a connection, and where the names of the sender's certificate will be.
    pub(super) fn config(&self) -> Result<(ServerConfig, Arc<PresentedNames>), Error> {
        let names = Arc::default();
        let certificate = self.clone();
        let verifier = SenderCertificates { certificate, names: Arc::clone(&names) };
        let resolver = SingleCertAndKey::from(self.loaded.own.clone());
        let builder = server_builder()?.with_client_cert_verifier(Arc::new(verifier));
        Ok((builder.with_cert_resolver(Arc::new(resolver)), names))
    }

    /// Checks a certificate: first what its authority says, then whether it is listed.
    pub(super) fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        self.loaded.senders.verify_client_cert(certificate, others, now)?;
        let mut names = CertificateName::all_of(certificate).into_iter().map(Identity::Certificate);
        if names.any(|name| self.known.knows(&name)) {
            return Ok(());
        }
        Err(CertificateError::Other(OtherError(Arc::new(NotListed))).into())
    }
}

/// A certificate is valid, and none of its names is listed.
#[derive(Debug)]
pub(super) struct NotListed;

impl fmt::Display for NotListed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown certificate")
    }
}

impl std::error::Error for NotListed {}

/// Accepts the certificates of known senders, for one connection.
#[derive(Debug)]
struct SenderCertificates {
    certificate: CollectorCertificate,
    names: Arc<PresentedNames>,
}

impl ClientCertVerifier for SenderCertificates {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.certificate.loaded.senders.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let names: Vec<_> =
            CertificateName::all_of(certificate).iter().map(|name| format!("'{name}'")).collect();
        // A handshake has one certificate.
        let _ = self.names.set(names.join(", "));
        self.certificate.verify(certificate, others, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.certificate.loaded.senders.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.certificate.loaded.senders.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.certificate.loaded.senders.supported_verify_schemes()
    }
}
