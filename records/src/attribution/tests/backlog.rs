//! Lines that come late and many at once, as from a shipper that starts again: dated by their whole seconds.

use super::*;

const RATE: i64 = 40;

/// Visits of 40 s at three pages, whose lines come at once for 20 s, and then all together a minute after the start.
#[test]
fn a_backlog_is_joined_by_order_and_not_by_the_delays_of_live_lines() {
    for (spread, least) in [(1_000, 99), (40_000, 80)] {
        let mut site = Site::new();
        let client = |number: i64| u8::try_from(number * 37 % 250).unwrap() + 1;
        let at = |number: i64| number * SECOND / RATE;
        let logged = |number: i64| at(number) + 2_000 + number * 7_919 % spread;
        let url = |number: i64| format!("/{}", number % 3);
        for number in 0..20 * RATE {
            site.mapping(at(number), client(number), &url(number));
            site.line(logged(number), 1, &url(number));
        }
        let live = site.out(30 * SECOND).len();
        let mut order: Vec<i64> = (20 * RATE..40 * RATE).collect();
        order.iter().for_each(|&number| site.mapping(at(number), client(number), &url(number)));
        order.sort_by_key(|&number| logged(number));
        site.advance(60 * SECOND);
        for &number in &order {
            let url = url(number);
            let time = Timestamp::from_seconds(logged(number) / SECOND);
            let line = LoggedLine {
                long: Fingerprint::of_logged(&[url.as_bytes()], Cut::Long),
                sender: Some(site.sender),
                user_agent: Some(1),
                ..LoggedLine::unread(site.server, (time, Resolution::Second))
            };
            site.engine.line(&line, site.lines);
            // The collector takes out what is due between datagrams.
            site.advance(60 * SECOND);
        }
        assert_eq!(site.out, [], "the rest of the backlog is waited for");
        let out = site.out(90 * SECOND);
        assert_eq!((live, out.len()), (order.len(), order.len()));
        let is_right = |line: &(&i64, &Out)| line.1.0 == client(*line.0);
        let lines = order.iter().zip(&out);
        let shift = |line: &(&i64, &Out)| (-40..40).find(|by| line.1.0 == client(*line.0 + by));
        eprintln!("{:?}", lines.clone().map(|it| shift(&it)).step_by(16).collect::<Vec<_>>());
        eprintln!("{:?}", &out[..20]);
        let right = lines.clone().filter(is_right).count();
        assert!(right * 100 >= order.len() * least, "{spread}: {right} of {}", order.len());
        let mut wrong = lines.filter(|line| !is_right(line));
        assert!(wrong.all(|(_, out)| out.1 != Certainty::Certain));
    }
}
