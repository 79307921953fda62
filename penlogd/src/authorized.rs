//! The senders listed by `--authorized`, by keys or by names of certificates, each with the servers to speak for.
//!
//! ```text
//! line   = sender 1*(right / limit) [comment] / [comment]
//! sender = "ed25519:" 64*64HEXDIG / "cert:" DNS-NAME
//! right  = "lines" ("*" / 1*server) / "records" *server
//! limit  = ("lines-per-second" / "bytes-per-second") number ["k" / "M"]
//! server = ADDR / ADDR:PORT / [ADDR]:PORT
//! ```

use std::fmt;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use pen_records::addr::ServerAddr;
use pen_records::mapping::Mapping;
use pen_records::server_alias::ServerKey;
use pen_stream::identity::Identity;
use pen_stream::tls::KnownSenders;

use crate::quota::QuotaLimits;

const LINES_PER_SECOND: &str = "lines-per-second";
const BYTES_PER_SECOND: &str = "bytes-per-second";
/// Words that end a list of servers.
const KEYWORDS: [&str; 4] = ["lines", "records", LINES_PER_SECOND, BYTES_PER_SECOND];

/// Digits of a key in messages, if it has no comment.
const SHOWN: usize = 24;

/// The keys of a file.
#[derive(Debug, Default)]
pub struct AuthorizedKeys {
    path: PathBuf,
    keys: IndexMap<Identity, KeyRights>,
}

/// Rights of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRights {
    /// The comment of the line, or the beginning of the key.
    pub name: String,
    /// Place in the file.
    line: usize,
    lines: ServerScope,
    records: ServerScope,
    /// What the sender may bring in a second.
    pub limits: QuotaLimits,
}

/// The servers of a right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum ServerScope {
    #[default]
    Nothing,
    All,
    These(Vec<ServerKey>),
}

impl AuthorizedKeys {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read, or a line makes no sense; the text begins with file and line.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, String> {
        let mut keys = IndexMap::<_, KeyRights>::new();
        for (line, text) in (1..).zip(text.lines()) {
            let fail = |why: String| format!("{}:{line}: {why}", path.display());
            let Some((key, rights)) = parse_line(line, text).map_err(fail)? else { continue };
            if let Some(before) = keys.get(&key) {
                return Err(fail(format!(
                    "the key is in line {} already: put all its rights there",
                    before.line
                )));
            }
            keys.insert(key, rights);
        }
        Ok(Self { path: path.to_owned(), keys })
    }

    /// Returns the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns how many senders have keys, and how many certificates.
    #[must_use]
    pub fn kinds(&self) -> (usize, usize) {
        let keys = self.keys.keys().filter(|it| matches!(it, Identity::Key(_))).count();
        (keys, self.keys.len() - keys)
    }

    /// Returns the rights of a sender: of its key, or of the first name in its certificate that is listed.
    #[must_use]
    pub fn rights(&self, sender: &[Identity]) -> Option<&KeyRights> {
        self.entry(sender).map(|(_, rights)| rights)
    }

    /// Returns the listed one of a sender's names, and its rights.
    #[must_use]
    pub fn entry(&self, sender: &[Identity]) -> Option<(&Identity, &KeyRights)> {
        sender.iter().find_map(|it| self.keys.get_key_value(it))
    }
}

impl KnownSenders for AuthorizedKeys {
    fn knows(&self, sender: &Identity) -> bool {
        self.keys.contains_key(sender)
    }
}

impl KeyRights {
    /// Returns whether lines of a server may be sent.
    #[must_use]
    pub fn may_send_lines_of(&self, server: ServerKey) -> bool {
        self.lines.contains(server)
    }

    /// Returns whether lines of all servers may be sent.
    #[must_use]
    pub fn may_send_all_lines(&self) -> bool {
        self.lines == ServerScope::All
    }

    /// Returns whether records of every server may be sent.
    #[must_use]
    pub fn may_send_all_records(&self) -> bool {
        self.records == ServerScope::All
    }

    /// Returns whether a record may be sent.
    #[must_use]
    pub fn may_send_record(&self, record: &Mapping<'_>) -> bool {
        match (&self.records, record.server) {
            (ServerScope::All, _) => true,
            (scope, ServerAddr::Ip(addr)) => {
                scope.contains(ServerKey { addr: addr.to_canonical(), port: record.server_port })
            }
            (_, ServerAddr::Unix(_)) => false,
        }
    }
}

