//! End to end: whole programs on loopback, the C ones and ours, mixed.
//!
//! [`roads`] sends lines over every road that leads into a log and wants each to name its client,
//! [`truth`] sends traffic in which that is not possible and wants it to be said, [`stories`]
//! merges the files of `fixtures/`, [`demo`] is what README shows. nginx, Apache, HAProxy and Debian's `pen` have to be installed.

mod haproxy;
mod ids;
mod ours;
mod restarts;
mod roads;
mod stories;
mod support;
mod truth;
