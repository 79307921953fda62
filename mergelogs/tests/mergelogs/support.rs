//! A folder to run the program in, and lines to feed it.

use std::io::Write as _;
use std::ops::Deref;
use std::process::{Command, Output, Stdio};

use pen_testing::{TempFolder, wait_until};

/// A temporary folder in which `mergelogs` runs.
pub(crate) struct MergeFolder(TempFolder);

impl Deref for MergeFolder {
    type Target = TempFolder;

    fn deref(&self) -> &TempFolder {
        &self.0
    }
}

impl MergeFolder {
    pub(crate) fn new() -> Self {
        Self(TempFolder::new())
    }

    /// Waits until the names of the folder's entries satisfy a condition.
    pub(crate) fn wait_for(&self, satisfied: impl Fn(&[String]) -> bool) {
        wait_until("the folder holds the files", || satisfied(&self.names()));
    }

    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mergelogs"));
        command.current_dir(self.path()).args(arguments.split_whitespace()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &str) -> Run {
        self.run_with(arguments, |_| {})
    }

    pub(crate) fn run_with(&self, arguments: &str, change: impl FnOnce(&mut Command)) -> Run {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        change(&mut command);
        let child = command.spawn().expect("the program is built");
        Run::of(child.wait_with_output().expect("it ends"))
    }

    /// Runs it with something on standard input.
    pub(crate) fn run_on(&self, arguments: &str, input: &[u8]) -> Run {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program is built");
        let mut stdin = child.stdin.take().expect("it is piped");
        let _ = stdin.write_all(input); // the program may close the pipe
        drop(stdin);
        Run::of(child.wait_with_output().expect("it ends"))
    }
}

/// How a run ended.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            bytes: output.stdout,
        }
    }

    /// Whether everything was read and written, whether or not the logs fit each other.
    pub(crate) fn wrote_all(&self) -> bool {
        matches!(self.code, Some(0 | 3))
    }

    /// The first word of each line.
    pub(crate) fn clients(&self) -> Vec<String> {
        let word = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        self.out.lines().map(word).collect()
    }

    /// The first two words of each line's request.
    pub(crate) fn requests(&self) -> Vec<String> {
        let request = |line: &str| {
            let request = line.split('"').nth(1).unwrap_or_default();
            request.split(' ').take(2).collect::<Vec<_>>().join(" ")
        };
        self.out.lines().map(request).collect()
    }
}

/// A common log line.
pub(crate) fn line(client: &str, time: i64, request: &str) -> String {
    format!("{client} - - [{}] \"{request}\" 200 5\n", stamp(time))
}

/// A line of a mapping log.
pub(crate) fn mapping(client: &str, time: i64, server: &str, request: &str) -> String {
    format!("{client} {time} {server} {request}\n")
}

/// In November 2026, which is all the tests need.
fn stamp(time: i64) -> String {
    const NOVEMBER: i64 = 1_793_491_200;
    let seconds = time - NOVEMBER;
    format!(
        "{:02}/Nov/2026:{:02}:{:02}:{:02} +0000",
        seconds / 86_400 + 1,
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Compresses by a file name's ending; the empty one does not.
pub(crate) fn compress(kind: &str, bytes: &[u8]) -> Vec<u8> {
    let done = match kind {
        "gz" => {
            let level = flate2::Compression::default();
            let mut sink = flate2::write::GzEncoder::new(Vec::new(), level);
            sink.write_all(bytes).and_then(|()| sink.finish())
        }
        "bz2" => {
            let mut sink = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
            sink.write_all(bytes).and_then(|()| sink.finish())
        }
        "xz" => {
            let mut sink = liblzma::write::XzEncoder::new(Vec::new(), 6);
            sink.write_all(bytes).and_then(|()| sink.finish())
        }
        "zst" => zstd::encode_all(bytes, 0),
        _ => Ok(bytes.to_vec()),
    };
    done.expect("memory does not fail")
}
