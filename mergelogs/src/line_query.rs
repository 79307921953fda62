//! Finds the lines of `--explain-line`, by text while blocks are read, or by number.

use std::collections::HashSet;

use crate::config::LineQuery;
use crate::input::lines::TextBlock;
use crate::input::reader::LinePlace;

/// Limit of lines that are explained.
const ANSWERS: usize = 10;

/// The query, and the lines found that were not merged yet.
pub(crate) struct QueryTracker {
    question: Option<LineQuery>,
    /// Log, block, and place in the block.
    lines: HashSet<(u32, u32, u32)>,
    /// Blocks received from each log.
    blocks: Vec<u32>,
    found: usize,
}

impl QueryTracker {
    pub(crate) fn new(question: Option<LineQuery>, logs: usize) -> Self {
        Self { question, lines: HashSet::new(), blocks: vec![0; logs], found: 0 }
    }

    /// Searches the next block of a log.
    pub(crate) fn look(&mut self, log: usize, block: &TextBlock) {
        let Some(LineQuery::Text(text)) = &self.question else { return };
        let number = self.blocks[log];
        self.blocks[log] += 1;
        let log = u32::try_from(log).expect("fewer inputs than descriptors");
        for (start, stop) in block.spans() {
            if self.found == ANSWERS {
                return;
            }
            if memchr::memmem::find(&block.bytes[start..stop], text).is_some() {
                let start = u32::try_from(start).expect("a block is far below 4 GiB");
                self.lines.insert((log, number, start));
                self.found += 1;
            }
        }
    }

    /// Returns whether the next merged line must be explained. Lines are written in the
    /// order of the merge, so the line's number in the merged log is known.
    pub(crate) fn is_asked(&mut self, log: u32, place: &LinePlace, number: u64) -> bool {
        match &self.question {
            None => false,
            Some(LineQuery::Number(asked)) => *asked == number,
            Some(LineQuery::Text(_)) => self.lines.remove(&(log, place.block, place.start)),
        }
    }
}
