//! The command line to run instead: the one that was typed, with what is wrong replaced.

use std::ffi::OsString;

use pen_records::misfit::LooseDifference;

use super::causes::{Misfit, MisfitCause};
use super::facts::{BadLine, ZoneShift};
use super::kinds::LogKind;

/// Characters of a command line that is shown whole.
const WHOLE: usize = 400;

/// The words of the command line, without the program's name.
#[derive(Clone, Debug)]
pub(crate) struct TypedWords(pub(crate) Vec<OsString>);

impl TypedWords {
    /// The command line of this process.
    pub(crate) fn of_process() -> Self {
        Self(std::env::args_os().skip(1).collect())
    }

    /// Returns what to do about a misfit: a command line where one is known, else advice.
    pub(crate) fn remedy(&self, misfit: &Misfit) -> Option<String> {
        match &misfit.cause {
            MisfitCause::MixedUp { has_several_files: true, .. } => Some(
                "some of its files at least; to see which, check each alone: mergelogs --check -p PENLOG SERVER:FILE"
                    .to_owned(),
            ),
            MisfitCause::MixedUp { logs, .. } => Some(self.try_with(&WordEdit::Rename(logs))),
            MisfitCause::UnknownServer { fits: Some(server), .. } => {
                let logs = misfit.servers.iter().map(|name| (name.clone(), server.clone()));
                Some(self.try_with(&WordEdit::Rename(&logs.collect::<Vec<_>>())))
            }
            MisfitCause::UnknownServer { named, .. } => {
                let (wrong, right) = (misfit.servers.first()?, named.first()?);
                Some(format!(
                    "say which of these servers it is: {}",
                    self.with(&WordEdit::Rename(&[(wrong.clone(), right.clone())]))
                ))
            }
            MisfitCause::OtherPort { ports } => {
                let (wrong, port) = (misfit.servers.first()?, ports.first()?);
                let right = format!("{}:{port}", wrong.rsplit_once(':')?.0);
                Some(self.try_with(&WordEdit::Rename(&[(wrong.clone(), right)])))
            }
            MisfitCause::OtherAddress { address } => {
                let option = format!("{address}={}", misfit.servers.first()?);
                Some(self.try_with(&WordEdit::Add(&["--server", &option])))
            }
            MisfitCause::Unnamed { names } => {
                let (name, server) = (names.first()?, misfit.servers.first()?);
                Some(self.try_with(&WordEdit::Add(&["--server", &format!("{name}={server}")])))
            }
            MisfitCause::NoMappingLog { log, kind, .. } => self.of_mapping_log(log, *kind),
            MisfitCause::NotUnderstood { bad, has_format, as_detected, exchanged } => {
                let server = misfit.servers.first()?;
                let detects = *has_format && *as_detected;
                self.of_access_log(server, bad.as_ref(), detects, exchanged.as_deref())
            }
            MisfitCause::NoOverlap { zone: Some(ZoneShift::OfLines(zone)), .. } => {
                let option = format!("{}={zone}", misfit.servers.first()?);
                let words = self.try_with(&WordEdit::Add(&["--zone", &option]));
                Some(format!("{words} (for a server that logs local time without its zone)"))
            }
            MisfitCause::NoOverlap { zone: Some(ZoneShift::OfMappings(zone)), .. } => {
                Some(self.try_with(&WordEdit::Add(&["--mapping-zone", &zone.to_string()])))
            }
            MisfitCause::NoMappings { .. }
            | MisfitCause::NoOverlap { .. }
            | MisfitCause::PartialOverlap { .. } => self.rotated().map(|words| {
                format!("give the mapping logs of that time, the rotated ones too: {words}")
            }),
            MisfitCause::Changed(pair) => Some(
                match pair.difference {
                    LooseDifference::Protocol => {
                        "let both log the same protocol: proxy_http_version 1.1 in nginx in front"
                    }
                    LooseDifference::Host => "log the request as it came: \"%r\" or \"$request\"",
                }
                .to_owned(),
            ),
            MisfitCause::MappingsWithoutTime { .. } => Some(
                "let the balancer log the time, or say where it stands: --mapping-format SPEC".to_owned(),
            ),
            MisfitCause::MappingsWithoutRequest { .. } => Some(
                "let the server log its peer's port, $remote_port in nginx or %{remote}p in Apache, and the balancer \
                 its own port; or let the balancer log requests"
                    .to_owned(),
            ),
            MisfitCause::NoTimes => Some(
                "let the server log the time of each request, or send the lines to penlogd as they come, by penlog"
                    .to_owned(),
            ),
            MisfitCause::NoRequests => Some(
                "let the server log requests, or say where they stand: --format SPEC, for JSON as in --format \
                 json:method=KEY,uri=KEY"
                    .to_owned(),
            ),
            MisfitCause::Unexplained => None,
        }
    }

