//! Made sites: how many lines name the right client whatever happens to a site, and how sure they are.

use std::process::Command;

use pen_testing::TempFolder;
use pen_testing::site::{
    BalancerAddresses, CheckKind, Disturbance, LineFormat, LogFiles, LoggedSize, MadeScore,
    RecordFormat, SitePlan, make, score, write_files,
};

/// A made site, and the least per cent of its lines that are right: of all, and of those that are not within
/// two seconds of a disturbance.
struct MadeCase {
    name: &'static str,
    plan: SitePlan,
    right: f64,
    calm: f64,
}

fn made_cases() -> Vec<MadeCase> {
    let base = || SitePlan { servers: 1, requests: 2_500, urls: 30, ..SitePlan::default() };
    let common = || SitePlan { format: LineFormat::Common, ..base() };
    let classic = |plan| SitePlan { records: RecordFormat::Classic, ..plan };
    let hosts = || SitePlan { hosts: 4, files: LogFiles::OfHost, same: 0.5, ..base() };
    let busy_hosts = || SitePlan { hosts: 2, rate: 600.0, requests: 6_000, urls: 60, ..hosts() };
    let daily = || SitePlan { rate: 2_500.0 / 86_400.0, ..base() };
    let hot_common = || SitePlan { same: 0.5, ..common() };
    let busy = || SitePlan { requests: 6_000, ..common() };
    let one_page = || SitePlan { same: 0.9, rate: 300.0, ..base() };
    let posts = || SitePlan { early: 0.5, per_connection: 4, same: 0.5, ..base() };
    let port = || SitePlan { format: LineFormat::Port, per_connection: 4, ..base() };
    let json = || SitePlan { format: LineFormat::Json, ..base() };
    let front = || SitePlan {
        records: RecordFormat::Nginx,
        sizes: LoggedSize::Whole,
        rate: 2_000.0,
        requests: 6_000,
        ..base()
    };
    let case = |name, plan, right, calm| MadeCase { name, plan, right, calm };
    vec![
        case("a second is missing", common().with(Disturbance::Gap(1.0)), 97.0, 99.0),
        case("only 503 is logged", busy().with(Disturbance::OnlyStatus(503)), 90.0, 90.0),
        case("one in ten is logged", busy().with(Disturbance::Sampled(10)), 90.0, 90.0),
        case(
            "the clock is set by 20 s",
            classic(base().with(Disturbance::ClockStep(20.0))),
            94.0,
            94.0,
        ),
        case("a clock is ahead", classic(base().with(Disturbance::ClockAhead(37.0))), 94.0, 94.0),
        case("a clock is set, ports", port().with(Disturbance::ClockStep(-3_600.0)), 99.8, 100.0),
        case("the clock is set by -5 s", base().with(Disturbance::ClockStep(-5.0)), 98.0, 99.0),
        case("a slow clock", daily().with(Disturbance::ClockDrift(-100.0)), 99.0, 99.0),
        case(
            "the clock of a log of years is set",
            SitePlan { rate: 2_500.0 / (4.0 * 365.0 * 86_400.0), ..base() }
                .with(Disturbance::ClockStep(20.0)),
            99.0,
            99.0,
        ),
        case("a fast clock", daily().with(Disturbance::ClockDrift(100.0)), 99.0, 99.0),
        case(
            "two formats",
            SitePlan { format: LineFormat::CombinedAndCommon, ..hosts() },
            98.0,
            98.0,
        ),
        case("hosts in files", hosts(), 99.0, 99.0),
        case("hosts in files, busy", busy_hosts(), 99.0, 99.0),
        case("JSON", json(), 99.9, 99.9),
        case("one page, one User-Agent", SitePlan { agents: 1, ..one_page() }, 98.0, 98.0),
        case("one page, 12 User-Agents", one_page(), 99.5, 99.5),
        case("early answers", posts(), 99.5, 99.5),
        case(
            "a few busy seconds",
            SitePlan { rate: 2_000.0, requests: 8_000, ..base() },
            99.5,
            99.5,
        ),
        case("two addresses", base().with(Disturbance::TwoAddresses), 99.9, 99.9),
        case("a restart", port().with(Disturbance::BalancerRestart), 99.9, 99.9),
        case("another balancer", port().with(Disturbance::SecondBalancer(0.5)), 99.9, 99.9),
        case("two balancers", classic(SitePlan { balancers: 2, ..base() }), 84.0, 84.0),
        case(
            "a fifth of the lines lost",
            classic(base().with(Disturbance::LostLines(0.2))),
            80.0,
            80.0,
        ),
        case(
            "a fifth of the records lost",
            classic(base().with(Disturbance::LostRecords(0.2))),
            68.0,
            68.0,
        ),
        case(
            "a fifth of the lines lost, common",
            hot_common().with(Disturbance::LostLines(0.2)),
            80.0,
            80.0,
        ),
        case(
            "a fifth of the records lost, common",
            hot_common().with(Disturbance::LostRecords(0.2)),
            72.0,
            72.0,
        ),
        case(
            "a tenth by another balancer, common",
            hot_common().with(Disturbance::SecondBalancer(0.1)),
            86.0,
            86.0,
        ),
        case(
            "checks of the front page, common",
            SitePlan { rate: 33.0, ..hot_common() }
                .with(Disturbance::Checks(2.0, CheckKind::FrontPage)),
            88.0,
            88.0,
        ),
        case(
            "another balancer with its own address",
            classic(SitePlan {
                addresses: BalancerAddresses::Own,
                requests: 12_000,
                ..base().with(Disturbance::SecondBalancer(0.5))
            }),
            78.0,
            78.0,
        ),
        case("checks by pen", base().with(Disturbance::Checks(2.0, CheckKind::Pen)), 99.9, 99.9),
        case(
            "ports that no record names",
            SitePlan { records: RecordFormat::Nginx, agents: 4, per_connection: 1, ..port() },
            99.5,
            99.5,
        ),
        case(
            "ports that no record names, busy",
            SitePlan {
                records: RecordFormat::Nginx,
                agents: 1,
                per_connection: 1,
                rate: 600.0,
                requests: 6_000,
                ..port()
            },
            97.0,
            97.0,
        ),
        case("a balancer that counts other sizes", front(), 99.0, 99.0),
        case(
            "the same, common",
            SitePlan { format: LineFormat::Common, rate: 400.0, ..front() },
            99.0,
            99.0,
        ),
        case("long exchanges", posts().with(Disturbance::LongerThanWindow(0.03)), 99.0, 99.0),
    ]
}

