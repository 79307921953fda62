//! The records and lines of a site's traffic, as they stand in files and as they are sent.

use pen_records::attribution::text_hash;
use pen_records::mapping::packet::write_record;
use pen_records::mapping::{BodyEnd, Mapping, MappingKind, RequestText};
use pen_records::request::Cut;
use pen_records::time::{Resolution, Timestamp};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::demand::{Demand, micros};
use super::lines::{LineParts, write_line};
use super::traffic::{SiteConnection, SiteExchange, SiteTraffic, send};
use super::{
    BalancerAddresses, CheckKind, Disturbance, LineFormat, LogFiles, LoggedSize, RecordFormat,
    SitePlan, StampedAt, draw,
};
use crate::random::SeededRandom;

/// The balancer's address towards the servers.
pub const BALANCER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);

/// The address of one of several balancers, counted from 0.
#[must_use]
pub const fn balancer_address(balancer: u8) -> Ipv4Addr {
    let [a, b, c, first] = BALANCER.octets();
    Ipv4Addr::new(a, b, c, first + balancer)
}

/// The address of a server, counted from 0.
#[must_use]
pub const fn server_address(server: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, server + 1)
}

/// A site's logs, with the clients that its lines should name.
#[derive(Clone, Debug, Default)]
pub struct MadeSite {
    /// In the order of time.
    pub records: Vec<MadeRecord>,
    /// In the order in which they are written.
    pub lines: Vec<MadeLine>,
    /// By the number that stands in a line's user field.
    pub truth: Vec<TrueClient>,
    /// Options of the collector and of the offline join alike.
    pub options: Vec<String>,
    /// The window in seconds, where it is not the usual one.
    pub window: Option<u32>,
    /// The zone of stamps that name none, where a program reads stamps.
    pub zone: Option<&'static str>,
    /// The balancer's records, as they are sent.
    pub format: Option<RecordFormat>,
    /// The format of the balancer's log, where that is not pen's.
    pub mapping_format: Option<&'static str>,
    /// The middle of its time, at which things happen.
    pub middle: i64,
}

/// A record of the balancer.
#[derive(Clone, Debug)]
pub struct MadeRecord {
    /// When it was made, in microseconds since the epoch.
    pub at: i64,
    /// The balancer, from 0.
    pub balancer: u8,
    /// Which run of the balancer made it, from 0.
    pub run: u8,
    /// A line of a file.
    pub line: Vec<u8>,
    /// A record of a packet, or a whole classic datagram.
    pub wire: Vec<u8>,
}

/// A line of a server's log.
#[derive(Clone, Debug)]
pub struct MadeLine {
    /// When it is written, in microseconds since the epoch.
    pub written: i64,
    /// The server, from 0.
    pub server: u8,
    /// The number of the file, over all servers.
    pub file: usize,
    /// The line, without a line end.
    pub text: Vec<u8>,
}

/// What a line should say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrueClient {
    /// The client's address; `None` for a health check.
    pub client: Option<String>,
    /// Whether a record tells of it. Of other lines, no client is right, too.
    pub is_recorded: bool,
    /// Whether the line comes within two seconds after a disturbance.
    pub is_near: bool,
}

/// Makes a site.
#[must_use]
pub fn make(plan: &SitePlan) -> MadeSite {
    made_of(plan, draw(plan))
}

/// Makes a site of requests that are known already, in the order of time.
#[must_use]
pub fn made_of(plan: &SitePlan, demands: Vec<Demand>) -> MadeSite {
    let traffic = send(plan, demands);
    let random = SeededRandom::new(plan.seed.wrapping_mul(0xA1).wrapping_add(11));
    let mut writing = LogWriting { plan, random, traffic: &traffic, site: MadeSite::default() };
    writing.site.format = Some(plan.records);
    writing.site.middle = traffic.middle;
    writing.site.mapping_format = (plan.records == RecordFormat::Nginx).then_some(NGINX);
    writing.site.zone = (plan.format == LineFormat::LocalTime).then_some("+0200");
    writing.options();
    writing.connections();
    for exchange in &traffic.exchanges {
        let is_recorded = writing.record(exchange);
        writing.line(exchange, is_recorded);
    }
    writing.checks();
    writing.site.records.sort_by_key(|record| record.at);
    writing.site.lines.sort_by_key(|line| line.written);
    writing.site
}

