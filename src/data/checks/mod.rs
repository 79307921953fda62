//! Health checks: a thread connects to each server from time to time, with or without clients.
//!
//! ```text
//! probe    checks one server once
//! watch    a thread that checks each server in turn and tells the pool the result
//! ```
//!
//! [`crate::data::pool`] decides what a result means: a server is down after some failures in a row and up
//! again after some successes. When all servers are down, the results are ignored.

mod probe;
pub mod watch;
