//! What a writer's environment claims of the build: an allowlist of CI variables, and what they say together.
//!
//! No variable outside the list is kept, and none that holds a secret is on it.

use std::collections::BTreeMap;

use super::mask::mask_variable;

/// Longest value that is kept, in bytes.
const VALUE_MAX: usize = 1024;

/// The variables that are kept: which system, repository, ref, commit, run.
pub const ALLOWED: &[&str] = &[
    // GitHub Actions.
    "GITHUB_ACTIONS",
    "GITHUB_SERVER_URL",
    "GITHUB_REPOSITORY",
    "GITHUB_REPOSITORY_ID",
    "GITHUB_REF",
    "GITHUB_SHA",
    "GITHUB_WORKFLOW",
    "GITHUB_WORKFLOW_REF",
    "GITHUB_WORKFLOW_SHA",
    "GITHUB_JOB",
    "GITHUB_RUN_ID",
    "GITHUB_RUN_NUMBER",
    "GITHUB_RUN_ATTEMPT",
    "GITHUB_EVENT_NAME",
    "GITHUB_ACTOR_ID",
    "RUNNER_NAME",
    "RUNNER_OS",
    "RUNNER_ARCH",
    "RUNNER_ENVIRONMENT",
    // GitLab.
    "GITLAB_CI",
    "CI_SERVER_URL",
    "CI_PROJECT_URL",
    "CI_PROJECT_PATH",
    "CI_PROJECT_ID",
    "CI_COMMIT_SHA",
    "CI_COMMIT_REF_NAME",
    "CI_COMMIT_TAG",
    "CI_PIPELINE_ID",
    "CI_PIPELINE_URL",
    "CI_PIPELINE_SOURCE",
    "CI_JOB_ID",
    "CI_JOB_NAME",
    "CI_JOB_URL",
    "CI_RUNNER_ID",
    "CI_RUNNER_VERSION",
    // Jenkins.
    "JENKINS_URL",
    "JOB_NAME",
    "JOB_URL",
    "BUILD_NUMBER",
    "BUILD_ID",
    "BUILD_URL",
    "BUILD_TAG",
    "GIT_URL",
    "GIT_COMMIT",
    "GIT_BRANCH",
    "NODE_NAME",
    // Buildkite.
    "BUILDKITE",
    "BUILDKITE_REPO",
    "BUILDKITE_COMMIT",
    "BUILDKITE_BRANCH",
    "BUILDKITE_TAG",
    "BUILDKITE_BUILD_ID",
    "BUILDKITE_BUILD_NUMBER",
    "BUILDKITE_BUILD_URL",
    "BUILDKITE_JOB_ID",
    "BUILDKITE_PIPELINE_SLUG",
    "BUILDKITE_ORGANIZATION_SLUG",
    "BUILDKITE_AGENT_NAME",
    // CircleCI.
    "CIRCLECI",
    "CIRCLE_REPOSITORY_URL",
    "CIRCLE_SHA1",
    "CIRCLE_BRANCH",
    "CIRCLE_TAG",
    "CIRCLE_BUILD_NUM",
    "CIRCLE_BUILD_URL",
    "CIRCLE_JOB",
    "CIRCLE_WORKFLOW_ID",
    "CIRCLE_PROJECT_USERNAME",
    "CIRCLE_PROJECT_REPONAME",
    // Azure Pipelines.
    "TF_BUILD",
    "SYSTEM_COLLECTIONURI",
    "SYSTEM_TEAMPROJECT",
    "SYSTEM_DEFINITIONID",
    "SYSTEM_JOBID",
    "BUILD_REPOSITORY_URI",
    "BUILD_REPOSITORY_NAME",
    "BUILD_SOURCEVERSION",
    "BUILD_SOURCEBRANCH",
    "BUILD_BUILDID",
    "BUILD_BUILDNUMBER",
    "BUILD_DEFINITIONNAME",
    "AGENT_NAME",
    // Reproducible builds.
    "SOURCE_DATE_EPOCH",
];

