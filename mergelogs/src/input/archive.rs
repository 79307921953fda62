//! Bytes from plain or compressed files, told apart by their first bytes and not by their names.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use crate::config::InputOrigin;
use crate::input::hosts::HostLinesReader;
use crate::input::members::ArchiveMembers;

/// The compression of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Plain,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl Compression {
    fn of(magic: &[u8]) -> Self {
        match magic {
            [0x1F, 0x8B, ..] => Self::Gzip,
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, ..] => Self::Bzip2,
            [0xFD, b'7', b'z', b'X', b'Z', 0x00, ..] => Self::Xz,
            // A frame, or one of the skippable frames that may come first.
            [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }
}

/// An opened input: decompressed bytes.
pub(crate) struct Archive {
    pub(crate) compression: Compression,
    pub(crate) bytes: Box<dyn Read + Send>,
}

/// Length of the longest magic number.
const MAGIC: usize = 6;

/// Opens an input and reads about `block` bytes at once. The compressed bytes read
/// are added to `progress`.
pub(crate) fn open(
    origin: &InputOrigin,
    block: usize,
    progress: Option<&Arc<AtomicU64>>,
) -> io::Result<Archive> {
    match origin {
        InputOrigin::Stdin => unpack(counted(io::stdin(), progress), block),
        InputOrigin::File(path) => {
            let file = File::open(path)?;
            if file.metadata()?.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            unpack(counted(file, progress), block)
        }
        InputOrigin::HostLines(of) => {
            let archive = open(&InputOrigin::File(of.path.clone()), block, progress)?;
            let bytes = HostLinesReader::new(archive.bytes, Arc::clone(of), block / 4);
            Ok(Archive { bytes: Box::new(bytes), ..archive })
        }
    }
}

/// Returns whether the input is compressed; an input that cannot be read is not.
pub(crate) fn is_packed(origin: &InputOrigin) -> bool {
    open(origin, MAGIC, None).is_ok_and(|archive| archive.compression != Compression::Plain)
}

/// Returns whether the input can be read a second time with the same result.
pub(crate) fn is_repeatable(origin: &InputOrigin) -> bool {
    match origin {
        InputOrigin::Stdin => false,
        InputOrigin::HostLines(_) => true,
        InputOrigin::File(path) => path.metadata().map_or(true, |meta| {
            let kind = meta.file_type();
            !(kind.is_fifo() || kind.is_char_device() || kind.is_socket())
        }),
    }
}

/// Returns the size of the input in bytes; `None` if unknown.
pub(crate) fn size(origin: &InputOrigin) -> Option<u64> {
    match origin {
        InputOrigin::Stdin => None,
        InputOrigin::HostLines(of) => size(&InputOrigin::File(of.path.clone())),
        InputOrigin::File(path) => {
            path.metadata().ok().filter(std::fs::Metadata::is_file).map(|m| m.len())
        }
    }
}

fn counted<R: Read + Send + 'static>(
    inner: R,
    progress: Option<&Arc<AtomicU64>>,
) -> Box<dyn Read + Send> {
    match progress {
        Some(progress) => Box::new(CountedReader { inner, progress: Arc::clone(progress) }),
        None => Box::new(inner),
    }
}

fn unpack(mut raw: Box<dyn Read + Send>, block: usize) -> io::Result<Archive> {
    let mut magic = Vec::with_capacity(MAGIC);
    raw.by_ref().take(MAGIC as u64).read_to_end(&mut magic)?;
    let compression = Compression::of(&magic);
    let whole = Cursor::new(magic).chain(raw);
    let blocks = |whole| BufReader::with_capacity(block / 4, whole);
    let bytes: Box<dyn Read + Send> = match compression {
        Compression::Plain => Box::new(whole),
        Compression::Gzip => Box::new(ArchiveMembers::<GzDecoder<_>>::new(blocks(whole))?),
        Compression::Bzip2 => Box::new(ArchiveMembers::<BzDecoder<_>>::new(blocks(whole))?),
        Compression::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(blocks(whole))),
        Compression::Zstd => {
            Box::new(ArchiveMembers::<ZstdDecoder<'static, _>>::new(blocks(whole))?)
        }
    };
    Ok(Archive { compression, bytes })
}

struct CountedReader<R> {
    inner: R,
    progress: Arc<AtomicU64>,
}

impl<R: Read> Read for CountedReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.progress.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_is_known_by_the_first_bytes() {
        for (magic, compression) in [
            (&b"\x1F\x8B\x08\x00\x00\x00"[..], Compression::Gzip),
            (b"BZh91AY&SY", Compression::Bzip2),
            (b"BZh9 is a line", Compression::Plain),
            (b"\xFD7zXZ\x00", Compression::Xz),
            (b"\x28\xB5\x2F\xFD\x04\x00", Compression::Zstd),
            (b"\x50\x2A\x4D\x18\x04\x00", Compression::Zstd),
            (b"127.0.", Compression::Plain),
            (b"", Compression::Plain),
            (b"\x1F", Compression::Plain),
        ] {
            assert_eq!(Compression::of(magic), compression, "{}", magic.escape_ascii());
        }
    }
}
