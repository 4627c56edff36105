//! DSSE envelopes: the lines of `F.seal.jsonl` (Dead Simple Signing Envelope v1: protocol.md, envelope.md).

use super::{PublicKey, SigningKey, armor};

/// The longest envelope that is read (bytes).
pub const MAX_ENVELOPE: usize = 16 * 1024 * 1024;

/// The most signatures that an envelope may bear: each may have to be tried with each key.
pub const MAX_SIGNATURES: usize = 64;

/// Why an envelope is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DsseError {
    /// Longer than [`MAX_ENVELOPE`].
    #[error("the DSSE envelope is longer than 16 MiB")]
    TooLong,
    /// No JSON object with the fields of an envelope, or one of them twice.
    #[error("not a DSSE envelope: {0}")]
    Json(String),
    /// `payload` or a `sig` is not base64.
    #[error("not a DSSE envelope: {0} is not base64")]
    Base64(&'static str),
    /// No signature, or more than [`MAX_SIGNATURES`].
    #[error("the DSSE envelope has {0} signatures, not 1 to 64")]
    Signatures(usize),
    /// None of the signatures is one of the keys'.
    #[error("no signature of the DSSE envelope was made by a trusted key")]
    Untrusted,
}

/// An envelope as it was read. Nothing of it is proven before [`Envelope::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload_type: String,
    payload: Vec<u8>,
    signatures: Vec<Signature>,
}

/// One of an envelope's signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The signer's hint at the key, unproven and unused in verifying; empty if there is none.
    pub keyid: String,
    /// The signature; 64 bytes if it is Ed25519.
    pub sig: Vec<u8>,
}

impl Envelope {
    /// The media type of the payload; signed too.
    #[must_use]
    pub fn payload_type(&self) -> &str {
        &self.payload_type
    }

    /// What is signed.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// All signatures, also of keys that are not known.
    #[must_use]
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The first of `keys` that signed payload and type (DSSE protocol.md, threshold 1; Ed25519, RFC 8032). Which
    /// key is decided by the signature alone, never by `keyid`.
    ///
    /// # Errors
    /// If none of them did.
    pub fn verify<'k>(&self, keys: &'k [PublicKey]) -> Result<&'k PublicKey, DsseError> {
        let message = pae(&self.payload_type, &self.payload);
        let signed_by = |key: &&PublicKey| {
            let signatures =
                self.signatures.iter().filter_map(|s| <&[u8; 64]>::try_from(s.sig.as_slice()).ok());
            signatures.into_iter().any(|signature| key.verify_raw(&message, signature).is_ok())
        };
        keys.iter().find(signed_by).ok_or(DsseError::Untrusted)
    }
}

/// Pre-authentication encoding, the bytes that are signed (DSSE protocol.md):
/// `DSSEv1 LEN(type) type LEN(payload) payload`, lengths in decimal bytes, separated by single spaces.
#[must_use]
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

/// Signs payload and type (DSSE protocol.md; Ed25519, RFC 8032). The same each time.
#[must_use]
pub fn sign(key: &SigningKey, payload_type: &str, payload: &[u8]) -> [u8; 64] {
    key.sign_raw(&pae(payload_type, payload))
}

