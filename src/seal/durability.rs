//! Bytes and names made durable before they are signed for: small files together, large ones each by itself.
//!
//! One `syncfs` makes thousands of small files durable at once, but waits for everything that is being written to the file
//! system, by anybody. So a large file is synced by the worker that hashes it, beside the hashing; and while much is
//! waiting to be written, small files are synced one by one, some at a time, and do not wait for the rest.

use std::collections::HashMap;
use std::io;
use std::thread::ScopedJoinHandle;

use super::commit::HashedFile;
use super::digest::{self, Content};
use super::life::Life;
use super::pipeline::Inner;
use super::progress::Progress;
use crate::durable;
use crate::model::RelPath;
use crate::store::{self, Lease};

/// Up to so many files are synced one by one; more by one syncfs.
const FEW: usize = 4;
/// Files that are synced at the same time: they wait for the disk, not for a core.
const AT_ONCE: usize = 8;
/// Bytes that wait to be written, from which on nobody should wait for all of them.
const MUCH: u64 = 64 << 20;
/// How often in a row it is tried to drop what is cached of a file.
const DROPS: u32 = 3;

/// Why a file is not known to be durable.
pub enum Undone {
    /// Its bytes or its name did not reach the disk: final.
    Lost(io::Error),
    /// Its folder could not be opened: tried again.
    Folder(io::Error),
}

type Done = Result<RelPath, Undone>;

/// Makes the bytes and names of a batch durable, and notes under which name each file is. Whose write-back failed is
/// lost; the others go on.
pub fn make_durable(inner: &Inner, batch: Vec<HashedFile>) -> Vec<HashedFile> {
    let (mut good, open): (Vec<_>, Vec<_>) = batch.into_iter().partition(HashedFile::is_durable);
    let done = if open.len() > FEW && !much_to_write() {
        sync_together(inner, &open)
    } else {
        sync_each(inner, &open)
    };
    for (mut file, done) in open.into_iter().zip(done) {
        match done {
            Ok(path) => {
                file.durable_at(path);
                good.push(file);
            }
            Err(undone) => inner.undone(file.life(), &undone),
        }
    }
    good
}

fn sync_together(inner: &Inner, batch: &[HashedFile]) -> Vec<Done> {
    let paths: Vec<RelPath> = batch.iter().map(HashedFile::path).collect();
    if let Err(error) = durable::sync_fs(inner.setup.tree.root()) {
        tracing::error!(%error, "syncfs failed; each file of the batch is synced by itself");
        inner.suspect_flush(&error);
        // Which bytes were lost with it nobody knows: each file is read from the disk once more.
        let synced = sync_each(inner, batch);
        return batch
            .iter()
            .zip(synced)
            .map(|(file, synced)| synced.and_then(|path| read_again(file, path)))
            .collect();
    }
    let waited = batch.iter().zip(paths).map(|(file, path)| match file.lease() {
        Some(lease) => durable::wait_written(lease.file()).map(|()| path).map_err(Undone::Lost),
        None => Ok(path),
    });
    waited.collect()
}

/// Whether the disk has the bytes that were hashed. Whether it was disturbed meanwhile is asked when it is frozen.
fn read_again(file: &HashedFile, path: RelPath) -> Done {
    let Some(lease) = file.lease() else { return Ok(path) };
    read_from_disk(lease).map_err(|error| Undone::Lost(io::Error::other(error.to_string())))?;
    match digest::hash_life(lease.file(), file.life(), file.epoch()).map_err(Undone::Lost)? {
        Some(content) if content != file.content() => {
            Err(Undone::Lost(io::Error::other("the disk has other bytes than were written")))
        }
        _ => Ok(path),
    }
}

/// Why what is hashed next does not come from the disk.
#[derive(Debug, thiserror::Error)]
pub enum NotFromDisk {
    /// Pages stay in memory.
    #[error("{0} pages of it are in use by a mapping, or by a read into it that has not ended")]
    InUse(u64),
    /// Its bytes did not reach the disk; the kernel says so once.
    #[error("its bytes cannot be written: {0}")]
    Lost(io::Error),
    /// Anything else.
    #[error("{0}")]
    Io(io::Error),
}

/// No page of the file that was in memory before is in it any more, and what is hashed next comes from the disk. A page of
/// a file that may have been mapped can be pinned by a direct read: it outlives mapping and descriptor, and is written to
/// without any trace.
///
/// # Errors
/// [`NotFromDisk`]. A page that is in use by a reader only cannot be told from one that is written to.
pub fn leave_memory(lease: &Lease) -> Result<(), NotFromDisk> {
    // Nothing needs to be durable yet; what makes it so syncs many files at the same time.
    durable::write_range(lease.file(), 0, 0).map_err(NotFromDisk::Lost)?;
    match store::drop_cached(lease.file()).map_err(NotFromDisk::Io)? {
        0 => Ok(()),
        // Where data goes through the file system's journal, pages stay until that is written.
        _ => read_from_disk(lease),
    }
}

