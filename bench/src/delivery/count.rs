//! What came of numbered lines.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use crate::{ActionError, Doing as _};

/// The numbers of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Lines written.
    pub sent: u64,
    /// Lines that are not in the merged log.
    pub lost: u64,
    /// Surplus copies of lines.
    pub doubled: u64,
    /// Lost lines that no counter and no message of the programs tells.
    pub silent: u64,
}

/// How often each number is in some files.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    times: Vec<u32>,
    /// Lines without a number: torn ones.
    pub(crate) torn: u64,
}

impl Numbers {
    /// Each of the first numbers once.
    pub(crate) fn first(count: u64) -> Self {
        Self { times: vec![1; usize::try_from(count).unwrap_or(0)], torn: 0 }
    }

    /// Reads files.
    pub(crate) fn read(paths: &[PathBuf]) -> Result<Self, ActionError> {
        let mut numbers = Self::default();
        for path in paths {
            let action = || format!("read {}", path.display());
            for line in BufReader::new(File::open(path).doing(action())?).split(b'\n') {
                numbers.add(number_of(&line.doing(action())?));
            }
        }
        Ok(numbers)
    }

    fn add(&mut self, number: Option<usize>) {
        // No test sends as many.
        match number.filter(|&number| number < 1 << 28) {
            Some(number) => {
                if number >= self.times.len() {
                    self.times.resize(number + 1, 0);
                }
                self.times[number] += 1;
            }
            None => self.torn += 1,
        }
    }

    /// How many lines there are.
    pub(crate) fn total(&self) -> u64 {
        self.times.iter().map(|&times| u64::from(times)).sum()
    }

    /// How many lines of these are not in `other`.
    pub(crate) fn missing_in(&self, other: &Self) -> u64 {
        let others = other.times.iter().chain(std::iter::repeat(&0));
        self.times
            .iter()
            .zip(others)
            .map(|(own, other)| u64::from(own.saturating_sub(*other)))
            .sum()
    }

    /// Compares what was sent with a merged log. `told` are the losses that the programs tell.
    pub(crate) fn compared(&self, merged: &Self, told: u64) -> DeliveryCounts {
        let lost = self.missing_in(merged);
        let (sent, doubled, silent) =
            (self.total(), merged.missing_in(self), lost.saturating_sub(told));
        DeliveryCounts { sent, lost, doubled, silent }
    }
}

/// The number in the address of a line.
fn number_of(line: &[u8]) -> Option<usize> {
    let at = memchr::memmem::find(line, b"GET /")? + 5;
    let rest = line.get(at..)?;
    let digits = rest.get(..memchr::memchr(b' ', rest)?)?;
    // A line that was cut in its middle has no end.
    let is_whole = line.ends_with(b"\"") || line.last().is_some_and(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|_| is_whole)
}

/// The files in a folder whose names begin so, but no packed ones.
pub(crate) fn files(folder: &Path, prefix: &str) -> Result<Vec<PathBuf>, ActionError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).doing(format_args!("list {}", folder.display()))? {
        let name = entry.doing("list a folder")?.file_name();
        let name = name.to_string_lossy();
        let is_packed = Path::new(name.as_ref()).extension().is_some_and(|it| it == "gz");
        if name.starts_with(prefix) && !is_packed {
            paths.push(folder.join(name.as_ref()));
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::super::writer::line;
    use super::*;
    use crate::stage::TempFolder;

    #[test]
    fn lost_and_doubled_lines_are_counted_and_torn_ones_found() {
        let folder = TempFolder::new();
        let text: String = [0, 1, 1, 4, 1, 3].map(line).concat();
        let merged = vec![folder.write("merged.log", &text)];
        let counts = |told| Numbers::first(6).compared(&Numbers::read(&merged).unwrap(), told);
        let expected = DeliveryCounts { sent: 6, lost: 2, doubled: 2, silent: 2 };
        assert_eq!(counts(0), expected);
        assert_eq!(counts(1).silent, 1);
        assert_eq!(counts(5).silent, 0);
        folder.write("merged.log", text.as_bytes().split_last_chunk::<20>().unwrap().0);
        let cut = Numbers::read(&merged).unwrap();
        assert_eq!((cut.torn, Numbers::first(6).compared(&cut, 0).lost), (1, 3));
    }
}
