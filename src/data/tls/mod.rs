//! What TLS needs besides the bytes: certificates, keys and authorities, from files to what rustls
//! takes, and anew when the files change.
//!
//! ```text
//! keeper       what is in force; looks at the files and loads them again
//! certificate  a certificate with its chain, key and staple
//! names        the folder with certificates for other names, and who gets which
//! authorities  who may vouch for clients and servers
//! validity     until when a certificate is good
//! files        which files were read, and whether they are what they were
//! ```
//!
//! What is done with it on a connection is [`crate::data::relay::tls`].

mod authorities;
mod certificate;
mod files;
pub mod keeper;
mod names;
mod validity;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};

use crate::config::{Endpoint, ServerSettings};

/// What is in force.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Towards clients; `None` if they are not spoken to in TLS.
    pub clients: Option<Arc<ServerConfig>>,
    /// Towards servers, likewise.
    pub servers: Option<UpstreamTls>,
}

/// How servers are spoken to in TLS.
#[derive(Clone, Debug)]
pub struct UpstreamTls {
    config: Arc<ClientConfig>,
    /// By the protocol that was agreed on with the client: the server is to speak the same one.
    by_protocol: Vec<(Vec<u8>, Arc<ClientConfig>)>,
    /// The name that each has to prove; `None`: its own.
    name: Option<ServerName<'static>>,
}

impl UpstreamTls {
    /// For a connection whose client has agreed on that protocol.
    #[must_use]
    pub fn config(&self, agreed: Option<&[u8]>) -> Arc<ClientConfig> {
        let found = self.by_protocol.iter().find(|(protocol, _)| Some(&protocol[..]) == agreed);
        found.map_or(&self.config, |(_, config)| config).clone()
    }

    /// The name that a server has to prove.
    ///
    /// # Errors
    /// It has none that a certificate can hold.
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

/// What is wrong with a file.
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

/// Something that is wrong with one of several, and does not keep the others from working.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateWarning {
    error: TlsError,
    /// What becomes of it.
    then: &'static str,
}

impl fmt::Display for CertificateWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.error, self.then)
    }
}

/// The ciphers and signatures that there are.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
