//! Lines of a server that find no mapping although both logs are there: how to notice it, and the parts of
//! messages that `mergelogs` and `penlogd` share.
//!
//! [`FitSample`] compares requests of access logs with the mappings of all servers, so that logs given to the
//! wrong server are noticed. [`loose_request`] identifies requests that only a proxy between has changed.
//! [`ServerList`] writes names of servers into a message.

mod fit;
mod loose;

use std::fmt;

pub use self::fit::{FitSample, RequestFit};
pub use self::loose::{LooseDifference, loose_request};

/// Names written by [`ServerList`] before the rest is only counted.
const NAMES: usize = 8;

/// Returns whether most lines found no client.
#[must_use]
pub const fn is_misfit(lines: u64, found: u64) -> bool {
    found < lines - lines / 2
}

/// Names of servers in a message: `10.0.0.1, 10.0.0.2 and 3 more`.
#[derive(Clone, Copy, Debug)]
pub struct ServerList<'a, T>(pub &'a [T]);

impl<T: fmt::Display> fmt::Display for ServerList<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().take(NAMES).enumerate() {
            write!(f, "{}{name}", if index > 0 { ", " } else { "" })?;
        }
        match self.0.len() {
            0 => f.write_str("no server"),
            len if len > NAMES => write!(f, " and {} more", len - NAMES),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_of_servers_is_cut() {
        let names: Vec<_> = (1..=11).map(|n| format!("10.0.0.{n}")).collect();
        assert_eq!(ServerList(&names[..0]).to_string(), "no server");
        assert_eq!(ServerList(&names[..2]).to_string(), "10.0.0.1, 10.0.0.2");
        let cut = ServerList(&names).to_string();
        assert!(cut.ends_with("10.0.0.7, 10.0.0.8 and 3 more"), "{cut}");
    }

    #[test]
    fn half_of_the_lines_is_enough() {
        for (lines, found, expected) in
            [(0, 0, false), (1, 0, true), (1, 1, false), (2, 1, false), (3, 1, true), (3, 2, false)]
        {
            assert_eq!(is_misfit(lines, found), expected, "{found} of {lines}");
        }
    }
}
