//! Laws for any stream: the outcome does not depend on how the stream is cut, equals the twin's,
//! and makes no server believe another client's address.

use proptest::prelude::*;

use super::twin::{End, Policy, twin};
use super::{CLIENT, edit_by};

/// How a server reads where a body ends if it is told so in two ways.
#[derive(Clone, Copy, Debug)]
enum Reading {
    LengthFirst,
    ChunksFirst,
}

/// The heads that a lenient server would see.
fn lenient(mut rest: &[u8], reading: Reading) -> Vec<Vec<(String, String)>> {
    let mut heads = Vec::new();
    loop {
        let text = String::from_utf8_lossy(rest).into_owned();
        let mut lines = text.split_inclusive('\n');
        let mut len = 0;
        let mut line = lines.next();
        while line.is_some_and(|line| line.trim().is_empty()) {
            len += line.unwrap_or_default().len();
            line = lines.next();
        }
        let Some(first) = line else { return heads };
        let words: Vec<_> = first.split_whitespace().collect();
        let simple = words.len() == 2 && words[0] == "GET";
        if !(simple || words.len() >= 3 && words.last().is_some_and(|it| it.starts_with("HTTP/"))) {
            return heads;
        }
        len += first.len();
        let (mut fields, mut whole) = (Vec::new(), false);
        for line in lines {
            len += line.len();
            if line.ends_with('\n') && line.trim_end_matches(['\r', '\n']).is_empty() {
                whole = true;
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let name = name.trim().to_lowercase().replace('_', "-");
            fields.push((name, value.trim().to_owned()));
        }
        let field = |name: &str| fields.iter().find(|(it, _)| it == name).map(|(_, value)| value);
        let chunked = field("transfer-encoding").is_some_and(|it| it.to_lowercase() == "chunked");
        let length = field("content-length").and_then(|it| it.parse::<usize>().ok());
        heads.push(fields);
        // Bytes that are no text have another length there.
        if !whole || !rest.is_ascii() {
            return heads;
        }
        rest = &rest[len.min(rest.len())..];
        let skip = match (reading, length, chunked) {
            (Reading::LengthFirst, Some(length), _) | (_, Some(length), false) => length,
            (_, _, true) => lenient_chunks(rest),
            _ => 0,
        };
        rest = &rest[skip.min(rest.len())..];
    }
}

fn lenient_chunks(body: &[u8]) -> usize {
    let mut at = 0;
    while let Some(end) = memchr::memchr(b'\n', &body[at.min(body.len())..]) {
        let line = String::from_utf8_lossy(&body[at..at + end]).into_owned();
        let digits = line.split([';', '\r', ' ']).next().unwrap_or_default().to_owned();
        let size = usize::from_str_radix(&digits, 16).unwrap_or(0);
        at += end + 1;
        if size == 0 {
            let trailer = memchr::memmem::find(&body[at - 2..], b"\r\n\r\n");
            return trailer.map_or(body.len(), |found| at - 2 + found + 4);
        }
        at = at.saturating_add(size).saturating_add(2);
    }
    body.len()
}

fn check(stream: &[u8], policy: Policy, step: usize) -> Result<(), TestCaseError> {
    let (whole, editor) = edit_by(stream, policy, 1 << 20);
    let (pieces, other) = edit_by(stream, policy, step);
    prop_assert_eq!(whole.escape_ascii().to_string(), pieces.escape_ascii().to_string());
    prop_assert_eq!(editor.state, other.state);
    let expected = twin(stream, policy, CLIENT);
    let out = whole.escape_ascii().to_string();
    prop_assert!(whole.starts_with(&expected.out), "{out} and {expected:?}");
    match expected.end {
        End::Whole | End::Raw => {
            prop_assert_eq!(&whole, &expected.out);
            prop_assert_eq!(editor.refusal(), None);
            prop_assert_eq!(editor.is_raw(), expected.end == End::Raw);
        }
        End::Refused => prop_assert!(editor.refusal().is_some(), "{out} and {expected:?}"),
        // Part of it may be wrong already.
        End::Within => prop_assert!(!editor.is_raw()),
    }
    if policy == Policy::Replace && !editor.is_raw() {
        for reading in [Reading::LengthFirst, Reading::ChunksFirst] {
            for head in lenient(&whole, reading) {
                let told: Vec<_> =
                    head.iter().filter(|(name, _)| name == "x-forwarded-for").collect();
                // Of a head that is not whole our own line may be missing.
                prop_assert!(
                    told.iter().all(|(_, value)| CLIENT.starts_with(value)),
                    "{out}: {told:?}"
                );
            }
        }
    } else if editor.is_raw() {
        prop_assert!(lenient(&whole, Reading::ChunksFirst).is_empty(), "{out}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_become_what_the_twin_makes_of_them(
        pieces in prop::collection::vec(piece(), 0..14),
        policy in prop_oneof![Just(Policy::Replace), Just(Policy::Append), Just(Policy::Keep)],
        step in 1_usize..40,
    ) {
        check(&pieces.concat(), policy, step)?;
    }

    #[test]
    fn good_requests_with_a_few_wrong_bytes_become_what_the_twin_makes_of_them(
        requests in prop::collection::vec(request(), 1..5),
        faults in prop::collection::vec((any::<prop::sample::Index>(), fault()), 0..3),
        policy in prop_oneof![Just(Policy::Replace), Just(Policy::Append), Just(Policy::Keep)],
        step in 1_usize..80,
    ) {
        let mut stream = requests.concat();
        for (at, fault) in faults {
            let at = at.index(stream.len());
            match fault {
                Fault::Put(bytes) => { stream.splice(at..at, bytes); }
                Fault::Change(byte) => stream[at] = byte,
                Fault::Cut => stream.truncate(at + 1),
            }
        }
        check(&stream, policy, step)?;
    }
}

#[derive(Clone, Debug)]
enum Fault {
    Put(Vec<u8>),
    Change(u8),
    Cut,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        prop::sample::select(
            &[
                "\r",
                "\n",
                "\r\n",
                " ",
                "\t",
                ":",
                "\0",
                "HTTP/1.1",
                "\r\n\r\n",
                "\r\nX-Forwarded-For: 6.6.6.6\r\n",
                "Content-Length: 4\r\n",
                "Transfer-Encoding: chunked\r\n",
            ][..]
        )
        .prop_map(|it| Fault::Put(it.as_bytes().to_vec())),
        any::<u8>().prop_map(|it| Fault::Put(vec![it])),
        any::<u8>().prop_map(Fault::Change),
        Just(Fault::Cut),
    ]
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let fields = prop::collection::vec(
        prop_oneof![
            Just("Host: x\r\n"),
            Just("X-Forwarded-For: 1.2.3.4\r\n"),
            Just("x_forwarded_for:5.6.7.8 , ::1\r\n"),
            Just("X-Forwarded: no\r\n"),
            Just("X-Forwarded-Proto: https\r\n"),
            Just("Connection: keep-alive\r\n"),
            Just("Connection: x-forwarded-for, close\r\n"),
            Just("Upgrade: h2c, websocket\r\n"),
            Just("Cookie: a=b; c=d\n"),
            Just("Content_Length: 9\r\n"),
        ],
        0..6,
    );
    let body = prop_oneof![
        Just("\r\n"),
        Just("\n"),
        Just("Content-Length: 0\r\n\r\n"),
        Just("Content-Length: 20\r\n\r\nGET / HTTP/1.1\r\n\r\n.."),
        Just(
            "Transfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\na;x=\"y\"\r\n0123456789\r\n0\r\nA: b\r\n\r\n"
        ),
    ];
    let line = prop_oneof![
        Just("GET /a?b=c HTTP/1.1\r\n"),
        Just("PUT * HTTP/1.0\r\n"),
        Just("\r\nX-SEARCH / HTTP/1.1\n"),
        Just("CONNECT a:1 HTTP/1.1\r\n"),
    ];
    (line, fields, body)
        .prop_map(|(line, fields, body)| [line, &fields.concat(), body].concat().into_bytes())
}

/// Parts of messages, which may make sense together or not.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        4 => Just("GET /a HTTP/1.1\r\n"),
        1 => Just("GET /a\r\n"),
        1 => Just("FOO HTTP/1.1\r\n"),
        1 => Just("FOO\t/a HTTP/1.1\r\n"),
        1 => Just(" "),
        4 => Just("\r\n"),
        1 => Just("\n"),
        1 => Just("X-Forwarded-For: 6.6.6.6\r\n"),
        1 => Just("X-Forwarded-For : 6.6.6.6\r\n"),
        1 => Just("Content-Length: 3\r\n"),
        1 => Just("Transfer-Encoding: chunked\r\n"),
        1 => Just("3\r\nabc\r\n"),
        1 => Just("0\r\n\r\n"),
        1 => Just("abc"),
        1 => Just("H"),
    ];
    prop_oneof![
        6 => text.prop_map(|text| text.as_bytes().to_vec()),
        1 => "[ -~\r\n\t]{0,9}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ]
}
