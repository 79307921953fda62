//! What is said of lines of which it is asked why.

use super::*;

#[test]
fn a_line_that_was_asked_about_names_who_else_could_have_asked() {
    let mut site = Site::new();
    site.mapping(0, 1, "/a");
    site.mapping(SECOND, 2, "/a");
    site.mapping(SECOND, 3, "/b");
    site.engine.explain_next();
    site.line(SECOND + 5_000, 7, "/a");
    site.line(SECOND + 6_000, 7, "/b");
    site.engine.advance(Timestamp::from_micros(2 * SECOND));
    let verdict = site.engine.next_decided().unwrap().verdict;
    let why = site.engine.take_why().unwrap();
    assert_eq!((why.candidates.len(), why.more, why.is_asked), (2, 0, true), "{why}");
    assert_eq!(why.candidates.iter().filter(|it| it.is_chosen).count(), 1, "{why}");
    let chosen = why.candidates.iter().find(|it| it.is_chosen).unwrap();
    assert_eq!((Some(chosen.client), Some(chosen.delay)), (verdict.client, verdict.delay));
    let text = why.to_string();
    assert!(text.contains("192.0.2.2") && text.contains("0.005 s after it asked"), "{text}");
    assert!(text.contains("192.0.2.1") && text.contains("1.005 s after it asked"), "{text}");
    // Of the other line nobody asked.
    assert!(site.engine.next_decided().is_some());
    assert_eq!(site.engine.take_why(), None);
}

#[test]
fn to_be_asked_changes_no_decision() {
    let run = |ask: bool| {
        let mut site = Site::new();
        if ask {
            site.engine.explain_all();
        }
        for step in 0..400_i64 {
            let client = u8::try_from(step * 7 % 11).unwrap();
            site.mapping(step * 10_000, client, if step % 3 == 0 { "/a" } else { "/b" });
            site.line(
                step * 10_000 + 4_000 + step % 5 * 9_000,
                u32::from(client % 4),
                if step % 3 == 0 { "/a" } else { "/b" },
            );
        }
        site.engine.finish();
        site.out(10 * SECOND)
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn each_line_has_a_reason_where_all_are_asked_about_and_lines_are_decided_together() {
    let mut site = Site::new();
    site.engine.explain_all();
    for number in 0..40 {
        site.mapping(i64::from(number) * 100, number % 5, "/a");
    }
    for number in 0..40 {
        site.line(10_000 + number, 7, "/a");
    }
    site.engine.finish();
    let mut decided = 0;
    while let Some(out) = site.engine.next_decided() {
        let why = site.engine.take_why().unwrap();
        let chosen = why.candidates.iter().filter(|it| it.is_chosen).count();
        assert!(chosen <= usize::from(out.verdict.client.is_some()), "{why}");
        assert!(!why.candidates.is_empty() && !why.is_asked, "{why}");
        decided += 1;
    }
    assert_eq!(decided, 40);
}

#[test]
fn each_reason_has_a_word_and_words() {
    for word in [
        "port",
        "only",
        "same-client",
        "order",
        "user-agent",
        "doubtful",
        "no-mapping",
        "fallback",
        "none-fits",
        "no-request",
        "direct",
    ] {
        let reason = Reason::of_word(word).unwrap();
        assert_eq!(reason.as_str(), word);
        assert!(!reason.words().is_empty());
    }
    assert_eq!(Reason::of_word("because"), None);
}
