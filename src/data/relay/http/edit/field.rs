//! The few fields of a request that matter here: those that are ours to write, and those that say where
//! the body ends or where the connection goes.

use super::chunks::StrictChunks;
use super::first::MethodWord;
use super::{ClientFields, Editor, EditorState, MAX_VALUE, Refusal, pass};

/// The most bytes of what says where the body ends.
const MAX_FRAMING: usize = 64;

/// The names that matter, and which of them is which.
const NAMES: [(&[u8], KnownField); 6] = [
    (b"x-forwarded-for", KnownField::For),
    (b"x-forwarded-proto", KnownField::Proto),
    (b"content-length", KnownField::Length),
    (b"transfer-encoding", KnownField::Coding),
    (b"upgrade", KnownField::Upgrade),
    (b"connection", KnownField::Connection),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KnownField {
    For,
    Proto,
    Length,
    Coding,
    Upgrade,
    Connection,
}

/// What is done with a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldAction {
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
    List(UnwantedMember),
}

/// Members of a list that do not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnwantedMember {
    /// HTTP/2 without TLS: in its frames nobody would see what a client says of itself.
    Http2,
    /// Our own fields: who takes them for those of one hop takes them out.
    Ours,
}

impl FieldAction {
    /// Whether its name waits, too.
    pub(super) fn is_held(self) -> bool {
        matches!(self, Self::Drop | Self::Append | Self::List(_))
    }
}

/// What is known of a head.
#[derive(Debug, Default)]
pub(super) struct EditedHead {
    pub(super) method: MethodWord,
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

impl EditedHead {
    /// What follows it.
    pub(super) fn framing(&self) -> Result<EditorState, Refusal> {
        let has_body = self.chunked || self.length.unwrap_or(0) > 0;
        // RFC 9112, 6.3 and 6.1; and a body of CONNECT is the beginning of a tunnel to others.
        if (self.chunked && (self.length.is_some() || self.minor == 0))
            || (has_body && self.method.is(b"CONNECT"))
        {
            return Err(Refusal::Framing);
        }
        Ok(match self.length {
            _ if self.chunked => EditorState::Chunks(StrictChunks::START),
            None | Some(0) => EditorState::Between,
            Some(length) => EditorState::Body(length),
        })
    }
}

/// A name as long as it may be one of those that matter.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FieldName {
    bytes: [u8; 17],
    len: usize,
}

impl FieldName {
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

    fn known(&self) -> Option<KnownField> {
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
    pub(super) fn value_of_name(&mut self) -> Result<FieldAction, Refusal> {
        let Some(known) = self.name.known() else { return Ok(FieldAction::Pass) };
        if self.trailer {
            // Some servers take a trailer for a part of the head.
            return match known {
                KnownField::Upgrade | KnownField::Connection => Ok(FieldAction::Pass),
                _ => Err(Refusal::Field),
            };
        }
        Ok(match (known, self.forward.client_fields) {
            (KnownField::For | KnownField::Proto, ClientFields::Replace) => FieldAction::Drop,
            (KnownField::For, ClientFields::Append) => FieldAction::Append,
            (KnownField::For, ClientFields::Keep) => {
                self.head.has_for = true;
                FieldAction::Pass
            }
            (KnownField::Proto, ClientFields::Append | ClientFields::Keep) => {
                self.head.has_proto = true;
                FieldAction::Pass
            }
            // Nobody takes those for framing.
            _ if self.name.bytes().contains(&b'_') => FieldAction::Pass,
            // Twice is once too often, even if both say the same.
            (KnownField::Length, _) if self.head.length.is_some() => return Err(Refusal::Framing),
            (KnownField::Coding, _) if self.head.chunked => return Err(Refusal::Framing),
            (KnownField::Length, _) => FieldAction::Length,
            (KnownField::Coding, _) => FieldAction::Coding,
            (KnownField::Upgrade, _) => FieldAction::List(UnwantedMember::Http2),
            (KnownField::Connection, _) => FieldAction::List(UnwantedMember::Ours),
        })
    }

    /// Some bytes of a value; says how many of them.
    pub(super) fn take_value(
        &mut self,
        kind: FieldAction,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<usize, Refusal> {
        let most = match kind {
            FieldAction::Pass => return Ok(pass(bytes, out)),
            FieldAction::Drop => return Ok(bytes.len()),
            FieldAction::Length | FieldAction::Coding => MAX_FRAMING,
            FieldAction::Append | FieldAction::List(_) => MAX_VALUE,
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
    pub(super) fn end_value(
        &mut self,
        kind: FieldAction,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let value = trim(&self.value);
        match kind {
            FieldAction::Pass => {}
            FieldAction::Drop => return Ok(()),
            FieldAction::Append => {
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
            FieldAction::Length => self.head.length = Some(decimal(value).ok_or(Refusal::Framing)?),
            FieldAction::Coding if value.eq_ignore_ascii_case(b"chunked") => {
                self.head.chunked = true;
            }
            FieldAction::Coding => return Err(Refusal::Coding),
            FieldAction::List(unwanted) => {
                let is_unwanted = match unwanted {
                    UnwantedMember::Http2 => is_http2,
                    UnwantedMember::Ours => is_ours,
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
