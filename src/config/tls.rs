//! The settings of TLS.

use std::path::PathBuf;
use std::time::Duration;

/// TLS towards clients and servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The file of the certificate and its chain; `None` for no TLS towards clients.
    pub certificate: Option<PathBuf>,
    /// The file of the private key; `None` for the file of the certificate.
    pub key: Option<PathBuf>,
    /// The file of the OCSP response to staple to the certificate.
    pub staple: Option<PathBuf>,
    /// The folder of certificates for other names (SNI).
    pub names: Option<PathBuf>,
    /// Whether clients need a certificate.
    pub clients: ClientCertificates,
    /// The file of certificate authorities for clients. Without this file and `ca_dir`, the authorities of the
    /// system are trusted.
    pub ca_file: Option<PathBuf>,
    /// The folder of files of certificate authorities for clients.
    pub ca_dir: Option<PathBuf>,
    /// The file of certificate revocation lists, for clients and servers.
    pub revoked: Option<PathBuf>,
    /// The oldest accepted version of TLS.
    pub oldest: TlsVersion,
    /// The protocols to negotiate by ALPN, the preferred one first.
    pub alpn: Vec<String>,
    /// The time between looks for changed files; `None` for SIGHUP only.
    pub look: Option<Duration>,
    /// Whether connections to servers use TLS.
    pub servers: ServerTls,
    /// The file of certificate authorities for servers; `None` for the authorities of the system.
    pub servers_ca: Option<PathBuf>,
    /// The name in the certificates of servers; `None` for the host name or address in the configuration.
    pub servers_name: Option<String>,
}

impl Default for TlsSettings {
    /// Returns settings without TLS.
    fn default() -> Self {
        Self {
            certificate: None,
            key: None,
            staple: None,
            names: None,
            clients: ClientCertificates::default(),
            ca_file: None,
            ca_dir: None,
            revoked: None,
            oldest: TlsVersion::default(),
            alpn: Vec::new(),
            look: Some(Duration::from_secs(10)),
            servers: ServerTls::default(),
            servers_ca: None,
            servers_name: None,
        }
    }
}

/// Whether clients need a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Clients are not asked for a certificate.
    #[default]
    None,
    /// Clients are asked for a certificate, and may have none.
    Optional,
    /// A client without a certificate is rejected.
    Required,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// Whether connections to servers use TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerTls {
    /// Connections without TLS.
    #[default]
    Off,
    /// TLS with a verified certificate.
    Verified,
    /// TLS with any certificate.
    Unverified,
}
