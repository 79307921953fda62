//! Judges the first line of a connection that is no request line: some servers may still take it for HTTP, otherwise pen
//! forwards the connection unchanged.
//!
//! Some servers split the first line at any white space, accept any version, and read on. So a line that contains "HTTP/"
//! or begins with a well-known method is refused.

use super::Refusal;

/// Length limit of a line in bytes.
const MAX_LINE: u32 = 64 * 1024;

/// Well-known methods.
const METHODS: [&[u8]; 9] =
    [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"];

/// A word; only its beginning is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MethodWord {
    bytes: [u8; 7],
    len: u8,
}

impl MethodWord {
    pub(super) fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(self.len)) {
            *place = byte;
        }
        self.len = self.len.saturating_add(1);
    }

    pub(super) fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Returns whether the word equals `text`.
    pub(super) fn is(self, word: &[u8]) -> bool {
        self.bytes.get(..usize::from(self.len)) == Some(word)
    }

    pub(super) fn is_known(self) -> bool {
        METHODS.iter().any(|method| self.is(method))
    }
}

/// The line so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnclearLine {
    /// How many bytes of "HTTP/" were matched last.
    matched: u8,
    /// The first word, and whether it is complete.
    word: MethodWord,
    whole: bool,
    len: u32,
    over: bool,
}

impl UnclearLine {
    /// Begins with a word that is no known method.
    pub(super) fn new(word: MethodWord) -> Self {
        Self { matched: 0, word, whole: !word.is_empty(), len: 0, over: false }
    }

    /// Returns whether the line is certainly not HTTP.
    pub(super) fn is_over(self) -> bool {
        self.over
    }

    /// Consumes bytes of the line.
    pub(super) fn take(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        const NAME: &[u8] = b"HTTP/";
        let byte = *input.first().ok_or(Refusal::Line)?;
        match (is_white(byte), self.word.is_empty()) {
            (true, true) => {}
            (true, false) => self.whole = true,
            (false, _) if self.whole => {}
            (false, _) => self.word.push(byte),
        }
        if self.whole && self.word.is_known() {
            return Err(Refusal::Line);
        }
        self.matched = match byte {
            byte if NAME.get(usize::from(self.matched)) == Some(&byte) => self.matched + 1,
            b'H' => 1,
            _ => 0,
        };
        if usize::from(self.matched) == NAME.len() {
            return Err(Refusal::Line);
        }
        self.len += 1;
        self.over = self.len >= MAX_LINE || (byte == b'\n' && !self.word.is_empty());
        Ok(1)
    }
}

/// White space according to lenient servers, some of it beyond ASCII.
fn is_white(byte: u8) -> bool {
    matches!(byte, 0x09..=0x0d | 0x1c..=0x20 | 0x85 | 0xa0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `None` while it is unclear.
    fn judge(line: &[u8]) -> Option<Result<(), Refusal>> {
        let mut unclear = UnclearLine::new(MethodWord::default());
        for &byte in line {
            if let Err(refusal) = unclear.take(&[byte]) {
                return Some(Err(refusal));
            }
            if unclear.is_over() {
                return Some(Ok(()));
            }
        }
        None
    }

    #[test]
    fn only_what_some_server_may_take_for_http_is_refused() {
        for (line, expected) in [
            (&b"EHLO there\r\n"[..], Some(Ok(()))),
            (b"SSH-2.0-OpenSSH_9\r\n", Some(Ok(()))),
            (b"\x16\x03\x01\x02\x00\x01http/1.1\n", Some(Ok(()))),
            (b"\x0bGET / HTTP/1.1\r\n", Some(Err(Refusal::Line))),
            (b" GET /\r\n", Some(Err(Refusal::Line))),
            (b"\xa0PUT\t/x", Some(Err(Refusal::Line))),
            (b"GETS /\r\n", Some(Ok(()))),
            (b"FOO\t/ HTTP/1.1\r\n", Some(Err(Refusal::Line))),
            (b"FOO / HTHTTP/", Some(Err(Refusal::Line))),
            (b"FOO / HTTHTTP", None),
            (b" \r\n \t\r\n", None),
            (b" \r\n GET \r\n", Some(Err(Refusal::Line))),
            (&[b'x'; 70_000], Some(Ok(()))),
        ] {
            assert_eq!(judge(line), expected, "{}", line[..line.len().min(30)].escape_ascii());
        }
    }
}
