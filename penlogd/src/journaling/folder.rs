//! The folder of a journal: made where it is missing, and looked at without a change.

use std::fs::{self, DirBuilder, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::{Uid, chown};
use pen_daemon::error::{ActionError, Doing as _};
use pen_daemon::folder::folder_of;
use pen_daemon::process::Process;

use super::JournalSettings;

impl JournalSettings {
    /// Makes the folder, where it is missing, for the user that `process` changes to: that user may not do so, most likely.
    ///
    /// # Errors
    /// The folder cannot be used, or not be made.
    pub(crate) fn make_folder(&self, process: &Process) -> Result<(), ActionError> {
        let folder = process.before_chroot(&self.folder);
        let doing = format!("use the journal {}", folder.display());
        let ids = process.ids()?;
        let uid = ids.map_or_else(Uid::effective, |(uid, _)| uid);
        look(&folder, uid).map_err(io::Error::other).doing(&doing)?;
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
            made => made.doing(&doing)?,
        }
        let Some((uid, gid)) = ids else { return Ok(()) };
        chown(&folder, Some(uid), Some(gid)).doing(format_args!("{doing}: give it to its user"))
    }
}

/// Says why a folder cannot be the journal of a user. Nothing is changed.
///
/// # Errors
/// What is wrong, and what to do.
pub(crate) fn look(folder: &Path, uid: Uid) -> Result<(), String> {
    match fs::metadata(folder) {
        Ok(found) => look_at(folder, &found, uid),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = folder_of(folder);
            match fs::metadata(parent) {
                Ok(found) if found.is_dir() => Ok(()),
                Ok(_) => Err(format!("{} is no folder", parent.display())),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let parent = parent.display();
                    Err(format!("the folder {parent} is missing (mkdir -p {parent})"))
                }
                Err(error) => Err(format!("cannot look at {}: {error}", parent.display())),
            }
        }
        Err(error) => Err(error.to_string()),
    }
}

fn look_at(folder: &Path, found: &Metadata, uid: Uid) -> Result<(), String> {
    let shown = folder.display();
    if !found.is_dir() {
        return Err(format!("{shown} is no folder"));
    }
    // Whoever may make files here could have segments lead to other files.
    if found.mode() & 0o022 != 0 {
        return Err(format!("others may write into {shown} (chmod go-w {shown})"));
    }
    if !uid.is_root() && found.uid() != uid.as_raw() {
        return Err(format!(
            "{shown} belongs to the user {} and penlogd runs as {uid} (chown {uid} {shown}, or -u {})",
            found.uid(),
            found.uid()
        ));
    }
    Ok(())
}

/// Returns how many bytes a journal in the folder may have: what is free, and what its segments take now. `None` if
/// unknown.
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    let there = if folder.is_dir() { folder } else { folder_of(folder) };
    let disk = statvfs(there).ok()?;
    let free = disk.blocks_available().saturating_mul(disk.fragment_size());
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let segments = names.filter(|name| name.path().extension().is_some_and(|it| it == "journal"));
    let taken: u64 = segments.filter_map(|name| Some(name.metadata().ok()?.len())).sum();
    Some(free.saturating_add(taken))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_wrong_with_a_folder_is_said_with_what_to_do() {
        let folder = pen_testing::TempFolder::new();
        let own = fs::metadata(folder.path()).unwrap().uid();
        let (me, other) = (Uid::from_raw(own), Uid::from_raw(own + 4_711));
        let file = folder.write("file", "");
        let [new, missing, open, mine] =
            ["new", "missing/new", "open", "mine"].map(|name| folder.join(name));
        for (path, mode) in [(&open, 0o777), (&mine, 0o700)] {
            fs::create_dir(path).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        for (path, uid, expected) in [
            (&new, me, None),
            (&mine, me, None),
            (&missing, me, Some("missing is missing (mkdir -p ")),
            (&file, me, Some("file is no folder")),
            (&file.join("new"), me, Some("")),
            (&open, me, Some("(chmod go-w ")),
            (&mine, other, Some("runs as ")),
        ] {
            let found = look(path, uid);
            match expected {
                None => assert_eq!(found, Ok(()), "{}", path.display()),
                Some(words) => assert!(found.clone().unwrap_err().contains(words), "{found:?}"),
            }
        }
        assert!(!new.exists(), "nothing is made by looking");
        fs::write(mine.join("00000000000000000000.journal"), [0; 5_000]).unwrap();
        assert!(free_bytes(&mine).unwrap() >= 5_000);
    }
}
