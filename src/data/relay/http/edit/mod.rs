//! HTTP mode: adds X-Forwarded-For and X-Forwarded-Proto to the head of each request, and removes the client's own.
//!
//! ```text
//! message     = *( CR / LF ) request-line *field-line line-end body          ; RFC 9112
//! request-line= method SP target SP "HTTP/1." DIGIT line-end
//! field-line  = token ":" *OCTET line-end                                     ; no fold, no CR, no NUL
//! ```
//!
//! The editor works as bytes come and forwards them at once, however they are split. It holds back only bytes that the server
//! may never get: a name while it can be one of a few, the values of those few, and a line's end until the line is judged.
//! So a head of any length passes in bounded memory, and the server never sees a complete head before it is judged.
//!
//! Server and editor must agree on where messages end, or a client could hide a request with its own X-Forwarded-For in the
//! body of another. So an ambiguous message is refused ([`Refusal`]), and no further byte of that client is forwarded. A
//! connection whose first line is not HTTP at all is forwarded unchanged.

mod chunks;
mod field;
mod first;
mod forward;
mod refusal;
#[cfg(test)]
mod tests;

use super::RefusalPlace;
use chunks::StrictChunks;
use field::{EditedHead, FieldAction, FieldName};
use first::UnclearLine;
use forward::ClientFields;
pub use forward::Forward;
pub use refusal::Refusal;

/// Length limit in bytes of a value that must be parsed, and of a client's own X-Forwarded-For.
const MAX_VALUE: usize = 8 * 1024;

/// Position in a client's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EditorState {
    /// In front of a request line.
    Between,
    Method,
    Target {
        empty: bool,
    },
    /// After this many bytes of the version.
    Version(usize),
    /// In a first line that is no request line, but may have been meant as one.
    Unclear(UnclearLine),
    /// At the beginning of a field line.
    Start,
    /// In a field name that may matter.
    Name,
    /// In another field name.
    Other,
    Value(FieldAction),
    Body(u64),
    Chunks(StrictChunks),
    /// Not HTTP, or no longer.
    Raw,
    Refused(Refusal, RefusalPlace),
}

/// Edits the stream from a client to the server.
#[derive(Debug)]
pub struct Editor {
    forward: Forward,
    state: EditorState,
    /// A CR has come, which ends a line if an LF follows.
    cr: bool,
    /// The fields belong to the trailer section of a chunked body.
    trailer: bool,
    /// Number of request heads forwarded.
    requests: u64,
    /// State of the current head.
    head: EditedHead,
    /// Name of the current field.
    name: FieldName,
    /// Value of the current field, as far as it must be parsed.
    value: Vec<u8>,
}

/// Result of editing some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edited<'a> {
    /// Bytes for the server.
    pub bytes: &'a [u8],
    /// Number of client bytes processed: less than given if the rest was refused.
    pub taken: usize,
}

impl Editor {
    /// Creates the editor of a new connection.
    #[must_use]
    pub fn new(forward: Forward) -> Self {
        Self {
            forward,
            state: EditorState::Between,
            cr: false,
            trailer: false,
            requests: 0,
            head: EditedHead::default(),
            name: FieldName::default(),
            value: Vec::new(),
        }
    }

    /// Edits bytes from the client; `out` is a buffer for the result.
    pub fn edit<'a>(&mut self, input: &'a [u8], out: &'a mut Vec<u8>) -> Edited<'a> {
        match &mut self.state {
            EditorState::Raw => return Edited { bytes: input, taken: input.len() },
            EditorState::Refused(..) => return Edited { bytes: b"", taken: 0 },
            EditorState::Body(left) if *left > input.len() as u64 => {
                *left -= input.len() as u64;
                return Edited { bytes: input, taken: input.len() };
            }
            _ => out.clear(),
        }
        let mut taken = 0;
        while taken < input.len() {
            match self.step(&input[taken..], out) {
                Ok(bytes) => taken += bytes,
                Err(refusal) => {
                    let in_body = self.trailer || matches!(self.state, EditorState::Chunks(_));
                    let place = if in_body { RefusalPlace::Body } else { RefusalPlace::Head };
                    self.state = EditorState::Refused(refusal, place);
                    self.value = Vec::new();
                    break;
                }
            }
        }
        Edited { bytes: out, taken }
    }

