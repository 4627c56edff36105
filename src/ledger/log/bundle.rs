//! Entry bundles (C2SP tlog-tiles): each entry with its length, 16 bits big-endian, before it.

/// Why bytes are no bundle, or entries make none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// An entry has no bytes, or more than 65,535.
    #[error("an entry of {0} bytes; expected 1 to 65535")]
    Length(usize),
    /// It ends in the middle of an entry.
    #[error("cut short in entry {0}")]
    Short(u16),
    /// It holds more entries than its name says.
    #[error("there is more after its {0} entries")]
    Long(u16),
}

/// Puts entries into a bundle.
///
/// # Errors
/// [`BundleError::Length`].
pub fn encode(entries: &[impl AsRef<[u8]>]) -> Result<Vec<u8>, BundleError> {
    let mut bytes = Vec::new();
    for entry in entries {
        let entry = entry.as_ref();
        let length = u16::try_from(entry.len()).ok().filter(|length| *length > 0);
        let length = length.ok_or(BundleError::Length(entry.len()))?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Ok(bytes)
}

/// The entries of a bundle that holds exactly `width`.
///
/// # Errors
/// [`BundleError`].
pub fn decode(bytes: &[u8], width: u16) -> Result<Vec<&[u8]>, BundleError> {
    let (mut rest, mut entries) = (bytes, Vec::with_capacity(usize::from(width)));
    for number in 0..width {
        let (length, after) = rest.split_first_chunk::<2>().ok_or(BundleError::Short(number))?;
        let length = usize::from(u16::from_be_bytes(*length));
        if length == 0 {
            return Err(BundleError::Length(0));
        }
        let (entry, after) = after.split_at_checked(length).ok_or(BundleError::Short(number))?;
        entries.push(entry);
        rest = after;
    }
    if rest.is_empty() { Ok(entries) } else { Err(BundleError::Long(width)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bundles_round_trip_and_nothing_else_is_taken() {
        let entries = [b"a".to_vec(), b"bc".to_vec(), vec![7; 65_535]];
        let bytes = encode(&entries).unwrap();
        assert_eq!(bytes[..7], [0, 1, b'a', 0, 2, b'b', b'c']);
        assert_eq!(decode(&bytes, 3).unwrap(), entries);
        assert_eq!(decode(&bytes, 2), Err(BundleError::Long(2)));
        assert_eq!(decode(&bytes, 4), Err(BundleError::Short(3)));
        assert_eq!(decode(&[0, 0], 1), Err(BundleError::Length(0)));
        assert_eq!(encode(&[vec![0; 65_536]]), Err(BundleError::Length(65_536)));
        assert_eq!(encode(&[b""]), Err(BundleError::Length(0)));
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end], 3).is_err());
        }
        assert_eq!(decode(&[], 0), Ok(Vec::new()));
    }
}
