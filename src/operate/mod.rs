//! The running process as operators see it: control port, status page, reload, start and stop.

mod connection_limit;
pub mod control;
pub mod name_resolver;
pub mod run;
pub mod running;
pub mod status;
mod timed_write;