    fn of_access_log(
        &self,
        server: &str,
        bad: Option<&BadLine>,
        detects: bool,
        exchanged: Option<&str>,
    ) -> Option<String> {
        Some(match (bad.map(|bad| (bad.kind, bad.log.as_str())), exchanged) {
            (Some((LogKind::Mappings, log)), Some(other)) => {
                self.try_with(&WordEdit::Exchange(log, other))
            }
            (Some((LogKind::Mappings | LogKind::Binary | LogKind::ErrorLog, log)), _) => {
                format!("give the access log: {}", self.with(&WordEdit::AccessLog(log)))
            }
            (Some((LogKind::W3c, log)), _) => format!(
                "give {log} from its line #Fields: on, with c-ip, cs-method and cs-uri-stem in that line"
            ),
            (Some((LogKind::Envoy, _)), _) => {
                "let Envoy log %DOWNSTREAM_DIRECT_REMOTE_ADDRESS%, see log-formats.md".to_owned()
            }
            (Some((LogKind::NoClient, _)), _) => {
                "let the server log the address of its peer, the balancer: that word becomes the client".to_owned()
            }
            _ if detects => self.try_with(&WordEdit::Without("--format")),
            _ => {
                let format = WordEdit::Add(&["--format", &format!("{server}=SPEC")]);
                let words = self.with(&format);
                format!("give the server's LogFormat or log_format: {words} (to check it: --check)")
            }
        })
    }

    fn of_mapping_log(&self, log: &str, kind: LogKind) -> Option<String> {
        if let Some(format) = kind.mapping_format() {
            return Some(self.try_with(&WordEdit::Add(&["--mapping-format", format])));
        }
        match kind {
            LogKind::Mappings => Some(self.try_with(&WordEdit::Without("--mapping-format"))),
            LogKind::Access => Some(format!(
                "give the balancer's log: {} (if the balancer wrote {log}: --mapping-format SPEC)",
                self.with(&WordEdit::MappingLog(log))
            )),
            LogKind::Binary => None,
            _ => Some(format!(
                "give the format from the balancer's configuration, see behind-haproxy-and-others.md: {}",
                self.with(&WordEdit::Add(&["--mapping-format", "SPEC"]))
            )),
        }
    }

    /// Returns the command line with a pattern for rotated mapping logs.
    fn rotated(&self) -> Option<String> {
        let (mut words, mut before) = (Vec::new(), String::new());
        for word in &self.0 {
            let text = word.to_string_lossy().into_owned();
            let is_log = ["-p", "--mappings"].contains(&before.as_str());
            let changes = is_log && text != "-" && !text.contains(['*', '?', '[']);
            words.push((quoted(&if changes { format!("{text}*") } else { text.clone() }), changes));
            before = text;
        }
        words.iter().any(|(_, is_changed)| *is_changed).then(|| shown(&words))
    }

    fn try_with(&self, edit: &WordEdit<'_>) -> String {
        format!("try: {}", self.with(edit))
    }

    /// Returns the command line with some words changed.
    fn with(&self, edit: &WordEdit<'_>) -> String {
        let (mut words, mut before) = (Vec::new(), String::new());
        for word in &self.0 {
            let text = word.to_string_lossy().into_owned();
            match edit.change(&text, &before) {
                Some(changed) => words.extend(changed.map(|word| (quoted(&word), true))),
                None => words.push((quoted(&text), false)),
            }
            before = text;
        }
        if let WordEdit::Add(more) = edit {
            words.extend(more.iter().map(|word| (quoted(word), true)));
        }
        shown(&words)
    }
}

