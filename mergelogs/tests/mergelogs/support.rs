//! A folder to run the program in, and lines to feed it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, process};

/// A folder of its own, gone at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("mergelogs-{}-{number}", process::id()));
        fs::create_dir_all(&path).expect("a temporary folder can be made");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        self.write_bytes(name, text.as_bytes());
    }

    pub(crate) fn write_bytes(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("a temporary file can be written");
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).expect("the file is there")
    }

    /// What is in the folder, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("the folder is there");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Waits until the folder's contents satisfy, with a deadline.
    pub(crate) fn wait_for(&self, satisfied: impl Fn(&[String]) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !satisfied(&self.names()) {
            assert!(Instant::now() < deadline, "still {:?}", self.names());
            std::thread::yield_now();
        }
    }

    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mergelogs"));
        command.current_dir(&self.0).args(arguments.split_whitespace()).stdin(Stdio::null());
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
        // A program that does not want it closes the pipe.
        drop(stdin.write_all(input));
        drop(stdin);
        Run::of(child.wait_with_output().expect("it ends"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
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
