//! Records inside a batch, read without copying. Only validation, timestamp look-ups and compaction look this deep.

/// Bytes that are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record is malformed")]
pub(crate) struct Malformed;

/// A record, borrowed from its batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordView<'a> {
    attributes: u8,
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    /// Key, value and headers as they stand.
    body: &'a [u8],
}

/// The records of an uncompressed batch body. Ends after the first error.
pub(crate) struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = read(&mut self.rest);
        if record.is_err() {
            self.rest = &[];
        }
        Some(record)
    }
}

fn read<'a>(rest: &mut &'a [u8]) -> Result<RecordView<'a>, Malformed> {
    let length = usize::try_from(varint(rest)?).map_err(|_| Malformed)?;
    let mut record = take(rest, length)?;
    let attributes = take(&mut record, 1)?[0];
    let timestamp_delta = varlong(&mut record)?;
    let offset_delta = varint(&mut record)?;
    let body = record;
    let key = nullable(&mut record)?;
    let value = nullable(&mut record)?;
    for _ in 0..varint(&mut record)? {
        let name = usize::try_from(varint(&mut record)?).map_err(|_| Malformed)?;
        take(&mut record, name)?;
        nullable(&mut record)?;
    }
    if !record.is_empty() {
        return Err(Malformed);
    }
    Ok(RecordView { attributes, timestamp_delta, offset_delta, key, value, body })
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, left) = rest.split_at_checked(length).ok_or(Malformed)?;
    *rest = left;
    Ok(taken)
}

fn nullable<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
    match varint(rest)? {
        -1 => Ok(None),
        length => take(rest, usize::try_from(length).map_err(|_| Malformed)?).map(Some),
    }
}

fn varint(rest: &mut &[u8]) -> Result<i32, Malformed> {
    i32::try_from(varlong(rest)?).map_err(|_| Malformed)
}

fn varlong(rest: &mut &[u8]) -> Result<i64, Malformed> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
        }
    }
    Err(Malformed)
}

fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        out.push(u8::try_from(zigzag & 0x7f).unwrap_or(0) | 0x80);
        zigzag >>= 7;
    }
    out.push(u8::try_from(zigzag).unwrap_or(0));
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varlong(out, bytes.map_or(-1, |bytes| bytes.len().try_into().unwrap_or(i64::MAX)));
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn put_record(out: &mut Vec<u8>, attributes: u8, timestamp_delta: i64, offset_delta: i32, body: &[u8]) {
    let mut head = vec![attributes];
    put_varlong(&mut head, timestamp_delta);
    put_varlong(&mut head, i64::from(offset_delta));
    put_varlong(out, (head.len() + body.len()).try_into().unwrap_or(i64::MAX));
    out.extend_from_slice(&head);
    out.extend_from_slice(body);
}

/// Writes a record without headers.
pub(crate) fn write(
    out: &mut Vec<u8>,
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) {
    let mut body = Vec::new();
    put_nullable(&mut body, key);
    put_nullable(&mut body, value);
    put_varlong(&mut body, 0);
    put_record(out, 0, timestamp_delta, offset_delta, &body);
}

impl RecordView<'_> {
    /// Writes the record as it was, with its time counted from another base.
    pub(crate) fn write_again(&self, out: &mut Vec<u8>, base_shift: i64) {
        put_record(out, self.attributes, self.timestamp_delta - base_shift, self.offset_delta, self.body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_reads_back(delta in any::<i64>(), offset in 0..i32::MAX, key: Option<Vec<u8>>, value: Option<Vec<u8>>) {
            let mut bytes = Vec::new();
            write(&mut bytes, delta, offset, key.as_deref(), value.as_deref());
            let all: Vec<_> = Records::new(&bytes).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(all.len(), 1);
            prop_assert_eq!((all[0].timestamp_delta, all[0].offset_delta), (delta, offset));
            prop_assert_eq!((all[0].key, all[0].value), (key.as_deref(), value.as_deref()));
            let mut again = Vec::new();
            all[0].write_again(&mut again, 0);
            prop_assert_eq!(again, bytes);
        }

        #[test]
        fn noise_does_not_panic(bytes: Vec<u8>) {
            for record in Records::new(&bytes) {
                let _ = record;
            }
        }
    }
}
