//! Globs over paths from the mount's root.
//!
//! `*` and `?` stay inside one component, `**` as a whole component crosses directories (also none),
//! `[…]` and `{a,b}` as in a shell; case counts; a leading dot is nothing special. `?` and `[…]` stand for
//! one byte: in names beyond ASCII use `*`.

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

use super::error::{PolicyError, Source};
use super::read::At;
use crate::model::RelPath;

/// The globs of all rules, matched in one pass.
#[derive(Debug, Clone)]
pub(super) struct RuleGlobs {
    matching: Globs,
    /// What a rule leaves to those after it.
    except: Globs,
}

impl RuleGlobs {
    /// Compiles the globs of each rule: what it matches, and what it excepts from that.
    pub fn new(
        matching: &[Vec<At<&str>>],
        except: &[Vec<At<&str>>],
        source: Source<'_>,
    ) -> Result<Self, PolicyError> {
        Ok(RuleGlobs { matching: Globs::new(matching, source)?, except: Globs::new(except, source)? })
    }

    /// The first rule with a glob that matches.
    pub fn first_rule(&self, path: &RelPath) -> Option<usize> {
        self.first(path).map(|(rule, _)| *rule)
    }

    /// Rules that never apply, each with the one before it that matches all that it matches. Only what is seen from the
    /// text is found: the same glob, `**`, or `X/**` before what begins with `X/`.
    pub fn covered(&self) -> Vec<(usize, usize)> {
        let excepts = |rule: usize| self.except.owners.iter().any(|(owner, _)| *owner == rule);
        let rules = self.matching.owners.last().map_or(0, |(rule, _)| rule + 1);
        let globs = |rule: usize| self.matching.owners.iter().filter(move |(owner, _)| *owner == rule);
        let mut covered = Vec::new();
        for rule in 1..rules {
            // Each glob by any rule before; the one that covers the first glob is named.
            let by = |glob: &str| {
                (0..rule)
                    .find(|before| !excepts(*before) && globs(*before).any(|(_, other)| covers(other, glob)))
            };
            let found: Option<Vec<usize>> = globs(rule).map(|(_, glob)| by(glob)).collect();
            if let Some(before) = found.and_then(|found| found.first().copied()) {
                covered.push((rule, before));
            }
        }
        covered
    }

    /// The first glob, in the order of the policy, that matches.
    pub fn first_glob(&self, path: &RelPath) -> Option<&str> {
        self.first(path).map(|(_, glob)| glob.as_str())
    }

    fn first(&self, path: &RelPath) -> Option<&(usize, String)> {
        let path = Candidate::from_bytes(path.as_str());
        let mut matching = self.matching.of(&path).peekable();
        matching.peek()?;
        let excepted: Vec<usize> = self.except.of(&path).map(|(rule, _)| *rule).collect();
        matching.find(|(rule, _)| !excepted.contains(rule))
    }
}

/// Globs of rules, in order.
#[derive(Debug, Clone)]
struct Globs {
    set: GlobSet,
    /// For each glob of the set, in order: its rule, and its text as the user wrote it.
    owners: Vec<(usize, String)>,
}

impl Globs {
    fn new(rules: &[Vec<At<&str>>], source: Source<'_>) -> Result<Self, PolicyError> {
        let mut set = GlobSetBuilder::new();
        let mut owners = Vec::new();
        for (rule, globs) in rules.iter().enumerate() {
            for glob in globs {
                let bad = |found: String, expected: String| {
                    source.error(&glob.span, format!("glob {:?} {found}", glob.value), expected)
                };
                let text = checked(glob.value).map_err(|(found, expected)| bad(found, expected))?;
                let built = GlobBuilder::new(&text)
                    .literal_separator(true)
                    .empty_alternates(true)
                    .backslash_escape(true)
                    .build()
                    .map_err(|error| {
                        bad(format!("is not valid ({})", error.kind()), "a valid glob".into())
                    })?;
                set.add(built);
                owners.push((rule, glob.value.to_owned()));
            }
        }
        let set = set.build().map_err(|error| {
            let span = rules.iter().flatten().next().map_or(0..0, |glob| glob.span.clone());
            source.error(&span, format!("the globs cannot be compiled ({})", error.kind()), "simpler globs")
        })?;
        Ok(Globs { set, owners })
    }

