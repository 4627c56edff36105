//! Arguments, also in the form in which `mount(8)` hands them over.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

use super::StartError;

/// Mounts a store: every file written there is sealed and then cannot be changed until its retention expires.
#[derive(Debug, Clone, Parser)]
#[command(name = "sealfs", version, max_term_width = 100)]
pub struct Args {
    /// The store, made by 'sealctl init'
    pub store: PathBuf,
    /// An empty folder
    pub mountpoint: PathBuf,
    /// Stay in the foreground and log to standard error
    #[arg(short, long)]
    pub foreground: bool,
    /// Mount read-only: no writes, no seals
    #[arg(short, long)]
    pub read_only: bool,
    /// The private key that seals, instead of the store's own (also: 'seal-key' in $CREDENTIALS_DIRECTORY)
    #[arg(long, value_name = "FILE")]
    pub seal_key: Option<PathBuf>,
    /// The private key of the log, instead of the store's own (also: 'log-key' in $CREDENTIALS_DIRECTORY)
    #[arg(long, value_name = "FILE")]
    pub log_key: Option<PathBuf>,
    /// Mount options, separated by commas: ro, allow_other, passthrough=on|off, takeover=on|off, guard=on|off, nonempty, noexec, noatime
    #[arg(short = 'o', value_delimiter = ',', value_name = "OPT,…")]
    pub options: Vec<String>,
}

/// Options, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// No writes, no seals.
    pub read_only: bool,
    /// Other users may enter.
    pub allow_other: bool,
    /// Data past the daemon, where the kernel can.
    pub passthrough: bool,
    /// A worker that dies is followed by another one under the live mount.
    pub takeover: bool,
    /// The folder below the mount is made immutable, so that nothing is written beside a mount that is gone.
    pub guard: bool,
    /// A mount point that is not empty is fine.
    pub nonempty: bool,
    /// Nothing in the mount can be executed.
    pub noexec: bool,
    /// Access times of the backing files are left alone.
    pub noatime: bool,
}

impl Args {
    /// The same arguments with absolute paths. The daemon leaves the folder that it was started in, and its workers
    /// are started from there.
    ///
    /// # Errors
    /// If a path is relative and the current folder cannot be found.
    pub fn absolute(self) -> Result<Self, StartError> {
        let absolute = |path: PathBuf| {
            std::path::absolute(&path).map_err(|error| {
                StartError::failed(format!("{}: {error}; give an absolute path", path.display()))
            })
        };
        Ok(Args {
            store: absolute(self.store)?,
            mountpoint: absolute(self.mountpoint)?,
            seal_key: self.seal_key.map(absolute).transpose()?,
            log_key: self.log_key.map(absolute).transpose()?,
            ..self
        })
    }

    /// The command line that gives these arguments to a process that stays in the foreground.
    #[must_use]
    pub fn in_foreground(&self) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec!["--foreground".into()];
        if self.read_only {
            line.push("--read-only".into());
        }
        for (name, key) in [("--seal-key", &self.seal_key), ("--log-key", &self.log_key)] {
            if let Some(key) = key {
                line.extend([name.into(), key.into()]);
            }
        }
        if !self.options.is_empty() {
            line.extend(["-o".into(), self.options.join(",").into()]);
        }
        line.extend(["--".into(), self.store.clone().into(), self.mountpoint.clone().into()]);
        line
    }

    /// Understands the options.
    ///
    /// # Errors
    /// An option that is not known.
    pub fn options(&self) -> Result<Options, StartError> {
        let root = rustix::process::geteuid().is_root();
        let mut options = Options {
            read_only: self.read_only,
            allow_other: root,
            passthrough: root,
            // Only root may mount without help, and only then is the device ours to hold.
            takeover: root,
            guard: root,
            nonempty: false,
            noexec: false,
            noatime: false,
        };
        for option in self.options.iter().map(|option| option.trim()) {
            match option {
                // What mount(8) adds, or what holds anyway.
                ""
                | "rw"
                | "defaults"
                | "nosuid"
                | "nodev"
                | "default_permissions"
                | "exec"
                | "async"
                | "auto"
                | "noauto"
                | "atime"
                | "relatime"
                | "user"
                | "nouser"
                | "nofail"
                | "_netdev"
                | "dev"
                | "suid" => {}
                "ro" => options.read_only = true,
                "allow_other" => options.allow_other = true,
                "passthrough=on" | "passthrough" => options.passthrough = root,
                "passthrough=off" => options.passthrough = false,
                "takeover=on" | "takeover" => options.takeover = root,
                "takeover=off" => options.takeover = false,
                "guard=on" | "guard" => options.guard = root,
                "guard=off" | "noguard" => options.guard = false,
                "nonempty" => options.nonempty = true,
                "noexec" => options.noexec = true,
                "noatime" => options.noatime = true,
                other if other.starts_with("x-") || other.starts_with("comment=") => {}
                other => {
                    let known = "ro, allow_other, passthrough=on|off, takeover=on|off, guard=on|off, nonempty, noexec, noatime";
                    return Err(StartError::usage(format!(
                        "unknown mount option '{other}'; known are {known}"
                    )));
                }
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Args {
        Args::try_parse_from([&["sealfs"], words].concat()).unwrap().absolute().unwrap()
    }

    #[test]
    fn a_process_in_another_folder_is_given_the_same_arguments() {
        let given =
            parse(&["-r", "--seal-key", "k", "--log-key", "/l", "-o", "noguard,noexec", "--", "-s", "m"]);
        let again =
            Args::try_parse_from(std::iter::once(OsString::from("sealfs")).chain(given.in_foreground()))
                .unwrap();
        assert!(again.foreground);
        assert_eq!(again.store, std::env::current_dir().unwrap().join("-s"));
        assert_eq!(again.seal_key, Some(std::env::current_dir().unwrap().join("k")));
        assert_eq!(format!("{:?}", Args { foreground: true, ..given }), format!("{again:?}"));
    }
}
