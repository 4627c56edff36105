//! The SSH wire types used here: `uint32`, and `string`, a length and bytes (RFC 4251, section 5).

/// Appends `bytes` as a `string`.
pub(super) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    // Only names, keys and signatures come here; none is anywhere near 4 GiB, so this cannot saturate.
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Reads from the front of a buffer; `None` when it is too short.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn uint32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let len = self.uint32()?;
        self.take(usize::try_from(len).ok()?)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_round_trip_and_short_buffers_end() {
        let mut out = Vec::new();
        put_string(&mut out, b"ab");
        put_string(&mut out, b"");
        assert_eq!(out, b"\0\0\0\x02ab\0\0\0\0");
        let mut reader = Reader(&out);
        assert_eq!((reader.string(), reader.string()), (Some(&b"ab"[..]), Some(&b""[..])));
        assert!(reader.is_empty() && reader.uint32().is_none());
        assert!(Reader(b"\xff\xff\xff\xffab").string().is_none());
        assert!(Reader(b"\0\0\0").string().is_none());
    }
}
