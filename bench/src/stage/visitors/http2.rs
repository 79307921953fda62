//! As much of HTTP/2 (RFC 9113) as a visitor needs who asks and throws the answers away: requests in
//! literal fields (RFC 7541, 6.2.2), and ends of streams.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Visit, broken, rest};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOODBYE: u8 = 7;
const WINDOW: u8 = 8;

/// Flags.
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Room for all answers of a visit.
const PLENTY: u32 = 1 << 30;

/// Sends a visit's requests, those of a round at once, and reads the answers.
pub(super) fn converse(
    visit: &Visit,
    mut stream: impl Read + Write,
    answered: &AtomicUsize,
) -> io::Result<()> {
    let mut hello = PREFACE.to_vec();
    // No pushes; room for each stream.
    let settings = [&[0, 2][..], &0_u32.to_be_bytes(), &[0, 4], &PLENTY.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &settings, &mut hello);
    frame(WINDOW, 0, 0, &PLENTY.to_be_bytes(), &mut hello);
    stream.write_all(&hello)?;
    let mut number = 1;
    for round in &visit.rounds {
        rest(round.pause);
        let text = round.pieces.concat();
        let text = String::from_utf8_lossy(&text);
        let mut open = 0;
        for request in text.split("\r\n\r\n").filter(|request| !request.is_empty()) {
            let mut bytes = Vec::new();
            frame(HEADERS, END_STREAM | END_HEADERS, number, &fields(request)?, &mut bytes);
            stream.write_all(&bytes)?;
            stream.flush()?;
            (number, open) = (number + 2, open + 1);
        }
        while open > 0 {
            open -= usize::from(read_frame(&mut stream, answered)?);
        }
    }
    Ok(())
}

/// Reads and obeys a frame; returns whether the frame ended a stream.
fn read_frame(stream: &mut (impl Read + Write), answered: &AtomicUsize) -> io::Result<bool> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let [high, middle, low, kind, flags, ..] = head;
    let len = u32::from_be_bytes([0, high, middle, low]) as usize;
    let mut body = vec![0; len];
    stream.read_exact(&mut body)?;
    let mut answer = Vec::new();
    match kind {
        SETTINGS if flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[], &mut answer),
        PING if flags & ACK == 0 => frame(PING, ACK, 0, &body, &mut answer),
        GOODBYE => return Err(broken("the server says goodbye")),
        RESET => return Err(broken("a request was reset")),
        DATA | HEADERS if flags & END_STREAM != 0 => {
            answered.fetch_add(1, Ordering::Relaxed);
            return Ok(true);
        }
        _ => {}
    }
    if !answer.is_empty() {
        stream.write_all(&answer)?;
        stream.flush()?;
    }
    Ok(false)
}

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8], out: &mut Vec<u8>) {
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&len[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(body);
}

/// The head of a request as HTTP/1.1 has it, in fields of HTTP/2.
fn fields(request: &str) -> io::Result<Vec<u8>> {
    let mut lines = request.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(broken("no request"));
    };
    let mut out = Vec::new();
    field(":method", method, &mut out);
    field(":scheme", "https", &mut out);
    field(":path", target, &mut out);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        let name = name.to_ascii_lowercase();
        field(if name == "host" { ":authority" } else { &name }, value, &mut out);
    }
    Ok(out)
}

/// A literal field that nobody is to remember.
fn field(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(0);
    for text in [name, value] {
        length(text.len(), out);
        out.extend_from_slice(text.as_bytes());
    }
}

/// An integer with a prefix of seven bits (RFC 7541, 5.1).
fn length(len: usize, out: &mut Vec<u8>) {
    let byte = |value: usize| u8::try_from(value).unwrap_or(0);
    if len < 127 {
        return out.push(byte(len));
    }
    out.push(127);
    let mut rest = len - 127;
    while rest >= 128 {
        out.push(byte(rest % 128 + 128));
        rest /= 128;
    }
    out.push(byte(rest));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_the_standard_has_it() {
        for (len, expected) in [(10, &[10][..]), (127, &[127, 0]), (1_337, &[127, 186, 9])] {
            let mut out = Vec::new();
            length(len, &mut out);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn a_request_becomes_fields_with_its_host_as_authority() {
        let fields = fields("GET /a HTTP/1.1\r\nHost: x\r\nUser-Agent: y").unwrap();
        let text = String::from_utf8_lossy(&fields).into_owned();
        assert_eq!(
            text,
            "\0\x07:method\x03GET\0\x07:scheme\x05https\0\x05:path\x02/a\0\x0a:authority\x01x\0\x0auser-agent\x01y"
        );
    }
}