/// A change of the command line.
enum WordEdit<'a> {
    /// Gives logs to other servers: old names and new ones.
    Rename(&'a [(String, String)]),
    /// Takes another mapping log.
    MappingLog(&'a str),
    /// Takes another access log.
    AccessLog(&'a str),
    /// Exchanges the names of two files.
    Exchange(&'a str, &'a str),
    /// Adds words at the end.
    Add(&'a [&'a str]),
    /// Leaves an option and its value out.
    Without(&'static str),
}

impl WordEdit<'_> {
    /// Returns what stands in place of `word`, nothing or a word; `None` if it stays. `before` is the word before it.
    fn change(&self, word: &str, before: &str) -> Option<Option<String>> {
        match self {
            Self::Rename(logs) => logs.iter().find_map(|(old, new)| {
                let file = word.strip_prefix(with_colon(old).as_str())?;
                Some(Some(with_colon(new) + file))
            }),
            Self::MappingLog(old) => {
                let start = before_file(word, old).filter(|start| !start.ends_with(':'));
                start.map(|start| Some(format!("{start}PENLOG")))
            }
            Self::AccessLog(old) => {
                let start = before_file(word, old).filter(|start| start.ends_with(':'));
                start.map(|start| Some(format!("{start}FILE")))
            }
            Self::Exchange(one, other) => {
                let replaced =
                    |old, new| before_file(word, old).map(|start| format!("{start}{new}"));
                replaced(one, other).or_else(|| replaced(other, one)).map(Some)
            }
            Self::Add(_) => None,
            Self::Without(option) => {
                let is_joined = word.strip_prefix(option).is_some_and(|rest| rest.starts_with('='));
                (word == *option || before == *option || is_joined).then_some(None)
            }
        }
    }
}

/// Returns what stands before the name of a file in a word.
fn before_file<'a>(word: &'a str, file: &str) -> Option<&'a str> {
    word.strip_suffix(file).filter(|start| ["", "-p"].contains(start) || start.ends_with(':'))
}

/// Returns a server as it stands before its file.
fn with_colon(name: &str) -> String {
    let is_bare_v6 = name.matches(':').count() > 1 && !name.starts_with('[');
    if is_bare_v6 { format!("[{name}]:") } else { format!("{name}:") }
}

/// Writes a command line. Of a long one only what changed is shown.
fn shown(words: &[(String, bool)]) -> String {
    let join = |words: &mut dyn Iterator<Item = &str>| {
        words.fold("mergelogs".to_owned(), |line, word| line + " " + word)
    };
    let whole = join(&mut words.iter().map(|(word, _)| word.as_str()));
    if whole.len() <= WHOLE {
        return whole;
    }
    let mut cut = Vec::new();
    for (word, is_changed) in words {
        if *is_changed {
            cut.push(word.as_str());
        } else if cut.last() != Some(&"…") {
            cut.push("…");
        }
    }
    join(&mut cut.into_iter())
}

