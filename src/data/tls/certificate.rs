//! A certificate with chain, key and optional stapled OCSP response.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use webpki::EndEntityCert;

use super::files::TlsFileReader;
use super::{CertificateWarning, TlsError, provider};

/// Size limit of a stapled OCSP response in bytes.
const LONGEST_STAPLE: usize = 64 * 1024;

/// The files of a certificate.
#[derive(Clone, Copy, Debug)]
pub(super) struct CertificatePaths<'a> {
    /// The certificate, and the chain if the file contains one.
    pub(super) certificate: &'a Path,
    /// The key, if in a file of its own.
    pub(super) key: Option<&'a Path>,
    /// Authorities, in which to find the chain.
    pub(super) authorities: Option<&'a Path>,
    /// The OCSP response to staple.
    pub(super) staple: Option<&'a Path>,
}

/// Loads all of them. A bad OCSP response is left out with a warning instead of an error: responders fail now and
/// then, and clients can ask themselves.
pub(super) fn load(
    places: &CertificatePaths<'_>,
    files: &TlsFileReader,
    warnings: &mut Vec<CertificateWarning>,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let path = places.certificate;
    let text = files.read(path)?;
    let mut chain = certificates(path, &text)?;
    if chain.is_empty() {
        return Err(TlsError::new(path, "expected a certificate in PEM form, found none"));
    }
    if let Some(authorities) = places.authorities {
        follow(&mut chain, certificates(authorities, &files.read(authorities)?)?);
    }
    let key = match places.key {
        Some(path) => key(path, &files.read(path)?)?,
        None => key(path, &text)?,
    };
    let key_path = places.key.unwrap_or(path);
    let signer = provider().key_provider.load_private_key(key).map_err(|_| {
        TlsError::new(
            key_path,
            "expected a key of RSA with 2048 to 4096 bits, of ECDSA on P-256 or P-384, or Ed25519",
        )
    })?;
    let mut certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        // Some keys do not reveal their public half.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => {
            let what = format!("expected the key that belongs to {}", path.display());
            return Err(TlsError::new(key_path, what));
        }
        Err(error) => return Err(TlsError::new(path, error)),
    }
    match places.staple.map(|path| staple(path, files)).transpose() {
        Ok(staple) => certified.ocsp = staple,
        Err(error) => warnings.push(CertificateWarning { error, then: "no staple is handed out" }),
    }
    Ok(Arc::new(certified))
}

/// Returns all certificates of a file, in order.
pub(super) fn certificates(
    path: &Path,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(text).collect();
    found.map_err(|error| TlsError::new(path, format!("expected PEM: {error}")))
}

fn key(path: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| {
        let is_locked = ["ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"]
            .iter()
            .any(|sign| memchr::memmem::find(text, sign.as_bytes()).is_some());
        let what = match error {
            _ if is_locked => "expected a key without a passphrase: see openssl-pkey(1)".to_owned(),
            pem::Error::NoItemsFound => "expected a private key in PEM form, found none".to_owned(),
            error => format!("expected a private key in PEM form: {error}"),
        };
        TlsError::new(path, what)
    })
}

/// Completes a chain with the issuers of its last certificate, without the self-signed root.
fn follow(chain: &mut Vec<CertificateDer<'static>>, mut known: Vec<CertificateDer<'static>>) {
    loop {
        let Some(issuer) = chain.last().and_then(|last| {
            let last = EndEntityCert::try_from(last).ok()?;
            (last.issuer() != last.subject()).then(|| last.issuer().to_vec())
        }) else {
            return;
        };
        let next = known.iter().position(|other| {
            EndEntityCert::try_from(other)
                .is_ok_and(|it| it.subject() == issuer && it.issuer() != issuer)
        });
        // Each issuer is removed when used, so a cycle ends.
        let Some(next) = next else { return };
        chain.push(known.swap_remove(next));
    }
}

fn staple(path: &Path, files: &TlsFileReader) -> Result<Vec<u8>, TlsError> {
    let staple = files.read(path)?;
    // OCSPResponse = SEQUENCE { responseStatus ENUMERATED, [0] responseBytes }, RFC 6960; 0 is success.
    let is_response = staple.len() <= LONGEST_STAPLE
        && matches!(
            &staple[..],
            [0x30, 0x82, _, _, 0x0a, 1, 0, 0xa0, ..]
                | [0x30, 0x81, _, 0x0a, 1, 0, 0xa0, ..]
                | [0x30, _, 0x0a, 1, 0, 0xa0, ..]
        );
    if is_response {
        Ok(staple)
    } else {
        Err(TlsError::new(path, "expected a good OCSP response in DER form, up to 64 KiB"))
    }
}
