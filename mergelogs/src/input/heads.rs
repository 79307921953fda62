//! A look at the beginning of each input before the merge: when it starts decides when it is opened.

use std::io;

use pen_records::access::{Parser, Spec};
use pen_records::mapping::{self, Mapping};
use pen_records::time::Timestamp;

use crate::config::Origin;
use crate::input::archive;
use crate::input::foreign::{Foreign, ForeignReader};
use crate::input::lines::{Block, LineReader};

/// Decompressed bytes looked at.
const LOOK: usize = 64 << 10;

/// An input and its beginning.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) origin: Origin,
    /// The earliest time near the beginning; [`Timestamp::MIN`] if it was not looked at or has none.
    pub(crate) first_time: Timestamp,
    /// It can be opened again.
    pub(crate) repeatable: bool,
    /// It may hold lines of our own balancer or of another than the C one: there is one near the beginning, or it was not looked at.
    pub(crate) extended: bool,
}

impl Head {
    pub(crate) fn of_access(origin: &Origin, spec: &Spec) -> io::Result<Self> {
        let mut parser = Parser::new(spec);
        Self::look(origin, |line| Some(parser.parse(line).ok()?.time?.0))
    }

    pub(crate) fn of_mappings(origin: &Origin, foreign: &Foreign) -> io::Result<Self> {
        let mut extended = false;
        let mut reader = ForeignReader::new(foreign);
        let head = Self::look(origin, |line| {
            extended |= line.starts_with(mapping::line::START);
            if !reader.wants_all()
                && let Ok(mapping) = Mapping::parse_file_line(line)
            {
                return mapping.time.map(|(time, _)| time);
            }
            let time = reader.wants(line).then(|| reader.time(line)).flatten();
            extended |= time.is_some();
            time
        })?;
        let extended = extended || !head.repeatable;
        Ok(Self { extended, ..head })
    }

    fn look(origin: &Origin, mut time: impl FnMut(&[u8]) -> Option<Timestamp>) -> io::Result<Self> {
        let repeatable = archive::is_repeatable(origin);
        let mut first_time = None;
        if repeatable {
            let archive = archive::open(origin, LOOK, None)?;
            let block = LineReader::new(archive.bytes).next(Block::default(), LOOK);
            first_time = block.iter().flat_map(Block::lines).filter_map(&mut time).min();
        }
        let first_time = first_time.unwrap_or(Timestamp::MIN);
        Ok(Self { origin: origin.clone(), first_time, repeatable, extended: false })
    }
}
