//! Inflating alone: what no program that reads gzipped logs can be faster than.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use flate2::bufread::MultiGzDecoder;

use crate::{ActionError, Doing};

/// Inflates every file and throws it away, on as many threads as there are cores.
pub(super) fn all(files: &[OsString]) -> Result<(), ActionError> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut largest_first: Vec<_> =
        files.iter().map(Path::new).map(|path| (size(path), path)).collect();
    largest_first.sort_unstable();
    let queue = Mutex::new(largest_first);
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    while let Some((_, path)) = next() {
                        inflate(path)?;
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err(ActionError::new("a thread that inflates panicked")))
        })
    })
}

fn inflate(path: &Path) -> Result<(), ActionError> {
    let file = File::open(path).doing(format_args!("open {}", path.display()))?;
    let mut decoder = MultiGzDecoder::new(BufReader::with_capacity(1 << 17, file));
    let mut buf = vec![0; 1 << 17];
    while decoder.read(&mut buf).doing(format_args!("inflate {}", path.display()))? > 0 {}
    Ok(())
}

/// A file's size; 0 for what is not there.
fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}
