//! Between the kernel's words and ours.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, Request, TimeOrNow};

use crate::model::FileTime;
use crate::store::SetTime;
use crate::vfs::{Attr, Caller, Kind};

pub fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid(), pid: request.pid(), request: request.unique().0 }
}

pub fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
    }
}

/// The number that the file system knows an inode by: a sealed file may have two in the kernel.
pub fn number(ino: INodeNo) -> u64 {
    crate::vfs::backing(ino.0)
}

fn system_time(time: FileTime) -> SystemTime {
    let whole = if time.seconds >= 0 {
        UNIX_EPOCH.checked_add(Duration::from_secs(time.seconds.unsigned_abs()))
    } else {
        UNIX_EPOCH.checked_sub(Duration::from_secs(time.seconds.unsigned_abs()))
    };
    whole
        .and_then(|whole| whole.checked_add(Duration::from_nanos(u64::from(time.nanos))))
        .unwrap_or(UNIX_EPOCH)
}

/// The library makes of a time before 1970 (whole seconds rounded down, nanoseconds up from there) an instant
/// that lies as far *before* the whole second as it should lie after it; this turns it back.
fn file_time(time: SystemTime) -> FileTime {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => FileTime {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: since.subsec_nanos(),
        },
        Err(before) => FileTime {
            seconds: -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
            nanos: before.duration().subsec_nanos(),
        },
    }
}

pub fn set_time(time: Option<TimeOrNow>) -> SetTime {
    match time {
        None => SetTime::Omit,
        Some(TimeOrNow::Now) => SetTime::Now,
        Some(TimeOrNow::SpecificTime(time)) => SetTime::At(file_time(time)),
    }
}

pub fn attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: UNIX_EPOCH,
        kind: kind(attr.kind),
        perm: u16::try_from(attr.perm & 0o7777).unwrap_or(0),
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: 0,
        blksize: attr.blksize,
        flags: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_come_and_go() {
        // -1.25 s is seconds -2, nanos 750,000,000; the library hands that over as 2.75 s before the epoch.
        let handed = UNIX_EPOCH - Duration::new(2, 750_000_000);
        let time = file_time(handed);
        assert_eq!(time, FileTime { seconds: -2, nanos: 750_000_000 });
        assert_eq!(system_time(time), UNIX_EPOCH - Duration::from_millis(1250));
        assert_eq!(file_time(UNIX_EPOCH + Duration::new(5, 6)), FileTime { seconds: 5, nanos: 6 });
    }
}
