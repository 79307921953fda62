//! The options about the journal. `penlogd` and `pen --collect` share them.

use std::path::PathBuf;

use pen_daemon::arguments::number;

use crate::journal::Durability;

/// The options about the journal.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct JournalArgs {
    /// Keep what comes in this folder until it is in the log, so that a restart, a kill or a power cut loses
    /// no line and writes none twice
    #[arg(long, value_name = "DIR")]
    pub journal: Option<PathBuf>,
    /// With --journal: confirm lines when they survive a power cut (`disk`), or the death of penlogd
    /// (`process`)
    #[arg(long, value_name = "WHAT", value_enum, default_value = "disk", requires = "journal")]
    pub durable: Durability,
    /// With --journal: about the most MiB to keep in it
    #[arg(long, value_name = "MIB", default_value = "2048", requires = "journal",
          value_parser = number("MiB", 16..=1_048_576))]
    pub journal_size: u32,
}
