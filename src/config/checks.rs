//! Health checks: what a server is asked, how often, and how many answers in a row count.

use std::num::NonZeroU32;
use std::time::Duration;

/// How servers are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSettings {
    /// What is asked; `None` asks nothing.
    pub check: Option<HealthCheck>,
    /// From the end of one check of a server to the next one, give or take a tenth.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// Successes in a row after which a server that is down is up.
    pub rise: NonZeroU32,
    /// Failures in a row after which a server that is up is down.
    pub fall: NonZeroU32,
}

impl Default for CheckSettings {
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
pub enum HealthCheck {
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
