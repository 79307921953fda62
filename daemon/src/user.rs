//! Finding users, and becoming one.

use std::io;

use nix::unistd::{Gid, Uid, User, setgid, setgroups, setuid};

use crate::error::ActionError;
use crate::sandbox;

/// Returns the numbers of a user, by name or number.
///
/// # Errors
/// No such user exists.
pub fn find(name: &str) -> Result<(Uid, Gid), ActionError> {
    let unknown = || {
        let source = io::Error::new(io::ErrorKind::NotFound, "there is no such user");
        ActionError::cannot(format_args!("become the user {name}"), source)
    };
    let by_name = User::from_name(name);
    let found = match (by_name, name.parse::<u32>()) {
        (Ok(Some(user)), _) => Some(user),
        (_, Ok(uid)) => User::from_uid(Uid::from_raw(uid)).ok().flatten(),
        (Err(cause), _) => {
            return Err(ActionError::cannot(format_args!("look up the user {name}"), cause));
        }
        _ => None,
    };
    found.map(|user| (user.uid, user.gid)).ok_or_else(unknown)
}

/// Becomes a user for good: another user than root gets no rights back by any program that it executes. Must be called
/// before any thread is started.
///
/// # Errors
/// This process may not become that user.
pub fn become_user(uid: Uid, gid: Gid) -> nix::Result<()> {
    if Uid::effective().is_root() {
        if !uid.is_root() {
            sandbox::forbid_new_rights()
                .map_err(|error| nix::Error::from_raw(error.raw_os_error()))?;
        }
        // The groups first: after the change of user there is no right to.
        setgroups(&[gid])?;
    }
    setgid(gid)?;
    setuid(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_user_is_named() {
        let error = find("no-such-user-here").expect_err("nobody has that name");
        assert_eq!(error.to_string(), "cannot become the user no-such-user-here");
    }

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        assert_eq!(find("root").unwrap(), find("0").unwrap());
    }
}
