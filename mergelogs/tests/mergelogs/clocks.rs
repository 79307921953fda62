//! Clocks that drift or are set in the middle of a log.

use std::collections::HashMap;
use std::fmt::Write as _;

use chrono::DateTime;
use pen_records::attribution::text_hash;
use pen_testing::random::SeededRandom;
use pen_testing::site::{Disturbance, LineFormat, RecordFormat, SitePlan};

use crate::made::run_made;
use crate::support::MergeFolder;

const START: i64 = 1_790_000_000;

/// A site with one server, whose clock is wrong.
#[derive(Clone, Copy)]
struct WrongClockSite {
    requests: i64,
    /// Milliseconds from one request to the next, at most twice as many.
    apart: i64,
    urls: usize,
    /// Whether all URLs are as frequent.
    is_even: bool,
    is_classic: bool,
}

/// The clock at the beginning and at changes, in parts of 1,000 of the time and seconds ahead; and millionths gained.
struct WrongClock {
    steps: &'static [(i64, i64)],
    pace: i64,
}

impl WrongClock {
    /// Returns how far the clock is ahead, in microseconds, `since` microseconds after the start of `span`.
    fn ahead(&self, since: i64, span: i64) -> i64 {
        let steps = self.steps.iter().filter(|(at, _)| since >= span / 1_000 * at);
        steps.map(|(_, ahead)| ahead * 1_000_000).next_back().unwrap_or(0)
            + since / 1_000_000 * self.pace
    }
}

impl WrongClockSite {
    /// Writes both logs; returns each line's client, and whether it is near a change.
    fn write(&self, folder: &MergeFolder, clock: &WrongClock) -> HashMap<String, (String, bool)> {
        let mut random = SeededRandom::new(11);
        let span = self.requests * self.apart * 1_000;
        let (mut time, mut lines, mut records) = (200_000, Vec::new(), Vec::new());
        let mut truth = HashMap::new();
        for n in 0..self.requests {
            let mut below = |end: i64| {
                let drawn = random.below(usize::try_from(end).expect("it is not negative"));
                i64::try_from(drawn).expect("it is small")
            };
            time += below(2_000 * self.apart);
            let took = 5_000 + below(90_000);
            let (client, agent) = (format!("203.0.113.{}", random.below(250)), random.below(9));
            let path = random.below(self.urls);
            let path = if self.is_even { path } else { path.min(random.below(self.urls)) };
            let request = format!("GET /p{path} HTTP/1.1");
            let at =
                |micros: i64| format!("{}.{:06}", START + micros / 1_000_000, micros % 1_000_000);
            if self.is_classic {
                let seconds = START + time / 1_000_000;
                records.push((time, format!("{client} {seconds} 192.0.2.1 {request}\n")));
            } else {
                let ends =
                    format!("{client} 5000 192.0.2.1 80 192.0.2.254 {} {} 1", 2_000 + n, n + 1);
                let agent = text_hash(format!("agent/{agent}").as_bytes());
                let headers = format!("{agent:08x} {:08x} - -", text_hash(b"-"));
                let asked =
                    format!("pen1 {} request {ends} - - - - - - {headers} {request}\n", at(time));
                let ended =
                    format!("pen1 {} end {ends} 200 255 {n} {n} - - - - - - -\n", at(time + took));
                records.extend([(time, asked), (time + took, ended)]);
            }
            let logged = time + took + 300;
            let stamp = START + (logged + clock.ahead(logged, span)).div_euclid(1_000_000);
            let stamp = DateTime::from_timestamp(stamp, 0).expect("it is a time");
            let text = format!(
                "192.0.2.254 - - [{}] \"{request}\" 200 {n} \"-\" \"agent/{agent}\"\n",
                stamp.format("%d/%b/%Y:%H:%M:%S +0000")
            );
            lines.push((logged, text));
            let is_near =
                clock.steps.iter().any(|(at, _)| (span / 1_000 * at - logged).abs() < 30_000_000);
            truth.insert(n.to_string(), (client, is_near));
        }
        records.sort();
        lines.sort();
        let text =
            |lines: Vec<(i64, String)>| lines.into_iter().map(|(_, line)| line).collect::<String>();
        folder.write("pen.log", text(records));
        folder.write("a.log", text(lines));
        truth
    }
}

