//! Order, losses, doubles, bounds.

use super::*;
use crate::shipment::{OutgoingLine, SendStamp, ShipmentServer, ShipmentWriter};
use crate::time::Timestamp;

pub(super) const ORIGIN: SenderOrigin = SenderOrigin { id: 1, start: Timestamp::from_micros(5) };

/// `count` shipments of two lines each: `0 0`, `0 1`, `1 0` and so on.
pub(super) fn shipments(origin: SenderOrigin, count: u64) -> Vec<Vec<u8>> {
    let mut writer = ShipmentWriter::new(origin, ShipmentServer::default(), 512);
    (0..count)
        .filter_map(|number| {
            for line in 0..2 {
                let _ = writer.push(format!("{number} {line}").as_bytes(), None);
            }
            writer.finish(SendStamp::default(), <[u8]>::to_vec)
        })
        .collect()
}

fn question(shipments: u64, lines: u64) -> DiscoveryQuestion {
    let streams = StreamList::default();
    DiscoveryQuestion { nonce: 0, origin: ORIGIN, shipments, lines, streams }
}

pub(super) fn receive(senders: &mut SenderTable, datagram: &[u8]) -> (ShipmentOutcome, usize) {
    let shipment = Shipment::parse(datagram).expect("we wrote it");
    let mut lines = 0;
    let arrival = senders.receive(&shipment, Timestamp::default(), |_, _| lines += 1);
    (arrival.outcome, lines)
}

#[test]
fn order_does_not_matter_and_what_comes_twice_is_given_out_once() {
    let sent = shipments(ORIGIN, 5);
    let mut senders = SenderTable::new(SenderLimits::default());
    for (number, expected, lost) in [
        (2, (ShipmentOutcome::New, 2), 0),
        (0, (ShipmentOutcome::New, 2), 2),
        (2, (ShipmentOutcome::Duplicate, 0), 2),
        (4, (ShipmentOutcome::New, 2), 4),
        (1, (ShipmentOutcome::New, 2), 2),
        (3, (ShipmentOutcome::New, 2), 0),
        (0, (ShipmentOutcome::Duplicate, 0), 0),
    ] {
        assert_eq!(receive(&mut senders, &sent[number]), expected, "shipment {number}");
        assert_eq!(senders.counts().lost_lines, lost, "after shipment {number}");
    }
    let counts = senders.counts();
    assert_eq!((counts.shipments, counts.lines, counts.duplicates), (5, 10, 2));
}

#[test]
fn what_is_sent_again_after_an_outage_is_taken_however_many_came_after_it() {
    let sent = shipments(ORIGIN, 5_000);
    let mut senders = SenderTable::new(SenderLimits::default());
    assert_eq!(receive(&mut senders, &sent[0]).0, ShipmentOutcome::New);
    // All but the first and the last are lost, and a question tells of them.
    let question = question(5_000, 10_000);
    senders.asked(&question, Timestamp::default());
    assert_eq!(senders.counts().lost_shipments, 4_999);
    assert_eq!(receive(&mut senders, &sent[4_999]).0, ShipmentOutcome::New);
    for (number, datagram) in sent.iter().enumerate() {
        let is_new = !matches!(number, 0 | 4_999);
        let outcome = receive(&mut senders, datagram).0;
        assert_eq!(outcome == ShipmentOutcome::New, is_new, "shipment {number}: {outcome:?}");
    }
    let counts = senders.counts();
    assert_eq!((counts.lost_shipments, counts.lost_lines, counts.lines), (0, 0, 10_000));
}

