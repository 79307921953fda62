//! The identity of a sender: a public key, or a name in a certificate.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::{CertificateDer, DnsName};
use webpki::EndEntityCert;

use crate::keys::{PublicKey, PublicKeyError};

/// In front of the name of a certificate, in text.
const WORD: &str = "cert:";

/// A sender, as a collector lists it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A public key, as `ed25519:` and digits.
    Key(PublicKey),
    /// A certificate with this DNS name, as `cert:` and the name.
    Certificate(CertificateName),
}

/// A DNS name of a certificate (subject alternative name), in small letters and without wildcard.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateName(Box<str>);

impl CertificateName {
    /// Returns the DNS names of a certificate, in its order. Common name, addresses and wildcards do not count.
    #[must_use]
    pub fn all_of(certificate: &CertificateDer<'_>) -> Vec<Self> {
        let Ok(certificate) = EndEntityCert::try_from(certificate) else { return Vec::new() };
        certificate.valid_dns_names().filter_map(|name| name.parse().ok()).collect()
    }
}

impl FromStr for CertificateName {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        match DnsName::try_from(text) {
            Ok(_) if !text.ends_with('.') => Ok(Self(text.to_ascii_lowercase().into())),
            _ => Err(IdentityError::Name),
        }
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        match text.strip_prefix(WORD) {
            Some(name) => name.parse().map(Self::Certificate),
            None => text.parse().map(Self::Key).map_err(IdentityError::Key),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => key.fmt(f),
            Self::Certificate(name) => write!(f, "{WORD}{name}"),
        }
    }
}

/// A malformed [`Identity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// Neither a certificate's name nor a public key.
    Key(PublicKeyError),
    /// No DNS name.
    Name,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(error) => write!(f, "{error}, or cert: and the DNS name of a certificate"),
            Self::Name => f.write_str(
                "expected behind cert: the whole DNS name of a certificate, as in cert:web5.example.org, without *",
            ),
        }
    }
}

impl std::error::Error for IdentityError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_a_key_or_a_name() {
        let key = format!("ed25519:{}", "0a".repeat(32));
        for (text, expected) in [
            (key.as_str(), Ok(key.as_str())),
            ("cert:web5.example.org", Ok("cert:web5.example.org")),
            ("cert:WEB5.Example.org", Ok("cert:web5.example.org")),
            ("cert:web5", Ok("cert:web5")),
            ("cert:", Err("expected behind cert:")),
            ("cert:*.example.org", Err("expected behind cert:")),
            ("cert:web5.example.org.", Err("expected behind cert:")),
            ("cert:CN=web5", Err("expected behind cert:")),
            ("cert:10.0.0.5", Err("expected behind cert:")),
            ("web5.example.org", Err("expected a public key")),
            ("ed25519:0a", Err("expected a public key")),
        ] {
            let parsed = text.parse::<Identity>();
            match (parsed, expected) {
                (Ok(identity), Ok(expected)) => assert_eq!(identity.to_string(), expected),
                (Err(error), Err(expected)) => {
                    assert!(error.to_string().starts_with(expected), "{text}: {error}");
                }
                (parsed, _) => panic!("{text}: {parsed:?}"),
            }
        }
    }
}
