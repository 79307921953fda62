//! Numbers of senders as bytes, kept by a collector over a restart: little-endian, without padding.

use std::fmt;

use crate::shipment::SenderOrigin;
use crate::time::Timestamp;

/// A snapshot is cut, damaged, or of a later release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedSnapshot;

impl fmt::Display for DamagedSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the numbers of senders are damaged, or of a later release")
    }
}

impl std::error::Error for DamagedSnapshot {}

/// Appends values.
pub(crate) struct SnapshotWriter<'a>(pub(crate) &'a mut Vec<u8>);

impl SnapshotWriter<'_> {
    pub(crate) fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(crate) fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    pub(crate) fn time(&mut self, time: Timestamp) {
        self.0.extend_from_slice(&time.as_micros().to_le_bytes());
    }

    pub(crate) fn origin(&mut self, origin: &SenderOrigin) {
        self.number(origin.id);
        self.time(origin.start);
    }
}

/// Takes values off the beginning.
pub(crate) struct SnapshotReader<'a>(pub(crate) &'a [u8]);

impl SnapshotReader<'_> {
    pub(crate) fn number(&mut self) -> Result<u64, DamagedSnapshot> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(DamagedSnapshot)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// Takes a number of 32 bits.
    pub(crate) fn small(&mut self) -> Result<u32, DamagedSnapshot> {
        self.number()?.try_into().map_err(|_| DamagedSnapshot)
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, DamagedSnapshot> {
        Ok(Timestamp::from_micros(self.number()?.cast_signed()))
    }

    pub(crate) fn origin(&mut self) -> Result<SenderOrigin, DamagedSnapshot> {
        Ok(SenderOrigin { id: self.number()?, start: self.time()? })
    }

    /// Returns an error if bytes are left.
    pub(crate) fn end(&self) -> Result<(), DamagedSnapshot> {
        if self.0.is_empty() { Ok(()) } else { Err(DamagedSnapshot) }
    }
}
