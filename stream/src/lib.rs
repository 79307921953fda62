//! The stream between senders and the collector: datagrams in frames over TCP, with TLS where keys are set up.
//!
//! Nothing here waits: sockets do not block, and the owner of a stream polls or comes back later.
//!
//! - [`link`]: a connection, of either end.
//! - [`client`]: the sender's end, which connects again by itself.
//! - [`tls`]: TLS, in which each end proves who it is by a key or a certificate.
//! - [`identity`]: who a sender is.
//! - [`keys`]: private and public keys, and key files.
//! - [`pem`], [`files`], [`validity`]: what certificates and their files hold, also for TLS of others.

pub mod client;
pub mod files;
pub mod identity;
pub mod keys;
pub mod link;
pub mod pem;
pub mod tls;
pub mod validity;
