//! Clocks of shippers and balancers that are set.

use std::collections::VecDeque;
use std::time::Duration;

use pen_records::shipment::{Push, SendStamp, SenderOrigin, ShipmentServer, ShipmentWriter};

use super::*;

const SECOND: i64 = 1_000_000;

#[test]
fn a_shippers_clock_may_be_set() {
    for step in [-3_600, -60, -5, 5, 60, 3_600] {
        let settings = CollectorSettings {
            held_bytes: 1 << 20,
            unfinished_bytes: 1 << 20,
            servers: 100,
            senders: 100,
            balancers: 16,
            ..CollectorSettings::default()
        };
        let mut collector = Collector::new(settings);
        let start = Timestamp::from_seconds(1_795_379_000);
        let origin = SenderOrigin { id: 7, start };
        let mut writer = ShipmentWriter::new(origin, ShipmentServer::default(), 1_400);
        let (mut out, mut underway) = (Vec::new(), VecDeque::new());
        // 94 requests a second of ten pages, each answered after 50 ms, for a minute.
        for millis in 0..60_000_u32 {
            let now = start.offset_by(i64::from(millis) * 1_000);
            if millis % 11 == 0 {
                let (client, page) = (millis / 11 % 250, millis / 11 * 7 % 10);
                let mapping = format!("+ 203.0.113.{client} 127.0.0.2 GET /{page} HTTP/1.1\n");
                let from = "127.0.0.1:4000".parse().unwrap();
                collector.receive(from, mapping.as_bytes(), now.into());
                underway.push_back((millis + 50, client, page));
            }
            while let Some(&(due, client, page)) = underway.front()
                && due <= millis
            {
                underway.pop_front();
                let line = format!(
                    "10.0.0.1 - - [22/Nov/2026:20:23:20 +0000] \"GET /{page} HTTP/1.1\" 200 {client}"
                );
                let read = Duration::from_millis(millis.into());
                let _ = writer.push(line.as_bytes(), Some(read));
                // Half way its clock is set.
                let wrong = if millis < 30_000 { 0 } else { step * SECOND };
                let stamp = SendStamp {
                    sent: now.offset_by(wrong),
                    now: read + Duration::from_millis(5),
                    ..SendStamp::default()
                };
                let shipment = writer.finish(stamp, <[u8]>::to_vec).unwrap();
                let later = now.offset_by(5_000);
                collector.receive("127.0.0.2:5000".parse().unwrap(), &shipment, later.into());
            }
            collector.decide(now, &mut out, None);
        }
        collector.finish(start.offset_by(70 * SECOND), &mut out, None);
        let text = String::from_utf8(out).unwrap();
        assert!(text.lines().count() > 5_000, "{step}");
        for (number, line) in text.lines().enumerate() {
            let client = line.rsplit(' ').next().unwrap();
            let expected = format!("203.0.113.{client} ");
            assert!(line.starts_with(&expected), "{step} s: line {number}: {line}");
        }
    }
}

/// Two workers write their lines every two seconds, one a second after the other.
#[test]
fn lines_that_workers_write_in_blocks_find_their_clients() {
    let settings = CollectorSettings {
        held_bytes: 1 << 20,
        unfinished_bytes: 1 << 20,
        servers: 100,
        ..CollectorSettings::default()
    };
    let mut collector = Collector::new(settings);
    let start = Timestamp::from_seconds(1_795_379_000);
    let origin = SenderOrigin { id: 7, start };
    let mut writer = ShipmentWriter::new(origin, ShipmentServer::default(), 1_400);
    let (mut out, mut buffers) = (Vec::new(), [Vec::new(), Vec::new()]);
    let mut sent = 0;
    for millis in 0..40_000_u32 {
        let now = start.offset_by(i64::from(millis) * 1_000);
        if millis % 50 == 7 && millis < 36_000 {
            let (client, page) = (millis / 50 % 250, millis / 50 % 60);
            let mapping = format!("+ 203.0.113.{client} 127.0.0.2 GET /{page} HTTP/1.1\n");
            collector.receive("127.0.0.1:4000".parse().unwrap(), mapping.as_bytes(), now.into());
            let (minute, second) = (23 + millis / 60_000, millis / 1_000 % 60);
            buffers[millis as usize / 50 % 2].push(format!(
                "10.0.0.1 - - [22/Nov/2026:20:{minute}:{second:02} +0000] \"GET /{page} HTTP/1.1\" 200 {client}"
            ));
            sent += 1;
        }
        if millis % 1_000 == 303 {
            let read = Duration::from_millis(millis.into());
            // The machine's clock, as in the stamps, is 20 s behind.
            let sent = now.offset_by(-20 * SECOND);
            let stamp = SendStamp { sent, now: read, ..SendStamp::default() };
            let from = "127.0.0.2:5000".parse().unwrap();
            for line in buffers[millis as usize / 1_000 % 2].drain(..) {
                if writer.push(line.as_bytes(), Some(read)) != Push::Taken {
                    let shipment = writer.finish(stamp, <[u8]>::to_vec).unwrap();
                    collector.receive(from, &shipment, now.into());
                    let _ = writer.push(line.as_bytes(), Some(read));
                }
            }
            if let Some(shipment) = writer.finish(stamp, <[u8]>::to_vec) {
                collector.receive(from, &shipment, now.into());
            }
        }
        while let Some(due) = collector.next_due().filter(|due| *due <= now) {
            collector.decide(due, &mut out, None);
        }
    }
    collector.finish(start.offset_by(70 * SECOND), &mut out, None);
    let text = String::from_utf8(out).unwrap();
    let is_right =
        |line: &&str| line.starts_with(&format!("203.0.113.{} ", line.rsplit(' ').next().unwrap()));
    let seconds = text.lines().map(|line| line.split(['[', ']']).nth(1));
    let is_sorted = seconds.skip(100).is_sorted();
    let right = text.lines().filter(is_right).count();
    assert_eq!(text.lines().count(), sent);
    assert!(is_sorted && right * 100 >= sent * 98, "{right} of {sent}");
}
