//! Packets on the disk. Each run of pen has a folder with a journal:
//!
//! ```text
//! DIR/START-ID-FIRST/lock            locked while the run lives
//! DIR/START-ID-FIRST/boot            the machine's start, and the time since then at START
//! DIR/START-ID-FIRST/confirmed       number after the last confirmed record
//! DIR/START-ID-FIRST/N.journal       segments
//! entry = ahead: 8  first: 8  end: 8  packet          ; numbers of records, little-endian
//! ```
//!
//! What is written survives the death of pen, and a power cut only if the system wrote it in time: the log thread does not
//! wait for the disk to sync.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use pen_journal::disk::Disk as _;
use pen_journal::writer::JournalLimits;
use pen_journal::{Folder, JournalReader, JournalWriter, Position};
use pen_records::mapping::packet::Packet;
use pen_records::shipment::SenderOrigin;
use pen_records::time::Timestamp;

use super::clock::{ClockReading, RunClock};

/// Entries that wait in memory while the disk is full.
const TAIL: usize = 1 << 20;
/// Bytes in front of a packet.
const ENTRY: usize = 24;

/// The packets of a run on the disk, oldest first.
#[derive(Debug)]
pub(super) struct DiskPackets {
    path: PathBuf,
    _lock: Flock<File>,
    disk: Folder,
    writer: JournalWriter<Folder>,
    reader: JournalReader<Folder>,
    /// All records below are confirmed, and no entry before the position is needed.
    confirmed: (u64, Position),
    /// The number in the file.
    saved: u64,
    /// Number after the last record here; of an earlier run, after the last one read.
    end: u64,
    /// Numbers after entries read since `confirmed`, and the positions there.
    marks: VecDeque<(u64, Position)>,
    /// The packet read last, and the number after the one before.
    peeked: Option<DiskPacket>,
    before: u64,
}

/// A packet on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DiskPacket {
    pub(super) first: u64,
    pub(super) end: u64,
    /// As [`RunClock::ahead`].
    pub(super) ahead: i64,
    pub(super) bytes: Vec<u8>,
}

/// A folder found, with the run that left it.
#[derive(Debug)]
pub(super) struct EarlierRun {
    pub(super) origin: SenderOrigin,
    pub(super) clock: RunClock,
    pub(super) packets: DiskPackets,
}

impl DiskPackets {
    /// Makes the folder of a run, from its record `first` on, visible once it is locked.
    pub(super) fn create(
        spool: &Path,
        origin: SenderOrigin,
        first: u64,
        segment: u64,
    ) -> io::Result<Self> {
        let name = folder_name(origin, first);
        let (hidden, path) = (spool.join(format!(".{name}")), spool.join(&name));
        let _ = fs::remove_dir_all(&hidden); // of a run that died here
        DirBuilder::new().mode(0o700).create(&hidden)?;
        let lock = lock(new_file(&hidden.join("lock"))?)?;
        let reading = ClockReading::now();
        let boot = reading.boot - reading.wall.micros_since(origin.start);
        let text = format!("{} {boot}\n", boot_id());
        new_file(&hidden.join("boot"))?.write_all(text.as_bytes())?;
        fs::rename(&hidden, &path)?;
        Self::open(path, lock, first, segment)
    }

    fn open(path: PathBuf, lock: Flock<File>, first: u64, segment: u64) -> io::Result<Self> {
        let disk = Folder::open(&path)?;
        let writer = JournalWriter::open(disk.clone(), JournalLimits { segment, tail: TAIL })?;
        let reader = JournalReader::new(disk.clone(), writer.start());
        let text = fs::read_to_string(path.join("confirmed")).unwrap_or_default();
        let confirmed = text.trim().parse().unwrap_or(first).max(first);
        Ok(Self {
            path,
            _lock: lock,
            disk,
            confirmed: (confirmed, writer.start()),
            writer,
            reader,
            saved: confirmed,
            end: confirmed,
            marks: VecDeque::new(),
            peeked: None,
            before: 0,
        })
    }

