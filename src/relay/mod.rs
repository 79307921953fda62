//! From a client to a server and back.
//!
//! [`duplex`] is what a pair of connections does, without any socket; [`pump`] does it on two ends.

pub mod duplex;
pub mod pump;
