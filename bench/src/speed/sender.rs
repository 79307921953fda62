//! A sender at full speed: records as a balancer sends them, lines as the servers do, each from an
//! address of its own.

use std::io::IoSlice;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use nix::unistd::Pid;
use pen_records::addr::{ClientAddr, ServerAddr};
use pen_records::attribution::text_hash;
use pen_records::mapping::packet::{OVERHEAD, write_packet, write_record};
use pen_records::mapping::{Mapping, MappingKind, RequestText};
use pen_records::request::Cut;
use pen_records::shipment::{Push, SendStamp, SenderOrigin, ShipmentServer, ShipmentWriter};
use pen_records::time::Timestamp;
use pen_testing::random::SeededRandom;

use super::input::client;
use crate::{ActionError, Doing};

/// Datagrams that one call hands to the kernel.
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
    /// How records and lines travel.
    pub(super) spelling: TrafficEncoding,
    /// Whether records of ended responses are sent as well, just before the lines.
    pub(super) ends: bool,
}

/// How records and lines travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrafficEncoding {
    /// Each in a datagram of its own, as the C programs send them.
    Classic,
    /// As ours do: records in packets that fit an Ethernet frame, lines in shipments of so many bytes.
    Ours {
        /// The most bytes of a shipment.
        shipment: usize,
    },
}

impl Load {
    /// Pairs that are made together. A line follows its record after so many records at the earliest.
    pub(super) const fn batch(&self) -> u64 {
        match self.spelling {
            TrafficEncoding::Classic => 32,
            TrafficEncoding::Ours { .. } => 512,
        }
    }
}

const REFERER: &[u8] = b"https://www.example.org/start";
const USER_AGENT: &[u8] = b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";

/// The most bytes of a packet of records.
const PACKET: usize = 1400;

/// Sends all records and lines to a collector on loopback, from this thread, on this core.
pub(super) fn send(load: Load, port: u16, core: usize) -> Result<Duration, ActionError> {
    let mut cores = CpuSet::new();
    cores.set(core).doing(format_args!("choose core {core}"))?;
    sched_setaffinity(Pid::from_raw(0), &cores).doing(format_args!("stay on core {core}"))?;

    let balancer = DatagramSource::new("127.0.0.1", port)?;
    let servers: Vec<_> = (1..=SERVERS)
        .map(|n| DatagramSource::new(&format!("127.0.1.{n}"), port))
        .collect::<Result<_, _>>()?;
    let mut lines: Vec<_> = (1..=SERVERS).map(|id| Out::of(load, id)).collect();
    let mut records = Out::of(load, 0);
    let mut texts = Batch::new();
    let batches = load.pairs.div_ceil(load.batch());
    let behind = load.outstanding.div_ceil(load.batch()).min(batches);
    let begin = Instant::now();
    for batch in 0..batches + behind {
        if batch < batches {
            records.compose(&mut texts, load, batch, Half::Record);
            balancer.send(&mut texts)?;
        }
        if let Some(batch) = batch.checked_sub(behind) {
            if load.ends {
                records.compose(&mut texts, load, batch, Half::End);
                balancer.send(&mut texts)?;
            }
            let server = usize::try_from(batch % SERVERS).expect("it is small");
            lines[server].compose(&mut texts, load, batch, Half::Line);
            servers[server].send(&mut texts)?;
        }
        if let Some(rate) = load.rate {
            let due = Duration::from_secs_f64((batch * load.batch()) as f64 / rate as f64);
            while begin.elapsed() < due {
                std::hint::spin_loop();
            }
        }
    }
    Ok(begin.elapsed())
}

/// An address that datagrams come from.
struct DatagramSource(UdpSocket);

impl DatagramSource {
    fn new(addr: &str, port: u16) -> Result<Self, ActionError> {
        let socket = UdpSocket::bind((addr, 0)).doing(format_args!("send from {addr}"))?;
        socket.connect(("127.0.0.1", port)).doing(format_args!("send to port {port}"))?;
        Ok(Self(socket))
    }

    fn send(&self, batch: &mut Batch) -> Result<(), ActionError> {
        let Batch { bytes, ends, headers, .. } = batch;
        let mut start = 0;
        for ends in ends.chunks(BATCH) {
            let slices: Vec<_> = ends
                .iter()
                .map(|&end| [IoSlice::new(&bytes[std::mem::replace(&mut start, end)..end])])
                .collect();
            // The sockets are connected; without an address the call would send nothing.
            let nowhere: [Option<SockaddrIn>; BATCH] = [None; BATCH];
            // Fewer than asked are sent only where the kernel is out of memory: they count as lost.
            let nowhere = &nowhere[..slices.len()];
            sendmmsg(self.0.as_raw_fd(), headers, &slices, nowhere, [], MsgFlags::empty())
                .doing("send")?;
        }
        Ok(())
    }
}

/// Datagrams to be sent together.
struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// A record or line that is being made.
    text: Vec<u8>,
    headers: MultiHeaders<SockaddrIn>,
}

impl Batch {
    fn new() -> Self {
        let headers = MultiHeaders::preallocate(BATCH, None);
        Self { bytes: Vec::new(), ends: Vec::new(), text: Vec::new(), headers }
    }
}

/// Which part of a pair.
#[derive(Clone, Copy)]
enum Half {
    Record,
    /// What comes of it, of which only ours speaks.
    End,
    Line,
}

/// Makes datagrams of one sender.
enum Out {
    Classic,
    Packets { origin: SenderOrigin, number: u64, records: Vec<u8>, count: u32 },
    Shipments(Box<ShipmentWriter>),
}

