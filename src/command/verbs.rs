//! The verbs that are not settings, and the list of all verbs for `help`.

use super::settings;

/// Verbs without effect, and the reason.
pub(super) const IGNORED: &[(&str, &str)] = &[
    ("abort_on_error", "errors never abort pen"),
    ("ascii", "pen does not dump data: use tcpdump"),
    ("block", "sockets never block"),
    ("delayed_forward", "data is forwarded as it arrives"),
    ("epoll", "pen always uses epoll"),
    ("idlers", "pen opens connections to servers for clients only"),
    ("kqueue", "pen always uses epoll"),
    ("poll", "pen always uses epoll"),
    ("select", "pen always uses epoll"),
    ("ssl_ciphers", "cipher lists are OpenSSL's"),
    ("ssl_client_renegotiation_interval", "pen never renegotiates"),
];

/// Verbs that are not supported, and the reason.
pub(super) const ABSENT: &[(&str, &str)] = &[
    ("dsr_if", "direct server return is not supported"),
    ("dsr_ip", "direct server return is not supported"),
    ("dummy", "pen is no web server"),
    ("peek", "it never worked"),
    ("tarpit_acl", "it belongs to direct server return, which is not supported"),
];

/// The syntax and the help text of the verbs that are not settings.
const OTHERS: &[(&str, &str)] = &[
    ("acl", "list all access lists"),
    ("acl N", "list an access list; no acl N empties it"),
    ("acl N permit|deny NET|ADDR MASK|unix|country CC", "append a rule; no acl N RULE removes it"),
    ("acl N default permit|deny", "verdict for clients that match no rule; no acl N default"),
    ("close N", "close a connection"),
    ("connection N", "show a connection"),
    ("connections", "list the connections"),
    ("control", "show the address of the control port"),
    ("drain N|ADDRESS [TIME]", "give a server no new clients; after TIME close its connections"),
    ("exit", "stop, if -X allows it"),
    ("help [VERB]", "list the commands, or describe one"),
    ("include FILE", "run the commands in a file"),
    ("mode", "show the selection modes"),
    ("pid", "show the process id"),
    ("recent [TIME]", "list the clients of the last 300 seconds, or of TIME"),
    ("remove N", "remove a server"),
    (
        "server N KEY VALUE ...",
        "change a server; KEY: acl address blacklist hard max port prio weight; no server N removes it",
    ),
    ("servers", "list the servers"),
    ("session", "run any number of commands on this connection; quit ends it"),
    ("socket FD", "show the connection of a file descriptor"),
    ("ssl_option no_tlsv1.2", "the same as ssl_minimum 1.3; other words have no effect"),
    ("states", "list the health of the servers"),
    ("status [html|json|prometheus]", "show the whole state"),
    ("write [FILE]", "save the configuration"),
];

/// Returns all verbs that have an effect.
fn all() -> impl Iterator<Item = &'static str> {
    let others = OTHERS.iter().filter_map(|(usage, _)| usage.split(' ').next());
    others.chain(settings::rows().iter().map(|row| row.verb))
}

/// Returns whether a word is a command.
#[must_use]
pub fn is_verb(word: &str) -> bool {
    find(word).is_some()
}

/// Returns the verb that is spelled so.
pub(super) fn find(word: &str) -> Option<&'static str> {
    all().find(|verb| *verb == word)
}

/// Returns the verb that a misspelled one resembles most: at most one letter in three differs.
#[must_use]
pub fn nearest(word: &str) -> Option<&'static str> {
    let nearest = all().map(|verb| (distance(word.as_bytes(), verb.as_bytes()), verb)).min()?;
    (nearest.0 * 3 <= nearest.1.len()).then_some(nearest.1)
}

/// Returns how many letters have to be added, removed or replaced to make one word of the other.
fn distance(one: &[u8], other: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (place, letter) in one.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], place + 1);
        for (column, known) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != known);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

/// Returns the syntax and the help text of each verb, in alphabetical order.
#[must_use]
pub fn help() -> Vec<(String, String)> {
    let others = OTHERS.iter().map(|(usage, help)| ((*usage).to_owned(), (*help).to_owned()));
    let settings = settings::rows().iter().map(settings::SettingRow::help_line);
    let mut lines: Vec<_> = others.chain(settings).collect();
    lines.sort();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_verb_is_recognized() {
        for (word, expected) in [
            ("blaklist", Some("blacklist")),
            ("serers", Some("servers")),
            ("dran", Some("drain")),
            ("conn-max", Some("conn_max")),
            ("nonsense", None),
            ("", None),
        ] {
            assert_eq!(nearest(word), expected, "{word}");
        }
    }
}
