//! From a client to a server and back.
//!
//! ```text
//! worker      one thread: events, timers, and the connections they belong to
//! connection  one client: choosing and connecting, forwarding, ending
//! pump        forwards on two ends as the duplex says
//! duplex      what is to be done for two ways of bytes; owns no socket
//! http        what is noticed of HTTP as the bytes pass
//! sealed      what can be told of TLS that only passes through
//! proxy       who the client is, by the PROXY protocol
//! socket      non-blocking sockets and listeners
//! tls         between an end and its socket, where it is encrypted
//! udp         the same for datagrams
//! ```
//!
//! `errands` are what a worker does for others with all of its connections, [`report`] says what there are. [`shared`] is what workers have in common with one another and with who runs them.

mod connection;
pub mod duplex;
mod errands;
pub mod http;
pub mod proxy;
pub mod pump;
pub mod report;
mod sealed;
pub mod shared;
pub mod socket;
mod table;
mod timers;
pub mod tls;
pub mod udp;
pub mod worker;
