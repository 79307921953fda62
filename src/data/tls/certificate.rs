//! A certificate with chain, key and optional stapled OCSP response.

use std::path::Path;
use std::sync::Arc;

use pen_stream::pem::{self, PairError};
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;

use super::files::TlsFileReader;
use super::{CertificateWarning, TlsError};

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
    let within = |path: &Path| {
        let path = path.to_owned();
        move |why: String| TlsError::new(&path, why)
    };
    let mut chain = pem::chain(&text).map_err(within(path))?;
    if let Some(authorities) = places.authorities {
        let known = pem::certificates(&files.read(authorities)?).map_err(within(authorities))?;
        follow(&mut chain, known);
    }
    let key = match places.key {
        Some(path) => pem::private_key(&files.read(path)?).map_err(within(path))?,
        None => pem::private_key(&text).map_err(within(path))?,
    };
    let key_path = places.key.unwrap_or(path);
    let mut certified = pem::pair(chain, key).map_err(|error| match error {
        PairError::Key(why) => TlsError::new(key_path, why),
        PairError::Mismatch => {
            let what = format!("expected the key that belongs to {}", path.display());
            TlsError::new(key_path, what)
        }
        PairError::Certificate(why) => TlsError::new(path, why),
    })?;
    match places.staple.map(|path| staple(path, files)).transpose() {
        Ok(staple) => certified.ocsp = staple,
        Err(error) => warnings.push(CertificateWarning { error, then: "no staple is handed out" }),
    }
    Ok(Arc::new(certified))
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
