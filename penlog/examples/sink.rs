//! A collector that only counts: what `docs/design/performance.md` measures penlog against.
//!
//! `sink [ADDR:PORT] [WINDOW]` says where it listens, answers questions, and prints what came once
//! nothing has come for a second.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use pen_records::datagram::Datagram;
use pen_records::shipment::{DiscoveryAnswer, SenderLimits, SenderTable};
use pen_records::time::Timestamp;

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let socket = UdpSocket::bind(args.next().as_deref().unwrap_or("127.0.0.1:0"))?;
    let window = args.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    println!("listening on {}", socket.local_addr()?);
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut senders = SenderTable::new(SenderLimits::default());
    let (mut bytes, mut answers, mut classic) = (0, 0_u64, 0_u64);
    let mut began: Option<Instant> = None;
    let mut last = Instant::now();
    let mut buffer = vec![0; 65_536];
    loop {
        let (len, from) = match socket.recv_from(&mut buffer) {
            Ok(came) => came,
            Err(error) if error.kind() == ErrorKind::WouldBlock => match began {
                Some(began) => {
                    let took = (last - began).as_secs_f64();
                    println!("{:?}", senders.counts());
                    println!(
                        "{bytes} bytes of lines, {answers} answers, {classic} classic lines, {took:.3} s"
                    );
                    return Ok(());
                }
                None => continue,
            },
            Err(error) => return Err(error),
        };
        match Datagram::parse(&buffer[..len]) {
            Datagram::Question(question) => {
                let mut answer = Vec::new();
                DiscoveryAnswer {
                    nonce: question.nonce,
                    window,
                    datagram: 0,
                    received: None,
                    positions: senders.positions(&question.streams),
                }
                .write(&mut answer);
                socket.send_to(&answer, from)?;
                answers += 1;
                continue;
            }
            Datagram::Shipment(shipment) => {
                let _ =
                    senders.receive(&shipment, Timestamp::default(), |line, _| bytes += line.len());
            }
            Datagram::Lines(lines) => classic += u64::try_from(lines.count()).unwrap_or(0),
            _ => {}
        }
        last = Instant::now();
        began.get_or_insert(last);
    }
}