/// An envelope with one signature as one line of JSON, without a newline (DSSE envelope.md). The same each time.
#[must_use]
pub fn envelope(payload_type: &str, payload: &[u8], keyid: &str, signature: &[u8; 64]) -> String {
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    format!(
        r#"{{"payload":"{}","payloadType":{},"signatures":[{{"keyid":{},"sig":"{}"}}]}}"#,
        armor::base64(payload),
        quote(payload_type),
        quote(keyid),
        armor::base64(signature),
    )
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEnvelope {
    payload: String,
    payload_type: String,
    signatures: Vec<RawSignature>,
}

#[derive(serde::Deserialize)]
struct RawSignature {
    /// Unset and empty mean the same.
    #[serde(default)]
    keyid: Option<String>,
    sig: String,
}

/// Reads one envelope (DSSE envelope.md). Base64 may be in the standard or the URL-safe alphabet, padded; unknown
/// fields are ignored, as the specification asks; known ones may stand only once.
///
/// # Errors
/// If it is longer than 16 MiB, or no envelope.
pub fn parse(line: &[u8]) -> Result<Envelope, DsseError> {
    if line.len() > MAX_ENVELOPE {
        return Err(DsseError::TooLong);
    }
    let raw: RawEnvelope =
        serde_json::from_slice(line).map_err(|error| DsseError::Json(error.to_string()))?;
    if !(1..=MAX_SIGNATURES).contains(&raw.signatures.len()) {
        return Err(DsseError::Signatures(raw.signatures.len()));
    }
    let mut signatures = Vec::with_capacity(raw.signatures.len());
    for RawSignature { keyid, sig } in raw.signatures {
        let sig = armor::from_base64_either(&sig).ok_or(DsseError::Base64("sig"))?;
        signatures.push(Signature { keyid: keyid.unwrap_or_default(), sig });
    }
    let payload = armor::from_base64_either(&raw.payload).ok_or(DsseError::Base64("payload"))?;
    Ok(Envelope { payload_type: raw.payload_type, payload, signatures })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Dir;
    use super::*;

    const TYPE: &str = "application/vnd.in-toto+json";

    #[test]
    fn the_specifications_vector() {
        // DSSE protocol.md, "Test Vectors".
        let found = pae("http://example.com/HelloWorld", b"hello world");
        assert_eq!(found, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
        assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
        assert_eq!(pae("é", b"\xff"), b"DSSEv1 2 \xc3\xa9 1 \xff");
    }

    #[test]
    fn openssl_accepts_our_signature() {
        let dir = Dir::new();
        let key = SigningKey::generate().unwrap();
        dir.write("keys.pem", key.public().to_pem());
        dir.write("pae", pae(TYPE, b"{}"));
        let mut signature = sign(&key, TYPE, b"{}");
        let args =
            ["pkeyutl", "-verify", "-pubin", "-inkey", "keys.pem", "-rawin", "-in", "pae", "-sigfile", "sig"];
        dir.write("sig", signature);
        assert!(dir.run("openssl", &args).contains("Verified Successfully"));
        signature[5] ^= 1;
        dir.write("sig", signature);
        dir.try_run("openssl", &args, None).unwrap_err();
    }

    #[test]
    fn envelopes_round_trip() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let keys = [other.public(), key.public()];
        let payload = [&b"\xfb\xff\n\""[..], &[7; 100]].concat();
        let signature = sign(&key, TYPE, &payload);
        let line = envelope(TYPE, &payload, "SHA256:\"x\n", &signature);
        assert!(line.starts_with("{\"payload\":\"") && !line.contains('\n'));
        let parsed = parse(line.as_bytes()).unwrap();
        assert_eq!((parsed.payload_type(), parsed.payload()), (TYPE, &payload[..]));
        assert_eq!(
            parsed.signatures(),
            [Signature { keyid: "SHA256:\"x\n".into(), sig: signature.to_vec() }]
        );
        assert_eq!(parsed.verify(&keys), Ok(&keys[1]));
        assert_eq!(parsed.verify(&keys[..1]), Err(DsseError::Untrusted));
        assert_eq!(parsed.verify(&[]), Err(DsseError::Untrusted));

        let mut url_safe = line.clone();
        for field in [armor::base64(&payload), armor::base64(&signature)] {
            url_safe = url_safe.replace(&field, &field.replace('+', "-").replace('/', "_"));
        }
        assert_ne!(url_safe, line);
        assert_eq!(parse(url_safe.as_bytes()).unwrap(), parsed);
    }

    #[test]
    fn a_second_signature_may_be_of_any_kind() {
        let key = SigningKey::generate().unwrap();
        let signature = armor::base64(&sign(&key, "t", b"abc"));
        let text = format!(
            r#"{{"new":[1],"signatures":[{{"sig":""}},{{"keyid":null,"sig":"AAAA","cert":"x"}},{{"sig":"{signature}"}}],
               "payloadType":"t","payload":"YWJj"}}"#
        );
        let keys = [key.public()];
        let parsed = parse(text.as_bytes()).unwrap();
        assert_eq!(parsed.verify(&keys), Ok(&keys[0]));
        assert_eq!(parsed.signatures().len(), 3);
    }

    #[test]
    fn every_flipped_bit_is_refused_or_harmless() {
        let key = SigningKey::generate().unwrap();
        let keys = [key.public()];
        let line = envelope("t/x", b"payload", &key.public().fingerprint(), &sign(&key, "t/x", b"payload"));
        let good = parse(line.as_bytes()).unwrap();
        for at in 0..line.len() {
            for bit in 0..8 {
                let mut bad = line.clone().into_bytes();
                bad[at] ^= 1 << bit;
                if let Ok(found) = parse(&bad)
                    && found.verify(&keys).is_ok()
                {
                    // Only the hint may differ.
                    assert_eq!(found.payload_type(), "t/x");
                    assert_eq!(found.payload(), b"payload");
                    assert_eq!(found.signatures()[0].sig, good.signatures()[0].sig);
                }
            }
        }
    }

    #[test]
    fn what_is_not_quite_an_envelope_is_refused() {
        for bad in [
            "",
            "null",
            "{}",
            r#"{"payload":"YWJj","payloadType":"t"}"#,
            r#"{"payload":"YWJj","payloadType":"t","signatures":[]}"#,
            r#"{"payload":"YWJj","payloadType":"t","signatures":[{"keyid":"k"}]}"#,
            r#"{"payload":"YWJ","payloadType":"t","signatures":[{"sig":"AAAA"}]}"#,
            r#"{"payload":"YWJj","payloadType":"t","signatures":[{"sig":"A A="}]}"#,
            r#"{"payload":"YWJj","payload":"YWJk","payloadType":"t","signatures":[{"sig":"AAAA"}]}"#,
            r#"{"payload":"YWJj","payloadType":"t","signatures":[{"sig":"AAAA"}]} x"#,
            r#"{"payload":"YWJj","payloadType":1,"signatures":[{"sig":"AAAA"}]}"#,
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(parse(&vec![b' '; MAX_ENVELOPE + 1]), Err(DsseError::TooLong));
        let many = vec![r#"{"sig":"AAAA"}"#; MAX_SIGNATURES + 1].join(",");
        let text = format!(r#"{{"payload":"","payloadType":"t","signatures":[{many}]}}"#);
        assert_eq!(parse(text.as_bytes()), Err(DsseError::Signatures(65)));
    }
}
