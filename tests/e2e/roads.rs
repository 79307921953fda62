//! Every road that leads into a log, with old and new programs mixed. No two requests are alike, so
//! each line has to name its client.

use std::process::Command;

use pen_bench::stage::WebServerKind::{Apache, Nginx};
use pen_bench::stage::{
    Mappings, Output, Site, TempFolder, marks, require_installed, run_to_end, sibling,
};

use crate::support::{Road, distinct_visits, web};

#[test]
fn our_collector_hears_the_c_balancer_and_the_c_shipper() {
    let mut road = Road::to(&sibling("penlogd").unwrap(), &[]).unwrap();
    let old = require_installed("penlog").unwrap();
    let webs = [
        web(Nginx, 1, vec![road.ship(&old, 1).unwrap()]),
        web(Apache, 2, vec![road.ship(&old, 2).unwrap()]),
    ];
    road.travel(&webs, &distinct_visits(60)).unwrap().assert_all_right();
}

#[test]
fn the_c_collector_hears_our_shipper() {
    let mut road = Road::to(&require_installed("penlogd").unwrap(), &[]).unwrap();
    let ours = sibling("penlog").unwrap();
    let webs = [
        web(Nginx, 1, vec![road.ship(&ours, 1).unwrap()]),
        web(Nginx, 2, vec![road.ship(&ours, 2).unwrap()]),
    ];
    road.travel(&webs, &distinct_visits(60)).unwrap().assert_all_right();
}

#[test]
fn our_collector_hears_our_shipper_at_the_end_of_a_fifo() {
    let mut road = Road::to(&sibling("penlogd").unwrap(), &[]).unwrap();
    let ours = sibling("penlog").unwrap();
    let webs = [
        web(Nginx, 1, vec![road.ship(&ours, 1).unwrap()]),
        web(Nginx, 2, vec![road.ship(&ours, 2).unwrap()]),
    ];
    road.travel(&webs, &distinct_visits(60)).unwrap().assert_all_right();
}

/// The set-up of the README: Apache's piped log, our shipper, our collector, Debian's `pen`.
#[test]
fn apache_pipes_its_log_into_our_shipper() {
    let road = Road::to(&sibling("penlogd").unwrap(), &[]).unwrap();
    let (penlog, collector) = (sibling("penlog").unwrap(), road.addr());
    let pipe = |number: u8| {
        let command = format!(
            "{} {} {} 127.0.1.{number}",
            penlog.display(),
            collector.ip(),
            collector.port()
        );
        vec![Output::Pipe(command)]
    };
    let webs = [web(Apache, 1, pipe(1)), web(Apache, 2, pipe(2))];
    road.travel(&webs, &distinct_visits(60)).unwrap().assert_all_right();
}

/// nginx sends from whatever address the way leads over, so the collector is told whose lines they are.
#[test]
fn nginx_sends_syslog_to_our_collector() {
    let road =
        Road::to(&sibling("penlogd").unwrap(), &["--server", "127.0.0.1=127.0.1.1"]).unwrap();
    let webs = [web(Nginx, 1, vec![Output::Syslog(road.addr())])];
    let end = road.travel(&webs, &distinct_visits(60)).unwrap();
    let log = String::from_utf8_lossy(&end.merged);
    assert_eq!(log.lines().count(), 60, "{log}\n{}", end.said);
    for nth in 0..60 {
        let client = pen_bench::stage::visitors::address(nth);
        let line = log.lines().find(|line| line.contains(&format!("/page/{nth}.html")));
        assert!(
            line.is_some_and(|line| line.contains(&format!("{client} - - ["))),
            "page {nth}: {line:?}"
        );
    }
}

#[test]
fn mergelogs_reads_the_c_balancers_file() {
    let folder = TempFolder::new();
    let (pen_log, explain) = (folder.join("pen.log"), folder.join("explain"));
    let plans = [web(Nginx, 1, vec![]), web(Apache, 2, vec![])];
    let mut site = Site::start(&folder, &plans, &Mappings::File(pen_log.clone())).unwrap();
    site.send(&distinct_visits(60)).unwrap();
    let truth = site.stop().unwrap();
    let mut command = Command::new(sibling("mergelogs").unwrap());
    command.arg("-p").arg(&pen_log).arg("--explain").arg(&explain);
    for web in &site.webs {
        command.arg(format!("{}:{}", web.addr().ip(), web.access_log().display()));
    }
    let merged = run_to_end(&mut command).unwrap();
    let marks = marks(&explain).unwrap();
    assert_eq!(marks.len(), 60);
    let score = truth.score(&merged, Some(&marks));
    assert_eq!((score.right, score.written, score.strange), (60, 60, 0), "{score:?}");
}
