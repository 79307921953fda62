//! The balancer's workers on real sockets, in this process.

mod access_log;
mod checks;
mod choosing;
mod collect;
mod daemon;
mod datagrams;
mod endings;
mod hardship;
mod http;
mod limits;
mod nginx;
mod pairings;
mod process;
mod proxy;
mod real_http;
mod records;
mod robustness;
mod streams;
mod support;
mod tls;
mod transparent;
