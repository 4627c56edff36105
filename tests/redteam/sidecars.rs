//! Sidecars and statements where they do not belong, on a deploy host that has only copies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64ct::{Base64, Encoding};

use super::harness::{Mount, eventually, run, sealctl};
use super::scene::{Seen, Table, all, check};

const POLICY: &str = "version = 1\n[defaults]\nsettle = \"0s\"\nretention = \"2s\"\n[[rule]]\nmatch = [\"kept/**\"]\n\
                      retention = \"1h\"\n[[rule]]\nmatch = [\"rel/**\"]\nnamespace = \"release\"\nretention = \"1h\"\n";
const SIDECARS: [&str; 2] = ["seal", "seal.jsonl"];

type Run<'a> = &'a dyn Fn(&Deployed) -> Seen;

pub fn attacks(table: &mut Table) {
    let there = Deployed::new();
    let who = "deploy host";
    let attacks: [(&str, Run<'_>); 11] = [
        ("nothing altered (for comparison)", &|d| d.accepted("now")),
        ("the mount shows the earlier life's sidecars", &|d| {
            check(d.gone, "they are still there when the file is gone")?;
            let shown = |name: &str| fs::read(d.mount.path(name)).map_err(|error| error.to_string());
            let same = shown("f.seal")? == fs::read(d.at("now/f.seal")).expect("read");
            let other = shown("f.seal")? != fs::read(d.at("before/f.seal")).expect("read");
            check(same && other, "they go with it, and the next life has its own")
        }),
        ("both sidecars of another file", &|d| {
            d.take("other", "now", &SIDECARS);
            all([d.ssh_refuses("now"), d.refused("now")])
        }),
        ("the statement of another file, its own signature", &|d| {
            d.take("other", "now", &["seal.jsonl"]);
            d.refused("now")
        }),
        ("the signature of another file, its own statement", &|d| {
            d.take("other", "now", &["seal"]);
            all([d.ssh_refuses("now"), d.refused("now")])
        }),
        ("both of its name's earlier life, other content", &|d| {
            d.take("before", "now", &SIDECARS);
            all([d.ssh_refuses("now"), d.refused("now")])
        }),
        ("file and sidecars of its name's earlier life", &|d| {
            d.take("before", "now", &SIDECARS);
            fs::copy(d.at("before/f"), d.at("now/f")).expect("copy");
            let seen = d.accepted("now")?;
            let late = d.verify("now", &["--require", &format!("sealed-after={}", d.between)]);
            check(
                late.0 == Some(3),
                format!("{seen}: it was sealed here (told so); --require sealed-after= refuses"),
            )
        }),
        ("one byte of the statement's payload", &|d| {
            d.edit("now", |envelope| {
                let payload = envelope["payload"].as_str().expect("payload").to_owned();
                let mut bytes = Base64::decode_vec(&payload).expect("base64");
                let at = bytes.windows(9).position(|part| part == b"retention").expect("retention");
                bytes[at] = b'R';
                envelope["payload"] = Base64::encode_string(&bytes).into();
            });
            d.refused("now")
        }),
        ("the statement signed by a stranger's key", &|d| {
            d.edit("now", |envelope| {
                let payload =
                    Base64::decode_vec(envelope["payload"].as_str().expect("payload")).expect("base64");
                let kind = envelope["payloadType"].as_str().expect("type").to_owned();
                let key = sealfs::crypto::SigningKey::generate().expect("key");
                let signature = sealfs::crypto::dsse::sign(&key, &kind, &payload);
                envelope["signatures"][0]["sig"] = Base64::encode_string(&signature).into();
            });
            d.refused("now")
        }),
        ("a signature of the same bytes under another namespace", &|d| {
            d.take("release", "now", &["seal"]);
            all([d.ssh_refuses("now"), d.refused("now")])
        }),
        ("no sidecars, empty ones, a link for the file", &|d| {
            for name in ["f.seal", "f.seal.jsonl"] {
                fs::remove_file(d.at("now").join(name)).expect("unlink");
            }
            check(d.verify("now", &[]).0 != Some(0), "accepted without sidecars")?;
            for name in ["f.seal", "f.seal.jsonl"] {
                fs::write(d.at("now").join(name), "").expect("write");
            }
            d.refused("now")
        }),
    ];
    for (name, attack) in attacks {
        table.add(name, who, attack(&there));
        there.restore();
    }
}

/// Copies of `f` with sidecars: as it is `now`, of its life `before`, of an `other` file, and of the same bytes as
/// a `release`.
struct Deployed {
    mount: Mount,
    between: String,
    /// Whether the first life's sidecars went with it.
    gone: bool,
}

impl Deployed {
    fn new() -> Self {
        let mount = Mount::new("deployed", POLICY);
        let seal = |name: &str, content: &str| {
            fs::write(mount.path(name), content).expect("write");
            eventually("sealed", || ["sealed", "expired"].contains(&mount.state(name).as_str()));
        };
        fs::create_dir(mount.path("kept")).expect("mkdir");
        fs::create_dir(mount.path("rel")).expect("mkdir");
        seal("f", "the first life\n");
        copy(&mount, "f", "before");
        seal("kept/f", "another file\n");
        copy(&mount, "kept/f", "other");
        eventually("expired", || mount.state("f") == "expired");
        fs::remove_file(mount.path("f")).expect("unlink");
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let between = mount.ctl_json(&["status"])[0]["time"].as_str().expect("time").to_owned();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let gone = fs::symlink_metadata(mount.path("f.seal")).is_err();
        seal("f", "the second life\n");
        copy(&mount, "f", "now");
        seal("rel/f", "the second life\n");
        copy(&mount, "rel/f", "release");
        fs::write(mount.dir.join("trust"), mount.ctl_ok(&["trust"])).expect("write");
        run(Command::new("cp").arg("-a").arg(mount.dir.join("now")).arg(mount.dir.join("aside")));
        Deployed { mount, between, gone }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.mount.dir.join(name)
    }

    fn restore(&self) {
        fs::remove_dir_all(self.at("now")).expect("remove");
        run(Command::new("cp").arg("-a").arg(self.at("aside")).arg(self.at("now")));
    }

    fn take(&self, from: &str, to: &str, which: &[&str]) {
        for suffix in which {
            let name = format!("f.{suffix}");
            fs::copy(self.at(from).join(&name), self.at(to).join(&name)).expect("copy");
        }
    }

    fn edit(&self, copy: &str, change: impl FnOnce(&mut serde_json::Value)) {
        let path = self.at(copy).join("f.seal.jsonl");
        let text = fs::read_to_string(&path).expect("read");
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let mut envelope = serde_json::from_str(&lines[0]).expect("JSON");
        change(&mut envelope);
        lines[0] = envelope.to_string();
        fs::write(path, lines.join("\n") + "\n").expect("write");
    }

    fn verify(&self, copy: &str, more: &[&str]) -> (Option<i32>, String) {
        let mut command = sealctl();
        command.args(["verify", "--offline", "--trust", "trust"]).arg(format!("{copy}/f")).args(more);
        let output = command.current_dir(&self.mount.dir).output().expect("sealctl");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }

    fn refused(&self, copy: &str) -> Seen {
        let (code, text) = self.verify(copy, &[]);
        check(
            code == Some(3),
            format!("verify --offline: {code:?} {}", text.rsplit("f: ").next().unwrap_or(&text)),
        )
    }

    fn accepted(&self, copy: &str) -> Seen {
        let (code, text) = self.verify(copy, &[]);
        check(code == Some(0), format!("verify --offline: {code:?} {text}"))?;
        check(self.ssh(copy), "accepted by sealctl and ssh-keygen")
    }

    fn ssh(&self, copy: &str) -> bool {
        let content = fs::File::open(self.at(copy).join("f")).expect("open");
        let mut command = Command::new("ssh-keygen");
        command.args(["-Y", "verify", "-f", "trust", "-I", "test.example/store", "-n", "sealfs", "-s"]);
        command.arg(format!("{copy}/f.seal")).stdin(content).stdout(Stdio::null()).stderr(Stdio::null());
        command.current_dir(&self.mount.dir).status().expect("ssh-keygen").success()
    }

    fn ssh_refuses(&self, copy: &str) -> Seen {
        check(!self.ssh(copy), "ssh-keygen refuses")
    }
}

fn copy(mount: &Mount, name: &str, to: &str) {
    let dir = mount.dir.join(to);
    fs::create_dir(&dir).expect("mkdir");
    for suffix in ["", ".seal", ".seal.jsonl"] {
        let from = mount.path(format!("{name}{suffix}"));
        let base = Path::new(name).file_name().expect("a name").to_str().expect("UTF-8");
        run(Command::new("cp").arg(from).arg(dir.join(format!("{base}{suffix}"))));
    }
}
