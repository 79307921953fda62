//! The slow twin: the same join with nothing but lists that are searched from end to end, and the
//! laws that hold for any join. Property tests hold the engine against both.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    Attributor, Certainty, DecidedLine, JoinSettings, LineVerdict, LoggedLine, MappingEvent,
    Reason, ServerIndex,
};
use crate::addr::{ClientAddr, ServerAddr};
use crate::request::{Cut, Fingerprint};
use crate::time::{Resolution, Timestamp};

const WAIT: Duration = Duration::from_millis(50);
const WINDOW: Duration = Duration::from_secs(5);

/// Something that happens `after` milliseconds after what happened before.
#[derive(Clone, Copy, Debug)]
struct Event {
    after: u16,
    server: u8,
    url: u8,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Mapping { client: u8 },
    Line,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let what = prop_oneof![(0..4_u8).prop_map(|client| What::Mapping { client }), Just(What::Line)];
    let after = prop_oneof![8 => 0..40_u16, 1 => 0..6_000_u16];
    let event = (after, 0..2_u8, 0..4_u8, what).prop_map(|(after, server, url, what)| Event {
        after,
        server,
        url,
        what,
    });
    proptest::collection::vec(event, 0..120)
}

fn client(number: u8) -> ClientAddr {
    ClientAddr::Ip([203, 0, 113, number].into())
}

fn request(url: u8) -> Fingerprint {
    Fingerprint::of_raw(format!("GET /{url} HTTP/1.1").as_bytes(), Cut::Long).expect("not empty")
}

fn line(server: ServerIndex, url: u8, time: Timestamp) -> LoggedLine {
    LoggedLine {
        long: Some(request(url)),
        ..LoggedLine::unread(server, (time, Resolution::Microsecond))
    }
}

/// What the engine makes of the events; the payload is the number of the event.
fn engine(
    events: &[Event],
    settings: JoinSettings,
) -> (Vec<DecidedLine<usize>>, super::JoinCounts) {
    let mut engine = Attributor::new(settings);
    let servers = [1, 2].map(|last| engine.server(ServerAddr::Ip([127, 0, 1, last].into())));
    let mut now = Timestamp::from_seconds(1_000);
    let mut decided = Vec::new();
    for (number, event) in events.iter().enumerate() {
        now = now.offset_by(i64::from(event.after) * 1_000);
        engine.advance(now);
        decided.extend(std::iter::from_fn(|| engine.next_decided()));
        let server = servers[usize::from(event.server)];
        match event.what {
            What::Mapping { client: number } => engine.mapping(&MappingEvent {
                server,
                client: client(number),
                time: now,
                resolution: Resolution::Microsecond,
                request: Some(request(event.url)),
                cut: Cut::Long,
                is_body: false,
                exchange: None,
                is_unauthenticated: false,
            }),
            What::Line => engine.line(&line(server, event.url, now), number),
        }
    }
    engine.finish();
    decided.extend(std::iter::from_fn(|| engine.next_decided()));
    (decided, engine.counts())
}

/// A mapping in the twin's list.
#[derive(Clone, Copy)]
struct Noted {
    at: i64,
    server: u8,
    url: u8,
    client: u8,
    used: bool,
    /// Whether a line has it that may belong to another one.
    is_doubtful: bool,
}

