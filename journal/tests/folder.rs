//! A journal in a folder of a real file system.

use std::os::unix::fs::PermissionsExt as _;

use pen_journal::writer::JournalLimits;
use pen_journal::{Folder, JournalReader, JournalWriter, Position};
use pen_testing::TempFolder;

#[test]
fn entries_are_there_after_a_new_start_and_only_their_owner_reads_them() {
    let folder = TempFolder::new();
    let path = folder.join("journal");
    let limits = JournalLimits { segment: 1_000, ..JournalLimits::default() };
    let bodies: Vec<Vec<u8>> = (0..100_u8).map(|number| vec![number; 50]).collect();
    for part in bodies.chunks(30) {
        let disk = Folder::open(&path).expect("it can be created");
        let mut journal = JournalWriter::open(disk, limits).expect("it opens");
        for body in part {
            journal.append(&[body]).expect("there is room");
        }
        journal.flush().expect("the disk works");
        assert_eq!(journal.durable(), journal.end());
    }
    let disk = Folder::open(&path).expect("it is there");
    let mut reader = JournalReader::new(disk, Position(0));
    for body in &bodies {
        assert_eq!(reader.read().expect("the disk reads"), Some(&body[..]));
    }
    assert_eq!(reader.read().expect("the disk reads"), None);
    for entry in std::fs::read_dir(&path).expect("it is there") {
        let mode = entry.expect("it reads").metadata().expect("it reads").permissions().mode();
        assert_eq!(mode & 0o077, 0);
    }
}

#[test]
fn a_file_in_place_of_the_folder_is_refused() {
    let folder = TempFolder::new();
    let file = folder.write("journal", "");
    assert!(Folder::open(&file).is_err());
}
