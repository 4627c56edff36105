//! Where things lie in a store, and making a new one.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::model::Digest;

/// Why a folder is not taken as a store.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// There is nothing.
    #[error("{path}: no such store; make one with 'sealctl init {path}'", path = .0.display())]
    Missing(PathBuf),
    /// There is something else.
    #[error("{path}: not a sealfs store (no {what} in it); 'sealctl init STORE' makes one", path = .0.display(), what = .1)]
    NotAStore(PathBuf, &'static str),
    /// Others can look into it.
    #[error("{path}: the store is open to others (mode {mode:04o}); close it with 'chmod 700 {path}'", path = .0.display(), mode = .1)]
    Open(PathBuf, u32),
    /// Somebody else's.
    #[error("{path}: the store belongs to uid {uid}; run as that user", path = .0.display(), uid = .1)]
    Foreign(PathBuf, u32),
    /// `init` on something that is there.
    #[error("{path}: already exists and is not an empty folder; choose another place", path = .0.display())]
    Taken(PathBuf),
    /// Anything else.
    #[error("{path}: {error}", path = .0.display(), error = .1)]
    Io(PathBuf, #[source] io::Error),
}

/// The places in a store. All paths are absolute.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Finds a store and checks that it is one, that it is ours, and that nobody else can enter it.
    ///
    /// # Errors
    /// [`LayoutError`], each with what to do.
    pub fn open(path: &Path) -> Result<Self, LayoutError> {
        let layout = Self::open_damaged(path)?;
        if !layout.index().is_file() {
            return Err(LayoutError::NotAStore(layout.root, "file 'index.db'"));
        }
        Ok(layout)
    }

    /// As [`Layout::open`], of a store that may have lost its index.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn open_damaged(path: &Path) -> Result<Self, LayoutError> {
        let root = match path.canonicalize() {
            Ok(root) => root,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LayoutError::Missing(path.to_owned()));
            }
            Err(error) => return Err(LayoutError::Io(path.to_owned(), error)),
        };
        let meta = fs::metadata(&root).map_err(|error| LayoutError::Io(root.clone(), error))?;
        if !meta.is_dir() {
            return Err(LayoutError::NotAStore(root, "folder 'tree'"));
        }
        let layout = Layout { root };
        if meta.mode() & 0o077 != 0 && layout.index().exists() {
            return Err(LayoutError::Open(layout.root, meta.mode() & 0o7777));
        }
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(LayoutError::Foreign(layout.root, meta.uid()));
        }
        if !layout.tree().is_dir() {
            return Err(LayoutError::NotAStore(layout.root, "folder 'tree'"));
        }
        Ok(layout)
    }

    /// Makes the folders of a new store, mode 0700. The path must be free, or an empty folder.
    ///
    /// # Errors
    /// [`LayoutError::Taken`] if something is there; nothing is then touched.
    pub fn create(path: &Path) -> Result<Self, LayoutError> {
        let io = |error| LayoutError::Io(path.to_owned(), error);
        match fs::read_dir(path) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(LayoutError::Taken(path.to_owned()));
                }
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
                fs::set_permissions(path, mode).map_err(io)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(LayoutError::Taken(path.to_owned()));
            }
            Err(error) => return Err(io(error)),
        }
        let layout = Layout { root: path.canonicalize().map_err(io)? };
        for dir in [layout.log(), layout.keys(), layout.staging()] {
            fs::DirBuilder::new().mode(0o700).create(dir).map_err(io)?;
        }
        // The mount's root has this folder's mode and owner: everybody may look, its owner may write.
        fs::DirBuilder::new().mode(0o755).create(layout.tree()).map_err(io)?;
        Ok(layout)
    }

    /// The store itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The artifacts, at the same paths as in the mount.
    #[must_use]
    pub fn tree(&self) -> PathBuf {
        self.root.join("tree")
    }

    /// Files that are being made; what is in it at start was left by a killed daemon.
    #[must_use]
    pub fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    /// Makes the staging folder, or empties it. The caller holds the store's lock.
    ///
    /// # Errors
    /// If it cannot be made or emptied.
    pub fn clear_staging(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.staging()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::DirBuilder::new().mode(0o700).create(self.staging())
    }

    /// The index, and the one commit point.
    #[must_use]
    pub fn index(&self) -> PathBuf {
        self.root.join("index.db")
    }

    /// What is exported of the log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// The private key that seals.
    #[must_use]
    pub fn seal_key(&self) -> PathBuf {
        self.keys().join("seal")
    }

    /// The private key of the log.
    #[must_use]
    pub fn log_key(&self) -> PathBuf {
        self.keys().join("log")
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> PathBuf {
        self.root.join("policy.toml")
    }

    /// Held by the daemon.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// What is open and what is closed but not yet sealed; see `seal::journal`.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Room that is kept for removals; see [`crate::store::Reserve`].
    #[must_use]
    pub fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
    }

    /// Where the daemon of the store at the absolute path `store` listens: below `/run/sealfs` for root,
    /// `$XDG_RUNTIME_DIR/sealfs` for others. Known to whoever knows the store's path.
    #[must_use]
    pub fn socket_of(store: &Path, owner: u32, digest: fn(&[u8]) -> Digest) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        let name = &digest(store.as_os_str().as_bytes()).to_hex()[..16];
        let folder = if owner == 0 {
            PathBuf::from("/run/sealfs")
        } else {
            std::env::var_os("XDG_RUNTIME_DIR")
                .map_or_else(|| PathBuf::from(format!("/run/user/{owner}")), PathBuf::from)
                .join("sealfs")
        };
        folder.join(format!("{name}.sock"))
    }
}
