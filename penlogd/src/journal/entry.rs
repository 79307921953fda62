//! Entries of the collector's journal. All numbers are little-endian.
//!
//! ```text
//! datagram    %x01  first line: 8  not before: 8  by: 8  address: 16  port: 2  flags: 1  bytes
//! decided     %x02  lines before: 8  *(first line: 8  count: 8, the highest bit set if left out)
//! checkpoint  %x03  lines: 8  device: 8  inode: 8  offset: 8
//! snapshot    %x04  last: 1  bytes
//! ```

use std::net::{Ipv6Addr, SocketAddr};

use pen_daemon::logfile::LogPlace;
use pen_records::time::Timestamp;

use crate::collector::{ArrivalTime, Peer};
use crate::line_numbers::{NumberRun, NumberRuns};

const DATAGRAM: u8 = 1;
const DECIDED: u8 = 2;
const CHECKPOINT: u8 = 3;
const SNAPSHOT: u8 = 4;

/// Marks a run of lines left out of the log.
const LEFT_OUT: u64 = 1 << 63;

/// Bytes of a datagram's entry before the datagram.
const DATAGRAM_HEAD: usize = 44;
/// Flags of a datagram: see [`Peer`].
const BY_STREAM: u8 = 1;
const BOUND: u8 = 2;
const UNAUTHENTICATED: u8 = 4;

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    Datagram(JournaledDatagram<'a>),
    /// Decided lines, and the number of lines written before by all runs.
    Decided {
        before: u64,
        runs: NumberRuns,
    },
    Checkpoint(Checkpoint),
    /// A part of the numbers of all senders, at the beginning of a segment.
    Snapshot {
        bytes: &'a [u8],
        is_last: bool,
    },
}

/// A datagram with records or lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournaledDatagram<'a> {
    pub(crate) peer: Peer,
    pub(crate) arrived: ArrivalTime,
    /// The number of its first line.
    pub(crate) first_line: u64,
    pub(crate) bytes: &'a [u8],
}

/// How far the log is written, and safe from a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Lines written by all runs.
    pub(crate) lines: u64,
    /// The place behind the last line.
    pub(crate) place: LogPlace,
}

impl JournaledDatagram<'_> {
    /// Returns the head of the datagram's entry.
    pub(super) fn head(&self) -> [u8; DATAGRAM_HEAD] {
        let Peer { addr, is_stream, is_bound, is_unauthenticated } = self.peer;
        let ip = match addr {
            SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped(),
            SocketAddr::V6(v6) => *v6.ip(),
        };
        let mut head = [DATAGRAM; DATAGRAM_HEAD];
        head[1..9].copy_from_slice(&self.first_line.to_le_bytes());
        head[9..17].copy_from_slice(&self.arrived.after.as_micros().to_le_bytes());
        head[17..25].copy_from_slice(&self.arrived.by.as_micros().to_le_bytes());
        head[25..41].copy_from_slice(&ip.octets());
        head[41..43].copy_from_slice(&addr.port().to_le_bytes());
        let flags =
            [(is_stream, BY_STREAM), (is_bound, BOUND), (is_unauthenticated, UNAUTHENTICATED)];
        head[43] = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum();
        head
    }
}

/// Returns the entry of decided lines.
pub(super) fn decided(before: u64, runs: &NumberRuns) -> Vec<u8> {
    let mut body = vec![DECIDED];
    body.extend_from_slice(&before.to_le_bytes());
    for run in runs.iter() {
        let count = if run.is_written { run.count } else { run.count | LEFT_OUT };
        body.extend_from_slice(&run.first.to_le_bytes());
        body.extend_from_slice(&count.to_le_bytes());
    }
    body
}

/// Returns the head of a snapshot's part.
pub(super) fn snapshot_head(is_last: bool) -> [u8; 2] {
    [SNAPSHOT, is_last.into()]
}

impl Checkpoint {
    pub(super) fn body(&self) -> Vec<u8> {
        let LogPlace { device, inode, offset } = self.place;
        let mut body = vec![CHECKPOINT];
        for number in [self.lines, device, inode, offset] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body
    }
}

