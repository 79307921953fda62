//! Who really asked, and how much of it a merged log has right.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

use memchr::{memchr, memmem};
use pen_testing::site::{BANDS, SaidBand};

use super::alike::AlikeLines;
use super::visitors::host_of;
use crate::{ActionError, Doing};

/// The lines that the web servers wrote, each with the client that asked.
///
/// Lines that are alike but for the client are told apart by their order: see [`AlikeLines`].
/// A server's number shows in the size of its answers, but answers without a body are alike at all servers.
#[derive(Debug, Default)]
pub struct Truth {
    lines: usize,
    servers: usize,
    clients: [Clients; 4],
}

/// What the lines of a log say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TruthText {
    /// As much as combined lines.
    Combined,
    /// The peer's port, too.
    WithPort,
    /// As much as common lines.
    Common,
    /// Lines of the first virtual host are combined, others common.
    ByHost,
}

/// By the text of a line, who asked.
type Clients = HashMap<Vec<u8>, AlikeClients>;

/// The clients of lines that are alike, once for each line.
#[derive(Debug, Default)]
struct AlikeClients {
    clients: Vec<Vec<u8>>,
    /// The server that wrote the last of them.
    server: usize,
    /// Whether several servers wrote such lines, which then have no order in common.
    is_of_several: bool,
}

/// A client as a merged log names it, and how sure that is.
type Said<'a> = (&'a [u8], &'a Mark);

/// How sure a program said it was of a line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mark {
    /// The word for it.
    pub certainty: Vec<u8>,
    /// Parts in 1,000 that the client is right.
    pub probability: u16,
}

impl Truth {
    /// Reads one server's private log.
    ///
    /// # Errors
    /// When it cannot be read or a line is not as we configured it.
    pub fn add(&mut self, log: &Path) -> Result<(), ActionError> {
        let text = fs::read(log).doing(format_args!("read {}", log.display()))?;
        for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let mut words = line.splitn(4, |&byte| byte == b' ');
            let (Some(client), Some(_id), Some(port), Some(public)) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(ActionError::new(format!("a line of {} is cut short", log.display())));
            };
            let (_peer, text) = split_client(public);
            let common = without_headers(text);
            let address = std::str::from_utf8(client).ok().and_then(|text| text.parse().ok());
            let is_first = address.is_none_or(|address| host_of(address) == 0);
            let texts = [
                (TruthText::Combined, text.to_vec()),
                (TruthText::WithPort, [text, b" ", port].concat()),
                (TruthText::Common, common.to_vec()),
                (TruthText::ByHost, if is_first { text } else { common }.to_vec()),
            ];
            for (kind, text) in texts {
                let alike = self.clients[kind as usize].entry(text).or_default();
                alike.is_of_several |= !alike.clients.is_empty() && alike.server != self.servers;
                alike.server = self.servers;
                alike.clients.push(client.to_vec());
            }
            self.lines += 1;
        }
        self.servers += 1;
        Ok(())
    }

    /// How many lines there are.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Counts what a merged log of combined lines has right. `marks` are those of its lines, in order.
    #[must_use]
    pub fn score(&self, merged: &[u8], marks: Option<&[Mark]>) -> Score {
        self.score_text((TruthText::Combined, AlikeLines::InOrder), merged, marks)
    }

    /// As [`Self::score`], for a log whose lines say more or less, as text or JSON.
    #[must_use]
    pub fn score_text(
        &self,
        (text, alike): (TruthText, AlikeLines),
        merged: &[u8],
        marks: Option<&[Mark]>,
    ) -> Score {
        let truth = &self.clients[text as usize];
        let mut score = Score { lines: self.lines, marked: marks.is_some(), ..Score::default() };
        let unmarked = Mark::default();
        let mut said: HashMap<&[u8], Vec<Said<'_>>> = HashMap::new();
        let lines = merged.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let lines: Vec<Cow<'_, [u8]>> =
            lines.map(|line| of_json(line).map_or(Cow::Borrowed(line), Cow::Owned)).collect();
        for (index, line) in lines.iter().enumerate() {
            let (client, text) = split_client(line);
            let mark = marks.and_then(|all| all.get(index)).unwrap_or(&unmarked);
            said.entry(text).or_default().push((client, mark));
        }
        for (text, lines) in said {
            let Some(AlikeClients { clients, is_of_several, .. }) = truth.get(text) else {
                score.strange += lines.len();
                continue;
            };
            let alike = if *is_of_several { AlikeLines::AsSet } else { alike };
            let names: Vec<(&[u8], bool)> =
                lines.iter().map(|(client, mark)| (*client, rank(&mark.certainty) == 0)).collect();
            let rights = alike.rights(&names, clients);
            let mut lines: Vec<_> = lines.into_iter().zip(rights).collect();
            // Of more lines than there were, those are doubled that are wrong or less sure.
            lines.sort_by_key(|&((_, mark), right)| (!right, rank(&mark.certainty)));
            score.doubled += lines.len().saturating_sub(clients.len());
            for ((client, mark), right) in lines.into_iter().take(clients.len()) {
                score.count(mark, right, is_server(client));
            }
        }
        score
    }
}

