//! TLS: handshakes, certificates, and what becomes of them while traffic goes on.

mod certificates;
mod handshakes;
mod real;
pub(crate) mod support;
