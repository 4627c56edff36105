//! Ed25519 signatures as they stand in entries.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::crypto::{from_base64, to_base64};

/// An Ed25519 signature (64 bytes), in JSON base64 (RFC 4648, padded).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl Signature {
    /// In base64 (RFC 4648, padded).
    #[must_use]
    pub fn to_base64(self) -> String {
        to_base64(&self.0)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = from_base64(&text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Signature).ok_or_else(|| serde::de::Error::custom("expected 64 bytes in base64"))
    }
}
