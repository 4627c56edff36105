//! What `init` writes, for each purpose.

use super::super::{Policy, Purpose, init_text};
use super::decide::{CONTRACT, spans};
use super::{path, policy};
use crate::model::{RetentionMode, SealTrigger, Span};

fn written(purpose: Purpose) -> Policy {
    policy(&init_text(purpose, None))
}

/// A policy with the rules that `init` has switched off in force.
fn switched_on(text: &str) -> Policy {
    let (mut out, mut table) = (String::new(), false);
    for line in text.lines() {
        table = line.starts_with('#') && (table || line == "# [[rule]]");
        out += if table { line.strip_prefix("# ").unwrap_or("") } else { line };
        out.push('\n');
    }
    policy(&out)
}

#[track_caller]
fn seals(policy: &Policy, wanted: SealTrigger, paths: &[&str]) {
    for name in paths {
        for name in [(*name).to_owned(), format!("a/b/{name}")] {
            let decision = policy.decide(&path(&name));
            assert_eq!(
                decision.seal,
                wanted,
                "{name}: {} {:?}",
                decision.label,
                policy.explain(&path(&name)).glob
            );
        }
    }
}

#[test]
fn its_defaults_are_the_contract_s() {
    for (name, purpose) in Purpose::ALL {
        assert_eq!(written(purpose).defaults(), policy(CONTRACT).defaults(), "{name}");
        let days = policy(&init_text(purpose, Some("1d12h".parse().unwrap())));
        assert_eq!(spans(days.defaults()), ["1d12h", "1d12h", "1d12h"], "{name}");
    }
}

#[test]
fn names_that_tools_use_for_a_while_are_scratch() {
    seals(
        &written(Purpose::Builds),
        SealTrigger::Never,
        &[
            // of the contract
            ".~tmp~/x",
            ".rsync-partial/x",
            "x.tmp",
            "x.tmp/y",
            ".tmpA1/x",
            "tmp.0123456789",
            "x.part",
            "x.partial",
            "x.aria2",
            "x.aria2__temp",
            "x~",
            ".x.swp",
            ".x.swo",
            // folders that are renamed, or whose files are
            "tmp-checkpoint-500/shard-1",
            "_temporary/0/task_1/part-0",
            ".repodata/primary.xml",
            "stage.tmp/deep/x",
            "step_1.orbax-checkpoint-tmp-17/d/x",
            "step_1.orbax-checkpoint-tmp/x",
            "out.tmp-17/x",
            "partial/x.deb",
            "tmp.AbCdEf0123/x",
            ".umoci-12345/blob-1",
            "_cacache/tmp/ab12",
            "node_modules/.left-pad-Ab3_dE9x/x.js",
            ".hive-staging_hive_2026/x",
            ".spark-staging-1/x",
            "site-packages/~ip/x.py",
            "tmpcharts-1/x.tgz",
            "x.tmp/Cargo.lock",
            "_temporary/0/part.20260101",
            "x.download/Info.plist",
            "tmp/staging-5129-g55kT6/x.filez",
            "_uploads/1b4e28ba/data",
            "ingest/0123/data",
            "repodata.old.17.2026/x",
            // names that are renamed
            "model.safetensors.tmp.17",
            "x.tmp12ab",
            ".tmpAb12Cd",
            "oci-put-blob891747587",
            "dir-put-blob1",
            "132e7f3a996da91a-tmp-1718342131",
            "tmp_obj_AbC123",
            "tmp_pack_AbC123",
            "tmpobj-AbC123",
            "Packages.gz.new",
            "Release.new",
            "x.dpkg-new",
            "x.dpkg-tmp",
            "bash;5f3a1b2c",
            ".apk.0a1b",
            "x._COPYING_",
            ".part-0-0.inprogress.1",
            ".ansible_tmpAbC",
            "x.jar.lastUpdated",
            // editors, file managers, network file systems, core files
            "#x#",
            ".#x",
            "~$report.docx",
            ".goutputstream-AB12CD",
            ".nfs000000000123abcd00000001",
            ".fuse_hidden0000001200000001",
            "core",
            "core.1234",
            "vgcore.1234",
            "x___jb_tmp___",
            // downloads
            "x.crdownload",
            "x.download",
            "x.opdownload",
            "x.incomplete",
            "x.iso.part-Frag7.part",
            "x.ytdl",
            "x.!qB",
            ".azDownload-6bb0-x",
            "x_.gstmp",
            "x.tar.9fA3b1C7",
            "x.filepart",
            // locks
            "x.lock",
            ".lock",
            "x.lck",
            "lock",
            "LOCK",
            "x.lck|host|17|42",
            ".lk254867vm",
            ".~lock.x.odt#",
            "locks/422d0a2ffa202f5122a0207b2063e5844e350decc026cc98b6732c03297f2a4f",
            ".cargo-lock",
            "lock.exclusive/vm@1.2-0",
            "lock.roster",
            ".terraform.tfstate.lock.info",
            // beside databases
            "x.db-journal",
            "x.db-wal",
            "x.db-shm",
            "x.mdb-lock",
            "lock.mdb",
            "__db.001",
            "x.duckdb.wal",
        ],
    );
}

