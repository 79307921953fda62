//! A sender of classic datagrams at full speed: records as a balancer sends them, lines as the
//! servers do, each from an address of its own.

use std::io::IoSlice;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use nix::unistd::Pid;
use pen_records::shipment::{Origin, Push, Server, Stamp, Writer};
use pen_records::time::Timestamp;

use super::input::client;
use super::random::Random;
use crate::{During, Failure};

/// Datagrams that one call hands to the kernel. A line follows its record after this many records
/// at the earliest.
const BATCH: usize = 32;
const SERVERS: u64 = 4;

/// What to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    /// Records, and as many lines.
    pub(super) pairs: u64,
    /// How many records are sent before the line of the first.
    pub(super) outstanding: u64,
    /// How many requests there are before they repeat; `None`: each is asked once.
    pub(super) requests: Option<u64>,
    /// Pairs a second; `None`: as fast as it goes.
    pub(super) rate: Option<u64>,
    /// How lines travel.
    pub(super) lines: Lines,
}

/// How lines travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    /// Each in a datagram of its own, as it is.
    Classic,
    /// Several in a shipment.
    Shipped,
}

/// Bytes of a shipment, so that it fits an Ethernet frame.
const SHIPMENT: usize = 1400;

/// Sends it all to a collector on loopback, from this thread, on this core.
pub(super) fn send(load: Load, port: u16, core: usize) -> Result<Duration, Failure> {
    let mut cores = CpuSet::new();
    cores.set(core).during(format_args!("choose core {core}"))?;
    sched_setaffinity(Pid::from_raw(0), &cores).during(format_args!("stay on core {core}"))?;

    let balancer = Source::new("127.0.0.1", port)?;
    let servers: Vec<_> = (1..=SERVERS)
        .map(|n| Source::new(&format!("127.0.1.{n}"), port))
        .collect::<Result<_, _>>()?;
    let mut writers: Vec<_> = (1..=SERVERS)
        .map(|id| Origin { id, start: Timestamp::from_micros(0) })
        .map(|origin| Writer::new(origin, Server::default(), SHIPMENT))
        .collect();
    let mut texts = Batch::new();
    let batches = load.pairs.div_ceil(BATCH as u64);
    let behind = load.outstanding.div_ceil(BATCH as u64).min(batches);
    let begin = Instant::now();
    for batch in 0..batches + behind {
        if batch < batches {
            texts.compose(load, batch, record);
            balancer.send(&mut texts)?;
        }
        if let Some(batch) = batch.checked_sub(behind) {
            let server = usize::try_from(batch % SERVERS).expect("it is small");
            texts.compose(load, batch, line);
            if load.lines == Lines::Shipped {
                texts.ship(&mut writers[server]);
            }
            servers[server].send(&mut texts)?;
        }
        if let Some(rate) = load.rate {
            let due = Duration::from_secs_f64((batch * BATCH as u64) as f64 / rate as f64);
            while begin.elapsed() < due {
                std::hint::spin_loop();
            }
        }
    }
    Ok(begin.elapsed())
}

/// An address that datagrams come from.
struct Source(UdpSocket);

impl Source {
    fn new(addr: &str, port: u16) -> Result<Self, Failure> {
        let socket = UdpSocket::bind((addr, 0)).during(format_args!("send from {addr}"))?;
        socket.connect(("127.0.0.1", port)).during(format_args!("send to port {port}"))?;
        Ok(Self(socket))
    }

    fn send(&self, batch: &mut Batch) -> Result<(), Failure> {
        let Batch { bytes, ends, headers } = batch;
        let mut start = 0;
        let slices: Vec<_> = ends
            .iter()
            .map(|&end| [IoSlice::new(&bytes[std::mem::replace(&mut start, end)..end])])
            .collect();
        // The sockets are connected; without an address the call would send nothing.
        let nowhere: [Option<SockaddrIn>; BATCH] = [None; BATCH];
        // Fewer than asked are sent only where the kernel is out of memory: they count as lost.
        sendmmsg(
            self.0.as_raw_fd(),
            headers,
            &slices,
            &nowhere[..slices.len()],
            [],
            MsgFlags::empty(),
        )
        .during("send")?;
        Ok(())
    }
}

/// Datagrams to be sent by one call.
struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    headers: MultiHeaders<SockaddrIn>,
}

impl Batch {
    fn new() -> Self {
        let headers = MultiHeaders::preallocate(BATCH, None);
        Self { bytes: Vec::new(), ends: Vec::new(), headers }
    }

    fn compose(&mut self, load: Load, batch: u64, text: fn(&mut Vec<u8>, &Pair)) {
        self.bytes.clear();
        self.ends.clear();
        let first = batch * BATCH as u64;
        for n in first..(first + BATCH as u64).min(load.pairs) {
            let client = Random::new(n).below(5_000);
            let request = load.requests.map_or(n, |requests| n % requests);
            let server = b'1' + u8::try_from(batch % SERVERS).expect("it is small");
            text(&mut self.bytes, &Pair { client, request, server });
            self.ends.push(self.bytes.len());
        }
    }
}

impl Batch {
    /// Puts the lines that are here into shipments.
    fn ship(&mut self, writer: &mut Writer) {
        let lines = std::mem::take(&mut self.bytes);
        let ends = std::mem::take(&mut self.ends);
        let mut start = 0;
        for end in ends {
            let line = &lines[std::mem::replace(&mut start, end)..end];
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            if writer.push(line, None) != Push::Taken {
                self.finish(writer);
                // It is a short line, and the shipment is empty.
                let _ = writer.push(line, None);
            }
        }
        self.finish(writer);
    }

    fn finish(&mut self, writer: &mut Writer) {
        let bytes = &mut self.bytes;
        writer.finish(Stamp::default(), |shipment| bytes.extend_from_slice(shipment));
        self.ends.push(self.bytes.len());
    }
}

/// A request as both sides saw it.
struct Pair {
    client: usize,
    request: u64,
    /// The last digit of the server's address.
    server: u8,
}

fn record(out: &mut Vec<u8>, pair: &Pair) {
    out.extend_from_slice(b"+ ");
    out.extend_from_slice(client(pair.client).as_bytes());
    out.extend_from_slice(b" 127.0.1.");
    out.push(pair.server);
    out.push(b' ');
    request(out, pair);
    out.push(b'\n');
}

/// The truth stands where a user's name would.
fn line(out: &mut Vec<u8>, pair: &Pair) {
    out.extend_from_slice(b"127.0.0.1 - ");
    out.extend_from_slice(client(pair.client).as_bytes());
    out.extend_from_slice(b" [01/Mar/2026:12:00:00 +0000] \"");
    request(out, pair);
    out.extend_from_slice(
        b"\" 200 5120 \"https://www.example.org/start\" \"Mozilla/5.0 (X11; Linux x86_64; \
          rv:128.0) Gecko/20100101 Firefox/128.0\"\n",
    );
}

fn request(out: &mut Vec<u8>, pair: &Pair) {
    out.extend_from_slice(b"GET /shop/item/");
    number(out, pair.request);
    out.extend_from_slice(b"?from=start HTTP/1.1");
}

/// In decimal, without the formatting machinery: the sender should not be what is measured.
fn number(out: &mut Vec<u8>, mut n: u64) {
    let start = out.len();
    loop {
        out.push(b'0' + u8::try_from(n % 10).expect("it is a digit"));
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out[start..].reverse();
}
