//! File name patterns: `*` and `?`, in any part of a path.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

/// What a rotated file ends in once nobody adds to it any more.
const PACKED: [&[u8]; 4] = [b".gz", b".bz2", b".xz", b".zst"];

/// The paths that match, sorted. A name without wildcards matches itself, whether there or not;
/// a wildcard matches no packed files and, as in a shell, no leading dot.
pub(super) fn matches(pattern: &Path) -> Vec<PathBuf> {
    if !has_wildcard(pattern.as_os_str().as_bytes()) {
        return vec![pattern.to_owned()];
    }
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        found = found.iter().flat_map(|folder| step(folder, component)).collect();
    }
    found.retain(|path| {
        let name = path.as_os_str().as_bytes();
        path.is_file() && !PACKED.iter().any(|end| name.ends_with(end))
    });
    found.sort();
    found
}

/// One component further.
fn step(folder: &Path, component: Component<'_>) -> Vec<PathBuf> {
    let name = component.as_os_str().as_bytes();
    if !has_wildcard(name) {
        return vec![folder.join(component)];
    }
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = std::fs::read_dir(here) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok().map(|entry| entry.file_name()))
        .filter(|found| fits(name, found.as_bytes()))
        .map(|found| folder.join(found))
        .collect()
}

fn has_wildcard(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, b'*' | b'?'))
}

/// Whether a name fits a pattern; on a mismatch the last `*` takes one byte more.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    if name.starts_with(b".") && !pattern.starts_with(b".") {
        return false;
    }
    let (mut at, mut here, mut star) = (0, 0, None);
    while here < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, here));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[here] => {
                (at, here) = (at + 1, here + 1);
            }
            _ => {
                let Some((star_at, from)) = star else { return false };
                star = Some((star_at, from + 1));
                (at, here) = (star_at + 1, from + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.log", "access.log", true),
            ("*.log", ".log", false),
            ("*.log", "access.log.1", false),
            ("access*", "access", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xaxxbx", true),
            ("*a*b*", "xbxxax", false),
            ("*", "", true),
            (".*", ".hidden", true),
            ("**", "x", true),
            ("[a]", "[a]", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn files_are_found_in_any_folder_that_fits() {
        let root = std::env::temp_dir().join(format!("penlog-pattern-{}", std::process::id()));
        for name in ["a/access.log", "a/access.log.2.gz", "b/access.log", "b/error.log"] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = matches(&root.join("*/access*"));
        assert_eq!(found, [root.join("a/access.log"), root.join("b/access.log")]);
        assert_eq!(matches(&root.join("c*/x")), Vec::<PathBuf>::new());
        assert_eq!(matches(Path::new("/not/there")), [PathBuf::from("/not/there")]);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