    /// Returns the runs that have ended and left packets in the folder, oldest first.
    pub(super) fn of_earlier_runs(spool: &Path, segment: u64) -> io::Result<Vec<EarlierRun>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(spool)? {
            let name = entry?.file_name().into_string().ok();
            names.extend(name.and_then(|name| Some((parse_name(&name)?, name))));
        }
        names.sort_by(|one, other| one.1.cmp(&other.1));
        let found = names.into_iter().filter_map(|((origin, first), name)| {
            let path = spool.join(name);
            // Of a living run, or of another user.
            let lock = lock(OpenOptions::new().write(true).open(path.join("lock")).ok()?).ok()?;
            let clock = earlier_clock(&path, origin);
            let mut packets = Self::open(path, lock, first, segment).ok()?;
            packets.find_end().ok()?;
            Some(EarlierRun { origin, clock, packets })
        });
        Ok(found.collect())
    }

    /// Finds the number after the last record: in the last segment.
    fn find_end(&mut self) -> io::Result<()> {
        let place = |name: &String| name.strip_suffix(".journal")?.parse().ok().map(Position);
        let last = self.disk.names()?.iter().filter_map(place).max();
        let mut reader = JournalReader::new(self.disk.clone(), last.unwrap_or_default());
        while let Some(entry) = reader.read()? {
            self.end = parse_entry(entry).map_or(self.end, |packet| self.end.max(packet.end));
        }
        Ok(())
    }

    /// Bytes on the disk.
    pub(super) fn size(&self) -> u64 {
        self.writer.end().0 - self.writer.start().0
    }

    pub(super) const fn confirmed(&self) -> u64 {
        self.confirmed.0
    }

    /// Number after the last record here.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Appends a packet. Returns the position behind it; `None` if too many wait for a full disk.
    pub(super) fn store(
        &mut self,
        (first, end): (u64, u64),
        ahead: i64,
        packet: &[u8],
    ) -> Option<Position> {
        let numbers = [ahead.to_le_bytes(), first.to_le_bytes(), end.to_le_bytes()];
        let position = self.writer.append(&[numbers.as_flattened(), packet]).ok()?;
        self.end = end;
        Some(position)
    }

    /// Writes what was appended to files.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let written = self.writer.write();
        // Not synced: see the module.
        self.writer.synced(self.writer.written());
        written
    }

    /// Returns the first packet with records from the number `from` on.
    pub(super) fn next(&mut self, from: u64) -> io::Result<Option<&DiskPacket>> {
        if self.before > from {
            self.rewind();
        }
        while self.peeked.as_ref().is_none_or(|packet| packet.end <= from) {
            let Some((_, entry)) = self.reader.read_at()? else { return Ok(None) };
            let packet = parse_entry(entry);
            let position = self.reader.position();
            let Some(packet) = packet else { continue };
            self.end = self.end.max(packet.end);
            if packet.end <= self.confirmed.0 && self.marks.is_empty() {
                self.confirmed.1 = self.confirmed.1.max(position);
            } else {
                self.marks.push_back((packet.end, position));
            }
            self.before = self.peeked.replace(packet).map_or(0, |before| before.end);
        }
        Ok(self.peeked.as_ref())
    }

    /// Reads again from the first unconfirmed packet on.
    fn rewind(&mut self) {
        self.reader = JournalReader::new(self.disk.clone(), self.confirmed.1);
        (self.before, self.peeked) = (0, None);
        self.marks.clear();
    }

    /// Forgets all records below `upto`. `position` lies behind such a packet, if one is known.
    pub(super) fn confirm(&mut self, upto: u64, position: Option<Position>) {
        let mut behind = self.confirmed.1.max(position.unwrap_or_default());
        while let Some(&(end, position)) = self.marks.front()
            && end <= upto
        {
            behind = behind.max(position);
            self.marks.pop_front();
        }
        self.confirmed = (self.confirmed.0.max(upto), behind);
    }

    /// Removes what is confirmed, and saves how far that is.
    pub(super) fn tidy(&mut self) -> io::Result<()> {
        self.writer.remove_before(self.confirmed.1)?;
        if self.saved < self.confirmed.0 {
            let new = self.path.join("confirmed.new");
            fs::write(&new, format!("{}\n", self.confirmed.0))?;
            fs::rename(new, self.path.join("confirmed"))?;
            self.saved = self.confirmed.0;
        }
        Ok(())
    }

    /// Removes the folder.
    pub(super) fn remove(self) -> io::Result<()> {
        fs::remove_dir_all(&self.path)
    }
}

/// Makes the folder of all runs.
pub(super) fn make_folder(spool: &Path) -> io::Result<()> {
    Folder::open(spool).map(drop)
}

fn parse_entry(entry: &[u8]) -> Option<DiskPacket> {
    let (numbers, bytes) = entry.split_at_checked(ENTRY)?;
    let ([ahead, first, end], []) = numbers.as_chunks::<8>() else { return None };
    let [first, end] = [first, end].map(|bytes| u64::from_le_bytes(*bytes));
    let is_packet = Packet::parse(bytes)
        .is_ok_and(|it| it.first == first && it.first + u64::from(it.count()) == end);
    let bytes = bytes.to_vec();
    is_packet.then(|| DiskPacket { first, end, ahead: i64::from_le_bytes(*ahead), bytes })
}

fn folder_name(SenderOrigin { id, start }: SenderOrigin, first: u64) -> String {
    format!("{:020}-{id:016x}-{first:020}", start.as_micros())
}

fn parse_name(name: &str) -> Option<(SenderOrigin, u64)> {
    let mut words = name.split('-');
    let (start, id, first) = (words.next()?, words.next()?, words.next()?);
    let start = Timestamp::from_micros(start.parse().ok()?);
    let origin = SenderOrigin { id: u64::from_str_radix(id, 16).ok()?, start };
    let first = first.parse().ok()?;
    (folder_name(origin, first) == name).then_some((origin, first))
}

/// The clock of an earlier run; it goes on if the machine has not started again since.
fn earlier_clock(path: &Path, origin: SenderOrigin) -> RunClock {
    let text = fs::read_to_string(path.join("boot")).unwrap_or_default();
    let boot = text.trim().split_once(' ').filter(|(id, _)| *id == boot_id());
    RunClock::earlier(origin.start, boot.and_then(|(_, boot)| boot.parse().ok()))
}

/// The random name of the machine's last start.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn lock(file: File) -> io::Result<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error.into())
}
