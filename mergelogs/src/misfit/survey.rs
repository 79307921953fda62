//! Reads samples of the inputs for [`super::facts`]: the beginning of each, the last time in each, and requests of
//! the same time in both logs. Nothing is read that can be read only once.

use std::collections::HashMap;
use std::ops::ControlFlow;

use pen_records::access::{AccessLine, LoggedRequest, Parser, Spec};
use pen_records::attribution::text_hash;
use pen_records::misfit::{LooseDifference, loose_request};
use pen_records::request::{Cut, Fingerprint, without_cut_protocol};
use pen_records::time::Timestamp;

use super::ends::{ArchiveEnds, last_time, lines_of};
use super::facts::{BadLine, MappingLogFacts, RequestPair, ServerFacts, SurveyFacts, TimeSpan};
use super::kinds::{KindReader, LogKind, has_request};
use super::mappings::{MappingSample, MappingSampler, SurveyNames};
use crate::clocks::ArchiveClock;
use crate::clocks::walk::walk;
use crate::config::{MergeConfig, ServerInputs};
use crate::input::heads::InputHead;
use crate::zone::AccessTimes;

/// Bytes read at the beginning of each input.
const LOOK: usize = 1 << 20;
/// Bytes read at the beginnings of all logs of one server.
const LOOK_SERVER: usize = 4 << 20;
/// Bytes of mappings compared with the requests of a server.
const MAPPINGS: usize = 8 << 20;
/// Servers whose mappings are compared. Each may need another part of the mapping log.
const WALKS: usize = 32;
/// Microseconds of mappings before the first line and behind the last one.
const AROUND: i64 = 10_000_000;
/// Logs of a server whose formats are told.
const FORMATS: usize = 16;
/// Lines that were not understood whose kind is looked at.
const KINDS: usize = 200;

/// The inputs to look at.
pub(super) struct Survey<'a> {
    pub(super) config: &'a MergeConfig,
    pub(super) mappings: &'a [InputHead],
    pub(super) logs: &'a [(usize, InputHead)],
    pub(super) clocks: &'a [ArchiveClock],
    pub(super) ends: ArchiveEnds,
}

/// Requests of a server's lines, without protocol and host, as they were logged.
type LoggedRequests = HashMap<Fingerprint, Vec<u8>>;

