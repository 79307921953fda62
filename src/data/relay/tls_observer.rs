//! Observer of opaque TLS: when each exchange ended, and its bytes.
//!
//! Nothing is decrypted. The headers of TLS records are in the clear: five bytes with type and length. So the observer sees
//! which side sends how much. An *exchange* is what a server sends between two requests of its client.
//!
//! ```text
//! client   Finished  request            request
//! server             ··· response ···· ↑       ··· response ··· quiet
//!                                      the first exchange ends   the second is idle
//! ```
//!
//! The end of a response is certain only when its client sends again or leaves, but lines must not wait for that: an exchange
//! is recorded when the server has been quiet for a moment, and again if it continues.

use std::time::{Duration, Instant};

use pen_records::mapping::OpaqueTls;

/// Record types (RFC 8446, 5.1).
const CHANGE_CIPHER: u8 = 20;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// Length of a record header in bytes.
const HEAD: usize = 5;

/// Bytes that TLS 1.3 adds to the plain text of a record: the real type and the authentication tag.
const ADDED: u32 = 17;

/// Length of the message that ends the handshake before TLS 1.3 (RFC 5246, 7.4.9). Its record shows what the cipher adds: 24
/// bytes with AES-GCM, 16 with `ChaCha20`.
const FINISHED: u32 = 16;

/// Lengths of records of HTTP/2 (RFC 9113) without a request: an acknowledgement of settings, one window update, two of
/// them. A request whose fields are all known has 9 bytes and one for each field.
const CONTROL: [u32; 3] = [9, 13, 26];

/// Both an acknowledgement of settings and a window update, as they come at the beginning.
const FIRST_CONTROL: u32 = 22;

/// Length of a ping, which is answered with as much, and of a request with eight known fields.
const PING: u32 = 17;

/// HTTP/2 begins with a client record without a request, at most this long, and a server record likewise. No HTTP/1.1
/// response is that short.
const PREFACE: u32 = 128;

/// A server counts as quiet after an eighth of the exchange's duration so far, within these bounds.
const QUIET: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(150));

/// One direction: position within a record.
#[derive(Debug, Default)]
struct RecordWalker {
    head: [u8; HEAD],
    known: usize,
    /// Bytes left of the current record.
    left: usize,
}

impl RecordWalker {
    /// Walks over bytes and returns type and length of each record that begins. `None` if the bytes are not TLS.
    fn walk(&mut self, mut bytes: &[u8], mut begins: impl FnMut(u8, u32)) -> Option<()> {
        while !bytes.is_empty() {
            let passed = self.left.min(bytes.len());
            self.left -= passed;
            bytes = &bytes[passed..];
            let wanted = (HEAD - self.known).min(bytes.len());
            self.head[self.known..self.known + wanted].copy_from_slice(&bytes[..wanted]);
            self.known += wanted;
            bytes = &bytes[wanted..];
            if self.known == HEAD {
                let [kind, major, _, high, low] = self.head;
                let len = u16::from_be_bytes([high, low]);
                if !(20..=24).contains(&kind) || major != 3 || len > (1 << 14) + 2_048 {
                    return None;
                }
                (self.known, self.left) = (0, len.into());
                begins(kind, len.into());
            }
        }
        Some(())
    }
}

/// The observer of one connection.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a thing that was seen by itself")]
pub(super) struct TlsObserver {
    client: RecordWalker,
    server: RecordWalker,
    /// The server has encrypted part of the handshake: this is TLS 1.3, and the client will do so, too.
    hides_handshake: bool,
    /// The encrypted handshake part of the client has come.
    finished: bool,
    /// The client has changed to the cipher.
    changed_cipher: bool,
    /// Bytes that the cipher adds to a record, where TLS is older than 1.3.
    older_added: Option<u32>,
    /// Number of the current exchange, from 1; 0 before the first.
    nth: u32,
    began: Option<Instant>,
    /// When the server last sent in this exchange.
    spoke: Option<Instant>,
    asked: u32,
    answered: u32,
    requests: u32,
    /// All client data so far fits the start of HTTP/2.
    may_be_preface: bool,
    /// All requests of this exchange may be pings.
    may_be_pings: bool,
    /// The current state of the exchange has been recorded.
    noted: bool,
}

/// An exchange to record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ObservedExchange {
    /// Its number on the connection.
    pub(super) nth: u32,
    /// When its last byte came.
    pub(super) spoke: Instant,
    pub(super) opaque_tls: OpaqueTls,
}

impl TlsObserver {
    /// Returns whether a connection with these first bytes is TLS.
    pub(super) fn may_begin(bytes: &[u8]) -> bool {
        matches!(bytes, [HANDSHAKE, 3, ..])
    }