/// The allowed variables, and those named in `more`, out of `/proc/PID/environ` (entries ended by NUL). Of a name that
/// stands twice the first counts, as for getenv(3).
#[must_use]
pub fn pick(environ: &[u8], more: &[String]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in environ.split(|byte| *byte == 0) {
        let Some(at) = entry.iter().position(|byte| *byte == b'=') else { continue };
        let (Ok(name), value) = (std::str::from_utf8(&entry[..at]), &entry[at + 1..]) else { continue };
        let wanted = ALLOWED.contains(&name) || more.iter().any(|more| more == name);
        if !wanted || found.contains_key(name) || value.is_empty() || value.len() > VALUE_MAX {
            continue;
        }
        if let Ok(value) = std::str::from_utf8(value)
            && !value.chars().any(char::is_control)
        {
            found.insert(name.to_owned(), mask_variable(name, value));
        }
    }
    found
}

/// What the variables say together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// The CI system.
    pub system: Option<&'static str>,
    /// The repository, as a URL.
    pub repository: Option<String>,
    /// The branch, tag or full ref.
    pub reference: Option<String>,
    /// The commit: 40 or 64 lowercase hexadecimal digits.
    pub commit: Option<String>,
    /// The run: a URL where there is one.
    pub run: Option<String>,
}

/// Reads them. The first system that names itself counts.
#[must_use]
pub fn claims(variables: &BTreeMap<String, String>) -> Claims {
    let get = |name: &str| variables.get(name).cloned();
    let first = |names: &[&str]| names.iter().find_map(|name| get(name));
    let has = |name: &str| variables.contains_key(name);
    let commit = |name: &str| get(name).and_then(|text| commit(&text));
    if has("GITHUB_ACTIONS") {
        let server = get("GITHUB_SERVER_URL").unwrap_or_else(|| "https://github.com".to_owned());
        let repository = get("GITHUB_REPOSITORY").map(|name| format!("{server}/{name}"));
        let run = repository.as_ref().zip(get("GITHUB_RUN_ID")).map(|(repository, run)| {
            let attempt = get("GITHUB_RUN_ATTEMPT").map_or_else(String::new, |n| format!("/attempts/{n}"));
            format!("{repository}/actions/runs/{run}{attempt}")
        });
        let commit = commit("GITHUB_SHA");
        return Claims { system: Some("github"), repository, reference: get("GITHUB_REF"), commit, run };
    }
    if has("GITLAB_CI") {
        return Claims {
            system: Some("gitlab"),
            repository: get("CI_PROJECT_URL"),
            reference: first(&["CI_COMMIT_TAG", "CI_COMMIT_REF_NAME"]),
            commit: commit("CI_COMMIT_SHA"),
            run: first(&["CI_JOB_URL", "CI_PIPELINE_URL"]),
        };
    }
    if has("BUILDKITE") {
        let job = get("BUILDKITE_JOB_ID").map_or_else(String::new, |job| format!("#{job}"));
        return Claims {
            system: Some("buildkite"),
            repository: get("BUILDKITE_REPO"),
            reference: first(&["BUILDKITE_TAG", "BUILDKITE_BRANCH"]),
            commit: commit("BUILDKITE_COMMIT"),
            run: get("BUILDKITE_BUILD_URL").map(|url| format!("{url}{job}")),
        };
    }
    if has("CIRCLECI") {
        return Claims {
            system: Some("circleci"),
            repository: get("CIRCLE_REPOSITORY_URL"),
            reference: first(&["CIRCLE_TAG", "CIRCLE_BRANCH"]),
            commit: commit("CIRCLE_SHA1"),
            run: get("CIRCLE_BUILD_URL"),
        };
    }
    if has("TF_BUILD") {
        let run = get("SYSTEM_COLLECTIONURI").zip(get("SYSTEM_TEAMPROJECT")).zip(get("BUILD_BUILDID"));
        return Claims {
            system: Some("azure"),
            repository: get("BUILD_REPOSITORY_URI"),
            reference: get("BUILD_SOURCEBRANCH"),
            commit: commit("BUILD_SOURCEVERSION"),
            run: run.map(|((collection, project), id)| {
                format!("{}/{project}/_build/results?buildId={id}", collection.trim_end_matches('/'))
            }),
        };
    }
    if has("JENKINS_URL") {
        return Claims {
            system: Some("jenkins"),
            repository: get("GIT_URL"),
            reference: get("GIT_BRANCH"),
            commit: commit("GIT_COMMIT"),
            run: get("BUILD_URL"),
        };
    }
    // No system named itself: what git plugins and people set all the same.
    Claims {
        system: None,
        repository: get("GIT_URL"),
        reference: get("GIT_BRANCH"),
        commit: commit("GIT_COMMIT"),
        run: None,
    }
}