impl ServerScope {
    fn contains(&self, server: ServerKey) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::These(servers) => servers.iter().any(|known| {
                known.addr == server.addr && (known.port.is_none() || known.port == server.port)
            }),
        }
    }
}

fn parse_line(line: usize, text: &str) -> Result<Option<(Identity, KeyRights)>, String> {
    let (text, comment) = text.split_once('#').unwrap_or((text, ""));
    let mut words = text.split_ascii_whitespace().peekable();
    let Some(word) = words.next() else { return Ok(None) };
    let key: Identity =
        word.parse().map_err(|error| format!("'{}': {error}", word.escape_debug()))?;
    let name = match comment.trim() {
        "" => match &key {
            Identity::Key(_) => word.chars().take(SHOWN).chain(['…']).collect(),
            Identity::Certificate(name) => name.to_string(),
        },
        comment => comment.escape_debug().to_string(),
    };
    let mut rights = KeyRights { name, line, ..KeyRights::default() };
    while let Some(word) = words.next() {
        if let Some(limit) = limit_of(&mut rights.limits, word) {
            let number = words.next().unwrap_or_default();
            *limit = Some(parse_limit(number).ok_or_else(|| {
                format!("{word} '{}': expected a number, as 500, 20k or 2M", number.escape_debug())
            })?);
            continue;
        }
        let mut servers = Vec::new();
        let mut is_all = false;
        while let Some(word) = words.next_if(|word| !KEYWORDS.contains(word)) {
            match (word, ServerKey::parse(word)) {
                ("*", _) => is_all = true,
                (_, Some(server)) => servers.push(server),
                (_, None) => {
                    return Err(format!(
                        "'{}' is not ADDR, ADDR:PORT or [ADDR]:PORT",
                        word.escape_debug()
                    ));
                }
            }
        }
        let scope = match (is_all, servers.is_empty()) {
            (true, _) => ServerScope::All,
            (false, false) => ServerScope::These(servers),
            (false, true) if word == "records" => ServerScope::All,
            (false, true) => ServerScope::Nothing,
        };
        match (word, scope) {
            ("lines", ServerScope::Nothing) => {
                return Err(
                    "lines of which servers? Say lines ADDR:PORT..., or lines * for all".into()
                );
            }
            ("lines", scope) => rights.lines = scope,
            ("records", scope) => rights.records = scope,
            (word, _) => {
                return Err(format!(
                    "'{}': expected lines SERVER..., records [SERVER...], lines-per-second NUMBER or \
                     bytes-per-second NUMBER",
                    word.escape_debug()
                ));
            }
        }
    }
    if (&rights.lines, &rights.records) == (&ServerScope::Nothing, &ServerScope::Nothing) {
        return Err(
            "the key may send nothing: expected lines SERVER... or records [SERVER...] behind it"
                .into(),
        );
    }
    Ok(Some((key, rights)))
}

/// Returns the limit that a word stands for.
fn limit_of<'a>(limits: &'a mut QuotaLimits, word: &str) -> Option<&'a mut Option<NonZeroU64>> {
    match word {
        LINES_PER_SECOND => Some(&mut limits.lines),
        BYTES_PER_SECOND => Some(&mut limits.bytes),
        _ => None,
    }
}

fn parse_limit(text: &str) -> Option<NonZeroU64> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'k' => (text.strip_suffix('k')?, 1_000),
        b'M' => (text.strip_suffix('M')?, 1_000_000),
        _ => (text, 1),
    };
    let number = digits.bytes().all(|it| it.is_ascii_digit()).then(|| digits.parse::<u64>());
    NonZeroU64::new(number?.ok()?.checked_mul(unit)?)
}

