//! The clock's anchor as it is kept in the index: signed, so that a row that was edited frees nothing.
//!
//! The signature is a DSSE signature (Ed25519) by the log key over canonical JSON that names the store. A row without a
//! good one is that of a rebuilt or restored index, or somebody has edited it: then only the log's own time counts.

use serde_json::json;

use super::LedgerError;
use crate::clock::Anchor;
use crate::crypto::{PublicKey, dsse, jcs};
use crate::model::Timestamp;

/// DSSE payload type of a clock's anchor.
const ANCHOR_TYPE: &str = "application/vnd.sealfs.clock-anchor+json";

/// Signs anchors: returns the Ed25519 signature over these bytes.
pub type AnchorSigner = Box<dyn Fn(&[u8]) -> [u8; 64] + Send + Sync>;

/// An anchor and its signature, as read from the index. It is not believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnchor {
    /// What the row says.
    pub anchor: Anchor,
    /// The signature in the row.
    pub signature: Option<[u8; 64]>,
}

impl KeptAnchor {
    /// Whether this key has signed the anchor for the store of this name.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey, origin: &str) -> bool {
        let message = message(&self.anchor, origin);
        self.signature
            .zip(message.ok())
            .is_some_and(|(signature, message)| key.verify_raw(&message, &signature).is_ok())
    }
}

/// What is signed: the pre-authentication encoding of the anchor's canonical JSON.
///
/// # Errors
/// If it holds what canonical JSON cannot.
pub fn message(anchor: &Anchor, origin: &str) -> Result<Vec<u8>, LedgerError> {
    // As text: canonical JSON has no whole numbers beyond 2^53.
    let nanos = |time: std::time::Duration| time.as_nanos().to_string();
    let payload = jcs::canonical(&json!({
        "origin": origin,
        "sealfs": anchor.sealfs.0.to_string(),
        "bootId": anchor.boot_id,
        "boottime": anchor.boottime.to_string(),
        "wall": anchor.wall.0.to_string(),
        "believed": nanos(anchor.believed),
        "doubted": nanos(anchor.doubted),
    }))
    .map_err(|error| LedgerError::Entry(error.to_string()))?;
    Ok(dsse::pae(ANCHOR_TYPE, payload.as_bytes()))
}

/// The anchor of a store whose row is not believed: the time of the last entry in the log. What has passed since then
/// is doubted, all of it, until it is accepted.
#[must_use]
pub fn of_last_entry(time: Timestamp, wall: Timestamp) -> Anchor {
    Anchor {
        sealfs: time,
        boot_id: "of the log".to_owned(),
        boottime: 0,
        wall,
        believed: std::time::Duration::MAX,
        doubted: std::time::Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SigningKey;

    #[test]
    fn an_edited_anchor_or_that_of_another_store_is_not_signed() {
        let key = SigningKey::generate().unwrap();
        let anchor = of_last_entry(Timestamp(5), Timestamp(7));
        let anchor = Anchor { believed: std::time::Duration::ZERO, ..anchor };
        let signature = key.sign_raw(&message(&anchor, "a").unwrap());
        let kept = KeptAnchor { anchor, signature: Some(signature) };
        assert!(kept.is_signed_by(&key.public(), "a"));
        assert!(!kept.is_signed_by(&key.public(), "b"));
        assert!(!kept.is_signed_by(&SigningKey::generate().unwrap().public(), "a"));
        assert!(!KeptAnchor { signature: None, ..kept.clone() }.is_signed_by(&key.public(), "a"));
        let edits: [fn(&mut Anchor); 6] = [
            |anchor| anchor.sealfs.0 += 1,
            |anchor| anchor.boot_id.push('x'),
            |anchor| anchor.boottime += 1,
            |anchor| anchor.wall.0 += 1,
            |anchor| anchor.believed += std::time::Duration::from_nanos(1),
            |anchor| anchor.doubted += std::time::Duration::from_nanos(1),
        ];
        for (n, edit) in edits.into_iter().enumerate() {
            let mut edited = kept.clone();
            edit(&mut edited.anchor);
            assert!(!edited.is_signed_by(&key.public(), "a"), "edit {n}");
        }
    }
}
