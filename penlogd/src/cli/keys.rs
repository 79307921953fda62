//! The options about keys and certificates, and what they mean.

use std::path::PathBuf;
use std::sync::Arc;

use pen_daemon::error::chain;
use pen_daemon::process::absolute;
use pen_records::network::{self, IpNet};
use pen_stream::keys::PrivateKey;
use pen_stream::tls::{CertificateFiles, LoadedCertificate};

use crate::authorized::AuthorizedKeys;

/// The options about keys and certificates.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct KeyArgs {
    /// Private key of this collector, made by penlogd keygen FILE, or that of --certificate: senders with
    /// keys or certificates connect by TLS
    #[arg(long, value_name = "FILE", requires = "authorized")]
    key: Option<PathBuf>,
    /// Certificate of this collector and its chain, in PEM form: senders connect with certificates of
    /// --authority
    #[arg(long, value_name = "FILE", requires_all = ["key", "authority"])]
    certificate: Option<PathBuf>,
    /// Private key of --certificate, where --key is for senders with keys: both kinds connect
    #[arg(long, value_name = "FILE", requires = "certificate")]
    certificate_key: Option<PathBuf>,
    /// Certificates of the authorities whose certificates senders may have, in PEM form
    #[arg(long, value_name = "FILE", requires = "certificate")]
    authority: Option<PathBuf>,
    /// Lists of revoked certificates of the authorities, in PEM form
    #[arg(long, value_name = "FILE", requires = "certificate")]
    revoked: Option<PathBuf>,
    /// Public keys and certificates' names of the senders, each with the servers that it may speak for; HUP
    /// reads the file again, and those of --certificate. Other senders on other machines are refused
    #[arg(long, value_name = "FILE", requires = "key")]
    authorized: Option<PathBuf>,
    /// With --authorized: also accept what this network sends without a key; may be repeated
    #[arg(long, value_name = "NET", requires = "authorized", value_parser = network)]
    allow_unauthenticated: Vec<IpNet>,
}

fn network(text: &str) -> Result<IpNet, &'static str> {
    network::parse(text).ok_or("expected an address or a network, as in 10.1.0.0/16")
}

/// Keys and certificates of this collector, and its senders.
#[derive(Clone, Debug)]
pub struct CollectorKeys {
    /// Its own key, for senders with keys.
    pub own: Option<PrivateKey>,
    /// Its own certificate, for senders with certificates, and the files that it is read from.
    pub certificate: Option<(CertificateFiles, LoadedCertificate)>,
    /// The senders.
    pub authorized: Arc<AuthorizedKeys>,
    /// Networks of senders without keys; machines beyond them and this one are refused.
    pub unauthenticated: Vec<IpNet>,
}

impl KeyArgs {
    /// Reads the files; `None` without `--authorized`.
    ///
    /// # Errors
    /// Names the option and the file, and what was expected in it.
    pub(super) fn read(&self) -> Result<Option<CollectorKeys>, String> {
        let (Some(key), Some(authorized)) = (&self.key, &self.authorized) else { return Ok(None) };
        let absolute = |path: &PathBuf| absolute(path).map_err(|error| chain(&error));
        let files = match (&self.certificate, &self.authority) {
            (Some(certificate), Some(authority)) => Some(CertificateFiles {
                certificate: absolute(certificate)?,
                key: absolute(self.certificate_key.as_ref().unwrap_or(key))?,
                authority: absolute(authority)?,
                revoked: self.revoked.as_ref().map(absolute).transpose()?,
            }),
            _ => None,
        };
        let has_own = files.is_none() || self.certificate_key.is_some();
        let own = has_own
            .then(|| PrivateKey::read(key))
            .transpose()
            .map_err(|error| format!("--key {error}"))?;
        let certificate = files.map(|files| files.read().map(|loaded| (files, loaded)));
        let certificate =
            certificate.transpose().map_err(|error| format!("--certificate: {error}"))?;
        let authorized = AuthorizedKeys::read(&absolute(authorized)?)
            .map_err(|error| format!("--authorized {error}"))?;
        Ok(Some(CollectorKeys {
            own,
            certificate,
            authorized: Arc::new(authorized),
            unauthenticated: self.allow_unauthenticated.clone(),
        }))
    }
}

impl CollectorKeys {
    /// Returns what to know: dates of the certificate, and senders in the file that cannot connect.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let path = self.authorized.path().display();
        let mut remarks = Vec::new();
        remarks.extend(self.certificate.as_ref().and_then(|(_, loaded)| loaded.remark()));
        let (keys, certificates) = self.authorized.kinds();
        if keys > 0 && self.own.is_none() {
            remarks.push(format!(
                "{path}: {keys} senders with keys cannot connect, since --key is that of --certificate (say \
                 --certificate-key FILE for that, and --key FILE for the key of keygen)"
            ));
        }
        if certificates > 0 && self.certificate.is_none() {
            remarks.push(format!(
                "{path}: {certificates} senders with certificates cannot connect without --certificate"
            ));
        }
        remarks
    }
}
