//! The balancer's workers on real sockets, in this process.

mod access_log;
mod checks;
mod choosing;
mod collect;
mod daemon;
mod datagrams;
mod defects;
mod endings;
mod hardship;
mod http;
mod keepalived;
mod limits;
mod pairings;
mod process;
mod proxy;
mod records;
mod streams;
mod support;
mod tls;
mod transparent;