/// What a merged log has right.
#[derive(Clone, Copy, Debug, Default)]
pub struct Score {
    /// Lines that the web servers wrote.
    pub lines: usize,
    /// Lines that came out whole.
    pub written: usize,
    /// Those that name the right client.
    pub right: usize,
    /// Lines with the balancer or the server as the client: no claim.
    pub unnamed: usize,
    /// Whether its lines are marked with certainties.
    pub marked: bool,
    /// Lines marked as exact, which are among the certain ones, too.
    pub exact: usize,
    /// Those of them that are wrong.
    pub exact_wrong: usize,
    /// Lines marked as exact or certain.
    pub certain: usize,
    /// Those of them that are wrong.
    pub certain_wrong: usize,
    /// Lines marked as likely.
    pub likely: usize,
    /// Those of them that are wrong.
    pub likely_wrong: usize,
    /// Lines marked as likely, by what their probability was said to be: the ends of the bands are [`BANDS`].
    pub bands: [SaidBand; BANDS.len()],
    /// Lines marked as none.
    pub none: usize,
    /// Lines that came out more often than they went in.
    pub doubled: usize,
    /// Lines that no web server wrote: pieces, say.
    pub strange: usize,
}

impl Score {
    /// Lines that did not come out.
    #[must_use]
    pub fn lost(&self) -> usize {
        self.lines - self.written
    }

    /// The bands that are off, with their ends.
    pub fn bands_off(&self) -> impl Iterator<Item = (u16, SaidBand)> {
        BANDS.into_iter().zip(self.bands).filter(|(_, band)| band.is_off())
    }

    /// Per cent that name the right client, of all lines that the web servers wrote.
    #[must_use]
    pub fn right_share(&self) -> f64 {
        share(self.right, self.lines)
    }

    fn count(&mut self, mark: &Mark, right: bool, unnamed: bool) {
        let certainty = &mark.certainty[..];
        self.written += 1;
        self.right += usize::from(right);
        self.unnamed += usize::from(unnamed);
        if certainty == b"exact" {
            self.exact += 1;
            self.exact_wrong += usize::from(!right);
        }
        match rank(certainty) {
            0 => {
                self.certain += 1;
                self.certain_wrong += usize::from(!right);
            }
            1 => {
                self.likely += 1;
                self.likely_wrong += usize::from(!right);
                let said = f64::from(mark.probability) / 1_000.0;
                let place = BANDS.iter().position(|&end| mark.probability < end);
                let band = &mut self.bands[place.unwrap_or(BANDS.len() - 1)];
                band.add(SaidBand { lines: 1, right: usize::from(right), said });
            }
            _ => self.none += 1,
        }
    }
}

