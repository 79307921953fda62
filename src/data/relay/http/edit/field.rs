//! The few fields of a request that matter here: those that are ours to write, and those that say where
//! the body ends or where the connection goes.

use super::chunks::Chunks;
use super::first::Word;
use super::{Editor, MAX_VALUE, Own, Refusal, State, pass};

/// The most bytes of what says where the body ends.
const MAX_FRAMING: usize = 64;

/// The names that matter, and which of them is which.
const NAMES: [(&[u8], Known); 6] = [
    (b"x-forwarded-for", Known::For),
    (b"x-forwarded-proto", Known::Proto),
    (b"content-length", Known::Length),
    (b"transfer-encoding", Known::Coding),
    (b"upgrade", Known::Upgrade),
    (b"connection", Known::Connection),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    For,
    Proto,
    Length,
    Coding,
    Upgrade,
    Connection,
}

/// What is done with a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It passes.
    Pass,
    /// The field is taken out.
    Drop,
    /// It is taken out and goes before our own.
    Append,
    /// It passes and is understood.
    Length,
    /// Likewise.
    Coding,
    /// It is held until it is known what of it may pass.
    List(Unwanted),
}

/// Members of a list that do not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unwanted {
    /// HTTP/2 without TLS: in its frames nobody would see what a client says of itself.
    Http2,
    /// Our own fields: who takes them for those of one hop takes them out.
    Ours,
}

impl Kind {
    /// Whether its name waits, too.
    pub(super) fn is_held(self) -> bool {
        matches!(self, Self::Drop | Self::Append | Self::List(_))
    }
}

/// What is known of a head.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) method: Word,
    /// The digit behind `HTTP/1.`.
    pub(super) minor: u8,
    length: Option<u64>,
    chunked: bool,
    /// The client's own, if ours is appended.
    pub(super) forwarded_for: Vec<u8>,
    /// One of the client's stays.
    pub(super) has_for: bool,
    /// Likewise.
    pub(super) has_proto: bool,
}

impl Head {
    /// What follows it.
    pub(super) fn framing(&self) -> Result<State, Refusal> {
        let has_body = self.chunked || self.length.unwrap_or(0) > 0;
        // RFC 9112, 6.3 and 6.1; and a body of CONNECT is the beginning of a tunnel to others.
        if (self.chunked && (self.length.is_some() || self.minor == 0))
            || (has_body && self.method.is(b"CONNECT"))
        {
            return Err(Refusal::Framing);
        }
        Ok(match self.length {
            _ if self.chunked => State::Chunks(Chunks::START),
            None | Some(0) => State::Between,
            Some(length) => State::Body(length),
        })
    }
}

/// A name as long as it may be one of those that matter.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Name {
    bytes: [u8; 17],
    len: usize,
}

