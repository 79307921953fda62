//! The sites of `fixtures/sites`, and made ones: how many lines name the right client, and how sure they are.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pen_testing::TempFolder;

/// A folder of `fixtures/sites`, and what is right about it.
struct SiteFixture {
    name: &'static str,
    /// The least number of right lines, of this many.
    right: (usize, usize),
    /// The least number of exact lines, and of exact or certain ones.
    sure: (usize, usize),
    /// The most likely lines that may be wrong.
    likely_wrong: usize,
    status: i32,
    /// What a message contains.
    says: &'static str,
    /// The zone of the machine.
    zone: &'static str,
}

const fn site(name: &'static str, lines: usize) -> SiteFixture {
    SiteFixture {
        name,
        right: (lines, lines),
        sure: (0, 0),
        likely_wrong: 0,
        status: 0,
        says: "",
        zone: "UTC",
    }
}

const BERLIN: &str = "Europe/Berlin";

#[rustfmt::skip]
const FIXTURES: &[SiteFixture] = &[
    SiteFixture { sure: (0, 365), ..site("checks-by-pen", 500) },
    SiteFixture { sure: (0, 390), ..site("client-with-many-agents", 400) },
    site("containerd", 3),
    SiteFixture { status: 3, ..site("forwarded-for-first", 10) },
    SiteFixture { sure: (0, 3), ..site("gz-with-zeros-behind", 3) },
    site("haproxy-clf", 6),
    site("haproxy-quotes", 6),
    site("host-before-a-client-by-name", 5),
    site("host-dash-client", 3),
    SiteFixture { sure: (0, 240), ..site("json-empty-referer", 300) },
    site("json-empty-value", 3),
    site("lines-cut-or-prefixed", 3),
    SiteFixture { right: (2_325, 2_340), likely_wrong: 15, ..site("lines-missing-for-a-second", 2_340) },
    SiteFixture { sure: (0, 180), zone: BERLIN, ..site("local-time-without-zone", 200) },
    site("longer-than-the-window", 615),
    SiteFixture { status: 3, says: "--mapping-format", ..site("mapping-log-of-envoy", 3) },
    site("nginx-as-balancer", 6),
    site("nginx-asks-by-http-1.0", 200),
    SiteFixture { status: 3, says: "no known format fits", ..site("no-line-understood", 2) },
    SiteFixture { right: (50, 51), likely_wrong: 1, ..site("only-failures-are-logged", 51) },
    SiteFixture { sure: (24, 24), ..site("pen-restarted", 24) },
    SiteFixture { sure: (200, 200), ..site("port-at-the-end-of-combined", 200) },
    SiteFixture { sure: (300, 300), ..site("port-without-a-record", 600) },
    SiteFixture { sure: (315, 320), ..site("request-id", 320) },
    site("server-with-two-addresses", 600),
    SiteFixture { sure: (0, 190), zone: BERLIN, ..site("summer-time-ends", 197) },
    site("syslog-with-two-hosts", 3),
    SiteFixture { right: (1_490, 1_500), likely_wrong: 10, sure: (0, 450), ..site("two-formats-at-one-server", 1_500) },
    site("varnish-absolute-urls", 5),
    SiteFixture { right: (870, 900), likely_wrong: 30, ..site("virtual-hosts-in-files", 900) },
];

/// What became of the lines of a site.
#[derive(Debug, Default)]
struct FixtureOutcome {
    lines: usize,
    right: usize,
    /// By certainty, how many lines and how many wrong ones.
    of: HashMap<String, (usize, usize)>,
    /// Probabilities of likely lines, added up.
    said: f64,
    status: Option<i32>,
    words: String,
}