/// Per cent.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts of lines, far below 2^52")]
pub fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// What an `--explain` file says of each line: its first and third column.
///
/// # Errors
/// When it cannot be read.
pub fn marks(explain: &Path) -> Result<Vec<Mark>, ActionError> {
    let text = fs::read(explain).doing(format_args!("read {}", explain.display()))?;
    let lines = text.split(|&byte| byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    Ok(lines.map(mark).collect())
}

fn mark(line: &[u8]) -> Mark {
    let mut columns = line.split(|&byte| byte == b'\t');
    let certainty = columns.next().unwrap_or_default().to_vec();
    // `0.873`
    let digits = columns.nth(1).unwrap_or_default().iter().filter(|byte| byte.is_ascii_digit());
    let probability = digits.take(4).fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    Mark { certainty, probability }
}

fn split_client(line: &[u8]) -> (&[u8], &[u8]) {
    line.split_at(memchr(b' ', line).unwrap_or(line.len()))
}

/// A line of JSON as a combined line, with the port at its end where it has one.
fn of_json(line: &[u8]) -> Option<Vec<u8>> {
    if !line.starts_with(b"{") {
        return None;
    }
    let all: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line).ok()?;
    let text = |key: &str| match all.get(key) {
        Some(serde_json::Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let [client, time, request, status, bytes, referer, agent] = [
        "remote_addr",
        "time_local",
        "request",
        "status",
        "body_bytes_sent",
        "http_referer",
        "http_user_agent",
    ]
    .map(text);
    let port = all.get("remote_port").map(|port| format!(" {port}")).unwrap_or_default();
    let line = format!(
        "{client} - - [{time}] \"{request}\" {status} {bytes} \"{referer}\" \"{agent}\"{port}"
    );
    Some(line.into_bytes())
}

/// A combined line without Referer and User-Agent, in which servers escape quotes.
fn without_headers(text: &[u8]) -> &[u8] {
    let user_agent = memmem::rfind(text, b" \"").unwrap_or(text.len());
    let referer = memmem::rfind(&text[..user_agent], b" \"").unwrap_or(user_agent);
    &text[..referer]
}

/// 127.0.0.1 is the balancer, 127.0.1.x are the servers; all clients are elsewhere.
fn is_server(client: &[u8]) -> bool {
    client.starts_with(b"127.0.") || client == b"-"
}

fn rank(certainty: &[u8]) -> u8 {
    match certainty {
        b"exact" | b"certain" => 0,
        b"likely" => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use pen_testing::TempFolder;

    use super::*;

    fn alike(clients: &[&[u8]]) -> AlikeClients {
        let clients = clients.iter().map(|client| client.to_vec()).collect();
        AlikeClients { clients, ..AlikeClients::default() }
    }

    #[test]
    fn alike_lines_of_several_servers_count_in_any_order() {
        let folder = TempFolder::new();
        let mut truth = Truth::default();
        for (server, client) in [("web1", 1), ("web2", 2)] {
            let path = folder.join(server);
            let own = if server == "web1" { 10 } else { 20 };
            let lines = [(client, "x"), (3, server), (own, server)].map(|(client, page)| {
                format!(
                    "127.1.0.{client} r1 40100 127.0.0.1 - - [t] \"{page}\" 304 0 \"-\" \"a\"\n"
                )
            });
            fs::write(&path, lines.concat()).unwrap();
            truth.add(&path).unwrap();
        }
        let merged = |clients: [u8; 6]| {
            let pages = ["x", "x", "web1", "web1", "web2", "web2"];
            let lines = clients.iter().zip(pages).map(|(client, page)| {
                format!("127.1.0.{client} - - [t] \"{page}\" 304 0 \"-\" \"a\"\n")
            });
            lines.collect::<String>()
        };
        let right = |clients| truth.score(merged(clients).as_bytes(), None).right;
        assert_eq!(right([1, 2, 3, 10, 3, 20]), 6);
        assert_eq!(right([2, 1, 3, 10, 3, 20]), 6, "those of two servers");
        assert_eq!(right([1, 2, 10, 3, 3, 20]), 4, "those of one server");
    }

    #[test]
    fn lines_that_are_lost_doubled_or_strange_are_counted() {
        let mut truth = Truth { lines: 3, ..Truth::default() };
        truth.clients[0].insert(b" - x".to_vec(), alike(&[b"127.1.0.1", b"127.1.0.2"]));
        truth.clients[0].insert(b" - y".to_vec(), alike(&[b"127.1.0.3"]));
        let score = truth.score(b"127.1.0.2 - x\n127.1.0.2 - x\n127.1.0.1 - x\npiece\n", None);
        assert_eq!((score.right, score.written, score.lost()), (1, 2, 1));
        assert_eq!((score.doubled, score.strange), (1, 1));
    }

    #[test]
    fn certainty_is_counted_line_by_line() {
        let mut truth = Truth { lines: 2, ..Truth::default() };
        truth.clients[0].insert(b" - x".to_vec(), alike(&[b"127.1.0.1", b"127.1.0.2"]));
        let marks = [&b"likely\tonly\t0.873\t2"[..], b"certain\tonly\t1.000\t1"].map(mark);
        let score = truth.score(b"127.1.0.1 - x\n127.1.0.1 - x\n", Some(&marks));
        assert_eq!((score.certain, score.certain_wrong), (1, 1));
        assert_eq!((score.likely, score.likely_wrong), (1, 0));
        assert_eq!(score.bands[8], SaidBand { lines: 1, right: 1, said: 0.873 });
    }
}
