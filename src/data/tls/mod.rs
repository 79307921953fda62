//! TLS files: loads certificates, keys and authorities for rustls, and loads them again when the files change.
//!
//! ```text
//! keeper       the settings in force; watches the files and loads them again
//! certificate  a certificate with its chain, key and OCSP response
//! names        the folder with certificates for further names, and the choice among them
//! authorities  certificate authorities for clients and servers
//! files        which files were read, and whether they changed
//! ```
//!
//! The handshake and the bytes of a connection are in [`crate::data::relay::tls`].

mod authorities;
mod certificate;
mod files;
pub mod keeper;
mod names;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use crate::config::{Endpoint, ServerSettings};

/// TLS settings in force.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Settings towards clients; `None` without TLS.
    pub clients: Option<Arc<ServerConfig>>,
    /// Settings towards servers; `None` without TLS.
    pub servers: Option<UpstreamTls>,
}

/// Settings towards servers.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    config: Arc<ClientConfig>,
    /// Client configurations by ALPN protocol: a server must speak the protocol that was negotiated with the client.
    by_protocol: Vec<(Vec<u8>, Arc<ClientConfig>)>,
    /// Name that every server must prove; `None`: each server's own.
    name: Option<ServerName<'static>>,
}

impl UpstreamTls {
    /// Returns the configuration for a connection whose client has negotiated `protocol`.
    #[must_use]
    pub fn config(&self, agreed: Option<&[u8]>) -> Arc<ClientConfig> {
        let found = self.by_protocol.iter().find(|(protocol, _)| Some(&protocol[..]) == agreed);
        found.map_or(&self.config, |(_, config)| config).clone()
    }

    /// Returns the name that a server must prove.
    ///
    /// # Errors
    /// The name cannot be in a certificate.
    pub fn name(&self, server: &ServerSettings) -> Result<ServerName<'static>, TlsError> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        match (&server.name, &server.addr) {
            (Some(name), _) => ServerName::try_from(name.clone())
                .map_err(|_| TlsError::new(Path::new(name), "expected the name of a host")),
            (None, Endpoint::Ip(addr)) => {
                Ok(ServerName::IpAddress(addr.ip().to_canonical().into()))
            }
            (None, Endpoint::Unix(path)) => {
                Err(TlsError::new(path, "expected ssl_servers_name, since a path proves nothing"))
            }
        }
    }
}

/// An error in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    path: PathBuf,
    what: String,
}

impl TlsError {
    fn new(path: &Path, what: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), what: what.to_string() }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

impl std::error::Error for TlsError {}

/// An error in a single file, without effect on other files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateWarning {
    error: TlsError,
    /// Consequence of the error.
    then: &'static str,
}

impl fmt::Display for CertificateWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.error, self.then)
    }
}

/// Returns the available ciphers and signature schemes.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
