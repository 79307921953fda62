//! Little-endian numbers as nom parsers that load a number at once; nom's own parsers go byte by
//! byte.

use nom::{Err, IResult};

macro_rules! numbers {
    ($($name:ident: $number:ty),*) => {
        $(
            #[inline]
            pub(crate) fn $name(input: &[u8]) -> IResult<&[u8], $number, ()> {
                let (bytes, rest) = input.split_first_chunk().ok_or(Err::Error(()))?;
                Ok((rest, <$number>::from_le_bytes(*bytes)))
            }
        )*
    };
}

numbers!(u8: u8, le_u16: u16, le_u32: u32, le_u64: u64, le_i64: i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_whole_or_not_at_all() {
        assert_eq!(le_u32(&[1, 2, 3, 4, 5]), Ok((&[5][..], 0x0403_0201)));
        assert_eq!(le_i64(&[0xFF; 8]), Ok((&[][..], -1)));
        assert_eq!(le_u16(&[1]), Err(Err::Error(())));
        assert_eq!(u8(&[]), Err(Err::Error(())));
    }
}
