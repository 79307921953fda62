//! What servers are told of a client, and what becomes of its own fields.

use pen_records::addr::ClientAddr;

use crate::config::ForwardedFor;

/// What requests are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    pub(super) client_fields: ClientFields,
    pub(super) client: String,
    pub(super) proto: &'static str,
}

/// What becomes of a client's own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientFields {
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
        let client_fields = match policy {
            ForwardedFor::Append => ClientFields::Append,
            ForwardedFor::Keep(trusted) if trusted.iter().any(|it| it.fits(client)) => {
                ClientFields::Keep
            }
            ForwardedFor::Replace | ForwardedFor::Keep(_) => ClientFields::Replace,
        };
        let client = match client {
            ClientAddr::Ip(ip) => ip.to_canonical().to_string(),
            // A socket on this machine has no address.
            ClientAddr::Unix => "unknown".to_owned(),
        };
        Self { client_fields, client, proto }
    }
}
