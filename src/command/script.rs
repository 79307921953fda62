//! Files of commands, for `-F` and `include`. A file is parsed completely before its first command is carried
//! out, so that a file with an error changes nothing.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::control_command::ControlCommand;
use super::error::{CommandError, MAX_LINE};

/// The limit of nested `include` commands.
const MAX_DEPTH: usize = 16;
/// The limit of files read in all. Two files that include each other twice would be many.
const MAX_FILES: usize = 1_000;
/// The limit of reported errors.
const MAX_MISTAKES: usize = 20;

/// A command of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocatedCommand {
    /// The position of the command.
    pub place: ScriptPosition,
    /// The command. An `include` is replaced by the commands of the included file.
    pub command: ControlCommand,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptPosition {
    /// The path of the file.
    pub file: Rc<Path>,
    /// The number of the line, from 1.
    pub line: usize,
}

impl fmt::Display for ScriptPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// An error in a file of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptError {
    /// A file cannot be read: the position of the `include`, the path and the reason.
    Unreadable(Option<ScriptPosition>, PathBuf, String),
    /// A line that is not a command.
    Line(ScriptPosition, CommandError),
    /// A line longer than [`MAX_LINE`].
    LongLine(ScriptPosition),
    /// Too many nested `include` commands, or too many files.
    Depth(ScriptPosition),
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(None, path, why) => write!(f, "cannot read {}: {why}", path.display()),
            Self::Unreadable(Some(place), path, why) => {
                write!(f, "{place}: cannot read {}: {why}", path.display())
            }
            Self::Line(place, error) => write!(f, "{place}: {error}"),
            Self::LongLine(place) => {
                write!(f, "{place}: expected at most {MAX_LINE} bytes in a line")
            }
            Self::Depth(place) => write!(
                f,
                "{place}: expected at most {MAX_DEPTH} files that include one another, and {MAX_FILES} in all"
            ),
        }
    }
}

impl std::error::Error for ScriptError {}

/// Parses a file and the files that it includes. `open` reads a file.
///
/// # Errors
/// The errors of all files, up to a limit.
pub fn read(
    path: &Path,
    open: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Vec<LocatedCommand>, Vec<ScriptError>> {
    let mut reader = ScriptReader { open, commands: Vec::new(), mistakes: Vec::new(), files: 0 };
    reader.file(path, None, 0);
    if reader.mistakes.is_empty() { Ok(reader.commands) } else { Err(reader.mistakes) }
}

struct ScriptReader<'a> {
    open: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
    commands: Vec<LocatedCommand>,
    mistakes: Vec<ScriptError>,
    files: usize,
}

impl ScriptReader<'_> {
    fn file(&mut self, path: &Path, from: Option<ScriptPosition>, depth: usize) {
        self.files += 1;
        match (from, (self.open)(path)) {
            (Some(place), _) if depth >= MAX_DEPTH || self.files > MAX_FILES => {
                self.mistakes.push(ScriptError::Depth(place));
            }
            (_, Ok(text)) => self.lines(path, &text, depth),
            (from, Err(error)) => {
                let why = error.to_string();
                self.mistakes.push(ScriptError::Unreadable(from, path.to_owned(), why));
            }
        }
    }

    fn lines(&mut self, path: &Path, text: &[u8], depth: usize) {
        let file: Rc<Path> = path.into();
        for (at, line) in text.split(|&byte| byte == b'\n').enumerate() {
            if self.mistakes.len() >= MAX_MISTAKES || self.files > MAX_FILES {
                return;
            }
            let place = ScriptPosition { file: Rc::clone(&file), line: at + 1 };
            if line.len() > MAX_LINE {
                self.mistakes.push(ScriptError::LongLine(place));
                continue;
            }
            match ControlCommand::parse(line) {
                Ok(None) => {}
                Ok(Some(ControlCommand::Include(path))) => self.file(&path, Some(place), depth + 1),
                Ok(Some(command)) => self.commands.push(LocatedCommand { place, command }),
                Err(error) => self.mistakes.push(ScriptError::Line(place, error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> io::Result<Vec<u8>> {
        let text: &[u8] = match path.to_str() {
            Some("main") => b"# all\nhash\ninclude more\n\nno hash",
            Some("more") => b"weight\r\n",
            Some("bad") => b"hash\nserver x\nnonsense 1\ninclude gone\n",
            Some("loop") => b"include loop\ninclude loop\n",
            Some("long") => &[b'x'; MAX_LINE + 1],
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(text.to_vec())
    }

    fn mistakes(path: &str) -> Vec<String> {
        let mistakes = read(Path::new(path), &open).expect_err(path);
        mistakes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn included_commands_stand_in_their_place() {
        let commands = read(Path::new("main"), &open).unwrap();
        let lines: Vec<_> =
            commands.iter().map(|it| format!("{} {}", it.place, it.command)).collect();
        assert_eq!(lines, ["main:2 hash", "more:1 weight", "main:5 no hash"]);
    }

    #[test]
    fn each_mistake_is_told_with_its_line() {
        assert_eq!(
            mistakes("bad"),
            [
                "bad:2: server: expected the number of a server, from 0 to 9999",
                "bad:3: unknown command 'nonsense': see 'help'",
                "bad:4: cannot read gone: entity not found",
            ]
        );
        assert_eq!(mistakes("none"), ["cannot read none: entity not found"]);
        assert_eq!(mistakes("long"), ["long:1: expected at most 4095 bytes in a line"]);
    }

    #[test]
    fn files_that_include_themselves_come_to_an_end() {
        let mistakes = mistakes("loop");
        assert!(mistakes.len() <= MAX_MISTAKES, "{}", mistakes.len());
        assert!(mistakes[0].starts_with("loop:1: expected at most 16 files"), "{}", mistakes[0]);
    }
}
