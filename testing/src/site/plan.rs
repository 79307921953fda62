//! What a made site is like: its traffic, its logs, and what happens to them.

use super::demand::{BEGIN, micros};

/// A site and its traffic.
#[derive(Clone, Debug)]
pub struct SitePlan {
    /// Another draw of everything that is random.
    pub seed: u64,
    /// How many requests there are.
    pub requests: usize,
    /// Requests a second.
    pub rate: f64,
    /// How many web servers there are, at most 200.
    pub servers: u8,
    /// Which of them a connection goes to.
    pub choice: ServerChoice,
    /// How many clients there are.
    pub clients: u32,
    /// How many User-Agents there are.
    pub agents: u32,
    /// How many of them each client has: several behind network address translation.
    pub agents_of_client: u32,
    /// How many URLs there are; some are asked for more often than others.
    pub urls: u32,
    /// The share of requests that ask for one URL.
    pub same: f64,
    /// How many virtual hosts there are.
    pub hosts: u32,
    /// The greatest number of requests on a connection.
    pub per_connection: u32,
    /// How many balancers there are, each with a log of its own; a connection goes to one at random.
    pub balancers: u8,
    /// Which address of a balancer the servers see.
    pub addresses: BalancerAddresses,
    /// How many ports the balancer has towards the servers.
    pub ports: u16,
    /// How long the servers take.
    pub service: ServiceModel,
    /// The share of requests that are POST with a slow body and are answered before the body has come.
    pub early: f64,
    /// The share of requests that are answered with 503; as many are answered with 404.
    pub failures: f64,
    /// The share of requests whose client takes the response slowly.
    pub slow: f64,
    /// The balancer's records.
    pub records: RecordFormat,
    /// The format of the lines.
    pub format: LineFormat,
    /// The size that a line names.
    pub sizes: LoggedSize,
    /// The time that a line names.
    pub stamped: StampedAt,
    /// When a server writes a line.
    pub logged: LoggedWhen,
    /// Which files the lines are in.
    pub files: LogFiles,
    /// What happens to the site or its logs.
    pub disturbances: Vec<Disturbance>,
}

impl Default for SitePlan {
    fn default() -> Self {
        Self {
            seed: 1,
            requests: 4_000,
            rate: 100.0,
            servers: 3,
            choice: ServerChoice::Random,
            clients: 200,
            agents: 12,
            agents_of_client: 1,
            urls: 60,
            same: 0.0,
            hosts: 1,
            per_connection: 1,
            balancers: 1,
            addresses: BalancerAddresses::Shared,
            ports: 28_232,
            service: ServiceModel::Mixed,
            early: 0.0,
            failures: 0.01,
            slow: 0.0,
            records: RecordFormat::Extended,
            format: LineFormat::Combined,
            sizes: LoggedSize::Body,
            stamped: StampedAt::End,
            logged: LoggedWhen::Over,
            files: LogFiles::OfServer,
            disturbances: Vec::new(),
        }
    }
}

impl SitePlan {
    /// Microseconds that a server's clock is ahead, at a time of a site with this middle.
    #[must_use]
    pub fn clock_ahead(&self, server: u8, at: i64, middle: i64) -> i64 {
        let own = self.disturbances.iter().map(|disturbance| match *disturbance {
            Disturbance::ClockStep(seconds) if at >= middle => micros(seconds * 1e6),
            Disturbance::ClockAhead(seconds) => micros(seconds * 1e6),
            Disturbance::ClockDrift(ppm) => drifted(at - BEGIN, ppm),
            _ => 0,
        });
        if server == 0 { own.sum() } else { 0 }
    }

    /// The plan with one disturbance more.
    #[must_use]
    pub fn with(mut self, disturbance: Disturbance) -> Self {
        self.disturbances.push(disturbance);
        self
    }
}

/// How long servers take to answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ServiceModel {
    /// One worker answers one request after the other, in some 200 us each: files of nginx.
    InTurn,
    /// Independent times around this median in milliseconds, with this sigma of their logarithm.
    Apart(f64, f64),
    /// Four fifths in turn, the rest apart around 40 ms.
    Mixed,
}