fn commit(text: &str) -> Option<String> {
    let whole = matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    whole.then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_allowed_is_picked() {
        let environ =
            b"PATH=/bin\0GITHUB_TOKEN=ghs_secret\0GITHUB_SHA=abc\0GITHUB_SHA=second\0MY_ID=7\0=x\0noequals\0\
            CI_PROJECT_URL=https://u:pw@h/p\0MY_TOKEN=abc\0GIT_URL=a\nb\0JOB_NAME=\xff\0AWS_SECRET_ACCESS_KEY=k\0BUILD_ID=";
        let found = pick(environ, &["MY_ID".to_owned(), "MY_TOKEN".to_owned()]);
        let expected = [
            ("CI_PROJECT_URL", "https://u:***@h/p"),
            ("GITHUB_SHA", "abc"),
            ("MY_ID", "7"),
            ("MY_TOKEN", "***"),
        ];
        assert_eq!(found.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>(), expected);
        let long = format!("GITHUB_SHA={}", "x".repeat(VALUE_MAX + 1));
        assert!(pick(long.as_bytes(), &[]).is_empty());
        for name in ALLOWED {
            assert_eq!(mask_variable(name, "x"), "x", "{name}");
            let lower = name.to_lowercase();
            for word in ["token", "secret", "password", "key", "email", "actor_name"] {
                assert!(!lower.contains(word), "{name}");
            }
        }
    }

    #[test]
    fn each_system_is_understood() {
        let sha = "0123456789ABCDEF0123456789abcdef01234567";
        let of = |pairs: &[(&str, &str)]| {
            claims(&pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
        };
        let github = of(&[
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_REPOSITORY", "o/r"),
            ("GITHUB_SHA", sha),
            ("GITHUB_REF", "refs/tags/v1"),
            ("GITHUB_RUN_ID", "5"),
            ("GITHUB_RUN_ATTEMPT", "2"),
        ]);
        assert_eq!(github.repository.as_deref(), Some("https://github.com/o/r"));
        assert_eq!(github.run.as_deref(), Some("https://github.com/o/r/actions/runs/5/attempts/2"));
        assert_eq!(github.commit, Some(sha.to_lowercase()));
        for (system, marker, url, commit, run) in [
            ("gitlab", "GITLAB_CI", "CI_PROJECT_URL", "CI_COMMIT_SHA", "CI_JOB_URL"),
            ("buildkite", "BUILDKITE", "BUILDKITE_REPO", "BUILDKITE_COMMIT", "BUILDKITE_BUILD_URL"),
            ("circleci", "CIRCLECI", "CIRCLE_REPOSITORY_URL", "CIRCLE_SHA1", "CIRCLE_BUILD_URL"),
            ("jenkins", "JENKINS_URL", "GIT_URL", "GIT_COMMIT", "BUILD_URL"),
        ] {
            let found = of(&[(marker, "x"), (url, "https://h/r"), (commit, sha), (run, "https://h/1")]);
            assert_eq!(found.system, Some(system));
            assert_eq!(
                (found.repository.as_deref(), found.run.as_deref()),
                (Some("https://h/r"), Some("https://h/1"))
            );
            assert_eq!(found.commit, Some(sha.to_lowercase()));
            assert!(of(&[(marker, "x"), (commit, "main")]).commit.is_none());
        }
        let azure = of(&[
            ("TF_BUILD", "True"),
            ("SYSTEM_COLLECTIONURI", "https://dev.azure.com/o/"),
            ("SYSTEM_TEAMPROJECT", "p"),
            ("BUILD_BUILDID", "9"),
        ]);
        assert_eq!(azure.run.as_deref(), Some("https://dev.azure.com/o/p/_build/results?buildId=9"));
        assert_eq!(of(&[]), Claims::default());
    }
}
