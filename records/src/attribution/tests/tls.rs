//! Lines beside exchanges in passed-through TLS, with stamps of whole seconds.

use super::*;
use crate::mapping::OpaqueTls;

/// A server whose lines name no port, beside the records of what passed through to it.
struct SealedSite {
    engine: Attributor<u32>,
    server: ServerIndex,
    balancers: BalancerHashes,
    out: Vec<Out>,
    /// The client of each line.
    asked: Vec<u8>,
}

/// One exchange: its client, and the bytes that the line shows of each request.
#[derive(Clone, Debug)]
struct SealedExchange {
    at: i64,
    client: u8,
    shown: Vec<u16>,
    /// Whether lines are written of it.
    logged: bool,
}

/// Bytes of each request beyond what its line shows, and of each response.
const HEAD: u32 = 72;
const BODY: u32 = 300;

impl SealedSite {
    fn new() -> Self {
        let wait = Duration::from_secs(3);
        let mut engine = Attributor::new(JoinSettings { wait, ..JoinSettings::default() });
        let server = engine.server(ServerAddr::Ip([127, 0, 1, 1].into()));
        let (out, asked) = (Vec::new(), Vec::new());
        Self { engine, server, balancers: BalancerHashes::default(), out, asked }
    }

    fn record(&mut self, number: u64, exchange: &SealedExchange) {
        let requests = u32::try_from(exchange.shown.len()).unwrap();
        let shown: u32 = exchange.shown.iter().copied().map(u32::from).sum();
        let opaque_tls = OpaqueTls {
            took: 300,
            asked: shown + requests * HEAD,
            answered: requests * (BODY + 160),
            requests,
        };
        let client = ClientAddr::Ip([192, 0, 2, exchange.client].into());
        let mapping = Mapping {
            kind: MappingKind::Ended,
            connection: Some(number),
            nth: Some(1),
            opaque_tls: Some(opaque_tls),
            ..Mapping::new(client, ServerAddr::Ip([127, 0, 1, 1].into()))
        };
        let time = (Timestamp::from_micros(exchange.at), Resolution::Microsecond);
        let record = MappingEvent::with_exchange(&mapping, self.server, time, &mut self.balancers);
        self.engine.mapping(&record.unwrap());
    }

    fn line(&mut self, exchange: &SealedExchange, shown: u16) {
        let stamp = Timestamp::from_micros(exchange.at / SECOND * SECOND);
        let line = LoggedLine {
            long: Fingerprint::of_logged(&[b"GET / HTTP/1.1"], Cut::Long),
            status: Some(200),
            bytes: Some(BODY.into()),
            shown,
            ..LoggedLine::unread(self.server, (stamp, Resolution::Second))
        };
        self.engine.line(&line, 0);
        self.asked.push(exchange.client);
    }

    /// Takes all exchanges, and their lines in this order; returns the share of right lines in per cent.
    fn right(mut self, exchanges: &[SealedExchange]) -> usize {
        let mut sorted: Vec<(usize, &SealedExchange)> = exchanges.iter().enumerate().collect();
        sorted.sort_by_key(|(_, exchange)| exchange.at);
        let end = sorted.last().map_or(0, |(_, last)| last.at / SECOND);
        for second in 0..=end {
            let is_now = |exchange: &SealedExchange| exchange.at / SECOND == second;
            for (number, exchange) in sorted.iter().filter(|(_, exchange)| is_now(exchange)) {
                self.record(*number as u64 + 1, exchange);
            }
            for exchange in exchanges.iter().filter(|it| is_now(it) && it.logged) {
                exchange.shown.iter().for_each(|&shown| self.line(exchange, shown));
            }
            advance(&mut self.engine, (second + 1) * SECOND, &mut self.out);
        }
        advance(&mut self.engine, (end + 60) * SECOND, &mut self.out);
        assert_eq!(self.out.len(), self.asked.len());
        let right = self.out.iter().zip(&self.asked).filter(|(out, asked)| out.0 == **asked);
        right.count() * 100 / self.asked.len()
    }
}

/// Exchanges of 40 clients, ten in a second; each line shows one of 199 lengths.
fn exchanges(count: usize, requests: impl Fn(usize) -> usize) -> Vec<SealedExchange> {
    let length = |number: usize| 80 + u16::try_from(number * number * 7_919 % 199).unwrap();
    let each = (0..count).map(|number| SealedExchange {
        at: i64::try_from(number).unwrap() * 100_000 + 5_000,
        client: u8::try_from(number * 31 % 40).unwrap() + 1,
        shown: (0..requests(number)).map(|request| length(number + 13 * request)).collect(),
        logged: true,
    });
    each.collect()
}

#[test]
fn an_exchange_without_a_line_shifts_no_others() {
    let mut all = exchanges(600, |_| 1);
    all.iter_mut().skip(50).step_by(40).for_each(|exchange| exchange.logged = false);
    assert!(SealedSite::new().right(&all) >= 98);
}

#[test]
fn lines_follow_the_number_of_requests_of_each_exchange() {
    assert!(SealedSite::new().right(&exchanges(300, |number| 1 + number % 4)) >= 98);
}

#[test]
fn the_size_of_a_request_tells_lines_that_are_out_of_order() {
    let mut all = exchanges(600, |_| 1);
    // Neighbours end within a millisecond, and some are logged in the reverse order.
    for (number, pair) in all.chunks_mut(2).enumerate() {
        pair[1].at = pair[0].at + 400;
        if number % 5 == 0 {
            pair.swap(0, 1);
        }
    }
    let right = SealedSite::new().right(&all);
    assert!(right >= 95, "{right}");
}
