//! The options about keys and certificates.

use std::path::PathBuf;

use pen_stream::keys::{PrivateKey, PublicKey};
use pen_stream::tls::{CertificateFiles, SenderTls};

/// The options about keys and certificates.
#[derive(Debug, clap::Args)]
pub(crate) struct ShipperKeyArgs {
    /// Private key of this web server, made by penlog keygen FILE, or that of --certificate: send by TCP
    /// and TLS only, to a penlogd that knows the public key or the certificate
    #[arg(long, value_name = "FILE", conflicts_with_all = ["classic", "udp"])]
    key: Option<PathBuf>,

    /// Public key of penlogd, which penlogd prints at its start
    #[arg(long, value_name = "KEY", requires = "key")]
    collector_key: Option<PublicKey>,

    /// Certificate of this web server and its chain, in PEM form, instead of --collector-key; read again
    /// before a connection if it has changed
    #[arg(long, value_name = "FILE", requires_all = ["key", "authority"], conflicts_with = "collector_key")]
    certificate: Option<PathBuf>,

    /// Certificates of the authorities that penlogd's certificate may be signed by, in PEM form
    #[arg(long, value_name = "FILE", requires = "certificate")]
    authority: Option<PathBuf>,

    /// Name in penlogd's certificate [default: HOST]
    #[arg(long, value_name = "NAME", requires = "certificate")]
    collector_name: Option<String>,
}

impl ShipperKeyArgs {
    /// Returns the settings of TLS to the collector `host`; `None` without a key.
    pub(crate) fn tls(self, host: &str) -> Result<Option<SenderTls>, String> {
        let Some(key) = self.key else { return Ok(None) };
        if let (Some(certificate), Some(authority)) = (self.certificate, self.authority) {
            let files = CertificateFiles { certificate, key, authority, revoked: None };
            let name = self.collector_name.as_deref().unwrap_or(host);
            return SenderTls::with_certificate(files, name)
                .map(Some)
                .map_err(|error| format!("--certificate: {error}"));
        }
        let Some(collector) = self.collector_key else {
            return Err(
                "--key: expected --collector-key KEY with it, or --certificate FILE and --authority FILE"
                    .to_owned(),
            );
        };
        let key = PrivateKey::read(&key).map_err(|error| format!("--key {error}"))?;
        SenderTls::with_key(&key, collector).map(Some).map_err(|error| format!("--key: {error}"))
    }
}
