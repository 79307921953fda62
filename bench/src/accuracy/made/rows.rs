//! The made sites of the table.

use pen_testing::site::{
    BalancerAddresses, CheckKind, Disturbance, LineFormat, LogFiles, LoggedSize, LoggedWhen,
    RecordFormat, ServiceModel, SitePlan, StampedAt,
};

/// A site of the table.
#[derive(Clone, Debug)]
pub struct MadeRow {
    /// What the command line calls it.
    pub name: String,
    /// The site; its seed is another one in each run.
    pub plan: SitePlan,
    /// Per cent of right lines that are aimed at.
    pub aim: f64,
}

/// All sites.
#[must_use]
pub fn rows() -> Vec<MadeRow> {
    let mut rows = MadeRows::default();
    rows.traffic();
    rows.formats();
    rows.missing_lines();
    rows.missing_records();
    rows.clocks();
    rows.set_ups();
    rows.0
}

#[derive(Default)]
struct MadeRows(Vec<MadeRow>);

/// A site that asks for one URL half of the time.
fn hot() -> SitePlan {
    SitePlan { same: 0.5, ..SitePlan::default() }
}

fn common() -> SitePlan {
    SitePlan { format: LineFormat::Common, ..SitePlan::default() }
}

impl MadeRows {
    /// The plan with the records of our pen and with those of the C pen.
    fn both(&mut self, name: &str, aim: f64, plan: SitePlan) {
        let classic = SitePlan { records: RecordFormat::Classic, ..plan.clone() };
        self.one(name, aim, plan);
        self.one(&format!("{name}, classic records"), aim, classic);
    }

    fn one(&mut self, name: &str, aim: f64, plan: SitePlan) {
        self.0.push(MadeRow { name: name.to_owned(), plan, aim });
    }

    fn traffic(&mut self) {
        let base = SitePlan::default;
        self.both("60 URLs", 99.9, base());
        self.both("60 URLs, common", 99.5, common());
        for agents in [1, 12, 40] {
            let plan = SitePlan { same: 0.9, agents, rate: 300.0, requests: 6_000, ..base() };
            let name = format!("90 % the same URL, {agents} User-Agents");
            self.both(&name, if agents == 1 { 99.0 } else { 99.9 }, plan.clone());
            let plan = SitePlan { service: ServiceModel::InTurn, rate: 1_000.0, ..plan };
            self.both(&format!("{name}, 1,000/s in turn"), 99.0, plan);
        }
        let busy = SitePlan { rate: 2_000.0, requests: 12_000, ..base() };
        self.both("2,000 requests/s", 99.9, busy);
        let apart = SitePlan { service: ServiceModel::Apart(50.0, 1.2), ..base() };
        self.both("slow pages", 99.9, SitePlan { rate: 300.0, requests: 6_000, ..apart.clone() });
        self.one("stamps of the start", 99.9, SitePlan { stamped: StampedAt::Start, ..apart });
        self.both("keep-alive", 99.9, SitePlan { per_connection: 8, same: 0.3, ..base() });
        self.both("slow clients", 99.9, SitePlan { slow: 0.2, ..hot() });
        for (name, plan) in [("", hot()), (", common", SitePlan { same: 0.5, ..common() })] {
            let plan = SitePlan { early: 0.5, per_connection: 4, ..plan };
            self.one(&format!("half POST answered early{name}"), 99.9, plan.clone());
            let fast = SitePlan { rate: 300.0, requests: 6_000, ..plan.clone() };
            self.one(&format!("half POST answered early{name}, 300/s"), 99.0, fast);
            let at_once = SitePlan { logged: LoggedWhen::Answered, ..plan };
            self.one(&format!("half POST answered early{name}, logged then"), 99.0, at_once);
        }
        let many = SitePlan { clients: 8, agents: 40, agents_of_client: 5, ..base() };
        self.both("8 clients with 5 User-Agents each", 99.9, many.clone());
        self.both("the same, own URLs", 99.9, SitePlan { urls: 3_000, ..many });
        self.both("2 requests/s", 99.9, SitePlan { rate: 2.0, requests: 2_000, ..base() });
    }

