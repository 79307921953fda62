//! The few request fields that matter to HTTP mode: the forwarding fields pen writes, and the fields that define the body's
//! end or the connection's use.

use super::chunks::StrictChunks;
use super::first::MethodWord;
use super::{ClientFields, Editor, EditorState, MAX_VALUE, Refusal, pass};

/// Length limit in bytes of a value that defines framing.
const MAX_FRAMING: usize = 64;

/// The field names and their meaning.
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

/// What to do with a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldAction {
    /// Forward it.
    Pass,
    /// Remove the field.
    Drop,
    /// Remove the field, and put the value in front of pen's own value.
    Append,
    /// Forward the field, and parse the value as Content-Length.
    Length,
    /// Forward the field, and parse the value as Transfer-Encoding.
    Coding,
    /// Hold the list until it is known which members may pass.
    List(UnwantedMember),
}

/// Members that are removed from a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnwantedMember {
    /// HTTP/2 without TLS: pen could not see what a client writes inside its frames.
    Http2,
    /// The forwarding fields: a server would drop them if the client declared them hop-by-hop in Connection.
    Ours,
}

impl FieldAction {
    /// Returns whether the field's name is held back, too.
    pub(super) fn is_held(self) -> bool {
        matches!(self, Self::Drop | Self::Append | Self::List(_))
    }
}

/// State of the head being edited.
#[derive(Debug, Default)]
pub(super) struct EditedHead {
    pub(super) method: MethodWord,
    /// The digit after `HTTP/1.`.
    pub(super) minor: u8,
    length: Option<u64>,
    chunked: bool,
    /// The client's own X-Forwarded-For, to which the address is appended.
    pub(super) forwarded_for: Vec<u8>,
    /// An X-Forwarded-For of the client is kept.
    pub(super) has_for: bool,
    /// An X-Forwarded-Proto of the client is kept.
    pub(super) has_proto: bool,
}

impl EditedHead {
    /// Returns the editor's state after this head.
    pub(super) fn framing(&self) -> Result<EditorState, Refusal> {
        let has_body = self.chunked || self.length.unwrap_or(0) > 0;
        // RFC 9112, 6.1 and 6.3; a body of CONNECT would be the start of a tunnel for some servers.
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

/// The beginning of a field name, as long as a known name may follow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FieldName {
    bytes: [u8; 17],
    len: usize,
}

impl FieldName {
    /// Appends a byte if the name can still match; returns whether it can.
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

/// Compares two bytes like servers that turn field names into variables, where `_` equals `-`.
fn is_same(byte: u8, expected: u8) -> bool {
    byte.eq_ignore_ascii_case(&expected) || (byte == b'_' && expected == b'-')
}

fn is_same_text(text: &[u8], expected: &[u8]) -> bool {
    text.len() == expected.len() && text.iter().zip(expected).all(|(&a, &b)| is_same(a, b))
}

fn is_ours(name: &[u8]) -> bool {
    NAMES[..2].iter().any(|(ours, _)| is_same_text(name, ours))
}

/// Returns whether an Upgrade token means HTTP/2, in any of its draft versions.
fn is_http2(protocol: &[u8]) -> bool {
    let begins =
        |with: &[u8]| protocol.get(..with.len()).is_some_and(|it| it.eq_ignore_ascii_case(with));
    begins(b"h2") || begins(b"http/2")
}

impl Editor {
    /// Returns what to do with the value of the complete field name.
    pub(super) fn value_of_name(&mut self) -> Result<FieldAction, Refusal> {
        let Some(known) = self.name.known() else { return Ok(FieldAction::Pass) };
        if self.trailer {
            // Some servers merge trailer fields into the head.
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
            // In a trailer, no server takes these for framing.
            _ if self.name.bytes().contains(&b'_') => FieldAction::Pass,
            // A second framing field is refused, even with the same value.
            (KnownField::Length, _) if self.head.length.is_some() => return Err(Refusal::Framing),
            (KnownField::Coding, _) if self.head.chunked => return Err(Refusal::Framing),
            (KnownField::Length, _) => FieldAction::Length,
            (KnownField::Coding, _) => FieldAction::Coding,
            (KnownField::Upgrade, _) => FieldAction::List(UnwantedMember::Http2),
            (KnownField::Connection, _) => FieldAction::List(UnwantedMember::Ours),
        })
    }

    /// Consumes bytes of a value; returns how many.
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

    /// Finishes a field.
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

/// Trims optional white space: blanks and tabs only.
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