#[test]
fn clocks_that_are_set_or_drift_are_followed() {
    let busy = |is_classic| WrongClockSite {
        requests: 3_000,
        apart: 100,
        urls: 150,
        is_even: false,
        is_classic,
    };
    let sparse = |is_classic| WrongClockSite {
        requests: 2_000,
        apart: 600_000,
        urls: 150,
        is_even: false,
        is_classic,
    };
    for (name, sites, clock) in [
        (
            "5 s back",
            busy as fn(bool) -> WrongClockSite,
            WrongClock { steps: &[(500, -5)], pace: 0 },
        ),
        ("2 s forward", busy, WrongClock { steps: &[(500, 2)], pace: 0 }),
        ("an hour back", busy, WrongClock { steps: &[(300, -3_600)], pace: 0 }),
        (
            "an hour forward and right again",
            busy,
            WrongClock { steps: &[(300, 3_600), (700, 0)], pace: 0 },
        ),
        ("losing", sparse as fn(bool) -> WrongClockSite, WrongClock { steps: &[], pace: -100 }),
        ("gaining", sparse, WrongClock { steps: &[], pace: 40 }),
        ("losing a little, an hour ahead", sparse, WrongClock { steps: &[(0, 3_600)], pace: -5 }),
    ] {
        for is_classic in [false, true] {
            let folder = MergeFolder::new();
            let truth = sites(is_classic).write(&folder, &clock);
            let run = folder.run("-p pen.log --explain why 192.0.2.1:a.log");
            let why = String::from_utf8(folder.read("why")).unwrap();
            // Classic records tell equal requests of a second apart by order alone.
            let right_of = if is_classic { 30 } else { 200 };
            let mut wrong = String::new();
            let (mut away, mut wrong_away) = (0, 0);
            for (text, why) in run.out.lines().zip(why.lines().skip(1)) {
                let id = text.split("\" 200 ").nth(1).unwrap().split(' ').next().unwrap();
                let (client, is_near) = &truth[id];
                let is_right = text.starts_with(&format!("{client} "));
                let is_wrong = !is_right && why.starts_with("certain");
                assert!(!is_wrong, "{name}, classic {is_classic}: {text}: {why}\n{}", run.err);
                away += usize::from(!is_near);
                if !is_right && !is_near {
                    wrong_away += 1;
                    writeln!(wrong, "{text}").unwrap();
                }
            }
            let all = run.out.lines().count();
            assert_eq!(all, truth.len(), "{name}");
            assert!(
                wrong_away * right_of <= away,
                "{name}, classic {is_classic}: {wrong_away} of {away}: {}\n{wrong}",
                run.err
            );
            assert!(run.err.contains("clock "), "{name}: {}", run.err);
        }
    }
}

/// Divides a mapping log among two balancers, by the numbers of clients; the second's clock is so many seconds ahead.
fn divide(log: &str, ahead: i32) -> (String, String) {
    let (mut first, mut second) = (String::new(), String::new());
    for line in log.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let client = words[if words[0] == "pen1" { 3 } else { 0 }];
        if client.ends_with(['0', '2', '4', '6', '8']) {
            writeln!(first, "{line}").expect("text takes all");
            continue;
        }
        let (seconds, part) = words[1].split_once('.').unwrap_or((words[1], ""));
        let seconds =
            (seconds.parse::<i64>().expect("it is a number") + i64::from(ahead)).to_string();
        let time = if part.is_empty() { seconds } else { format!("{seconds}.{part}") };
        let line = [&words[..1], &[&time], &words[2..]].concat().join(" ");
        writeln!(second, "{}", line.replace("192.0.2.254", "192.0.2.253")).expect("text takes all");
    }
    (first, second)
}

/// Makes combined lines common: without Referer and User-Agent.
fn common(log: &str) -> String {
    let head = |line: &str| line.splitn(4, '"').take(3).collect::<Vec<_>>().join("\"");
    log.lines().map(|line| head(line).trim_end().to_owned() + "\n").collect()
}

#[test]
fn two_balancers_have_clocks_of_their_own() {
    for (is_classic, ahead, apart, is_common) in [
        (false, 0, 100, false),
        (false, 40, 100, false),
        (false, 3, 10, true),
        (false, -40, 10, true),
        (true, 0, 20, false),
        (true, -7, 20, false),
        (true, 200, 100, false),
    ] {
        let folder = MergeFolder::new();
        let urls = if is_common { 60 } else { 150 };
        let site = WrongClockSite { requests: 5_000, apart, urls, is_even: is_common, is_classic };
        let truth = site.write(&folder, &WrongClock { steps: &[], pace: 0 });
        let log = |name| String::from_utf8(folder.read(name)).expect("it is text");
        let (first, second) = divide(&log("pen.log"), ahead);
        folder.write("first.log", first);
        folder.write("second.log", second);
        if is_common {
            folder.write("a.log", common(&log("a.log")));
        }
        let run = folder.run("-p first.log -p second.log 192.0.2.1:a.log");
        let of = |line: &str| line.split("\" 200 ").nth(1)?.split(' ').next().map(str::to_owned);
        let is_right = |line: &&str| {
            of(line).is_some_and(|id| line.starts_with(&format!("{} ", truth[&id].0)))
        };
        let right = run.out.lines().filter(is_right).count();
        let least = if is_classic { 4_600 } else { 4_940 };
        assert!(right >= least, "classic {is_classic}, {ahead} s: {right}\n{}", run.err);
        let told = run.err.lines().find(|line| line.contains("that of the other mapping log"));
        assert_eq!(told.is_some(), ahead != 0, "{}", run.err);
        if let (Some(told), false) = (told, is_classic) {
            let seconds = told.split(' ').find_map(|word| word.parse::<f64>().ok());
            let off = seconds.map(|seconds| seconds - f64::from(ahead.abs()));
            assert!(off.is_some_and(|off| off.abs() < 0.03), "{ahead} s: {told}");
        }
    }
}