    fn formats(&mut self) {
        for (name, format, aim) in [
            ("port told by --format", LineFormat::Port, 100.0),
            ("port at the end of combined", LineFormat::PortUntold, 100.0),
            ("JSON", LineFormat::Json, 99.9),
            ("JSON with parts of the request", LineFormat::JsonParts, 99.9),
            ("stamps in ms", LineFormat::CombinedMillis, 99.9),
            ("vhost_combined", LineFormat::VhostCombined, 99.9),
            ("local time, 2 hours ahead", LineFormat::LocalTime, 99.9),
            ("combined, then JSON", LineFormat::CombinedAndJson, 99.9),
            ("port, then combined", LineFormat::PortThenCombined, 99.9),
            ("combined, then common", LineFormat::CombinedAndCommon, 99.5),
        ] {
            self.both(name, aim, SitePlan { format, ..hot() });
        }
        let ids = SitePlan { format: LineFormat::Id, records: RecordFormat::Nginx, ..hot() };
        self.one("ids of nginx in front", 100.0, ids.clone());
        self.one("ids of nginx in front, 1 % of records lost", 99.9, {
            ids.clone().with(Disturbance::LostRecords(0.01))
        });
        self.one("ids of nginx in front, half by another balancer", 100.0, {
            ids.with(Disturbance::SecondBalancer(0.5))
        });
        let plain = SitePlan { records: RecordFormat::Nginx, ..hot() };
        self.one("nginx in front", 99.9, plain.clone());
        let whole = SitePlan { sizes: LoggedSize::Whole, stamped: StampedAt::Start, ..plain };
        self.one("nginx in front of Apache", 99.9, whole.clone());
        let busy = SitePlan { rate: 2_000.0, requests: 8_000, ..whole };
        self.one("nginx in front of Apache, 2,000/s", 99.0, busy.clone());
        self.one("nginx in front of Apache, 2,000/s, common", 97.0, {
            SitePlan { format: LineFormat::Common, ..busy }
        });
        self.both("summer time ends in the stamps", 99.9, {
            SitePlan { format: LineFormat::SummerTime, ..hot() }
        });
        let hosts = |format| SitePlan { hosts: 4, files: LogFiles::OfHost, format, ..hot() };
        for (name, format, aim) in [
            ("vhosts in files", LineFormat::Combined, 99.9),
            ("vhosts in files, names in the lines", LineFormat::VhostCombined, 99.9),
            ("vhosts in files, half common", LineFormat::CombinedAndCommon, 99.0),
            ("vhosts in files, half JSON", LineFormat::CombinedAndJson, 99.9),
        ] {
            self.both(name, aim, hosts(format));
        }
        let busy = |format| SitePlan { hosts: 2, rate: 2_000.0, requests: 8_000, ..hosts(format) };
        self.both("vhosts in files, 2,000/s", 99.0, busy(LineFormat::Combined));
        self.both("vhosts in files, half common, 2,000/s", 95.0, {
            busy(LineFormat::CombinedAndCommon)
        });
        let one_file = SitePlan { hosts: 4, format: LineFormat::VhostCombined, ..hot() };
        self.both("vhosts in one file", 99.9, one_file);
        self.one("vhosts, names in JSON", 99.9, hosts(LineFormat::JsonParts));
    }

