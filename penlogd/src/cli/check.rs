//! The option `--check`: the whole command line, without a socket and without a change to any file.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use pen_daemon::arguments::privacy;
use pen_daemon::error::{Exit, chain};
use pen_daemon::folder::folder_of;
use pen_daemon::process::Process;
use pen_daemon::sandbox::has_landlock;
use pen_records::access::review;

use super::{CollectorArgs, CollectorKeys, senders};
use crate::journaling;

impl CollectorArgs {
    /// Returns the text of `--check` and the exit status; `None` without the option.
    #[must_use]
    pub fn check(&self) -> Option<(String, u8)> {
        self.check.then(|| self.report())
    }

    fn report(&self) -> (String, u8) {
        let (mut mistakes, mut remarks) = (Vec::new(), Vec::new());
        match self.senders.settings() {
            Ok(known) => remarks = senders::remarks(&known),
            Err(found) => mistakes = found,
        }
        if let Some(mode) = &self.privacy {
            mistakes.extend(privacy(mode).err().map(|error| chain(&error)));
        }
        match self.keys.read() {
            Ok(keys) => remarks.extend(keys.iter().flat_map(CollectorKeys::remarks)),
            Err(error) => mistakes.push(error),
        }
        let (user, jail) = (self.user.clone(), self.jail.clone());
        let process = Process { user, jail, ..Process::default() };
        let ids = process.ids().map_err(|error| mistakes.push(chain(&error))).ok().flatten();
        mistakes.extend(self.jail.as_deref().and_then(no_folder));
        let inside = |path: &PathBuf| process.before_chroot(path);
        for path in [self.log.as_ref(), self.explain.as_ref()].into_iter().flatten() {
            mistakes.extend(no_place(&inside(path)));
        }
        if let Some(journal) = &self.journal.journal {
            let uid = ids.map_or_else(Uid::effective, |(uid, _)| uid);
            let (journal, size) = (inside(journal), u64::from(self.journal.journal_size) << 20);
            match journaling::look(&journal, uid) {
                Ok(()) => remarks.extend(lack_of_space(&journal, size)),
                Err(why) => {
                    mistakes.push(format!("cannot use the journal {}: {why}", journal.display()));
                }
            }
            for path in [self.log.as_ref(), self.explain.as_ref()].into_iter().flatten() {
                mistakes.extend(in_journal(&inside(path), &journal));
            }
        }
        if !self.no_sandbox && !has_landlock() {
            remarks.push(
                "this kernel has no landlock: files are limited by the user alone".to_owned(),
            );
        }
        mistakes.extend(self.pid_file.as_deref().and_then(no_place));
        let ports = self.port.into_iter().chain(self.listen.iter().map(SocketAddr::port));
        for port in ports.filter(|port| (1..1024).contains(port)) {
            remarks.push(format!("port {port} takes root or CAP_NET_BIND_SERVICE"));
        }
        let is_run = self.port.is_some() || !self.listen.is_empty();
        if !is_run && self.senders.format.is_empty() {
            mistakes.push("expected where to listen: PORT, or --listen ADDR:PORT".to_owned());
        }
        let (review, mut code) = review::check(&self.senders.format);
        let lines = |kind: &str, texts: &[String]| -> String {
            texts.iter().map(|text| format!("{kind}: {text}\n")).collect()
        };
        let mut text = lines("mistake", &mistakes) + &lines("remark", &remarks);
        if !mistakes.is_empty() {
            code = Exit::Misused.code();
        } else if is_run {
            text.push_str("the command line is right\n");
        }
        if !text.is_empty() && !review.is_empty() {
            text.push('\n');
        }
        text.push_str(&review);
        (text, code)
    }
}

/// Returns what to know if the disk of a journal is smaller than the journal may become.
fn lack_of_space(journal: &Path, size: u64) -> Option<String> {
    let free = journaling::free_bytes(journal).filter(|&free| free < size)?;
    Some(format!(
        "the journal {} may take {} MiB, but there are only {} (--journal-size)",
        journal.display(),
        size >> 20,
        free >> 20
    ))
}

/// Returns why a file may not be written if it is in the folder of a journal.
pub(super) fn in_journal(file: &Path, journal: &Path) -> Option<String> {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = real(folder_of(&fs::canonicalize(file).unwrap_or_else(|_| file.to_owned())));
    let (file, shown) = (file.display(), journal.display());
    (folder == real(journal)).then(|| {
        format!("cannot write {file}: it is in the journal {shown}, which holds nothing else")
    })
}

