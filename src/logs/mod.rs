//! What the balancer writes down: mapping records for the collector, and its own access log.

pub mod access_log;
pub mod books;
pub mod direct;
pub mod log_thread;
pub mod mapping_log;