impl fmt::Display for KeyRights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(digit: char) -> String {
        format!("ed25519:{}", String::from(digit).repeat(64))
    }

    fn parse(text: &str) -> Result<AuthorizedKeys, String> {
        AuthorizedKeys::parse(Path::new("keys"), text)
    }

    fn server(text: &str) -> ServerKey {
        ServerKey::parse(text).unwrap()
    }

    #[test]
    fn each_key_speaks_for_the_servers_of_its_line() {
        let (web, relay, pen) = (key('1'), key('2'), key('3'));
        let text = format!(
            "# web servers\n\n{web} lines 10.0.0.5:80 [2001:db8::5]:80 10.0.0.6  # web5\n{relay} lines * records\n\
             {pen}\trecords 10.0.0.5\n"
        );
        let keys = parse(&text).unwrap();
        assert_eq!(keys.len(), 3);
        let rights = |key: &str| keys.rights(&[key.parse().unwrap()]).unwrap();
        let web = rights(&web);
        assert_eq!(web.name, "web5");
        for (text, expected) in [
            ("10.0.0.5:80", true),
            ("10.0.0.5:81", false),
            ("10.0.0.5", false),
            ("[2001:db8::5]:80", true),
            ("10.0.0.6:1", true),
            ("10.0.0.7", false),
        ] {
            assert_eq!(web.may_send_lines_of(server(text)), expected, "{text}");
        }
        assert!(!web.may_send_all_records() && !web.may_send_all_lines());
        assert!(rights(&relay).may_send_all_records() && rights(&relay).may_send_all_lines());
        let record = |addr: &'static str| {
            let mut record = Mapping::new(
                pen_records::addr::ClientAddr::Unix,
                ServerAddr::Ip(addr.parse().unwrap()),
            );
            record.server_port = Some(80);
            record
        };
        assert!(rights(&pen).may_send_record(&record("10.0.0.5")));
        assert!(!rights(&pen).may_send_record(&record("10.0.0.6")));
        assert!(!web.may_send_record(&record("10.0.0.5")));
    }

    #[test]
    fn a_line_may_limit_what_its_sender_brings() {
        let one = key('1');
        for (text, lines, bytes) in [
            ("lines *", 0, 0),
            ("lines * lines-per-second 500", 500, 0),
            (
                "lines-per-second 20k lines 10.0.0.5 10.0.0.6 bytes-per-second 2M # x",
                20_000,
                2_000_000,
            ),
            ("bytes-per-second 7 records", 0, 7),
        ] {
            let keys = parse(&format!("{one} {text}")).unwrap();
            let limits = keys.rights(&[one.parse().unwrap()]).unwrap().limits;
            let number = |limit: Option<NonZeroU64>| limit.map_or(0, NonZeroU64::get);
            assert_eq!((number(limits.lines), number(limits.bytes)), (lines, bytes), "{text}");
        }
        for number in ["", "0", "-1", "1K", "k", "1.5k", "18446744073709551615M", "+5"] {
            let error = parse(&format!("{one} lines * lines-per-second {number}")).unwrap_err();
            assert!(error.contains("expected a number"), "{number}: {error}");
        }
        assert!(parse(&format!("{one} lines-per-second 5")).is_err(), "it may send nothing");
    }

    #[test]
    fn the_first_listed_name_of_a_certificate_counts() {
        let keys = parse("cert:web5.example lines 10.0.0.5\ncert:web6.example records\n").unwrap();
        assert_eq!(keys.kinds(), (0, 2));
        let name = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|it| it.parse().unwrap()).collect();
            keys.rights(&names).map(|it| it.name.clone())
        };
        for (names, expected) in [
            (&["cert:web5.example"][..], Some("web5.example")),
            (&["cert:db.example", "cert:web6.example", "cert:web5.example"], Some("web6.example")),
            (&["cert:example"], None),
            (&[], None),
        ] {
            assert_eq!(name(names).as_deref(), expected);
        }
    }

    #[test]
    fn a_mistake_is_said_with_its_line() {
        let one = key('1');
        for (text, expected) in [
            ("\nnobody lines *", "keys:2: 'nobody': expected a public key"),
            ("cert:*.example lines *", "keys:1: 'cert:*.example': expected behind cert:"),
            ("cert:web5 lines *\ncert:WEB5 records", "keys:2: the key is in line 1 already"),
            (&one, "keys:1: the key may send nothing"),
            (&format!("{one} lines"), "keys:1: lines of which servers?"),
            (&format!("{one} lines records"), "keys:1: lines of which servers?"),
            (&format!("{one} lines web1"), "keys:1: 'web1' is not ADDR"),
            (&format!("{one} all"), "keys:1: 'all': expected lines"),
            (&format!("{one} records\n# x\n{one} lines *"), "keys:3: the key is in line 1 already"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
