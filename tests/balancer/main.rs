//! The balancer from the outside: its workers on real sockets in this process, and `pen` as a program.
//!
//! - Bytes between clients and servers: `streams` and `pairings` (the law of a byte stream), `endings`, `datagrams`,
//!   `crowds`, `limits`, `transparent`.
//! - Choosing a server: `choosing`, `checks`, and two balancers with one address (`keepalived`).
//! - Protocols: `http`, `real_http`, `proxy`, `tls`.
//! - Logs: `records`, `access_log`, `collect`.
//! - The program: `process`, `daemon`, `hardship`, `mistakes`, `defects` (the defects of C pen, `defects.md`), `robustness` (mutated input).
//! - Support: `support`, `program`, `nginx`, `namespaces`.

mod access_log;
mod checks;
mod choosing;
mod collect;
mod crowds;
mod daemon;
mod datagrams;
mod defects;
mod delivery;
mod endings;
mod hardship;
mod http;
mod keepalived;
mod limits;
mod mistakes;
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
