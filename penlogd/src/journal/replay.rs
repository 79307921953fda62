//! Reads the datagrams of earlier runs again, for the join to go on.

use std::io;

use pen_journal::disk::Disk;
use pen_journal::{JournalReader, Position};
use pen_records::time::Timestamp;

use super::entry::{Entry, JournaledDatagram};
use crate::collector::Collector;

/// Microseconds of arrivals after which lines are decided.
const STEP: i64 = 10_000;

/// Feeds the datagrams of a journal up to `end` to the core. `decide` is called with times to decide at. Entries before
/// the first numbers of senders are the rest of a forgotten segment, unless the journal `is_damaged`.
///
/// # Errors
/// The disk fails.
pub(crate) fn replay<D: Disk>(
    disk: D,
    (end, is_damaged): (Position, bool),
    core: &mut Collector,
    mut decide: impl FnMut(&mut Collector, Timestamp),
) -> io::Result<()> {
    let mut reader = JournalReader::new(disk, Position::default());
    let mut numbers = Some(Vec::new());
    let mut is_forgotten = !is_damaged;
    let mut decided = Timestamp::MIN;
    while reader.position() < end
        && let Some(body) = reader.read()?
    {
        match Entry::parse(body) {
            Some(Entry::Snapshot { bytes, is_last }) => {
                // Those of later segments are known by the datagrams before.
                let Some(whole) = &mut numbers else { continue };
                whole.extend_from_slice(bytes);
                if is_last {
                    // Senders that cannot be read are taken as new ones.
                    if let Err(error) = core.read_snapshot(whole) {
                        tracing::warn!("{error}: what they send again may be written twice");
                    }
                    (numbers, is_forgotten) = (None, false);
                }
            }
            Some(Entry::Datagram(_)) if is_forgotten => {}
            Some(Entry::Datagram(JournaledDatagram { peer, arrived, first_line, bytes })) => {
                numbers = None;
                if arrived.by.micros_since(decided) >= STEP {
                    decided = arrived.by;
                    decide(core, decided);
                }
                core.set_next_line(first_line);
                // Nobody waits for an answer.
                let _ = core.receive_from(peer, bytes, arrived);
            }
            Some(Entry::Decided { .. } | Entry::Checkpoint(_)) | None => {}
        }
    }
    Ok(())
}
