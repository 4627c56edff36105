//! Secrets by their shape alone: tokens of known services, random text, private keys.
//!
//! How tokens begin is a collection of facts, in part from the rules of gitleaks
//! (<https://github.com/gitleaks/gitleaks>, MIT licence).

use super::Hidden;

/// How a token begins, and how many signs follow at least.
const TOKENS: &[(&str, usize)] = &[
    ("A3-", 20),
    ("ABSK", 40),
    ("AGE-SECRET-KEY-", 16),
    ("AIza", 30),
    ("AKCp", 30),
    ("API-", 26),
    ("ATATT3", 20),
    ("ATBB", 24),
    ("ATCTT3", 20),
    ("CLOJARS_", 20),
    ("EAAA", 22),
    ("EZAK", 20),
    ("EZTK", 20),
    ("FLWSECK", 16),
    ("GOCSPX-", 16),
    ("GR1348941", 16),
    ("HRKU-", 20),
    ("LTAI", 16),
    ("NRAK-", 16),
    ("NRII-", 16),
    ("NRJS-", 16),
    ("NRRA-", 16),
    ("PMAK-", 16),
    ("SG.", 16),
    ("SK", 32),
    ("T3BlbkFJ", 16),
    ("aio_", 20),
    ("api_org_", 20),
    ("bedrock-api-key-", 8),
    ("bkua_", 20),
    ("cfut_", 20),
    ("cio_", 20),
    ("ckey_", 20),
    ("dapi", 32),
    ("dckr_oat_", 16),
    ("dckr_pat_", 16),
    ("dn_", 32),
    ("doo_v1_", 16),
    ("dop_v1_", 16),
    ("dor_v1_", 16),
    ("dp.ct.", 16),
    ("dp.pt.", 16),
    ("dp.st.", 16),
    ("dt0c01.", 16),
    ("duffel_", 16),
    ("ey", 40),
    ("fio-u-", 16),
    ("flb_live_", 10),
    ("fm1r_", 16),
    ("fm1a_", 16),
    ("fm2_", 16),
    ("fo1_", 16),
    ("gho_", 16),
    ("ghp_", 16),
    ("ghr_", 16),
    ("ghs_", 16),
    ("ghu_", 16),
    ("github_pat_", 16),
    ("glagent-", 16),
    ("glc_", 20),
    ("glcbt-", 16),
    ("gldt-", 16),
    ("glffct-", 16),
    ("glft-", 16),
    ("glimt-", 16),
    ("gloas-", 16),
    ("glpat-", 16),
    ("glptt-", 16),
    ("glrt-", 16),
    ("glsa_", 16),
    ("glsoat-", 16),
    ("gsk_", 20),
    ("hf_", 20),
    ("hvb.", 16),
    ("hvr.", 16),
    ("hvs.", 16),
    ("ico-", 32),
    ("key-", 32),
    ("lin_api_", 16),
    ("lin_oauth_", 16),
    ("live_", 20),
    ("nfp_", 20),
    ("npm_", 20),
    ("ntn_", 20),
    ("nvapi-", 20),
    ("ops_", 40),
    ("oy2", 40),
    ("p8e-", 20),
    ("pat.", 20),
    ("phc_", 20),
    ("phx_", 20),
    ("pnu_", 20),
    ("pplx-", 20),
    ("pscale_", 16),
    ("pul-", 20),
    ("pypi-", 16),
    ("rdme_", 20),
    ("rk_", 16),
    ("rubygems_", 16),
    ("sbp_", 20),
    ("secret_", 20),
    ("sgp_", 16),
    ("shippo_", 16),
    ("sk-", 20),
    ("sk_", 16),
    ("sm_", 18),
    ("sntry", 16),
    ("tfp_", 20),
    ("tk-us-", 20),
    ("whsec_", 16),
    ("SFP", 32),
    ("cfk_", 20),
    ("figd_", 16),
    ("figo_", 16),
    ("sha256~", 30),
    ("shpat_", 16),
    ("shpca_", 16),
    ("shppa_", 16),
    ("shpss_", 16),
    ("sq0", 16),
    ("tskey-", 10),
    ("vercel_", 20),
    ("xapp-", 10),
    ("xkeysib-", 16),
    ("xoxa-", 8),
    ("xoxb-", 8),
    ("xoxe", 8),
    ("xoxo-", 8),
    ("xoxp-", 8),
    ("xoxs-", 8),
];
/// Of what cannot be told from words but by length: key numbers of AWS and its kin.
const AWS: [&str; 7] = ["AKIA", "ASIA", "ABIA", "ACCA", "AROA", "AIDA", "A3T"];

/// What stands before a digest that is no secret, within [`LOOK_BACK`] bytes.
const DIGESTS: [&str; 16] = [
    "sha",
    "commit",
    "rev",
    "ref",
    "digest",
    "checksum",
    "hash",
    "md5",
    "blake",
    "@",
    "tree",
    "integrity",
    "/nix/store/",
    "uuid",
    "build-id",
    "git",
];
/// How far back a digest's name is looked for, in bytes.
const LOOK_BACK: usize = 24;

/// How short random text may be to be hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Random {
    /// From ten signs on, as passwords are.
    Short,
    /// From twenty on, and digests stay: names of branches and runners are no passwords.
    Long,
    /// As short, but whole digests stay: the program takes them.
    ShortNoDigest,
    /// Not at all: folders are named at random, and no secret by that.
    Never,
}

/// Marks tokens and random text.
pub(super) fn tokens(text: &str, random: Random, hidden: &mut Hidden) {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '/' | '=' | '.' | '~');
    let mut rest = text;
    while let Some(begin) = rest.find(is_part) {
        rest = &rest[begin..];
        let at = text.len() - rest.len();
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        known(&rest[..end], at, hidden);
        if random != Random::Never {
            random_text(text, &rest[..end], at, random, hidden);
        }
        rest = &rest[end..];
    }
}

