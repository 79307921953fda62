//! A journal on a disk that forgets, compared with the list of what was appended.

use pen_journal::disk::{Disk as _, DiskFile as _};
use pen_journal::entry::{segment_head, write_entry};
use pen_journal::simulation::ForgetfulDisk;
use pen_journal::writer::{JournalLimits, TailFull};
use pen_journal::{JournalReader, JournalWriter, Position};

/// Numbers that look random, of a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// The body of an entry: its number, and as many bytes more as the number says.
fn body(number: u64) -> Vec<u8> {
    let more = usize::try_from(number * 7 % 90).expect("below 90");
    [number.to_le_bytes().to_vec(), vec![b'x'; more]].concat()
}

fn read_all(disk: &ForgetfulDisk, from: Position) -> Vec<Vec<u8>> {
    let mut reader = JournalReader::new(disk.clone(), from);
    let mut all = Vec::new();
    while let Some(body) = reader.read().expect("the disk reads") {
        all.push(body.to_vec());
    }
    assert_eq!(reader.damaged(), [], "a torn end is no damage");
    all
}

/// Makes the first segment, of these bytes.
fn make_segment(disk: &ForgetfulDisk, mut bytes: &[u8]) {
    let mut segment = disk.create(&format!("{:020}.journal", 0)).expect("a new file");
    while !bytes.is_empty() {
        let written = segment.append(bytes).expect("the disk works");
        bytes = &bytes[written..];
    }
}

/// One life of a program, up to a power cut or a kill. `entries` are those that a reader has to find; of these, `removed`
/// may be gone.
fn live(disk: &ForgetfulDisk, dice: &mut Dice, entries: &mut Vec<Vec<u8>>, removed: &mut usize) {
    let limits = JournalLimits { segment: 400, tail: 1_000 };
    let mut journal = JournalWriter::open(disk.clone(), limits).expect("it opens after a cut");
    // Whatever was found is durable now.
    let mut positions: Vec<(Position, usize)> = vec![(journal.end(), entries.len())];
    for _ in 0..dice.below(60) {
        match dice.below(10) {
            0..=5 => {
                let new = body(entries.len() as u64);
                match journal.append(&[&new[..3], &new[3..]]) {
                    Ok(position) => {
                        entries.push(new);
                        positions.push((position, entries.len()));
                    }
                    Err(TailFull) => {
                        disk.set_room(u64::MAX);
                        let _ = journal.flush(); // it may fail again
                    }
                }
            }
            6 => drop(journal.write()), // the disk may be full
            7 => drop(journal.flush()), // likewise, or failing
            8 => disk.set_room(dice.below(200)),
            _ => {
                disk.set_room(u64::MAX);
                let durable = journal.durable();
                journal.remove_before(durable).expect("it can remove");
                *removed = (*removed).max(count_before(&positions, durable));
                disk.set_failing(dice.below(4));
            }
        }
    }
    let durable = count_before(&positions, journal.durable());
    let written = count_before(&positions, journal.written());
    let is_cut = dice.below(2) == 0;
    drop(journal);
    disk.set_room(u64::MAX);
    disk.set_failing(0);
    if is_cut {
        disk.cut_power();
    }
    let least = if is_cut { durable } else { written };
    let found = read_all(disk, Position(0));
    let Some(first) = found.first() else {
        assert!(least <= *removed, "{least} are gone");
        return entries.truncate(least);
    };
    let from = u64::from_le_bytes(first[..8].try_into().expect("it has a number"));
    let from = usize::try_from(from).expect("it is small");
    let upto = from + found.len();
    assert!(from <= *removed, "{from} is the first, {removed} may be gone");
    assert!((least..=entries.len()).contains(&upto), "{upto}, at least {least}");
    assert_eq!(found, entries[from..upto]);
    entries.truncate(upto);
}

/// How many entries end at or before a position.
fn count_before(positions: &[(Position, usize)], end: Position) -> usize {
    positions.iter().rev().find(|(position, _)| *position <= end).map_or(0, |(_, count)| *count)
}

#[test]
fn what_is_durable_is_there_once_after_any_power_cut() {
    for seed in 0..10_000 {
        let (disk, mut dice) = (ForgetfulDisk::new(seed), Dice(seed));
        let (mut entries, mut removed) = (Vec::new(), 0);
        for _ in 0..4 {
            live(&disk, &mut dice, &mut entries, &mut removed);
        }
    }
}

