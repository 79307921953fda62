//! What servers are told of a client, and what becomes of its own fields.

use pen_records::addr::ClientAddr;

use crate::config::ForwardedFor;

/// What requests are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    pub(super) own: Own,
    pub(super) client: String,
    pub(super) proto: &'static str,
}

/// What becomes of a client's own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// They are taken out.
    Replace,
    /// The address goes behind theirs.
    Append,
    /// They stay.
    Keep,
}

impl Forward {
    /// For this client, who came by `proto`.
    #[must_use]
    pub fn new(policy: &ForwardedFor, client: ClientAddr, proto: &'static str) -> Self {
        let own = match policy {
            ForwardedFor::Append => Own::Append,
            ForwardedFor::Keep(trusted) if trusted.iter().any(|it| it.fits(client)) => Own::Keep,
            ForwardedFor::Replace | ForwardedFor::Keep(_) => Own::Replace,
        };
        let client = match client {
            ClientAddr::Ip(ip) => ip.to_canonical().to_string(),
            // A socket on this machine has no address.
            ClientAddr::Unix => "unknown".to_owned(),
        };
        Self { own, client, proto }
    }
}
