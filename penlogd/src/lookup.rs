//! `penlogd explain`: why lines of a log have their clients. Reads the log and the explanations beside it, line by line, so it
//! works on old logs and needs no running penlogd.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use clap::Parser;
use pen_records::rewrite::explanation::{belongs_to, in_words};

/// Limit of lines that are explained for a text that many lines contain.
const ANSWERS: usize = 10;

/// Print why lines of a log of penlogd or mergelogs have their clients, from the explanations (--explain)
/// that were written beside it
#[derive(Debug, Parser)]
#[command(name = "penlogd explain", bin_name = "penlogd explain", version, max_term_width = 100)]
pub struct ExplainArgs {
    /// The log
    #[arg(short = 'l', long, value_name = "FILE")]
    log: PathBuf,
    /// The explanations of that log, written by --explain; with --candidates they contain more
    #[arg(long, value_name = "FILE")]
    explain: PathBuf,
    /// Number of a line, from 1, or a text that the line contains
    line: String,
}

/// Errors of a lookup.
#[derive(Debug)]
pub enum LookupError {
    /// A file cannot be opened or read.
    File(PathBuf, io::Error),
    /// The output cannot be written.
    Output(io::Error),
    /// The explanations end before the log does.
    Short(PathBuf, u64),
    /// An explanation is malformed, or belongs to another line.
    Strange(PathBuf, u64),
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, _) => write!(f, "cannot read {}", path.display()),
            Self::Output(_) => f.write_str("cannot write"),
            Self::Short(path, number) => {
                write!(
                    f,
                    "{} has no line {number}, the log has: they are not of one run",
                    path.display()
                )
            }
            Self::Strange(path, number) => write!(
                f,
                "line {number} of {} is not about that line of the log: expected what --explain wrote beside it",
                path.display()
            ),
        }
    }
}

impl std::error::Error for LookupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(_, error) | Self::Output(error) => Some(error),
            Self::Short(..) | Self::Strange(..) => None,
        }
    }
}

impl ExplainArgs {
    /// Prints the explanations. Returns whether a line was found.
    ///
    /// # Errors
    /// The files cannot be read, or do not belong together.
    pub fn answer(&self, out: &mut impl Write) -> Result<bool, LookupError> {
        let mut log = NumberedLines::open(&self.log)?;
        let mut explanations = NumberedLines::open(&self.explain)?;
        let number: Option<u64> = self.line.parse().ok();
        let (mut count, mut found) = (0_u64, 0_usize);
        while log.next()? {
            count += 1;
            let mut more = explanations.next()?;
            // The explanations of mergelogs begin with a header.
            if more && count == 1 && explanations.line.starts_with(b"#certainty\t") {
                more = explanations.next()?;
            }
            if !more {
                return Err(LookupError::Short(self.explain.clone(), count));
            }
            let is_it = match number {
                Some(number) => number == count,
                None => memchr::memmem::find(&log.line, self.line.as_bytes()).is_some(),
            };
            if !is_it {
                continue;
            }
            found += 1;
            if found <= ANSWERS {
                let columns = String::from_utf8_lossy(&explanations.line);
                let told = in_words(count, &log.line, &columns)
                    .filter(|_| belongs_to(&columns, &log.line));
                let strange = || LookupError::Strange(self.explain.clone(), count);
                out.write_all(told.ok_or_else(strange)?.as_bytes()).map_err(LookupError::Output)?;
            }
            if number.is_some() {
                break;
            }
        }
        if found > ANSWERS {
            let more = found - ANSWERS;
            writeln!(out, "{more} lines more hold that text").map_err(LookupError::Output)?;
        }
        if found == 0 {
            writeln!(out, "no such line: {} has {count}", self.log.display())
                .map_err(LookupError::Output)?;
        }
        Ok(found > 0)
    }
}

/// Lines of a file with their numbers.
struct NumberedLines {
    path: PathBuf,
    file: BufReader<File>,
    line: Vec<u8>,
}

impl NumberedLines {
    fn open(path: &Path) -> Result<Self, LookupError> {
        let file = File::open(path).map_err(|error| LookupError::File(path.to_owned(), error))?;
        Ok(Self { path: path.to_owned(), file: BufReader::new(file), line: Vec::new() })
    }

    /// Reads the next line, without its line feed; returns `false` at the end of the file.
    fn next(&mut self) -> Result<bool, LookupError> {
        self.line.clear();
        let read = self.file.read_until(b'\n', &mut self.line);
        let len = read.map_err(|error| LookupError::File(self.path.clone(), error))?;
        self.line.pop_if(|end| *end == b'\n');
        Ok(len > 0)
    }
}
