//! Zigzag variable-length integers, as in Protocol Buffers, and reads that stay within their bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub(crate) fn put(buffer: &mut BytesMut, value: i64) {
    put_unsigned(buffer, ((value << 1) ^ (value >> 63)) as u64);
}

pub(crate) fn put_unsigned(buffer: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        buffer.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.put_u8(value as u8);
}

/// Bytes that [`put`] writes.
pub(crate) fn size(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (zigzag | 1).leading_zeros() as usize).div_ceil(7)
}

/// `None` when the bytes end early or the number is longer than 64 bits.
pub(crate) fn take(bytes: &mut Bytes) -> Option<i64> {
    let mut value = 0u64;
    for index in 0..10 {
        let byte = *bytes.get(index)?;
        if index == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            bytes.advance(index + 1);
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// A length and that many bytes; a length of -1 is null.
pub(crate) fn take_nullable(bytes: &mut Bytes) -> Option<Option<Bytes>> {
    let length = take(bytes)?;
    if length == -1 {
        return Some(None);
    }
    let length = usize::try_from(length).ok()?;
    (length <= bytes.len()).then(|| Some(bytes.split_to(length)))
}
