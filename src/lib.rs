//! The balancer. A connection's road through this crate:
//!
//! 1. [`config`] says what was meant: servers, limits, times.
//! 2. [`pool`] chooses a server for a client, and counts.
//! 3. [`relay`] connects the two and forwards, both ways.
//! 4. [`mapping_log`] tells who was sent where.
//! 5. [`balancer`] starts and stops all of that, [`run`] is the process around it.
//!
//! Beside the road: [`cli`] and [`setup`] read what was typed, [`command`] is `penctl`'s language,
//! [`control`] carries it out on what is [`running`], [`status`] shows a [`snapshot`], [`tls`] reads
//! certificates, [`countries`] knows where clients are, [`direct`] sends what cannot wait for a log, [`checks`] asks servers how they are, and [`names`]
//! looks them up again.
//!
//! A worker is a thread with a loop of its own around `epoll`; nothing it does waits for anybody.

pub mod access_log;
pub mod acl;
pub mod address;
pub mod balancer;
pub mod books;
pub mod checks;
pub mod cli;
pub mod command;
pub mod config;
pub mod control;
pub mod countries;
pub mod direct;
pub mod files;
pub mod log_thread;
pub mod mapping_log;
pub mod names;
pub mod pool;
pub mod relay;
pub mod run;
pub mod running;
pub mod setup;
mod slow;
pub mod snapshot;
pub mod status;
pub mod tls;
