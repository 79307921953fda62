//! A certificate authority and certificates signed by it, for tests of TLS.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::TempFolder;

/// The host name in `pen.crt`.
pub const HOST: &str = "pen.test";

/// An authority, and a folder with its certificate (`ca.pem`) and the certificates it signed. One of them, `pen.crt`
/// with the key `pen.key`, is for [`HOST`].
#[derive(Debug)]
pub struct TestAuthority {
    folder: TempFolder,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl TestAuthority {
    /// Creates an authority and the certificate for [`HOST`].
    ///
    /// # Panics
    /// If the folder cannot be written.
    #[must_use]
    pub fn new() -> Self {
        let authority = Self { folder: TempFolder::new(), issuer: issuer("test authority") };
        authority.folder.write("ca.pem", authority.issuer.pem());
        authority.certify("pen", HOST);
        authority
    }

    /// The folder of the certificates.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of a file in the folder.
    #[must_use]
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Writes `FILE.crt` and `FILE.key` for the host `name`.
    ///
    /// # Panics
    /// As [`certify`].
    pub fn certify(&self, file: &str, name: &str) {
        certify(&self.issuer, self.folder(), file, name);
    }

    /// Writes `FILE.crt` and `FILE.key` as [`Self::certify`] does, with changes.
    ///
    /// # Panics
    /// As [`certify`].
    pub fn certify_changed(
        &self,
        file: &str,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) {
        certify_changed(&self.issuer, self.folder(), file, name, change);
    }

    /// Writes `FILE.crt` and `FILE.key` for the host `name`, signed by an authority between this one and the certificate.
    /// The file has the certificate alone, if not `has_chain`.
    ///
    /// # Panics
    /// As [`certify`].
    pub fn certify_by_another(&self, file: &str, name: &str, has_chain: bool) {
        let key = KeyPair::generate().expect("the system has random numbers");
        let between = CertifiedIssuer::signed_by(issuer_params("between"), key, &self.issuer)
            .expect("the certificate can be signed");
        certify(&between, self.folder(), file, name);
        if has_chain {
            let path = self.path(&format!("{file}.crt"));
            let chain = fs::read_to_string(&path).expect("it was written") + &between.pem();
            fs::write(path, chain).expect("a temporary file can be written");
        }
    }

    /// Writes `revoked.pem`, a list that revokes the certificates in these files.
    ///
    /// # Panics
    /// If the list cannot be signed or written.
    pub fn revoke(&self, files: &[&str]) {
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
        let list = list.signed_by(&self.issuer).expect("the list can be signed");
        self.folder.write("revoked.pem", list.pem().expect("a list can be written as PEM"));
    }

    /// Returns the configuration of a TLS client that trusts the authority.
    #[must_use]
    pub fn client(&self) -> Arc<ClientConfig> {
        self.client_with_versions(&[&TLS13, &TLS12])
    }

    /// Returns the configuration of a TLS client that trusts the authority and offers these versions only.
    ///
    /// # Panics
    /// If `versions` is empty.
    #[must_use]
    pub fn client_with_versions(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .expect("the provider supports the versions")
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        Arc::new(config)
    }

    /// Returns the configuration of a TLS client with the certificate `FILE.crt`.
    ///
    /// # Panics
    /// If the certificate was not written before.
    #[must_use]
    pub fn client_with_certificate(&self, file: &str) -> Arc<ClientConfig> {
        let (chain, key) = self.identity(file);
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default versions")
            .with_root_certificates(self.roots())
            .with_client_auth_cert(chain, key)
            .expect("key and certificate belong together");
        Arc::new(config)
    }

    /// Returns the configuration of a TLS server for [`HOST`].
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server_with_certificate("pen")
    }

    /// Returns the configuration of a TLS server with the certificate `FILE.crt`.
    ///
    /// # Panics
    /// If the certificate was not written before.
    #[must_use]
    pub fn server_with_certificate(&self, file: &str) -> Arc<ServerConfig> {
        let (chain, key) = self.identity(file);
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("key and certificate belong together");
        Arc::new(config)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("the certificate is one of an authority");
        roots
    }

    fn identity(&self, file: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from_pem_file(self.path(&format!("{file}.crt")));
        let key = PrivateKeyDer::from_pem_file(self.path(&format!("{file}.key")));
        (vec![certificate.expect("the file was written")], key.expect("the file was written"))
    }
}

impl Default for TestAuthority {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns the key and the self-signed certificate of an authority.
///
/// # Panics
/// If the certificate cannot be signed.
#[must_use]
pub fn issuer(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let key = KeyPair::generate().expect("the system has random numbers");
    CertifiedIssuer::self_signed(issuer_params(name), key).expect("the certificate can be signed")
}

/// Returns what the certificate of an authority says.
#[must_use]
pub fn issuer_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Writes `FILE.crt` and `FILE.key` for the host `name`, signed by `issuer`, into a folder.
///
/// # Panics
/// If the certificate cannot be signed or the files cannot be written.
pub fn certify(issuer: &CertifiedIssuer<'static, KeyPair>, folder: &Path, file: &str, name: &str) {
    certify_changed(issuer, folder, file, name, |_| ());
}

fn certify_changed(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    folder: &Path,
    file: &str,
    name: &str,
    change: impl FnOnce(&mut CertificateParams),
) {
    let key = KeyPair::generate().expect("the system has random numbers");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a valid host name");
    params.serial_number = Some(serial(file));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    change(&mut params);
    let certificate = params.signed_by(&key, issuer).expect("the certificate can be signed");
    let write = |ending: &str, text: String| {
        let path = folder.join(format!("{file}.{ending}"));
        fs::write(&path, text).expect("a temporary file can be written");
        let mode = fs::Permissions::from_mode(if ending == "key" { 0o600 } else { 0o644 });
        fs::set_permissions(path, mode).expect("a temporary file can be changed");
    };
    // The key first: a reader in between finds the old pair or none.
    write("key", key.serialize_pem());
    write("crt", certificate.pem());
}

/// The number by which [`TestAuthority::revoke`] names a certificate.
fn serial(file: &str) -> SerialNumber {
    SerialNumber::from_slice(file.as_bytes())
}
