//! Heads, bodies and answers, bent out of shape, through all that follows and edits HTTP. A plain loop
//! for the stable toolchain; `PEN_FUZZ_SECONDS` says for how long.

mod checks;

use std::time::{Duration, Instant};

const CHECKS: [fn(&[u8]); 2] = [checks::http_requests, checks::http_conversation];

/// Streams of a client; behind 0xFF those of a server. The first two bytes choose how they are played.
const SEEDS: &[&[u8]] = &[
    b"\x00\x07GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n\xffHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"\x01\x03POST /b HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET /c HTTP/1.0\r\n\r\n\xffHTTP/1.1 204 No\r\n\r\nHTTP/1.0 200 OK\r\n\r\nto the end",
    b"\x02\x11PUT /d HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n\xffHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"\x04\x02GET /e HTTP/1.1\nConnection: close, x-forwarded-for\nUpgrade: h2c, websocket\n\n\x81\x05hello\xffHTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x05hello",
    b"\x05\x40CONNECT a:1 HTTP/1.1\r\n\r\n\x16\x03\x01\xffHTTP/1.1 200 Fine\r\n\r\n\x16\x03",
    b"\x01\x05HEAD / HTTP/1.1\r\n\r\nHEAD / HTTP/1.1\r\n\r\n\xffHTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
    b"\x00\x09EHLO there\r\nGET / HTTP/1.1\r\n\r\n\xff250 well\r\n",
    b"\x00\x09\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03http/1.1\n",
    b"\x01\x08GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"\x01\x08 GET\t/ HTTP/1.1\r\n folded\r\nX-Forwarded-For : 1\r\n\r\n",
];

/// Bytes that mean something here.
const TELLING: &[u8] = b"\r\n: ,;\t0159afGH/.-_\0\x7f\x80\xff";

/// As in xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).expect("it is small");
        usize::try_from(self.next() % bound).expect("it is small")
    }
}

/// A few cuts, copies, changes and insertions, from one seed or two.
fn bent(random: &mut Random) -> Vec<u8> {
    let mut bytes = SEEDS[random.below(SEEDS.len())].to_vec();
    for _ in 0..random.below(6) {
        let at = random.below(bytes.len());
        let telling = TELLING[random.below(TELLING.len())];
        match random.below(6) {
            0 => bytes.insert(at, telling),
            1 if !bytes.is_empty() => bytes[at] = telling,
            2 if !bytes.is_empty() => drop(bytes.remove(at)),
            3 => bytes.truncate(at),
            4 => {
                let end = (at + random.below(40)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            _ => {
                let other = SEEDS[random.below(SEEDS.len())];
                let from = random.below(other.len());
                bytes.splice(at..at, other[from..].iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn no_bytes_panic_and_the_laws_of_http_hold_for_all() {
    let seconds = std::env::var("PEN_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let (time, begin) = (Duration::from_secs(seconds.unwrap_or(1)), Instant::now());
    let mut random = Random(seconds.unwrap_or(0) + 0x9e37_79b9);
    let mut inputs = 0_u64;
    while inputs < 1_000 || begin.elapsed() < time {
        let input = bent(&mut random);
        let told = std::panic::catch_unwind(|| CHECKS.iter().for_each(|check| check(&input)));
        assert!(told.is_ok(), "a law is broken by b\"{}\"", input.escape_ascii());
        inputs += 1;
    }
    println!("{inputs} inputs from {} seeds", SEEDS.len());
}