    /// Processes bytes from the client. Returns the exchange that ends with them. `Err`: the bytes
    /// are not TLS.
    pub(super) fn observe_client(
        &mut self,
        bytes: &[u8],
        now: Instant,
    ) -> Result<Option<ObservedExchange>, ()> {
        let (mut text, mut requests, mut first, mut pings) = (0_u32, 0, 0, 0);
        let (hides, nth, finished) = (self.hides_handshake, self.nth, &mut self.finished);
        let (changed, added) = (&mut self.changed_cipher, &mut self.older_added);
        self.client
            .walk(bytes, |kind, len| {
                if kind == HANDSHAKE && *changed && added.is_none() {
                    *added = Some(len.saturating_sub(FINISHED));
                }
                *changed |= kind == CHANGE_CIPHER;
                if kind != DATA {
                    return;
                }
                let len = len.saturating_sub(added.unwrap_or(ADDED));
                if hides && !std::mem::replace(finished, true) {
                    return;
                }
                text = text.saturating_add(len);
                requests += u32::from(is_request(len, nth));
                pings += u32::from(len == PING);
                first = if requests == 1 { len } else { first };
            })
            .ok_or(())?;
        if requests == 0 {
            self.asked = self.asked.saturating_add(text);
            return Ok(None);
        }
        let mut over = None;
        if self.has_only_begun() || self.was_ping() {
            self.may_be_preface = false;
            self.begin(now);
        } else if self.nth == 0 || self.answered > 0 {
            over = self.take_exchange();
            self.may_be_preface = self.nth == 0 && first <= PREFACE;
            self.nth = self.nth.saturating_add(1);
            self.begin(now);
            // The HTTP/2 preface and the first requests may come together.
            if self.may_be_preface && requests > 1 {
                (self.may_be_preface, requests) = (false, requests - 1);
            }
        }
        self.asked = self.asked.saturating_add(text);
        self.may_be_pings &= pings == requests;
        self.requests = self.requests.saturating_add(requests);
        Ok(over)
    }

    fn begin(&mut self, now: Instant) {
        self.began = Some(now);
        (self.asked, self.answered, self.requests) = (0, 0, 0);
        (self.spoke, self.noted, self.may_be_pings) = (None, true, true);
    }

    /// Returns whether all data so far fits the start of HTTP/2.
    fn has_only_begun(&self) -> bool {
        self.may_be_preface && self.nth == 1 && self.requests <= 1 && self.answered <= PREFACE
    }

    /// Returns whether the client has sent pings only, and the server has answered with pings.
    const fn was_ping(&self) -> bool {
        self.may_be_pings
            && self.answered > 0
            && self.answered <= self.requests.saturating_mul(PING)
    }

    /// Returns whether there is no exchange to record, as far as is known.
    fn is_none_yet(&self) -> bool {
        self.has_only_begun() || self.was_ping()
    }

    /// Processes bytes from the server. `Err` if they are not TLS.
    pub(super) fn observe_server(&mut self, bytes: &[u8], now: Instant) -> Result<(), ()> {
        let mut text = 0_u32;
        let Self { server, hides_handshake, nth, older_added, .. } = self;
        let added = older_added.unwrap_or(ADDED);
        server
            .walk(bytes, |kind, len| {
                if kind == DATA && *nth == 0 {
                    *hides_handshake = older_added.is_none();
                } else if kind == DATA {
                    text = text.saturating_add(len.saturating_sub(added));
                }
            })
            .ok_or(())?;
        if self.nth > 0 && (text > 0 || self.server.left > 0 || self.answered > 0) {
            self.answered = self.answered.saturating_add(text);
            (self.spoke, self.noted) = (Some(now), false);
        }
        Ok(())
    }

    /// Returns the current exchange, if grown since the last record.
    pub(super) fn take_exchange(&mut self) -> Option<ObservedExchange> {
        if self.is_none_yet() || std::mem::replace(&mut self.noted, true) {
            return None;
        }
        let (began, spoke) = self.began.zip(self.spoke)?;
        let took = u32::try_from(spoke.saturating_duration_since(began).as_micros());
        let Self { nth, asked, answered, requests, .. } = *self;
        let opaque_tls = OpaqueTls { took: took.unwrap_or(u32::MAX), asked, answered, requests };
        Some(ObservedExchange { nth, spoke, opaque_tls })
    }

    /// Returns when the server will count as quiet if nothing more comes.
    pub(super) fn due(&self) -> Option<Instant> {
        let (began, spoke) =
            self.began.zip(self.spoke).filter(|_| !self.noted && !self.is_none_yet())?;
        let quiet = (spoke.saturating_duration_since(began) / 8).clamp(QUIET.0, QUIET.1);
        Some(spoke + quiet)
    }
}

