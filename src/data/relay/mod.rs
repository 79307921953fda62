//! From a client to a server and back.
//!
//! ```text
//! tcp           a worker for connections
//! udp           a worker for datagrams and the flows they belong to
//! worker        what both kinds of worker have in common
//! jobs          jobs that visit all connections of a worker, slice by slice
//! pump          forwards between two ends, as the duplex decides
//! duplex        decides what to do next for the two directions of a connection; owns no socket
//! http          follows and edits HTTP/1.x
//! tls           a TLS layer between an end and its socket
//! tls_observer  sizes and times of exchanges on opaque TLS
//! proxy         the PROXY protocol
//! socket        non-blocking sockets and listeners
//! mailbox       commands for a worker, and its waker
//! report        what a worker reports about its connections
//! queries       questions to all workers at once
//! records       mapping records
//! counters      counters for the status
//! shared        state that workers share with one another and with the rest of the program
//! ```

pub mod counters;
pub mod duplex;
pub mod http;
mod jobs;
pub mod mailbox;
pub mod proxy;
pub mod pump;
pub mod queries;
mod records;
pub mod report;
pub mod shared;
pub mod socket;
pub mod tcp;
pub mod tls;
mod tls_observer;
pub mod udp;
mod worker;
