//! The option `--check`: the whole command line, without a socket and without a change to any file.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use pen_daemon::arguments::privacy;
use pen_daemon::error::{Exit, chain};
use pen_daemon::process::Process;
use pen_records::access::review;

use super::{CollectorArgs, senders};

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
        let process = Process { user: self.user.clone(), ..Process::default() };
        mistakes.extend(process.ids().err().map(|error| chain(&error)));
        mistakes.extend(self.jail.as_deref().and_then(no_folder));
        let inside = |path: &PathBuf| match &self.jail {
            Some(jail) => jail.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.clone(),
        };
        for path in [self.log.as_ref(), self.explain.as_ref()].into_iter().flatten() {
            mistakes.extend(no_place(&inside(path)));
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
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty())?;
            no_folder(folder).map(|why| format!("cannot write {}: {why}", path.display()))
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
