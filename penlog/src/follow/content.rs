//! The bytes of a log: those of a file, or those that a packed copy had before.

use std::fs::{File, Metadata};
use std::io::{self, Cursor, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use pen_archive::{ENDINGS, unpack};

use super::stream::FileHead;

/// About so many packed bytes are read at once.
const BLOCK: usize = 256 << 10;

/// An open log.
pub(super) struct LogContent {
    file: File,
    /// `None` for a file that is not packed.
    packed: Option<PackedBytes>,
}

/// The bytes of a packed copy, which does not grow.
struct PackedBytes {
    reader: Box<dyn Read + Send>,
    first: Vec<u8>,
    /// Bytes that were unpacked, and where reading begins: those before are passed over.
    offset: u64,
    wanted: u64,
    /// The number of bytes, once known.
    len: Option<u64>,
}

impl LogContent {
    /// Opens a log. By its name it is a packed copy or not.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file"));
        }
        let packed = is_packed_name(path).then(|| PackedBytes::of(&file)).transpose()?;
        Ok(Self { file, packed })
    }

    /// Returns the file; `None` for a packed copy.
    pub(super) fn plain(&self) -> Option<&File> {
        self.packed.is_none().then_some(&self.file)
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Returns the number of bytes; of a packed copy `u64::MAX` until its end was reached.
    pub(super) fn len(&self) -> io::Result<u64> {
        match &self.packed {
            Some(packed) => Ok(packed.len.unwrap_or(u64::MAX)),
            None => Ok(self.file.metadata()?.len()),
        }
    }

    /// Returns the first `count` bytes, or fewer if there are no more.
    pub(super) fn first(&self, count: usize) -> io::Result<Vec<u8>> {
        match &self.packed {
            Some(packed) => Ok(packed.first[..count.min(packed.first.len())].to_vec()),
            None => bytes_at(&self.file, 0, count),
        }
    }

    /// Lets the next read begin at `offset`. Nothing has been read of a packed copy.
    pub(super) fn begin_at(&mut self, offset: u64) -> io::Result<()> {
        match &mut self.packed {
            Some(packed) => packed.wanted = offset,
            None => drop(self.file.seek(SeekFrom::Start(offset))?),
        }
        Ok(())
    }

    /// Reads on. A damaged copy gives an error once, and then ends.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.packed {
            Some(packed) => packed.read(buf),
            None => self.file.read(buf),
        }
    }
}

impl std::fmt::Debug for LogContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogContent").field("file", &self.file).finish_non_exhaustive()
    }
}

impl PackedBytes {
    fn of(file: &File) -> io::Result<Self> {
        let mut reader = unpack(Box::new(file.try_clone()?), BLOCK)?.bytes;
        let mut first = Vec::new();
        // What is damaged is found again by reading on.
        let outcome = reader.by_ref().take(FileHead::MOST as u64).read_to_end(&mut first);
        if first.is_empty() {
            outcome?;
        }
        let reader = Box::new(Cursor::new(first.clone()).chain(reader));
        Ok(Self { reader, first, offset: 0, wanted: 0, len: None })
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.len.is_none() {
            // What is passed over goes through the same buffer.
            let most = match self.wanted.saturating_sub(self.offset) {
                0 => buf.len(),
                left => usize::try_from(left).unwrap_or(usize::MAX).min(buf.len()),
            };
            let is_wanted = self.offset >= self.wanted;
            match self.reader.read(&mut buf[..most]) {
                Ok(0) if is_wanted => self.len = Some(self.offset),
                Ok(0) => return self.fail("they are fewer than an earlier run read"),
                Ok(len) => {
                    self.offset += len as u64;
                    if is_wanted {
                        return Ok(len);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.fail(&error.to_string()),
            }
        }
        Ok(0)
    }

    fn fail(&mut self, why: &str) -> io::Result<usize> {
        self.len = Some(self.offset.max(self.wanted));
        let text = format!(
            "its bytes behind the first {} cannot be unpacked: {why}; lines behind them are lost",
            self.offset
        );
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }
}

/// Whether a file's name says that it is packed.
pub(super) fn is_packed_name(path: &Path) -> bool {
    path.extension().is_some_and(|end| ENDINGS.iter().any(|known| end == *known))
}

/// Reads so many bytes, or fewer at the end of the file.
pub(super) fn bytes_at(file: &File, start: u64, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    let mut filled = 0;
    while filled < count {
        match file.read_at(&mut bytes[filled..], start + filled as u64) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_copy_is_read_from_anywhere_once() {
        let folder = pen_testing::TempFolder::new();
        // Bytes that are not packed stay as they are.
        let path = folder.write("access.log.1.gz", "one\ntwo\nthree\n");
        for (begin, expected) in [(0, &b"one\ntwo\nthree\n"[..]), (8, b"three\n"), (14, b"")] {
            let mut log = LogContent::open(&path).unwrap();
            assert_eq!((log.len().unwrap(), log.first(5).unwrap()), (u64::MAX, b"one\nt".to_vec()));
            log.begin_at(100).unwrap();
            log.begin_at(begin).unwrap();
            let (mut text, mut buf) = (Vec::new(), [0; 5]);
            loop {
                match log.read(&mut buf).unwrap() {
                    0 => break,
                    len => text.extend_from_slice(&buf[..len]),
                }
            }
            assert_eq!((text.as_slice(), log.len().unwrap()), (expected, 14), "{begin}");
        }
    }

    #[test]
    fn a_packed_copy_that_lacks_bytes_says_so_once_and_ends() {
        let folder = pen_testing::TempFolder::new();
        let path = folder.write("access.log.1.gz", "one\n");
        let mut log = LogContent::open(&path).unwrap();
        log.begin_at(5).unwrap();
        let error = log.read(&mut [0; 9]).unwrap_err().to_string();
        assert!(error.contains("behind the first 4 cannot be unpacked"), "{error}");
        assert_eq!((log.read(&mut [0; 9]).unwrap(), log.len().unwrap()), (0, 5));
    }
}
