//! TLS 1.3 with raw public keys (RFC 7250) on both sides: no certificates, no authorities, no names, no dates.
//!
//! The sender knows the collector's public key. The collector knows the senders' public keys by
//! [`KnownKeys`]. Each side proves possession of the private half.

use std::fmt;
use std::sync::Arc;

use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerMisbehaved, ServerConfig, SignatureScheme, version,
};

use crate::keys::{PrivateKey, PublicKey};

/// Which senders' keys a collector knows.
pub trait KnownKeys: fmt::Debug + Send + Sync + 'static {
    /// Returns whether a sender with the key may connect.
    fn knows(&self, key: &PublicKey) -> bool;
}

/// Returns the settings of a sender to the collector with the given public key only.
///
/// # Errors
/// The TLS library lacks TLS 1.3: a fault of the build.
pub fn sender(key: &PrivateKey, collector: PublicKey) -> Result<Arc<ClientConfig>, Error> {
    let verifier = Arc::new(PinnedCollector { key: collector, provider: ring::default_provider() });
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
            key.certified.clone(),
        )));
    config.enable_sni = false;
    // Each connection proves its key again.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Returns the settings of a collector.
///
/// # Errors
/// As [`sender`].
pub fn collector(key: &PrivateKey, known: Arc<dyn KnownKeys>) -> Result<Arc<ServerConfig>, Error> {
    let verifier = Arc::new(KnownSenders { known, provider: ring::default_provider() });
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(
            key.certified.clone(),
        )));
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// A key other than the expected key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnexpectedKey(pub PublicKey);

impl fmt::Display for UnexpectedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unexpected key {}", self.0)
    }
}

impl std::error::Error for UnexpectedKey {}

/// Returns the unexpected key behind a failed handshake.
#[must_use]
pub fn unexpected_key(error: &Error) -> Option<PublicKey> {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) = error else {
        return None;
    };
    cause.downcast_ref::<UnexpectedKey>().map(|key| key.0)
}

fn check(
    key: &CertificateDer<'_>,
    is_expected: impl FnOnce(&PublicKey) -> bool,
) -> Result<(), Error> {
    let key = PublicKey::from_spki(key).ok_or(CertificateError::BadEncoding)?;
    if is_expected(&key) {
        return Ok(());
    }
    Err(CertificateError::Other(OtherError(Arc::new(UnexpectedKey(key)))).into())
}

fn check_signature(
    message: &[u8],
    key: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    provider: &CryptoProvider,
) -> Result<HandshakeSignatureValid, Error> {
    let key = SubjectPublicKeyInfoDer::from(key.as_ref());
    let algorithms = &provider.signature_verification_algorithms;
    verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
}

/// TLS 1.2 is never negotiated.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
}

fn schemes() -> Vec<SignatureScheme> {
    vec![SignatureScheme::ED25519]
}

#[derive(Debug)]
struct PinnedCollector {
    key: PublicKey,
    provider: CryptoProvider,
}

impl ServerCertVerifier for PinnedCollector {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check(key, |key| *key == self.key).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_signature(message, key, signature, &self.provider)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct KnownSenders {
    known: Arc<dyn KnownKeys>,
    provider: CryptoProvider,
}

impl ClientCertVerifier for KnownSenders {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check(key, |key| self.known.knows(key)).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _key: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        check_signature(message, key, signature, &self.provider)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
