//! Reads the beginning of each input before the merge; the first time decides when the merge opens the input.

use std::io;

use pen_records::access::{Parser, Spec, carried};
use pen_records::mapping::{self, Mapping};
use pen_records::time::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::InputOrigin;
use crate::input::archive;
use crate::input::lines::{LineReader, TextBlock};
use crate::input::third_party::{ThirdPartyLogReader, ThirdPartySettings};
use crate::zone::{AccessTimes, LogZone};

/// Decompressed bytes read of each input.
const LOOK: usize = 64 << 10;

/// An input and the facts found in its beginning.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all may be true")]
pub(crate) struct InputHead {
    pub(crate) origin: InputOrigin,
    /// The earliest time near the beginning; [`Timestamp::MIN`] if none was found or the input was not read.
    pub(crate) first_time: Timestamp,
    /// Whether the input can be read again.
    pub(crate) repeatable: bool,
    /// Whether the input may hold other than classic mapping lines: one is near the beginning, or the input was not read.
    pub(crate) extended: bool,
    /// Hash of the bytes that were read; `None` for none.
    pub(crate) digest: Option<u64>,
    /// Whether the input may hold lines of other balancers: one is near the beginning, or the input was not read.
    pub(crate) third_party: bool,
    /// Whether the lines near the beginning log requests by parts, without the protocol.
    pub(crate) lacks_protocol: bool,
}

impl InputHead {
    pub(crate) fn of_access(
        origin: &InputOrigin,
        spec: &Spec,
        zone: Option<LogZone>,
    ) -> io::Result<Self> {
        let (mut parser, mut times) = (Parser::new(spec), AccessTimes::new(zone));
        let mut lacks_protocol = false;
        let head = Self::look(origin, |line| match parser.parse(line) {
            Ok(found) => {
                lacks_protocol |= found.request.lacks_protocol();
                Some(times.of(&found)?.0)
            }
            Err(_) => Some(parser.time_of_unread(line)?.0),
        })?;
        Ok(Self { lacks_protocol, ..head })
    }

    pub(crate) fn of_mappings(
        origin: &InputOrigin,
        third_party: &ThirdPartySettings,
    ) -> io::Result<Self> {
        let (mut extended, mut is_third_party) = (false, false);
        let mut reader = ThirdPartyLogReader::new(third_party);
        let mut text = Vec::new();
        let mut time = |line: &[u8]| {
            extended |= line.starts_with(mapping::line::START);
            if !reader.wants_all()
                && let Ok(mapping) = Mapping::parse_file_line(line)
            {
                return mapping.time.map(|(time, _)| time);
            }
            let time = reader.wants(line).then(|| reader.time(line)).flatten();
            is_third_party |= time.is_some();
            time
        };
        let head = Self::look(origin, |line| {
            time(line).or_else(|| carried(line, &mut text).and_then(&mut time))
        })?;
        let third_party = is_third_party || !head.repeatable;
        let extended = extended || third_party;
        Ok(Self { extended, third_party, ..head })
    }

    /// A mapping log that begins at a time, in seconds since the epoch.
    #[cfg(test)]
    pub(crate) fn at(first: i64) -> Self {
        Self {
            origin: InputOrigin::Stdin,
            first_time: Timestamp::from_seconds(first),
            repeatable: true,
            extended: false,
            third_party: false,
            lacks_protocol: false,
            digest: None,
        }
    }

    fn look(
        origin: &InputOrigin,
        mut time: impl FnMut(&[u8]) -> Option<Timestamp>,
    ) -> io::Result<Self> {
        let repeatable = archive::is_repeatable(origin);
        let (mut first_time, mut digest) = (None, None);
        if repeatable {
            let archive = archive::open(origin, LOOK, None)?;
            let block = LineReader::new(archive.bytes).next(TextBlock::default(), LOOK);
            digest = block.as_ref().map(|block| xxh3_64(&block.bytes[..block.filled]));
            first_time = block.iter().flat_map(TextBlock::lines).filter_map(&mut time).min();
        }
        let first_time = first_time.unwrap_or(Timestamp::MIN);
        Ok(Self {
            origin: origin.clone(),
            first_time,
            repeatable,
            extended: false,
            third_party: false,
            lacks_protocol: false,
            digest,
        })
    }
}
