//! Lines that are dated by their stamps of whole seconds, while records tell the time finely.

use super::*;

/// A line of a second, which comes when it is `now`.
fn line_of_second(site: &mut Site, (at, now): (i64, i64), agent: u32, url: &str) {
    site.advance(now);
    let time = (Timestamp::from_micros(at / SECOND * SECOND), Resolution::Second);
    let line = LoggedLine {
        long: Fingerprint::of_logged(&[url.as_bytes()], Cut::Long),
        sender: Some(site.sender),
        user_agent: Some(agent),
        ..LoggedLine::unread(site.server, time)
    };
    site.engine.line(&line, site.lines);
    site.lines += 1;
}

#[test]
fn lines_of_a_second_find_their_mappings_once_delays_are_known() {
    let mut site = Site::new();
    let client = |number: i64| u8::try_from(number * 7 % 50).unwrap() + 1;
    let url = |number: i64| match number {
        ..400 => format!("/{number}"),
        _ => format!("/{}", number / 2),
    };
    for number in 0..1_040 {
        let at = number * 25_000;
        if number < 1_000 {
            site.mapping(at, client(number), &url(number));
        }
        if let late @ 0.. = number - 40 {
            let agent = u32::from(client(late));
            line_of_second(&mut site, (late * 25_000 + 1_000, at + 1), agent, &url(late));
        }
    }
    let out = site.out(60 * SECOND);
    let right = (0..).zip(&out).filter(|(number, line)| line.0 == client(*number)).count();
    assert!(out.len() == 1_000 && right >= 990, "{right} of {}", out.len());
}

#[test]
fn a_line_long_before_its_only_mapping_is_not_certain_while_few_delays_are_known() {
    let settings = JoinSettings { wait: Duration::from_secs(3), ..JoinSettings::default() };
    let mut site = Site { engine: Attributor::new(settings), ..Site::new() };
    site.server = site.engine.server(ServerAddr::Ip([127, 0, 1, 1].into()));
    for number in 0..10 {
        site.mapping(number * 5 * SECOND, 7, &format!("/{number}"));
        line_of_second(
            &mut site,
            (number * 5 * SECOND, number * 5 * SECOND),
            1,
            &format!("/{number}"),
        );
    }
    // The record of this line is missing, and another client asks for the same behind it.
    line_of_second(&mut site, (60 * SECOND, 60 * SECOND), 2, "/other");
    site.mapping(62 * SECOND + SECOND / 2, 8, "/other");
    let out = site.out(100 * SECOND);
    assert!(out[..10].iter().all(|it| (it.0, it.1) == (7, Certainty::Certain)), "{out:?}");
    assert_ne!(out[10].1, Certainty::Certain);
}
