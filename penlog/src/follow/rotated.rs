//! What rotations have made of a log while `penlog` was down: renamed, copied and packed files beside it.
//!
//! A packed copy is another file, so the first bytes tell whose copy it is. What was both begun and rotated meanwhile is
//! known by its name alone, and by its age: it was last written after the log that an earlier run read.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pen_daemon::folder::folder_of;

use super::content::{LogContent, is_packed_name};
use super::copies::is_name_of_copy;
use super::id::FileId;
use super::state::FilePosition;
use super::stream::FileHead;

/// Returns a copy of a log that an earlier run read, packed or not: the youngest one that begins as the log did.
pub(super) fn copy_of(position: &FilePosition) -> Option<PathBuf> {
    let head = position.stream?.head;
    let copies = files_beside(&position.path).filter(|(path, meta)| {
        let has_length = is_packed_name(path) || meta.len() >= position.offset;
        has_length
            && is_name_of_copy(path, &position.path)
            && !is_being_packed(path)
            && head_of(path) == Some(head)
    });
    copies.max_by_key(|(_, meta)| meta.modified().ok()).map(|(path, _)| path)
}

/// Returns the rotated files of a log that were last written after `since`, oldest first.
pub(super) fn newer_than(since: SystemTime, log: &Path) -> Vec<PathBuf> {
    let is_newer = |meta: &Metadata| meta.len() > 0 && meta.modified().is_ok_and(|it| it > since);
    let files = files_beside(log).filter(|(path, meta)| {
        is_newer(meta) && is_rotated_name(path, log) && !is_being_packed(path)
    });
    let mut files: Vec<_> = files.collect();
    files.sort_by_key(|(path, meta)| (meta.modified().ok(), path.clone()));
    files.into_iter().map(|(path, _)| path).collect()
}

/// Returns the hash of the first bytes of a log; `None` if there is no whole line, or it cannot be read.
pub(super) fn head_of(path: &Path) -> Option<u64> {
    let head = FileHead::of(&LogContent::open(path).ok()?).ok()?;
    head.map(|head| head.hash())
}

/// The plain files in the folder of `log`, itself left out.
fn files_beside(log: &Path) -> impl Iterator<Item = (PathBuf, Metadata)> {
    let own = FileId::of(log);
    let entries = fs::read_dir(folder_of(log)).into_iter().flatten();
    entries.filter_map(move |entry| {
        let path = entry.ok()?.path();
        let meta = fs::symlink_metadata(&path).ok()?;
        (meta.is_file() && Some(FileId::from_metadata(&meta)) != own).then_some((path, meta))
    })
}

/// Whether the file that is packed is still there: the copy may be incomplete.
fn is_being_packed(path: &Path) -> bool {
    is_packed_name(path) && path.with_extension("").exists()
}

/// Whether a rotation names files of `log` so: with numbers or a date behind the name or before its ending.
fn is_rotated_name(path: &Path, log: &Path) -> bool {
    let unpacked = if is_packed_name(path) { path.file_stem() } else { path.file_name() };
    let bytes = |name: Option<&OsStr>| name.map_or_else(Vec::new, |name| name.as_bytes().to_vec());
    let (name, whole, stem) = (bytes(unpacked), bytes(log.file_name()), bytes(log.file_stem()));
    let end = &whole[stem.len()..];
    let is_count = |rest: &[u8]| {
        matches!(rest, [b'.' | b'-' | b'_', ..])
            && rest.iter().any(u8::is_ascii_digit)
            && rest.iter().all(|byte| byte.is_ascii_digit() || b".-_T".contains(byte))
    };
    let behind = name.strip_prefix(&whole[..]);
    let between = name.strip_prefix(&stem[..]).and_then(|rest| rest.strip_suffix(end));
    behind.is_some_and(is_count) || between.is_some_and(is_count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_files_are_known_by_their_names() {
        for (name, log, expected) in [
            ("access.log.1", "access.log", true),
            ("access.log.12.gz", "access.log", true),
            ("access.log-20261201.xz", "access.log", true),
            ("access.log-20261201-13.bz2", "access.log", true),
            ("access-20261201.log", "access.log", true),
            ("access.2.log.zst", "access.log", true),
            ("access_log.2026-12-01T13", "access_log", true),
            ("access.log", "access.log", false),
            ("access.log.gz", "access.log", false),
            ("access_ssl.log.1", "access.log", false),
            ("access.log.bak", "access.log", false),
            ("access2.log", "access.log", false),
            ("access.log.10", "access.log.1", false),
            ("error.log.1", "access.log", false),
        ] {
            let path = |name: &str| Path::new("/var/log").join(name);
            assert_eq!(is_rotated_name(&path(name), &path(log)), expected, "{name}");
        }
    }
}
