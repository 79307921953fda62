//! A folder with certificates for further names, laid out as for C pen, and the choice among them.
//!
//! ```text
//! NAME.crt   the certificate, and its chain
//! NAME.key   its key; without this file, NAME.crt holds the key
//! NAME.ca    authorities, in which to find the rest of the chain
//! NAME.ocsp  OCSP response to staple
//! ```
//!
//! Only NAME.crt is required. A NAME of `*.example.org` matches any single label in place of the star, if no other name matches.
//! C pen builds a file name from the name that a client sends; here every file is read beforehand.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::{CertificatePaths, load};
use super::files::{FileMarks, TlsFileReader};
use super::{CertificateWarning, TlsError};

/// Certificates by name.
#[derive(Clone, Debug, Default)]
pub(super) struct CertificateNames(HashMap<String, Arc<CertifiedKey>>);

impl CertificateNames {
    /// Loads the folder. A name with bad files keeps its certificate from `before`; unchanged files are not read again.
    pub(super) fn load(
        folder: &Path,
        before: Option<(&Self, &FileMarks)>,
        files: &TlsFileReader,
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

    /// Returns the number of certificates.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns all certificates by name.
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

/// Selects the certificate for the name a client asks for (SNI), or the default one.
#[derive(Debug)]
pub(super) struct CertificateResolver {
    /// For all other clients.
    pub(super) default: Arc<CertifiedKey>,
    /// For clients that ask for a name.
    pub(super) names: CertificateNames,
}

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Already lower-case.
        let found = hello.server_name().and_then(|name| self.names.find(name));
        Some(found.unwrap_or(&self.default).clone())
    }
}
