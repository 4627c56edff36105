//! `sealctl attest PATH FILE`: others' attestations.

use std::path::PathBuf;

use serde_json::Value;

use super::access;
use super::context::Context;
use super::exit::{Exit, Failure};
use crate::control::protocol::{AttestView, Request};

/// Longest file that is read, in bytes.
const MOST: u64 = 64 << 20;
/// Longest envelope that the daemon takes, in bytes.
const ENVELOPE: usize = 3 << 20;

/// Add an attestation that others made (cosign, witness, an SBOM or test tool) to a sealed file
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A sealed file
    #[arg(value_hint = clap::ValueHint::AnyPath)]
    path: PathBuf,
    /// A DSSE envelope, several (one a line), or a Sigstore bundle
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
}

/// Does it.
pub fn run(args: &Args, cx: &mut Context) -> Result<Exit, Failure> {
    let target = cx.target(&args.path)?;
    let fail = |error: &dyn std::fmt::Display| Failure::about(args.file.display(), Exit::Failed, error);
    let size = std::fs::metadata(&args.file).map_err(|error| fail(&error))?.len();
    if size > MOST {
        return Err(fail(&format_args!("{size} bytes; an attestation has at most 3 MiB")));
    }
    let text = std::fs::read_to_string(&args.file).map_err(|error| fail(&error))?;
    for envelope in envelopes(&text).map_err(|error| fail(&error))? {
        if envelope.len() > ENVELOPE {
            return Err(fail(
                &"an envelope of more than 3 MiB; keep it as a file of its own and attest its hash",
            ));
        }
        let view: AttestView = access::ask_one(&target, &Request::Attest { envelope })?;
        if cx.json {
            cx.value(&view)?;
        } else {
            cx.line(&format!("{}: {} added", target.shown, view.predicate))?;
        }
    }
    Ok(Exit::Done)
}

/// The envelopes in a file, each as one line of JSON. What is signed is the payload, not the text around it.
fn envelopes(text: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        let value = value.map_err(|error| format!("{error}; expected a DSSE envelope in JSON"))?;
        // A Sigstore bundle wraps the envelope.
        let envelope = if value["dsseEnvelope"].is_object() { &value["dsseEnvelope"] } else { &value };
        found.push(envelope.to_string());
    }
    if found.is_empty() { Err("empty; expected a DSSE envelope".to_owned()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_are_found_in_each_wrapping() {
        let one = r#"{"payload":"e30=","payloadType":"t","signatures":[]}"#;
        assert_eq!(envelopes(one).unwrap(), [one]);
        assert_eq!(envelopes(&format!("{one}\n{one}\n")).unwrap(), [one, one]);
        let pretty = "{\n \"payload\": \"e30=\",\n \"payloadType\": \"t\", \"signatures\": []\n}\n";
        assert_eq!(envelopes(pretty).unwrap(), [one]);
        let bundle = format!(r#"{{"mediaType":"m","verificationMaterial":{{}},"dsseEnvelope":{one}}}"#);
        assert_eq!(envelopes(&bundle).unwrap(), [one]);
        for bad in ["", "{", "{} x"] {
            assert!(envelopes(bad).is_err(), "{bad}");
        }
    }
}