/// The twin decides each line when the engine does: [`WAIT`] after it came, or when time first
/// moves beyond that. It knows who could have asked; it leaves to the engine who it is if several
/// could, and takes over that choice.
fn check(events: &[Event], decided: &[DecidedLine<usize>]) -> Result<(), TestCaseError> {
    let mut times = Vec::new();
    let mut now = 0_i64;
    for event in events {
        now += i64::from(event.after);
        times.push(now);
    }
    let wait = 50;
    let window = 5_000;
    let mut noted: Vec<Noted> = Vec::new();
    let mut fed = 0;
    for out in decided {
        let number = out.payload;
        // The first event late enough to make the line due; it is not fed before the decision.
        let due = (0..events.len()).find(|&i| times[i] >= times[number] + wait);
        let until = due.unwrap_or(events.len());
        while fed < until {
            if let What::Mapping { client } = events[fed].what {
                let Event { server, url, .. } = events[fed];
                noted.push(Noted {
                    at: times[fed],
                    server,
                    url,
                    client,
                    used: false,
                    is_doubtful: false,
                });
            }
            fed += 1;
        }
        let Event { server, url, .. } = events[number];
        let possible: Vec<usize> = (0..noted.len())
            .filter(|&i| {
                let Noted { at, server: s, url: u, used, .. } = noted[i];
                !used
                    && s == server
                    && u == url
                    && at + window >= times[number]
                    && at <= times[number] + wait
            })
            .collect();
        let clients: Vec<u8> = possible.iter().map(|&i| noted[i].client).collect();
        let LineVerdict { client: found, certainty, reason, .. } = out.verdict;

        let Some(found) = found else {
            prop_assert_eq!(certainty, Certainty::Unmatched);
            // Where lines outnumber mappings, each may more likely have none.
            let rivals = events[..until].iter().enumerate().filter(|&(i, event)| {
                i != number
                    && matches!(event.what, What::Line)
                    && (event.server, event.url) == (server, url)
            });
            // A request that was asked only after the line may well be another one's.
            let is_free = |&i: &usize| !noted[i].is_doubtful && noted[i].at <= times[number];
            prop_assert!(
                !possible.iter().any(is_free) || rivals.count() > 0,
                "line {} has no client but could have {:?}",
                number,
                clients
            );
            continue;
        };
        let same = clients.iter().all(|&other| client(other) == found);
        prop_assert!(clients.iter().any(|&other| client(other) == found), "line {number}: made up");
        let mut free = possible.iter().filter(|&&i| !noted[i].is_doubtful);
        let same = same || free.all(|&i| client(noted[i].client) == found);
        if certainty == Certainty::Certain {
            prop_assert!(same, "line {} is called certain among {:?}", number, clients);
        }
        if reason == Reason::Only {
            prop_assert!(possible.iter().filter(|&&i| !noted[i].is_doubtful).count() <= 1);
        }
        // Of several mappings of the chosen client the engine takes the one with this delay.
        let delay = out.verdict.delay.expect("a client came from a mapping") / 1_000;
        let used = possible
            .iter()
            .copied()
            .filter(|&i| client(noted[i].client) == found && times[number] - noted[i].at == delay)
            .min_by_key(|&i| noted[i].is_doubtful);
        prop_assert!(used.is_some(), "line {} took a mapping that was not there", number);
        // Where it is in doubt which mapping a line has, lines that follow may have each.
        let is_only = reason == Reason::Only;
        for i in possible {
            noted[i].is_doubtful |= !is_only;
        }
        let used = &mut noted[used.unwrap_or_default()];
        (used.used, used.is_doubtful) = (is_only, true);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_engine_finds_what_a_search_from_end_to_end_finds(events in events()) {
        let settings = JoinSettings { wait: WAIT, window: WINDOW, ..JoinSettings::default() };
        let (decided, _) = engine(&events, settings);
        check(&events, &decided)?;
    }

    #[test]
    fn each_line_comes_out_once_in_order_and_the_books_balance(
        events in events(), max_mappings in 1..40_usize, max_lines in 1..40_usize,
    ) {
        let settings = JoinSettings { wait: WAIT, window: WINDOW, max_mappings, max_lines };
        let (decided, counts) = engine(&events, settings);
        let lines = events.iter().enumerate().filter(|(_, event)| matches!(event.what, What::Line));
        let expected: Vec<usize> = lines.map(|(number, _)| number).collect();
        let found: Vec<usize> = decided.iter().map(|out| out.payload).collect();
        prop_assert_eq!(&found, &expected);
        let by_certainty = counts.exact + counts.certain + counts.likely + counts.unmatched;
        prop_assert_eq!(counts.lines, by_certainty + counts.held);
        prop_assert_eq!(counts.held, 0);
        prop_assert_eq!(
            counts.mappings,
            counts.used + counts.expired + counts.evicted + counts.outstanding
        );
        prop_assert!(counts.outstanding <= max_mappings as u64);
    }
}
