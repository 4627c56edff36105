//! What others need in order to check seals: `allowed_signers` for ssh-keygen, PEM for openssl.

use std::collections::{BTreeSet, HashMap};

use crate::crypto::PublicKey;
use crate::crypto::signers::{SignersError, allowed_signers_line};
use crate::model::Origin;
use crate::policy::Policy;

/// Every namespace that seals are made under (by the policy) or were (`seen`, by the index), sorted.
#[must_use]
pub fn namespaces(policy: &Policy, seen: &[String]) -> Vec<String> {
    let decided = policy.rules().iter().chain([policy.defaults()]).map(|decision| &decision.namespace);
    decided.chain(seen).collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

/// The text of an `allowed_signers` file: for each key, in the order of fingerprints, one line that lets it
/// sign as `origin` for all of `namespaces`.
///
/// # Errors
/// If there is no namespace, or one that is not a plain word.
pub fn allowed_signers(
    origin: &Origin,
    namespaces: &[String],
    keys: &HashMap<String, PublicKey>,
) -> Result<String, SignersError> {
    let mut text = String::new();
    for key in sorted(keys) {
        text.push_str(&allowed_signers_line(origin, namespaces, key, "")?);
        text.push('\n');
    }
    Ok(text)
}

/// The keys as PEM, one after the other, in the order of fingerprints.
#[must_use]
pub fn keys_pem(keys: &HashMap<String, PublicKey>) -> String {
    sorted(keys).into_iter().map(PublicKey::to_pem).collect()
}

fn sorted(keys: &HashMap<String, PublicKey>) -> Vec<&PublicKey> {
    let mut sorted: Vec<_> = keys.iter().collect();
    sorted.sort_by_key(|(fingerprint, _)| *fingerprint);
    sorted.into_iter().map(|(_, key)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SigningKey;
    use crate::store::SystemNames;

    #[test]
    fn one_line_a_key_with_every_namespace() {
        let text = "[defaults]\nnamespace = \"b\"\n[[rule]]\nmatch = [\"x\"]\nnamespace = \"c\"\n";
        let policy = Policy::parse(text, "p", &SystemNames::default()).unwrap();
        let all = namespaces(&policy, &["a".to_owned(), "c".to_owned()]);
        assert_eq!(all, ["a", "b", "c"]);
        let keys: HashMap<_, _> = (0..2)
            .map(|_| SigningKey::generate().unwrap().public())
            .map(|key| (key.fingerprint(), key))
            .collect();
        let text = allowed_signers(&"acme/x".parse().unwrap(), &all, &keys).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| line.starts_with("acme/x namespaces=\"a,b,c\" ssh-ed25519 AAAA")));
        assert_eq!(keys_pem(&keys).matches("BEGIN PUBLIC KEY").count(), 2);
    }
}