/// Quotes a word for a shell, if necessary.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:,=@%+[]".contains(c);
    // Brackets are patterns, which a shell leaves alone where nothing matches; with others they are quoted.
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> TypedWords {
        TypedWords(line.split_whitespace().map(Into::into).collect())
    }

    fn misfit(servers: &[&str], cause: MisfitCause) -> Misfit {
        let servers = servers.iter().map(|&name| name.to_owned()).collect();
        Misfit { servers, lines: 9, lost: 9, cause }
    }

    fn pair(one: &str, other: &str) -> (String, String) {
        (one.to_owned(), other.to_owned())
    }

    #[test]
    fn logs_are_given_to_other_servers() {
        let typed = words("-q -p pen.log 10.0.0.1:a.log 10.0.0.2:b.log [2001:db8::1]:80:c.log");
        let logs = vec![pair("10.0.0.1", "10.0.0.2"), pair("10.0.0.2", "10.0.0.1")];
        assert_eq!(
            typed
                .remedy(&misfit(&[], MisfitCause::MixedUp { logs, has_several_files: false }))
                .unwrap(),
            "try: mergelogs -q -p pen.log 10.0.0.2:a.log 10.0.0.1:b.log '[2001:db8::1]:80:c.log'"
                .replace('\'', "")
        );
        let cause = MisfitCause::UnknownServer { named: vec![], fits: Some("2001:db8::2".into()) };
        assert_eq!(
            typed.remedy(&misfit(&["10.0.0.2"], cause)).unwrap(),
            "try: mergelogs -q -p pen.log 10.0.0.1:a.log [2001:db8::2]:b.log [2001:db8::1]:80:c.log"
        );
        let cause = MisfitCause::OtherPort { ports: vec![8080] };
        let remedy = typed.remedy(&misfit(&["[2001:db8::1]:80"], cause)).unwrap();
        assert!(remedy.ends_with("10.0.0.2:b.log [2001:db8::1]:8080:c.log"), "{remedy}");
    }

    #[test]
    fn options_are_added_and_left_out() {
        let kind = LogKind::Known(3);
        let cause = MisfitCause::NoMappingLog { log: "x".into(), kind, bad: None };
        assert_eq!(
            words("-p x 10.0.0.1:a").remedy(&misfit(&["10.0.0.1"], cause)).unwrap(),
            "try: mergelogs -p x 10.0.0.1:a --mapping-format haproxy"
        );
        let cause = MisfitCause::NotUnderstood {
            bad: None,
            has_format: true,
            as_detected: true,
            exchanged: None,
        };
        assert_eq!(
            words("--format json -p x --format=%h 10.0.0.1:a")
                .remedy(&misfit(&["10.0.0.1"], cause))
                .unwrap(),
            "try: mergelogs -p x 10.0.0.1:a"
        );
        let cause = MisfitCause::NoMappingLog { log: "x".into(), kind: LogKind::Access, bad: None };
        let remedy = words("-p x 10.0.0.1:a").remedy(&misfit(&["10.0.0.1"], cause)).unwrap();
        assert!(remedy.contains("mergelogs -p PENLOG 10.0.0.1:a "), "{remedy}");
    }

    #[test]
    fn files_are_exchanged() {
        let [log, error, text] = ["pen.log", "expected a client at byte 0", "x"].map(str::to_owned);
        let bad = BadLine { log, number: 1, error, text, kind: LogKind::Mappings };
        let remedy = |exchanged: Option<&str>| {
            let exchanged = exchanged.map(str::to_owned);
            let (has_format, as_detected) = (false, false);
            let bad = Some(bad.clone());
            let cause = MisfitCause::NotUnderstood { bad, has_format, as_detected, exchanged };
            words("-pa.log 10.0.0.1:pen.log").remedy(&misfit(&["10.0.0.1"], cause)).unwrap()
        };
        assert_eq!(remedy(Some("a.log")), "try: mergelogs -ppen.log 10.0.0.1:a.log");
        assert_eq!(remedy(None), "give the access log: mergelogs -pa.log 10.0.0.1:FILE");
    }

    #[test]
    fn rotated_logs_are_a_pattern() {
        let cause = || MisfitCause::NoMappings { logs: vec!["pen.log".into()] };
        let remedy = words("-p pen.log 10.0.0.1:a").remedy(&misfit(&[], cause())).unwrap();
        assert!(remedy.ends_with(": mergelogs -p 'pen.log*' 10.0.0.1:a"), "{remedy}");
        assert_eq!(words("-p pen.log* 10.0.0.1:a").remedy(&misfit(&[], cause())), None);
    }

    #[test]
    fn of_a_long_command_line_only_the_change_is_shown() {
        let more = " 10.0.0.9:some/long/path/to/access.log".repeat(20);
        let typed = words(&format!("-p pen.log 10.0.0.1:a{more}"));
        let cause = MisfitCause::MixedUp {
            logs: vec![pair("10.0.0.1", "10.0.0.2")],
            has_several_files: false,
        };
        assert_eq!(typed.remedy(&misfit(&[], cause)).unwrap(), "try: mergelogs … 10.0.0.2:a …");
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, expected) in
            [("a.log", "a.log"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''"), ("*", "'*'")]
        {
            assert_eq!(quoted(word), expected);
        }
    }
}