/// Returns why no file can be written at `path`. Nothing is written to find out.
#[must_use]
pub fn no_place(path: &Path) -> Option<String> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            Some(format!("cannot write {}: it is a folder", path.display()))
        }
        Ok(found) if found.permissions().readonly() => {
            Some(format!("cannot write {}: it is read-only", path.display()))
        }
        Ok(_) => None,
        Err(_) => {
            no_folder(folder_of(path)).map(|why| format!("cannot write {}: {why}", path.display()))
        }
    }
}

/// Returns why `path` is no folder.
fn no_folder(path: &Path) -> Option<String> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => None,
        Ok(_) => Some(format!("{} is no folder", path.display())),
        Err(error) => Some(format!("cannot open the folder {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn check(args: &[&str]) -> (String, u8) {
        let args = ["penlogd", "--check"].iter().chain(args);
        CollectorArgs::try_parse_from(args).expect("it parses").check().expect("it is asked for")
    }

    #[test]
    fn each_mistake_has_a_line() {
        let (text, code) = check(&[
            "--format",
            "combind",
            "--format",
            "10.0.0.1=combined",
            "--server",
            "web1:10.0.0.1",
            "--server",
            "10.0.0.1=10.0.0.1",
            "--mapping-format",
            "haproxy",
            "-l",
            "/nonexistent/dir/a.log",
            "--explain",
            "/",
            "-p",
            "/dev/null/pid",
            "-u",
            "no such user",
            "--privacy",
            "key=/nonexistent",
            "10000",
        ]);
        assert_eq!(code, 2, "{text}");
        assert_eq!(text.matches("mistake: ").count(), 9, "{text}");
        for part in ["combind", "web1:10.0.0.1", "/nonexistent/dir", "a folder", "no such user"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("is right"), "{text}");
    }

    #[test]
    fn the_journal_is_looked_at_and_not_made() {
        let folder = pen_testing::TempFolder::new();
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let (log, journal) = (path("log"), path("journal"));
        let (text, code) = check(&["-l", &log, "--journal", &journal, "10000"]);
        assert_eq!(code, 0, "{text}");
        assert!(!folder.join("journal").exists());
        let (text, _) =
            check(&["-l", &log, "--journal", &journal, "--journal-size", "1048576", "10000"]);
        assert!(text.contains("may take 1048576 MiB, but there are only"), "{text}");
        let (text, code) = check(&["-l", &log, "--journal", &path("no/journal"), "10000"]);
        assert_eq!(code, 2, "{text}");
        assert!(text.contains("no is missing (mkdir -p"), "{text}");
        fs::create_dir(folder.join("journal")).unwrap();
        for log in ["journal/log", "journal/00000000000000000000.journal"] {
            let (text, code) = check(&["-l", &path(log), "--journal", &journal, "10000"]);
            assert_eq!(code, 2, "{text}");
            assert!(text.contains("it is in the journal"), "{text}");
        }
    }

    #[test]
    fn keys_and_senders_are_read() {
        let folder = pen_testing::TempFolder::new();
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let (key, authorized) = (path("key"), path("authorized"));
        let args = ["--key", &key, "--authorized", &authorized, "10000"];
        let (text, code) = check(&args);
        assert_eq!(code, 2, "{text}");
        assert!(text.contains("mistake: --key ") && text.contains("No such file"), "{text}");
        pen_stream::keys::keygen(&folder.join("key")).unwrap();
        folder.write("authorized", "cert:web5.example lines *\n");
        let (text, code) = check(&args);
        assert_eq!(code, 0, "{text}");
        let expected =
            "authorized: 1 senders with certificates cannot connect without --certificate";
        assert!(text.contains(expected), "{text}");
        folder.write("authorized", "cert: lines *\n");
        let (text, code) = check(&args);
        assert_eq!(code, 2, "{text}");
        assert!(text.contains("authorized:1: 'cert:': expected behind cert:"), "{text}");
    }

    #[test]
    fn a_right_command_line_is_said_to_be_right() {
        let (text, code) = check(&["-l", "a.log", "--server", "app/web1=10.0.0.1", "10000"]);
        assert_eq!((text.as_str(), code), ("the command line is right\n", 0));
        let (text, code) = check(&["--server", "nosuch.invalid=10.0.0.1", "514"]);
        assert_eq!((text.matches("remark: ").count(), code), (2, 0), "{text}");
        assert_eq!(check(&[]).1, 2, "nothing to check");
        let (text, code) = check(&["--format", "combined"]);
        assert_eq!(code, 1, "the review of the format: {text}");
        assert!(text.contains("combined"), "{text}");
    }
}
