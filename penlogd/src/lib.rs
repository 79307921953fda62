//! The collector: mapping records and access lines in, one attributed log out.
//!
//! [`Collector`](collector::Collector) is the pure core: datagrams and the time in, finished lines and
//! a [`CollectorReport`](report::CollectorReport) out. [`run`] is the loop of sockets, signals and log files around the
//! core, and [`embedded`] runs the loop on a thread of another program. [`socket`] receives many datagrams
//! per call, `streams` receives them by TCP, [`allow`] says which networks may send what and [`authorized`]
//! which keys, `arena` holds the bytes of waiting lines.
//! `sandbox` says what the running collector may still do. [`cli`] parses the command line, [`lookup`] explains lines of a log.

pub mod allow;
mod arena;
pub mod authorized;
mod blocks;
pub mod cli;
pub mod clocks;
pub mod collector;
pub mod embedded;
mod first_lines;
mod fit;
mod gate;
mod held_answers;
pub mod journal;
pub mod journaling;
mod line_numbers;
mod lines;
mod listeners;
pub mod lookup;
mod misfits;
pub mod output;
mod peer;
mod pieces;
pub mod quota;
pub mod report;
pub mod run;
mod sandbox;
mod servers;
pub mod socket;
mod sources;
mod streams;
mod third_party;
mod twins;
mod warnings;
mod window_share;
