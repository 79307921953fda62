//! The forwarding fields for the server, and the treatment of the client's own.

use pen_records::addr::ClientAddr;

use crate::config::ForwardedFor;

/// Fields to add to each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    pub(super) client_fields: ClientFields,
    pub(super) client: String,
    pub(super) proto: &'static str,
}

/// Treatment of the client's own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientFields {
    /// Remove them.
    Replace,
    /// Append the address to them.
    Append,
    /// Keep them.
    Keep,
}

impl Forward {
    /// Creates the fields for a client that came by `proto`.
    #[must_use]
    pub fn new(policy: &ForwardedFor, client: ClientAddr, proto: &'static str) -> Self {
        let client_fields = match policy {
            ForwardedFor::Append => ClientFields::Append,
            ForwardedFor::Keep(trusted) if trusted.iter().any(|it| it.matches(client)) => {
                ClientFields::Keep
            }
            ForwardedFor::Replace | ForwardedFor::Keep(_) => ClientFields::Replace,
        };
        let client = match client {
            ClientAddr::Ip(ip) => ip.to_canonical().to_string(),
            // A Unix socket has no address.
            ClientAddr::Unix => "unknown".to_owned(),
        };
        Self { client_fields, client, proto }
    }
}
