//! What is written down about a balanced site, and the join of it: no I/O, no clock, no async.
//!
//! The road through this crate, in the order bytes travel it:
//!
//! 1. [`datagram`] tells mappings from access lines by their first bytes; [`shipment`] opens what
//!    `penlog` sends.
//! 2. [`mapping`] reads a [`mapping::Mapping`]: this client, through this connection, asked that
//!    server for this. [`access`] reads an [`access::AccessLine`]: spans into a line nobody copies.
//! 3. [`request`] makes both sides comparable: one unescaping, one cut, one fingerprint.
//! 4. [`attribution`] joins them: mappings and lines in, each line out once, with a client and a
//!    certainty.
//! 5. [`merge`] puts several streams in time order.
//! 6. [`privacy`] puts networks or pseudonyms in the place of clients, where they are written.
//!
//! [`addr`] and [`time`] hold the small values that all of them share, [`histogram`] says how times are spread.

pub mod access;
pub mod addr;
pub mod attribution;
pub mod datagram;
pub mod histogram;
pub mod mapping;
pub mod merge;
mod number;
pub mod privacy;
pub mod request;
mod scan;
pub mod shipment;
pub mod time;
