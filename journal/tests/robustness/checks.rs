//! What has to hold for a journal whose segment files hold any bytes: shared with `fuzz/`.

use pen_journal::disk::{Disk as _, DiskFile as _};
use pen_journal::entry::{segment_head, write_entry};
use pen_journal::simulation::ForgetfulDisk;
use pen_journal::writer::JournalLimits;
use pen_journal::{JournalReader, JournalWriter, Position};

/// Most segments made from an input.
const SEGMENTS: usize = 5;
/// What is appended behind the made segments.
const NEW: &[u8] = b"new";

/// Makes segment files of `bytes`, reads them, and appends behind them.
///
/// ```text
/// segment = kind: 1  length: 2  *OCTET
/// kind    = base (2 bits: behind the last, small, any, behind the last and a gap)  / 4 a right head  / 8 whole entries
/// ```
pub(crate) fn segments(bytes: &[u8]) {
    let disk = ForgetfulDisk::new(1);
    let (mut rest, mut end, mut total) = (bytes, 0_u64, 0);
    for _ in 0..SEGMENTS {
        let Some((&[kind, low, high], behind)) = rest.split_first_chunk() else { break };
        let len = usize::from(u16::from_le_bytes([low, high])).min(behind.len());
        let (content, behind) = behind.split_at(len);
        rest = behind;
        let number = content.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let base = match kind & 3 {
            0 => end,
            1 => number & 0xFFF,
            2 => number,
            _ => end.saturating_add(number & 0xFFF),
        };
        let mut file = Vec::new();
        if kind & 4 != 0 {
            file.extend_from_slice(&segment_head(Position(base)));
        }
        match kind & 8 != 0 {
            true => content.chunks(7).for_each(|body| write_entry(&[body], &mut file)),
            false => file.extend_from_slice(content),
        }
        end = base.saturating_add((file.len() as u64).saturating_sub(24));
        total += file.len();
        // Two may have the same name.
        if let Ok(mut made) = disk.create(&format!("{base:020}.journal")) {
            let mut left = &file[..];
            while !left.is_empty() {
                let written = made.append(left).expect("the disk works");
                left = &left[written..];
            }
        }
    }
    read(&disk, total);
    append(&disk, total);
}

/// Reads to the end; returns the last body.
fn read(disk: &ForgetfulDisk, total: usize) -> Option<Vec<u8>> {
    let mut reader = JournalReader::new(disk.clone(), Position(0));
    let (mut last, mut count, mut before) = (None, 0, None);
    while let Some((at, body)) = reader.read_at().expect("the disk works") {
        assert!(before < Some(at), "{before:?} {at:?}");
        (before, count, last) = (Some(at), count + 1, Some(body.to_vec()));
        assert!(count <= total, "more entries than bytes");
    }
    for range in reader.damaged() {
        assert!(range.from <= range.to, "{range:?}");
    }
    last
}

/// Whatever is there, a start goes on behind it, or says why not.
fn append(disk: &ForgetfulDisk, total: usize) {
    let limits = JournalLimits { segment: 64, ..JournalLimits::default() };
    let Ok(mut journal) = JournalWriter::open(disk.clone(), limits) else { return };
    if journal.append(&[NEW]).is_err() || journal.flush().is_err() {
        return;
    }
    assert_eq!(journal.durable(), journal.end());
    assert_eq!(read(disk, total + 100).as_deref(), Some(NEW));
}