impl Name {
    /// Whether it still may be one with this byte, which is not taken otherwise.
    pub(super) fn push(&mut self, byte: u8) -> bool {
        let fits = NAMES.iter().any(|(name, _)| {
            name.get(self.len).is_some_and(|&expected| is_same(byte, expected))
                && is_same_text(self.bytes(), &name[..self.len])
        });
        if fits {
            self.bytes[self.len] = byte;
            self.len += 1;
        }
        fits
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn known(&self) -> Option<Known> {
        let found = NAMES.iter().find(|(name, _)| is_same_text(self.bytes(), name));
        found.map(|(_, known)| *known)
    }
}

/// Whether they are the same to a server that makes variables of names, so that `_` is as good as `-`.
fn is_same(byte: u8, expected: u8) -> bool {
    byte.eq_ignore_ascii_case(&expected) || (byte == b'_' && expected == b'-')
}

fn is_same_text(text: &[u8], expected: &[u8]) -> bool {
    text.len() == expected.len() && text.iter().zip(expected).all(|(&a, &b)| is_same(a, b))
}

fn is_ours(name: &[u8]) -> bool {
    NAMES[..2].iter().any(|(ours, _)| is_same_text(name, ours))
}

/// Whether a protocol is HTTP/2, in whatever stage of its history.
fn is_http2(protocol: &[u8]) -> bool {
    let begins =
        |with: &[u8]| protocol.get(..with.len()).is_some_and(|it| it.eq_ignore_ascii_case(with));
    begins(b"h2") || begins(b"http/2")
}

impl Editor {
    /// What to do with the value of the field whose name is whole.
    pub(super) fn value_of_name(&mut self) -> Result<Kind, Refusal> {
        let Some(known) = self.name.known() else { return Ok(Kind::Pass) };
        if self.trailer {
            // Some servers take a trailer for a part of the head.
            return match known {
                Known::Upgrade | Known::Connection => Ok(Kind::Pass),
                _ => Err(Refusal::Field),
            };
        }
        Ok(match (known, self.forward.own) {
            (Known::For | Known::Proto, Own::Replace) => Kind::Drop,
            (Known::For, Own::Append) => Kind::Append,
            (Known::For, Own::Keep) => {
                self.head.has_for = true;
                Kind::Pass
            }
            (Known::Proto, Own::Append | Own::Keep) => {
                self.head.has_proto = true;
                Kind::Pass
            }
            // Nobody takes those for framing.
            _ if self.name.bytes().contains(&b'_') => Kind::Pass,
            // Twice is once too often, even if both say the same.
            (Known::Length, _) if self.head.length.is_some() => return Err(Refusal::Framing),
            (Known::Coding, _) if self.head.chunked => return Err(Refusal::Framing),
            (Known::Length, _) => Kind::Length,
            (Known::Coding, _) => Kind::Coding,
            (Known::Upgrade, _) => Kind::List(Unwanted::Http2),
            (Known::Connection, _) => Kind::List(Unwanted::Ours),
        })
    }

    /// Some bytes of a value; says how many of them.
    pub(super) fn take_value(
        &mut self,
        kind: Kind,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<usize, Refusal> {
        let most = match kind {
            Kind::Pass => return Ok(pass(bytes, out)),
            Kind::Drop => return Ok(bytes.len()),
            Kind::Length | Kind::Coding => MAX_FRAMING,
            Kind::Append | Kind::List(_) => MAX_VALUE,
        };
        let taken = bytes.len().min(most - self.value.len());
        if taken == 0 {
            return Err(Refusal::Long);
        }
        self.value.extend_from_slice(&bytes[..taken]);
        if !kind.is_held() {
            pass(&bytes[..taken], out);
        }
        Ok(taken)
    }

    /// A field is whole.
    pub(super) fn end_value(&mut self, kind: Kind, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let value = trim(&self.value);
        match kind {
            Kind::Pass => {}
            Kind::Drop => return Ok(()),
            Kind::Append => {
                let before = &mut self.head.forwarded_for;
                if before.len() + value.len() + 2 > MAX_VALUE {
                    return Err(Refusal::Long);
                }
                if !before.is_empty() && !value.is_empty() {
                    pass(b", ", before);
                }
                pass(value, before);
                return Ok(());
            }
            Kind::Length => self.head.length = Some(decimal(value).ok_or(Refusal::Framing)?),
            Kind::Coding if value.eq_ignore_ascii_case(b"chunked") => self.head.chunked = true,
            Kind::Coding => return Err(Refusal::Coding),
            Kind::List(unwanted) => {
                let is_unwanted = match unwanted {
                    Unwanted::Http2 => is_http2,
                    Unwanted::Ours => is_ours,
                };
                let members = || self.value.split(|&byte| byte == b',').map(trim);
                if members().any(is_unwanted) {
                    let left: Vec<_> = members().filter(|it| !is_unwanted(it)).collect();
                    if left.is_empty() {
                        return Ok(());
                    }
                    pass(self.name.bytes(), out);
                    pass(b": ", out);
                    pass(&left.join(&b", "[..]), out);
                } else {
                    pass(self.name.bytes(), out);
                    pass(b":", out);
                    pass(&self.value, out);
                }
            }
        }
        pass(b"\r\n", out);
        Ok(())
    }
}

/// Without the white space that may stand around a value: blanks and tabs, and nothing else.
fn trim(value: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_blank(byte)).map_or(start, |at| at + 1);
    &value[start..end]
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let digit = |byte: u8| char::from(byte).to_digit(10).map(u64::from);
    let add = |value: u64, byte: &u8| value.checked_mul(10)?.checked_add(digit(*byte)?);
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}
