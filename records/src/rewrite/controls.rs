//! Control characters in lines that came over the network: written as `\xNN`.
//!
//! Web servers escape them, so a line with some was made by another hand. Raw, a line feed would
//! forge a second line, and an escape sequence would act on the reader's terminal.

use std::io::Write as _;

/// Replaces each byte of a control character in the line `out[start..]` by `\xNN`. Tabs stay, as do
/// the final line feed and a carriage return before. Bytes outside of UTF-8 stay, unless a terminal
/// would take them for a control character.
pub fn escape_controls(out: &mut Vec<u8>, start: usize) {
    let line = out.get(start..).unwrap_or_default();
    let end = line.strip_suffix(b"\n").unwrap_or(line);
    let end = end.strip_suffix(b"\r").unwrap_or(end);
    // Without a branch in the loop it is one pass over vectors of bytes.
    let is_plain = end.iter().fold(true, |plain, &byte| plain & is_plain(byte));
    if !is_plain {
        escape(out, start, start + end.len());
    }
}

const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' | b'\t')
}

#[cold]
fn escape(out: &mut Vec<u8>, start: usize, end: usize) {
    let line = out[start..].to_vec();
    let (text, rest) = line.split_at(end - start);
    out.truncate(start);
    for chunk in text.utf8_chunks() {
        for char in chunk.valid().chars() {
            let mut bytes = [0; 4];
            let bytes = char.encode_utf8(&mut bytes).as_bytes();
            if char.is_control() && char != '\t' {
                push_escaped(bytes, out);
            } else {
                out.extend_from_slice(bytes);
            }
        }
        // The second half of the control characters, and the beginning of overlong ones.
        for byte in chunk.invalid() {
            match byte {
                0x80..=0x9F | 0xC0 | 0xC1 => push_escaped(&[*byte], out),
                _ => out.push(*byte),
            }
        }
    }
    out.extend_from_slice(rest);
}

fn push_escaped(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        write!(out, "\\x{byte:02X}").expect("memory takes all bytes");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(line: &[u8]) -> Vec<u8> {
        let mut out = [b"before\x1B\n", line].concat();
        escape_controls(&mut out, 8);
        assert!(out.starts_with(b"before\x1B\n"));
        out.split_off(8)
    }

    #[test]
    fn what_acts_on_a_terminal_or_ends_a_line_is_written_in_hex() {
        let cases: [(&[u8], &[u8]); 12] = [
            (b"a\tb \"~\r\n", b"a\tb \"~\r\n"),
            (b"a\nb\n", b"a\\x0Ab\n"),
            (b"a\rb\r\n", b"a\\x0Db\r\n"),
            (b"\x1B[2J\x00\x7F\n", b"\\x1B[2J\\x00\\x7F\n"),
            // UTF-8, of which some bytes are those of control characters elsewhere.
            ("\u{c0}\u{e9}\u{20ac}\n".as_bytes(), "\u{c0}\u{e9}\u{20ac}\n".as_bytes()),
            ("\u{9b}x\n".as_bytes(), b"\\xC2\\x9Bx\n"),
            // Latin-1.
            (b"caf\xE9\n", b"caf\xE9\n"),
            (b"\x9B31m\n", b"\\x9B31m\n"),
            // Overlong.
            (b"\xC0\x9B\xE0\x80\x9B\n", b"\\xC0\\x9B\xE0\\x80\\x9B\n"),
            (b"\\x1B\n", b"\\x1B\n"),
            (b"\n", b"\n"),
            (b"", b""),
        ];
        for (line, expected) in cases {
            assert_eq!(escaped(line), expected, "{}", line.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn nothing_but_control_characters_changes(
            line in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let line = [&line, &b"\n"[..]].concat();
            let out = escaped(&line);
            let body = &out[..out.len() - 1];
            let controls = |byte: &u8| *byte < b' ' && *byte != b'\t' || *byte == 0x7F;
            let own = body.strip_suffix(b"\r").unwrap_or(body);
            prop_assert!(!own.iter().any(controls));
            prop_assert_eq!(escaped(&out), out.clone(), "twice is the same");
            if line[..line.len() - 1].iter().all(|byte| (b' '..=b'~').contains(byte)) {
                prop_assert_eq!(out, line);
            }
        }
    }
}
