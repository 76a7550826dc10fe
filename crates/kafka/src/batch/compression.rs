//! Unpacking, never past a limit: a few bytes can claim gigabytes.

use std::io::Read;

use bytes::{Buf, Bytes};

const SNAPPY_JAVA_MAGIC: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const SNAPPY_JAVA_HEADER_BYTES: usize = 16;
/// Snappy's best: three bytes stand for sixty-four.
const SNAPPY_MAX_RATIO: usize = 22;

/// Unpacks the records of a batch. `codec` is the batch's own number for it.
pub(crate) fn unpack(codec: i16, packed: Bytes, limit: usize) -> Result<Bytes, String> {
    match codec {
        0 => Ok(packed),
        1 => read_limited(flate2::read::MultiGzDecoder::new(packed.reader()), limit),
        2 => snappy(packed, limit),
        3 => {
            let decoder = lz4::Decoder::new(packed.reader()).map_err(|e| format!("lz4: {e}"))?;
            read_limited(decoder, limit)
        }
        4 => {
            let decoder = zstd::stream::read::Decoder::new(packed.reader()).map_err(|e| format!("zstd: {e}"))?;
            read_limited(decoder, limit)
        }
        other => Err(format!("compression {other} is unknown")),
    }
}

fn read_limited(reader: impl Read, limit: usize) -> Result<Bytes, String> {
    let mut unpacked = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(most).read_to_end(&mut unpacked).map_err(|e| format!("unpacking failed: {e}"))?;
    if unpacked.len() > limit {
        return Err(too_large(limit));
    }
    Ok(unpacked.into())
}

fn too_large(limit: usize) -> String {
    format!("unpacks to more than the limit of {limit} bytes")
}

/// Java clients frame snappy in chunks of their own (snappy-java); others write one raw block.
fn snappy(mut packed: Bytes, limit: usize) -> Result<Bytes, String> {
    if !packed.starts_with(SNAPPY_JAVA_MAGIC) {
        return snappy_block(&packed, limit).map(Bytes::from);
    }
    if packed.len() < SNAPPY_JAVA_HEADER_BYTES {
        return Err("snappy: cut off in its header".into());
    }
    packed.advance(SNAPPY_JAVA_HEADER_BYTES);
    let mut unpacked = Vec::new();
    while packed.len() >= 4 {
        let length = usize::try_from(packed.get_i32()).unwrap_or(usize::MAX);
        if length > packed.len() {
            return Err("snappy: a chunk is longer than its batch".into());
        }
        let chunk = packed.split_to(length);
        unpacked.extend(snappy_block(&chunk, limit - unpacked.len())?);
    }
    Ok(unpacked.into())
}

fn snappy_block(block: &[u8], limit: usize) -> Result<Vec<u8>, String> {
    let claimed = snap::raw::decompress_len(block).map_err(|e| format!("snappy: {e}"))?;
    if claimed > limit {
        return Err(too_large(limit));
    }
    // All of it is allocated at once, so that a few bytes must not claim as much as they like.
    if claimed > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(format!("snappy: {} bytes cannot unpack to {claimed}", block.len()));
    }
    snap::raw::Decoder::new().decompress_vec(block).map_err(|e| format!("snappy: {e}"))
}
