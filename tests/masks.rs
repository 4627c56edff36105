//! Command lines with secrets, as people write them: none comes through; and lines without, which stay.
//!
//! `masks/hidden.txt` has a command line in each line, as a JSON array; what must not come through stands between « and
//! ». `masks/shown.txt` has those that stay as they are.

use sealfs::provenance::{mask, mask_value};

fn lines(text: &str) -> Vec<Vec<String>> {
    text.lines()
        .filter(|line| line.starts_with('['))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

/// The arguments without marks, and the secrets.
fn unmarked(marked: &[String]) -> (Vec<String>, Vec<String>) {
    let mut secrets = Vec::new();
    for argument in marked {
        for piece in argument.split('«').skip(1) {
            secrets.push(piece.split('»').next().expect("a piece").to_owned());
        }
    }
    (marked.iter().map(|argument| argument.replace(['«', '»'], "")).collect(), secrets)
}

#[test]
fn no_secret_comes_through() {
    let lines = lines(include_str!("masks/hidden.txt"));
    assert!(lines.len() >= 200, "{} lines", lines.len());
    let mut leaks = Vec::new();
    for marked in &lines {
        let (plain, secrets) = unmarked(marked);
        assert!(!secrets.is_empty(), "{marked:?} marks nothing");
        let masked = mask(&plain);
        assert_eq!(masked.len(), plain.len());
        if let Some(secret) =
            secrets.iter().find(|secret| masked.iter().any(|word| word.contains(secret.as_str())))
        {
            leaks.push(format!("{secret} in {masked:?}"));
        }
        // The same line as one command for a shell.
        let quoted: Vec<String> = plain.iter().map(|word| quoted(word)).collect();
        let masked = mask(&["sh".to_owned(), "-c".to_owned(), quoted.join(" ")]);
        if let Some(secret) =
            secrets.iter().find(|secret| masked.iter().any(|word| word.contains(secret.as_str())))
        {
            leaks.push(format!("{secret} in sh -c {masked:?}"));
        }
    }
    assert!(leaks.is_empty(), "{} leaks of {} lines:\n{}", leaks.len(), lines.len(), leaks.join("\n"));
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=/.:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[test]
fn what_is_no_secret_stays() {
    let mut changed = Vec::new();
    for line in lines(include_str!("masks/shown.txt")) {
        let masked = mask(&line);
        if masked != line {
            changed.push(format!("{line:?}\n  became {masked:?}"));
        }
    }
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}

#[test]
fn values_of_builds_stay() {
    for value in [
        "0123456789abcdef0123456789abcdef01234567",
        "https://github.com/o/r/actions/runs/5/attempts/2",
        "o/r/.github/workflows/x.yml@refs/heads/main",
        "123e4567-e89b-12d3-a456-426614174000",
        "refs/heads/JIRA-1234-AbC",
        "/tmp/tmp.AbC3dEfG1h/build",
        "https://git@github.com/o/r.git",
    ] {
        assert_eq!(mask_value(value), value);
    }
    assert_eq!(mask_value("https://u:p/w@h/r"), "https://u:***@h/r");
    assert_eq!(mask_value("https://oauth2:glpat-abcdefghijklmnopqrst@h/r"), "https://oauth2:***@h/r");
}