/// Made sites whose right value is not reached yet.
const NOT_YET: &[&str] = &["only 503 is logged", "one in ten is logged", "two formats"];

pub(crate) fn run_made(plan: &SitePlan) -> MadeScore {
    let (site, folder) = (make(plan), TempFolder::new());
    let arguments = write_files(&site, folder.path()).expect("the folder takes files");
    let (merged, explained) = (folder.join("merged"), folder.join("explained"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_mergelogs"));
    command.arg("-q").arg("-o").arg(&merged).arg("--explain").arg(&explained).args(arguments);
    let ended = command.output().expect("the program is built");
    assert!(matches!(ended.status.code(), Some(0 | 3)), "{ended:?}");
    let read = |path| std::fs::read(path).expect("the program wrote it");
    score(&site.truth, site.lines.len(), &read(merged), &read(explained))
}

#[test]
fn made_sites_have_the_right_clients_and_say_how_sure_they_are() {
    for seed in [1, 2] {
        for MadeCase { name, plan, right, calm } in made_cases() {
            let score = run_made(&SitePlan { seed, ..plan });
            let off: Vec<String> = score.bands_off().map(|(.., band)| band.to_string()).collect();
            let faults = [
                (score.written != score.lines, "lines are missing"),
                (score.right_share() < right, "too few lines are right"),
                (score.calm_share() < calm, "too few lines far from the disturbance are right"),
                (score.exact_wrong > 0, "an exact line is wrong"),
                (score.certain_wrong > 0, "a certain line is wrong"),
                (!off.is_empty(), "likely lines are not as sure as said"),
            ];
            let faults: Vec<_> =
                faults.into_iter().filter_map(|(is_so, fault)| is_so.then_some(fault)).collect();
            println!(
                "{name}, seed {seed}: {:.2} {:.2} {faults:?} {off:?}",
                score.right_share(),
                score.calm_share()
            );
            let is_judged = !NOT_YET.contains(&name);
            assert!(!is_judged || faults.is_empty(), "{name}, seed {seed}: {faults:?} {score:?}");
        }
    }
}