impl Out {
    /// Sender 0 is the balancer.
    fn of(load: Load, id: u64) -> Self {
        let origin = SenderOrigin { id, start: Timestamp::from_micros(0) };
        match load.spelling {
            TrafficEncoding::Classic => Self::Classic,
            TrafficEncoding::Ours { .. } if id == 0 => {
                Self::Packets { origin, number: 0, records: Vec::new(), count: 0 }
            }
            TrafficEncoding::Ours { shipment } => Self::Shipments(Box::new(ShipmentWriter::new(
                origin,
                ShipmentServer::default(),
                shipment,
            ))),
        }
    }

    fn compose(&mut self, out: &mut Batch, load: Load, batch: u64, half: Half) {
        out.bytes.clear();
        out.ends.clear();
        let first = batch * load.batch();
        for n in first..(first + load.batch()).min(load.pairs) {
            let client = SeededRandom::new(n).below(5_000);
            let request = load.requests.map_or(n, |requests| n % requests);
            let server = b'1' + u8::try_from(batch % SERVERS).expect("it is small");
            self.push(out, &Pair { n, client, request, server }, half);
        }
        self.finish(out);
    }

    fn push(&mut self, out: &mut Batch, pair: &Pair, half: Half) {
        out.text.clear();
        match (&self, half) {
            (Self::Classic, Half::Record) => record(&mut out.bytes, pair),
            (Self::Classic, Half::End) => {}
            (Self::Packets { .. }, Half::End) => ended(&mut out.text, pair),
            (Self::Packets { .. }, _) => packed(&mut out.text, pair),
            (Self::Classic, Half::Line) => line(&mut out.bytes, pair),
            (Self::Shipments(_), _) => line(&mut out.text, pair),
        }
        if !self.take(&out.text) {
            self.finish(out);
            self.take(&out.text);
        }
    }

    /// Whether there was room for it.
    fn take(&mut self, text: &[u8]) -> bool {
        match self {
            Self::Classic => false,
            Self::Packets { records, count, .. } => {
                let fits = OVERHEAD + records.len() + text.len() <= PACKET;
                if fits {
                    records.extend_from_slice(text);
                    *count += 1;
                }
                fits
            }
            Self::Shipments(writer) => {
                writer.push(text.strip_suffix(b"\n").unwrap_or(text), None) == Push::Taken
            }
        }
    }

    fn finish(&mut self, out: &mut Batch) {
        let bytes = &mut out.bytes;
        match self {
            Self::Classic => {}
            Self::Packets { origin, number, records, count } => {
                let sent = Timestamp::from_micros(0);
                write_packet(*origin, *number, sent, 0, (*count, records), bytes);
                *number += u64::from(*count);
                records.clear();
                *count = 0;
            }
            Self::Shipments(writer) => {
                writer.finish(SendStamp::default(), |shipment| bytes.extend_from_slice(shipment));
            }
        }
        if out.ends.last().copied().unwrap_or(0) < out.bytes.len() {
            out.ends.push(out.bytes.len());
        }
    }
}

/// A request as both sides saw it.
struct Pair {
    n: u64,
    client: usize,
    request: u64,
    /// The last digit of the server's address.
    server: u8,
}

/// A request with the facts that our balancer knows when forwarding.
fn packed(out: &mut Vec<u8>, pair: &Pair) {
    let keeps = u16::try_from(pair.client).expect("there are few clients");
    let mut text = Vec::with_capacity(64);
    request(&mut text, pair);
    let client = ClientAddr::Ip(client(pair.client).parse().expect("an address"));
    let server = Ipv4Addr::new(127, 0, 1, pair.server - b'0');
    write_record(
        &Mapping {
            kind: MappingKind::Request,
            client_port: Some(40_000),
            server_port: Some(80),
            balancer: Some((Ipv4Addr::LOCALHOST, 20_000 + keeps).into()),
            connection: Some(keeps.into()),
            nth: Some(u32::try_from(pair.n).unwrap_or(u32::MAX)),
            request: Some(RequestText::raw(&text, Cut::Long)),
            user_agent: Some(text_hash(USER_AGENT)),
            referer: Some(text_hash(REFERER)),
            ..Mapping::new(client, ServerAddr::Ip(server.into()))
        },
        out,
    );
}

/// Its response has ended.
fn ended(out: &mut Vec<u8>, pair: &Pair) {
    let keeps = u16::try_from(pair.client).expect("there are few clients");
    let client = ClientAddr::Ip(client(pair.client).parse().expect("an address"));
    let server = Ipv4Addr::new(127, 0, 1, pair.server - b'0');
    write_record(
        &Mapping {
            kind: MappingKind::Ended,
            client_port: Some(40_000),
            server_port: Some(80),
            balancer: Some((Ipv4Addr::LOCALHOST, 20_000 + keeps).into()),
            connection: Some(keeps.into()),
            nth: Some(u32::try_from(pair.n).unwrap_or(u32::MAX)),
            status: Some(200),
            head_bytes: Some(200),
            body_bytes: Some(5_120),
            framed_bytes: Some(5_120),
            ..Mapping::new(client, ServerAddr::Ip(server.into()))
        },
        out,
    );
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
    out.extend_from_slice(b"\" 200 5120 \"");
    out.extend_from_slice(REFERER);
    out.extend_from_slice(b"\" \"");
    out.extend_from_slice(USER_AGENT);
    out.extend_from_slice(b"\"\n");
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
