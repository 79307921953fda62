//! How mapping records get to a collector.

use std::num::NonZeroUsize;
use std::path::PathBuf;

/// The settings of the way to a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliverySettings {
    /// The folder for records that the collector has not confirmed.
    pub spool: Option<PathBuf>,
    /// Most MiB of records in that folder.
    pub spool_mib: NonZeroUsize,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        let spool_mib = const { NonZeroUsize::new(1_024).unwrap() };
        Self { spool: None, spool_mib }
    }
}
