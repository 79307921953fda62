//! Opens inputs: plain or compressed files, and standard input.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pen_archive::{Archive, Compression, unpack};

use crate::config::InputOrigin;
use crate::input::hosts::HostLinesReader;

/// Enough bytes to know the compression.
const LOOK: usize = 64;

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
    open(origin, LOOK, None).is_ok_and(|archive| archive.compression != Compression::Plain)
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
