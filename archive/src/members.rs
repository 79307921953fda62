//! Decodes archives of several members (gzip, bzip2) or frames (zstd), one after the other.
//!
//! Storage in blocks pads a file with zero bytes. `gzip -t` and `bzip2 -t` accept zero bytes behind a
//! member, and so does this reader, behind the last member and between two.

use std::io::{self, BufRead, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

/// Decodes one member and leaves the bytes behind it.
pub(crate) trait MemberDecoder: Read + Sized {
    /// The compressed bytes.
    type Bytes: BufRead;

    fn start(bytes: Self::Bytes) -> io::Result<Self>;
    /// Returns the bytes behind the member.
    fn finish(self) -> Self::Bytes;
}

impl<R: BufRead> MemberDecoder for GzDecoder<R> {
    type Bytes = R;

    fn start(bytes: R) -> io::Result<Self> {
        Ok(Self::new(bytes))
    }

    fn finish(self) -> R {
        self.into_inner()
    }
}

impl<R: BufRead> MemberDecoder for BzDecoder<R> {
    type Bytes = R;

    fn start(bytes: R) -> io::Result<Self> {
        Ok(Self::new(bytes))
    }

    fn finish(self) -> R {
        self.into_inner()
    }
}

impl<R: BufRead> MemberDecoder for ZstdDecoder<'static, R> {
    type Bytes = R;

    fn start(bytes: R) -> io::Result<Self> {
        Ok(Self::with_buffer(bytes)?.single_frame())
    }

    fn finish(self) -> R {
        Self::finish(self)
    }
}

/// The decoded bytes of all members.
pub(crate) struct ArchiveMembers<D> {
    /// The current member; `None` behind the last one.
    member: Option<D>,
}

impl<D: MemberDecoder> ArchiveMembers<D> {
    /// Starts with the first member, which must be there.
    pub(crate) fn new(bytes: D::Bytes) -> io::Result<Self> {
        D::start(bytes).map(|member| Self { member: Some(member) })
    }
}

impl<D: MemberDecoder> Read for ArchiveMembers<D> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            let read = member.read(buf)?;
            if read > 0 {
                return Ok(read);
            }
            let rest = self.member.take().map(D::finish);
            self.member = rest.map_or(Ok(None), next_member)?;
        }
        Ok(0)
    }
}

/// Skips zero bytes and starts the member behind them, if one is there.
fn next_member<D: MemberDecoder>(mut bytes: D::Bytes) -> io::Result<Option<D>> {
    loop {
        let buffered = bytes.fill_buf()?;
        let zeros = buffered.iter().take_while(|&&byte| byte == 0).count();
        let (is_end, is_member) = (buffered.is_empty(), zeros < buffered.len());
        bytes.consume(zeros);
        if is_end {
            return Ok(None);
        }
        if is_member {
            return D::start(bytes).map(Some);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor, Write as _};

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut sink = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        sink.write_all(text).expect("memory does not fail");
        sink.finish().expect("memory does not fail")
    }

    fn bzip2(text: &[u8]) -> Vec<u8> {
        let mut sink = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        sink.write_all(text).expect("memory does not fail");
        sink.finish().expect("memory does not fail")
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        zstd::encode_all(text, 0).expect("memory does not fail")
    }

    fn decode<D>(packed: &[u8]) -> io::Result<Vec<u8>>
    where
        D: MemberDecoder<Bytes = BufReader<Cursor<Vec<u8>>>>,
    {
        let mut text = Vec::new();
        // Members and zero bytes are cut by the ends of the buffer.
        let bytes = BufReader::with_capacity(7, Cursor::new(packed.to_vec()));
        ArchiveMembers::<D>::new(bytes)?.read_to_end(&mut text)?;
        Ok(text)
    }

    fn padding_is_skipped<D>(pack: impl Fn(&[u8]) -> Vec<u8>)
    where
        D: MemberDecoder<Bytes = BufReader<Cursor<Vec<u8>>>>,
    {
        let (one, two) = (pack(b"one\n"), pack(b"two\n"));
        for zeros in [0, 1, 7, 17, 512] {
            let zeros = vec![0; zeros];
            let packed = [&one[..], &zeros, &two, &zeros].concat();
            assert_eq!(decode::<D>(&packed).expect("padding"), b"one\ntwo\n", "{}", zeros.len());
        }
        assert!(
            decode::<D>(&[&one[..], b"\0\0more"].concat()).is_err(),
            "neither zeros nor member"
        );
        for end in 1..two.len() {
            let error = decode::<D>(&[&one[..], &two[..end]].concat()).expect_err("cut off");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{end}: {error}");
        }
    }

    #[test]
    fn zero_bytes_behind_a_member_are_padding() {
        padding_is_skipped::<GzDecoder<_>>(gzip);
        padding_is_skipped::<BzDecoder<_>>(bzip2);
        padding_is_skipped::<ZstdDecoder<'static, _>>(zstd);
    }
}
