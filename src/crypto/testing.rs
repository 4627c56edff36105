//! For tests: a folder of its own, and the real tools run in it. A tool that is missing fails the test.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub(super) struct Dir(tempfile::TempDir);

impl Dir {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(super) fn write_private(&self, name: &str, content: &str) {
        self.write(name, content);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(super) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Runs a program in the folder; its standard output, or its output as an error.
    pub(super) fn try_run(
        &self,
        program: &str,
        args: &[&str],
        input: Option<&str>,
    ) -> Result<String, String> {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.0.path()).env("LC_ALL", "C").env("TZ", "UTC");
        command.stdin(match input {
            Some(name) => Stdio::from(fs::File::open(self.path(name)).unwrap()),
            None => Stdio::null(),
        });
        let output = command.output().unwrap_or_else(|error| panic!("these tests need {program}: {error}"));
        let text = String::from_utf8(output.stdout).unwrap();
        if output.status.success() {
            Ok(text)
        } else {
            Err(format!("{text}{}", String::from_utf8_lossy(&output.stderr)))
        }
    }

    pub(super) fn run(&self, program: &str, args: &[&str]) -> String {
        self.try_run(program, args, None).unwrap_or_else(|error| panic!("{program} {args:?}: {error}"))
    }
}

pub(super) fn hex(text: &str) -> Vec<u8> {
    assert_eq!(text.len() % 2, 0);
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
