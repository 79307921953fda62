//! The logs of the balancer: mapping records for the collector, and an access log.

pub mod access_log;
pub mod classic_sender;
pub mod log_thread;
mod mapping_file;
pub mod mapping_log;
mod road;
pub mod sinks;

/// Handles to the two logs of a running balancer: their counters, faults and targets.
#[derive(Clone, Debug)]
pub struct LogControls {
    /// The log of mapping records.
    pub mappings: mapping_log::MappingLogControl,
    /// The access log.
    pub access: access_log::AccessLogControl,
}
