//! Why a handshake failed, for people: which certificate or key, and what to do.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, OtherError, PeerIncompatible};

use super::certificates::{NotListed, SenderCertificate};
use super::raw::unexpected_key;
use super::{SenderProof, SenderTls};
use crate::validity::utc;

fn time(time: UnixTime) -> String {
    utc(UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}

/// Returns why a collector has refused a sender, or was refused. `proof` is `None` before the sender's first message.
pub(crate) fn collector_says(error: &Error, proof: Option<&SenderProof>) -> String {
    if let Some(key) = unexpected_key(error) {
        return format!("unknown key {key}");
    }
    let names = match proof {
        Some(SenderProof::Certificate(names)) => names.get().map(String::as_str),
        _ => None,
    };
    let certificate = match names {
        Some("") | None => "the sender's certificate, which has no DNS name,".to_owned(),
        Some(names) => format!("the certificate {names}"),
    };
    match error {
        Error::InvalidCertificate(CertificateError::Other(OtherError(cause)))
            if cause.is::<NotListed>() =>
        {
            match names {
                Some("") | None => {
                    "unknown certificate without a DNS name (subject alternative name); its common name does not count"
                        .to_owned()
                }
                Some(names) => format!("unknown certificate {names}"),
            }
        }
        Error::InvalidCertificate(error) => match error {
            CertificateError::ExpiredContext { not_after, .. } => {
                format!("{certificate} has ended on {}: renew it at the sender", time(*not_after))
            }
            CertificateError::NotValidYetContext { not_before, .. } => format!(
                "{certificate} is valid from {} on only: is the clock right?",
                time(*not_before)
            ),
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                format!("{certificate} is not signed by an authority of --authority")
            }
            CertificateError::Revoked => format!("{certificate} is revoked by a list of --revoked"),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                format!("{certificate} is not for clients: its extended key usage lacks clientAuth")
            }
            error => format!("{certificate} cannot be used: {error}"),
        },
        Error::NoCertificatesPresented => {
            "the sender has no certificate: penlog and pen take --certificate or log_certificate"
                .to_owned()
        }
        Error::PeerIncompatible(PeerIncompatible::IncorrectCertificateTypeExtension) => match proof {
            Some(SenderProof::Key) => {
                "the sender has no key of the kind of penlogd keygen, and this collector takes nothing else (see \
                 --certificate)"
                    .to_owned()
            }
            Some(SenderProof::Certificate(_)) => {
                "the sender has a key and no certificate, and this collector takes certificates only (see \
                 --certificate-key)"
                    .to_owned()
            }
            None => format!("TLS: {error}"),
        },
        Error::AlertReceived(alert) => {
            let why = match alert {
                AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                    "it does not know the authority that signed it"
                }
                AlertDescription::CertificateExpired => "it has ended, or is not valid yet",
                AlertDescription::BadCertificate => "the sender expects another name in it",
                AlertDescription::UnsupportedCertificate => {
                    "it is not for servers: its extended key usage lacks serverAuth"
                }
                AlertDescription::CertificateUnknown => "it expects another key",
                _ => return format!("TLS: {error}"),
            };
            format!("the sender refuses this collector's certificate or key: {why}")
        }
        error => format!("TLS: {error}"),
    }
}

/// Returns why a sender has refused its collector, or was refused.
pub(crate) fn sender_says(error: &Error, tls: Option<&SenderTls>) -> String {
    let certificate = tls.and_then(|tls| tls.certificate.as_ref());
    let Some(own) = certificate else { return with_key(error) };
    let mut text = with_certificate(error, own);
    if let Some(trouble) = own.trouble() {
        text.push_str("; the changed files of the certificate are not used: ");
        text.push_str(trouble);
    }
    text
}

fn with_key(error: &Error) -> String {
    if let Some(key) = unexpected_key(error) {
        return format!("the collector has another key than --collector-key says: {key}");
    }
    match error {
        Error::AlertReceived(AlertDescription::CertificateUnknown) => {
            "the collector does not know this program's key: add its public key to the file of --authorized there"
                .to_owned()
        }
        Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            "the collector takes certificates only, and no keys (see its --certificate-key)"
                .to_owned()
        }
        error => format!("TLS: {error}"),
    }
}

/// Returns the name in `DnsName("NAME")`, as webpki has it.
fn bare(presented: &str) -> &str {
    presented.split('"').nth(1).unwrap_or(presented)
}

fn with_certificate(error: &Error, own: &SenderCertificate) -> String {
    let path = own.loaded().path().display();
    let names = own.loaded().names();
    match error {
        Error::InvalidCertificate(error) => match error {
            CertificateError::ExpiredContext { not_after, .. } => {
                format!("the collector's certificate has ended on {}: renew it", time(*not_after))
            }
            CertificateError::NotValidYetContext { not_before, .. } => format!(
                "the collector's certificate is valid from {} on only: is the clock right?",
                time(*not_before)
            ),
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "the collector's certificate is not signed by an authority that this program accepts: is that your \
                 collector?"
                    .to_owned()
            }
            CertificateError::NotValidForNameContext { expected, presented } => format!(
                "the collector's certificate is not for {}, but for {} (see --collector-name)",
                expected.to_str(),
                match presented.is_empty() {
                    true => "no name".to_owned(),
                    false => presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", "),
                }
            ),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "the collector's certificate is not for servers: its extended key usage lacks serverAuth".to_owned()
            }
            error => format!("the collector's certificate cannot be used: {error}"),
        },
        Error::AlertReceived(AlertDescription::CertificateUnknown) => match names.first() {
            Some(name) => format!(
                "the collector does not know this program's certificate: add cert:{name} to the file of --authorized \
                 there"
            ),
            None => format!(
                "the collector knows no certificate without a DNS name: {path} has no subject alternative name"
            ),
        },
        Error::AlertReceived(AlertDescription::CertificateExpired) => {
            own.loaded().remark_at(SystemTime::now()).unwrap_or_else(|| {
                format!("the collector says that the certificate {path} is not valid now: compare the clocks")
            })
        }
        // The second where the collector knows another authority of the same name.
        Error::AlertReceived(AlertDescription::UnknownCA | AlertDescription::DecryptError) => format!(
            "the collector does not know the authority that signed {path}: it is in no file of --authority there, or a \
             certificate between the two is missing in {path}"
        ),
        Error::AlertReceived(AlertDescription::CertificateRevoked) => {
            format!("the collector has a list by which the certificate {path} is revoked")
        }
        Error::AlertReceived(AlertDescription::UnsupportedCertificate) => {
            format!("the certificate {path} is not for clients: its extended key usage lacks clientAuth")
        }
        Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            "the collector takes keys only, and no certificates: it needs --certificate".to_owned()
        }
        error => format!("TLS: {error}"),
    }
}
