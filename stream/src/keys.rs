//! Keys of programs: an Ed25519 pair each. The private key is a PEM file of the usual kind (PKCS #8), the public key
//! a word of text, to be copied to the peer.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use crate::files::{KeyFileError, read_private};

/// Bytes of a public key, and of the seed of a private key.
const KEY: usize = 32;
/// In front of the bytes of a public key, in text.
const WORD: &str = "ed25519:";
/// In front of the bytes of a public key, in DER (RFC 8410).
const SPKI: [u8; 12] = [0x30, 0x2A, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x03, 0x21, 0x00];
/// In front of the seed of a private key, in DER (RFC 8410).
const PKCS8: [u8; 16] = [
    0x30, 0x2E, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// A public key, written as `ed25519:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; KEY]);

impl PublicKey {
    /// Returns the key of a `SubjectPublicKeyInfo` in DER; `None` if it is not an Ed25519 key.
    #[must_use]
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        der.strip_prefix(&SPKI)?.try_into().ok().map(Self)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(WORD)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let digits = text.strip_prefix(WORD).ok_or(PublicKeyError)?.as_bytes();
        let mut key = [0; KEY];
        let (pairs, []) = digits.as_chunks::<2>() else { return Err(PublicKeyError) };
        if pairs.len() != KEY {
            return Err(PublicKeyError);
        }
        for (byte, [high, low]) in key.iter_mut().zip(pairs) {
            *byte = (digit(*high)? << 4) | digit(*low)?;
        }
        Ok(Self(key))
    }
}

fn digit(byte: u8) -> Result<u8, PublicKeyError> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(PublicKeyError),
    }
}

/// A malformed public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKeyError;

impl fmt::Display for PublicKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "expected a public key: ed25519: and 64 hexadecimal digits, as keygen prints it",
        )
    }
}

impl std::error::Error for PublicKeyError {}

/// A key pair.
#[derive(Clone)]
pub struct PrivateKey {
    public: PublicKey,
    pub(crate) certified: Arc<CertifiedKey>,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey of {}", self.public)
    }
}

impl PrivateKey {
    /// Reads a private key from a file with mode 0600.
    ///
    /// # Errors
    /// The file is missing, readable for others, or holds no Ed25519 key.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let fail = |why: &str| KeyFileError::new(path, why);
        let der = PrivatePkcs8KeyDer::from_pem_slice(&read_private(path)?);
        let der =
            der.map_err(|_| fail("it holds no private key: make one by penlogd keygen FILE"))?;
        Self::from_pkcs8(der).ok_or_else(|| {
            fail(
                "the private key is not an Ed25519 key, and without --certificate it has to be one",
            )
        })
    }

    fn from_pkcs8(der: PrivatePkcs8KeyDer<'static>) -> Option<Self> {
        let key =
            default_provider().key_provider.load_private_key(PrivateKeyDer::Pkcs8(der)).ok()?;
        let spki = key.public_key()?.to_vec();
        let public = PublicKey::from_spki(&spki)?;
        let certified = Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], key));
        Some(Self { public, certified })
    }

    /// Returns the public half.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// Makes a pair, and writes the private key to a new file with mode 0600.
    ///
    /// # Errors
    /// The file exists, or cannot be written.
    pub fn generate(path: &Path) -> Result<PublicKey, KeyFileError> {
        let fail = |why: &str| KeyFileError::new(path, why);
        let mut seed = [0; KEY];
        let filled = default_provider().secure_random.fill(&mut seed);
        filled.map_err(|_| fail("the system gives no random numbers"))?;
        let der = [&PKCS8[..], &seed].concat();
        let key = Self::from_pkcs8(PrivatePkcs8KeyDer::from(der.clone()));
        let public = key.ok_or_else(|| fail("the new key is not usable"))?.public;
        let pem =
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", base64(&der));
        write_new(path, 0o600, pem.as_bytes()).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => fail("it exists already: a key is never overwritten"),
            _ => fail(&error.to_string()),
        })?;
        Ok(public)
    }
}

fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    // A symbolic link in its place counts as existing, and is not followed.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Base64 of a whole number of three bytes.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (triples, _) = bytes.as_chunks::<3>();
    let digits = triples.iter().flat_map(|&[a, b, c]| {
        let bits = u32::from_be_bytes([0, a, b, c]);
        [18, 12, 6, 0].map(|shift| char::from(DIGITS[(bits >> shift & 63) as usize]))
    });
    digits.collect()
}

/// Makes a key pair for `keygen FILE`. Returns the output: a line with the public key.
///
/// # Errors
/// As [`PrivateKey::generate`].
pub fn keygen(path: &Path) -> Result<String, KeyFileError> {
    PrivateKey::generate(path).map(|public| format!("{public}\n"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use pen_testing::TempFolder;

    use super::*;

    #[test]
    fn a_new_pair_is_read_as_it_was_made_and_never_overwritten() {
        let folder = TempFolder::new();
        let path = folder.join("key");
        let public = PrivateKey::generate(&path).unwrap();
        assert_eq!(PrivateKey::read(&path).unwrap().public(), public);
        assert_eq!(public.to_string().parse(), Ok(public));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let error = PrivateKey::generate(&path).unwrap_err().to_string();
        assert!(error.ends_with("key: it exists already: a key is never overwritten"), "{error}");
        assert_ne!(PrivateKey::generate(&folder.join("other")).unwrap(), public);
    }

    #[test]
    fn a_private_key_that_others_can_read_is_refused() {
        let folder = TempFolder::new();
        let path = folder.join("key");
        PrivateKey::generate(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = PrivateKey::read(&path).unwrap_err().to_string();
        assert!(error.contains("mode 0640") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let folder = TempFolder::new();
        for (name, text) in [
            ("empty", ""),
            ("junk", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            ("public", "ed25519:00\n"),
        ] {
            let path = folder.join(name);
            write_new(&path, 0o600, text.as_bytes()).unwrap();
            assert!(PrivateKey::read(&path).is_err(), "{name}");
        }
        assert!(PrivateKey::read(&folder.join("missing")).is_err());
        let good = format!("{WORD}{}", "0a".repeat(KEY));
        assert!(good.parse::<PublicKey>().is_ok());
        for text in [
            "",
            "ed25519:",
            "ed25519:0a",
            &good.replace(WORD, ""),
            &format!("{good}00"),
            &good.replace('a', "é"),
        ] {
            assert_eq!(text.parse::<PublicKey>(), Err(PublicKeyError), "{text}");
        }
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        assert_eq!(base64(b"foobar"), "Zm9vYmFy");
        assert_eq!(base64(&[0xFF, 0xEF, 0xBE]), "/+++");
    }
}
