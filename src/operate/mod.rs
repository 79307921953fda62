//! The running process as operators see it: control port, status page, reload, start and stop.

pub mod control;
pub mod run;
pub mod running;
mod slow;
pub mod status;
