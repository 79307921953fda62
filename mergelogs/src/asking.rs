//! Which lines are to be explained (`--explain-line`): found while their text comes by, or by their number.

use std::collections::HashSet;

use crate::config::Question;
use crate::input::lines::Block;
use crate::input::reader::Place;

/// Lines that are explained where a text is in many.
const ANSWERS: usize = 10;

/// A question, and the lines found for it that have not been taken.
pub(crate) struct Asking {
    question: Option<Question>,
    /// Log, block, and place in that.
    lines: HashSet<(u32, u32, u32)>,
    /// Of each log, how many blocks have come.
    blocks: Vec<u32>,
    found: usize,
}

impl Asking {
    pub(crate) fn new(question: Option<Question>, logs: usize) -> Self {
        Self { question, lines: HashSet::new(), blocks: vec![0; logs], found: 0 }
    }

    /// The next block of a log has come.
    pub(crate) fn look(&mut self, log: usize, block: &Block) {
        let Some(Question::Text(text)) = &self.question else { return };
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

    /// Whether the line that is taken now, as the so-manyth, is to be explained. Lines come out in the
    /// order they are taken, so its number in the merged log is known.
    pub(crate) fn is_asked(&mut self, log: u32, place: &Place, number: u64) -> bool {
        match &self.question {
            None => false,
            Some(Question::Number(asked)) => *asked == number,
            Some(Question::Text(_)) => self.lines.remove(&(log, place.block, place.start)),
        }
    }
}
