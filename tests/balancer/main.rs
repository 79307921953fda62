//! The balancer's workers on real sockets, in this process.

mod checks;
mod choosing;
mod collect;
mod daemon;
mod datagrams;
mod endings;
mod http;
mod limits;
mod pairings;
mod process;
mod proxy;
mod records;
mod streams;
mod support;
mod tls;
mod transparent;
