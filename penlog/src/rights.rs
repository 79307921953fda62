//! Rights that the shipper needs no more once its input is open: those of root above all, as web servers start it so.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use nix::unistd::{Gid, Uid};
use pen_daemon::error::{ActionError, Doing as _};
use pen_daemon::sandbox::{FileReads, Sandbox};
use pen_daemon::user;

use crate::cli::{InputSource, ShipperConfig};
use crate::report::tell;
use crate::spool;

/// The user without rights.
const NOBODY: &str = "nobody";

/// Changes the user, then gives up capabilities and writing files but those of the spool and the state. No thread runs yet.
///
/// Reading is not limited: patterns of `--follow` find files in folders that appear later, and names are looked up.
pub(crate) fn give_up(config: &ShipperConfig) -> Result<(), ActionError> {
    let ids = match &config.user {
        Some(name) => Some(user::find(name)?),
        None => None,
    };
    if let Some(spool) = &config.spool {
        spool::make_folder_for(&spool.folder, ids)?;
    }
    let ids = match ids {
        None if Uid::effective().is_root() => usual_user(config),
        ids => ids,
    };
    if let Some((uid, gid)) = ids {
        let name = config.user.clone().unwrap_or_else(|| uid.to_string());
        user::become_user(uid, gid).doing(format_args!("become the user {name}"))?;
    }
    if !config.has_sandbox {
        return Ok(());
    }
    let mut sandbox = Sandbox::new(FileReads::All);
    if let Some(spool) = &config.spool {
        sandbox.write_folder(&spool.folder);
    }
    if let InputSource::Files(files) = &config.source
        && let Some(state) = &files.state
    {
        sandbox.write_file(state);
    }
    sandbox.enter().map(drop)
}

/// Returns whom root becomes: the owner of the spool, or nobody. Followed files may be root's alone.
fn usual_user(config: &ShipperConfig) -> Option<(Uid, Gid)> {
    match (&config.source, &config.spool) {
        (InputSource::Files(_), _) => None,
        (_, Some(spool)) => {
            let folder = fs::metadata(&spool.folder).ok()?;
            Some((Uid::from_raw(folder.uid()), Gid::from_raw(folder.gid())))
                .filter(|(uid, _)| !uid.is_root())
        }
        (_, None) => user::find(NOBODY)
            .inspect_err(|_| tell("stays root: there is no user nobody; name one with --user"))
            .ok(),
    }
}
