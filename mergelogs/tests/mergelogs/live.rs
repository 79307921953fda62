//! The same records and lines, as they come and from files afterwards: each line has the same client, as surely.

use std::net::{IpAddr, SocketAddr};

use pen_records::access::Spec;
use pen_records::attribution::{JoinSettings, text_hash};
use pen_records::mapping::packet::{write_packet, write_record};
use pen_records::mapping::{Mapping, MappingKind, RequestText};
use pen_records::request::Cut;
use pen_records::shipment::SenderOrigin;
use pen_records::time::{Resolution, Timestamp};
use penlogd::collector::{Collector, CollectorSettings, SenderSettings};

use crate::T;
use crate::support::MergeFolder;

const FORMAT: &str =
    r#"$remote_addr $msec "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent""#;
const ORIGIN: SenderOrigin = SenderOrigin { id: 7, start: Timestamp::from_micros(1) };
const SECOND: u64 = 1_000_000;

/// Numbers that look like chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (self.0 >> 33) % most
    }

    fn small(&mut self, most: u8) -> u8 {
        u8::try_from(self.below(most.into())).expect("it fits")
    }
}

/// What is seen of a site, in the order of time: what the balancer notes as a packet and as a line of its file, or what
/// a server logs.
enum Seen {
    Noted { records: Vec<u8>, line: Vec<u8> },
    Logged { server: u8, line: String },
}

/// How visitors behave.
struct Traffic {
    pages: u64,
    clients: u8,
    pause: u64,
    service: u64,
    has_port: bool,
}

impl Traffic {
    fn of(chance: &mut Chance) -> Self {
        Self {
            pages: [2, 20, 400][usize::from(chance.small(3))],
            clients: 2 + chance.small(40),
            pause: [2_000, 40_000, 900_000][usize::from(chance.small(3))],
            service: [3_000, 60_000, 1_500_000][usize::from(chance.small(3))],
            has_port: chance.small(3) == 0,
        }
    }

    fn format(&self) -> String {
        if self.has_port { format!("{FORMAT} $remote_port") } else { FORMAT.to_owned() }
    }

    /// 250 connections of a few requests each.
    fn draw(&self, chance: &mut Chance) -> Vec<(u64, Seen)> {
        let (mut seen, mut begin) = (Vec::new(), 0);
        for connection in 0..250_u16 {
            begin += chance.below(self.pause);
            let (client, server) = (1 + chance.small(self.clients), 1 + chance.small(2));
            let agent = format!("Browser/{}", client % 7);
            let mapping = Mapping {
                connection: Some(connection.into()),
                balancer: Some(SocketAddr::from(([127, 0, 0, 1], 20_000 + connection))),
                ..Mapping::new(
                    IpAddr::from([203, 0, 113, client]).into(),
                    IpAddr::from([127, 0, 0, 1 + server]).into(),
                )
            };
            let mut at = begin;
            note(&mut seen, at, Mapping { kind: MappingKind::Opened, ..mapping });
            for nth in 1..=1 + u32::from(chance.small(4)) {
                at += 100 + chance.below(self.pause);
                let page = chance.below(self.pages).min(chance.below(self.pages));
                let text = format!("GET /{page} HTTP/1.1");
                let user_agent = Some(text_hash(agent.as_bytes()));
                let asked = Mapping {
                    request: Some(RequestText::raw(text.as_bytes(), Cut::Long)),
                    nth: Some(nth),
                    user_agent,
                    ..mapping
                };
                note(&mut seen, at, Mapping { kind: MappingKind::Request, ..asked });
                at += 100 + chance.below(self.service);
                let bytes = page * 7;
                let ended = Mapping {
                    nth: Some(nth),
                    status: Some(200),
                    head_bytes: Some(150),
                    body_bytes: Some(bytes),
                    framed_bytes: Some(bytes),
                    ..mapping
                };
                note(&mut seen, at, Mapping { kind: MappingKind::Ended, ..ended });
                let logged = at + 50 + chance.below(2_000);
                let stamp =
                    format!("{}.{:06}", T.unsigned_abs() + logged / SECOND, logged % SECOND);
                let mut line =
                    format!("127.0.0.1 {stamp} \"{text}\" 200 {bytes} \"-\" \"{agent}\"");
                if self.has_port {
                    line += &format!(" {}", 20_000 + connection);
                }
                seen.push((logged, Seen::Logged { server, line }));
                at = logged;
            }
            note(&mut seen, at + 10, Mapping { kind: MappingKind::Closed, ..mapping });
        }
        seen.sort_by_key(|(at, _)| *at);
        // No two at once, so that there is one order.
        seen.dedup_by_key(|(at, _)| *at);
        seen
    }
}

fn time(at: u64) -> Timestamp {
    Timestamp::from_seconds(T).offset_by(i64::try_from(at).expect("it fits"))
}

fn note(seen: &mut Vec<(u64, Seen)>, at: u64, mapping: Mapping<'_>) {
    let mapping = Mapping { time: Some((time(at), Resolution::Microsecond)), ..mapping };
    let (mut records, mut line) = (Vec::new(), Vec::new());
    write_record(&mapping, &mut records);
    mapping.write_extended_line(&mut line);
    seen.push((at, Seen::Noted { records, line }));
}

