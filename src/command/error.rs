//! Errors of a line that is not a command.

use super::verbs;
use std::fmt;

use super::words::WordsError;
use crate::config::acl::AclError;
use crate::config::address::AddressError;

/// The longest line that is read, from a file or from the control port, in bytes.
pub const MAX_LINE: usize = 4_095;

/// A line that is not a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// The line cannot be split into words.
    Words(WordsError),
    /// An unknown verb.
    Unknown(String),
    /// A verb without a `no` form.
    UnknownNo(String),
    /// The verb, and the description of the expected word.
    Expected(String, &'static str),
    /// The verb, and the error in its rule of an access list.
    Acl(String, AclError),
    /// The verb, and the error in its address.
    Address(String, AddressError),
    /// The verb, and the first word beyond the end of the command.
    Surplus(String, String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words(error) => error.fmt(f),
            Self::Unknown(verb) => {
                write!(f, "unknown command '{verb}': ")?;
                match verbs::nearest(verb) {
                    Some(nearest) => write!(f, "did you mean '{nearest}'? See 'help'"),
                    None => f.write_str("see 'help'"),
                }
            }
            Self::UnknownNo(verb) => write!(f, "no {verb}: there is no such command, see 'help'"),
            Self::Expected(verb, what) => write!(f, "{verb}: expected {what}"),
            Self::Acl(verb, error) => write!(f, "{verb}: {error}"),
            Self::Address(verb, error) => write!(f, "{verb}: {error}"),
            Self::Surplus(verb, word) => write!(f, "{verb}: expected nothing more, found '{word}'"),
        }
    }
}

impl std::error::Error for CommandError {}
