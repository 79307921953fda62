//! Raw public keys (RFC 7250) on both sides: no certificates, no authorities, no names, no dates.
//!
//! The sender knows the collector's public key, the collector the senders' public keys by [`KnownSenders`].

use std::fmt;
use std::sync::Arc;

use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerMisbehaved, ServerConfig, SignatureScheme,
};

use super::{KnownSenders, client_builder, server_builder};
use crate::identity::Identity;
use crate::keys::{PrivateKey, PublicKey};

/// Returns the settings of a sender to the collector with the given public key only.
pub(super) fn sender(key: &PrivateKey, collector: PublicKey) -> Result<ClientConfig, Error> {
    let verifier = Arc::new(PinnedCollector { key: collector, provider: ring::default_provider() });
    let config = client_builder()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
            key.certified.clone(),
        )));
    Ok(config)
}

/// Returns the settings of a collector.
pub(super) fn collector(
    key: &PrivateKey,
    verifier: Arc<SenderKeys>,
) -> Result<ServerConfig, Error> {
    let resolver = AlwaysResolvesServerRawPublicKeys::new(key.certified.clone());
    let builder = server_builder()?.with_client_cert_verifier(verifier);
    Ok(builder.with_cert_resolver(Arc::new(resolver)))
}

/// A key other than the expected key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnexpectedKey(pub(super) PublicKey);

impl fmt::Display for UnexpectedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unexpected key {}", self.0)
    }
}

impl std::error::Error for UnexpectedKey {}

/// Returns the unexpected key behind a failed handshake.
pub(super) fn unexpected_key(error: &Error) -> Option<PublicKey> {
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

/// Accepts the keys of known senders.
#[derive(Debug)]
pub(super) struct SenderKeys {
    known: Arc<dyn KnownSenders>,
    provider: CryptoProvider,
}

impl SenderKeys {
    pub(super) fn new(known: Arc<dyn KnownSenders>) -> Self {
        Self { known, provider: ring::default_provider() }
    }
}

impl ClientCertVerifier for SenderKeys {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check(key, |key| self.known.knows(&Identity::Key(*key)))
            .map(|()| ClientCertVerified::assertion())
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
