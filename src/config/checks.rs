//! Health checks: what a server is asked, how often, and how many answers in a row count.

use std::num::NonZeroU32;
use std::time::Duration;

/// The settings of health checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSettings {
    /// The check; `None` for no checks.
    pub check: Option<HealthCheck>,
    /// The time from the end of a check to the next check of the same server, varied by up to a tenth.
    pub interval: Duration,
    /// How long a check may take.
    pub timeout: Duration,
    /// The number of successful checks in a row after which a server is up.
    pub rise: NonZeroU32,
    /// The number of failed checks in a row after which a server is down.
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

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthCheck {
    /// The server accepts a connection.
    Connect,
    /// The server answers an HTTP request with a status of this range.
    Http {
        /// The method, as in `GET`.
        method: String,
        /// The path, as in `/health`.
        path: String,
        /// The lowest status of a healthy server.
        from: u16,
        /// The highest status of a healthy server.
        to: u16,
    },
    /// The server sends the expected text, unasked or in reply to a text. The check uses datagrams if pen balances
    /// datagrams.
    Exchange {
        /// The bytes to send; empty if the server speaks first.
        send: Vec<u8>,
        /// The bytes that the server's text must contain.
        expect: Vec<u8>,
    },
}
