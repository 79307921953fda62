//! Requests on their way through a balancer to servers: connections, ports, times.

use std::collections::HashMap;

use pen_records::attribution::text_hash;

use super::demand::{Demand, micros};
use super::{Disturbance, LoggedWhen, ServerChoice, ServiceModel, SitePlan};
use crate::random::SeededRandom;

/// A connection of a client through the balancer to a server.
#[derive(Clone, Debug)]
pub(super) struct SiteConnection {
    pub client: String,
    pub client_port: u16,
    pub server: u8,
    /// The balancer's port towards the server.
    pub port: u16,
    /// The balancer's number of it.
    pub number: u64,
    /// Which run of the balancer: 0, and 1 after a restart.
    pub run: u8,
    /// The balancer, from 0; the one behind the last has no records.
    pub balancer: u8,
    pub opened: i64,
    /// `None`: the balancer was killed before.
    pub closed: Option<i64>,
    /// Requests so far.
    pub requests: u32,
}

/// A request and its response, with the times at which they are seen.
#[derive(Clone, Debug)]
pub(super) struct SiteExchange {
    pub demand: Demand,
    pub connection: usize,
    pub nth: u32,
    /// The balancer has sent the request's head.
    pub sent: i64,
    /// The server has it.
    pub received: i64,
    /// The server writes its line.
    pub logged: i64,
    /// The balancer has passed on the last byte of the response.
    pub ended: i64,
    /// The balancer has passed on the last byte of the request's body, if there is one.
    pub body_ended: Option<i64>,
}

/// All that happens at a site.
#[derive(Clone, Debug, Default)]
pub(super) struct SiteTraffic {
    pub connections: Vec<SiteConnection>,
    pub exchanges: Vec<SiteExchange>,
    /// The middle of the time.
    pub middle: i64,
}

/// An open connection without a request under way.
struct IdleConnection {
    index: usize,
    since: i64,
    left: u32,
}

/// How long a connection may be idle, in microseconds.
const KEEP_ALIVE: i64 = 15_000_000;

struct TrafficDrawing<'a> {
    plan: &'a SitePlan,
    random: SeededRandom,
    traffic: SiteTraffic,
    idle: HashMap<String, Vec<IdleConnection>>,
    /// By port, when it is free again.
    ports: HashMap<u16, i64>,
    numbers: u64,
    run: u8,
    /// By server, when its worker has time.
    workers: Vec<i64>,
}

/// Sends requests, which are in order of time, through the balancer.
pub(super) fn send(plan: &SitePlan, demands: Vec<Demand>) -> SiteTraffic {
    let (first, last) =
        (demands.first().map_or(0, |one| one.at), demands.last().map_or(0, |one| one.at));
    let mut drawing = TrafficDrawing {
        plan,
        random: SeededRandom::new(plan.seed.wrapping_mul(0x51F1).wrapping_add(3)),
        traffic: SiteTraffic { middle: first.midpoint(last), ..SiteTraffic::default() },
        idle: HashMap::new(),
        ports: HashMap::new(),
        numbers: 0,
        run: 0,
        workers: vec![0; plan.servers.into()],
    };
    let restarts = plan.disturbances.contains(&Disturbance::BalancerRestart);
    for demand in demands {
        if restarts && drawing.run == 0 && demand.at >= drawing.traffic.middle {
            drawing.restart();
        }
        drawing.exchange(demand);
    }
    drawing.traffic
}