struct LogWriting<'a> {
    plan: &'a SitePlan,
    random: SeededRandom,
    traffic: &'a SiteTraffic,
    site: MadeSite,
}

impl LogWriting<'_> {
    fn options(&mut self) {
        let mut options = Vec::new();
        if let Some(format) = self.plan.format.told() {
            options.extend(["--format".to_owned(), format.to_owned()]);
        }
        for disturbance in &self.plan.disturbances {
            match disturbance {
                Disturbance::TwoAddresses => {
                    for server in 0..self.plan.servers {
                        let (second, first) = (second_address(server), server_address(server));
                        options.extend(["--server".to_owned(), format!("{second}={first}")]);
                    }
                }
                Disturbance::LongerThanWindow(_) => self.site.window = Some(5),
                _ => {}
            }
        }
        self.site.options = options;
    }

    fn connections(&mut self) {
        if self.plan.records != RecordFormat::Extended {
            return;
        }
        let traffic = self.traffic;
        let recorded = traffic.connections.iter().filter(|one| one.balancer < self.plan.balancers);
        for connection in recorded {
            let opened = Mapping { kind: MappingKind::Opened, ..self.mapping(connection) };
            self.push(connection, connection.opened, &opened);
            if let Some(at) = connection.closed {
                let closed = Mapping { kind: MappingKind::Closed, ..self.mapping(connection) };
                self.push(connection, at, &closed);
            }
        }
    }

    /// Writes the records of an exchange; returns whether the one of its request was written.
    fn record(&mut self, exchange: &SiteExchange) -> bool {
        let connection = &self.traffic.connections[exchange.connection];
        if connection.balancer >= self.plan.balancers {
            return false;
        }
        if self.plan.records == RecordFormat::Nginx {
            return self.access_line(exchange, connection);
        }
        let demand = &exchange.demand;
        let hash = |text: &Option<Vec<u8>>| text.as_deref().map(text_hash);
        let common = Mapping { nth: Some(exchange.nth), ..self.mapping(connection) };
        let request = Mapping {
            request: Some(RequestText::raw(&demand.request, Cut::Long)),
            user_agent: hash(&demand.agent),
            referer: hash(&demand.referer),
            host: Some(text_hash(&demand.host)),
            ..common
        };
        let is_recorded = self.push(connection, exchange.sent, &request);
        if self.plan.records == RecordFormat::Extended {
            self.ends(exchange, connection, &common);
        }
        is_recorded
    }

    /// Writes the line of an exchange that nginx in front logs; returns whether it was written.
    fn access_line(&mut self, exchange: &SiteExchange, connection: &SiteConnection) -> bool {
        if self.is_lost() {
            return false;
        }
        let (demand, at) = (&exchange.demand, exchange.ended);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let header = |header: &Option<Vec<u8>>| text(header.as_deref().unwrap_or(b"-"));
        let line = format!(
            "{} {}.{:03} \"{}\" {} {} 0.{:03} \"{}:80\" \"{}\" \"{}\" {}\n",
            connection.client,
            at / 1_000_000,
            at / 1_000 % 1_000,
            text(&demand.request),
            demand.status,
            demand.bytes,
            ((at - exchange.sent) / 1_000).clamp(0, 999),
            server_address(connection.server),
            header(&demand.agent),
            header(&demand.referer),
            request_id(connection, exchange.nth),
        )
        .into_bytes();
        let &SiteConnection { balancer, run, .. } = connection;
        self.site.records.push(MadeRecord { at, balancer, run, wire: line.clone(), line });
        true
    }

    fn is_lost(&mut self) -> bool {
        self.plan.disturbances.iter().any(|disturbance| match disturbance {
            Disturbance::LostRecords(share) => self.random.unit() < *share,
            _ => false,
        })
    }

    /// The records of an exchange's end: two if the body of the request ends last.
    fn ends(
        &mut self,
        exchange: &SiteExchange,
        connection: &SiteConnection,
        common: &Mapping<'static>,
    ) {
        let demand = &exchange.demand;
        let late = exchange.body_ended.filter(|&body| body > exchange.ended);
        let body_end = exchange.body_ended.map(|body| match u64::try_from(exchange.ended - body) {
            Ok(before) => BodyEnd::ago(Duration::from_micros(before)),
            Err(_) => BodyEnd::Pending,
        });
        let ended = Mapping {
            kind: MappingKind::Ended,
            status: Some(demand.status),
            head_bytes: Some(HEAD),
            body_bytes: Some(demand.bytes),
            framed_bytes: Some(demand.bytes),
            body_end,
            ..*common
        };
        let last = Mapping { body_end: Some(BodyEnd::Ago(0)), ..ended };
        let records = [Some((exchange.ended, ended)), late.map(|at| (at, last))];
        for (at, record) in records.into_iter().flatten() {
            // A balancer that was killed writes no more.
            if connection.closed.is_some() || at < self.traffic.middle {
                self.push(connection, at, &record);
            }
        }
    }

    fn mapping(&self, connection: &SiteConnection) -> Mapping<'static> {
        let server = if self.has(Disturbance::TwoAddresses) && connection.number % 2 == 1 {
            IpAddr::from(second_address(connection.server))
        } else {
            server_address(connection.server).into()
        };
        let client: IpAddr = connection.client.parse().expect("an address");
        Mapping {
            client_port: Some(connection.client_port),
            server_port: Some(80),
            balancer: Some(SocketAddr::from((self.address(connection.balancer), connection.port))),
            connection: Some(connection.number),
            ..Mapping::new(client.into(), server.into())
        }
    }

    /// The address of a balancer that servers see.
    fn address(&self, balancer: u8) -> Ipv4Addr {
        match self.plan.addresses {
            BalancerAddresses::Shared => BALANCER,
            BalancerAddresses::Own => balancer_address(balancer),
        }
    }

    /// Writes a record, unless it is lost; returns whether it was written.
    fn push(&mut self, connection: &SiteConnection, at: i64, mapping: &Mapping<'_>) -> bool {
        if self.is_lost() {
            return false;
        }
        let time = Some((Timestamp::from_micros(at), Resolution::Microsecond));
        let mapping = Mapping { time, ..*mapping };
        let (mut line, mut wire) = (Vec::new(), Vec::new());
        match self.plan.records {
            RecordFormat::Extended => {
                mapping.write_extended_line(&mut line);
                write_record(&mapping, &mut wire);
            }
            RecordFormat::Classic => {
                mapping.write_file_line(&mut line);
                mapping.write_datagram(&mut wire);
            }
            RecordFormat::Nginx => {}
        }
        let &SiteConnection { balancer, run, .. } = connection;
        self.site.records.push(MadeRecord { at, balancer, run, line, wire });
        true
    }

    fn line(&mut self, exchange: &SiteExchange, is_recorded: bool) {
        let connection = &self.traffic.connections[exchange.connection];
        let truth = TrueClient {
            client: Some(connection.client.clone()),
            is_recorded,
            is_near: self.is_near(exchange.logged),
        };
        let times = (exchange.received, exchange.logged);
        let id = request_id(connection, exchange.nth);
        let peer = (self.address(connection.balancer), connection.port);
        let place = (connection.server, peer, id.as_str());
        self.push_line(&exchange.demand, place, times, truth);
    }

    /// Lines of health checks.
    fn checks(&mut self) {
        let (begin, end) = match (self.traffic.exchanges.first(), self.traffic.exchanges.last()) {
            (Some(first), Some(last)) => (first.sent, last.sent),
            _ => return,
        };
        for disturbance in &self.plan.disturbances {
            let &Disturbance::Checks(every, kind) = disturbance else { continue };
            let mut at = begin;
            while at < end {
                for server in 0..self.plan.servers {
                    let port = 61_000 + u16::try_from(self.random.below(4_000)).unwrap_or(0);
                    let begun = at + i64::from(server) * 1_000;
                    let times = (begun, begun + 400);
                    let place = (server, (BALANCER, port), "-");
                    self.push_line(&check(kind, at), place, times, TrueClient::default());
                }
                at += micros(every * 1e6);
            }
        }
    }

    fn push_line(
        &mut self,
        demand: &Demand,
        (server, (peer, port), id): (u8, (Ipv4Addr, u16), &str),
        (received, logged): (i64, i64),
        mut truth: TrueClient,
    ) {
        if !self.is_logged(demand, server, logged) {
            return;
        }
        let hosts = self.plan.hosts.max(1) as usize;
        let host = match self.plan.files {
            LogFiles::OfServer => 0,
            LogFiles::OfHost => text_hash(&demand.host) as usize % hosts,
        };
        let file = usize::from(server) * hosts + host;
        let second_half = match self.plan.files {
            LogFiles::OfServer => logged >= self.traffic.middle,
            LogFiles::OfHost => host % 2 == 1,
        };
        let stamped = match self.plan.stamped {
            StampedAt::End => logged,
            StampedAt::Start => received,
        };
        let parts = LineParts {
            peer,
            port,
            number: self.site.truth.len(),
            stamp: stamped + self.plan.clock_ahead(server, stamped, self.traffic.middle),
            id,
            is_late: stamped >= self.traffic.middle,
            bytes: demand.bytes + if self.plan.sizes == LoggedSize::Whole { HEAD } else { 0 },
            demand,
        };
        let text = write_line(self.plan.format.resolve(second_half), &parts);
        let written = self.written(logged, port);
        if let Some(again) = self.again(logged) {
            truth.is_recorded = false;
            self.site.lines.push(MadeLine { written: again, server, file, text: text.clone() });
        }
        self.site.lines.push(MadeLine { written, server, file, text });
        self.site.truth.push(truth);
    }

    fn is_logged(&mut self, demand: &Demand, server: u8, logged: i64) -> bool {
        let middle = self.traffic.middle;
        self.plan.disturbances.iter().all(|disturbance| match *disturbance {
            Disturbance::Gap(seconds) => {
                server != 0 || !(middle..middle + micros(seconds * 1e6)).contains(&logged)
            }
            Disturbance::Sampled(one_in) => {
                self.random.below(usize::try_from(one_in).unwrap_or(1)) == 0
            }
            Disturbance::LostLines(share) => self.random.unit() >= share,
            Disturbance::OnlyStatus(status) => demand.status == status,
            _ => true,
        })
    }

    /// Whether a time is within two seconds after something happens once.
    fn is_near(&self, at: i64) -> bool {
        let middle = self.traffic.middle;
        self.plan.disturbances.iter().any(|disturbance| {
            let length = match *disturbance {
                Disturbance::Gap(seconds) | Disturbance::Twice(seconds) => micros(seconds * 1e6),
                Disturbance::ClockStep(_) => 0,
                _ => return false,
            };
            (middle - 2_000_000..middle + length + 2_000_000).contains(&at)
        })
    }

    /// When a line comes out of a worker's buffer.
    fn written(&self, logged: i64, port: u16) -> i64 {
        let buffer = self.plan.disturbances.iter().find_map(|disturbance| match *disturbance {
            Disturbance::Buffered(seconds) => Some(micros(seconds * 1e6)),
            _ => None,
        });
        let Some(length) = buffer else { return logged };
        let phase = length / 4 * i64::from(port % 4);
        ((logged - phase).div_euclid(length) + 1) * length + phase
    }

    /// When a line is written for the second time.
    fn again(&self, logged: i64) -> Option<i64> {
        let middle = self.traffic.middle;
        self.plan.disturbances.iter().find_map(|disturbance| match *disturbance {
            Disturbance::Twice(seconds) => {
                let length = micros(seconds * 1e6);
                (middle..middle + length).contains(&logged).then_some(logged + length + 300_000)
            }
            _ => None,
        })
    }

    fn has(&self, disturbance: Disturbance) -> bool {
        self.plan.disturbances.contains(&disturbance)
    }
}