#[test]
fn a_step_is_reported_with_the_clock_before_and_after_it() {
    let folder = MergeFolder::new();
    let site = WrongClockSite {
        requests: 2_000,
        apart: 100,
        urls: 100,
        is_even: false,
        is_classic: false,
    };
    site.write(&folder, &WrongClock { steps: &[(500, -60)], pace: 0 });
    let run = folder.run("-p pen.log 192.0.2.1:a.log");
    assert!(run.err.contains("clock as the balancer's from 2026-09-21T14:13:"), "{}", run.err);
    assert!(
        run.err.contains("clock 60 s behind the balancer's from 2026-09-21T14:1"),
        "{}",
        run.err
    );
    let run = folder.run("--report json -p pen.log 192.0.2.1:a.log");
    let report: serde_json::Value = serde_json::from_str(&run.err).unwrap();
    let pieces = &report["servers"][0]["clock_pieces"];
    assert_eq!(pieces.as_array().map(Vec::len), Some(2), "{}", run.err);
    let ahead = pieces[1]["ahead_seconds"].as_f64().unwrap();
    assert!((ahead + 60.0).abs() < 0.2, "{ahead}");
}

/// The format of lines with a local time and no zone.
const LOCAL: &str =
    r#"%h %l %u [%{%d/%b/%Y:%H:%M:%S}t] "%r" %>s %b "%{Referer}i" "%{User-Agent}i""#;

/// A site over a night in which summer time begins or ends in Berlin, with two requests a second or few.
#[derive(Clone, Copy)]
struct SummerNight {
    /// When clocks are set, and the hours they are ahead of UTC before and after.
    at: i64,
    ahead: (i64, i64),
    /// Milliseconds from one request to the next, at most twice as many.
    apart: usize,
    /// Whether the balancer's log has the local time, or else the servers' log.
    is_balancers: bool,
}

impl SummerNight {
    /// Writes both logs; returns each line's client.
    fn write(&self, folder: &MergeFolder) -> Vec<String> {
        let (mut random, mut clients) = (SeededRandom::new(3), Vec::new());
        let (mut balancers, mut servers) = (String::new(), String::new());
        let mut time = (self.at - 4_200) * 1_000;
        while time < (self.at + 7_800) * 1_000 {
            time += i64::try_from(random.below(2 * self.apart)).expect("it is small");
            let second = time / 1_000;
            let hours = if second < self.at { self.ahead.0 } else { self.ahead.1 };
            let stamp = |at: i64| {
                let at = DateTime::from_timestamp(at, 0).expect("it is a time");
                at.format("%d/%b/%Y:%H:%M:%S").to_string()
            };
            let (client, agent) = (format!("203.0.113.{}", random.below(40)), random.below(7));
            let request = format!("GET /p{} HTTP/1.1", random.below(300).min(random.below(300)));
            let local = stamp(second + hours * 3_600);
            if self.is_balancers {
                let ended = "web app/w1 0/0/1/5/6 200 404 - - ---- 1/1/0/0/0 0/0";
                let millis = time % 1_000;
                writeln!(balancers, "{client}:4711 [{local}.{millis:03}] {ended} \"{request}\"")
                    .expect("it is written");
            } else {
                writeln!(balancers, "{client} {second} 192.0.2.1 {request}")
                    .expect("it is written");
            }
            let zone = if self.is_balancers { format!(" +0{hours}00") } else { String::new() };
            writeln!(
                servers,
                "192.0.2.254 - - [{local}{zone}] \"{request}\" 200 404 \"-\" \"agent/{agent}\""
            )
            .expect("it is written");
            clients.push(client);
        }
        folder.write("pen.log", balancers);
        folder.write("a.log", servers);
        clients
    }
}

