//! What is meant of TLS.

use std::path::PathBuf;
use std::time::Duration;

/// What is encrypted, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Our certificate, with its chain. `None`: clients are not spoken to in TLS.
    pub certificate: Option<PathBuf>,
    /// Its key; `None` if it stands in the same file.
    pub key: Option<PathBuf>,
    /// What an authority says of it at present, to be handed to clients.
    pub staple: Option<PathBuf>,
    /// A folder of certificates for other names.
    pub names: Option<PathBuf>,
    /// Whether clients need a certificate.
    pub clients: ClientCertificates,
    /// A file of authorities that may vouch for clients; with neither, those of the system.
    pub ca_file: Option<PathBuf>,
    /// A folder of files of authorities.
    pub ca_dir: Option<PathBuf>,
    /// A file of lists of what authorities have revoked, of clients and of servers.
    pub revoked: Option<PathBuf>,
    /// The oldest version that is spoken.
    pub oldest: TlsVersion,
    /// Protocols that are agreed on, best first.
    pub alpn: Vec<String>,
    /// How often it is looked whether files have changed; `None`: on HUP only.
    pub look: Option<Duration>,
    /// Whether servers are spoken to in TLS.
    pub servers: ServerTls,
    /// A file of authorities that may vouch for servers; without it, those of the system.
    pub servers_ca: Option<PathBuf>,
    /// The name that servers have to prove; without it, the one they are configured by.
    pub servers_name: Option<String>,
}

impl Default for TlsSettings {
    /// Nothing is encrypted.
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
    /// They are not asked for one.
    #[default]
    None,
    /// They are asked, and may have none.
    Optional,
    /// Without one there is no connection.
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

/// Whether servers are spoken to in TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerTls {
    /// They are not.
    #[default]
    Off,
    /// They have to prove who they are.
    Verified,
    /// Whoever answers is believed.
    Unverified,
}
