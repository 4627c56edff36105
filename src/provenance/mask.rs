//! Command lines without the secrets that people put there.
//!
//! What is masked is a guess: by the names of options and variables, by where passwords stand in URLs and headers,
//! and by the shapes of well-known tokens. Too much costs little, too little much.

/// What stands in a secret's place.
const MASK: &str = "***";

/// Words in the name of an option, variable, parameter or header that make its value a secret.
const SECRET: [&str; 19] = [
    "token",
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "apikey",
    "accesskey",
    "privatekey",
    "authkey",
    "signingkey",
    "encryptionkey",
    "credential",
    "authorization",
    "auth",
    "bearer",
    "cookie",
    "signature",
    "sig",
];
/// Words that make it none all the same: the value says where, how or whether, not what.
const PLAIN: [&str; 14] = [
    "file", "path", "dir", "env", "store", "helper", "type", "method", "author", "stdin", "url", "prompt",
    "length", "expir",
];
/// How well-known tokens begin.
const TOKENS: [&str; 22] = [
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "glrt-",
    "gldt-",
    "xoxa-",
    "xoxb-",
    "xoxp-",
    "xoxr-",
    "sk-",
    "sk_live_",
    "rk_live_",
    "npm_",
    "pypi-",
    "dop_v1_",
    "hvs.",
    "AGE-SECRET-KEY-",
    "eyJ",
];

/// The arguments with secrets replaced by `***`.
#[must_use]
pub fn mask(arguments: &[String]) -> Vec<String> {
    let mut masked = Vec::with_capacity(arguments.len());
    let mut next = Next::Plain;
    for argument in arguments {
        let text = match std::mem::replace(&mut next, Next::Plain) {
            Next::Secret if !argument.starts_with('-') => MASK.to_owned(),
            Next::UserAndSecret => user_and_secret(argument),
            _ => {
                next = follows(argument);
                one(argument)
            }
        };
        masked.push(text);
    }
    masked
}

/// One value with secrets replaced: what stands in URLs, and tokens.
#[must_use]
pub fn mask_value(text: &str) -> String {
    tokens(&urls(text))
}

/// What the argument after this one is.
enum Next {
    Plain,
    Secret,
    /// `user:secret`, as curl takes it.
    UserAndSecret,
}

fn follows(argument: &str) -> Next {
    if matches!(argument, "-u" | "--user" | "--proxy-user") {
        return Next::UserAndSecret;
    }
    let is_option = argument.starts_with('-') && !argument.contains(['=', ' ', ':']);
    if is_option && is_secret(argument) { Next::Secret } else { Next::Plain }
}

/// `user:secret` with its second part masked.
fn user_and_secret(argument: &str) -> String {
    match argument.split_once(':') {
        Some((user, _)) => format!("{user}:{MASK}"),
        None => one(argument),
    }
}

fn one(argument: &str) -> String {
    if argument.contains("PRIVATE KEY-----") {
        return MASK.to_owned();
    }
    // `NAME=value`, `--name=value`, `-Dname=value`: to the end, since the value may hold spaces.
    if let Some((name, value)) = argument.split_once('=')
        && !name.contains(['/', '?', ' ', ':'])
        && !value.is_empty()
        && is_secret(name)
    {
        return format!("{name}={MASK}");
    }
    // `Header: value`.
    if let Some((name, value)) = argument.split_once(':')
        && !value.starts_with("//")
        && !name.contains(['/', '=', ' '])
        && !value.trim().is_empty()
        && is_secret(name)
    {
        return format!("{name}: {MASK}");
    }
    if argument.contains('"') && argument.contains('{') {
        return mask_value(&json_values(argument));
    }
    if argument.contains(char::is_whitespace) {
        return words(argument);
    }
    mask_value(argument)
}

/// JSON in an argument: strings under names of secrets. What is cut short is masked to its end.
fn json_values(text: &str) -> String {
    let (mut out, mut rest, mut secret) = (String::new(), text, false);
    while let Some(begin) = rest.find('"') {
        let (before, from) = rest.split_at(begin + 1);
        out.push_str(before);
        let end = string_end(from);
        let (string, after) = from.split_at(end);
        let is_name = after.trim_start_matches('"').trim_start().starts_with(':');
        out.push_str(if secret && !is_name { MASK } else { string });
        secret = is_name && is_secret(string);
        match after.strip_prefix('"') {
            Some(after) => {
                out.push('"');
                rest = after;
            }
            None => rest = "",
        }
    }
    out.push_str(rest);
    out
}