    /// Those that match, in the order of the policy.
    fn of(&self, path: &Candidate<'_>) -> impl Iterator<Item = &(usize, String)> {
        // Numbers come in ascending order, and globs were added rule by rule.
        self.set.matches_candidate(path).into_iter().filter_map(|number| self.owners.get(number))
    }
}

/// Whether one glob matches all that another one does, as far as their texts show.
fn covers(glob: &str, other: &str) -> bool {
    if glob == other || glob == "**" {
        return true;
    }
    let is_literal = |text: &str| !text.contains(['*', '?', '[', '{', '\\']);
    glob.strip_suffix("/**").is_some_and(|folder| {
        is_literal(folder)
            && other.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/') && rest != "/**")
    })
}

/// What was found and what was expected.
type Mistake = (String, String);

fn mistake<T>(found: &str, expected: &str) -> Result<T, Mistake> {
    Err((found.to_owned(), expected.to_owned()))
}

/// Refuses globs that could never match or do not mean what they seem to; hands back the glob with
/// `/` taken out of negated classes, where `globset` would let it match.
fn checked(glob: &str) -> Result<String, Mistake> {
    if glob.is_empty() {
        return mistake("is empty", "a glob such as \"releases/**\"");
    }
    if glob.starts_with('/') {
        return mistake(
            "starts with '/'",
            "a glob over the path from the mount's root, without a leading '/'",
        );
    }
    if let Some(folder) = glob.strip_suffix('/') {
        return mistake("ends with '/'", &format!("\"{folder}/**\" for all that is in the folder"));
    }
    if glob.split('/').any(|part| part.is_empty() || part == ".") {
        return mistake("has an empty component or '.'", "components that a path can have");
    }
    if glob.contains(char::is_control) {
        return mistake("holds a control character", "characters that a name can have");
    }
    for part in glob.split(['/', '{', '}', ',']) {
        if part == ".." {
            return mistake("contains '..'", "a glob over paths inside the mount");
        }
        if part.contains("**") && part != "**" {
            return mistake("has '**' inside a component", "'**' as a whole component, as in \"a/**/*.deb\"");
        }
    }
    without_slash_in_classes(glob)
}

