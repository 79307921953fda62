//! The balancer's workers on real sockets, in this process.

mod choosing;
mod collect;
mod limits;
mod process;
mod records;
mod streams;
mod support;
