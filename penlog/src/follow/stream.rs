//! The name of a file's stream: the same in each run of penlog, and different for different content.
//!
//! Device and inode are not enough: new files get used inodes, and a truncated file keeps the old inode. So the first bytes of
//! the file belong to the name, up to the end of the first line without a leading `#`: W3C logs begin with equal comments.
//! Lines are sent only once these bytes are complete.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use memchr::memchr;
use pen_records::shipment::StreamId;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::content::LogContent;

/// File with the host's identity.
const MACHINE_ID: &str = "/etc/machine-id";

/// A name of this host, unique in the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostKey(pub(super) Vec<u8>);

impl HostKey {
    /// Returns the system's name of the host, the name in the state file, or a random name, whichever comes first.
    pub(super) fn new(earlier: Option<Self>, random: u128) -> Self {
        Self::of_system(Path::new(MACHINE_ID))
            .or(earlier)
            .unwrap_or_else(|| Self(format!("{random:032x}").into_bytes()))
    }

    fn of_system(path: &Path) -> Option<Self> {
        let text = std::fs::read(path).ok()?.trim_ascii().to_vec();
        let is_name = text.len() == 32 && text.iter().all(u8::is_ascii_hexdigit);
        is_name.then_some(Self(text))
    }
}

/// The name of a file's stream, and a hash of the bytes at its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamName {
    pub(super) id: StreamId,
    pub(super) head: u64,
}

/// The first bytes of a file, which name the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileHead(Vec<u8>);

impl FileHead {
    /// The most bytes of a head.
    pub(super) const MOST: usize = 1 << 10;

    /// Reads the head of a log; returns `None` while the first line is not whole.
    pub(super) fn of(log: &LogContent) -> io::Result<Option<Self>> {
        let mut bytes = log.first(Self::MOST)?;
        let Some(len) = complete(&bytes) else { return Ok(None) };
        bytes.truncate(len);
        Ok(Some(Self(bytes)))
    }

    /// Reads the head of a log with an unfinished first line.
    pub(super) fn of_rest(log: &LogContent) -> io::Result<Self> {
        log.first(Self::MOST).map(Self)
    }

    /// Whether the log begins with the head.
    pub(super) fn is_of(&self, log: &LogContent) -> io::Result<bool> {
        Ok(log.first(self.0.len())? == self.0)
    }

    /// Returns the name of the stream. After a truncation, a file with the same head needs another `salt`: the bytes behind the
    /// head differ.
    pub(super) fn name(&self, host: &HostKey, meta: &Metadata, salt: u64) -> StreamName {
        // A restored file system has another device number; the time of birth tells files apart as well.
        let birth =
            meta.created().ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let birth =
            birth.map_or_else(|| u128::from(meta.dev()), |birth| birth.as_nanos() | 1 << 127);
        let numbers = [u128::from(meta.ino()), birth, u128::from(salt), host.0.len() as u128];
        let mut text = numbers.map(u128::to_le_bytes).concat();
        text.extend_from_slice(&host.0);
        text.extend_from_slice(&self.0);
        StreamName { id: StreamId(xxh3_128(&text).to_le_bytes()), head: self.hash() }
    }

    /// Returns a hash of the head.
    pub(super) fn hash(&self) -> u64 {
        xxh3_64(&self.0)
    }
}

/// Returns the length of the head in the first bytes of a file; `None` while incomplete.
fn complete(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(end) = memchr(b'\n', &bytes[at..]) {
        let is_comment = bytes[at] == b'#';
        at += end + 1;
        if !is_comment {
            return Some(at);
        }
    }
    (bytes.len() >= FileHead::MOST).then_some(FileHead::MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_the_first_line_that_is_no_comment() {
        let long = vec![b'x'; FileHead::MOST];
        for (bytes, len) in [
            (&b""[..], None),
            (b"one", None),
            (b"one\n", Some(4)),
            (b"\n", Some(1)),
            (b"one\ntwo\n", Some(4)),
            (b"#Fields: a b\n", None),
            (b"#Fields: a b\n#Date\none", None),
            (b"#Fields: a b\n#Date\none\ntwo", Some(23)),
            (&long[..FileHead::MOST - 1], None),
            (&long, Some(FileHead::MOST)),
        ] {
            assert_eq!(complete(bytes), len, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn the_name_stays_while_the_file_grows_and_is_another_for_other_content() {
        let folder = pen_testing::TempFolder::new();
        let path = folder.write("access.log", "one\ntwo\n");
        let host = HostKey(b"host".to_vec());
        let name = |host: &HostKey, salt| {
            let file = LogContent::open(&path).unwrap();
            let head = FileHead::of(&file).unwrap().expect("it is complete");
            head.name(host, &file.metadata().unwrap(), salt)
        };
        let first = name(&host, 0);
        folder.append("access.log", "three\n");
        assert_eq!(name(&host, 0), first);
        assert_ne!(name(&HostKey(b"other".to_vec()), 0).id, first.id);
        assert_ne!(name(&host, 1).id, first.id);
        folder.write("access.log", "two\n");
        let other = name(&host, 0);
        assert!(other.id != first.id && other.head != first.head);
        let copy = folder.write("copy.log", "one\n");
        let copy = FileHead::of(&LogContent::open(&copy).unwrap()).unwrap().unwrap();
        assert_eq!(copy.hash(), first.head);
    }

    #[test]
    fn a_host_is_known_by_its_own_name_or_by_that_of_an_earlier_run() {
        let folder = pen_testing::TempFolder::new();
        let id = "0123456789abcdef0123456789abcdef";
        for (text, is_name) in [(id, true), ("uninitialized\n", false), ("", false)] {
            let found = HostKey::of_system(&folder.write("machine-id", text));
            assert_eq!(found.is_some(), is_name, "{text}");
        }
        assert_eq!(HostKey::of_system(&folder.join("none")), None);
    }
}
