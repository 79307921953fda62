//! Lines of a balancer among those of its servers.
//!
//! A balancer that is no pen may send its own access log to the collector, in a format that names no server. Then each
//! request comes twice: in the balancer's line with the client, in the server's line with the balancer. [`TwinFinder`]
//! pairs such lines. It looks at sources that nothing says to be servers: no mapping and no option names them. Such
//! a source looks like a balancer if nearly all lines of some other source have a twin in it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use pen_records::request::Fingerprint;
use pen_records::time::Timestamp;

/// How long after each other twins may come.
const APART: Duration = Duration::from_secs(2);
/// Lines that are remembered.
const LINES: usize = 1 << 14;
/// Lines of one request that are remembered.
const EACH: usize = 8;
/// Fewest different requests with twins.
const ENOUGH: usize = 5;
/// Counts are halved beyond this, so the judgement follows newer lines.
const OLD: u64 = 1 << 10;

/// A line, as far as twins are compared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TwinLine {
    /// The line's number.
    pub(crate) number: u64,
    pub(crate) source: u32,
    /// Whether nothing says that the source is a server.
    pub(crate) is_suspect: bool,
    pub(crate) request: Fingerprint,
    pub(crate) status: Option<u16>,
    /// Hash of the client field.
    pub(crate) client: Option<u32>,
    pub(crate) time: Timestamp,
}

/// Pairs lines.
#[derive(Debug, Default)]
pub(crate) struct TwinFinder {
    recent: HashMap<Fingerprint, Vec<TwinLine>>,
    order: VecDeque<(Timestamp, Fingerprint)>,
    suspects: HashMap<u32, Suspect>,
    /// Numbers of held lines of suspects with a twin.
    repeats: HashSet<u64>,
}

/// A source that may be a balancer.
#[derive(Debug, Default)]
struct Suspect {
    /// Different requests with twins, up to [`ENOUGH`].
    requests: HashSet<Fingerprint>,
    servers: HashMap<u32, TwinShare>,
}

/// How many lines of a server have a twin.
#[derive(Clone, Copy, Debug, Default)]
struct TwinShare {
    twins: u64,
    lines: u64,
}

impl TwinShare {
    const fn is_clear(self) -> bool {
        self.twins * 5 >= self.lines * 4
    }
}

impl TwinFinder {
    /// Takes a line. Returns the source that looks like a balancer and the server's source, when they do from this line on.
    pub(crate) fn line(&mut self, line: TwinLine) -> Option<(u32, u32)> {
        self.forget(line.time);
        for suspect in self.suspects.values_mut() {
            if let Some(share) = suspect.servers.get_mut(&line.source) {
                share.lines += 1;
            }
        }
        let twin = self.recent.get_mut(&line.request).and_then(|lines| {
            let place = lines.iter().position(|it| is_twin(it, &line))?;
            Some(lines.swap_remove(place))
        });
        let Some(twin) = twin else {
            let lines = self.recent.entry(line.request).or_default();
            if lines.len() < EACH && self.order.len() < LINES {
                lines.push(line);
                self.order.push_back((line.time, line.request));
            }
            return None;
        };
        let (suspect, server) = if line.is_suspect { (line, twin) } else { (twin, line) };
        let was = self.is_balancer(suspect.source);
        self.repeats.insert(suspect.number);
        let of = self.suspects.entry(suspect.source).or_default();
        if of.requests.len() < ENOUGH {
            of.requests.insert(line.request);
        }
        let share = of.servers.entry(server.source).or_insert(TwinShare { twins: 0, lines: 1 });
        share.twins += 1;
        if share.lines > OLD {
            *share = TwinShare { twins: share.twins / 2, lines: share.lines / 2 };
        }
        (!was && self.is_balancer(suspect.source)).then_some((suspect.source, server.source))
    }

    /// Returns whether a source looks like a balancer.
    pub(crate) fn is_balancer(&self, source: u32) -> bool {
        self.suspects.get(&source).is_some_and(|suspect| {
            suspect.requests.len() >= ENOUGH && suspect.servers.values().any(|it| it.is_clear())
        })
    }

    /// Returns whether a line only repeats another one with its client, and forgets the line.
    pub(crate) fn is_repeat(&mut self, source: u32, number: u64) -> bool {
        !self.repeats.is_empty() && self.repeats.remove(&number) && self.is_balancer(source)
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some(&(time, request)) = self.order.front() {
            if now < time + APART && self.order.len() < LINES {
                return;
            }
            self.order.pop_front();
            if let Some(lines) = self.recent.get_mut(&request) {
                lines.retain(|it| it.time > time);
                if lines.is_empty() {
                    self.recent.remove(&request);
                }
            }
        }
    }
}

fn is_twin(one: &TwinLine, other: &TwinLine) -> bool {
    let status = one.status.is_none() || other.status.is_none() || one.status == other.status;
    one.is_suspect != other.is_suspect && one.client != other.client && status
}

#[cfg(test)]
mod tests {
    use pen_records::request::Cut;

    use super::*;

    fn line(number: u64, source: u32, url: u64, client: u32) -> TwinLine {
        let request = format!("GET /{url} HTTP/1.1");
        TwinLine {
            number,
            source,
            is_suspect: source == 0,
            request: Fingerprint::of_raw(request.as_bytes(), Cut::Long).unwrap(),
            status: Some(200),
            client: Some(client),
            time: Timestamp::from_seconds(1_795_379_000).offset_by(number.cast_signed() * 10_000),
        }
    }

    #[test]
    fn a_source_that_logs_what_servers_log_looks_like_a_balancer() {
        let mut twins = TwinFinder::default();
        let mut found = Vec::new();
        for n in 0..20 {
            // The balancer's line comes first or last.
            let (first, last) = if n % 2 == 0 { (0, 1 + n % 3) } else { (1 + n % 3, 0) };
            let client = |source| if source == 0 { 700 + n } else { 9 };
            let source = |source: u64| u32::try_from(source).unwrap();
            for (number, from) in [(2 * n, first), (2 * n + 1, last)] {
                let client = u32::try_from(client(from)).unwrap();
                found.extend(twins.line(line(number, source(from), n, client)));
            }
        }
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, 0);
        assert!(twins.is_balancer(0) && !twins.is_balancer(1));
        let repeats: Vec<_> = (0..40).filter(|&number| twins.is_repeat(0, number)).collect();
        assert_eq!(repeats.len(), 20);
        assert!(!twins.is_repeat(0, repeats[0]), "it is forgotten");
    }

    #[test]
    fn a_server_of_its_own_does_not() {
        let mut twins = TwinFinder::default();
        for n in 0..2_000 {
            // Both get the same few pages all the time, at random.
            let url = ((n * 0x9E37_79B9) >> 7) & 15;
            let source = u32::from(n % 3 != 0);
            let client = u32::try_from(n).unwrap();
            let line = line(n * 20, source, url, if source == 0 { client } else { 9 });
            twins.line(line);
            if n > 100 {
                assert!(!twins.is_balancer(0), "{n}");
            }
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut twins = TwinFinder::default();
        for n in 0..100_000 {
            let time = Timestamp::from_seconds(1_795_379_000);
            twins.line(TwinLine { time, ..line(n, 1, n % 50_000, 9) });
        }
        assert!(twins.order.len() <= LINES && twins.recent.len() <= LINES);
        let later = Timestamp::from_seconds(1_795_379_900);
        twins.line(TwinLine { time: later, ..line(1, 1, 1, 9) });
        assert_eq!((twins.order.len(), twins.recent.len()), (1, 1));
    }
}
