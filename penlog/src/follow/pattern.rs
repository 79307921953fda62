//! File name patterns, as in a shell: `*`, `?` and `[…]`, in any part of a path. `mergelogs` reads the same patterns.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, glob_with};

use super::content::is_packed_name;

const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    // The crate would hide such files even from a pattern that begins with a dot: see `is_hidden`.
    require_literal_leading_dot: false,
};

/// Returns the plain files that match `pattern`, sorted, without compressed ones. A path without wildcards, or with a
/// malformed pattern, is returned as it is, whether the file exists or not.
pub(super) fn matches(pattern: &Path) -> Vec<PathBuf> {
    let itself = || vec![pattern.to_owned()];
    let text = match pattern.to_str() {
        Some(text) if text.contains(['*', '?', '[']) && !pattern.exists() => text,
        _ => return itself(),
    };
    let Ok(paths) = glob_with(text, OPTIONS) else { return itself() };
    // A folder that cannot be read has no files for us; the next scan tries again.
    paths
        .filter_map(Result::ok)
        .filter(|path| path.is_file() && !is_packed_name(path) && !is_hidden(path, pattern))
        .collect()
}

/// Returns whether a wildcard stands for a leading dot, which it does not do in a shell.
fn is_hidden(path: &Path, pattern: &Path) -> bool {
    let has_dot = |part: Component<'_>| part.as_os_str().as_bytes().starts_with(b".");
    let pairs = path.components().rev().zip(pattern.components().rev());
    pairs.into_iter().any(|(found, wanted)| has_dot(found) && !has_dot(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_any_folder_that_fits() {
        let root = pen_testing::TempFolder::new();
        for name in
            ["a/access.log", "a/access.log.2.gz", "a/.access.log", "b/access.log", "b/error.log"]
        {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let both = [root.join("a/access.log"), root.join("b/access.log")];
        for pattern in ["*/access*", "?/a*.log", "[ab]/*ss.log", "*/access.log"] {
            assert_eq!(matches(&root.join(pattern)), both, "{pattern}");
        }
        assert_eq!(matches(&root.join("*/.a*")), [root.join("a/.access.log")]);
        for nothing in ["c*/x", "access*", "a/acc?", "a/access[0-9].log"] {
            assert_eq!(matches(&root.join(nothing)), Vec::<PathBuf>::new(), "{nothing}");
        }
    }

    #[test]
    fn a_name_without_wildcards_matches_itself() {
        for name in ["/not/there", "/not/there/[unclosed"] {
            assert_eq!(matches(Path::new(name)), [PathBuf::from(name)]);
        }
    }
}
