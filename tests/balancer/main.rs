//! The balancer's workers on real sockets, in this process.

mod access_log;
mod checks;
mod choosing;
mod collect;
mod crowds;
mod daemon;
mod datagrams;
mod defects;
mod endings;
mod hardship;
mod http;
mod keepalived;
mod limits;
mod namespaces;
mod nginx;
mod pairings;
mod process;
mod program;
mod proxy;
mod real_http;
mod records;
mod robustness;
mod streams;
mod support;
mod tls;
mod transparent;