/// The format of the log of nginx in front.
const NGINX: &str = r#"$remote_addr $msec "$request" $status $upstream_response_length $request_time "$upstream_addr" "$http_user_agent" "$http_referer" $request_id"#;

/// Bytes of a response's head.
const HEAD: u64 = 180;

/// The id that a balancer gives a request.
fn request_id(connection: &SiteConnection, nth: u32) -> String {
    let run = u64::from(connection.run) + 1;
    let high = connection.number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ run;
    format!("{high:016x}{:016x}", u64::from(nth).wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ high)
}

/// The address of a server that the balancer uses, too, where it has two.
const fn second_address(server: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, server as u16 + 1)
}

fn check(kind: CheckKind, at: i64) -> Demand {
    let (agent, request, bytes) = match kind {
        CheckKind::FrontPage => ("curl/7.88.1", "GET /page/0 HTTP/1.1", 400),
        CheckKind::Pen => ("pen-check", "GET /health HTTP/1.1", 2),
    };
    Demand {
        at,
        client: String::new(),
        agent: Some(agent.into()),
        referer: None,
        host: b"site0.example".to_vec(),
        request: request.into(),
        status: 200,
        bytes,
        early: false,
    }
}

impl LineFormat {
    /// The format that the programs are told of.
    const fn told(self) -> Option<&'static str> {
        match self {
            Self::Port => Some(
                r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" $remote_port"#,
            ),
            Self::CombinedMillis => Some(
                r#"$remote_addr - $remote_user [$msec] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent""#,
            ),
            Self::CommonMillis => {
                Some(r#"$remote_addr - $remote_user [$msec] "$request" $status $body_bytes_sent"#)
            }
            Self::LocalTime => Some(
                r#"%h %l %u [%{%Y-%m-%d %H:%M:%S}t] "%r" %>s %b "%{Referer}i" "%{User-Agent}i""#,
            ),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::line_number;

    fn small(disturbance: Disturbance) -> MadeSite {
        let plan = SitePlan { requests: 400, per_connection: 3, ..SitePlan::default() };
        make(&plan.with(disturbance))
    }

    #[test]
    fn a_seed_always_makes_the_same_site() {
        let plan = SitePlan { requests: 300, ..SitePlan::default() };
        let text = |site: &MadeSite| -> Vec<Vec<u8>> {
            site.lines.iter().map(|line| line.text.clone()).collect()
        };
        assert_eq!(text(&make(&plan)), text(&make(&plan)));
        assert_ne!(text(&make(&plan)), text(&make(&SitePlan { seed: 2, ..plan.clone() })));
    }

    #[test]
    fn each_line_is_known_again_in_every_format() {
        for format in [LineFormat::Common, LineFormat::Json, LineFormat::PortThenCombined] {
            let site = make(&SitePlan { requests: 50, format, ..SitePlan::default() });
            let mut numbers: Vec<_> =
                site.lines.iter().map(|line| line_number(&line.text).unwrap()).collect();
            numbers.sort_unstable();
            assert!(numbers.into_iter().eq(0..site.truth.len()));
        }
    }

    #[test]
    fn connection_numbers_begin_again_after_a_restart() {
        let site = small(Disturbance::BalancerRestart);
        let restarted: Vec<_> = site.records.iter().filter(|record| record.run == 1).collect();
        let first = Mapping::parse_extended_line(&restarted[0].line).unwrap();
        assert_eq!((first.kind, first.connection), (MappingKind::Opened, Some(1)));
        let earlier = site.records.iter().filter(|record| record.run == 0);
        assert!(earlier.map(|record| record.at).max() < Some(restarted[0].at));
    }

    #[test]
    fn lines_are_missing_where_the_plan_says_so() {
        let whole = small(Disturbance::ClockAhead(1.0)).lines.len();
        assert_eq!(whole, 400);
        assert!(small(Disturbance::Gap(1.0)).lines.len() < whole);
        assert!(small(Disturbance::Sampled(10)).lines.len() < whole / 5);
        assert!(small(Disturbance::Twice(1.0)).lines.len() > whole);
        assert!(small(Disturbance::Checks(1.0, CheckKind::Pen)).lines.len() > whole);
    }
}