#[test]
fn summer_time_begins_and_ends_at_busy_and_quiet_sites() {
    // 26 March and 29 October 2023, 01:00 UTC.
    for (at, ahead) in [(1_679_792_400, (1, 2)), (1_698_541_200, (2, 1))] {
        for (apart, is_balancers) in [(500, true), (60_000, true), (500, false), (60_000, false)] {
            let night = SummerNight { at, ahead, apart, is_balancers };
            let folder = MergeFolder::new();
            let clients = night.write(&folder);
            let options = if is_balancers {
                ["--mapping-zone", "Europe/Berlin", "app/w1:a.log"].as_slice()
            } else {
                &["--zone", "Europe/Berlin", "--format", LOCAL, "192.0.2.1:a.log"]
            };
            let run = folder.run_with("-p pen.log --explain why", |command| {
                command.args(options);
            });
            let name = format!("at {at}, {apart} ms apart, balancer's {is_balancers}");
            let why = String::from_utf8(folder.read("why")).unwrap();
            let (mut right, mut certain_wrong) = (0, 0);
            for ((found, why), client) in
                run.clients().iter().zip(why.lines().skip(1)).zip(&clients)
            {
                right += usize::from(found == client);
                certain_wrong += usize::from(found != client && why.starts_with("certain"));
            }
            assert_eq!(certain_wrong, 0, "{name}: {}", run.err);
            assert!(
                right * 100 >= clients.len() * 99,
                "{name}: {right} of {}: {}",
                clients.len(),
                run.err
            );
        }
    }
}

#[test]
fn clocks_of_busy_sites_are_found_however_far_they_are_off() {
    for (records, rate, format, aheads) in [
        (RecordFormat::Extended, 2_000.0, LineFormat::Combined, &[1.0, -0.4, -37.3][..]),
        (RecordFormat::Extended, 2_000.0, LineFormat::Common, &[90.0, -7_200.0]),
        (RecordFormat::Extended, 400.0, LineFormat::Common, &[-1.0, -0.4, 36_000.0]),
        (RecordFormat::Extended, 50.0, LineFormat::Common, &[-0.4]),
        (RecordFormat::Classic, 400.0, LineFormat::Combined, &[5_400.0, -36_000.0]),
        (RecordFormat::Classic, 2_000.0, LineFormat::Common, &[-37.0, 50_400.0]),
    ] {
        let plan = SitePlan {
            servers: 1,
            requests: if rate > 1_000.0 { 30_000 } else { 15_000 },
            rate,
            format,
            records,
            ..SitePlan::default()
        };
        let right = run_made(&plan).right_share();
        for &ahead in aheads {
            let score = run_made(&plan.clone().with(Disturbance::ClockAhead(ahead)));
            let found = score.right_share();
            let case = format!("{records:?} {rate}/s {format:?} {ahead} s");
            assert!(found > right - 1.0, "{case}: {found} instead of {right}");
            assert_eq!(score.certain_wrong, 0, "{case}");
        }
        // Two requests of the same second are told apart by nothing in classic records and the common format.
        assert!(right > 95.0 || records == RecordFormat::Classic, "{rate}/s {format:?}: {right}");
    }
}

#[test]
fn local_time_that_is_not_said_to_be_is_found_and_said() {
    for (steps, zone) in
        [(&[(0, 7_200)], "+0200"), (&[(0, -36_000)], "-1000"), (&[(0, 50_400)], "+1400")]
    {
        let is_classic = zone.starts_with('-');
        let site =
            WrongClockSite { requests: 3_000, apart: 20, urls: 150, is_even: false, is_classic };
        let folder = MergeFolder::new();
        let truth = site.write(&folder, &WrongClock { steps, pace: 0 });
        let run = folder.run("-p pen.log 192.0.2.1:a.log");
        let wrong = run.out.lines().filter(|text| {
            let id = text.split("\" 200 ").nth(1).unwrap().split(' ').next().unwrap();
            !text.starts_with(&format!("{} ", truth[id].0))
        });
        let right_of = if is_classic { 5 } else { 100 };
        assert!(wrong.count() * right_of < truth.len(), "{zone}: {}", run.err);
        assert!(run.err.contains(&format!("in the zone {zone} (see --zone)")), "{}", run.err);
    }
}

#[test]
fn a_busy_log_of_seconds_gets_clients_only_if_it_shows_its_clock() {
    for (rate, requests) in [(2_000.0, 10_000), (5_000.0, 30_000)] {
        let (format, records) = (LineFormat::Combined, RecordFormat::Classic);
        let plan = SitePlan { servers: 1, requests, rate, format, records, ..SitePlan::default() };
        let score = run_made(&plan.with(Disturbance::ClockAhead(37.3)));
        assert_eq!(score.certain_wrong, 0, "{rate}/s: {score:?}");
        let is_shown = score.right * 10 >= score.lines * 8;
        assert!(is_shown || score.none == score.lines, "{rate}/s: {score:?}");
    }
}
