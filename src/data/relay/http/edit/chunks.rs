//! Strict reader of chunked coding in requests. Servers differ about line ends in framing and about sizes that overflow, and
//! request smuggling exploits such differences: so only the unambiguous form is accepted.

use super::Refusal;

/// Largest number of digits in a chunk size.
const DIGITS: u8 = 16;

/// Position within chunked coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StrictChunks {
    /// In a size, after this many digits.
    Size { value: u64, digits: u8 },
    /// After the digits, in chunk extensions.
    Extension { value: u64 },
    /// After the CR of the size line.
    SizeEnd { value: u64 },
    /// In chunk data, with this many bytes left.
    Data(u64),
    /// After chunk data.
    DataEnd,
    /// After the CR behind chunk data.
    DataLineEnd,
    /// After the last, empty chunk: the trailer section follows.
    Over,
}

impl StrictChunks {
    pub(super) const START: Self = Self::Size { value: 0, digits: 0 };

    /// Consumes at least one byte of `input`.
    pub(super) fn take(&mut self, input: &[u8]) -> Result<usize, Refusal> {
        let byte = *input.first().ok_or(Refusal::Framing)?;
        let mut taken = 1;
        *self = match (*self, byte) {
            (Self::Data(left), _) => {
                taken = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                match left - taken as u64 {
                    0 => Self::DataEnd,
                    left => Self::Data(left),
                }
            }
            (Self::Size { value, digits: digits @ 0..DIGITS }, byte)
                if byte.is_ascii_hexdigit() =>
            {
                let digit = char::from(byte).to_digit(16).ok_or(Refusal::Framing)?;
                Self::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Self::Size { value, digits: 1.. } | Self::Extension { value }, b'\r') => {
                Self::SizeEnd { value }
            }
            (Self::Size { value, digits: 1.. }, b';' | b' ' | b'\t')
            | (Self::Extension { value }, b'\t' | b' '..=b'~' | 0x80..) => {
                Self::Extension { value }
            }
            (Self::SizeEnd { value: 0 }, b'\n') => Self::Over,
            (Self::SizeEnd { value }, b'\n') => Self::Data(value),
            (Self::DataEnd, b'\r') => Self::DataLineEnd,
            (Self::DataLineEnd, b'\n') => Self::START,
            _ => return Err(Refusal::Framing),
        };
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many bytes were taken when it was over or refused.
    fn walk(text: &str, step: usize) -> Result<usize, usize> {
        let (mut chunks, mut at) = (StrictChunks::START, 0);
        while at < text.len() && chunks != StrictChunks::Over {
            let end = text.len().min(at + step);
            at += chunks.take(&text.as_bytes()[at..end]).map_err(|_| at)?;
        }
        Ok(at)
    }

    #[test]
    fn chunks_are_read_in_one_way_only() {
        for (text, expected) in [
            ("5\r\nhello\r\n0\r\n\r\n", Ok(13)),
            ("5;a=b\r\nhello\r\n00\r\nX: y\r\n", Ok(18)),
            ("a \r\n0123456789\r\n", Ok(16)),
            ("0000000000000000\r\n", Ok(18)),
            ("00000000000000000\r\n", Err(16)),
            ("ffffffffffffffff\r\n", Ok(18)),
            ("5\nhello", Err(1)),
            ("5;\nhello", Err(2)),
            ("5;\r\rhello", Err(3)),
            ("5;\0\r\nhello", Err(2)),
            ("5\r\nhelloX", Err(8)),
            ("5\r\nhello\n", Err(8)),
            ("\r\n", Err(0)),
            (";x\r\n", Err(0)),
            (" 5\r\n", Err(0)),
            ("+5\r\n", Err(0)),
            ("0x5\r\n", Err(1)),
            ("5 5\r\nhello", Ok(10)),
        ] {
            for step in 1..=text.len() {
                assert_eq!(walk(text, step), expected, "{text:?} by {step}");
            }
        }
    }
}