/// Tokens that begin as one does, at the begin of a run or after a sign in it.
fn known(run: &str, at: usize, hidden: &mut Hidden) {
    let bytes = run.as_bytes();
    for start in 0..bytes.len() {
        if start > 0 && bytes[start - 1].is_ascii_alphanumeric() {
            continue;
        }
        let from = &run[start..];
        let is_known = TOKENS.iter().any(|(begin, more)| {
            from.strip_prefix(begin).is_some_and(|rest| {
                let rest = rest.split(['/', '=']).next().unwrap_or_default();
                rest.len() >= *more && !rest.contains("..") && is_token_text(rest)
            })
        });
        let is_aws = AWS.iter().any(|begin| from.starts_with(begin))
            && from
                .bytes()
                .take(20)
                .filter(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
                .count()
                == 20;
        if is_known || is_aws {
            hidden.hide(at + start..at + run.len());
            return;
        }
    }
}

/// Whether what follows a token's begin can be one: `sk-learn-contrib-examples` is made of words.
fn is_token_text(text: &str) -> bool {
    let letters = text.bytes().filter(u8::is_ascii_alphanumeric).count();
    let longest = text.split(|c: char| !c.is_ascii_alphanumeric()).map(str::len).max().unwrap_or(0);
    letters > 0 && (longest >= 12 || text.bytes().any(|byte| byte.is_ascii_digit()))
}

/// Random text: hexadecimal from 32 digits on, and what changes between kinds of signs as no word does.
fn random_text(text: &str, run: &str, at: usize, random: Random, hidden: &mut Hidden) {
    let shortest = if random == Random::Long { 20 } else { 10 };
    let before = &text[floor(text, at.saturating_sub(LOOK_BACK))..at];
    if run.len() >= 40 && run.contains('/') && !run.starts_with('/') && !run.contains('.') && is_random(run) {
        return hidden.hide(at..at + run.len());
    }
    let mut from = 0;
    for piece in run.split(['/', '.', '=', '~']) {
        let start = at + from;
        from += piece.len() + 1;
        if piece.len() < shortest || is_digest(text, before, run, piece, random) {
            continue;
        }
        let is_hex = |part: &str| part.len() >= 32 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_random(piece) || piece.split(['-', '_']).any(|part| is_hex(part) || is_digits_and_letters(part))
        {
            hidden.hide(start..start + piece.len());
        }
    }
}

/// A character's begin at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// Digests of commits and of content are no secrets, where something says that it is one.
fn is_digest(text: &str, before: &str, run: &str, piece: &str, random: Random) -> bool {
    let hex = piece.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex
        && matches!(piece.len(), 40 | 64)
        && (random == Random::ShortNoDigest || random == Random::Long && run == text)
    {
        return true;
    }
    let before = format!("{before}{}", &run[..run.find(piece).unwrap_or(0)]).to_ascii_lowercase();
    let named = DIGESTS.iter().any(|name| before.contains(name)) || piece.starts_with("sha");
    named && (hex || before.contains("sha") || piece.starts_with("sha") || before.contains("/nix/store/"))
}

/// Letters and digits without capitals: from twenty on, with many changes between them.
fn is_digits_and_letters(text: &str) -> bool {
    let kinds: Vec<bool> = text.bytes().map(|byte| byte.is_ascii_digit()).collect();
    text.len() >= 20
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && !text.bytes().all(|byte| byte.is_ascii_hexdigit())
        && kinds.windows(2).filter(|pair| pair[0] != pair[1]).count() >= 5
}

/// Whether a text has small letters, capitals and digits, and goes from one kind to another as random text does: in
/// random base64 two of three neighbours differ in kind, in names one of five.
pub(super) fn is_random(text: &str) -> bool {
    let kind = |byte: u8| match byte {
        b'a'..=b'z' => 1,
        b'A'..=b'Z' => 2,
        b'0'..=b'9' => 4,
        _ => 8,
    };
    let kinds: Vec<u8> = text.bytes().map(kind).filter(|kind| *kind != 8).collect();
    let changes = kinds.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let all = kinds.iter().fold(0, |all, kind| all | kind);
    // The longer the text, the surer is less.
    let least = if kinds.len() >= 32 { 3 } else { 4 };
    kinds.len() >= 10 && all == 7 && changes * 10 >= (kinds.len() - 1) * least
}

/// Private keys, from the line that begins one to the line that ends it.
pub(super) fn private_keys(text: &str, hidden: &mut Hidden) {
    let mut from = 0;
    while let Some(begin) = text.get(from..).and_then(|rest| rest.find("-----BEGIN")).map(|at| from + at) {
        let header = text[begin..].get("-----BEGIN".len()..).unwrap_or_default();
        let header = header.get(..header.find("-----").unwrap_or(header.len())).unwrap_or_default();
        let end = text[begin..].find("-----END").map_or(text.len(), |at| {
            let after = begin + at + "-----END".len();
            text[after..].find("-----").map_or(text.len(), |at| after + at + "-----".len())
        });
        let is_public =
            header.contains("PUBLIC") || header.contains("CERTIFICATE") && !header.contains("PRIVATE");
        if !is_public {
            hidden.hide(begin..end);
        }
        from = end.max(begin + 1);
    }
}

/// Whether a private key begins in a text and does not end in it.
pub(super) fn key_goes_on(text: &str) -> bool {
    text.rfind("-----BEGIN").is_some_and(|begin| !text[begin..].contains("-----END")) && !text.ends_with('…')
}
