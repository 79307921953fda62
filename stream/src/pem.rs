//! What PEM files hold: certificates, private keys, authorities, lists of revoked certificates. Errors say what was expected.

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};

/// Returns all certificates of a text, in order. There may be none.
///
/// # Errors
/// The text is damaged.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(text).collect();
    found.map_err(|error| format!("expected PEM: {error}"))
}

/// Returns a certificate and its chain.
///
/// # Errors
/// The text is damaged, or has no certificate.
pub fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = certificates(text)?;
    if chain.is_empty() {
        return Err("expected a certificate in PEM form, found none".into());
    }
    Ok(chain)
}

/// Returns the certificates of authorities.
///
/// # Errors
/// The text is damaged, or has none.
pub fn authorities(text: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(text)? {
        roots.add(certificate).map_err(|error| format!("expected authorities: {error}"))?;
    }
    if roots.is_empty() {
        return Err("expected certificates of authorities in PEM form, found none".into());
    }
    Ok(roots)
}

/// Returns lists of revoked certificates.
///
/// # Errors
/// The text is damaged, or has none.
pub fn revocation_lists(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let found: Result<Vec<_>, PemError> =
        CertificateRevocationListDer::pem_slice_iter(text).collect();
    match found {
        Ok(lists) if lists.is_empty() => {
            Err("expected lists of revoked certificates in PEM form, found none".into())
        }
        found => found.map_err(|error| format!("expected PEM: {error}")),
    }
}

/// Returns a private key.
///
/// # Errors
/// There is none, or it takes a passphrase.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| {
        let has = |sign: &str| text.windows(sign.len()).any(|part| part == sign.as_bytes());
        match error {
            _ if has("ENCRYPTED PRIVATE KEY") || has("Proc-Type: 4,ENCRYPTED") => {
                "expected a key without a passphrase: see openssl-pkey(1)".into()
            }
            PemError::NoItemsFound => "expected a private key in PEM form, found none".into(),
            error => format!("expected a private key in PEM form: {error}"),
        }
    })
}

/// A certificate and a key that make no pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PairError {
    /// The key is of an unknown kind.
    Key(&'static str),
    /// The key belongs to another certificate.
    Mismatch,
    /// The certificate cannot be used.
    Certificate(String),
}

/// Puts a certificate with its chain and a key together.
///
/// # Errors
/// They do not belong together, or one of them cannot be used.
pub fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, PairError> {
    let signer = default_provider().key_provider.load_private_key(key);
    let signer = signer.map_err(|_| {
        PairError::Key(
            "expected a key of RSA with 2048 to 4096 bits, of ECDSA on P-256 or P-384, or Ed25519",
        )
    })?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        // Some keys do not reveal their public half.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => Err(PairError::Mismatch),
        Err(error) => Err(PairError::Certificate(error.to_string())),
    }
}