impl TrafficDrawing<'_> {
    /// The balancer is killed: it closes nothing in its records, and counts from 1 again.
    fn restart(&mut self) {
        let middle = self.traffic.middle;
        for connection in &mut self.traffic.connections {
            if connection.closed.is_none_or(|closed| closed >= middle) {
                connection.closed = None;
            }
        }
        self.idle.clear();
        self.ports.clear();
        self.numbers = 0;
        self.run = 1;
    }

    fn exchange(&mut self, demand: Demand) {
        let (connection, left) = self.connection(&demand);
        let random = &mut self.random;
        let sent = demand.at + 30 + micros(random.unit() * 60.0);
        let received = sent + 40 + micros(random.unit() * 120.0);
        let server = usize::from(self.traffic.connections[connection].server);
        let answered = answer(self.plan.service, received, &mut self.workers[server], random);
        let answered =
            self.plan.disturbances.iter().fold(answered, |at, disturbance| match disturbance {
                Disturbance::LongerThanWindow(share) if random.unit() < *share => at + 15_000_000,
                _ => at,
            });
        let body = if demand.early { 20_000 + micros(random.unit() * 400_000.0) } else { 0 };
        let read_by = match self.plan.logged {
            LoggedWhen::Over => (received + body).max(answered),
            LoggedWhen::Answered => answered,
        };
        let logged = read_by + 3 + micros(random.unit() * 25.0);
        let hiccup = if random.unit() < 0.01 { micros(random.unit() * 5_000.0) } else { 0 };
        let slow =
            if random.unit() < self.plan.slow { micros(random.unit() * 900_000.0) } else { 0 };
        let ended = answered + 40 + micros(random.unit() * 300.0) + hiccup + slow;
        let place = &mut self.traffic.connections[connection];
        place.requests += 1;
        let nth = place.requests;
        let idle_from = ended.max(sent + body);
        let closed = idle_from + if left > 0 { KEEP_ALIVE } else { 200 };
        place.closed = Some(closed);
        if left > 0 {
            let idle = IdleConnection { index: connection, since: idle_from, left };
            self.idle.entry(demand.client.clone()).or_default().push(idle);
        }
        self.ports.insert(place.port, closed + 1_000_000);
        let body_ended = demand.early.then_some(sent + body);
        let exchange =
            SiteExchange { demand, connection, nth, sent, received, logged, ended, body_ended };
        self.traffic.exchanges.push(exchange);
    }

    /// The connection of a request, and how many more it takes.
    fn connection(&mut self, demand: &Demand) -> (usize, u32) {
        let idle = self.idle.entry(demand.client.clone()).or_default();
        idle.retain(|one| one.since + KEEP_ALIVE > demand.at);
        if let Some(at) = idle.iter().position(|one| one.since < demand.at) {
            let found = idle.swap_remove(at);
            return (found.index, found.left - 1);
        }
        let unrecorded = self.plan.disturbances.iter().any(|disturbance| match disturbance {
            Disturbance::SecondBalancer(share) => self.random.unit() < *share,
            _ => false,
        });
        let balancers = self.plan.balancers;
        let balancer = match balancers {
            _ if unrecorded => balancers,
            0 | 1 => 0,
            several => u8::try_from(self.random.below(several.into())).unwrap_or(0),
        };
        let random = &mut self.random;
        let port = loop {
            let port = 32_768 + u16::try_from(random.below(self.plan.ports.into())).unwrap_or(0);
            if self.ports.get(&port).is_none_or(|&free| free < demand.at) {
                break port;
            }
        };
        let most = usize::try_from(self.plan.per_connection.max(1)).unwrap_or(1);
        let left = u32::try_from(random.below(most)).unwrap_or(0);
        let servers = usize::from(self.plan.servers);
        let server = match self.plan.choice {
            ServerChoice::Random => random.below(servers),
            ServerChoice::ByClient => text_hash(demand.client.as_bytes()) as usize % servers,
        };
        let server = u8::try_from(server).unwrap_or(0);
        self.numbers += 1;
        self.traffic.connections.push(SiteConnection {
            client: demand.client.clone(),
            client_port: 1_024 + u16::try_from(random.below(60_000)).unwrap_or(0),
            server,
            port,
            number: self.numbers,
            run: self.run,
            balancer,
            opened: demand.at,
            closed: None,
            requests: 0,
        });
        (self.traffic.connections.len() - 1, left)
    }
}

/// When the server has answered.
fn answer(model: ServiceModel, received: i64, worker: &mut i64, random: &mut SeededRandom) -> i64 {
    let apart = |median: f64, sigma: f64, random: &mut SeededRandom| {
        received + micros(median * 1_000.0 * (random.normal() * sigma).exp())
    };
    match model {
        ServiceModel::Apart(median, sigma) => apart(median, sigma, random),
        ServiceModel::Mixed if random.unit() < 0.2 => apart(40.0, 0.7, random),
        ServiceModel::InTurn | ServiceModel::Mixed => {
            let length = 60 - micros(140.0 * random.unit().max(1e-9).ln());
            *worker = received.max(*worker) + length;
            *worker
        }
    }
}