impl Survey<'_> {
    /// Reads the samples.
    pub(super) fn run(&self) -> SurveyFacts {
        let mut facts = SurveyFacts {
            servers: self.config.servers.iter().map(server_facts).collect(),
            ..SurveyFacts::default()
        };
        let mut kinds = KindReader::new();
        let mut names = SurveyNames::new(self.config);
        for head in self.mappings {
            let log = self.mapping_log(head, &mut kinds, &mut names, &mut facts);
            facts.mapping_logs.push(log);
        }
        let mut left = vec![LOOK_SERVER; facts.servers.len()];
        for (index, head) in self.logs {
            let server = &self.config.servers[*index];
            self.access_log(
                (server, head),
                &mut facts.servers[*index],
                &mut left[*index],
                &mut kinds,
            );
        }
        let requests = self.sample_lines(&mut facts);
        self.sample_mappings(&requests, &mut names, &mut facts);
        facts
    }

    /// Looks at the beginning of an access log.
    fn access_log(
        &self,
        (server, head): (&ServerInputs, &InputHead),
        facts: &mut ServerFacts,
        left: &mut usize,
        kinds: &mut KindReader,
    ) {
        let (mut parser, mut times) = (Parser::new(&server.spec), AccessTimes::new(server.zone));
        let mut detected = Parser::new(&Spec::auto());
        let mut bad = Vec::new();
        let mut number = 0;
        let look = LOOK.min(*left);
        *left -= lines_of(head, look, |line| {
            number += 1;
            facts.looked += 1;
            match parser.parse(line) {
                Ok(parsed) => {
                    facts.understood += 1;
                    facts.without_request += u64::from(parsed.request == LoggedRequest::Absent);
                    facts.lacks_protocol |= parsed.request.lacks_protocol();
                    facts.clients.add(parsed.client.of(line));
                    if let Some((time, _)) = times.of(&parsed) {
                        facts.span = TimeSpan::with(facts.span, time);
                    }
                }
                Err(error) => {
                    facts.with_request += u64::from(has_request(line));
                    facts.as_detected += u64::from(detected.parse(line).is_ok());
                    note_bad(&mut bad, &mut facts.not_understood, line, || BadLine {
                        log: head.origin.to_string(),
                        number,
                        error: error.to_string(),
                        text: BadLine::show(line),
                        kind: LogKind::Unknown,
                    });
                }
            }
        });
        if let Some(first) =
            facts.not_understood.as_mut().filter(|first| first.log == head.origin.to_string())
        {
            first.kind = kinds.kind_of_most(bad.iter().map(Vec::as_slice));
        }
        if number > 0 && facts.formats.len() < FORMATS {
            facts.formats.push((head.origin.to_string(), parser.format()));
        }
        facts.span = TimeSpan::joined(
            facts.span,
            last_time(head, self.ends, |line| Some(times.of(&parser.parse(line).ok()?)?.0)),
        );
    }

    /// Looks at the beginning of a mapping log.
    fn mapping_log(
        &self,
        head: &InputHead,
        kinds: &mut KindReader,
        names: &mut SurveyNames<'_>,
        facts: &mut SurveyFacts,
    ) -> MappingLogFacts {
        let mut log = MappingLogFacts {
            name: head.origin.to_string(),
            is_seen: head.repeatable,
            ..MappingLogFacts::default()
        };
        let mut sampler = MappingSampler::new(self.config);
        let known = names.known();
        let mut bad = Vec::new();
        let mut some = Vec::new();
        lines_of(head, LOOK, |line| {
            log.looked += 1;
            let number = log.looked;
            if some.len() < KINDS {
                some.push(line.to_vec());
            }
            match sampler.read(line, &known) {
                Ok(sample) => {
                    log.understood += 1;
                    log.without_time += u64::from(sample.time == Timestamp::MIN);
                    log.without_request += u64::from(sample.request.is_empty());
                    log.span = TimeSpan::with(log.span, sample.time);
                    names.numbers(&sample.server, facts);
                }
                Err(error) => note_bad(&mut bad, &mut log.not_understood, line, || BadLine {
                    log: head.origin.to_string(),
                    number,
                    error,
                    text: BadLine::show(line),
                    kind: LogKind::Unknown,
                }),
            }
        });
        facts.options.extend(sampler.options());
        log.kind = kinds.kind_of_most(some.iter().map(Vec::as_slice));
        let of_most = bad.iter().map(Vec::as_slice);
        if let Some(first) = &mut log.not_understood {
            first.kind = kinds.kind_of_most(of_most);
        }
        let last = last_time(head, self.ends, |line| {
            sampler.read(line, &known).ok().map(|sample| sample.time)
        });
        log.span = TimeSpan::joined(log.span, last);
        log
    }

    /// Samples requests of each server from the time on at which both logs have begun.
    fn sample_lines(&self, facts: &mut SurveyFacts) -> Vec<(LoggedRequests, Option<TimeSpan>)> {
        let mappings = facts.mapping_logs.iter().map(|log| log.span).fold(None, TimeSpan::joined);
        let mut sampled = Vec::new();
        for (index, server) in self.config.servers.iter().enumerate() {
            let (mut requests, mut span) = (LoggedRequests::new(), None);
            let heads =
                in_order(self.logs.iter().filter(|(of, _)| *of == index).map(|(_, head)| head));
            let Some(lines) = facts.servers[index].span else {
                sampled.push((requests, span));
                continue;
            };
            let ahead = self.clocks.get(index).map_or(0, |clock| clock.correction());
            // Where both have begun; the lines that precede all mappings, if nothing is behind.
            let begun = mappings.map(|mappings| mappings.first.offset_by(ahead));
            let is_within =
                |begun: &Timestamp| self.ends == ArchiveEnds::Skip || *begun <= lines.last;
            let start = begun.filter(is_within).map_or(lines.first, |begun| begun.max(lines.first));
            let (mut parser, mut times) =
                (Parser::new(&server.spec), AccessTimes::new(server.zone));
            let lacks_protocol = facts.servers[index].lacks_protocol;
            let mut text = Vec::new();
            let parse = |line: &[u8]| {
                let parsed = parser.parse(line).ok()?;
                write_request(line, &parsed, &mut text);
                let short = if lacks_protocol {
                    parsed.request.without_protocol(line, Cut::Short)
                } else {
                    parsed.request.fingerprint(line, Cut::Short)
                };
                let ports = parsed.trailing.iter().map(|(_, number)| number);
                let ports = parsed.peer_port.into_iter().chain(ports).collect();
                let sender = text_hash(parsed.client.of(line));
                Some((times.of(&parsed)?.0, (short, sender, text.clone(), ports)))
            };
            walk(&heads, start, LOOK, parse, |time, (short, sender, text, ports)| {
                let time = time.offset_by(-ahead);
                span = TimeSpan::with(span, time);
                if let Some(short) = short {
                    facts.exact.line_from(index, sender, short, time);
                }
                facts.servers[index].ports.lines.push(ports);
                if let Some(loose) = loose_request(&text) {
                    facts.loose.line(index, loose, time);
                    requests.entry(loose).or_insert(text);
                }
                if facts.exact.is_full(index) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            sampled.push((requests, span));
        }
        sampled
    }

    /// Compares the sampled requests with the mappings of the same time.
    fn sample_mappings(
        &self,
        requests: &[(LoggedRequests, Option<TimeSpan>)],
        names: &mut SurveyNames<'_>,
        facts: &mut SurveyFacts,
    ) {
        let heads = in_order(self.mappings.iter());
        let mut spans: Vec<_> = requests.iter().filter_map(|(_, span)| *span).collect();
        spans.sort_unstable_by_key(|span| (span.first, span.last));
        let mut done: Option<Timestamp> = None;
        for span in spans.into_iter().take(WALKS) {
            let from = span.first.offset_by(-AROUND).max(done.unwrap_or(Timestamp::MIN));
            let until = span.last.offset_by(AROUND);
            if done.is_some_and(|done| done >= until) {
                continue;
            }
            let mut sampler = MappingSampler::new(self.config);
            let known = names.known();
            let parse =
                |line: &[u8]| sampler.read(line, &known).ok().map(|sample| (sample.time, sample));
            walk(&heads, from, MAPPINGS, parse, |time, sample| {
                if time > until {
                    return ControlFlow::Break(());
                }
                done = done.max(Some(time));
                for &number in names.numbers(&sample.server, facts).iter() {
                    compare(&sample, number, requests, facts);
                }
                ControlFlow::Continue(())
            });
        }
    }
}

/// Compares a mapping of a server with the sampled requests.
fn compare(
    sample: &MappingSample,
    number: usize,
    requests: &[(LoggedRequests, Option<TimeSpan>)],
    facts: &mut SurveyFacts,
) {
    let short = if facts.servers.get(number).is_some_and(|server| server.lacks_protocol) {
        let text = &sample.request[..sample.request.len().min(Cut::Short.len())];
        Fingerprint::of_raw(without_cut_protocol(text, Cut::Short), Cut::Short)
    } else {
        sample.short
    };
    if let Some(short) = short {
        facts.exact.mapping(number, short, sample.time);
    }
    if let (Some(server), Some(port)) = (facts.servers.get_mut(number), sample.balancer_port) {
        server.ports.mappings.insert(port);
    }
    let Some(loose) = loose_request(&sample.request) else { return };
    facts.loose.mapping(number, loose, sample.time);
    let (Some((requests, _)), Some(server)) = (requests.get(number), facts.servers.get_mut(number))
    else {
        return;
    };
    if server.changed.is_none()
        && let Some(logged) = requests.get(&loose)
        && let Some(difference) = LooseDifference::between(logged, &sample.request)
        && !(sample.ignores_protocol && difference == LooseDifference::Protocol)
    {
        let (logged, mapped) = (BadLine::show(logged), BadLine::show(&sample.request));
        server.changed = Some(RequestPair { difference, logged, mapped });
    }
}

fn server_facts(server: &ServerInputs) -> ServerFacts {
    ServerFacts { label: server.label(), has_format: server.has_format, ..ServerFacts::default() }
}

/// Keeps the first line that was not understood, and a few for their kind.
fn note_bad(
    bad: &mut Vec<Vec<u8>>,
    first: &mut Option<BadLine>,
    line: &[u8],
    make: impl FnOnce() -> BadLine,
) {
    if bad.len() < KINDS {
        bad.push(line.to_vec());
    }
    if first.is_none() {
        *first = Some(make());
    }
}

/// Returns the inputs by their first times.
fn in_order<'a>(heads: impl Iterator<Item = &'a InputHead>) -> Vec<&'a InputHead> {
    let mut heads: Vec<_> = heads.filter(|head| head.first_time > Timestamp::MIN).collect();
    heads.sort_by_key(|head| head.first_time);
    heads
}

/// Writes the request of a line as one text.
fn write_request(line: &[u8], parsed: &AccessLine, out: &mut Vec<u8>) {
    out.clear();
    match parsed.request {
        LoggedRequest::Absent => {}
        LoggedRequest::Line(span) => out.extend_from_slice(span.of(line)),
        LoggedRequest::Parts { method, target, query, protocol } => {
            out.extend_from_slice(method.of(line));
            out.push(b' ');
            out.extend_from_slice(target.of(line));
            let query = query.map_or(&b""[..], |query| query.of(line));
            if !query.is_empty() && !query.starts_with(b"?") {
                out.push(b'?');
            }
            out.extend_from_slice(query);
            out.push(b' ');
            out.extend_from_slice(protocol.map_or(b"", |protocol| protocol.of(line)));
        }
    }
}