/// Where a JSON string ends, after its opening quotation mark.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !escaped => return at,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// A command in one argument (`sh -c '…'`): its words, each as an argument. White space stays as it is.
fn words(text: &str) -> String {
    let pieces: Vec<&str> = text.split_inclusive(char::is_whitespace).collect();
    let plain: Vec<String> =
        pieces.iter().map(|piece| piece.trim_end().trim_matches(['\'', '"']).to_owned()).collect();
    let masked: Vec<String> = {
        let mut masked = Vec::with_capacity(plain.len());
        let mut next = Next::Plain;
        for word in &plain {
            if word.is_empty() {
                masked.push(String::new());
                continue;
            }
            let bearer = word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic");
            let header = word.strip_suffix(':').is_some_and(is_secret);
            let text = match std::mem::replace(&mut next, Next::Plain) {
                Next::Secret if bearer => {
                    next = Next::Secret;
                    word.clone()
                }
                Next::Secret if !word.starts_with('-') => MASK.to_owned(),
                Next::UserAndSecret => user_and_secret(word),
                _ => {
                    next = if bearer || header { Next::Secret } else { follows(word) };
                    one(word)
                }
            };
            masked.push(text);
        }
        masked
    };
    pieces
        .iter()
        .zip(plain.iter().zip(&masked))
        .map(
            |(piece, (plain, masked))| {
                if plain.is_empty() { (*piece).to_owned() } else { piece.replacen(plain.as_str(), masked, 1) }
            },
        )
        .collect()
}

/// Whether a name is one of a secret.
fn is_secret(name: &str) -> bool {
    let name: String =
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    if name == "pass" || name == "pw" || name.ends_with("pass") && !name.contains("bypass") {
        return true;
    }
    SECRET.iter().any(|word| match *word {
        // Short words mean it only as the whole name or at its end.
        "sig" | "auth" => name == *word || name.len() > word.len() + 1 && name.ends_with(word),
        word => name.contains(word),
    }) && !PLAIN.iter().any(|word| name.contains(word) && !name.contains("authorization"))
}

/// User and password of URLs, and secret parameters.
fn urls(text: &str) -> String {
    let Some(at) = text.find("://") else { return text.to_owned() };
    let (before, rest) = text.split_at(at + 3);
    let end = rest.find(['/', '?', '#', ' ', '\'', '"']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((user, _)) => format!("{}:{MASK}@{host}", if user.len() >= 16 { MASK } else { user }),
            None if user.len() >= 16 => format!("{MASK}@{host}"),
            None => format!("{user}@{host}"),
        },
        None => authority.to_owned(),
    };
    format!("{before}{authority}{}", parameters(after))
}

fn parameters(text: &str) -> String {
    let Some((path, query)) = text.split_once('?') else { return urls(text) };
    let parts: Vec<String> = query
        .split('&')
        .map(|part| match part.split_once('=') {
            Some((name, _)) if is_secret(name) => format!("{name}={MASK}"),
            _ => part.to_owned(),
        })
        .collect();
    format!("{path}?{}", parts.join("&"))
}

