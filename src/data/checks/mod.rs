//! Servers that are asked from time to time how they are, whether clients come or not.
//!
//! ```text
//! Checks   what is asked, how often, and how many answers count
//! probe    asks one server once
//! watch    a thread of its own that asks each in its turn, and tells the pool
//! ```
//!
//! What an answer means is decided in [`crate::data::pool`]: a server is down after some failures in a row and up
//! again after some successes, and where all are down the checks are not believed.

mod probe;
pub mod watch;

use std::ffi::OsStr;
use std::fmt;
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use crate::command::words::Quoted;

/// How servers are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checks {
    /// What is asked; `None` asks nothing.
    pub check: Option<Check>,
    /// From the end of one check of a server to the next one, give or take a tenth.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// Successes in a row after which a server that is down is up.
    pub rise: NonZeroU32,
    /// Failures in a row after which a server that is up is down.
    pub fall: NonZeroU32,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            check: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            rise: const { NonZeroU32::new(2).unwrap() },
            fall: const { NonZeroU32::new(3).unwrap() },
        }
    }
}

/// What a server is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Whether it takes a connection.
    Connect,
    /// Whether it answers a request with one of these statuses.
    Http {
        /// As in `GET`.
        method: String,
        /// Where, as in `/health`.
        path: String,
        /// The lowest status that is well.
        from: u16,
        /// And the highest.
        to: u16,
    },
    /// Whether it says something, by itself or when something was said to it; of datagrams, if it is
    /// those that are balanced.
    Exchange {
        /// What is said to it; nothing if it speaks first.
        send: Vec<u8>,
        /// What has to be somewhere in what it says.
        expect: Vec<u8>,
    },
}

/// As it is typed.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |f: &mut fmt::Formatter<'_>, bytes| Quoted(OsStr::from_bytes(bytes)).fmt(f);
        match self {
            Self::Connect => f.write_str("tcp"),
            Self::Http { method, path, from, to } => {
                write!(f, "http {method} ")?;
                quoted(f, path.as_bytes())?;
                if from == to { write!(f, " {from}") } else { write!(f, " {from}-{to}") }
            }
            Self::Exchange { send, expect } => {
                if !send.is_empty() {
                    f.write_str("send ")?;
                    quoted(f, send)?;
                    f.write_str(" ")?;
                }
                f.write_str("expect ")?;
                quoted(f, expect)
            }
        }
    }
}
