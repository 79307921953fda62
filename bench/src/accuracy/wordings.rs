//! What the servers of a row log, and how our programs are told of it.

use crate::stage::{AlikeLines, LogSpelling, TruthText};

/// One way to log that is joined by itself.
#[derive(Clone, Copy, Debug)]
pub struct Wording {
    /// What the table and the files are called.
    pub name: &'static str,
    /// The files of a server.
    pub files: &'static [LogFile],
    /// Options of our programs.
    pub args: &'static [&'static str],
    /// What the lines say.
    pub text: TruthText,
}

/// A file of a server.
#[derive(Clone, Copy, Debug)]
pub struct LogFile {
    /// The format.
    pub spelling: LogSpelling,
    /// The virtual host whose lines are in it; `None` if all are.
    pub host: Option<u8>,
}

/// The format of the lines that end with the peer's port, whichever server wrote them.
const WITH_PORT: &str = r#"%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i" %{remote}p"#;

/// With the peer's port, combined and common.
pub(super) const PLAIN: &[Wording] = &[
    whole("port", &[LogFile::all(LogSpelling::WithPort)], TruthText::WithPort)
        .told(&["--format", WITH_PORT]),
    whole("combined", &[LogFile::all(LogSpelling::Combined)], TruthText::Combined),
    whole("common", &[LogFile::all(LogSpelling::Common)], TruthText::Common),
];

/// JSON with the peer's port and without, a file for each virtual host, and two formats at one server.
pub(super) const VARIED: &[Wording] = &[
    whole("json-port", &[LogFile::all(LogSpelling::JsonWithPort)], TruthText::WithPort),
    whole("json", &[LogFile::all(LogSpelling::Json)], TruthText::Combined),
    whole(
        "vhosts",
        &[LogFile::of(0, LogSpelling::Combined), LogFile::of(1, LogSpelling::Combined)],
        TruthText::Combined,
    ),
    whole(
        "two-formats",
        &[LogFile::of(0, LogSpelling::Combined), LogFile::of(1, LogSpelling::Common)],
        TruthText::ByHost,
    ),
];

const fn whole(name: &'static str, files: &'static [LogFile], text: TruthText) -> Wording {
    Wording { name, files, args: &[], text }
}

impl Wording {
    /// How lines that are alike are told apart: those of two files have no order, unless their text tells the file.
    pub(super) const fn alike(&self) -> AlikeLines {
        let has_order = self.files.len() == 1 || matches!(self.text, TruthText::ByHost);
        if has_order { AlikeLines::InOrder } else { AlikeLines::AsSet }
    }

    const fn told(self, args: &'static [&'static str]) -> Self {
        Self { args, ..self }
    }
}

impl LogFile {
    const fn all(spelling: LogSpelling) -> Self {
        Self { spelling, host: None }
    }

    const fn of(host: u8, spelling: LogSpelling) -> Self {
        Self { spelling, host: Some(host) }
    }
}
