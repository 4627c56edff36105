//! User and password in addresses, with and without a scheme, and addresses that are secrets themselves.

use super::{Hidden, shapes};

/// Longest user's name that is taken for a person's; a longer one is a token.
const USER_MAX: usize = 15;
/// After these the rest of an address is a secret (webhooks).
const WEBHOOKS: [&str; 7] = [
    "hooks.slack.com/",
    "/api/webhooks/",
    "webhook.office.com/",
    "hooks.zapier.com/hooks/",
    "/webhook/",
    "chat.googleapis.com/v1/spaces/",
    "api.telegram.org/bot",
];

/// Marks what is secret in the addresses of a text.
pub(super) fn find(text: &str, hidden: &mut Hidden) {
    let mut from = 0;
    for word in text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>')) {
        in_word(word, from, hidden);
        from += word.len();
        from += text.get(from..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    }
}

fn in_word(word: &str, at: usize, hidden: &mut Hidden) {
    for mark in WEBHOOKS {
        if let Some(found) = word.find(mark) {
            hidden.hide(at + found + mark.len()..at + word.len());
        }
    }
    // A piece ends where the next address begins.
    let starts: Vec<usize> = word.match_indices("://").map(|(begin, mark)| begin + mark.len()).collect();
    if starts.is_empty() {
        return authority(word, at, false, hidden);
    }
    for (n, start) in starts.iter().enumerate() {
        let end = starts.get(n + 1).copied().unwrap_or(word.len());
        if let Some(piece) = word.get(*start..end) {
            authority(piece, at + start, true, hidden);
        }
    }
}

/// `user:secret@host`. The secret may hold any sign, `/`, `?`, `#` and `@` too: it reaches to the last `@`.
fn authority(text: &str, at: usize, has_scheme: bool, hidden: &mut Hidden) {
    let Some(end) = text.rfind('@') else { return };
    let (user_and_secret, host) = (&text[..end], &text[end + 1..]);
    let is_digest = ["sha1:", "sha256:", "sha384:", "sha512:"].iter().any(|name| host.starts_with(name));
    if !has_scheme && (is_digest || host.is_empty()) {
        return;
    }
    match user_and_secret.find(':') {
        Some(colon) if has_scheme || colon > 0 && !user_and_secret[..colon].contains('@') => {
            hidden.hide(at + colon + 1..at + end);
            let user = &user_and_secret[..colon];
            let secret = &user_and_secret[colon + 1..];
            let no_secret = matches!(secret, "" | "x-oauth-basic" | "x");
            if has_scheme && (user.len() > USER_MAX || no_secret || shapes::is_random(user)) {
                hidden.hide(at..at + colon);
            }
        }
        // `https://h/@scope/name` has no user.
        None if has_scheme
            && !user_and_secret.contains('/')
            && (user_and_secret.len() > USER_MAX || shapes::is_random(user_and_secret)) =>
        {
            hidden.hide(at..at + end);
        }
        _ => {}
    }
}
