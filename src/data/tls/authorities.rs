//! Certificate authorities for clients and for servers.

use std::path::Path;
use std::sync::Arc;

use pen_stream::pem;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::files::TlsFileReader;
use super::{TlsError, provider};
use crate::config::{ClientCertificates, TlsSettings};

/// Builds the verifier of client certificates; `None` if clients are not asked for one.
pub(super) fn of_clients(
    settings: &TlsSettings,
    files: &TlsFileReader,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    if settings.clients == ClientCertificates::None {
        return Ok(None);
    }
    let (file, folder) = (settings.ca_file.as_deref(), settings.ca_dir.as_deref());
    let roots = roots(file, folder, files)?;
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
    if let Some(revoked) = &settings.revoked {
        builder = builder.with_crls(lists(revoked, files)?).allow_unknown_revocation_status();
    }
    if settings.clients == ClientCertificates::Optional {
        builder = builder.allow_unauthenticated();
    }
    let path = file.or(folder).unwrap_or_else(|| Path::new(SYSTEM));
    builder.build().map(Some).map_err(|error| refused(error, path, settings))
}

/// Builds the verifier of server certificates.
pub(super) fn of_servers(
    settings: &TlsSettings,
    files: &TlsFileReader,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let file = settings.servers_ca.as_deref();
    let roots = roots(file, None, files)?;
    let mut builder = WebPkiServerVerifier::builder_with_provider(roots, provider());
    if let Some(revoked) = &settings.revoked {
        builder = builder.with_crls(lists(revoked, files)?).allow_unknown_revocation_status();
    }
    let path = file.unwrap_or_else(|| Path::new(SYSTEM));
    builder.build().map(|it| it as _).map_err(|error| refused(error, path, settings))
}

/// Loads certificate revocation lists. An authority without a list counts as before, and an expired list counts: it is
/// better than none.
fn lists(
    path: &Path,
    files: &TlsFileReader,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    pem::revocation_lists(&files.read(path)?).map_err(|why| TlsError::new(path, why))
}

fn refused(error: VerifierBuilderError, authorities: &Path, settings: &TlsSettings) -> TlsError {
    match (&error, &settings.revoked) {
        (VerifierBuilderError::InvalidCrl(_), Some(path)) => TlsError::new(path, error),
        _ => TlsError::new(authorities, error),
    }
}

/// Warning about authorities from the system's store.
const SYSTEM: &str = "the authorities of the system";

/// Loads the authorities of the file and the folder, or the system's if neither is given.
fn roots(
    file: Option<&Path>,
    folder: Option<&Path>,
    files: &TlsFileReader,
) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = file {
        let found =
            pem::certificates(&files.read(file)?).map_err(|why| TlsError::new(file, why))?;
        for certificate in found {
            roots.add(certificate).map_err(|error| TlsError::new(file, error))?;
        }
    }
    if let Some(folder) = folder {
        for path in files.list(folder)?.iter().filter(|path| path.is_file()) {
            // The folder may contain other files: revocation lists, a README.
            let found = files.read(path).ok().and_then(|text| pem::certificates(&text).ok());
            roots.add_parsable_certificates(found.unwrap_or_default());
        }
    }
    let place = match (file, folder) {
        (None, None) => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            Path::new(SYSTEM)
        }
        (file, folder) => file.or(folder).unwrap_or_else(|| Path::new(SYSTEM)),
    };
    // A folder of links by hash has hardly any plain file of its own: each link is a file as well.
    roots.roots.sort_by(|a, b| a.subject.as_ref().cmp(b.subject.as_ref()));
    roots.roots.dedup();
    if roots.is_empty() {
        return Err(TlsError::new(place, "expected certificates of authorities, found none"));
    }
    Ok(Arc::new(roots))
}

/// Accepts any server certificate. Handshake signatures are verified all the same.
#[derive(Debug)]
pub(super) struct AcceptAnyServer(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