/// Returns whether a client's record with so much plain text is a request, in the exchange with this number or behind it.
fn is_request(text: u32, nth: u32) -> bool {
    let is_first_control = nth <= 1 && text == FIRST_CONTROL;
    text > CONTROL[0] && !CONTROL.contains(&text) && !is_first_control
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u8, len: u16) -> Vec<u8> {
        let [high, low] = len.to_be_bytes();
        let mut bytes = vec![kind, 3, 3, high, low];
        bytes.resize(HEAD + usize::from(len), 0xA5);
        bytes
    }

    fn data(text: u16) -> Vec<u8> {
        record(DATA, text + 17)
    }

    /// A client's or a server's bytes, a millisecond after the ones before.
    enum Say {
        Client(Vec<u8>),
        Server(Vec<u8>),
    }
    use Say::{Client, Server};

    fn follow(story: &[Say], step: usize) -> Vec<(u32, OpaqueTls)> {
        let (mut tls_observer, mut rests) = (TlsObserver::default(), Vec::new());
        let mut now = Instant::now();
        for say in story {
            now += Duration::from_millis(1);
            match say {
                Client(bytes) => bytes.chunks(step).for_each(|bytes| {
                    rests.extend(tls_observer.observe_client(bytes, now).unwrap());
                }),
                Server(bytes) => {
                    bytes
                        .chunks(step)
                        .for_each(|bytes| tls_observer.observe_server(bytes, now).unwrap());
                }
            }
        }
        rests.extend(tls_observer.take_exchange());
        rests.iter().map(|rest| (rest.nth, rest.opaque_tls)).collect()
    }

    fn opaque_tls(took: u32, asked: u32, answered: u32, requests: u32) -> OpaqueTls {
        OpaqueTls { took, asked, answered, requests }
    }

    #[test]
    fn exchanges_are_told_apart_however_their_bytes_are_cut() {
        let continue_handshake = || {
            [
                Client(record(HANDSHAKE, 300)),
                Server([record(HANDSHAKE, 90), record(20, 1), data(900), data(52)].concat()),
                Client([record(20, 1), data(52)].concat()),
            ]
        };
        let old = || {
            [
                Client(record(HANDSHAKE, 300)),
                Server([record(HANDSHAKE, 90), record(HANDSHAKE, 900)].concat()),
                Client([record(HANDSHAKE, 70), record(20, 1), record(HANDSHAKE, 33)].concat()),
                Server([record(20, 1), record(HANDSHAKE, 40)].concat()),
            ]
        };
        let talk = || {
            [
                Client(data(200)),
                Server(data(5_000)),
                Server([data(16_000), data(16_000)].concat()),
                // A window of HTTP/2 is no request.
                Client(data(13)),
                Server(data(100)),
                Client([data(90), data(80)].concat()),
                Server(data(700)),
            ]
        };
        let expected =
            [(1, opaque_tls(4_000, 213, 37_100, 1)), (2, opaque_tls(1_000, 170, 700, 2))];
        for step in [1, 3, 7, 100, 1 << 20] {
            let story: Vec<Say> = continue_handshake().into_iter().chain(talk()).collect();
            assert_eq!(follow(&story, step), expected, "TLS 1.3 in pieces of {step}");
            let story: Vec<Say> = old().into_iter().chain(talk()).collect();
            assert_eq!(follow(&story, step), expected, "TLS 1.2 in pieces of {step}");
        }
    }

    #[test]
    fn a_server_that_goes_on_after_a_rest_is_noted_again() {
        let (mut tls_observer, start) = (TlsObserver::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(tls_observer.observe_client(&record(HANDSHAKE, 300), at(0)), Ok(None));
        assert_eq!(tls_observer.due(), None);
        assert_eq!(tls_observer.observe_client(&data(200), at(1)), Ok(None));
        assert_eq!(
            (tls_observer.due(), tls_observer.take_exchange()),
            (None, None),
            "nothing was answered"
        );
        tls_observer.observe_server(&data(50), at(3)).unwrap();
        assert_eq!(tls_observer.due(), Some(at(28)));
        let rest = tls_observer.take_exchange().unwrap();
        assert_eq!(
            (rest.nth, rest.spoke, rest.opaque_tls),
            (1, at(3), opaque_tls(2_000, 200, 50, 1))
        );
        assert_eq!(
            (tls_observer.due(), tls_observer.take_exchange()),
            (None, None),
            "it is noted once"
        );
        tls_observer.observe_server(&data(60), at(1_001)).unwrap();
        assert_eq!(tls_observer.due(), Some(at(1_126)), "one that takes long rests for longer");
        assert_eq!(
            tls_observer.take_exchange().unwrap().opaque_tls,
            opaque_tls(1_000_000, 200, 110, 1)
        );
    }

    #[test]
    fn the_beginning_of_http_2_is_no_request() {
        let continue_handshake = || [Client(record(HANDSHAKE, 300)), Server(record(HANDSHAKE, 90))];
        let get = || [Client(data(200)), Server(data(500))];
        for (name, begin) in [
            ("alone", vec![Client(data(70)), Server(data(56))]),
            ("unanswered", vec![Client(data(70))]),
        ] {
            let story: Vec<Say> =
                continue_handshake().into_iter().chain(begin).chain(get()).collect();
            assert_eq!(follow(&story, 1 << 20), [(1, opaque_tls(1_000, 200, 500, 1))], "{name}");
        }
        let together = [Client([data(70), data(200), data(90)].concat()), Server(data(900))];
        let story: Vec<Say> = continue_handshake().into_iter().chain(together).collect();
        assert_eq!(follow(&story, 1 << 20), [(1, opaque_tls(1_000, 360, 900, 2))]);
        let one_by_one = [
            Client(data(70)),
            Client(data(200)),
            Client(data(90)),
            Client(data(80)),
            Server(data(900)),
        ];
        let story: Vec<Say> = continue_handshake().into_iter().chain(one_by_one).collect();
        assert_eq!(follow(&story, 1 << 20), [(1, opaque_tls(3_000, 370, 900, 3))]);
        // A short request of HTTP/1.1 is answered with more.
        let short = [Client(data(70)), Server(data(300))];
        let story: Vec<Say> = continue_handshake().into_iter().chain(short).chain(get()).collect();
        let expected = [(1, opaque_tls(1_000, 70, 300, 1)), (2, opaque_tls(1_000, 200, 500, 1))];
        assert_eq!(follow(&story, 1 << 20), expected);
    }

    #[test]
    fn what_the_cipher_adds_before_tls_1_3_is_no_text() {
        for added in [24, 16] {
            let data = |text: u16| record(DATA, text + added);
            let story = [
                Client(record(HANDSHAKE, 300)),
                Server([record(HANDSHAKE, 90), record(HANDSHAKE, 900)].concat()),
                Client(
                    [record(HANDSHAKE, 70), record(20, 1), record(HANDSHAKE, 16 + added)].concat(),
                ),
                Server([record(20, 1), record(HANDSHAKE, 16 + added), data(40)].concat()),
                Client([data(75), data(90)].concat()),
                Server(data(300)),
                Client([data(9), data(26), data(13)].concat()),
                Client([data(15), data(16)].concat()),
                Server(data(500)),
            ];
            let expected =
                [(1, opaque_tls(1_000, 213, 300, 1)), (2, opaque_tls(1_000, 31, 500, 2))];
            assert_eq!(follow(&story, 1 << 20), expected);
        }
    }

    #[test]
    fn a_short_request_of_http_2_is_one_and_a_ping_is_none() {
        let begin = || {
            [
                Client(record(HANDSHAKE, 300)),
                Server([record(HANDSHAKE, 90), record(20, 1), data(900)].concat()),
                Client([record(20, 1), data(52)].concat()),
                Client([data(70), data(200)].concat()),
                Server(data(600)),
            ]
        };
        let first = (1, opaque_tls(1_000, 270, 600, 1));
        // Settings are acknowledged, windows updated; then all fields of requests are known.
        let rest = [
            Client(data(9)),
            Client(data(22)),
            Client(data(15)),
            Server(data(500)),
            Client(data(13)),
            Client(data(26)),
            Client([data(17), data(16)].concat()),
            Server(data(900)),
            Client(data(17)),
            Server(data(400)),
        ];
        let story: Vec<Say> = begin().into_iter().chain(rest).collect();
        let expected = [
            (1, opaque_tls(1_000, 301, 600, 1)),
            (2, opaque_tls(1_000, 54, 500, 1)),
            (3, opaque_tls(1_000, 33, 900, 2)),
            (4, opaque_tls(1_000, 17, 400, 1)),
        ];
        assert_eq!(follow(&story, 1 << 20), expected);
        let ping = || [Client(data(17)), Server(data(17))];
        let story: Vec<Say> = begin().into_iter().chain(ping()).collect();
        assert_eq!(follow(&story, 1 << 20), [first]);
        let get = [Client(data(40)), Server(data(500))];
        let story: Vec<Say> = begin().into_iter().chain(ping()).chain(ping()).chain(get).collect();
        let expected = [first, (2, opaque_tls(1_000, 40, 500, 1))];
        assert_eq!(follow(&story, 1 << 20), expected);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(story in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(prop_oneof![Just(23), Just(3), Just(0), any::<u8>()], 0..40)),
            0..20,
        )) {
            let (mut tls_observer, now) = (TlsObserver::default(), Instant::now());
            for (client, bytes) in story {
                if client {
                    let _over = tls_observer.observe_client(&bytes, now);
                } else {
                    let _done = tls_observer.observe_server(&bytes, now);
                }
                let _due = tls_observer.due();
            }
            let _rest = tls_observer.take_exchange();
        }
    }
}