#[test]
fn outputs_that_look_like_scratch_are_sealed() {
    let outputs = [
        "Cargo.lock",
        "Gemfile.lock",
        "Pipfile.lock",
        "poetry.lock",
        "yarn.lock",
        "flake.lock",
        "composer.lock",
        "mix.lock",
        "uv.lock",
        "pdm.lock",
        "pixi.lock",
        "deno.lock",
        "bun.lock",
        "Podfile.lock",
        "Chart.lock",
        "pubspec.lock",
        "MODULE.bazel.lock",
        "dvc.lock",
        "conan.lock",
        "renv.lock",
        "stack.yaml.lock",
        "requirements.lock",
        "requirements-dev.lock",
        "tool.py.lock",
        "package-lock.json",
        "pnpm-lock.yaml",
        "npm-shrinkwrap.json",
        "gradle.lockfile",
        "go.sum",
        ".terraform.lock.hcl",
        // folders and files called core, lock, partial, download or tmp
        "core/index.js",
        "node_modules/lodash/core.js",
        "core.min.js",
        "core.2.js",
        "core.1.0.jar",
        "bin/core",
        "core.so",
        "libcore.so.1",
        "lock/index.js",
        "bin/lock",
        "locks/Lock.class",
        "partial.js",
        "download.js",
        "downloads/x",
        "clock",
        "block",
        "x-clock",
        "tmp/x",
        "template.tmpl",
        "x.tmpl",
        "tmp",
        "tmp.c",
        "temporary/x",
        "wal",
        "journal",
        "x-journal.txt",
        "wal.log",
        "systemd-journald",
        "bin/systemd-lock",
        "node-tmp-0.2.1.tar.gz",
        "partials/head.html",
        "_app.module.ts",
        "ingest/index.js",
        "part-00000",
        "x.part1.rar",
        "x.parts",
        "nfs",
        "x.swp",
        "_SUCCESS",
        ".part-00000.crc",
        "repodata-tools.txt",
        // dates and hashes
        "backup.20260131",
        "app.0a1b2c3d",
        "x.12345678",
        "blobs/sha256/0a1b2c",
    ];
    seals(&written(Purpose::Builds), SealTrigger::Close, &outputs);
    seals(&written(Purpose::Packages), SealTrigger::Close, &outputs);
    // What scratch leaves out goes to the rules that come after it, not to the defaults.
    let releases = written(Purpose::Releases);
    for name in outputs {
        let decision = releases.decide(&path(&format!("releases/1.4/{name}")));
        assert_eq!(
            (decision.mode, decision.namespace.as_str()),
            (RetentionMode::Compliance, "release"),
            "{name}"
        );
    }
}

#[test]
fn indexes_are_switched_on_by_hand_or_by_purpose() {
    let indexes = [
        "org/x/maven-metadata.xml.sha1",
        "dists/stable/Release",
        "dists/stable/InRelease",
        "main/Packages.gz",
        "index.json",
        "oci-layout",
        "repodata/repomd.xml",
        "repodata/0a1b-primary.xml.gz",
        "db/packages.db",
        "index.yaml",
        "simple/x/index.html",
        "SHA256SUMS",
        "SHA256SUMS.asc",
        "APKINDEX.tar.gz",
        "x.db.tar.gz",
        "latest.yml",
        "latest-linux.yml",
        ".crates.toml",
    ];
    let text = init_text(Purpose::Builds, None);
    seals(&policy(&text), SealTrigger::Close, &indexes);
    seals(&switched_on(&text), SealTrigger::Never, &indexes);
    seals(&written(Purpose::Packages), SealTrigger::Never, &indexes);
    // Scripts find the rule by how it begins.
    assert!(text.contains("\n# [[rule]]\n# match = [\"**/maven-metadata.xml*\""));
    for outputs in
        ["pool/main/h/hello/hello_1_all.deb", "blobs/sha256/0a1b2c", "x/x-1.0.jar", "app.db", "latest/x"]
    {
        seals(&written(Purpose::Packages), SealTrigger::Close, &[outputs]);
    }
}

#[test]
fn the_release_rule_is_the_contract_s() {
    let mut wanted = policy(CONTRACT).decide(&path("releases/x")).clone();
    for policy in [switched_on(&init_text(Purpose::Builds, None)), written(Purpose::Releases)] {
        let found = policy.decide(&path("releases/x"));
        (wanted.rule, wanted.label) = (found.rule, found.label.clone());
        if policy.text().contains("\"release\"") {
            wanted.namespace = "release".to_owned();
        }
        assert_eq!(*found, wanted);
    }
    seals(&written(Purpose::Releases), SealTrigger::Never, &["x.tmp"]);
    assert_eq!(written(Purpose::Releases).decide(&path("staging/1.4/x")).seal, SealTrigger::Never);
}

#[test]
fn models_have_pointers_and_a_longer_quiet_time() {
    let models = written(Purpose::Models);
    seals(
        &models,
        SealTrigger::Never,
        &[
            "latest",
            "checkpoint",
            "models--a--b/refs/main",
            "models--a--b/blobs/0a1b.incomplete",
            "tmp-checkpoint-5/x.bin",
        ],
    );
    seals(
        &models,
        SealTrigger::Close,
        &["model.safetensors", "checkpoint-5/pytorch_model.bin", "latest/x", "models--a--b/blobs/0a1b"],
    );
    assert_eq!(models.decide(&path("a/model.safetensors")).settle, "1m".parse::<Span>().unwrap());
}

#[test]
fn logs_stay_open_until_they_are_rotated() {
    let logs = written(Purpose::Logs);
    seals(
        &logs,
        SealTrigger::Readonly,
        &["app.log", "access_log", "app.err", "syslog", "current", "app.log.1", "app.log.2.gz"],
    );
    seals(
        &logs,
        SealTrigger::Close,
        &[
            "app.log-20260131",
            "app.log-20260131.gz",
            "app.log.20260131",
            "access_log-20260131",
            "messages-20260131",
            "report.txt",
        ],
    );
    seals(&logs, SealTrigger::Never, &["app.lock"]);
}