/// See [`checked`].
fn without_slash_in_classes(glob: &str) -> Result<String, Mistake> {
    let mut out = String::with_capacity(glob.len() + 1);
    let mut rest = glob;
    while let Some(at) = rest.find(['[', '\\']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        if from.starts_with('\\') {
            let length = 1 + from.chars().nth(1).map_or(0, char::len_utf8);
            out.push_str(&from[..length]);
            rest = &from[length..];
            continue;
        }
        let open = if from[1..].starts_with(['!', '^']) { 2 } else { 1 };
        // A ']' right after the opening is a member of the class. An unclosed class is left to globset.
        let first = from[open..].chars().next().map_or(0, char::len_utf8);
        let Some(length) = from[open + first..].find(']') else {
            out.push_str(from);
            return Ok(out);
        };
        let members = &from[open..open + first + length];
        check_class(members)?;
        out.push_str(&from[..open]);
        match (open, members.strip_suffix('-')) {
            (1, _) => out.push_str(members),
            (_, Some(members)) => out.extend([members, "/-"]),
            (_, None) => out.extend([members, "/"]),
        }
        out.push(']');
        rest = &from[open + first + length + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn check_class(members: &str) -> Result<(), Mistake> {
    let chars: Vec<char> = members.chars().collect();
    let ranged = chars.windows(3).any(|w| w[1] == '-' && w[0] <= '/' && '/' <= w[2]);
    if ranged || chars.contains(&'/') {
        return mistake("has '/' in a character class", "a class of characters inside one component");
    }
    if !members.is_ascii() {
        return mistake("has a character beyond ASCII in a class", "alternatives instead, as in \"{é,è}\"");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(glob: &str, path: &str) -> bool {
        let source = Source { text: "", file: "p" };
        let globs = RuleGlobs::new(&[vec![At { value: glob, span: 0..0 }]], &[], source).unwrap();
        globs.first_rule(&RelPath::parse(path).unwrap()).is_some()
    }

    #[test]
    fn what_each_glob_means() {
        for (glob, yes, no) in [
            (
                "releases/**",
                &["releases/a", "releases/a/b.c"][..],
                &["releases", "releases2/a", "x/releases/a"][..],
            ),
            ("**/*.tmp/**", &["a.tmp/x", "d/a.tmp/x/y", ".tmp/x"], &["a.tmp", "d/a.tmpx/x"]),
            ("**/*.tmp", &["a.tmp", "d/e/a.tmp", ".tmp"], &["a.tmp/x", "a.TMP", "a.tmp.gz"]),
            ("**/.tmp*/**", &[".tmpA1/x", "d/.tmp/x/y"], &[".tmpA1", "a.tmp/x"]),
            (
                "**/tmp.??????????",
                &["tmp.0123456789", "d/tmp.abcdefghij"],
                &["tmp.012345678", "tmp.01234/6789"],
            ),
            ("**/.*.sw?", &[".a.swp", "d/.a.b.swo"], &["a.swp", ".a.sw", "d/.x/a.swp"]),
            ("**/*~", &["a~", "d/.b~"], &["a~/x", "~a"]),
            ("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["a/xb", "ab", "z/a/b"]),
            ("*.deb", &["a.deb"], &["d/a.deb", "a.DEB"]),
            ("d/*/x", &["d/e/x"], &["d/x", "d/e/f/x"]),
            ("**", &["a", "a/b/c", ".x"], &[]),
            ("a[!b]c", &["axc", "a-c"], &["a/c", "abc"]),
            ("a[!b-]c", &["axc"], &["a/c", "a-c", "abc"]),
            ("a[!]]c", &["axc"], &["a/c", "a]c"]),
            ("a[]x]c", &["a]c", "axc"], &["abc"]),
            ("x{,.gz}", &["x", "x.gz"], &["x.bz2"]),
            ("{a,b/**}/c", &["a/c", "b/x/c"], &["c", "x/c"]),
            ("a\\*", &["a*"], &["ab"]),
            ("a\\[b", &["a[b"], &["ab"]),
            ("**/x.", &["x.", "d/x."], &["x"]),
        ] {
            for path in yes {
                assert!(matches(glob, path), "{glob} should match {path}");
            }
            for path in no {
                assert!(!matches(glob, path), "{glob} should not match {path}");
            }
        }
    }

    /// globset takes short cuts by kind of glob; they must agree with its plain matcher on every path.
    #[test]
    fn the_set_agrees_with_each_glob_alone() {
        let parts = ["a", ".tmp", "a.tmp", "x~", ".a.swp", "a.", "..a", "tmp.0123456789"];
        let mut paths: Vec<String> = parts.iter().map(ToString::to_string).collect();
        paths.extend(parts.iter().flat_map(|a| parts.iter().map(move |b| format!("{a}/{b}"))));
        paths.extend(parts.iter().flat_map(|a| parts.iter().map(move |b| format!("a/{a}/{b}"))));
        for glob in [
            "**/*.tmp/**",
            "**/*.tmp",
            "**/.tmp*/**",
            "**/*~",
            "**/.*.sw?",
            "a/**",
            "a/*",
            "*",
            "**/a.",
            "**/*.",
            "a",
        ] {
            let alone = GlobBuilder::new(glob).literal_separator(true).build().unwrap().compile_matcher();
            for path in &paths {
                assert_eq!(matches(glob, path), alone.is_match(path), "{glob} on {path}");
            }
        }
    }
}
