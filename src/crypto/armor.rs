//! Base64 between `-----BEGIN …-----` and `-----END …-----` (as RFC 7468), and strict base64 (RFC 4648).
//!
//! Private keys pass through here: encoding and decoding take constant time per byte, and buffers are cleared.

use base64ct::{Base64, Base64Unpadded, Base64Url, Encoding as _};
use zeroize::Zeroizing;

/// Columns of base64 in what OpenSSH writes: signatures and private keys.
pub(super) const OPENSSH_WIDTH: usize = 70;

/// Base64, padded, standard alphabet.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

/// Base64 without padding, standard alphabet, as in fingerprints.
pub(super) fn base64_unpadded(bytes: &[u8]) -> String {
    Base64Unpadded::encode_string(bytes)
}

/// Reads padded base64 in the standard alphabet: no white space, no bits set after the end.
#[must_use]
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    Base64::decode_vec(text).ok()
}

/// Reads padded base64 in the standard or, wholly, in the URL-safe alphabet.
pub(super) fn from_base64_either(text: &str) -> Option<Vec<u8>> {
    from_base64(text).or_else(|| Base64Url::decode_vec(text).ok())
}

/// `bytes` in armor: lines of `width` columns, a newline after the last line.
pub(super) fn encode(label: &str, bytes: &[u8], width: usize) -> Zeroizing<String> {
    let body = Zeroizing::new(base64(bytes));
    let mut out = Zeroizing::new(String::with_capacity(encoded_len(label, bytes.len(), width)));
    out.push_str("-----BEGIN ");
    out.push_str(label);
    out.push_str("-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(width));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str("-----END ");
    out.push_str(label);
    out.push_str("-----\n");
    out
}

/// How long [`encode`] makes `bytes` bytes.
pub(super) const fn encoded_len(label: &str, bytes: usize, width: usize) -> usize {
    let body = bytes.div_ceil(3) * 4;
    2 * label.len() + "-----BEGIN -----\n-----END -----\n".len() + body + body.div_ceil(width)
}

/// The bytes in an armor that fills all of `text`. Lines may have any length and end in LF or CR LF; white space
/// may follow the last one. `None` for everything else.
pub(super) fn decode(label: &str, text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(text).ok()?;
    let text = text.strip_prefix("-----BEGIN ")?.strip_prefix(label)?.strip_prefix("-----")?;
    let text = text.trim_end_matches(['\r', '\n']);
    let text = text.strip_suffix("-----")?.strip_suffix(label)?.strip_suffix("-----END ")?;
    if !text.starts_with(['\r', '\n']) || !text.ends_with('\n') {
        return None;
    }
    let mut body = Zeroizing::new(String::with_capacity(text.len()));
    body.extend(text.split(['\r', '\n']));
    from_base64(&body).map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn armor_round_trips_at_every_length() {
        for len in 0..260 {
            let bytes = vec![0xa5; len];
            let text = encode("A B", &bytes, 70);
            assert_eq!(text.len(), encoded_len("A B", len, 70));
            assert_eq!(decode("A B", text.as_bytes()).unwrap().as_slice(), bytes);
            assert_eq!(decode("A B", text.replace('\n', "\r\n").as_bytes()).unwrap().as_slice(), bytes);
        }
    }

    #[test]
    fn what_is_not_quite_armor_is_refused() {
        let good = "-----BEGIN X-----\nYWJj\n-----END X-----\n";
        assert_eq!(decode("X", good.as_bytes()).unwrap().as_slice(), b"abc");
        for bad in [
            "",
            "-----BEGIN X-----",
            "-----BEGIN X----------END X-----",
            "-----BEGIN X-----\nYWJj-----END X-----\n",
            "-----BEGIN X-----YWJj\n-----END X-----\n",
            " -----BEGIN X-----\nYWJj\n-----END X-----\n",
            "-----BEGIN X-----\nYW Jj\n-----END X-----\n",
            "-----BEGIN X-----\nYWJ\n-----END X-----\n",
            "-----BEGIN X-----\nYWJj\n-----END Y-----\n",
            "-----BEGIN X-----\nYWJj\n-----END X-----\nmore\n",
        ] {
            assert!(decode("X", bad.as_bytes()).is_none(), "{bad:?}");
        }
        assert!(decode("X", b"-----BEGIN X-----\n\xff\n-----END X-----\n").is_none());
    }

    #[test]
    fn base64_is_strict() {
        assert_eq!(from_base64("+/8=").unwrap(), [0xfb, 0xff]);
        assert_eq!(from_base64_either("-_8=").unwrap(), [0xfb, 0xff]);
        for bad in ["+/9=", "+/8", "+_8=", "+/8=\n", " +/8=", "=", "A===", "AAAA====", "é8=="] {
            assert!(from_base64_either(bad).is_none(), "{bad:?}");
        }
    }
}