#[test]
fn one_forged_number_mutes_no_shipper_and_is_no_loss() {
    let sent = shipments(ORIGIN, 10);
    let mut senders = SenderTable::new(SenderLimits::default());
    assert_eq!(receive(&mut senders, &sent[0]).0, ShipmentOutcome::New);
    let far = u64::MAX / 2;
    let mut forged = sent[1].clone();
    for (shipment, line, dropped) in [(far, 2, 0), (1, far, 0), (far, far, far)] {
        for (at, value) in [(24, shipment), (32, line), (48, dropped)] {
            forged[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        assert_eq!(receive(&mut senders, &forged), (ShipmentOutcome::TooFar, 0));
        senders.asked(&question(shipment, line), Timestamp::default());
    }
    for datagram in &sent[1..] {
        assert_eq!(receive(&mut senders, datagram), (ShipmentOutcome::New, 2));
    }
    let counts = senders.counts();
    assert_eq!((counts.lost_lines, counts.dropped, counts.too_far), (0, 0, 6));
}

#[test]
fn a_question_shows_that_the_last_shipments_are_missing() {
    let sent = shipments(ORIGIN, 3);
    let mut senders = SenderTable::new(SenderLimits::default());
    assert_eq!(receive(&mut senders, &sent[0]).0, ShipmentOutcome::New);
    let question = question(3, 6);
    senders.asked(&question, Timestamp::default());
    assert_eq!((senders.counts().lost_shipments, senders.counts().lost_lines), (2, 4));
    assert_eq!(senders.received(&question), ReceivedShipments { from: 0, upto: 1 });
    assert_eq!(receive(&mut senders, &sent[2]).0, ShipmentOutcome::New);
    assert_eq!((senders.counts().lost_shipments, senders.counts().lost_lines), (1, 2));
    assert_eq!(senders.received(&question), ReceivedShipments { from: 0, upto: 1 });
    // A collector that has just started knows of nothing.
    let unknown = SenderTable::new(SenderLimits::default()).received(&question);
    assert_eq!(unknown, ReceivedShipments { from: 3, upto: 3 });
}

#[test]
fn a_shipper_that_starts_again_is_another_one() {
    let again = SenderOrigin { start: Timestamp::from_micros(6), ..ORIGIN };
    let mut senders = SenderTable::new(SenderLimits::default());
    assert_eq!(receive(&mut senders, &shipments(ORIGIN, 1)[0]).0, ShipmentOutcome::New);
    assert_eq!(receive(&mut senders, &shipments(again, 1)[0]).0, ShipmentOutcome::New);
    let counts = senders.counts();
    assert_eq!((counts.senders, counts.lines, counts.lost_lines), (2, 4, 0));
}

#[test]
fn when_there_are_too_many_a_quiet_one_is_forgotten_and_its_losses_stay() {
    let mut senders = SenderTable::new(SenderLimits { senders: 3, ..SenderLimits::default() });
    let origin = |id| SenderOrigin { id, ..ORIGIN };
    let sent = shipments(origin(1), 3);
    receive(&mut senders, &sent[0]);
    receive(&mut senders, &sent[2]);
    for id in 2..100 {
        receive(&mut senders, &shipments(origin(id), 1)[0]);
        assert!(senders.len() <= 3);
    }
    let counts = senders.counts();
    assert_eq!((counts.senders, counts.forgotten, counts.lost_lines), (99, 96, 2));
}

#[test]
fn the_busy_are_not_forgotten_for_the_sake_of_passers_by() {
    let mut senders = SenderTable::new(SenderLimits { senders: 8, ..SenderLimits::default() });
    let sent = shipments(ORIGIN, 200);
    for (number, datagram) in sent.iter().enumerate() {
        assert_eq!(receive(&mut senders, datagram), (ShipmentOutcome::New, 2));
        assert_eq!(receive(&mut senders, datagram), (ShipmentOutcome::Duplicate, 0), "{number}");
        let passer_by = SenderOrigin { id: 1000 + u64::try_from(number).unwrap(), ..ORIGIN };
        receive(&mut senders, &shipments(passer_by, 1)[0]);
    }
    assert_eq!(senders.counts().lost_lines, 0);
}

/// Ships lines of a file from a line on, in shipments of two lines.
pub(super) fn follow(origin: SenderOrigin, lines: &[&str], from: usize) -> Vec<Vec<u8>> {
    let mut writer = ShipmentWriter::new(origin, ShipmentServer::default(), 512);
    let (mut sent, mut start) = (Vec::new(), 0);
    for (number, line) in lines.iter().enumerate() {
        let end = start + line.len() as u64 + 1;
        let span = Some(StreamSpan { stream: StreamId([9; 16]), start, end });
        if number >= from {
            let _ = writer.push_line(&OutgoingLine { bytes: line.as_bytes(), read: None, span });
            if (number - from) % 2 == 1 {
                sent.extend(writer.finish(SendStamp::default(), <[u8]>::to_vec));
            }
        }
        start = end;
    }
    sent.extend(writer.finish(SendStamp::default(), <[u8]>::to_vec));
    sent
}

#[test]
fn what_an_earlier_run_has_shipped_of_a_file_is_not_delivered_again() {
    let lines = ["zero", "one", "", "three", "four", "five", "six", "seven"];
    let mut senders = SenderTable::new(SenderLimits::default());
    let mut came = Vec::new();
    let mut receive = |senders: &mut SenderTable, datagram: &[u8]| {
        let shipment = Shipment::parse(datagram).expect("we wrote it");
        let take = |line: &[u8], _| came.push(String::from_utf8_lossy(line).into_owned());
        let arrival = senders.receive(&shipment, Timestamp::default(), take);
        assert_eq!(arrival.outcome, ShipmentOutcome::New);
    };
    // The second shipment is lost, and then the shipper is killed.
    let first = follow(ORIGIN, &lines, 0);
    for number in [0, 2] {
        receive(&mut senders, &first[number]);
    }
    let asked = StreamList::of([StreamId([9; 16]), StreamId([8; 16])]);
    let positions: Vec<_> = senders.positions(&asked).iter().collect();
    assert_eq!(positions[0], StreamPosition { from: 0, upto: 9 });
    assert!(!positions[1].is_known());
    // The next run begins a line too early, and so its shipments hold other lines together.
    let again = SenderOrigin { start: Timestamp::from_micros(6), ..ORIGIN };
    for datagram in follow(again, &lines, 1) {
        receive(&mut senders, &datagram);
    }
    assert_eq!(came, ["zero", "one", "four", "five", "", "three", "six", "seven"]);
    let counts = senders.counts();
    assert_eq!((counts.lines, counts.known_lines, counts.lost_lines), (8, 3, 2));
    assert_eq!(senders.positions(&asked).iter().next().map(|it| it.upto), Some(36));
}

#[test]
fn a_line_in_pieces_counts_as_lost_until_it_is_whole() {
    let mut writer = ShipmentWriter::new(ORIGIN, ShipmentServer::default(), 512);
    let line = vec![b'x'; 1000];
    let line = OutgoingLine { bytes: &line, read: None, span: None };
    let (mut sent, mut next) = (Vec::new(), Some(0));
    while let Some(offset) = next {
        let (rest, datagram) = writer.piece(&line, offset, SendStamp::default(), <[u8]>::to_vec);
        sent.push(datagram);
        next = rest;
    }
    assert_eq!(sent.len(), 3);
    let mut senders = SenderTable::new(SenderLimits::default());
    for (number, lines, lost) in [(2, 0, 1), (0, 0, 1), (1, 1, 0)] {
        assert_eq!(receive(&mut senders, &sent[number]), (ShipmentOutcome::New, lines));
        assert_eq!(senders.counts().lost_lines, lost);
    }
    assert_eq!((writer.lines(), writer.shipments()), (1, 3));
}