#[expect(clippy::cast_precision_loss, reason = "some years at most")]
fn drifted(since: i64, ppm: f64) -> i64 {
    micros(since as f64 * ppm / 1e6)
}

/// The server that a balancer chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerChoice {
    /// Any.
    Random,
    /// The same one for all connections of a client.
    ByClient,
}

/// Whose records the balancer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFormat {
    /// Those of our pen.
    Extended,
    /// Those of the C pen.
    Classic,
    /// The access log of nginx in front, which gives each request an id.
    Nginx,
}

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// The common log format.
    Common,
    /// The combined log format.
    Combined,
    /// Combined after the virtual host and its port.
    VhostCombined,
    /// Combined with the peer's port at its end, and the programs are told so.
    Port,
    /// The same, and the programs are not told.
    PortUntold,
    /// Combined with the id of the request at its end.
    Id,
    /// Combined with local time, whose offset goes back by an hour in the middle as summer time ends.
    SummerTime,
    /// nginx with `escape=json`: a header that is absent is an empty string.
    Json,
    /// JSON with the parts of the request in keys of their own and a stamp in milliseconds.
    JsonParts,
    /// Combined with a stamp in milliseconds.
    CombinedMillis,
    /// Common with a stamp in milliseconds.
    CommonMillis,
    /// Combined with local time two hours ahead, without a zone.
    LocalTime,
    /// Combined in one half of the files, common in the other; in one file common from the middle on.
    CombinedAndCommon,
    /// Combined in one half of the files, JSON in the other; in one file JSON from the middle on.
    CombinedAndJson,
    /// With the port at the end, and combined from the middle on.
    PortThenCombined,
}

/// The size of a response that its line names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggedSize {
    /// That of the body.
    Body,
    /// That of head and body, as Apache's `%O`: nginx in front logs that of the body.
    Whole,
}

/// The time of a request that its line names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StampedAt {
    /// Its end, as nginx writes it.
    End,
    /// Its start, as Apache writes it.
    Start,
}

/// When a server writes a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggedWhen {
    /// When the response has been sent and the request's body has come, as nginx does.
    Over,
    /// When the response has been sent.
    Answered,
}

/// The files of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFiles {
    /// One file.
    OfServer,
    /// A file for each virtual host.
    OfHost,
}

/// Which address of a balancer the servers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalancerAddresses {
    /// One for all, as behind a router that translates addresses.
    Shared,
    /// Each has its own.
    Own,
}

/// Something that happens to a site or its logs. Clocks are those of the first server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Disturbance {
    /// The lines of this many seconds, from the middle on, are lost.
    Gap(f64),
    /// One line in so many is logged, drawn at random.
    Sampled(u32),
    /// This share of the lines is lost.
    LostLines(f64),
    /// Only lines with this status are logged.
    OnlyStatus(u16),
    /// A health check at each server every so many seconds, of which there is no record.
    Checks(f64, CheckKind),
    /// This share of the connections came by another balancer, whose records are missing.
    SecondBalancer(f64),
    /// This share of the records is lost.
    LostRecords(f64),
    /// Lines are written in blocks, by four workers each with a buffer of its own, after so many seconds at most.
    Buffered(f64),
    /// The balancer is killed and started again in the middle: its numbers begin at 1.
    BalancerRestart,
    /// The clock is set by so many seconds in the middle.
    ClockStep(f64),
    /// The clock gains so many parts in a million.
    ClockDrift(f64),
    /// The clock is ahead by so many seconds all the time.
    ClockAhead(f64),
    /// The balancer knows each server by two addresses.
    TwoAddresses,
    /// This share of the responses takes 15 s, where the window is 5 s.
    LongerThanWindow(f64),
    /// The lines of this many seconds, from the middle on, are written twice.
    Twice(f64),
    /// The collector cannot be reached for so many seconds from the middle on: lines are sent behind that.
    LateLines(f64),
    /// The shippers are ended in the middle and started again after so many seconds, and go on where they were.
    ShipperRestart(f64),
    /// The collector is ended in the middle and started again at once.
    CollectorRestart,
}

/// How a health check looks in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// Another program's: the front page, with the User-Agent of curl.
    FrontPage,
    /// Our pen's: `/health`, with the User-Agent `pen-check`.
    Pen,
}
