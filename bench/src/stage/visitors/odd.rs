//! Requests that are not simply answered with a page.

use pen_testing::random::SeededRandom;

use super::{Asker, ScaledRandom as _, Then, Zipf, head, target};

/// Draws one, and says what comes of it.
pub(super) fn ask(
    who: &Asker,
    pages: &Zipf,
    random: &mut SeededRandom,
    pieces: &mut Vec<Vec<u8>>,
) -> Then {
    let page = pages.draw(random);
    let file = random.scaled(10);
    let mut send = |method: &str, target: &str, more: &str| {
        pieces.push(head(method, target, who, page, more));
    };
    match random.scaled(24) {
        0 | 1 => {
            send("HEAD", &format!("/files/f{file}"), "");
            return Then::Head;
        }
        2 | 3 => {
            send("GET", &format!("/files/f{file}"), "If-None-Match: *\r\n");
            return Then::Head;
        }
        4 | 5 => {
            let from = 100 * random.scaled(5);
            let range = format!("Range: bytes={from}-{}\r\n", from + 99);
            send("GET", &format!("/files/f{file}"), &range);
        }
        6 | 7 => send("GET", &format!("/files/missing{file}"), ""),
        8..=10 => send("GET", &format!("/packed/f{file}"), "Accept-Encoding: gzip\r\n"),
        11 | 12 => {
            send("POST", &format!("/post/form{file}"), "Transfer-Encoding: chunked\r\n");
            for _ in 0..=random.scaled(3) {
                pieces.push(b"0a\r\nsome=text&\r\n".to_vec());
            }
            pieces.push(b"0\r\n\r\n".to_vec());
        }
        13 | 14 => {
            let more = "Expect: 100-continue\r\nContent-Length: 11\r\n";
            send("POST", &format!("/post/form{file}"), more);
            pieces.push(b"hello there".to_vec());
        }
        15 => {
            // A second Host is forbidden; that it is known to be bad when all the rest is known, too.
            let mut bad = head("GET", &target(page), who, page, "");
            bad.truncate(bad.len() - 2);
            bad.extend_from_slice(b"Host: shop.example\r\n\r\n");
            pieces.push(bad);
            return Then::Left;
        }
        16 => {
            // Apache takes a field for whole when the next line has come.
            let mut begun = head("GET", &target(page), who, page, "");
            begun.truncate(begun.len() - 2);
            begun.extend_from_slice(b"X-And: more\r\nX-M");
            pieces.push(begun);
            return Then::Left;
        }
        17 | 18 => {
            send("GET", &format!("/big/f{file}"), "");
            return Then::Leave(20_000 + random.scaled(60_000));
        }
        19 | 20 => {
            send(
                "GET",
                &format!("/socket/{file}"),
                "Upgrade: websocket\r\nConnection: Upgrade\r\n",
            );
            return Then::Talk;
        }
        _ => send("GET", &target(page), ""),
    }
    Then::Answers
}
