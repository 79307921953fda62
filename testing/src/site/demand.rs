//! What clients ask for, before a balancer and servers have seen it.

use super::{LineFormat, SitePlan};
use crate::random::SeededRandom;

/// The first microsecond of a made site: 2026-03-10 08:00:00 UTC.
pub const BEGIN: i64 = 1_773_129_600_000_000;

/// A request that a client will send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// When, in microseconds since the epoch.
    pub at: i64,
    /// The client's address.
    pub client: String,
    /// The User-Agent header; `None` if it is absent.
    pub agent: Option<Vec<u8>>,
    /// The Referer header; likewise.
    pub referer: Option<Vec<u8>>,
    /// The Host header.
    pub host: Vec<u8>,
    /// The first line of the request.
    pub request: Vec<u8>,
    /// The status of the response.
    pub status: u16,
    /// Bytes of the response's body.
    pub bytes: u64,
    /// Whether the response ends before the request's body has come.
    pub early: bool,
}

/// Draws the requests of a plan.
#[must_use]
pub fn draw(plan: &SitePlan) -> Vec<Demand> {
    let mut random = SeededRandom::new(plan.seed.wrapping_mul(0x9E37).wrapping_add(7));
    let weights: Vec<f64> = (1..=plan.urls).map(|rank| 1.0 / f64::from(rank)).collect();
    let total: f64 = weights.iter().sum();
    let mut at = 0.0;
    let draw_one = |_| {
        at += -random.unit().max(1e-9).ln() / plan.rate * 1e6;
        one(plan, &mut random, (&weights, total), at)
    };
    (0..plan.requests).map(draw_one).collect()
}

fn one(
    plan: &SitePlan,
    random: &mut SeededRandom,
    (weights, total): (&[f64], f64),
    at: f64,
) -> Demand {
    let client = number(random, plan.clients);
    let agent =
        client.wrapping_mul(plan.agents_of_client) + number(random, plan.agents_of_client.max(1));
    let url = if random.unit() < plan.same { 0 } else { pick(weights, random.unit() * total) };
    let host = number(random, plan.hosts.max(1));
    let early = random.unit() < plan.early;
    let chance = random.unit();
    let (status, bytes) = if chance < plan.failures {
        (503, 197)
    } else if chance < 2.0 * plan.failures {
        (404, 153)
    } else if url % 4 == 1 {
        (200, 900 + url as u64 * 37 + random.bits() % 600)
    } else {
        (200, 400 + url as u64 * 91 % 20_000)
    };
    let method = if early { "POST" } else { "GET" };
    Demand {
        at: BEGIN + micros(at),
        client: client_address(client),
        agent: Some(agent_name(agent % plan.agents.max(1))),
        referer: (random.unit() < 0.3)
            .then(|| format!("http://site{host}.example/page/{}", url / 2).into_bytes()),
        host: format!("site{host}.example").into_bytes(),
        request: format!("{method} /page/{url} HTTP/1.1").into_bytes(),
        status,
        bytes,
        early,
    }
}

/// The text of a client's number.
fn client_address(client: u32) -> String {
    format!("198.18.{}.{}", client / 200, 10 + client % 200)
}

fn agent_name(agent: u32) -> Vec<u8> {
    format!("Mozilla/5.0 (X11; Linux x86_64; rv:{}.0) Gecko/20100101", 60 + agent).into_bytes()
}

fn number(random: &mut SeededRandom, end: u32) -> u32 {
    let end = usize::try_from(end).unwrap_or(usize::MAX);
    u32::try_from(random.below(end)).unwrap_or(0)
}

fn pick(weights: &[f64], mut left: f64) -> usize {
    for (index, weight) in weights.iter().enumerate() {
        left -= weight;
        if left <= 0.0 {
            return index;
        }
    }
    weights.len().saturating_sub(1)
}

/// Whole microseconds of a length of time.
#[expect(clippy::cast_possible_truncation, reason = "some weeks at most")]
#[must_use]
pub fn micros(length: f64) -> i64 {
    length as i64
}

impl LineFormat {
    /// The format of a file's lines, where `second_half` is meant of the files or of the time.
    pub(super) fn resolve(self, second_half: bool) -> Self {
        match (self, second_half) {
            (Self::CombinedAndCommon, true) => Self::Common,
            (Self::CombinedAndJson, true) => Self::Json,
            (Self::CombinedAndCommon | Self::CombinedAndJson, false)
            | (Self::PortThenCombined, true) => Self::Combined,
            (Self::PortThenCombined, false) => Self::PortUntold,
            (other, _) => other,
        }
    }
}
