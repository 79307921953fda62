//! The collector: mapping records and access lines in, one attributed log out.
//!
//! [`Collector`](collector::Collector) is the pure core: datagrams and the time in, finished lines and
//! a [`Balance`](balance::Balance) out. [`run`] is the loop of sockets, signals and log files around
//! it, [`cli`] reads what was typed, [`check`] judges formats, [`lookup`] explains lines of a log that is there. [`allow`] says who may send what; `arena` holds the bytes of
//! lines that wait; [`socket`] receives many datagrams at a time. [`embedded`] is all of that on a thread
//! of another program.

pub mod allow;
mod arena;
pub mod balance;
pub mod check;
pub mod cli;
pub mod clocks;
pub mod collector;
pub mod embedded;
mod foreign;
pub mod lookup;
mod pieces;
pub mod run;
pub mod socket;
mod sources;
mod warnings;