/// Certainty and client of each line, and the log.
type Outcome = (Vec<(String, String)>, String);

fn outcome(explained: &[u8], log: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(explained).into_owned();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let columns = lines.map(|line| {
        let mut columns = line.split('\t');
        let certainty = columns.next().unwrap_or_default().to_owned();
        (certainty, columns.nth(5).unwrap_or_default().to_owned())
    });
    (columns.collect(), String::from_utf8_lossy(log).into_owned())
}

fn live(seen: &[(u64, Seen)], format: &str) -> Outcome {
    // As long as mergelogs waits and remembers.
    let engine = JoinSettings {
        wait: std::time::Duration::from_secs(3),
        window: std::time::Duration::from_secs(603),
        ..JoinSettings::default()
    };
    let known = SenderSettings {
        format: Spec::parse(format).expect("a format"),
        ..SenderSettings::default()
    };
    let settings = CollectorSettings {
        engine,
        known,
        held_bytes: 1 << 24,
        servers: 9,
        senders: 100,
        balancers: 16,
        ..CollectorSettings::default()
    };
    let mut collector = Collector::new(settings);
    let (mut out, mut explained, mut number) = (Vec::new(), Vec::new(), 0);
    for (at, seen) in seen {
        let now = time(*at);
        while let Some(due) = collector.next_due().filter(|due| *due <= now) {
            collector.decide(due, &mut out, Some(&mut explained));
        }
        let (from, datagram) = match seen {
            Seen::Noted { records, .. } => {
                let mut packet = Vec::new();
                write_packet(ORIGIN, number, now, 0, (1, records), &mut packet);
                number += 1;
                (SocketAddr::from(([127, 0, 0, 1], 4_000)), packet)
            }
            Seen::Logged { server, line } => {
                (SocketAddr::from(([127, 0, 0, 1 + server], 5_000)), line.clone().into_bytes())
            }
        };
        assert!(collector.receive(from, &datagram, now.into()).is_none());
    }
    collector.finish(Timestamp::MAX, &mut out, Some(&mut explained));
    outcome(&explained, &out)
}

fn offline(seen: &[(u64, Seen)], format: &str) -> Outcome {
    let folder = MergeFolder::new();
    let (mut mappings, mut logs) = (Vec::new(), [String::new(), String::new()]);
    for (_, seen) in seen {
        match seen {
            Seen::Noted { line, .. } => mappings.extend_from_slice(line),
            Seen::Logged { server, line } => {
                logs[usize::from(server - 1)] += &format!("{line}\n");
            }
        }
    }
    folder.write("pen.log", &mappings);
    folder.write("a.log", &logs[0]);
    folder.write("b.log", &logs[1]);
    let arguments = "-q -p pen.log --explain why 127.0.0.2:a.log 127.0.0.3:b.log";
    let run = folder.run_with(arguments, |command| {
        command.args(["--format", format]);
    });
    assert_eq!(run.code, Some(0), "{}", run.err);
    outcome(&folder.read("why"), &run.bytes)
}

#[test]
fn lines_have_the_same_clients_as_surely_whether_joined_as_they_come_or_afterwards() {
    let mut by_certainty = std::collections::BTreeMap::new();
    for seed in 0..24 {
        let mut chance = Chance(seed);
        let traffic = Traffic::of(&mut chance);
        let seen = traffic.draw(&mut chance);
        let (live, offline) = (live(&seen, &traffic.format()), offline(&seen, &traffic.format()));
        let lines = seen.iter().filter(|(_, seen)| matches!(seen, Seen::Logged { .. })).count();
        assert_eq!(live.0.len(), lines, "seed {seed}: each line comes out once");
        for (number, (live, offline)) in live.0.iter().zip(&offline.0).enumerate() {
            assert_eq!(live, offline, "seed {seed}, line {number}");
        }
        assert!(live == offline, "seed {seed}");
        for (certainty, _) in live.0 {
            *by_certainty.entry(certainty).or_insert(0) += 1;
        }
    }
    // So that it was not all plain.
    for certainty in ["exact", "certain", "likely"] {
        assert!(by_certainty.get(certainty).is_some_and(|lines| *lines > 300), "{by_certainty:?}");
    }
}

#[test]
fn a_fine_stamp_long_before_its_neighbours_delays_nothing_for_ever() {
    let folder = MergeFolder::new();
    let line =
        |seconds: i64| format!("127.0.0.1 {}.000001 \"GET /a HTTP/1.1\" 200 5\n", T + seconds);
    let times = [0, 6_000, 6_001, 1, 12_000, 12_001, 2, 12_002];
    folder.write("a.log", times.map(line).concat());
    folder.write("pen.log", crate::mapping("203.0.113.7", T, "127.0.0.2", "GET /a HTTP/1.1"));
    let run = folder.run_with("-p pen.log 127.0.0.2:a.log", |command| {
        command.args(["--format", r#"$remote_addr $msec "$request" $status $body_bytes_sent"#]);
    });
    assert_eq!((run.code, run.clients().len()), (Some(0), times.len()), "{}", run.err);
    let named = run.clients().iter().filter(|client| *client == "203.0.113.7").count();
    assert!((1..=3).contains(&named), "{named} lines at the record's time are guesses");
}
