//! Blocks of the mapping logs, scanned once for all servers: what lies beside a slice of one server's log mostly lies beside
//! one of the next server's log, too.

use std::collections::HashMap;

use pen_records::attribution::{MappingEvent, ServerIndex};
use pen_records::time::Timestamp;

use super::scan::{MappingScan, WantedServers};
use super::texts::SeekableText;

/// Bytes of a block. A line belongs to the block in which it begins.
const BLOCK: u64 = 64 << 10;
/// Bytes of scanned lines that are kept.
const KEPT: usize = 24 << 20;

/// A scanned line.
pub(super) struct ScannedLine {
    /// Its offset in the log.
    pub(super) at: u64,
    pub(super) time: Timestamp,
    /// Its record, if a server is known that it is about.
    pub(super) record: Option<MappingEvent>,
}

/// Scanned blocks of some logs, by the number of the log and that of the block.
#[derive(Default)]
pub(super) struct ScannedBlocks {
    kept: HashMap<(usize, u64), Vec<ScannedLine>>,
    bytes: usize,
    /// The last block that was not kept.
    other: Vec<ScannedLine>,
}

impl ScannedBlocks {
    /// Returns the numbers of the blocks between two offsets.
    pub(super) fn between(from: u64, to: u64) -> std::ops::Range<u64> {
        from / BLOCK..to.div_ceil(BLOCK)
    }

    /// Returns the lines of a block, with the records of one server or all.
    pub(super) fn lines(
        &mut self,
        (log, block): (usize, u64),
        text: &SeekableText,
        scan: &mut MappingScan<'_>,
        server: ServerIndex,
    ) -> &[ScannedLine] {
        let key = (log, block);
        if self.bytes >= KEPT && !self.kept.contains_key(&key) {
            self.other = read(text, block, scan, WantedServers::One(server));
            return &self.other;
        }
        let bytes = &mut self.bytes;
        self.kept.entry(key).or_insert_with(|| {
            let lines = read(text, block, scan, WantedServers::All);
            *bytes += lines.len() * size_of::<ScannedLine>();
            lines
        })
    }
}

fn read(
    text: &SeekableText,
    block: u64,
    scan: &mut MappingScan<'_>,
    wanted: WantedServers,
) -> Vec<ScannedLine> {
    let (from, to) = (block * BLOCK, (block + 1) * BLOCK);
    let part = text.begun_between(from, to);
    let lines = part.lines().take_while(|(at, _)| *at < to);
    let lines = lines.filter_map(|(at, line)| {
        let (time, record) = scan.parse(line, wanted)?;
        Some(ScannedLine { at, time, record })
    });
    lines.collect()
}
