//! A folder with certificates for other names, as C pen lays it out, and which of them a client gets.
//!
//! ```text
//! NAME.crt   the certificate, and its chain
//! NAME.key   its key; if there is none, it stands in NAME.crt
//! NAME.ca    authorities, among which the rest of the chain may be found
//! NAME.ocsp  what an authority says of it at present
//! ```
//!
//! Of all but NAME.crt there may be none. A NAME of `*.example.org` is for whatever stands in place of
//! the star, if nothing else is for that. Unlike in C pen, which puts what a client says into the name of
//! a file, everything is read beforehand.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::{CertificatePaths, load};
use super::files::{FileMarks, FileReader};
use super::{CertificateWarning, TlsError};

/// Certificates by name.
#[derive(Clone, Debug, Default)]
pub(super) struct CertificateNames(HashMap<String, Arc<CertifiedKey>>);

impl CertificateNames {
    /// Reads the folder. A name whose files are wrong keeps what it had `before`; what has not
    /// changed since is not read again.
    pub(super) fn load(
        folder: &Path,
        before: Option<(&Self, &FileMarks)>,
        files: &FileReader,
        warnings: &mut Vec<CertificateWarning>,
    ) -> Result<Self, TlsError> {
        let mut names = HashMap::new();
        let paths = files.list(folder)?;
        let is_there = |path: &Path| paths.binary_search_by(|it| it.as_path().cmp(path)).is_ok();
        for path in &paths {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let Some(name) = name.strip_suffix(".crt").filter(|name| !name.is_empty()) else {
                continue;
            };
            let beside = |end: &str| folder.join(format!("{name}.{end}"));
            let (key, authorities, staple) = (beside("key"), beside("ca"), beside("ocsp"));
            let all = [path, &key, &authorities, &staple];
            all.iter().for_each(|path| files.note(path));
            let name = name.to_ascii_lowercase();
            let old = before.and_then(|(names, _)| names.0.get(&name));
            let is_same = before.is_some_and(|(_, marks)| files.are_as(&all, marks));
            if let Some(old) = old.filter(|_| is_same) {
                names.insert(name, old.clone());
                continue;
            }
            let there = |path| Some(path).filter(|path: &&Path| is_there(path));
            let places = CertificatePaths {
                certificate: path,
                key: there(key.as_path()),
                authorities: there(authorities.as_path()),
                staple: there(staple.as_path()),
            };
            match load(&places, files, warnings) {
                Ok(certificate) => drop(names.insert(name, certificate)),
                Err(error) => {
                    let then = match old {
                        Some(_) => "the certificate that was read before stays in use",
                        None => "the name gets the certificate that is for all",
                    };
                    warnings.push(CertificateWarning { error, then });
                    names.extend(old.map(|old| (name, old.clone())));
                }
            }
        }
        Ok(Self(names))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Arc<CertifiedKey>)> {
        self.0.iter()
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        if let Some(found) = self.0.get(name) {
            return Some(found);
        }
        let (_, parent) = name.split_once('.')?;
        self.0.get(&format!("*.{parent}"))
    }
}

/// Gives each client the certificate for the name it asks for, or the one that is for all.
#[derive(Debug)]
pub(super) struct CertificateResolver {
    /// For everybody else.
    pub(super) default: Arc<CertifiedKey>,
    /// For those who ask for a name.
    pub(super) names: CertificateNames,
}

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // It is in small letters already.
        let found = hello.server_name().and_then(|name| self.names.find(name));
        Some(found.unwrap_or(&self.default).clone())
    }
}