    /// Returns the refusal and its place, if a request was refused.
    #[must_use]
    pub fn refusal(&self) -> Option<(Refusal, RefusalPlace)> {
        if let EditorState::Refused(refusal, place) = self.state {
            Some((refusal, place))
        } else {
            None
        }
    }

    /// Returns whether bytes are forwarded unchanged from now on.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        self.state == EditorState::Raw
    }

    /// Stops editing: the server has switched to another protocol.
    pub fn pass_through(&mut self) {
        if self.refusal().is_none() {
            (self.state, self.value) = (EditorState::Raw, Vec::new());
        }
    }

    /// Advances by at least one byte, or from one state to another. Refused bytes are not consumed.
    fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Refusal> {
        let Some(&byte) = input.first() else { return Ok(0) };
        if self.cr {
            return match byte {
                b'\n' => self.line_end(out),
                _ => Err(Refusal::Line),
            };
        }
        match self.state {
            EditorState::Between => {
                let run = run(input, |byte| matches!(byte, b'\r' | b'\n'));
                if run == 0 {
                    (self.state, self.head) = (EditorState::Method, EditedHead::default());
                }
                Ok(pass(&input[..run], out))
            }
            EditorState::Method | EditorState::Target { .. } | EditorState::Version(_) => {
                self.request_line(byte, input, out)
            }
            EditorState::Unclear(mut unclear) => {
                let taken = unclear.take(input)?;
                self.state = match unclear.is_over() {
                    true => EditorState::Raw,
                    false => EditorState::Unclear(unclear),
                };
                Ok(pass(&input[..taken], out))
            }
            EditorState::Start | EditorState::Name | EditorState::Other | EditorState::Value(_) => {
                self.field(byte, input, out)
            }
            EditorState::Body(left) => {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                let left = left - taken as u64;
                self.state = if left == 0 { EditorState::Between } else { EditorState::Body(left) };
                Ok(pass(&input[..taken], out))
            }
            EditorState::Chunks(mut chunks) => {
                let taken = chunks.take(input)?;
                self.state = EditorState::Chunks(chunks);
                if chunks == StrictChunks::Over {
                    (self.state, self.trailer) = (EditorState::Start, true);
                }
                Ok(pass(&input[..taken], out))
            }
            EditorState::Raw => Ok(pass(input, out)),
            EditorState::Refused(refusal, _) => Err(refusal),
        }
    }

    fn request_line(
        &mut self,
        byte: u8,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<usize, Refusal> {
        const VERSION: &[u8] = b"HTTP/1.";
        match (self.state, byte) {
            (EditorState::Method, b' ') if !self.head.method.is_empty() => {
                self.state = EditorState::Target { empty: true };
                Ok(pass(b" ", out))
            }
            (EditorState::Method, byte) if is_token(byte) => {
                let run = run(input, is_token);
                input[..run].iter().for_each(|&byte| self.head.method.push(byte));
                Ok(pass(&input[..run], out))
            }
            (EditorState::Target { empty: false }, b' ') => {
                self.state = EditorState::Version(0);
                Ok(pass(b" ", out))
            }
            (EditorState::Target { .. }, 0x21..=0x7e | 0x80..) => {
                self.state = EditorState::Target { empty: false };
                Ok(pass(&input[..run(input, |byte| byte > b' ' && byte != 0x7f)], out))
            }
            (EditorState::Version(at), byte) if VERSION.get(at) == Some(&byte) => {
                self.state = EditorState::Version(at + 1);
                Ok(pass(&[byte], out))
            }
            (EditorState::Version(5), b'0' | b'2'..=b'9') => Err(Refusal::Version),
            (EditorState::Version(7), b'0'..=b'9') => {
                self.head.minor = byte - b'0';
                self.state = EditorState::Version(8);
                Ok(pass(&[byte], out))
            }
            (EditorState::Version(8), b'\r') => {
                self.cr = true;
                Ok(1)
            }
            (EditorState::Version(8), b'\n') => self.line_end(out),
            (EditorState::Version(5..), _) => Err(Refusal::Line),
            // Only the first line of a connection decides whether it is HTTP at all.
            _ if self.requests > 0 || self.head.method.is_known() => Err(Refusal::Line),
            _ => {
                self.state = EditorState::Unclear(UnclearLine::new(self.head.method));
                Ok(0)
            }
        }
    }

    fn field(&mut self, byte: u8, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Refusal> {
        match (self.state, byte) {
            (EditorState::Start, byte) if is_token(byte) => {
                (self.state, self.name) = (EditorState::Name, FieldName::default());
                Ok(0)
            }
            (EditorState::Start | EditorState::Value(_), b'\r') => {
                self.cr = true;
                Ok(1)
            }
            (EditorState::Start | EditorState::Value(_), b'\n') if !self.trailer => {
                self.line_end(out)
            }
            (EditorState::Name, byte) if is_token(byte) => {
                let fits = self.name.push(byte);
                if !fits {
                    self.state = EditorState::Other;
                    pass(self.name.bytes(), out);
                    return Ok(0);
                }
                Ok(1)
            }
            (EditorState::Name, b':') => {
                self.state = EditorState::Value(self.value_of_name()?);
                self.value.clear();
                if !matches!(self.state, EditorState::Value(kind) if kind.is_held()) {
                    pass(self.name.bytes(), out);
                    pass(b":", out);
                }
                Ok(1)
            }
            (EditorState::Other, byte) if is_token(byte) => {
                Ok(pass(&input[..run(input, is_token)], out))
            }
            (EditorState::Other, b':') => {
                self.state = EditorState::Value(FieldAction::Pass);
                Ok(pass(b":", out))
            }
            (EditorState::Value(kind), _) => {
                let run = memchr::memchr3(b'\r', b'\n', 0, input).unwrap_or(input.len());
                // A bare LF in a trailer, or a NUL.
                if run == 0 {
                    Err(Refusal::Field)
                } else {
                    self.take_value(kind, &input[..run], out)
                }
            }
            // A folded line, a space within a name, or a line without a colon.
            _ => Err(Refusal::Field),
        }
    }

    fn line_end(&mut self, out: &mut Vec<u8>) -> Result<usize, Refusal> {
        match self.state {
            EditorState::Version(_) => {
                pass(b"\r\n", out);
                if self.forward.client_fields == ClientFields::Replace {
                    self.write_for(b"", out);
                    self.write_proto(out);
                }
                self.state = EditorState::Start;
            }
            EditorState::Value(kind) => {
                self.end_value(kind, out)?;
                self.state = EditorState::Start;
            }
            _ if self.trailer => {
                pass(b"\r\n", out);
                (self.state, self.trailer) = (EditorState::Between, false);
            }
            _ => self.end_head(out)?,
        }
        self.cr = false;
        Ok(1)
    }

    fn end_head(&mut self, out: &mut Vec<u8>) -> Result<(), Refusal> {
        self.state = self.head.framing()?;
        let head = std::mem::take(&mut self.head);
        match self.forward.client_fields {
            ClientFields::Replace => {}
            ClientFields::Append => self.write_for(&head.forwarded_for, out),
            ClientFields::Keep if head.has_for => {}
            ClientFields::Keep => self.write_for(b"", out),
        }
        if self.forward.client_fields != ClientFields::Replace && !head.has_proto {
            self.write_proto(out);
        }
        pass(b"\r\n", out);
        self.requests += 1;
        // No memory is kept between messages.
        self.value = Vec::new();
        Ok(())
    }

    /// `before` is the X-Forwarded-For value received from the client.
    fn write_for(&self, before: &[u8], out: &mut Vec<u8>) {
        let comma: &[u8] = if before.is_empty() { b"" } else { b", " };
        for part in [b"X-Forwarded-For: ", before, comma, self.forward.client.as_bytes(), b"\r\n"] {
            pass(part, out);
        }
    }

    fn write_proto(&self, out: &mut Vec<u8>) {
        for part in ["X-Forwarded-Proto: ", self.forward.proto, "\r\n"] {
            pass(part.as_bytes(), out);
        }
    }
}

/// Returns how many bytes at the start of `input` satisfy `is`.
fn run(input: &[u8], is: impl Fn(u8) -> bool) -> usize {
    input.iter().position(|&byte| !is(byte)).unwrap_or(input.len())
}

fn pass(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(bytes);
    bytes.len()
}

/// Characters of methods and field names (token, RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
