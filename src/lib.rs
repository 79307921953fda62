//! The balancer, in five parts. Each one uses those below it:
//!
//! - [`operate`]: the running process as operators see it: control port, status page, reload, start and stop.
//! - [`data`]: the data plane: listeners, server pool, health checks, relay between clients and servers.
//! - [`logs`]: mapping records and access lines on their way to a collector or a file.
//! - [`command`]: what an operator may say: command line, configuration file, control language.
//! - [`config`]: the settings in force, as plain values.
//!
//! A connection takes this path: [`config`] says which servers and limits apply, [`data::pool`] chooses a
//! server, [`data::relay`] connects to it and forwards both ways, [`logs::mapping_log`] reports which client
//! was sent to which server. [`data::balancer`] starts and stops these parts; [`operate::run`] is the process around them.
//!
//! A worker is a thread with its own event loop (`epoll`); a worker never blocks.

pub mod command;
pub mod config;
pub mod data;
pub mod logs;
pub mod operate;
