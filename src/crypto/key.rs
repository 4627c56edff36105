//! Ed25519 signing keys (RFC 8032) and the files they are kept in.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use ed25519_dalek::Signer as _;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::rand::{GetRandomFlags, getrandom};
use zeroize::Zeroizing;

use super::{PublicKey, openssh};

/// No key file is anywhere near this long (bytes).
const MAX_FILE: usize = 64 * 1024;

/// An Ed25519 signing key (RFC 8032). Cleared from memory when dropped; never shown.
pub struct SigningKey {
    secret: ed25519_dalek::SigningKey,
    /// The same key for AWS-LC, which signs in half the time; none if that does not take it.
    quick: Option<Ed25519KeyPair>,
    public: PublicKey,
}

/// Why a key cannot be had or kept. Each says what to do; none names the file.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Opening or reading failed.
    #[error("cannot read the private key: {0}")]
    Read(#[source] io::Error),
    /// Creating or writing failed; nothing was left behind.
    #[error("cannot write the private key: {0}")]
    Write(#[source] io::Error),
    /// The system gave no random bytes.
    #[error("cannot get random bytes from the system: {0}")]
    Random(#[source] io::Error),
    /// A symbolic link, folder, device or the like.
    #[error("the private key is not a regular file; put the file itself there, not a link to it")]
    NotRegular,
    /// Others than its owner may access it.
    #[error("group or others may access the private key (mode {0:04o}); chmod 600 it")]
    Exposed(u32),
    /// Longer than 64 KiB.
    #[error("not a private key: longer than 64 KiB; put an OpenSSH Ed25519 key there")]
    TooLong,
    /// Something else, or a key in another format.
    #[error("not an OpenSSH private key; make one with: ssh-keygen -t ed25519 -N ''")]
    NotOpenssh,
    /// Under a passphrase.
    #[error("the private key is encrypted; take its passphrase off with: ssh-keygen -p -N '' -f FILE")]
    Encrypted,
    /// A key of another kind.
    #[error("the private key is of kind {0:?}, not Ed25519; make one with: ssh-keygen -t ed25519 -N ''")]
    Algorithm(String),
    /// Cut short, altered, or with parts that do not fit together.
    #[error("the private key is damaged; restore it from a backup")]
    Damaged,
}

impl SigningKey {
    /// Makes a new key from the kernel's random bytes (`getrandom(2)`, waiting until its pool is ready).
    ///
    /// # Errors
    /// If the system gives none.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0u8; 32]);
        let mut filled = 0;
        while filled < seed.len() {
            match getrandom(&mut seed[filled..], GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(KeyError::Random(error.into())),
            }
        }
        Ok(Self::from_seed(&seed))
    }

    /// The key of a seed (the 32-byte private key of RFC 8032, section 5.1.5).
    pub(super) fn from_seed(seed: &[u8; 32]) -> Self {
        let secret = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = PublicKey::from_dalek(secret.verifying_key());
        let quick = Ed25519KeyPair::from_seed_unchecked(seed)
            .ok()
            .filter(|pair| pair.public_key().as_ref() == secret.verifying_key().as_bytes());
        Self { secret, quick, public }
    }

    /// Reads an unencrypted Ed25519 key in OpenSSH's format (PROTOCOL.key). Links are not followed, and what is
    /// checked is the file that is read.
    ///
    /// # Errors
    /// If it cannot be read, is not a regular file, can be accessed by group or others, is longer than 64 KiB,
    /// encrypted, of another algorithm, or damaged.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        // Without NONBLOCK, a FIFO in the key's place would hang the open.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
            rustix::io::Errno::LOOP => KeyError::NotRegular,
            error => KeyError::Read(error.into()),
        })?;
        let stat = rustix::fs::fstat(&fd).map_err(|error| KeyError::Read(error.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(KeyError::NotRegular);
        }
        if stat.st_mode & 0o077 != 0 {
            return Err(KeyError::Exposed(stat.st_mode & 0o7777));
        }
        let mut text = Zeroizing::new(vec![0; MAX_FILE + 1]);
        let mut file = File::from(fd);
        let mut len = 0;
        while len < text.len() {
            match file.read(&mut text[len..]) {
                Ok(0) => break,
                Ok(count) => len += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(KeyError::Read(error)),
            }
        }
        if len > MAX_FILE {
            return Err(KeyError::TooLong);
        }
        let (seed, _) = openssh::decode(&text[..len])?;
        Ok(Self::from_seed(&seed))
    }

    /// Writes the key to a new file, mode 0600, that did not exist before. On return the file's bytes are
    /// durable; its name is once the caller has synced the directory. After a crash in between, no file, or an
    /// empty or partial one that [`SigningKey::read`] refuses, may be there.
    ///
    /// # Errors
    /// If something of that name exists, or writing fails; what was created is removed again.
    pub fn write_new(&self, path: &Path, comment: &str) -> Result<(), KeyError> {
        let text = self.to_openssh(comment);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(KeyError::Write)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| {
            // The first error is the one worth telling.
            let _ = std::fs::remove_file(path);
            KeyError::Write(error)
        })
    }

    /// The key file's text (OpenSSH PROTOCOL.key, no passphrase), as `ssh-keygen` would write it.
    #[must_use]
    pub fn to_openssh(&self, comment: &str) -> Zeroizing<String> {
        openssh::encode(self.secret.as_bytes(), &self.public, comment)
    }

    /// Its public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The Ed25519 signature of `message` (RFC 8032, section 5.1.6); the same each time.
    #[must_use]
    pub fn sign_raw(&self, message: &[u8]) -> [u8; 64] {
        let quick = self.quick.as_ref().and_then(|pair| pair.try_sign(message).ok());
        let quick = quick.and_then(|signature| signature.as_ref().try_into().ok());
        quick.unwrap_or_else(|| self.secret.sign(message).to_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::super::testing::Dir;
    use super::*;

    #[test]
    fn ssh_keygen_reads_what_we_write() {
        let dir = Dir::new();
        // Each length of comment asks for another padding.
        for (number, comment) in
            ["", "a", "ab", "abc", "abcd", "a comment", "é\n\0", "1234567"].iter().enumerate()
        {
            let key = SigningKey::generate().unwrap();
            let name = format!("k{number}");
            key.write_new(&dir.path(&name), comment).unwrap();
            let mode = fs::metadata(dir.path(&name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600);
            let line = dir.run("ssh-keygen", &["-y", "-f", &name]);
            assert_eq!(line.trim_end(), key.public().to_openssh(comment));
            assert!(dir.run("ssh-keygen", &["-l", "-f", &name]).contains(&key.public().fingerprint()));
            assert_eq!(SigningKey::read(&dir.path(&name)).unwrap().public(), key.public());
        }
    }

    #[test]
    fn both_libraries_make_the_same_signature() {
        for length in [0, 1, 64, 1000, 5000] {
            let (key, message) = (SigningKey::generate().unwrap(), vec![b'x'; length]);
            assert!(key.quick.is_some());
            assert_eq!(key.sign_raw(&message), key.secret.sign(&message).to_bytes());
            key.public().verify_raw(&message, &key.sign_raw(&message)).unwrap();
        }
    }

    #[test]
    fn we_read_what_ssh_keygen_writes() {
        let dir = Dir::new();
        dir.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "c", "-f", "k"]);
        let key = SigningKey::read(&dir.path("k")).unwrap();
        assert_eq!(dir.read("k.pub"), format!("{}\n", key.public().to_openssh("c")));
        // Ours differs only in the check numbers, which are random there.
        assert_eq!(key.to_openssh("c").len(), dir.read("k").len());
    }

    #[test]
    fn other_keys_are_refused_with_a_remedy() {
        let dir = Dir::new();
        let refusal = |name: &str| SigningKey::read(&dir.path(name)).unwrap_err();
        let make = |name: &str, rest: &[&str]| {
            dir.run("ssh-keygen", &[&["-q", "-f", name], rest].concat());
        };
        make("locked", &["-t", "ed25519", "-N", "secret"]);
        assert!(matches!(refusal("locked"), KeyError::Encrypted));
        make("rsa", &["-t", "rsa", "-b", "2048", "-N", ""]);
        assert!(matches!(refusal("rsa"), KeyError::Algorithm(name) if name == "ssh-rsa"));
        make("ecdsa", &["-t", "ecdsa", "-N", ""]);
        assert!(matches!(refusal("ecdsa"), KeyError::Algorithm(name) if name == "ecdsa-sha2-nistp256"));
        make("pem", &["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", ""]);
        assert!(matches!(refusal("pem"), KeyError::NotOpenssh));

        make("k", &["-t", "ed25519", "-N", ""]);
        for mode in [0o644, 0o640, 0o604, 0o610, 0o602] {
            fs::set_permissions(dir.path("k"), fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(refusal("k"), KeyError::Exposed(found) if found == mode));
        }
        let words = refusal("k").to_string();
        assert_eq!(words, "group or others may access the private key (mode 0602); chmod 600 it");
        fs::set_permissions(dir.path("k"), fs::Permissions::from_mode(0o400)).unwrap();
        SigningKey::read(&dir.path("k")).unwrap();

        symlink("k", dir.path("link")).unwrap();
        assert!(matches!(refusal("link"), KeyError::NotRegular));
        assert!(matches!(refusal("."), KeyError::NotRegular));
        dir.run("mkfifo", &["-m", "600", "fifo"]);
        assert!(matches!(refusal("fifo"), KeyError::NotRegular));
        assert!(matches!(refusal("absent"), KeyError::Read(_)));
        dir.write_private("empty", "");
        assert!(matches!(refusal("empty"), KeyError::NotOpenssh));
        dir.write_private("big", &"x".repeat(64 * 1024 + 1));
        assert!(matches!(refusal("big"), KeyError::TooLong));
        dir.write_private("full", &"x".repeat(64 * 1024));
        assert!(matches!(refusal("full"), KeyError::NotOpenssh));
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_is_shown() {
        let dir = Dir::new();
        let key = SigningKey::generate().unwrap();
        dir.write_private("k", "precious");
        symlink("target", dir.path("dangling")).unwrap();
        for name in ["k", "dangling"] {
            let error = key.write_new(&dir.path(name), "").unwrap_err();
            assert!(matches!(error, KeyError::Write(e) if e.kind() == io::ErrorKind::AlreadyExists));
        }
        assert_eq!(dir.read("k"), "precious");
        assert!(!dir.path("target").exists());
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.public().fingerprint()));
        assert_ne!(key.public(), SigningKey::generate().unwrap().public());
    }
}
