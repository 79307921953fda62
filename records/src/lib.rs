//! What is logged about a balanced site, and the join of both logs: no I/O, no clock, no async.
//!
//! Modules in the order in which bytes pass through them:
//!
//! 1. [`frames`] splits a byte stream into datagrams, [`datagram`] tells mappings from access lines by
//!    their first bytes, [`shipment`] decodes what
//!    `penlog` sends.
//! 2. [`mapping`] parses a [`mapping::Mapping`]: this client asked this server for this request over
//!    this connection. [`access`] parses an [`access::AccessLine`]: spans into a borrowed line.
//! 3. [`request`] makes requests of both sides comparable: one unescaping, one cut, one fingerprint;
//!    [`request_id`] does so with ids of requests.
//! 4. [`clocks`] estimates how far a server's clock is ahead of the balancer's (used by `mergelogs`).
//! 5. [`attribution`] joins: mappings and lines in, each line out once, with a client and a certainty.
//! 6. [`merge`] puts several streams in time order.
//! 7. [`misfit`] notices logs that do not fit each other.
//! 8. [`rewrite`] writes each decided line with its client, its explanation and its counters;
//!    [`privacy`] replaces client addresses with networks or pseudonyms there.
//!
//! [`snapshot`] keeps the numbers of senders over a restart of the collector. [`addr`], [`network`] and [`time`] hold the small values that all modules share, [`duration`] parses
//! durations of command lines and [`server_alias`] their other names of servers, [`histogram`] counts
//! durations.

pub mod access;
pub mod addr;
pub mod attribution;
mod clock_hand;
pub mod clocks;
pub mod datagram;
pub mod duration;
pub mod frames;
mod hash;
pub mod histogram;
pub mod mapping;
pub mod merge;
pub mod misfit;
pub mod network;
mod number;
pub mod privacy;
mod received_numbers;
pub mod request;
pub mod request_id;
pub mod rewrite;
pub mod scan;
pub mod server_alias;
pub mod shipment;
pub mod snapshot;
pub mod time;