    fn missing_lines(&mut self) {
        let longer = |plan| SitePlan { requests: 6_000, urls: 30, ..plan };
        for seconds in [0.5, 3.0] {
            for (name, plan) in [
                ("combined", longer(hot())),
                ("combined, one User-Agent", longer(SitePlan { agents: 1, ..hot() })),
                ("common", longer(common())),
                ("common in ms", longer(SitePlan { format: LineFormat::CommonMillis, ..common() })),
            ] {
                let plan = plan.with(Disturbance::Gap(seconds));
                self.both(&format!("{seconds} s of lines lost, {name}"), 99.0, plan);
            }
        }
        let busy = |plan| SitePlan { requests: 20_000, rate: 300.0, ..plan };
        for (name, plan) in [
            ("combined", busy(SitePlan::default())),
            ("combined, hot", busy(hot())),
            ("common", busy(common())),
        ] {
            for (what, disturbance) in [
                ("one line in ten logged", Disturbance::Sampled(10)),
                ("only 503 logged", Disturbance::OnlyStatus(503)),
                ("only 404 logged", Disturbance::OnlyStatus(404)),
            ] {
                self.both(&format!("{what}, {name}"), 90.0, plan.clone().with(disturbance));
            }
        }
        for (name, plan) in [("combined", hot()), ("common", SitePlan { same: 0.5, ..common() })] {
            let plan = SitePlan { servers: 1, requests: 6_000, urls: 30, ..plan };
            for (what, disturbance) in [
                ("a fifth of the lines lost", Disturbance::LostLines(0.2)),
                ("a fifth of the records lost", Disturbance::LostRecords(0.2)),
            ] {
                let plan = plan.clone().with(disturbance);
                self.both(&format!("{what}, {name}"), 90.0, plan.clone());
                let busy = SitePlan { rate: 600.0, requests: 9_000, ..plan };
                self.both(&format!("{what}, {name}, 600/s"), 90.0, busy);
            }
        }
        let sampled = SitePlan { format: LineFormat::Port, ..busy(hot()) };
        self.one("one line in ten logged, port", 100.0, sampled.with(Disturbance::Sampled(10)));
    }

    fn missing_records(&mut self) {
        for (name, plan, aim) in
            [("combined", hot(), 99.0), ("common", SitePlan { same: 0.5, ..common() }, 99.0)]
        {
            for (what, disturbance) in [
                ("checks of the front page", Disturbance::Checks(2.0, CheckKind::FrontPage)),
                ("checks by pen", Disturbance::Checks(2.0, CheckKind::Pen)),
                ("1 % of records lost", Disturbance::LostRecords(0.01)),
                ("half by another balancer", Disturbance::SecondBalancer(0.5)),
                ("a tenth by another balancer", Disturbance::SecondBalancer(0.1)),
            ] {
                self.both(&format!("{what}, {name}"), aim, plan.clone().with(disturbance));
            }
            let own =
                SitePlan { addresses: BalancerAddresses::Own, requests: 12_000, ..plan.clone() };
            self.both(&format!("half by another balancer with its own address, {name}"), aim, {
                own.clone().with(Disturbance::SecondBalancer(0.5))
            });
            self.both(&format!("two balancers, {name}"), aim, SitePlan { balancers: 2, ..plan });
            self.both(&format!("two balancers with their own addresses, {name}"), aim, {
                SitePlan { balancers: 2, ..own }
            });
        }
        let port = SitePlan { format: LineFormat::Port, ..hot() };
        self.one("half by another balancer, port", 100.0, {
            port.clone().with(Disturbance::SecondBalancer(0.5))
        });
        self.one("1 % of records lost, port", 99.9, port.with(Disturbance::LostRecords(0.01)));
    }