/// After a write-back that failed, what is in memory may not be on the disk: what is hashed next comes from the disk.
///
/// # Errors
/// [`NotFromDisk`].
pub fn read_from_disk(lease: &Lease) -> Result<(), NotFromDisk> {
    durable::sync_file(lease.file()).map_err(NotFromDisk::Lost)?;
    let mut left = 0;
    // Whoever reads meanwhile uses a page for microseconds, and brings others in.
    for _ in 0..DROPS {
        left = store::drop_cached(lease.file()).map_err(NotFromDisk::Io)?;
        if left == 0 {
            return Ok(());
        }
    }
    Err(NotFromDisk::InUse(left))
}

fn sync_each(inner: &Inner, batch: &[HashedFile]) -> Vec<Done> {
    let paths: Vec<RelPath> = batch.iter().map(HashedFile::path).collect();
    let begun: Vec<io::Result<()>> = batch
        .iter()
        .map(|file| file.lease().map_or(Ok(()), |lease| durable::begin_writing(lease.file(), 0, 0)))
        .collect();
    let synced = in_parallel(batch, |file| match file.lease() {
        Some(lease) => {
            let synced = durable::sync_file(lease.file()).inspect_err(|error| inner.suspect_flush(error));
            synced.map_err(Undone::Lost)
        }
        None => Ok(()),
    });
    // Each folder once, after the files.
    let mut folders: HashMap<RelPath, Option<Undone>> = HashMap::new();
    for path in &paths {
        folders.entry(path.parent()).or_insert_with(|| sync_folder_of(inner, path).err());
    }
    let named = |path: RelPath| match folders.get(&path.parent()) {
        Some(Some(Undone::Lost(error))) => Err(Undone::Lost(same(error))),
        Some(Some(Undone::Folder(error))) => Err(Undone::Folder(same(error))),
        Some(None) | None => Ok(path),
    };
    let synced = begun.into_iter().zip(synced).map(|(begun, synced)| begun.map_err(Undone::Lost).and(synced));
    synced.zip(paths).map(|(synced, path)| synced.and_then(|()| named(path))).collect()
}

/// The same error for one more file.
fn same(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// Does it for each, several at the same time, in order.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if items.len() <= 1 {
        return items.iter().map(work).collect();
    }
    let share = items.len().div_ceil(AT_ONCE);
    std::thread::scope(|scope| {
        let work = &work;
        let parts: Vec<ScopedJoinHandle<'_, Vec<R>>> =
            items.chunks(share).map(|part| scope.spawn(move || part.iter().map(work).collect())).collect();
        let joined = parts.into_iter().map(|part| match part.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.flatten().collect()
    })
}

/// Makes the name durable that a path has in its folder.
///
/// # Errors
/// [`Undone`].
pub fn sync_folder_of(inner: &Inner, path: &RelPath) -> Result<(), Undone> {
    let dir = match inner.setup.tree.parent_of(path) {
        Ok(dir) => dir,
        // Renamed away: freezing sees that the name is another one now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Undone::Folder(error)),
    };
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    let dir = store::open_at(dir, ".", flags).map_err(Undone::Folder)?;
    durable::sync_dir(dir).inspect_err(|error| inner.suspect_flush(error)).map_err(Undone::Lost)
}

/// Makes one large file and its name durable, a piece at a time; `reached` is told how many bytes are written.
///
/// # Errors
/// [`Undone`].
pub fn sync_large(
    inner: &Inner,
    life: &Life,
    lease: &Lease,
    size: u64,
    path: &RelPath,
    reached: impl Fn(u64),
) -> Result<(), Undone> {
    life.begin();
    let failed = |error: &io::Error| inner.suspect_flush(error);
    let synced = inner.pieces.sync(lease.file(), size, inner.setup.tree.root(), failed, reached);
    synced.map_err(Undone::Lost)?;
    sync_folder_of(inner, path)
}

/// Hashes a large file while it is being made durable, by another thread. Answers both: the hash, `None` if it was
/// disturbed meanwhile, or what reading reports; and whether it is durable, of which an error is told once and has to be
/// looked at in any case.
pub fn hash_and_sync(
    inner: &Inner,
    life: &Life,
    epoch: u64,
    lease: &Lease,
    size: u64,
    path: &RelPath,
) -> (io::Result<Option<Content>>, Result<(), Undone>) {
    let progress = Progress::default();
    std::thread::scope(|scope| {
        let syncing = scope.spawn(|| {
            let _over = progress.until_over();
            sync_large(inner, life, lease, size, path, |bytes| progress.reached(bytes))
        });
        let content = digest::hash_life_behind(lease.file(), life, epoch, &progress);
        let synced = match syncing.join() {
            Ok(synced) => synced,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        (content, synced)
    })
}

/// Whether the host has much to write (`Dirty` and `Writeback` of proc_meminfo(5), of all file systems).
fn much_to_write() -> bool {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    let waiting = kib("Dirty:").unwrap_or(0) + kib("Writeback:").unwrap_or(0);
    waiting.saturating_mul(1024) > MUCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parallel_work_keeps_its_order() {
        for count in [0usize, 1, 7, 8, 9, 100] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(in_parallel(&items, |n| n * 2), items.iter().map(|n| n * 2).collect::<Vec<_>>());
        }
    }
}