#[test]
fn a_damaged_segment_costs_its_entry_and_no_other() {
    let mut more = 0;
    for seed in 0..500 {
        let disk = ForgetfulDisk::new(seed);
        let limits = JournalLimits { segment: 300, tail: 10_000 };
        let mut journal = JournalWriter::open(disk.clone(), limits).expect("it opens");
        let bodies: Vec<Vec<u8>> = (0..30).map(body).collect();
        for body in &bodies {
            journal.append(&[body]).expect("there is room");
            journal.flush().expect("the disk works");
        }
        let mut reader = JournalReader::new(disk.clone(), Position(0));
        assert!(disk.damage());
        let mut found = Vec::new();
        while let Some(body) = reader.read().expect("the disk reads") {
            found.push(body.to_vec());
        }
        let missing = bodies.len() - found.len();
        assert!(found.iter().all(|body| bodies.contains(body)), "seed {seed}");
        // A damaged length may lead behind whole entries; in the last segment it looks like a torn end.
        assert!(missing <= 8, "seed {seed}: {missing} are missing");
        more += usize::from(missing > 1 && !reader.damaged().is_empty());
    }
    assert!(more <= 5, "{more} of 500");
}

#[test]
fn one_damaged_byte_of_the_last_segment_costs_its_entry_and_no_other() {
    let bodies: Vec<Vec<u8>> = (0..8).map(body).collect();
    let mut file = segment_head(Position(0)).to_vec();
    let mut starts = Vec::new();
    for body in &bodies {
        starts.push(file.len());
        write_entry(&[body], &mut file);
    }
    for at in 24..file.len() {
        let disk = ForgetfulDisk::new(1);
        file[at] ^= 0x10;
        make_segment(&disk, &file);
        file[at] ^= 0x10;
        let mut reader = JournalReader::new(disk.clone(), Position(0));
        let mut found = Vec::new();
        while let Some(body) = reader.read().expect("the disk reads") {
            found.push(body.to_vec());
        }
        let damaged = starts.partition_point(|start| *start <= at) - 1;
        let (is_length, is_last) = (at - starts[damaged] < 4, damaged == bodies.len() - 1);
        let mut expected = bodies.clone();
        expected.remove(damaged);
        if is_length || is_last {
            // It looks like a torn end.
            expected.truncate(damaged);
        }
        assert_eq!(found, expected, "byte {at}");
        assert_eq!(reader.damaged().len(), usize::from(!is_length && !is_last), "byte {at}");
    }
}

#[test]
fn what_looks_like_an_entry_in_a_torn_one_is_not_read() {
    let mut forged = Vec::new();
    write_entry(&[b"forged"], &mut forged);
    let disk = ForgetfulDisk::new(1);
    let mut file = segment_head(Position(0)).to_vec();
    write_entry(&[b"first"], &mut file);
    write_entry(&[&[b'x'; 100], &forged, &[b'x'; 100]], &mut file);
    let torn = file.len() - 50;
    make_segment(&disk, &file[..torn]);
    assert_eq!(read_all(&disk, Position(0)), [b"first"]);
}

#[test]
fn a_reader_follows_the_writer_from_segment_to_segment() {
    let disk = ForgetfulDisk::new(1);
    let limits = JournalLimits { segment: 100, tail: 10_000 };
    let mut journal = JournalWriter::open(disk.clone(), limits).expect("it opens");
    let mut reader = JournalReader::new(disk.clone(), Position(0));
    for number in 0..100 {
        assert_eq!(reader.read().expect("the disk reads"), None);
        let position = journal.append(&[&body(number)]).expect("there is room");
        assert_eq!(reader.read().expect("the disk reads"), None, "it is in memory");
        journal.write().expect("the disk works");
        assert_eq!(reader.read().expect("the disk reads"), Some(&body(number)[..]), "{number}");
        assert_eq!(reader.position(), position);
        journal.flush().expect("the disk works");
    }
    let middle = reader.position();
    journal.remove_before(middle).expect("it can remove");
    assert!(journal.start() > Position(0));
    let mut late = JournalReader::new(disk, Position(0));
    assert!(late.read().expect("the disk reads").is_some(), "from the oldest entry on");
}