    fn clocks(&mut self) {
        let base = || SitePlan { servers: 1, requests: 6_000, rate: 50.0, ..SitePlan::default() };
        for seconds in [-3_600.0, -20.0, -5.0, -2.0, 2.0, 5.0, 20.0, 60.0, 3_600.0] {
            let plan = base().with(Disturbance::ClockStep(seconds));
            self.both(&format!("clock set by {seconds} s"), 98.0, plan);
        }
        let port = SitePlan { format: LineFormat::Port, ..base() };
        for seconds in [-3_600.0, 20.0] {
            let plan = port.clone().with(Disturbance::ClockStep(seconds));
            self.one(&format!("clock set by {seconds} s, port"), 99.9, plan);
        }
        for seconds in [-90.0, 37.0, 3_600.0] {
            let plan = base().with(Disturbance::ClockAhead(seconds));
            self.both(&format!("clock ahead by {seconds} s"), 99.9, plan);
        }
        let busy = [
            ("400/s", 400.0, 12_000, &[-0.4, 36_000.0][..]),
            ("2,000/s", 2_000.0, 24_000, &[-37.3]),
        ];
        for (name, rate, requests, differences) in busy {
            let plan = SitePlan { rate, requests, ..base() };
            for &seconds in differences {
                let plan = plan.clone().with(Disturbance::ClockAhead(seconds));
                self.both(&format!("clock ahead by {seconds} s, {name}"), 99.0, plan.clone());
                let plan = SitePlan { format: LineFormat::Common, ..plan };
                self.both(&format!("clock ahead by {seconds} s, {name}, common"), 97.0, plan);
            }
        }
        let day = 86_400.0;
        for (name, seconds, drifts) in [
            ("a day", day, [-100.0, 100.0]),
            ("a week", 7.0 * day, [-20.0, 20.0]),
            ("a month", 30.0 * day, [-5.0, 5.0]),
        ] {
            for ppm in drifts {
                let rate = 8_000.0 / seconds;
                let plan = SitePlan { requests: 8_000, rate, ..base() };
                let plan = plan.with(Disturbance::ClockDrift(ppm));
                self.both(&format!("clock gains {ppm} ppm for {name}"), 99.0, plan);
            }
        }
        let plan = SitePlan { requests: 8_000, rate: 8_000.0 / day / 7.0, ..port };
        self.one("clock gains -100 ppm for a week, port", 99.9, {
            plan.with(Disturbance::ClockDrift(-100.0))
        });
    }

    fn set_ups(&mut self) {
        self.both("lines in blocks of 1 s by 4 workers", 99.5, {
            hot().with(Disturbance::Buffered(1.0))
        });
        self.both("lines in blocks of 5 s by 4 workers", 99.0, {
            hot().with(Disturbance::Buffered(5.0))
        });
        for seconds in [3.0, 30.0] {
            let late = Disturbance::LateLines(seconds);
            self.both(&format!("lines late by {seconds} s for once"), 99.0, hot().with(late));
            let restart = Disturbance::ShipperRestart(seconds);
            let name = format!("shippers restarted, {seconds} s");
            self.both(&name, 99.0, hot().with(restart));
        }
        self.both("collector restarted", 99.0, hot().with(Disturbance::CollectorRestart));
        self.one("balancer restarted", 99.9, hot().with(Disturbance::BalancerRestart));
        let port = SitePlan { format: LineFormat::Port, per_connection: 4, ..hot() };
        self.one(
            "balancer restarted, port",
            100.0,
            port.clone().with(Disturbance::BalancerRestart),
        );
        let few = SitePlan { ports: 600, rate: 30.0, per_connection: 1, ..port.clone() };
        for (what, disturbance) in [
            ("lines late by 30 s for once", Disturbance::LateLines(30.0)),
            ("shippers restarted, 30 s", Disturbance::ShipperRestart(30.0)),
        ] {
            self.one(&format!("{what}, port"), 100.0, port.clone().with(disturbance));
        }
        let restart = port.clone().with(Disturbance::CollectorRestart);
        self.one("collector restarted, port", 99.0, restart);
        self.one("balancer restarted, few ports, port", 100.0, {
            few.with(Disturbance::BalancerRestart)
        });
        self.both("servers with two addresses", 99.9, hot().with(Disturbance::TwoAddresses));
        let long = SitePlan { per_connection: 3, ..hot() };
        self.both("3 % longer than the window", 99.0, {
            long.with(Disturbance::LongerThanWindow(0.03))
        });
        self.both("3 s of lines written twice", 95.0, hot().with(Disturbance::Twice(3.0)));
    }
}