impl<'a> Entry<'a> {
    /// Parses an entry; `None` if it is of a later release.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (&kind, rest) = body.split_first()?;
        match kind {
            DATAGRAM => {
                let [first_line, after, by] = numbers(rest)?;
                let (ip, rest) = rest.get(24..)?.split_first_chunk::<16>()?;
                let (port, rest) = rest.split_first_chunk()?;
                let (&flags, bytes) = rest.split_first()?;
                let ip = Ipv6Addr::from(*ip).to_canonical();
                let [after, by] = [after, by].map(|at| Timestamp::from_micros(at.cast_signed()));
                Some(Self::Datagram(JournaledDatagram {
                    peer: Peer {
                        addr: (ip, u16::from_le_bytes(*port)).into(),
                        is_stream: flags & BY_STREAM != 0,
                        is_bound: flags & BOUND != 0,
                        is_unauthenticated: flags & UNAUTHENTICATED != 0,
                    },
                    arrived: ArrivalTime { after, by },
                    first_line,
                    bytes,
                }))
            }
            DECIDED => {
                let [before] = numbers(rest)?;
                let mut runs = NumberRuns::default();
                for run in rest[8..].chunks(16) {
                    let [first, count] = numbers(run)?;
                    let is_written = count & LEFT_OUT == 0;
                    runs.add(NumberRun { first, count: count & !LEFT_OUT, is_written });
                }
                Some(Self::Decided { before, runs })
            }
            CHECKPOINT => {
                let [lines, device, inode, offset] = numbers(rest)?;
                let place = LogPlace { device, inode, offset };
                Some(Self::Checkpoint(Checkpoint { lines, place }))
            }
            SNAPSHOT => {
                let (&is_last, bytes) = rest.split_first()?;
                Some(Self::Snapshot { bytes, is_last: is_last != 0 })
            }
            _ => None,
        }
    }
}

/// Returns the numbers at the beginning of some bytes.
fn numbers<const COUNT: usize>(bytes: &[u8]) -> Option<[u64; COUNT]> {
    let mut numbers = [0; COUNT];
    for (index, number) in numbers.iter_mut().enumerate() {
        let bytes = bytes.get(index * 8..)?.first_chunk()?;
        *number = u64::from_le_bytes(*bytes);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use pen_journal::Position;
    use pen_journal::entry::{segment_head, write_entry};
    use proptest::prelude::*;

    use super::*;

    const fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn entries_read_as_they_were_written() {
        for (addr, is_stream) in [("192.0.2.1:5", false), ("[2001:db8::1]:65535", true)] {
            let addr = addr.parse().unwrap();
            let datagram = JournaledDatagram {
                peer: Peer { addr, is_stream, is_bound: is_stream, is_unauthenticated: !is_stream },
                arrived: ArrivalTime { after: at(-1), by: at(7) },
                first_line: 3,
                bytes: b"a line\n",
            };
            let body = [&datagram.head(), datagram.bytes].concat();
            assert_eq!(Entry::parse(&body), Some(Entry::Datagram(datagram)));
        }
        let mut runs = NumberRuns::default();
        for (number, is_written) in [(5, true), (6, true), (1, true), (9, false)] {
            runs.push(number, is_written);
        }
        let body = decided(77, &runs);
        assert_eq!(Entry::parse(&body), Some(Entry::Decided { before: 77, runs }));
        let place = LogPlace { device: 1, inode: u64::MAX, offset: 12 };
        let checkpoint = Checkpoint { lines: 9, place };
        assert_eq!(Entry::parse(&checkpoint.body()), Some(Entry::Checkpoint(checkpoint)));
        let body = [&snapshot_head(true)[..], b"numbers"].concat();
        let snapshot = Entry::Snapshot { bytes: b"numbers", is_last: true };
        assert_eq!(Entry::parse(&body), Some(snapshot));
    }

    #[test]
    fn a_segment_is_as_the_vector_shows() {
        let datagram = JournaledDatagram {
            peer: Peer {
                addr: "192.0.2.1:5000".parse().unwrap(),
                is_stream: true,
                is_bound: false,
                is_unauthenticated: false,
            },
            arrived: ArrivalTime {
                after: at(1_795_379_000_000_000),
                by: at(1_795_379_000_000_500),
            },
            first_line: 41,
            bytes: b"a line\n",
        };
        let mut runs = NumberRuns::default();
        for (number, is_written) in [(40, true), (41, true), (42, false)] {
            runs.push(number, is_written);
        }
        let place = LogPlace { device: 65_024, inode: 131, offset: 4_096 };
        let mut segment = segment_head(Position(1_000)).to_vec();
        for entry in [
            [&snapshot_head(true)[..], &[0; 16]].concat(),
            [&datagram.head(), datagram.bytes].concat(),
            decided(39, &runs),
            Checkpoint { lines: 41, place }.body(),
        ] {
            write_entry(&[&entry], &mut segment);
        }
        assert_eq!(pen_testing::vector("journal/segment.hex"), segment, "{segment:02x?}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Entry::parse(&bytes);
        }
    }
}