/// Tokens by their shape, wherever they stand.
fn tokens(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find(is_part) {
        let (before, from) = rest.split_at(begin);
        out.push_str(before);
        let end = from.find(|c| !is_part(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        out.push_str(if is_token(word) { MASK } else { word });
        rest = after;
    }
    out.push_str(rest);
    out
}

fn is_token(word: &str) -> bool {
    let known = TOKENS.iter().any(|begin| {
        let long = if *begin == "eyJ" { 40 } else { begin.len() + 16 };
        word.starts_with(begin) && word.len() >= long && !word.contains("..")
    });
    let aws = (word.starts_with("AKIA") || word.starts_with("ASIA"))
        && word.len() == 20
        && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    known || aws
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(line: &[&str]) -> Vec<String> {
        mask(&line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn secrets_are_masked() {
        let ghp = format!("ghp_{}", "a1".repeat(18));
        let jwt = format!("eyJ{}.eyJ{}.{}", "a".repeat(20), "b".repeat(30), "c".repeat(30));
        for (line, expected) in [
            (&["x", "--token=abc"][..], &["x", "--token=***"][..]),
            (&["x", "--token", "abc", "out"], &["x", "--token", "***", "out"]),
            (&["x", "--password", "--quiet"], &["x", "--password", "--quiet"]),
            (&["x", "--api-key", "k", "--api_key=k"], &["x", "--api-key", "***", "--api_key=***"]),
            (&["env", "AWS_SECRET_ACCESS_KEY=q/w", "a"], &["env", "AWS_SECRET_ACCESS_KEY=***", "a"]),
            (&["x", "-Dsonar.login.token=abc"], &["x", "-Dsonar.login.token=***"]),
            (&["git", "clone", "https://me:pw@h/r.git"], &["git", "clone", "https://me:***@h/r.git"]),
            (&["git", "https://0123456789abcdef0@h/r"], &["git", "https://***@h/r"]),
            (
                &["curl", "-u", "me:pw", "https://h/?a=1&token=x&b=2"],
                &["curl", "-u", "me:***", "https://h/?a=1&token=***&b=2"],
            ),
            (&["curl", "-H", "Authorization: Bearer xyz"], &["curl", "-H", "Authorization: ***"]),
            (&["curl", "-H", "PRIVATE-TOKEN: xyz"], &["curl", "-H", "PRIVATE-TOKEN: ***"]),
            (&["x", &ghp], &["x", "***"]),
            (&["x", &format!("a={jwt};b")], &["x", "a=***;b"]),
            (&["x", "AKIAIOSFODNN7EXAMPLE"], &["x", "***"]),
            (&["sh", "-c", "deploy --token abc --to x"], &["sh", "-c", "deploy --token *** --to x"]),
            (
                &["sh", "-c", "curl -H 'Authorization: Bearer abc' h"],
                &["sh", "-c", "curl -H 'Authorization: Bearer ***' h"],
            ),
            (&["sh", "-c", "PGPASSWORD=x psql -h db"], &["sh", "-c", "PGPASSWORD=***"]),
            (
                &["x", r#"{"a": "b", "api_key": "k\"y", "c":"d"}"#],
                &["x", r#"{"a": "b", "api_key": "***", "c":"d"}"#],
            ),
            (&["x", r#"{"DB_PASSWORD": "abc"#], &["x", r#"{"DB_PASSWORD": ***"#]),
            (&["mysql", "--password=pw"], &["mysql", "--password=***"]),
            (&["x", "--pass", "p"], &["x", "--pass", "***"]),
            (&["x", "https://h/a?X-Amz-Signature=abc&x=1"], &["x", "https://h/a?X-Amz-Signature=***&x=1"]),
            (&["x", "-----BEGIN OPENSSH PRIVATE KEY-----\nabc"], &["x", "***"]),
        ] {
            assert_eq!(masked(line), expected, "{line:?}");
        }
    }

    #[test]
    fn the_rest_stays() {
        for line in [
            &["rsync", "-a", "--passthrough", "src/", "dst"][..],
            &["openssl", "--password-file", "/run/p", "x"],
            &["cargo", "test", "tests/token.rs", "--features", "token-ring"],
            &["ssh", "-p", "8080", "host", "/path:with/colon"],
            &["cc", "-o", "a.out", "-DVERSION=1.2", "-I../x"],
            &["git", "commit", "--author", "A <a@b>", "--bypass", "x"],
            &["wget", "https://user@h/x?version=3"],
            &["x", "sk-learn", "npm_modules", "eyJ"],
        ] {
            assert_eq!(masked(line), line, "{line:?}");
        }
    }

    #[test]
    fn nothing_breaks_it() {
        for text in
            ["", "=", ":", "://", "://@", "a://b:c@", "?=&", "--=", "é ü", "' '", "a  b", "-u", "Bearer "]
        {
            let _ = masked(&[text, text]);
            let _ = mask_value(text);
        }
    }
}
