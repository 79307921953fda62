//! Compressed logs, told apart by their first bytes and not by their names.

mod members;

use std::io::{self, BufReader, Cursor, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use members::ArchiveMembers;

/// Endings of the names of compressed files, as a rotation gives them.
pub const ENDINGS: [&str; 4] = ["gz", "bz2", "xz", "zst"];

/// The compression of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// None.
    Plain,
    /// RFC 1952, of one or more members.
    Gzip,
    /// Of one or more streams.
    Bzip2,
    /// Of one or more streams.
    Xz,
    /// RFC 8878, of one or more frames.
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

    /// Returns the name.
    #[must_use]
    pub const fn name(self) -> &'static str {
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
pub struct Archive {
    /// How the bytes were compressed.
    pub compression: Compression,
    /// The bytes as they were before; an error for damaged ones.
    pub bytes: Box<dyn Read + Send>,
}

/// Length of the longest magic number.
const MAGIC: usize = 6;

/// Unpacks what a reader brings; what is not compressed stays as it is. `block` bytes, about, are read at once.
///
/// # Errors
/// The first bytes cannot be read.
pub fn unpack(mut raw: Box<dyn Read + Send>, block: usize) -> io::Result<Archive> {
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
