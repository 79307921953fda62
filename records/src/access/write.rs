//! Replaces the client in a line: the client field changes, and no other byte.

use super::LineSpan;
use crate::addr::ClientAddr;

/// Appends `line` to `out` with the address `with` as the `client` field.
#[inline]
pub fn write_with_client(line: &[u8], client: LineSpan, with: ClientAddr, out: &mut Vec<u8>) {
    let (before, after) = around(line, client);
    out.extend_from_slice(before);
    with.write_to(out);
    out.extend_from_slice(after);
}

/// Appends `line` to `out` with the bytes `with` as the `client` field.
pub fn write_with_text(line: &[u8], client: LineSpan, with: &[u8], out: &mut Vec<u8>) {
    let (before, after) = around(line, client);
    out.reserve(before.len() + with.len() + after.len());
    out.extend_from_slice(before);
    out.extend_from_slice(with);
    out.extend_from_slice(after);
}

/// The bytes before and behind the field; a span beyond the line is cut.
fn around(line: &[u8], client: LineSpan) -> (&[u8], &[u8]) {
    let start = (client.start as usize).min(line.len());
    let end = (client.end as usize).clamp(start, line.len());
    (&line[..start], &line[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_client_changes() {
        let client = LineSpan { start: 2, end: 5 };
        for (line, with, expected) in [
            (&b"a 1.2 b\r"[..], &b"192.0.2.1"[..], &b"a 192.0.2.1 b\r"[..]),
            (b"a 1.2 b", b"", b"a  b"),
            (b"a 1", b"x", b"a x"),
            (b"", b"x", b"x"),
        ] {
            let mut out = Vec::new();
            write_with_text(line, client, with, &mut out);
            assert_eq!(out, expected);
        }
        let mut out = Vec::new();
        write_with_client(b"a 1.2 b", client, ClientAddr::Unix, &mut out);
        assert_eq!(out, b"a unix: b");
    }
}
