//! Whether a name (of an option, variable, parameter, header or field) is one of a secret.

/// What stands anywhere in such a name, letters and digits only, in lower case.
const ANYWHERE: [&str; 26] = [
    "token",
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "pwd",
    "secret",
    "credential",
    "authorization",
    "authkey",
    "oauth",
    "bearer",
    "cookie",
    "apikey",
    "accesskey",
    "privatekey",
    "signature",
    "mnemonic",
    "connectionstring",
    "extraheader",
    "sonarlogin",
    "kennwort",
    "passwort",
    "contrasena",
    "motdepasse",
    "jwt",
];
/// How such a name ends.
const AT_THE_END: [&str; 14] = [
    "auth", "sig", "pass", "pw", "key", "pat", "psk", "otp", "dsn", "creds", "passin", "passout", "session",
    "sid",
];
/// Words (parts between signs, or beginning with a capital) that make a name one of a secret.
const AS_A_WORD: [&str; 12] =
    ["sas", "pass", "pw", "pat", "pin", "psk", "otp", "auth", "key", "creds", "cred", "pword"];
/// How a name ends whose value says where, how or whether, not what.
const PLAIN_ENDS: [&str; 18] = [
    "file",
    "path",
    "dir",
    "env",
    "helper",
    "type",
    "method",
    "author",
    "stdin",
    "url",
    "prompt",
    "length",
    "expiry",
    "expires",
    "expiresin",
    "name",
    "ttl",
    "publickey",
];
/// Whole names that only look like it.
const PLAIN: [&str; 8] = ["oauth2", "bypass", "compass", "monkey", "pubkey", "config", "hotkey", "sortkey"];

/// Longest name that is looked at, in bytes.
const LONGEST: usize = 256;

/// Whether the value under this name is a secret.
pub(super) fn is_secret(name: &str) -> bool {
    if name.len() > LONGEST {
        return true;
    }
    let plain: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    if PLAIN.contains(&plain.as_str()) || PLAIN_ENDS.iter().any(|end| plain.ends_with(end)) {
        return false;
    }
    // Half of `ssh-keygen -N`'s kin is `sig`, the other half `config`, `design` and the like.
    ANYWHERE.iter().any(|word| plain.contains(word))
        || AT_THE_END
            .iter()
            .any(|end| plain.ends_with(end) && plain.len() != end.len() + 1 && !is_word(&plain))
        || words(name).any(|word| AS_A_WORD.contains(&word.as_str()))
}

/// Ordinary words that end like names of secrets.
fn is_word(name: &str) -> bool {
    ["format", "bypass", "compass", "monkey", "turkey", "repat", "compat", "encompass", "surpass"]
        .iter()
        .any(|word| name.ends_with(word))
}

/// The parts of a name: `db_pass`, `dbPass`, `db.pass`.
fn words(name: &str) -> impl Iterator<Item = String> {
    let (mut found, mut word, mut was_lower) = (Vec::new(), String::new(), false);
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() || c.is_ascii_uppercase() && was_lower {
            found.push(std::mem::take(&mut word));
        }
        if c.is_ascii_alphanumeric() {
            word.push(c.to_ascii_lowercase());
        }
        was_lower = c.is_ascii_lowercase();
    }
    found.push(word);
    found.into_iter()
}

/// Whether a word names a way to authenticate, after which the secret follows: `Bearer …`.
pub(super) fn is_scheme(word: &str) -> bool {
    let schemes =
        ["bearer", "basic", "token", "digest", "negotiate", "ntlm", "apikey", "key", "aws4-hmac-sha256"];
    schemes.iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        for name in [
            "token",
            "DB_PASSWORD",
            "--api-key",
            "client_secret",
            "keyStorePassword",
            "ansible_ssh_pass",
            "PAT",
            "github_pat",
            "key",
            "AWS_SECRET_ACCESS_KEY",
            "X-Vault-Token",
            "Cookie",
            "auth",
            "dbPass",
            "MYSQL_PWD",
            "-storepass",
            "sig",
            "passin",
            "gpg.passphrase",
            "smtp_auth",
            "PGPASSWORD",
            "pass",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "--password-file",
            "passthrough",
            "bypass",
            "--author",
            "format",
            "TOKEN_PATH",
            "password-stdin",
            "compat",
            "path",
            "design",
            "--passive",
            "config",
            "token_url",
            "x",
            "VERSION",
            "secretName",
            "public_key",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
