//! From a client to a server and back.
//!
//! ```text
//! tcp           one thread: events, timers, and the connections they belong to
//! udp           the same for datagrams and flows
//! pump          forwards on two ends as the duplex says
//! duplex        what is to be done for two ways of bytes; owns no socket
//! http          what is noticed of HTTP as the bytes pass
//! tls           between an end and its socket, where it is encrypted
//! tls_observer  what can be told of TLS that only passes through
//! proxy         who the client is, by the PROXY protocol
//! socket        non-blocking sockets and listeners
//! jobs          commands that a worker carries out in slices
//! slab          values by slot and generation
//! report        what a worker says of its connections
//! shared        what workers have in common with one another and with whoever runs them
//! ```

pub mod duplex;
pub mod http;
mod jobs;
pub mod proxy;
pub mod pump;
pub mod report;
pub mod shared;
mod slab;
pub mod socket;
pub mod tcp;
pub mod tls;
mod tls_observer;
pub mod udp;
