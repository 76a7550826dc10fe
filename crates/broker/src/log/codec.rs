//! The four codecs, with a bound on what they may unfold to. Batches are kept compressed; this is for looking inside.

use std::borrow::Cow;
use std::io::{self, Read, Write};

/// What one batch may unfold to, in bytes.
pub(crate) const UNFOLDED_MAX: usize = 256 << 20;

/// The framing of snappy-java, as Java clients write it; the others write bare blocks or this.
const XERIAL: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER: usize = 16;
/// Snappy's best: three bytes stand for sixty-four.
const SNAPPY_MAX_RATIO: usize = 22;

/// Why a batch could not be unfolded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("compression codec {0} does not exist")]
    Unknown(i16),
    #[error("the batch unfolds to more than {UNFOLDED_MAX} bytes")]
    TooLarge,
    #[error("the compressed records are damaged: {0}")]
    Damaged(#[from] io::Error),
}

/// The records of a batch, uncompressed.
pub(crate) fn unfold(codec: i16, body: &[u8]) -> Result<Cow<'_, [u8]>, CodecError> {
    match codec {
        0 => Ok(Cow::Borrowed(body)),
        1 => bounded(flate2::read::MultiGzDecoder::new(body)),
        2 => snappy(body).map(Cow::Owned),
        3 => bounded(lz4::Decoder::new(body)?),
        4 => bounded(zstd::stream::read::Decoder::new(body)?),
        other => Err(CodecError::Unknown(other)),
    }
}

fn bounded(reader: impl Read) -> Result<Cow<'static, [u8]>, CodecError> {
    let mut out = Vec::new();
    reader.take(UNFOLDED_MAX as u64 + 1).read_to_end(&mut out)?;
    if out.len() > UNFOLDED_MAX { Err(CodecError::TooLarge) } else { Ok(Cow::Owned(out)) }
}

fn snappy(body: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    if !body.starts_with(XERIAL) {
        snappy_block(body, &mut out)?;
        return Ok(out);
    }
    let mut rest = body.get(XERIAL_HEADER..).unwrap_or_default();
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(cut_short)?;
        let (block, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(cut_short)?;
        snappy_block(block, &mut out)?;
        rest = after;
    }
    Ok(out)
}

fn cut_short() -> CodecError {
    CodecError::Damaged(io::ErrorKind::UnexpectedEof.into())
}

fn snappy_block(block: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let length = snap::raw::decompress_len(block).map_err(io::Error::from)?;
    let start = out.len();
    if start.saturating_add(length) > UNFOLDED_MAX {
        return Err(CodecError::TooLarge);
    }
    // All of it is allocated at once, so that a few bytes must not claim as much as they like.
    if length > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(CodecError::Damaged(io::ErrorKind::InvalidData.into()));
    }
    out.resize(start + length, 0);
    snap::raw::Decoder::new().decompress(block, &mut out[start..]).map_err(io::Error::from)?;
    Ok(())
}

/// The opposite of [`unfold`], for batches that compaction rewrites.
pub(crate) fn fold(codec: i16, records: &[u8]) -> io::Result<Vec<u8>> {
    match codec {
        1 => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(records)?;
            encoder.finish()
        }
        2 => {
            let block = snap::raw::Encoder::new().compress_vec(records).map_err(io::Error::from)?;
            let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
            out.extend_from_slice(&u32::try_from(block.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(&block);
            Ok(out)
        }
        3 => {
            let mut encoder = lz4::EncoderBuilder::new().block_mode(lz4::BlockMode::Independent).build(Vec::new())?;
            encoder.write_all(records)?;
            let (out, result) = encoder.finish();
            result.map(|()| out)
        }
        4 => zstd::stream::encode_all(records, 0),
        _ => Ok(records.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_folds_and_unfolds() {
        let records: Vec<u8> = (0..100_000_u32).flat_map(|n| (n / 7).to_be_bytes()).collect();
        for codec in 0..=4 {
            let folded = fold(codec, &records).unwrap();
            assert_eq!(unfold(codec, &folded).unwrap(), records, "codec {codec}");
            if codec > 0 {
                assert!(unfold(codec, &folded[..folded.len() / 2]).map_or(true, |half| half.len() < records.len()));
            }
        }
        assert!(matches!(unfold(5, b""), Err(CodecError::Unknown(5))));
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = fold(1, &vec![0; UNFOLDED_MAX + 1]).unwrap();
        assert!(matches!(unfold(1, &bomb), Err(CodecError::TooLarge)));
    }
}
