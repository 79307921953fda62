//! Message bodies: finds their end and counts framing bytes. Reads the bytes and stores none.

use super::head::Unfollowable;

/// Length limit in bytes of a framing line: a chunk size with its extensions, or a trailer field.
const MAX_LINE: u32 = 16 * 1024;

/// Progress within a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageBody {
    /// With this many bytes left.
    Length(u64),
    /// In chunked coding.
    Chunks(Chunks),
    /// Until the connection closes.
    UntilEnd,
}

/// Position within chunked coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunks {
    /// In a chunk size: its value so far, and the bytes seen of its line.
    Size { value: u64, seen: u32, digits: SizeDigits },
    /// In chunk data, with this many bytes left.
    Data(u64),
    /// In the line end after chunk data.
    DataEnd,
    /// In the trailer section: bytes of its current line.
    Trailer { line: u32, total: u32 },
}

/// Whether digits of the size may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SizeDigits {
    Follow,
    Done,
}

impl Chunks {
    pub(crate) const START: Self = Self::Size { value: 0, seen: 0, digits: SizeDigits::Follow };
}

/// Result of reading some bytes of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BodyProgress {
    /// Bytes of the body, framing included.
    pub(crate) framed: usize,
    /// Bytes of the body without framing.
    pub(crate) data: usize,
    /// The body ends after these bytes.
    pub(crate) ended: bool,
}

impl MessageBody {
    /// Advances over `bytes`.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<BodyProgress, Unfollowable> {
        match self {
            Self::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                Ok(BodyProgress { framed: taken, data: taken, ended: *left == 0 })
            }
            Self::UntilEnd => {
                Ok(BodyProgress { framed: bytes.len(), data: bytes.len(), ended: false })
            }
            Self::Chunks(chunks) => {
                let mut taken = BodyProgress::default();
                while taken.framed < bytes.len() && !taken.ended {
                    chunks.step(&bytes[taken.framed..], &mut taken)?;
                }
                Ok(taken)
            }
        }
    }
}

impl Chunks {
    /// Consumes at least one byte.
    fn step(&mut self, bytes: &[u8], taken: &mut BodyProgress) -> Result<(), Unfollowable> {
        let byte = *bytes.first().ok_or(Unfollowable)?;
        match *self {
            Self::Data(left) => {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                taken.framed += count;
                taken.data += count;
                let left = left - count as u64;
                *self = if left == 0 { Self::DataEnd } else { Self::Data(left) };
                return Ok(());
            }
            Self::Size { value, seen, digits } => *self = size(byte, value, seen, digits)?,
            Self::DataEnd => match byte {
                b'\r' => {}
                b'\n' => *self = Self::START,
                _ => return Err(Unfollowable),
            },
            Self::Trailer { line, total } => match byte {
                b'\n' if line == 0 => taken.ended = true,
                _ if total >= MAX_LINE => return Err(Unfollowable),
                b'\n' => *self = Self::Trailer { line: 0, total: total + 1 },
                b'\r' => *self = Self::Trailer { line, total: total + 1 },
                _ => *self = Self::Trailer { line: line + 1, total: total + 1 },
            },
        }
        taken.framed += 1;
        Ok(())
    }
}

fn size(byte: u8, value: u64, seen: u32, digits: SizeDigits) -> Result<Chunks, Unfollowable> {
    if seen >= MAX_LINE {
        return Err(Unfollowable);
    }
    let seen = seen + 1;
    match (byte, digits) {
        (b'\n', _) if seen == 1 => Err(Unfollowable),
        (b'\n', _) if value == 0 => Ok(Chunks::Trailer { line: 0, total: 0 }),
        (b'\n', _) => Ok(Chunks::Data(value)),
        (_, SizeDigits::Follow) => {
            if let Some(digit) = char::from(byte).to_digit(16) {
                let value = value.checked_mul(16).ok_or(Unfollowable)? + u64::from(digit);
                Ok(Chunks::Size { value, seen, digits })
            } else if seen > 1 && matches!(byte, b';' | b'\r' | b' ' | b'\t') {
                Ok(Chunks::Size { value, seen, digits: SizeDigits::Done })
            } else {
                Err(Unfollowable)
            }
        }
        (_, SizeDigits::Done) => Ok(Chunks::Size { value, seen, digits }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn walk(body: MessageBody, bytes: &[u8], step: usize) -> Result<BodyProgress, Unfollowable> {
        let (mut body, mut all) = (body, BodyProgress::default());
        for piece in bytes.chunks(step.max(1)) {
            let taken = body.take(piece)?;
            all.framed += taken.framed;
            all.data += taken.data;
            all.ended = taken.ended;
            if taken.ended {
                break;
            }
        }
        Ok(all)
    }

    #[test]
    fn chunks_end_where_they_end_however_they_are_cut() {
        for (text, framed, data, ended) in [
            ("5\r\nhello\r\n0\r\n\r\nGET", 15, 5, true),
            ("5;name=value\r\nhello\r\n0\r\n\r\n", 26, 5, true),
            ("a\nhelloworld\n0\n\n", 16, 10, true),
            ("0\r\nTrailer: x\r\nOther: y\r\n\r\nrest", 27, 0, true),
            ("5\r\nhel", 6, 3, false),
            ("005\r\nhello\r\n00\r\n\r\n", 18, 5, true),
        ] {
            for step in 1..=text.len() {
                let taken = walk(MessageBody::Chunks(Chunks::START), text.as_bytes(), step);
                assert_eq!(taken, Ok(BodyProgress { framed, data, ended }), "{text:?} by {step}");
            }
        }
    }

    #[test]
    fn chunks_that_are_none_are_strange() {
        for text in ["\r\n", "x\r\n", "5\r\nhelloX", "-1\r\n", "fffffffffffffffff\r\n", ";a\r\n"] {
            assert!(
                walk(MessageBody::Chunks(Chunks::START), text.as_bytes(), 3).is_err(),
                "{text:?}"
            );
        }
        let endless = format!("0\r\n{}", "a: b\r\n".repeat(10_000));
        assert!(walk(MessageBody::Chunks(Chunks::START), endless.as_bytes(), 100).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_the_same_way_in_one_piece_and_in_many(
            bytes in proptest::collection::vec(
                prop_oneof![Just(b'1'), Just(b'\r'), Just(b'\n'), Just(b'0'), any::<u8>()], 0..60),
            step in 1_usize..10,
        ) {
            let body = MessageBody::Chunks(Chunks::START);
            let (whole, pieces) = (walk(body, &bytes, bytes.len()), walk(body, &bytes, step));
            prop_assert_eq!(whole, pieces);
        }
    }
}