impl FixtureOutcome {
    fn sure(&self, certainty: &str) -> (usize, usize) {
        self.of.get(certainty).copied().unwrap_or_default()
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/sites").join(name)
}

/// A file of a folder, which may be compressed.
fn read(folder: &Path, name: &str) -> Option<String> {
    if let Ok(text) = std::fs::read_to_string(folder.join(name)) {
        return Some(text);
    }
    let packed = std::fs::File::open(folder.join(format!("{name}.gz"))).ok()?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Arguments as a shell reads them; quotes are single ones.
fn split(args: &str) -> Vec<String> {
    let parts = args.trim_end().split('\'').enumerate();
    let words = parts.flat_map(|(number, part)| match number % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}

fn run(fixture: &SiteFixture) -> FixtureOutcome {
    let (folder, out) = (folder(fixture.name), TempFolder::new());
    let args = split(&read(&folder, "args").expect("the folder has arguments"));
    let (merged, explained) = (out.join("merged"), out.join("explained"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_mergelogs"));
    command.current_dir(&folder).env("TZ", fixture.zone).stdin(Stdio::null());
    command.arg("-o").arg(&merged).arg("--explain").arg(&explained).args(args);
    let ended = command.output().expect("the program is built");
    let mut outcome = FixtureOutcome {
        status: ended.status.code(),
        words: String::from_utf8_lossy(&ended.stderr).into_owned(),
        ..FixtureOutcome::default()
    };
    let truth = read(&folder, "truth.tsv").unwrap_or_default();
    let truth: HashMap<&str, &str> =
        truth.lines().filter_map(|line| line.split_once('\t')).collect();
    let expected = read(&folder, "expected.log");
    let mut expected = expected.as_deref().map(str::lines);
    let merged = std::fs::read_to_string(merged).unwrap_or_default();
    let explained = std::fs::read_to_string(explained).unwrap_or_default();
    let marks = explained.lines().filter(|line| !line.starts_with('#'));
    for (line, mark) in merged.lines().zip(marks) {
        let columns: Vec<&str> = mark.split('\t').collect();
        let right = match &mut expected {
            Some(expected) => expected.next() == Some(line),
            None => truth.get(id(line)).is_some_and(|client| *client == columns[6]),
        };
        outcome.lines += 1;
        outcome.right += usize::from(right);
        let (lines, wrong) = outcome.of.entry(columns[0].to_owned()).or_default();
        *lines += 1;
        *wrong += usize::from(!right);
        if columns[0] == "likely" {
            outcome.said += columns[2].parse::<f64>().expect("a probability");
        }
    }
    outcome
}

/// The word by which a line is known again.
fn id(line: &str) -> &str {
    let id = line.split("rid=").last().unwrap_or_default();
    id.split(|letter: char| !letter.is_ascii_alphanumeric()).next().unwrap_or_default()
}

impl SiteFixture {
    /// What is not as it should be.
    fn faults(&self, outcome: &FixtureOutcome) -> Vec<&'static str> {
        let (exact, exact_wrong) = outcome.sure("exact");
        let (certain, certain_wrong) = outcome.sure("certain");
        let (likely, likely_wrong) = outcome.sure("likely");
        let said = outcome.said / likely.max(1) as f64;
        let right = (likely - likely_wrong) as f64 / likely.max(1) as f64;
        let faults = [
            (outcome.status != Some(self.status), "the exit status"),
            (!outcome.words.contains(self.says), "the messages"),
            (outcome.lines != self.right.1, "the number of lines"),
            (outcome.right < self.right.0, "too few lines are right"),
            (exact_wrong + certain_wrong > 0, "an exact or certain line is wrong"),
            (exact < self.sure.0, "too few lines are exact"),
            (exact + certain < self.sure.1, "too few lines are certain"),
            (likely_wrong > self.likely_wrong, "too many likely lines are wrong"),
            (likely >= 200 && (said - right).abs() > 0.05, "likely lines are not as sure as said"),
        ];
        faults.into_iter().filter_map(|(is_so, fault)| is_so.then_some(fault)).collect()
    }
}

#[test]
fn each_site_has_the_right_clients_and_says_how_sure_they_are() {
    for fixture in FIXTURES {
        let outcome = run(fixture);
        let faults = fixture.faults(&outcome);
        println!("{}: {faults:?} {outcome:?}", fixture.name);
        assert!(faults.is_empty(), "{}: {faults:?} {outcome:?}", fixture.name);
    }
}
