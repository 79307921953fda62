//! What is remembered: mappings and their exchanges, connections, and TLS exchanges.

pub(crate) mod connections;
mod events;
pub(crate) mod exchanges;
pub(crate) mod facts;
pub(crate) mod mappings;
pub(crate) mod signature;
pub(crate) mod tls;
