//! What a running collector may still do: write its log, its explanations and its journal, read the keys of senders and its
//! certificate, and remove its pid file.

use std::path::Path;

use pen_daemon::error::ActionError;
use pen_daemon::process::Settled;
use pen_daemon::sandbox::{FileReads, Sandbox};
use tracing::{info, warn};

use crate::cli::CollectorConfig;

/// Where the kernel counts dropped datagrams.
const COUNTERS: &str = "/proc";

/// Gives up all other rights. The sockets are bound, the journal's folder is there, and no thread runs.
pub(crate) fn enter(config: &CollectorConfig, settled: &Settled) -> Result<(), ActionError> {
    let mut sandbox = Sandbox::new(FileReads::Named).without_network();
    sandbox.read(Path::new(COUNTERS));
    for file in [&config.output.log, &config.output.explain].into_iter().flatten() {
        sandbox.write_file(file);
    }
    if let Some(journal) = &config.output.journal {
        sandbox.write_folder(&journal.folder);
    }
    if let Some(keys) = &config.keys {
        sandbox.read_file(keys.authorized.path());
        let files = keys.certificate.iter().flat_map(|(files, _)| files.paths());
        files.for_each(|path| sandbox.read_file(path));
    }
    settled.allow(&mut sandbox)?;
    let enclosure = sandbox.enter()?;
    info!("{enclosure}");
    if enclosure.is_root {
        warn!("runs as root: name a user that may write the log with -u");
    }
    Ok(())
}
